"""Transcripts as text, JSON, NIST's CTM, SubRip's SRT, WebVTT and Whisper's TSV."""

from __future__ import annotations

import html
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from biglittle_asr.decoding import Word
from biglittle_asr.files import write_atomically
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import Failure, Transcript
from biglittle_asr.scoring import TimedWord
from biglittle_asr.tokens.words import milliseconds

SIDES: dict[int | None, str] = {None: "1", 1: "A", 2: "B"}
"""NIST's names for the channels of a conversation."""
CAPTION_LINE, CAPTION_LINES = 42, 2
"""Characters per line and lines per caption, as subtitling guides recommend."""
CAPTION_SECONDS = (1.0, 6.0)
"""Shortest and longest display time of a caption; the next caption may cut the shortest."""
CAPTION_PAUSE = 1.0
"""Seconds of silence that end a caption."""


@dataclass(frozen=True)
class Format:
    """A way to write transcripts."""

    suffix: str
    """Suffix of its files."""
    one: Callable[[Transcript], str]
    """Content of a file for one recording."""
    several: Callable[[Sequence[Transcript], Sequence[Failure]], str] | None
    """Content of a file for several recordings; None if the format has no such file."""


def format_text(transcript: Transcript) -> str:
    """Format the words as one line."""
    return f"{transcript.text}\n"


def format_json(transcript: Transcript) -> str:
    """Format a transcript as one JSON object."""
    return json.dumps(transcript_object(transcript), ensure_ascii=False) + "\n"


def format_ctm(transcript: Transcript) -> str:
    """Format one line per word: recording, channel, start and duration in seconds, word, confidence."""
    return "".join(
        f"{word.recording} {word.channel} {word.start:.3f} {word.duration:.3f} {word.word} {word.confidence:.4f}\n"
        for word in timed_words(transcript)
    )


def timed_words(transcript: Transcript) -> list[TimedWord]:
    """Words with times within their recording, as NIST's tools expect them.

    Segments of a conversation get the name of its file; channels 1 and 2 become sides A and B.

    Example
    -------
    >>> from biglittle_asr.inference.audio import Recording
    >>> recording = Recording("sw_4390-B-001001-001230", Path("sw_4390.sph"), 2, start=10.0, length=2.3)
    >>> timed_words(Transcript(recording, 2.3, (Word("yes", 0.25, 0.75, 0.9),)))[0][:5]
    ('sw_4390', 'B', 10.25, 0.5, 'yes')
    """
    name, channel, offset = ctm_place(transcript.recording)
    return [
        TimedWord(
            name,
            channel,
            milliseconds(offset + word.start),
            milliseconds(word.end - word.start),
            word.text,
            word.confidence,
        )
        for word in transcript.words
    ]


def ctm_place(recording: Recording) -> tuple[str, str, float]:
    """Name and channel of a recording in a CTM, and the start of a part of one in seconds; NIST's order of lines."""
    if recording.length is None:
        return one_word(recording.name), str(recording.channel or 1), recording.start
    name = Path(str(recording.path)).stem
    return one_word(name), SIDES.get(recording.channel, str(recording.channel)), recording.start


def format_srt(transcript: Transcript) -> str:
    """Format captions for SubRip, numbered from 1."""
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_displayed(transcript.words), start=1)
    )


def format_vtt(transcript: Transcript) -> str:
    r"""Format captions as WebVTT (W3C), whose cues are text in which `&`, `<` and `>` are escaped.

    Example
    -------
    >>> from biglittle_asr.inference.audio import Recording
    >>> words = (Word("R&B", 0.25, 0.75, 0.9), Word("<UNK>", 3600.0, 3602.0, 0.9))
    >>> print(format_vtt(Transcript(Recording("a", Path("a.wav")), 3602.0, words)))
    WEBVTT
    <BLANKLINE>
    00:00:00.250 --> 00:00:01.250
    R&amp;B
    <BLANKLINE>
    01:00:00.000 --> 01:00:02.000
    &lt;UNK&gt;
    <BLANKLINE>
    """
    cues = (
        f"\n{_clock(start)} --> {_clock(end)}\n{html.escape(text, quote=False)}\n"
        for start, end, text in _displayed(transcript.words)
    )
    return "".join(["WEBVTT\n", *cues])


def format_tsv(transcript: Transcript) -> str:
    r"""Format captions as Whisper's table: start and end in milliseconds, and the text, separated by tabs.

    Times are those of the words, not of the display.

    Example
    -------
    >>> from biglittle_asr.inference.audio import Recording
    >>> words = (Word("YES", 0.25, 0.75, 0.9), Word("NO", 0.9, 1.2, 0.9))
    >>> format_tsv(Transcript(Recording("a", Path("a.wav")), 2.0, words))
    'start\tend\ttext\n250\t1200\tYES NO\n'
    """
    rows = [["start", "end", "text"]]
    for words in captions(transcript.words):
        times = (round(1000 * time) for time in (words[0].start, words[-1].end))
        rows.append([*map(str, times), _joined(words).replace("\t", " ")])
    return "".join("\t".join(row) + "\n" for row in rows)


def transcript_object(transcript: Transcript) -> dict[str, Any]:
    """A transcript as a JSON object."""
    found: dict[str, Any] = {
        "name": readable(transcript.recording.name),
        "path": readable(transcript.recording.label or str(transcript.recording.path)),
        "channel": transcript.recording.channel,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "words": _word_objects(transcript.words),
    }
    if transcript.alternatives:
        found["nbest"] = [
            {
                "text": each.text,
                "score": round(each.score, 4),
                "network_score": round(each.network_score, 4),
                "words": _word_objects(each.words),
            }
            for each in transcript.alternatives
        ]
    return found


def word_object(word: Word) -> dict[str, Any]:
    """A word as a JSON object.

    Example
    -------
    >>> word_object(Word("YES", 0.2, 0.5, 0.98765))
    {'word': 'YES', 'start': 0.2, 'end': 0.5, 'confidence': 0.9877}
    """
    return {"word": word.text, "start": word.start, "end": word.end, "confidence": round(word.confidence, 4)}


def _word_objects(words: Sequence[Word]) -> list[dict[str, Any]]:
    return [word_object(word) for word in words]


def _several_text(transcripts: Sequence[Transcript], failures: Sequence[Failure]) -> str:
    return "".join(f"{one_word(each.recording.name)}\t{each.text}\n" for each in transcripts)


def _several_json(transcripts: Sequence[Transcript], failures: Sequence[Failure]) -> str:
    everything = {
        "transcripts": [transcript_object(each) for each in transcripts],
        "failures": [{"name": readable(each.recording.name), "error": readable(str(each.error))} for each in failures],
    }
    return json.dumps(everything, ensure_ascii=False) + "\n"


def _several_ctm(transcripts: Sequence[Transcript], failures: Sequence[Failure]) -> str:
    # NIST's tools expect sorted recordings.
    return "".join(map(format_ctm, sorted(transcripts, key=lambda each: ctm_place(each.recording))))


FORMATS = {
    "text": Format(".txt", format_text, _several_text),
    "json": Format(".json", format_json, _several_json),
    "ctm": Format(".ctm", format_ctm, _several_ctm),
    "srt": Format(".srt", format_srt, None),
    "vtt": Format(".vtt", format_vtt, None),
    "tsv": Format(".tsv", format_tsv, None),
}
"""Formats by their name in `biglittle transcribe --format`."""


class TranscriptWriter:
    """Writes transcripts to standard output, one file, or a folder with one file per recording. No file is partial.

    Arguments
    ---------
    format : str
        One of `FORMATS`.
    path : str
        A file; a folder, which exists or ends in a slash; or None for standard output.
    several : bool
        Whether there is more than one recording; the output then names each.

    Raises
    ------
    ValueError
        Before any work: if several recordings are to go into one file of a format that holds only one, or the file's
        folder is missing.
    """

    def __init__(self, format: str, path: str | None, several: bool) -> None:
        self.format = FORMATS[format]
        self.several = several
        self.folder = Path(path) if path is not None and (path.endswith("/") or Path(path).is_dir()) else None
        self.file = Path(path) if path is not None and self.folder is None else None
        self._results: list[Transcript | Failure] = []
        if several and self.format.several is None and self.folder is None:
            raise ValueError(
                f"{format} holds one recording a file; give a folder for the output (ending in a slash if it is new)."
            )
        if self.file is not None and not self.file.parent.is_dir():
            raise ValueError(f"{self.file.parent}: no such folder; make it, or write the output elsewhere.")

    def check(self, recording: Recording) -> None:
        """Refuse a recording whose name cannot be that of a file in the output folder.

        Raises
        ------
        ValueError
            If it leads out of the folder, or has control characters, such as a newline.
        """
        if self.folder is not None:
            inside(recording.name, self.format.suffix)

    def add(self, result: Transcript | Failure) -> None:
        """Add a result; a transcript for a folder is written at once.

        Raises
        ------
        OSError
            If writing fails.
        ValueError
            As for :meth:`check`.
        """
        if self.folder is None or isinstance(result, Failure):
            self._results.append(result)
            return
        path = self.folder / inside(result.recording.name, self.format.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.format.one(result))

    def finish(self, order: Sequence[str]) -> None:
        """Write the single output in the order of these names; write nothing if nothing was transcribed."""
        places = {name: place for place, name in enumerate(order)}
        results = sorted(self._results, key=lambda each: places[each.recording.name])
        transcripts = [each for each in results if isinstance(each, Transcript)]
        failures = [each for each in results if isinstance(each, Failure)]
        if not transcripts:
            return
        if self.several and self.format.several is not None:
            text = self.format.several(transcripts, failures)
        else:
            text = self.format.one(transcripts[0])
        if self.file is None:
            # A character that the terminal's encoding lacks must not lose the words.
            encoding = sys.stdout.encoding or "utf-8"
            print(text.encode(encoding, "backslashreplace").decode(encoding), end="")
        else:
            write_atomically(self.file, text)


def inside(name: str, suffix: str) -> Path:
    """The relative path of a recording's output.

    Raises
    ------
    ValueError
        If the name leads out of the folder.

    Example
    -------
    >>> inside("calls/a", ".srt").as_posix()
    'calls/a.srt'
    >>> inside("../a", ".srt")
    Traceback (most recent call last):
    ...
    ValueError: '../a' is no name for a file in the output folder; rename it.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(ord(character) < 32 for character in name):
        raise ValueError(f"{name!r} is no name for a file in the output folder; rename it.")
    return Path(*parts[:-1], parts[-1] + suffix)


def one_word(name: str) -> str:
    """A name without white space, for formats in which white space ends a name.

    Example
    -------
    >>> one_word("my call")
    'my_call'
    """
    return re.sub(r"\s+", "_", readable(name))


def readable(name: str) -> str:
    r"""A name that can be written as UTF-8: other bytes of a file's name become escapes.

    Example
    -------
    >>> print(readable(b"caf\xe9".decode("utf-8", "surrogateescape")))
    caf\xe9
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def captions(words: Sequence[Word]) -> list[list[Word]]:
    """Group words into captions that are shown together."""
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1] if groups else None
        if (
            last is not None
            and word.start - last[-1].end < CAPTION_PAUSE
            and word.end - last[0].start <= CAPTION_SECONDS[1]
            and _fits([*last, word])
        ):
            last.append(word)
        else:
            groups.append([word])
    return groups


def _fits(words: Sequence[Word]) -> bool:
    lines = textwrap.wrap(_joined(words), CAPTION_LINE, break_long_words=False, break_on_hyphens=False)
    return len(lines) <= CAPTION_LINES


def _joined(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def _displayed(words: Sequence[Word]) -> Iterator[tuple[int, int, str]]:
    """Yield the display of each caption: start and end in milliseconds, and the text in lines."""
    groups = captions(words)
    for shown, following in zip_longest(groups, groups[1:]):
        start = round(1000 * shown[0].start)
        end = max(round(1000 * shown[-1].end), start + round(1000 * CAPTION_SECONDS[0]))
        if following is not None:
            # A caption lasts, even if the next begins with it: transducers can emit many words in one frame.
            end = max(min(end, round(1000 * following[0].start)), start + 1)
        yield start, end, textwrap.fill(_joined(shown), CAPTION_LINE, break_long_words=False, break_on_hyphens=False)


def _clock(milliseconds: int, point: str = ".") -> str:
    """Format a time, as in 00:01:02.345."""
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
