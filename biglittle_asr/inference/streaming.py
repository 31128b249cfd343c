"""Streaming: a causal model reads audio as it arrives and gives words as they are spoken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from biglittle_asr.decoding import Word
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import decode

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer

STEP_SECONDS = 0.1
"""Audio per step: shorter than a word takes to say, long enough that a step's fixed cost does not matter."""


def transcribe_stream(recognizer: Recognizer, recording: Recording) -> Iterator[Word]:
    """Transcribe a recording that may still be going on. Words are those of :func:`transcribe`.

    Arguments
    ---------
    recognizer : Recognizer
        With a causal encoder, and features and a normalization that need no later audio.
    recording : Recording
        A file or a pipe.

    Yields
    ------
    Word
        As soon as the token after it, a pause, or the end of the audio is reached.

    Raises
    ------
    OSError, ValueError
        If the model cannot stream or the audio cannot be read. Words before the fault are yielded.

    Example
    -------
    >>> import soundfile
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.features import GlobalNormalization, LogMel
    >>> from biglittle_asr.inference import Recognizer
    >>> from biglittle_asr.models import CTCModel, create_encoder
    >>> encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64), time_padding="causal")
    >>> tokenizer = CharacterTokenizer(" AB")
    >>> recognizer = Recognizer(LogMel(), GlobalNormalization(80), CTCModel(encoder, tokenizer.size), tokenizer)
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, torch.randn(8000).numpy() / 10, 8000)
    >>> words = [word.text for word in transcribe_stream(recognizer, Recording("a", path))]
    """
    check_streams(recognizer)
    compute = recognizer.compute_features
    normalize: Any = recognizer.normalize
    device = device_of(recognizer)
    samples = 0

    @torch.inference_mode()
    def log_probs() -> Iterator[Tensor]:
        nonlocal samples
        waveform, network = compute.initial_state(), recognizer.stream()
        for block in recording.blocks(recognizer.sample_rate, STEP_SECONDS):
            samples += len(block)
            features, waveform = compute.step(torch.from_numpy(block)[None].to(device), waveform)
            yield network.step(normalize.step(features))
        yield network.finish(normalize.step(compute.finish(waveform)))

    yield from decode(recognizer.decoder(), log_probs(), lambda: samples / recognizer.sample_rate)


class ModelStream:
    """A stream through a causal model.

    Arguments
    ---------
    model : CTCModel or HybridModel
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._state = model.initial_state()

    def step(self, features: Tensor) -> Tensor:
        """Outputs (T', V) of the frames that the next features (1, T, F) complete."""
        outputs, self._state = self.model.step(features, self._state)
        found: Tensor = outputs[0]
        return found

    def finish(self, features: Tensor) -> Tensor:
        """Outputs (T', V) of the last features (1, T, F)."""
        return self.step(features)


@torch.inference_mode()
def check_streams(recognizer: Recognizer) -> None:
    """Raise ValueError if a recognizer cannot transcribe a stream because some part needs the whole utterance."""
    if not recognizer.kind.searching.streams:
        raise ValueError(
            f"This model cannot stream: the words of its class, {type(recognizer.model).__name__}, are known only when "
            "an utterance has ended; transcribe without --stream."
        )
    if recognizer.search is not None:
        raise ValueError(
            "A beam search goes back on words, which streaming cannot; stream without it, or do not stream."
        )
    normalize: Any = recognizer.normalize
    try:
        recognizer.compute_features.initial_state()
        recognizer.model.initial_state()
        normalize.step(torch.zeros(1, 0, recognizer.compute_features.output_size, device=device_of(recognizer)))
    except ValueError as error:
        raise ValueError(f"This model cannot stream ({error}); transcribe without --stream.") from error


def device_of(recognizer: Recognizer) -> torch.device:
    """The device on which a recognizer computes."""
    return next(recognizer.model.parameters()).device
