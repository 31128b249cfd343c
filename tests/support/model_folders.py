"""What tests of model folders share: recognizers with random weights, and how they are compared."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor

from biglittle_asr.cli import main
from biglittle_asr.decoding.hmm import Lexicon, Tying, monophones
from biglittle_asr.decoding.hmm.decoder import SearchGraph
from biglittle_asr.decoding.hmm.graph import Graph, build_graph
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.inference.folder.config import recognizer_config
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.models import create_encoder
from biglittle_asr.tokens.tokenizer import CharacterTokenizer, Tokenizer, WordTokenizer
from support.networks import randomize_batchnorm

CHARACTERS = CharacterTokenizer(" 'ABCDEFGHIÄ")
CHANNELS = (8, 16, 32, 64)
WORDS = "A ACE ADD AGE BAD BE CAB DEAF DIG EBB FADE GAB I IF HE HID".split()
LEXICON = Lexicon({word: [tuple(word)] for word in WORDS})
"""Lexicon of a hybrid model's graph: every letter is a phone."""


@functools.cache
def spelled() -> tuple[Graph, Tying]:
    """The graph of a hybrid model that finds all words of the lexicon equally likely, and its states."""
    tying = monophones(LEXICON.phones, states=1, silence_states=1)
    entries = "".join(f"-1.0\t{word}\n" for word in ("</s>", *LEXICON.pronunciations))
    with TemporaryDirectory() as folder:
        model = Path(folder, "words.arpa")
        number = len(LEXICON.pronunciations) + 2
        model.write_text(f"\\data\\\nngram 1={number}\n\n\\1-grams:\n{entries}-99.0\t<s>\n\n\\end\\\n")
        return build_graph(LEXICON, tying, model), tying


def sizes() -> dict[str, int]:
    """What a hybrid model's config.json says of its graph."""
    graph, tying = spelled()
    return {"tied_states": tying.size, **SearchGraph.of(graph, tying).sizes}


SMALL: dict[str, dict[str, Any]] = {
    "ctc": {},
    "attention": {
        "embedding_size": 8,
        "rnn_type": "gru",
        "attn_type": "location",
        "hidden_size": 24,
        "attn_dim": 16,
        "num_layers": 1,
        "channels": 2,
        "kernel_size": 4,
    },
    "transducer": {"prediction_size": 32, "joint_size": 32},
    "hybrid": sizes(),
}
"""Arguments of small models of each kind."""
TOKENIZERS: dict[str, Tokenizer] = {kind: CHARACTERS for kind in KINDS} | {"hybrid": WordTokenizer(LEXICON)}
SEARCH: dict[str, dict[str, Any]] = {
    "ctc": {},
    "attention": {"beam_size": 3, "ctc_weight": 0.2, "max_decode_ratio": 0.5, "eos_threshold": 1.4},
    "transducer": {"beam_size": 3},
    "hybrid": {"lm_weight": 0.5, "beam": 500.0, "lattice_beam": 50.0, "max_active": 1000},
}
"""How they are searched."""


def make(
    preset: str = "bl_resnet22",
    tokenizer: Tokenizer | None = None,
    normalize: Any = None,
    kind: str = "ctc",
    arguments: Any = None,
    form: str = "hamming",
    **config: Any,
) -> Recognizer:
    """A recognizer whose every weight and statistic is random, and whose transcripts have many tokens."""
    generator = torch.manual_seed(0)
    features = LogMel(deltas=config.get("input_channels") == 3, n_mels=40, form=form)
    encoder = create_encoder(preset, channels=CHANNELS, input_size=features.output_size, output_size=48, **config)
    tokenizer = tokenizer or TOKENIZERS[kind]
    model: Any = KINDS[kind].build(encoder, tokenizer.size, {**SMALL[kind], **(arguments or {})})
    if kind == "hybrid":
        model.search_graph = SearchGraph.of(*spelled())
    settings = KINDS[kind].search_settings(**SEARCH[kind])
    recognizer = Recognizer(features, normalize or SentenceNormalization(), model, tokenizer, settings)
    randomize_batchnorm(recognizer, generator)
    wavs, num_samples = speech(16000)
    with torch.no_grad():
        encode = getattr(model, "encode", encoder.encode)
        outputs, _ = encode(*recognizer.features(wavs, num_samples))
        LOOSEN[kind](model, outputs[0], generator)
    return recognizer


def _loosen_ctc(model: Any, encoded: Tensor, generator: torch.Generator) -> None:
    model.output.weight.normal_(generator=generator)
    model.output.bias.copy_(-model.output.weight @ encoded.mean(0))


def _loosen_attention(model: Any, encoded: Tensor, generator: torch.Generator) -> None:
    for layer in (model.output, model.ctc_output):
        layer.weight.normal_(generator=generator)
    model.ctc_output.bias.copy_(-model.ctc_output.weight @ encoded.mean(0))


def _loosen_transducer(model: Any, encoded: Tensor, generator: torch.Generator) -> None:
    """Each token has an element of the joint space to itself; said once, it is not said again at once."""
    tokens, spread = model.output.out_features, encoded.std(0)
    model.project_encoded.weight.div_(spread.unsqueeze(1))
    model.project_encoded.bias.sub_(encoded.mean(0)).div_(spread)
    model.embedding.weight.copy_(5 * torch.eye(*model.embedding.weight.shape))
    model.project_predicted.weight.copy_(-2 * torch.eye(*model.project_predicted.weight.shape))
    model.output.weight.copy_(6 * torch.eye(*model.output.weight.shape))
    model.output.bias.zero_()[0] = 5
    lstm, size = model.prediction, model.prediction.hidden_size
    for name, parameter in lstm.named_parameters():
        parameter.zero_()
        if name.startswith("weight_ih"):
            parameter[2 * size : 3 * size] = torch.eye(size)
        elif name.startswith("bias_ih"):
            # Input and output gates open, forget gate shut: what was put out last is all it knows.
            parameter.copy_(torch.tensor([9.0, -9.0, 0.0, 9.0]).repeat_interleave(size))
    assert tokens <= min(size, model.output.in_features)


LOOSEN = {"ctc": _loosen_ctc, "hybrid": _loosen_ctc, "attention": _loosen_attention, "transducer": _loosen_transducer}
"""Makes a model say this and that: what lies in the mean of all frames, a random network says all the time."""


def speech(*samples: int) -> tuple[Tensor, Tensor]:
    """Noise of some lengths as a batch (B, S) and num_samples (B,)."""
    generator = torch.Generator().manual_seed(1)
    wavs = 0.1 * torch.randn(len(samples), max(samples), generator=generator)
    for wav, length in zip(wavs, samples, strict=True):
        wav[length:] = 0.0
    return wavs, torch.tensor(samples)


@torch.inference_mode()
def transcripts(recognizer: Recognizer, wavs: Tensor, num_samples: Tensor) -> list[str]:
    """Transcripts of each utterance alone."""
    found = []
    for wav, length in zip(wavs, num_samples.tolist(), strict=True):
        outputs, _ = recognizer(wav[None, :length], torch.tensor([length]))
        found.append(recognizer.tokenizer.decode(recognizer.tokens(outputs[0])))
    return found


def described(recognizer: Recognizer) -> str:
    """What a recognizer is built of; lists and tuples are the same."""
    return json.dumps(recognizer_config(recognizer))


@torch.inference_mode()
def assert_same(loaded: Recognizer, saved: Recognizer) -> None:
    """Bit for bit: state, output, and everything that the folder says of it."""
    assert not any(module.training for module in loaded.modules())
    state = saved.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name]) and tensor.dtype == state[name].dtype, name
    batch = speech(9000, 4321)
    assert torch.equal(loaded(*batch)[0], saved(*batch)[0])
    assert described(loaded) == described(saved)
    assert loaded.tokenizer.state() == saved.tokenizer.state()
    assert (loaded.sample_rate, loaded.frame_seconds) == (saved.sample_rate, saved.frame_seconds)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("good") / "model", make())


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def payload(canary: Path) -> bytes:
    """A pickle that touches the canary when it is read, as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(Payload(canary), buffer)
    return buffer.getvalue()


def assert_refused(arguments: list[str], message: str, folder: Path, capsys: Any) -> None:
    """One sentence on standard error, status 1, and nothing new in the folder."""
    before = sorted(path.name for path in folder.iterdir())
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (sentence,) = err.splitlines()
    assert sentence.startswith("biglittle: ") and sentence.endswith(".") and message in sentence, sentence
    assert sentence.isprintable() and "Traceback" not in sentence
    assert sorted(path.name for path in folder.iterdir()) == before
