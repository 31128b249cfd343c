"""What SpeechBrain expects of an encoder, for every preset, against SpeechBrain's own containers and models."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CTCTextEncoder
from speechbrain.decoders.ctc import ctc_greedy_decode
from speechbrain.inference.ASR import EncoderASR
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.activations import Softmax
from speechbrain.nnet.containers import LengthsCapableSequential
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.callchains import lengths_arg_exists
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.inference.speechbrain import load_encoder
from biglittle_asr.models import BigLittleEncoder, CTCModel, create_encoder, list_encoders
from biglittle_asr.models.foreign import ForeignEncoder
from biglittle_asr.tokens.tokenizer import CharacterTokenizer
from support.corpora import SAMPLE_RATE
from support.networks import assert_near, randomize_batchnorm
from support.repository import REPOSITORY

SMALL: dict[str, Any] = {"channels": (8, 16, 32, 64), "input_size": 20, "output_size": 24}
TOKENS = 6
FRAGMENTS = sorted((REPOSITORY / "hparams" / "encoders").glob("*.yaml"))
YAML_FILES = [file for file in FRAGMENTS if file.stem in list_encoders()]
SMALLER_FOREIGN = {"crdnn": "rnn_neurons: 16", "conformer": "layers: 1"}
FOREIGN_FILES = [file for file in FRAGMENTS if file not in YAML_FILES]

every_preset = pytest.mark.parametrize("name", list_encoders())


def build(name: str, **overrides: Any) -> BigLittleEncoder:
    """A small encoder with random BatchNorm, in evaluation mode."""
    torch.manual_seed(0)
    encoder = create_encoder(name, **{**SMALL, **overrides})
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    return encoder.eval()


def chain(encoder: BigLittleEncoder) -> LengthsCapableSequential:
    """Waveforms to log-probabilities, as an EncoderASR's `encoder` is."""
    return LengthsCapableSequential(
        compute_features=Fbank(n_mels=20),
        normalize=InputNormalization(norm_type="sentence"),
        encoder=encoder,
        ctc_lin=Linear(n_neurons=TOKENS, input_size=encoder.output_size),
        log_softmax=Softmax(apply_log=True),
    ).eval()


@pytest.fixture
def features() -> tuple[Tensor, Tensor]:
    """(4, 40, 20) features and the relative lengths of 40, 20, 9 and 1 frames."""
    torch.manual_seed(0)
    return torch.randn(4, 40, 20), torch.tensor([40, 20, 9, 1]) / 40


@pytest.fixture
def wavs() -> tuple[Tensor, Tensor]:
    """Half a second of noise twice, and relative lengths."""
    torch.manual_seed(0)
    return 0.1 * torch.randn(2, SAMPLE_RATE // 2), torch.tensor([1.0, 0.5])


# 1. forward(x, lengths=None, **kwargs)


@pytest.mark.slow
@every_preset
def test_call_with_and_without_lengths(name: str, features: tuple[Tensor, Tensor]) -> None:
    encoder, (x, lengths) = build(name), features
    y = encoder(x)
    assert torch.equal(encoder(x, lengths=torch.ones(4)), y)
    assert torch.equal(encoder(x, pad_idx=0, dynchunktrain_config=None), y)
    assert torch.equal(encoder(x, lengths, pad_idx=0), encoder(x, lengths=lengths))


def foreign(file: Path) -> ForeignEncoder:
    """SpeechBrain's encoder of one of the YAML files, small, in evaluation mode."""
    smaller = f"    input_size: 20\n    {SMALLER_FOREIGN[file.stem]}\n"
    encoder: ForeignEncoder = load_hyperpyyaml(f"encoder: !include:{file}\n{smaller}")["encoder"].eval()
    return encoder


every_encoder = pytest.mark.parametrize(
    "make",
    [functools.partial(build, name) for name in list_encoders()]
    + [functools.partial(foreign, file) for file in FOREIGN_FILES],
    ids=[*list_encoders(), *(file.stem for file in FOREIGN_FILES)],
)


@pytest.mark.slow
@every_encoder
@pytest.mark.parametrize("name", ["wav_lens", "wav_len"])
def test_lengths_by_speechbrains_other_names(make: Any, name: str, features: tuple[Tensor, Tensor]) -> None:
    encoder, (x, lengths) = make(), features
    assert torch.equal(encoder(x, **{name: lengths}), encoder(x, lengths))
    with pytest.raises(ValueError, match="names of one argument"):
        encoder(x, lengths, **{name: lengths})


@pytest.mark.slow
@every_encoder
def test_arguments_of_no_known_name_are_refused(make: Any, features: tuple[Tensor, Tensor]) -> None:
    encoder, (x, lengths) = make(), features
    for name in ("wav_lengths", "x_lens", "length", "ilens"):
        with pytest.raises(TypeError, match=name):
            encoder(x, **{name: lengths})


@pytest.mark.slow
@every_encoder
def test_chunks_warn_where_the_future_is_seen(make: Any, features: tuple[Tensor, Tensor]) -> None:
    with pytest.warns(UserWarning, match="dynchunktrain_config"):
        make()(*features, dynchunktrain_config=DynChunkTrainConfig(4, 2))


@every_preset
def test_chunks_are_nothing_to_a_causal_encoder(
    name: str, features: tuple[Tensor, Tensor], recwarn: pytest.WarningsRecorder
) -> None:
    encoder = build(name, time_padding="causal")
    y = encoder(*features, 0, DynChunkTrainConfig(4, 2))
    assert torch.equal(y, encoder(*features)) and not recwarn.list


# 2. The argument is named `lengths`


@pytest.mark.slow
@every_preset
def test_containers_pass_lengths(name: str, features: tuple[Tensor, Tensor]) -> None:
    encoder, (x, lengths) = build(name), features
    assert lengths_arg_exists(encoder.forward)
    assert torch.equal(LengthsCapableSequential(encoder)(x, lengths=lengths), encoder(x, lengths))
    assert not torch.equal(encoder(x, lengths), encoder(x))


@every_preset
def test_containers_infer_the_shape(name: str) -> None:
    encoder = build(name)
    model = LengthsCapableSequential(input_shape=[None, None, 20], encoder=encoder)
    model.append(Linear, n_neurons=TOKENS, layer_name="ctc_lin")
    assert model.ctc_lin.w.in_features == encoder.output_size


# 3. One tensor, and 4. frames' proportional to frames


@pytest.mark.slow
@every_preset
@pytest.mark.parametrize("time_stride", [1, 4, 8])
def test_frames_out_are_proportional(name: str, time_stride: int) -> None:
    encoder = build(name, time_stride=time_stride, input_size=5)
    frames = torch.arange(1, 41)
    relative = frames / 40
    y = encoder(torch.randn(40, 40, 5), relative)
    assert isinstance(y, Tensor) and y.dim() == 3
    rounded = (relative * y.shape[1]).round()
    assert ((rounded - encoder.output_lengths(frames)).abs() <= 1).all()
    exact = encoder.relative_output_lengths(relative, 40)
    assert torch.equal((exact * y.shape[1]).round().long(), encoder.output_lengths(frames))


@pytest.mark.slow
@every_preset
def test_ctc_loss_and_greedy_decoding(name: str, wavs: tuple[Tensor, Tensor]) -> None:
    model = chain(build(name, time_stride=4))
    log_probs = model(*wavs)
    assert log_probs.shape == (2, 13, TOKENS)
    loss = ctc_loss(log_probs, torch.tensor([[1, 2], [3, 0]]), wavs[1], torch.tensor([1.0, 0.5]), blank_index=0)
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.encoder.parameters())
    decoded = ctc_greedy_decode(log_probs, wavs[1], blank_id=0)
    assert len(decoded) == 2 and len(decoded[1]) <= 7


@pytest.mark.slow
@every_preset
def test_encoder_asr_transcribes(name: str, wavs: tuple[Tensor, Tensor]) -> None:
    tokenizer = CTCTextEncoder()
    tokenizer.insert_blank(index=0)
    tokenizer.update_from_iterable("ABCDE", sequence_input=False)
    model = EncoderASR(
        modules={"encoder": chain(build(name))},
        hparams={
            "tokenizer": tokenizer,
            "decoding_function": functools.partial(ctc_greedy_decode, blank_id=0),
            "sample_rate": SAMPLE_RATE,
        },
    )
    words, tokens = model.transcribe_batch(*wavs)
    assert [len(word) for word in words] == [len(row) for row in tokens]
    # The whole of an utterance is decoded alone as in the batch; Fbank and InputNormalization see no padding there.
    assert model.transcribe_batch(wavs[0][:1], torch.ones(1))[1][0] == tokens[0]


@pytest.mark.slow
@every_preset
def test_transformer_takes_the_output(name: str, features: tuple[Tensor, Tensor]) -> None:
    """In place of the convolutional front end of the Transformer recipes."""
    encoder, (x, lengths) = build(name), features
    transformer = TransformerASR(
        TOKENS,
        input_size=encoder.output_size,
        d_model=16,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        d_ffn=16,
        normalize_before=True,
    ).eval()
    target = torch.tensor([[1, 2, 3]] * 4)
    encoded, decoded = transformer(encoder(x, lengths), target, lengths, pad_idx=0)
    assert encoded.shape == (4, encoder.output_lengths(40), 16)
    assert decoded.shape == (4, 3, 16)
    (encoded.sum() + decoded.sum()).backward()
    assert all(p.grad is not None for p in encoder.parameters())


# 5. Padding is masked


@pytest.mark.slow
@every_preset
def test_containers_do_not_see_padding(name: str, features: tuple[Tensor, Tensor]) -> None:
    model = LengthsCapableSequential(build(name), nn.Identity())
    x, lengths = features
    x[1, 20:], x[2, 9:], x[3, 1:] = 1e6, float("nan"), float("inf")
    y = model(x, lengths=lengths)
    for row, frames in enumerate((40, 20, 9, 1)):
        alone = model(x[row : row + 1, :frames])
        assert_near(y[row : row + 1, : alone.shape[1]], alone)


# 6. A module like any other


@pytest.mark.slow
@every_preset
def test_output_size_is_known_before_the_first_call(name: str) -> None:
    encoder = build(name, output_size=48)
    assert (encoder.output_size, encoder.time_stride) == (48, 4)
    assert encoder(torch.zeros(1, 1, 20)).shape == (1, 1, 48)
    unchanged = create_encoder(name)
    assert unchanged.output_size == unchanged.config.output_size


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("distributed") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@every_preset
@pytest.mark.parametrize("merge", ["add", "concat"])
def test_ddp_finds_no_unused_parameter(
    name: str, merge: str, features: tuple[Tensor, Tensor], one_process: None
) -> None:
    x, lengths = features
    model = DistributedDataParallel(build(name, merge=merge).train(), find_unused_parameters=False)
    for batch_lengths in (lengths, None, lengths):  # the second call fails where the first left a parameter unused
        model(x, lengths=batch_lengths).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


# 7. Importable where the YAML is loaded


@pytest.mark.slow
def test_imported_from_anywhere(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = "from biglittle_asr.models import BigLittleEncoder, create_encoder"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_there_is_yaml() -> None:
    assert YAML_FILES and FOREIGN_FILES


@pytest.mark.parametrize("file", FOREIGN_FILES, ids=lambda file: file.stem)
def test_speechbrains_encoders_keep_the_recipes_contract(file: Path) -> None:
    encoder = foreign(file)
    assert "input_size: 80" in file.read_text() and encoder.time_stride == 4
    frames = torch.tensor([41, 20, 1])
    y, frames_out = encoder.encode(torch.randn(3, 41, 20), frames)
    assert isinstance(y, Tensor) and y.shape == (3, y.shape[1], encoder.output_size)
    assert y.shape[1] in (10, 11) and frames_out.tolist() == [y.shape[1], 5, 1]
    assert torch.equal(encoder.output_lengths(frames), torch.tensor([11, 5, 1]))
    assert encoder(torch.randn(3, 41, 20), frames / 41).shape == y.shape
    assert LengthsCapableSequential(encoder)(torch.randn(3, 41, 20), lengths=frames / 41).shape == y.shape


@pytest.mark.slow
@pytest.mark.parametrize("file", YAML_FILES, ids=lambda file: file.stem)
def test_yaml_makes_its_preset(file: Path) -> None:
    encoder = load_hyperpyyaml(f"encoder: !include:{file}\n")["encoder"]
    assert isinstance(encoder, BigLittleEncoder)
    assert encoder.config == create_encoder(file.stem).config


@pytest.mark.slow
@pytest.mark.parametrize("file", YAML_FILES, ids=lambda file: file.stem)
def test_yaml_included_with_overrides(file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "n_mels: 40\n"
        f"encoder: !include:{file}\n"
        "    input_size: !ref <n_mels>\n"
        "    time_stride: 2\n"
        "ctc_lin: !new:speechbrain.nnet.linear.Linear\n"
        "    input_size: !ref <encoder.output_size>\n"
        "    n_neurons: 29\n"
    )
    with recipe.open() as stream:
        hparams = load_hyperpyyaml(stream)
    y = hparams["ctc_lin"](hparams["encoder"](torch.zeros(1, 9, 40)))
    assert y.shape == (1, 5, 29)


# The lines that docs/swapping.md gives, on what SpeechBrain's recipes define and call

OVERRIDES = {
    "seq2seq": f"n_mels: 80\nenc: !include:{FRAGMENTS[0].parent}/bl_resnet22.yaml",
    "transformer": f"CNN: !include:{FRAGMENTS[0].parent}/bl_resnet22_half.yaml\nTransformer: {{input_size: 512}}",
    "transducer": f"CNN: !new:torch.nn.Identity\nenc: !include:{FRAGMENTS[0].parent}/bl_resnet22.yaml",
}
FRONT_END = """
n_mels: 80
d_model: 16
CNN: !new:speechbrain.lobes.models.convolution.ConvolutionFrontEnd
    input_shape: (8, 10, 80)
    num_blocks: 2
    num_layers_per_block: 1
    out_channels: (4, 4)
    kernel_sizes: (3, 3)
    strides: (2, 2)
    residuals: (False, False)
Transformer: !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
    input_size: 80
    tgt_vocab: 6
    d_model: !ref <d_model>
    nhead: 2
    num_encoder_layers: 1
    num_decoder_layers: 1
    d_ffn: 16
    normalize_before: True
"""
THEIR_RECIPES = {
    "seq2seq": """
n_mels: 40
dnn_neurons: 512
enc: !new:speechbrain.lobes.models.CRDNN.CRDNN
    input_shape: [null, null, !ref <n_mels>]
    rnn_layers: 1
    rnn_neurons: 8
    dnn_neurons: !ref <dnn_neurons>
next: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <dnn_neurons>
    n_neurons: 6
modules: [!ref <enc>, !ref <next>]
""",
    "transformer": FRONT_END + "modules: [!ref <CNN>, !ref <Transformer>]\n",
    "transducer": FRONT_END.replace("d_model: 16", "d_model: 512")
    + """
enc: !new:speechbrain.lobes.models.transformer.TransformerASR.EncoderWrapper
    transformer: !ref <Transformer>
next: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <d_model>
    n_neurons: 6
modules: [!ref <CNN>, !ref <enc>, !ref <next>]
""",
}


def call(name: str, hparams: dict[str, Any], feats: Tensor, wav_lens: Tensor) -> Tensor:
    """What the recipe of this name does with features."""
    if name == "seq2seq":
        return hparams["next"](hparams["enc"](feats.detach()))
    src = hparams["CNN"](feats)
    if name == "transformer":
        encoded, _ = hparams["Transformer"](src, torch.tensor([[1, 2], [3, 0]]), wav_lens, pad_idx=0)
        return encoded
    return hparams["next"](hparams["enc"](src, wav_lens, pad_idx=0, dynchunktrain_config=None))


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIR_RECIPES)
def test_speechbrains_recipes_run_with_overrides_alone(name: str) -> None:
    assert name == "seq2seq" or call(name, load_hyperpyyaml(THEIR_RECIPES[name]), *_feats()).shape[1] == 10
    hparams = load_hyperpyyaml(THEIR_RECIPES[name], OVERRIDES[name])
    ours = [each for each in hparams["modules"] if isinstance(each, BigLittleEncoder)]
    y = call(name, hparams, *_feats())
    assert y.shape[:2] == (2, 10) and len(ours) == 1
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in ours[0].parameters())


def _feats() -> tuple[Tensor, Tensor]:
    """(2, 40, 80) features, and the relative lengths of 40 and 20 frames."""
    return torch.randn(2, 40, 80), torch.tensor([1.0, 0.5])


def test_class_named_in_yaml() -> None:
    hparams = load_hyperpyyaml(
        "encoder: !new:biglittle_asr.models.BigLittleEncoder\n    alpha: 2\n    blocks: [2, 2, 2, 2]"
    )
    assert hparams["encoder"].config.alpha == 2


# The lines of docs/swapping.md that bring a trained encoder there


def documented_pretrainer(folder: Path) -> str:
    """The lines of the page, with real paths."""
    blocks = re.split(r"\n(?=\S)", (REPOSITORY / "docs" / "swapping.md").read_text())
    (block,) = (block for block in blocks if "Pretrainer\n" in block)
    lines = [line[4:] for line in block.splitlines() if line.startswith("    ")]
    text = "\n".join(lines).replace("/path/to", str(REPOSITORY))
    return re.sub(r"model_folder: .*", f"model_folder: {folder}", text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BigLittleEncoder]:
    """A model folder, and the encoder in it, as the page has it."""
    encoder, tokenizer = create_encoder("bl_resnet22"), CharacterTokenizer("AB")
    recognizer = Recognizer(LogMel(), SentenceNormalization(), CTCModel(encoder, tokenizer.size), tokenizer)
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    return save_model(tmp_path_factory.mktemp("trained") / "model", recognizer), encoder


@pytest.mark.slow
@pytest.mark.parametrize("collected", [False, True])
def test_a_trained_encoder_is_loaded_by_speechbrains_pretrainer(
    collected: bool, trained: tuple[Path, BigLittleEncoder], tmp_path: Path
) -> None:
    folder, encoder = trained
    hparams = load_hyperpyyaml(documented_pretrainer(folder))
    pretrainer = hparams["pretrainer"]
    if collected:
        pretrainer.set_collect_in(tmp_path)
    pretrainer.collect_files()
    pretrainer.load_collected()
    feats, wav_lens = _feats()
    assert torch.equal(hparams["enc"].eval()(feats, wav_lens), encoder(feats, wav_lens))


def test_a_trained_encoder_of_other_settings_is_refused(trained: tuple[Path, BigLittleEncoder]) -> None:
    with pytest.raises(ValueError, match="other settings: time_stride 4 there, 8 here; set them alike"):
        load_encoder(create_encoder("bl_resnet22", time_stride=8), trained[0] / "model.safetensors")
