"""Transcripts of large archives: a folder of parts with many recordings each, which a later run completes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biglittle_asr.files import InvalidJSON, parse_json, read_json, text_lines, write_atomically
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import Failure, Transcript
from biglittle_asr.inference.transcripts import FORMATS, ctm_place, readable
from biglittle_asr.messages import show, unknown

SETTINGS, FAILURES = "settings.json", "failures.jsonl"
PART = re.compile(r"part-(\d{6,})\.jsonl")
FORM = {"json": None, "text": FORMATS["text"], "ctm": FORMATS["ctm"]}
"""Format -> what is written beside each part's JSON lines."""
PART_AUDIO, PART_TIME = 36_000.0, 60.0
"""A part is written when it has so many seconds of audio, a few tens of MB of words in memory, or when the last one is
so many seconds old, which bounds what a killed run loses."""


class TranscriptArchive:
    """A folder of transcripts in parts. Each file is written atomically.

    `part-000000.jsonl`, `part-000001.jsonl` and so on have a line for each recording, with the JSON object that
    `biglittle transcribe --json` prints for it. Beside each is a `.txt` or `.ctm` if that format is wanted. A part is
    sorted by recording, channel and start; if results are added in this order, so are all parts together.
    `failures.jsonl` lists the recordings that the latest run could not transcribe, and `settings.json` has what decides
    the words.

    Arguments
    ---------
    folder : pathlib.Path
        Made if missing.
    form : str
        One of `FORM`.
    settings : mapping
        What the words depend on, as JSON has it. A folder of other settings is refused.

    Raises
    ------
    OSError, ValueError
        If the folder cannot be used, has transcripts of other settings, or a file in it is damaged.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "out"
    >>> recordings = [Recording(name, Path(f"{name}.wav")) for name in "ba"]
    >>> with TranscriptArchive(folder, "text", {"model": "0a1b"}) as archive:
    ...     pending = archive.pending(recordings)
    ...     archive.add(Transcript(pending[0], 1.5, ()))
    >>> [each.name for each in pending], sorted(path.name for path in folder.iterdir())
    (['a', 'b'], ['failures.jsonl', 'part-000000.jsonl', 'part-000000.txt', 'settings.json'])
    >>> [each.name for each in TranscriptArchive(folder, "text", {"model": "0a1b"}).pending(recordings)]
    ['b']
    """

    def __init__(self, folder: Path, form: str, settings: Mapping[str, Any]) -> None:
        if form not in FORM:
            raise ValueError(unknown("format of an archive", form, FORM))
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file; name a folder for the transcripts.")
        self.folder, self.form = folder, FORM[form]
        self.done = frozenset(_done(folder))
        """Names of the recordings whose transcripts were there at the beginning, as files have them."""
        self.failures: list[Failure] = []
        """Recordings that could not be transcribed in this run."""
        self._transcripts: list[Transcript] = []
        self._audio, self._written = 0.0, time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._number = max((number for number, _ in _parts(folder)), default=-1) + 1
        _check_settings(folder, {"format": form, **settings}, bool(self.done))

    def pending(self, recordings: Sequence[Recording]) -> list[Recording]:
        """The recordings that have no transcript yet, sorted by recording, channel and start.

        Raises
        ------
        ValueError
            If the names of two recordings cannot be told apart in files.
        """
        names: dict[str, Recording] = {}
        for each in recordings:
            name = readable(each.name)
            if name in names:
                raise ValueError(f"{names[name].path} and {each.path} are both called {name}; rename one.")
            names[name] = each
        left = [each for name, each in names.items() if name not in self.done]
        return sorted(left, key=ctm_place)

    def add(self, result: Transcript | Failure) -> None:
        """Add a result, and write a part if it is time to."""
        if isinstance(result, Failure):
            self.failures.append(result)
            return
        self._transcripts.append(result)
        self._audio += result.duration
        if self._audio >= PART_AUDIO or time.monotonic() - self._written >= PART_TIME:
            self.write()

    def write(self) -> None:
        """Write what was added since the last part as a part."""
        transcripts = sorted(self._transcripts, key=lambda each: ctm_place(each.recording))
        if transcripts:
            path = self.folder / f"part-{self._number:06}.jsonl"
            # The JSON lines come last, because a recording is done when it is in them.
            if self.form is not None and self.form.several is not None:
                write_atomically(path.with_suffix(self.form.suffix), self.form.several(transcripts, []))
            write_atomically(path, "".join(map(FORMATS["json"].one, transcripts)))
            self._number += 1
        self._transcripts, self._audio, self._written = [], 0.0, time.monotonic()

    def __enter__(self) -> TranscriptArchive:
        return self

    def __exit__(self, *_: object) -> None:
        """Write the last part and the report, also of a run that is interrupted."""
        self.write()
        lines = [
            {"name": each.recording.name, "path": each.recording.label or str(each.recording.path), "error": each.error}
            for each in sorted(self.failures, key=lambda each: ctm_place(each.recording))
        ]
        readables = ({key: readable(str(value)) for key, value in line.items()} for line in lines)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in readables)
        write_atomically(self.folder / FAILURES, text)


def _parts(folder: Path) -> list[tuple[int, Path]]:
    found = ((PART.fullmatch(path.name), path) for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted((int(match[1]), path) for match, path in found if match)


def _done(folder: Path) -> Iterator[str]:
    """Names of the recordings in the parts of a folder."""
    for _, path in _parts(folder):
        for place, line in text_lines(path):
            try:
                found = parse_json(line)
            except InvalidJSON as error:
                raise ValueError(
                    f"{place}: {error} Remove the file to have its recordings transcribed again."
                ) from None
            if not isinstance(found, dict) or not isinstance(found.get("name"), str):
                raise ValueError(f"{place}: is {show(found)}, but must be a transcript; remove the file.")
            yield found["name"]


def _check_settings(folder: Path, settings: Mapping[str, Any], begun: bool) -> None:
    """Refuse to add to transcripts of other settings; otherwise write the settings down."""
    path = folder / SETTINGS
    # As it will be read.
    settings = json.loads(json.dumps(settings))
    if begun:
        before = read_json(path, advice=f"take another folder than {folder}")
        if not isinstance(before, dict):
            raise ValueError(f"{path}: is {show(before)}, but must be an object; take another folder.")
        other = [name for name in settings if before.get(name) != settings[name]]
        if other:
            raise ValueError(
                f"{folder}: has transcripts of another {other[0]} ({show(before.get(other[0]))}, now "
                f"{show(settings[other[0]])}); take another folder."
            )
    write_atomically(path, json.dumps(settings, indent=1) + "\n")
