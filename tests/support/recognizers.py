"""A small network with random weights, and noise that it hears words in: what tests of transcription share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch

from biglittle_asr.cli import main
from biglittle_asr.features import NORMALIZATIONS, LogMel
from biglittle_asr.inference import Recognizer
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import Transcript, transcribe
from biglittle_asr.models import CTCModel, create_encoder
from biglittle_asr.tokens.tokenizer import CharacterTokenizer
from support.corpora import SAMPLE_RATE
from support.networks import randomize_batchnorm

TOKENIZER = CharacterTokenizer(" ABCDE")


def make_recognizer(
    preset: str = "bl_resnet22",
    normalization: str = "SentenceNormalization",
    deltas: bool = False,
    form: str = "hamming",
    n_mels: int = 20,
    n_fft: int = 400,
    normalization_arguments: Mapping[str, float] | None = None,
    **encoder: object,
) -> Recognizer:
    """A small network with random weights that says many words."""
    torch.manual_seed(0)
    compute_features = LogMel(n_mels=n_mels, n_fft=n_fft, deltas=deltas, form=form)
    samples = torch.from_numpy(babble(4, seed=99))
    features, frames = compute_features(samples[None], torch.tensor([len(samples)]))
    arguments = [] if normalization == "SentenceNormalization" else [compute_features.output_size]
    normalize = NORMALIZATIONS[normalization](*arguments, **(normalization_arguments or {}))
    # In training mode still, so that a normalization that learns has done so.
    features = normalize(features, frames)
    encoder = create_encoder(
        preset,
        channels=(4, 8, 8, 16),
        input_size=compute_features.output_size,
        input_channels=3 if deltas else 1,
        output_size=16,
        **encoder,
    )
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    model = CTCModel(encoder, TOKENIZER.size)
    recognizer = Recognizer(compute_features, normalize, model, TOKENIZER)
    # Random networks say the same all the time: center and spread what this one says of some babble.
    with torch.no_grad():
        encoded = encoder.encode(features, frames)[0][0]
        logits = encoded @ model.output.weight.T
        model.output.weight.mul_(3 / logits.std(0)[:, None])
        model.output.bias.copy_(-(encoded @ model.output.weight.T).mean(0))
    return recognizer


def babble(seconds: float, seed: int = 0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Noise whose spectrum changes all the time, float32 of shape (S,), in steps that 16 bits can hold."""
    rng = np.random.default_rng(seed)
    size = round(seconds * sample_rate)
    time = np.arange(size) / sample_rate
    tones = sum(np.sin(2 * np.pi * (f * time + 40 * np.sin(r * time))) for f, r in rng.uniform(1, 9, (5, 2)) * (200, 1))
    noise = 0.05 * tones + 0.02 * rng.standard_normal(size)
    return (np.round(np.clip(noise, -0.9, 0.9) * 32768) / 32768).astype(np.float32)


def words(recognizer: Recognizer, *paths: Path, **options: object) -> dict[str, str]:
    texts = {}
    for result in transcribe(recognizer, [Recording(path.stem, path) for path in paths], **options):
        assert isinstance(result, Transcript), result
        texts[result.recording.name] = result.text
    return texts


def run(model_folder: Path, *arguments: object) -> int:
    """Exit status of `biglittle transcribe`."""
    return main(["transcribe", str(model_folder), *map(str, arguments)])


def sphere(samples: np.ndarray) -> bytes:
    """A NIST SPHERE file."""
    fields = (
        "NIST_1A\n   1024\n"
        f"sample_count -i {len(samples)}\n"
        f"sample_rate -i {SAMPLE_RATE}\n"
        "sample_n_bytes -i 2\n"
        "sample_byte_format -s2 10\n"
        "channel_count -i 1\n"
        "sample_coding -s3 pcm\n"
        "end_head\n"
    )
    return fields.encode().ljust(1024) + np.round(samples * 32768).astype(">i2").tobytes()


def write_container(path: Path, samples: np.ndarray) -> None:
    if path.suffix == ".sph":
        path.write_bytes(sphere(samples))
    else:
        soundfile.write(path, samples, SAMPLE_RATE)
