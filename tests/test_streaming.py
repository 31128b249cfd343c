"""How far frames see, and streaming: any chunks give what the whole utterance gives."""

from __future__ import annotations

import pytest
import torch
from test_encoders import OPTION_CASES, PRESET_CASES, Case, build, every
from torch import nn

from biglittle_asr.models import BigLittleEncoder

# Receptive field

SEES_ALL_TIME = [case for case in OPTION_CASES if "squeeze_excite" in case[1].get("block", {})]
FIELD_CASES: list[Case] = [
    *((name, {**options, "time_stride": stride}) for name, options in PRESET_CASES for stride in (1, 2, 4, 8)),
    *(case for case in OPTION_CASES if case not in SEES_ALL_TIME),
]


def make_positive(encoder: BigLittleEncoder) -> BigLittleEncoder:
    """Weights above zero and no norms: a gradient is above zero wherever a frame depends on another."""
    for module in encoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return encoder.double()


@every(FIELD_CASES)
def test_context_is_what_frames_see(case: Case) -> None:
    encoder = make_positive(build(case, input_size=3, channels=(4, 4, 4, 4)))
    (left, right), stride, period = encoder.context, encoder.time_stride, encoder.alignment
    middle = -(-left // period) * period
    x = torch.ones(1, middle + period + right, 3, dtype=torch.float64, requires_grad=True)
    y = encoder(x)[0]
    reached = []
    for t in range(middle // stride, (middle + period) // stride):
        (gradient,) = torch.autograd.grad(y[t].sum(), x, retain_graph=True)
        seen = gradient[0].sum(1).nonzero()
        reached.append((t * stride - int(seen.min()), int(seen.max()) - t * stride))
    assert tuple(max(sides) for sides in zip(*reached, strict=True)) == (left, right)
    assert case[1]["time_padding"] == "same" or right == 0


@every(FIELD_CASES[:: len(FIELD_CASES) // 12])
def test_aligned_shift_of_the_input_shifts_the_output(case: Case) -> None:
    encoder = build(case, input_size=3).double()
    (left, right), stride, period = encoder.context, encoder.time_stride, encoder.alignment
    x = torch.randn(1, 3 * period + left + right, 3, dtype=torch.float64)
    skipped = -(-left // stride) + period // stride
    with torch.no_grad():
        whole, window = encoder(x)[0], encoder(x[:, period:])[0]
    torch.testing.assert_close(window[skipped - period // stride :], whole[skipped:])
    assert period % stride == 0


@every(SEES_ALL_TIME)
def test_context_of_all_time_is_refused(case: Case) -> None:
    encoder = build(case)
    for name in ("context", "alignment"):
        with pytest.raises(ValueError, match="squeeze_excite averages over all time"):
            getattr(encoder, name)
