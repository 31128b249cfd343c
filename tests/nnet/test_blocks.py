"""The block library: masked BatchNorm, layers that keep time, blocks and stages that do not see padding."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.nn import functional

from biglittle_asr.nnet import (
    AveragePool2d,
    BasicBlock,
    BigLittleConfig,
    BigLittlePyramid,
    BigLittleStage,
    BigLittleStem,
    Bottleneck,
    BranchedStage,
    Conv2d,
    Layers,
    MaskedBatchNorm2d,
    Shortcut,
    SqueezeExcite,
    TimeMask,
    frames_to_relative,
    initialize,
    output_length,
    plain_stage,
    relative_to_frames,
    stage_for,
    upsample,
    valid_mask,
)
from support.networks import assert_near, randomize_batchnorm

LENGTHS = torch.tensor([1, 6, 9, 4])
PADDINGS = ("same", "causal")


@pytest.fixture
def generator() -> torch.Generator:
    torch.manual_seed(0)  # the weights of what a test builds
    return torch.Generator().manual_seed(1)


def padded(generator: torch.Generator, channels: int = 3, bins: int = 5, **options: Any) -> tuple[Tensor, TimeMask]:
    """A batch (4, C, 9, F) of random utterances, zero on padding, and its mask."""
    mask = TimeMask(LENGTHS, 9)
    return mask.zero_(torch.randn(4, channels, 9, bins, generator=generator, **options)), mask


def gather_valid(x: Tensor, mask: TimeMask) -> Tensor:
    """(B, C, T, F) -> (1, C, valid frames of the batch, F)."""
    return x.transpose(1, 2)[valid_mask(mask.lengths, mask.size)].transpose(0, 1)[None]


def invalid(mask: TimeMask) -> Tensor:
    """(B, 1, T, 1), True on padding."""
    return ~valid_mask(mask.lengths, mask.size)[:, None, :, None]


# Lengths


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_output_length_is_ceil_and_composes(stride: int) -> None:
    n = torch.arange(1, 300)
    assert output_length(n, stride).tolist() == [-(-int(i) // stride) for i in n]
    assert torch.equal(output_length(output_length(n, stride), 2), output_length(n, 2 * stride))


def test_relative_lengths_return_every_length() -> None:
    for size in range(1, 400):
        frames = torch.arange(1, size + 1)
        assert torch.equal(relative_to_frames(frames_to_relative(frames, size), size), frames)


@pytest.mark.parametrize("relative", [[0.0, 1.0], [1.0, 50.0], [-0.5, 1.0], [float("nan"), 1.0]])
def test_wrong_relative_lengths(relative: list[float]) -> None:
    with pytest.raises(ValueError, match=r"relative lengths must lie in \(0, 1\]"):
        relative_to_frames(torch.tensor(relative), 100)


@pytest.mark.parametrize("frames", [[0, 9], [10, 3], [-1, 9]])
def test_lengths_outside_the_batch(frames: list[int]) -> None:
    with pytest.raises(ValueError, match=r"lengths must lie in 1 \.\. 9"):
        TimeMask.for_batch(torch.tensor(frames), 9)


def test_full_batch_needs_no_mask() -> None:
    assert TimeMask.for_batch(None, 9) is None
    assert TimeMask.for_batch(torch.tensor([9, 9]), 9) is None


def test_strided_mask_follows_the_lengths() -> None:
    strided = TimeMask(LENGTHS, 9).strided(4)
    assert (strided.lengths.tolist(), strided.size, strided.count) == ([1, 2, 3, 1], 3, 7)


# BatchNorm


def norm_twins(generator: torch.Generator, dtype: torch.dtype, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, alike."""
    ours = MaskedBatchNorm2d(3, **options).to(dtype)
    randomize_batchnorm(ours, generator)
    torchs = nn.BatchNorm2d(3, **options).to(dtype)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("masked", [True, False])
def test_batchnorm_is_torchs_on_valid_frames(generator: torch.Generator, masked: bool, momentum: float | None) -> None:
    ours, torchs = norm_twins(generator, torch.float64, momentum=momentum)
    for _ in range(3):
        x, mask = padded(generator, dtype=torch.float64)
        x += 5 * torch.rand(1, 3, 1, 1, generator=generator, dtype=torch.float64)  # so padding is not zero
        gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = ours(a, mask if masked else None)
        gathered = (lambda z, mask=mask: gather_valid(z, mask)) if masked else (lambda z: z)
        expected = torchs(gathered(b))
        torch.testing.assert_close(gathered(y), expected)
        for module in (ours, torchs):
            module.zero_grad()
        y.backward(gradient)
        expected.backward(gathered(gradient))
        torch.testing.assert_close(a.grad, b.grad)
        for name, parameter in torchs.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad)
        for name, buffer in torchs.named_buffers():
            torch.testing.assert_close(ours.get_buffer(name), buffer)
        if masked:
            assert not y.masked_select(invalid(mask)).any()
    x, mask = padded(generator, dtype=torch.float64)
    torch.testing.assert_close(gather_valid(ours.eval()(x, mask), mask), gather_valid(torchs.eval()(x), mask))


@pytest.mark.parametrize("lengths", [[3, 1, 2], [1, 1, 3]])
def test_batchnorm_gradcheck(generator: torch.Generator, lengths: list[int]) -> None:
    ours, _ = norm_twins(generator, torch.float64)
    mask = TimeMask(torch.tensor(lengths), 3)
    x = torch.randn(3, 3, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(ours, {"weight": weight, "bias": bias}, (x, mask))

    assert torch.autograd.gradcheck(function, (x, ours.weight, ours.bias))


def test_batchnorm_of_one_value(generator: torch.Generator) -> None:
    """One frame of one bin has no variance: the bias comes out, and nothing becomes infinite."""
    ours, _ = norm_twins(generator, torch.float32)
    mask = TimeMask(torch.tensor([1]), 4)
    x = mask.zero_(torch.randn(1, 3, 4, 1, generator=generator)).requires_grad_()
    y = ours(x, mask)
    torch.testing.assert_close(y[0, :, 0, 0], ours.bias, rtol=0, atol=1e-4)
    y.sum().backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(ours.running_var).all()


@pytest.mark.parametrize("mean", [0.0, 3.0, 10.0])
def test_batchnorm_keeps_precision_away_from_zero(generator: torch.Generator, mean: float) -> None:
    ours, torchs = norm_twins(generator, torch.float32)
    x, mask = padded(generator, bins=40)
    x = mask.zero_(x + mean)
    expected = torchs.double()(gather_valid(x, mask).double())
    assert_near(gather_valid(ours(x, mask), mask), expected.float())


def test_batchnorm_refuses_a_second_derivative(generator: torch.Generator) -> None:
    ours, _ = norm_twins(generator, torch.float32)
    x, mask = padded(generator)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(ours(x, mask).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_batchnorm_in_bfloat16(generator: torch.Generator) -> None:
    ours, torchs = norm_twins(generator, torch.float32)
    x, mask = padded(generator, dtype=torch.bfloat16)
    y = ours(x, mask)
    assert y.dtype == torch.bfloat16 and ours.running_mean.dtype == torch.float32
    torch.testing.assert_close(gather_valid(y, mask).float(), torchs(gather_valid(x, mask).float()), atol=0.05, rtol=0)
    torch.testing.assert_close(ours.running_var, torchs.running_var, atol=1e-3, rtol=0)


def test_batchnorm_without_mask_is_torchs_own_path(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    ours, _ = norm_twins(generator, torch.float32)
    monkeypatch.setattr("biglittle_asr.nnet.normalization._MaskedBatchNorm", None)
    ours(torch.randn(2, 3, 4, 5, generator=generator))


def _batchnorm_worker(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    norm, x, lengths, gradient = torch.load(f"{folder}/input.pt", weights_only=False)
    rows = slice(0, 1) if rank == 0 else slice(1, None)
    # The first process has a full batch, the second a padded one: both must take part in the sums.
    size = int(lengths[rows].max())
    x = x[rows, :, :size].requires_grad_()
    y = norm(x, TimeMask.for_batch(lengths[rows], size))
    y.backward(gradient[rows, :, :size])
    torch.save((y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.state_dict()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_one_on_the_global_batch(tmp_path: Path, generator: torch.Generator) -> None:
    norm, _ = norm_twins(generator, torch.float64)
    x, lengths = torch.randn(4, 3, 9, 5, generator=generator, dtype=torch.float64), torch.tensor([4, 9, 6, 1])
    mask = TimeMask(lengths, 9)
    gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    torch.save((norm, x, lengths, gradient), tmp_path / "input.pt")
    multiprocessing.spawn(_batchnorm_worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))

    x.requires_grad_()
    y = norm(x, mask)
    y.backward(gradient)
    for index, expected in ((0, y), (1, x.grad)):
        torch.testing.assert_close(first[index], expected[:1, :, :4])
        torch.testing.assert_close(second[index], expected[1:])
    # DistributedDataParallel sums these over the processes.
    torch.testing.assert_close(first[2] + second[2], norm.weight.grad)
    torch.testing.assert_close(first[3] + second[3], norm.bias.grad)
    for state in (first[4], second[4]):
        torch.testing.assert_close(state, norm.state_dict())


# Convolution and pooling

TIME_LAYERS: dict[str, Callable[[int, str], nn.Module]] = {
    "conv 1": lambda stride, padding: Conv2d(2, 2, 1, (stride, 1), time_padding=padding),
    "conv 3": lambda stride, padding: Conv2d(2, 2, 3, (stride, 2), time_padding=padding),
    "conv 5x3": lambda stride, padding: Conv2d(2, 2, (5, 3), (stride, 1), time_padding=padding),
    "conv 7": lambda stride, padding: Conv2d(2, 2, 7, (stride, 2), groups=2, time_padding=padding),
    "pool": lambda stride, padding: AveragePool2d((stride, 2), padding),
    "shortcut pool": lambda stride, padding: Shortcut(Layers(time_padding=padding), 2, 4, (stride, 2), "pool").eval(),
    "shortcut conv": lambda stride, padding: Shortcut(Layers(time_padding=padding), 2, 4, (stride, 1), "conv").eval(),
}


@pytest.mark.slow
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("name", TIME_LAYERS)
def test_layers_keep_ceil_of_the_frames(name: str, stride: int, padding: str, generator: torch.Generator) -> None:
    layer = TIME_LAYERS[name](stride, padding)
    x = torch.randn(1, 2, 20, 7, generator=generator)
    whole = layer(x)
    for frames in range(1, 21):
        y = layer(x[:, :, :frames])
        assert y.shape[2] == output_length(frames, stride)
        if padding == "causal":
            torch.testing.assert_close(y, whole[:, :, : y.shape[2]])
        # Zeros behind the end are what the layer's own padding puts there.
        zeros = layer(functional.pad(x[:, :, :frames], (0, 0, 0, 3)))
        torch.testing.assert_close(y, zeros[:, :, : y.shape[2]])


@pytest.mark.parametrize("name", TIME_LAYERS)
def test_same_and_causal_differ_by_a_shift(name: str, generator: torch.Generator) -> None:
    """At stride 1 a causal layer is the "same" one, later by half its kernel."""
    same, causal = TIME_LAYERS[name](1, "same"), TIME_LAYERS[name](1, "causal")
    causal.load_state_dict(same.state_dict())
    kernel = same.kernel_size[0] if isinstance(same, Conv2d) else 1
    x = torch.randn(1, 2, 20, 7, generator=generator)
    half = (kernel - 1) // 2
    torch.testing.assert_close(causal(x)[:, :, half:], same(x)[:, :, : 20 - half])


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [(1, 2), (2, 2), (1, 4), (4, 4)])
def test_convolution_in_bfloat16(stride: tuple[int, int], padding: str, generator: torch.Generator) -> None:
    """Gradients too, and of inputs with fewer bins than the stride: torch's own go wrong there."""
    layer = Conv2d(32, 64, 3, stride, time_padding=padding)  # type: ignore[arg-type]
    for bins in (1, 2, 3, 5):
        x = torch.randn(2, 32, 20, bins, generator=generator)
        results = []
        for dtype in (torch.float32, torch.bfloat16):
            twin, z = copy.deepcopy(layer).to(dtype), x.clone().to(dtype).requires_grad_()
            y = twin(z)
            y.backward(torch.cos(torch.arange(y.numel())).view_as(y).to(dtype))
            results.append([t.float() for t in (y, z.grad, twin.weight.grad)])
        for actual, expected in zip(results[1], results[0], strict=True):
            assert_near(actual, expected, 0.03)


def test_pooling_is_the_published_one(generator: torch.Generator) -> None:
    x = torch.randn(2, 3, 9, 8, generator=generator)
    torch.testing.assert_close(AveragePool2d((2, 2))(x), nn.AvgPool2d(3, 2, 1)(x))
    torch.testing.assert_close(AveragePool2d((1, 2))(x), nn.AvgPool2d((1, 3), (1, 2), (0, 1))(x))


# Upsampling


def test_nearest_upsampling_is_interpolation_to_the_size(generator: torch.Generator) -> None:
    for size in [*range(1, 40), *range(41, 700, 37), 512, 701]:
        x = torch.randn(1, 1, output_length(size, 2), 3, generator=generator)
        assert torch.equal(upsample(x, (2, 2), (size, 5)), functional.interpolate(x, (size, 5), mode="nearest"))


@pytest.mark.parametrize("size", [4189, 4191, 20001])
def test_nearest_upsampling_of_long_utterances(size: int) -> None:
    x = torch.arange(output_length(size, 2), dtype=torch.float64).view(1, 1, -1, 1)
    assert torch.equal(upsample(x, (2, 1), (size, 1)).flatten(), torch.arange(size) // 2 + 0.0)


def test_bilinear_upsampling_repeats_the_last_valid_frame(generator: torch.Generator) -> None:
    mask = TimeMask(torch.tensor([1, 3, 5]), 5)
    x = torch.randn(3, 2, 5, 3, generator=generator)
    x.masked_fill_(invalid(mask), float("nan"))
    y = upsample(x, (2, 2), (9, 6), "bilinear", mask)
    for index, frames in enumerate(mask.lengths.tolist()):
        alone = functional.interpolate(x[index : index + 1, :, :frames], scale_factor=2, mode="bilinear")
        torch.testing.assert_close(y[index : index + 1, :, : 2 * frames], alone[:, :, : min(2 * frames, 9)])


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_of_one_axis_leaves_the_other(mode: str, generator: torch.Generator) -> None:
    x = torch.randn(1, 2, 4, 3, generator=generator)
    y = upsample(x, (1, 2), (4, 5), mode)
    assert y.shape == (1, 2, 4, 5)
    for frame in range(4):
        torch.testing.assert_close(
            y[:, :, frame : frame + 1], upsample(x[:, :, frame : frame + 1], (1, 2), (1, 5), mode)
        )
    assert upsample(x, (1, 1), (4, 3), mode) is x


# Blocks and stages

Builder = Callable[[Layers], nn.Module]
TWO, THREE = BigLittleConfig(alpha=4, beta=2), BigLittleConfig(alpha=2, beta=2, branches=3)


def big_little(blocks: int = 3, stride: tuple[int, int] = (1, 1), **options: Any) -> Builder:
    """Builder of a Big-Little stage 3 -> 8 from a configuration's fields and a block's options."""
    fields = {key: options.pop(key) for key in list(options) if key in BigLittleConfig.__dataclass_fields__}
    config = BigLittleConfig(**{"alpha": 4, "beta": 2, **fields})
    return lambda layers: stage_for(config)(3, 8, blocks, config, stride, layers=layers, **options)


RESNEXT = {"block": Bottleneck, "groups": 4, "base_width": 32}
MODULES: dict[str, Builder] = {
    "basic": lambda layers: BasicBlock(3, 3, layers=layers),
    "basic (2, 1)": lambda layers: BasicBlock(3, 8, (2, 1), layers),
    "basic (1, 2)": lambda layers: BasicBlock(3, 8, (1, 2), layers),
    "basic (2, 2), same channels": lambda layers: BasicBlock(3, 3, (2, 2), layers),
    "basic conv": lambda layers: BasicBlock(3, 8, (2, 2), layers, "conv"),
    "basic, no activation": lambda layers: BasicBlock(3, 8, layers=layers, last_activation=False),
    "bottleneck": lambda layers: Bottleneck(3, 16, (2, 2), layers),
    "bottleneck groups": lambda layers: Bottleneck(3, 8, (2, 1), layers, groups=4, base_width=64),
    "bottleneck conv": lambda layers: Bottleneck(3, 16, (2, 2), layers, "conv"),
    "squeeze-excite": lambda layers: Bottleneck(3, 32, (2, 2), layers, squeeze_excite=True),
    "squeeze-excite, narrow": lambda layers: BasicBlock(3, 8, (2, 1), layers, squeeze_excite=True),
    "plain stage": lambda layers: plain_stage(3, 8, 2, (2, 2), layers=layers),
    "plain stage conv": lambda layers: plain_stage(3, 8, 2, (2, 1), layers=layers, shortcut="conv"),
    "stage": big_little(),
    "stage of 2 blocks": big_little(2, (2, 2)),
    "stage (2, 1)": big_little(stride=(2, 1)),
    "stage (1, 2)": big_little(stride=(1, 2)),
    "stage big (1, 2)": big_little(big_stride=(1, 2)),
    "stage big (2, 1)": big_little(big_stride=(2, 1)),
    "stage big (1, 1)": big_little(big_stride=(1, 1)),
    "stage alpha 1, beta 1": big_little(alpha=1, beta=1),
    "stage bilinear": big_little(upsampling="bilinear"),
    "stage bilinear (1, 2)": big_little(upsampling="bilinear", big_stride=(1, 2)),
    "stage concat": big_little(merge="concat"),
    "stage concat, bilinear": big_little(merge="concat", upsampling="bilinear"),
    "stage K 3": big_little(alpha=2, branches=3, stride=(2, 2)),
    "stage K 3, concat": big_little(alpha=2, branches=3, merge="concat"),
    "stage K 3, bilinear": big_little(alpha=2, branches=3, upsampling="bilinear"),
    "stage K 3, concat, bilinear": big_little(alpha=2, branches=3, merge="concat", upsampling="bilinear"),
    "stage conv": big_little(shortcut="conv", stride=(2, 2)),
    "stage bottleneck": big_little(alpha=2, block=Bottleneck),
    "stage ResNeXt": big_little(**RESNEXT),
    "stage squeeze-excite": lambda layers: BigLittleStage(
        3, 64, 3, BigLittleConfig(2), layers=layers, squeeze_excite=True
    ),
    "pyramid": lambda layers: BigLittlePyramid(3, (8, 16), (2, 3), ((1, 1), (2, 2)), TWO, layers=layers),
    "pyramid K 3": lambda layers: BigLittlePyramid(3, (8, 16), (2, 2), ((2, 1), (1, 2)), THREE, layers=layers),
    "stem": lambda layers: BigLittleStem(3, 8, 2, layers),
}
SEES_THE_FUTURE = {
    name for name in MODULES if "squeeze-excite" in name or "bilinear" in name
} - {"stage bilinear (1, 2)"}  # fmt: skip


def build(name: str, padding: str, generator: torch.Generator) -> nn.Module:
    module = MODULES[name](Layers(time_padding=padding))  # type: ignore[arg-type]
    randomize_batchnorm(module, generator)
    return module


def time_stride(module: nn.Module) -> int:
    return module.stride[0] if isinstance(module, BasicBlock | Bottleneck) else module.time_stride


MODULES_AND_PADDINGS = [
    (name, padding) for name in MODULES for padding in PADDINGS if padding == "same" or name not in SEES_THE_FUTURE
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "padding"), MODULES_AND_PADDINGS)
def test_alone_is_as_in_a_padded_batch(name: str, padding: str, generator: torch.Generator) -> None:
    module = build(name, padding, generator).eval()
    x, mask = padded(generator, bins=7)
    before = x.clone()
    y = module(x, mask)
    assert torch.equal(x, before)
    out = mask.strided(time_stride(module))
    assert y.shape[2] == out.size
    assert not y.masked_select(invalid(out)).any()
    for index, (frames, valid) in enumerate(zip(LENGTHS.tolist(), out.lengths.tolist(), strict=True)):
        assert_near(y[index : index + 1, :, :valid], module(x[index : index + 1, :, :frames]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "padding"), MODULES_AND_PADDINGS)
def test_training_does_not_see_padding(name: str, padding: str, generator: torch.Generator) -> None:
    """More padding changes neither output, running statistics nor gradients, and every parameter has one."""
    module = build(name, padding, generator).double()
    more = copy.deepcopy(module)
    x, mask = padded(generator, bins=7, dtype=torch.float64)
    out = mask.strided(time_stride(module))
    y = module(x, mask)
    y_more = more(functional.pad(x, (0, 0, 0, 6)), TimeMask(LENGTHS, 15))
    torch.testing.assert_close(y, y_more[:, :, : out.size])
    weights = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    (y * weights).sum().backward()
    (y_more[:, :, : out.size] * weights).sum().backward()
    torch.testing.assert_close(more.state_dict(), module.state_dict())
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, more.get_parameter(name).grad)
        assert parameter.grad.any(), f"{name} gets no gradient"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODULES if name not in SEES_THE_FUTURE])
def test_causal_never_sees_the_future(name: str, generator: torch.Generator) -> None:
    module = build(name, "causal", generator).eval()
    x = torch.randn(1, 3, 13, 7, generator=generator)
    y = module(x)
    for frame in range(13):
        changed = x.clone()
        changed[:, :, frame:] = torch.randn(1, 3, 13 - frame, 7, generator=generator)
        past = output_length(frame, time_stride(module))
        torch.testing.assert_close(module(changed)[:, :, :past], y[:, :, :past], rtol=0, atol=1e-5)
        assert not torch.allclose(module(changed)[:, :, past:], y[:, :, past:]) or past == y.shape[2]


@pytest.mark.parametrize("name", sorted(SEES_THE_FUTURE))
def test_causal_refuses_what_sees_the_future(name: str) -> None:
    with pytest.raises(ValueError, match="sees the future.*set"):
        MODULES[name](Layers(time_padding="causal"))


@pytest.mark.parametrize("name", MODULES)
def test_initialized_block_is_its_shortcut(name: str, generator: torch.Generator) -> None:
    module = MODULES[name](Layers()).eval()
    initialize(module)
    for block in module.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            x = torch.randn(1, block.conv1.in_channels, 6, 8, generator=generator)
            expected = block.downsample(x)
            assert torch.equal(block(x), expected.relu() if block.last_activation else expected)


def test_big_little_stage_by_its_formula(generator: torch.Generator) -> None:
    stage = build("stage", "same", generator).eval()
    x = torch.randn(2, 3, 9, 7, generator=generator)
    assert [len(stage.big), len(stage.little), len(stage.fusion)] == [2, 1, 1]
    assert [b.last_activation for b in [*stage.big, *stage.little, *stage.fusion]] == [True, False, True, True]
    big = functional.interpolate(stage.big(x), (9, 7), mode="nearest")
    torch.testing.assert_close(stage(x), stage.fusion((big + stage.little_e(stage.little(x))).relu()))


def test_three_branches_by_their_rule() -> None:
    stage = BranchedStage(4, 32, 12, THREE)
    branches = [stage.big, stage.little, stage.little2]
    assert [len(branch) for branch in branches] == [11, 5, 2]
    assert [branch[0].conv1.out_channels for branch in branches] == [32, 16, 8]
    assert [branch[0].stride for branch in branches] == [(4, 4), (2, 2), (1, 1)]


def test_narrow_resnext_branch_keeps_channels_per_group() -> None:
    stage = BigLittleStage(64, 256, 3, BigLittleConfig(2, 4), block=Bottleneck, groups=32, base_width=4)
    big, little = stage.big[0].conv2, stage.little[0].conv2
    assert (big.groups, little.groups) == (32, 16)
    assert big.weight.shape[1] == little.weight.shape[1] == 4


def test_squeeze_excite_averages_valid_frames(generator: torch.Generator) -> None:
    layer = SqueezeExcite(32).double()
    x, mask = padded(generator, channels=32, dtype=torch.float64)
    y = layer(x, mask)
    for index, frames in enumerate(LENGTHS):
        torch.testing.assert_close(y[index : index + 1, :, :frames], layer(x[index : index + 1, :, :frames]))


def test_layers_are_swapped_everywhere() -> None:
    class MyConv(Conv2d):
        pass

    class MyNorm(MaskedBatchNorm2d):
        pass

    layers = Layers(conv=MyConv, norm=MyNorm, activation=nn.Hardtanh)
    stage = BigLittleStage(32, 64, 3, stride=(2, 2), block=Bottleneck, layers=layers, shortcut="conv")
    kinds = {type(module) for module in [*stage.modules(), *BigLittleStem(3, 8, 2, layers).modules()]}
    assert kinds & {MyConv, MyNorm, nn.Hardtanh} == {MyConv, MyNorm, nn.Hardtanh}
    assert not kinds & {Conv2d, MaskedBatchNorm2d, nn.ReLU}


# Errors

ERRORS: dict[str, Callable[[], Any]] = {
    "kernel_size 2 must be odd": lambda: Conv2d(1, 1, 2),
    "time_padding is 'left': take": lambda: Layers(time_padding="left"),  # type: ignore[arg-type]
    "shortcut is 'none': take": lambda: BasicBlock(4, 8, shortcut="none"),
    "BasicBlock has neither groups": lambda: BasicBlock(4, 8, groups=2),
    "squeeze_excite averages over all time": lambda: BasicBlock(
        16, 16, layers=Layers(time_padding="causal"), squeeze_excite=True
    ),
    "alpha is 0: take": lambda: BigLittleConfig(alpha=0),
    "alpha is 2.5: take": lambda: BigLittleConfig(alpha=2.5),  # type: ignore[arg-type]
    "beta is 0: take": lambda: BigLittleConfig(beta=0),
    "branches is 1: take": lambda: BigLittleConfig(branches=1),
    r"big_stride is (3, 1): take": lambda: BigLittleConfig(big_stride=(3, 1)),
    "upsampling is 'cubic': take": lambda: BigLittleConfig(upsampling="cubic"),
    "merge is 'max': take": lambda: BigLittleConfig(merge="max"),
    "alpha 3 with 2 branches does not divide 8": lambda: BigLittleStage(4, 8, 3, BigLittleConfig(alpha=3)),
    "alpha 16 with 2 branches does not divide 8": lambda: BigLittleStage(4, 8, 3, BigLittleConfig(alpha=16)),
    "Bottleneck of 2 channels and base_width 64 has no channels in between": lambda: Bottleneck(4, 2),
    "needs 2 blocks or more": lambda: BigLittleStage(4, 8, 1),
    "a stage needs 1 block or more": lambda: plain_stage(4, 8, 0),
    "alpha 4 with 2 branches does not divide 6 groups": lambda: BigLittleStage(
        4, 48, 2, TWO, block=Bottleneck, groups=6, base_width=32
    ),
    "does not divide 9": lambda: BigLittleStem(3, 9),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_value_and_what_to_do(message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ERRORS[message]()
    assert "\n" not in str(error.value)


def test_groups_without_base_width() -> None:
    """64, the default of the block, is the base width there too."""
    stage = BigLittleStage(8, 32, 2, BigLittleConfig(2, 2), block=partial(Bottleneck), groups=2)
    assert [stage.big[0].conv2.groups, stage.little[0].conv2.groups] == [2, 1]
    assert stage.big[0].conv2.weight.shape[1] == stage.little[0].conv2.weight.shape[1] == 8
