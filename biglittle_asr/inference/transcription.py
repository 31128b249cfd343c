"""From recordings to transcripts: short recordings in batches, long ones in windows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from biglittle_asr.audio.resample import Samples
from biglittle_asr.decoding import BeamWords, Decoder, Word
from biglittle_asr.decoding.decoder import SEGMENT_SECONDS
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.windows import outputs_by_windows

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer

WINDOW_SECONDS = 60.0
"""The context is a few seconds on each side, so a longer window would save less than a tenth of the work."""
BATCH_SECONDS = 120.0
PROGRESS = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f}{unit} [{elapsed}<{remaining}]"

Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Alternative:
    """A text that a beam search found for a recording."""

    words: tuple[Word, ...]
    score: float
    network_score: float
    """See :class:`biglittle_asr.decoding.Hypothesis`."""

    @property
    def text(self) -> str:
        """Words separated by single spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Transcript:
    """The words recognized in a recording."""

    recording: Recording
    duration: float
    """Seconds."""
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...] = ()
    """The best texts, this one first, if a beam search is asked for several."""

    @property
    def text(self) -> str:
        """Words separated by single spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Output:
    """A network's output for a recording."""

    recording: Recording
    duration: float
    """Seconds."""
    pieces: Iterable[Tensor]
    """Outputs (T', D) of :meth:`Recognizer.forward`, in pieces; read once. Reading may raise OSError or ValueError."""


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed, and why. It raises the error if it is used as a transcript."""

    recording: Recording
    error: OSError | ValueError

    def __post_init__(self) -> None:
        # Tracebacks would keep the audio and the outputs of the whole batch as long as the failure is kept.
        error: BaseException | None = self.error
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__

    @property
    def text(self) -> str:
        """Raise the error: there is no text."""
        raise self.error

    @property
    def words(self) -> tuple[Word, ...]:
        """Raise the error: there are no words."""
        raise self.error


def transcribe(
    recognizer: Recognizer,
    recordings: Sequence[Recording],
    *,
    window_seconds: float = WINDOW_SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress = lambda done, total: None,
) -> Iterator[Transcript | Failure]:
    """Transcribe recordings. Neither batches nor windows change a word: see :mod:`biglittle_asr.inference.windows`.

    Arguments
    ---------
    recognizer : Recognizer
    recordings : sequence of Recording
    window_seconds : float
        Recordings longer than this are read alone, in windows of this size; memory is that of one window.
    batch_seconds : float
        Seconds of audio per batch, padding included.
    progress : function of (float, float)
        Called from time to time with the seconds of audio done and in total.

    Yields
    ------
    Transcript or Failure
        One per recording: first those that cannot be opened, then from short to long.

    Raises
    ------
    StorageError
        If recordings are in remote storage that fails.

    Example
    -------
    >>> import soundfile
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.features import LogMel, SentenceNormalization
    >>> from biglittle_asr.inference import Recognizer
    >>> from biglittle_asr.models import CTCModel, create_encoder
    >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=4)
    >>> recognizer = Recognizer(LogMel(), SentenceNormalization(), model, CharacterTokenizer(" AB"))
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, torch.randn(8000).numpy() / 10, 8000)
    >>> (transcript,) = transcribe(recognizer, [Recording("a", path)])
    >>> transcript.recording.name, transcript.duration
    ('a', 1.0)
    """
    for output in outputs(recognizer, recordings, window_seconds, batch_seconds, progress):
        yield output if isinstance(output, Failure) else _transcribe(recognizer, output)


def outputs(
    recognizer: Recognizer,
    recordings: Sequence[Recording],
    window_seconds: float = WINDOW_SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress = lambda done, total: None,
) -> Iterator[Output | Failure]:
    """Compute the network's outputs for recordings, for any kind of decoding; see :func:`transcribe`."""
    durations: dict[Recording, float] = {}
    for recording in recordings:
        try:
            durations[recording] = recording.duration()
        except (OSError, ValueError) as error:
            yield Failure(recording, error)
    done, total = 0.0, sum(durations.values())
    for batch in _batches(durations, window_seconds, batch_seconds):
        if durations[batch[0]] > window_seconds:
            progress_of_one = functools.partial(_progress_behind, progress, done, total)
            pieces = _long_output(recognizer, batch[0], durations[batch[0]], window_seconds, progress_of_one)
            yield Output(batch[0], durations[batch[0]], pieces)
        else:
            yield from _batch_outputs(recognizer, batch, durations)
        done += sum(durations[recording] for recording in batch)
        progress(done, total)


def _progress_behind(progress: Progress, before: float, total: float, done: float) -> None:
    progress(before + done, total)


def _batches(
    durations: dict[Recording, float], window_seconds: float, batch_seconds: float
) -> Iterator[list[Recording]]:
    """Group recordings of similar duration, short ones first; one that is longer than a window is alone."""
    batch: list[Recording] = []
    for recording in sorted(durations, key=lambda each: durations[each]):
        full = (len(batch) + 1) * durations[recording] > batch_seconds or durations[recording] > window_seconds
        if batch and full:
            yield batch
            batch = []
        batch.append(recording)
    if batch:
        yield batch


def _batch_outputs(
    recognizer: Recognizer, batch: Sequence[Recording], durations: dict[Recording, float]
) -> Iterator[Output | Failure]:
    wavs: dict[Recording, Tensor] = {}
    for recording in batch:
        try:
            with recognizer.stopwatch("reading"):
                wavs[recording] = torch.from_numpy(recording.read(recognizer.sample_rate))
        except (OSError, ValueError) as error:
            yield Failure(recording, error)
    if not wavs:
        return
    device = recognizer.model.output.weight.device
    padded = torch.nn.utils.rnn.pad_sequence(list(wavs.values()), batch_first=True).to(device)
    num_samples = torch.tensor([len(wav) for wav in wavs.values()], device=device)
    with torch.inference_mode():
        found, frames = recognizer(padded, num_samples)
    for recording, row, valid in zip(wavs, found.cpu(), frames.tolist(), strict=True):
        yield Output(recording, durations[recording], [row[:valid]])


def _long_output(
    recognizer: Recognizer,
    recording: Recording,
    duration: float,
    window_seconds: float,
    progress: Callable[[float], None],
) -> Iterator[Tensor]:
    def blocks() -> Iterator[Samples]:
        return recording.blocks(recognizer.sample_rate)

    check_windows(recognizer, recording, duration, window_seconds)
    frames = 0
    for window in outputs_by_windows(recognizer, blocks, window_seconds):
        yield window
        frames += len(window)
        progress(min(duration, frames * recognizer.frame_seconds))


def _transcribe(recognizer: Recognizer, output: Output) -> Transcript | Failure:
    decoder, duration = recognizer.decoder(), output.duration
    try:
        if isinstance(decoder, BeamWords) and decoder.search.settings.nbest > 1 and duration > SEGMENT_SECONDS:
            name = output.recording.label or output.recording.path
            raise ValueError(
                f"{name}: lasts {duration:.0f} s, and N-best lists are of at most {SEGMENT_SECONDS:.0f} s; cut it, or "
                "take the best text only."
            )
        with torch.inference_mode(), recognizer.stopwatch("decoding"):
            words = tuple(decode(decoder, output.pieces, lambda: duration))
            alternatives = _alternatives(decoder, duration)
    except (OSError, ValueError) as error:
        return Failure(output.recording, error)
    return Transcript(output.recording, duration, words, alternatives)


def _alternatives(decoder: Decoder, duration: float) -> tuple[Alternative, ...]:
    if not isinstance(decoder, BeamWords) or decoder.search.settings.nbest == 1:
        return ()
    return tuple(
        Alternative(tuple(decoder.words(found, duration)), found.score, found.network_score)
        for found in decoder.hypotheses
    )


def check_windows(recognizer: Recognizer, recording: Recording, duration: float, window_seconds: float) -> None:
    """Refuse a recording that needs windows if the network does not allow them.

    Raises
    ------
    ValueError
        If the encoder's context is not finite.
    """
    try:
        _ = recognizer.model.encoder.context
    except ValueError as error:
        raise ValueError(
            f"{recording.label or recording.path}: lasts {duration:.0f} s, longer than one window of "
            f"{window_seconds:.0f} s, and this model allows one window only ({error}); take a longer window."
        ) from error


def decode(decoder: Decoder, pieces: Iterable[Tensor], duration: Callable[[], float]) -> Iterator[Word]:
    """Decode one utterance from the network's outputs (T', D), piece by piece, and yield its words.

    Arguments
    ---------
    decoder : Decoder
        A new one, such as `recognizer.decoder()`.
    pieces : iterable of Tensor
    duration : function without arguments
        Returns the utterance's duration in seconds; called after the last piece.
    """
    for piece in pieces:
        yield from decoder.decode(piece)
    yield from decoder.finish(duration())


@contextmanager
def audio_progress(description: str, enabled: bool = True, unit: str = "s of audio") -> Iterator[Progress]:
    """Show a progress bar over seconds of audio, or other units; gives the function of (done, total) that moves it.

    Arguments
    ---------
    description : str
        Text before the bar.
    enabled : bool
        Whether to draw a bar; none is ever drawn if standard error is not a terminal.
    unit : str
        What is counted.

    Example
    -------
    >>> with audio_progress("transcribing", enabled=False) as progress:
    ...     progress(30.0, 60.0)
    """
    # The bar is drawn before the total is known, but the format takes numbers only.
    disable = None if enabled else True
    with tqdm(desc=description, unit=f" {unit}", total=0, disable=disable, bar_format=PROGRESS) as bar:

        def move(done: float, total: float) -> None:
            bar.total = total
            # Sums of durations are not exact, and tqdm complains if done exceeds the total.
            bar.n = min(done, total)
            bar.update(0)

        yield move
