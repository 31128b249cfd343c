"""The faults that utterances can have, and how preparation finds them.

Every utterance is read to its end, because a header shows neither silence nor a damaged middle. A file with several
utterances is opened once. `FAULTS` says whether a fault excludes an utterance from training or is only reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from biglittle_asr.audio.files import WHOLE, AudioFile, AudioFileError, Segment

FAULTS = {
    "unpaired": True,
    "missing": True,
    "unreadable": True,
    "truncated": True,
    "empty": True,
    "channels": True,
    "times": True,
    "sample_rate": True,
    "not_finite": True,
    "silent": True,
    "too_short": True,
    "too_long": True,
    "no_words": True,
    "characters": True,
    "clipped": False,
}
"""Every fault, and whether it excludes an utterance from training."""

MARKUP = frozenset("<>[]{}|\\^~=_*#@/\ufffd")
"""Characters of annotations, such as [noise], and of a broken encoding: a model would learn to spell them."""


@dataclass(frozen=True)
class Limits:
    """Thresholds of the faults."""

    min_seconds: float = 0.1
    """Ten frames; even the shortest word takes longer, so the recording must be truncated."""
    max_seconds: float = 60.0
    """No single utterance is this long: the recording was not segmented, and would be larger than a whole batch."""
    silent_peak: float = 2.0**-10
    """Largest sample of a file without speech, relative to full scale: 5 of 16 bits, the noise of a muted microphone.
    The peak of AN4's quietest file is 35 times as large."""
    full_scale: float = 0.999
    """Samples from this level on count as clipped, relative to full scale."""
    clipped_part: float = 0.001
    """Largest fraction of clipped samples: 16 per second at 16 kHz, which is a click, not a distorted voice. Clipped
    speech remains intelligible, and microphones do deliver it, so it is kept and reported."""
    max_overshoot: float = 0.5
    """Seconds by which a segment may extend past the end of its file, where it is then cut: transcribers' clocks differ
    from the recorder's. Kaldi's extract-segments has the same tolerance."""


LIMITS = Limits()


class Finding(NamedTuple):
    """One fault of one utterance."""

    fault: str
    """A key of :data:`FAULTS`."""
    value: str
    """The value found."""


@dataclass(frozen=True)
class Inspection:
    """The result of checking an utterance's audio."""

    duration: float
    """Seconds; 0 if the audio cannot be read."""
    sample_rate: int | None
    """Hz; None if the file cannot be read."""
    findings: tuple[Finding, ...]


def inspect_audio(path: str | os.PathLike[str], segments: Sequence[Segment] = (WHOLE,)) -> list[Inspection]:
    """Read segments of an audio file to their ends and list their faults.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.zeros(800), 16000)
    >>> inspect_audio(path)
    [Inspection(duration=0.05, sample_rate=16000, findings=(Finding(fault='too_short', value='0.05 s'), \
Finding(fault='silent', value='peak 0')))]
    """
    try:
        with AudioFile(path) as file:
            return [_inspect_segment(file, segment) for segment in segments]
    except FileNotFoundError:
        finding = Finding("missing", "no such file")
    except AudioFileError as error:
        finding = Finding(error.fault, _without_path(error, path))
    except OSError as error:
        finding = Finding("unreadable", _without_path(error, path))
    return [Inspection(0.0, None, (finding,))] * len(segments)


def cut_overshoot(file: AudioFile, segment: Segment) -> Segment:
    """Cut a segment at the end of its file, if it extends past that by at most `Limits.max_overshoot`."""
    if segment.duration is not None and 0 < segment.start + segment.duration - file.duration <= LIMITS.max_overshoot:
        return segment._replace(duration=file.duration - segment.start)
    return segment


def _inspect_segment(file: AudioFile, segment: Segment) -> Inspection:
    try:
        samples = file.read(cut_overshoot(file, segment))
    except AudioFileError as error:
        return Inspection(0.0, file.sample_rate, (Finding(error.fault, _without_path(error, file.label)),))
    duration = len(samples) / file.sample_rate
    return Inspection(duration, file.sample_rate, (*_faults_of_length(duration), *_faults_of_samples(samples)))


def _without_path(error: Exception, path: str | os.PathLike[str]) -> str:
    return str(error).removeprefix(f"{path}: ").rstrip(".")


def _faults_of_length(duration: float) -> Iterator[Finding]:
    if duration < LIMITS.min_seconds:
        yield Finding("too_short", f"{duration:.3g} s")
    if duration > LIMITS.max_seconds:
        yield Finding("too_long", f"{duration:.1f} s")


def _faults_of_samples(samples: np.ndarray) -> Iterator[Finding]:
    level = np.abs(samples)
    peak = float(level.max())
    if peak < LIMITS.silent_peak:
        yield Finding("silent", f"peak {peak:.2g}")
    if peak >= LIMITS.full_scale:
        clipped = np.count_nonzero(level >= LIMITS.full_scale) / len(samples)
        if clipped > LIMITS.clipped_part:
            yield Finding("clipped", f"{100 * clipped:.2g} % of the samples")


def inspect_words(words: str, tokens: AbstractSet[str] = frozenset()) -> tuple[Finding, ...]:
    """List the faults of a transcript; words that are among the tokens are not checked.

    Example
    -------
    >>> inspect_words("YES [NOISE] NO")
    (Finding(fault='characters', value='[]'),)
    >>> inspect_words("YES [NOISE] NO", frozenset(["[NOISE]"]))
    ()
    """
    if not words:
        return (Finding("no_words", ""),)
    words = " ".join(word for word in words.split(" ") if word not in tokens)
    strange = sorted({each for each in words if each in MARKUP or not each.isprintable()})
    return (Finding("characters", "".join(strange)),) if strange else ()


def inspect_all(corpus: str, places: Sequence[tuple[Path, Segment]]) -> list[Inspection]:
    """Inspect utterances on all processors, with a progress bar if it takes longer than a second.

    Threads suffice, because reading and numpy release Python's lock.

    Arguments
    ---------
    corpus : str
        Name for the progress bar.
    places : sequence of (Path, Segment)
        Audio file and segment of each utterance.

    Returns
    -------
    list of Inspection
        In the order of the places.
    """
    of_file: dict[Path, list[int]] = {}
    for number, (path, _) in enumerate(places):
        of_file.setdefault(path, []).append(number)

    def inspect(path: Path) -> list[Inspection]:
        return inspect_audio(path, [places[number][1] for number in of_file[path]])

    found: dict[int, Inspection] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(inspect, of_file)
        progress = tqdm(
            checked, desc=f"{corpus}: checking audio", total=len(of_file), unit="file", delay=1, disable=None
        )
        for numbers, inspections in zip(of_file.values(), progress, strict=True):
            found.update(zip(numbers, inspections, strict=True))
    return [found[number] for number in range(len(places))]
