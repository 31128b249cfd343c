"""Turns audio named by a user (files, folders, manifests, standard input) into a list of recordings."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from biglittle_asr.audio import files as audio
from biglittle_asr.audio.files import AUDIO_SUFFIXES
from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.corpora.walk import is_litter
from biglittle_asr.inference.audio import Recording
from biglittle_asr.shards import has_shards

NAMED_SUFFIXES = 5
"""Number of suffixes, the most frequent ones, that the message about skipped files names."""
STANDARD_INPUT = "-"


def find_recordings(
    inputs: Sequence[str], spool: Path, channel: int | None = None, tell: Callable[[str], None] = lambda message: None
) -> list[Recording]:
    """List the recordings to be transcribed; no audio is opened.

    Arguments
    ---------
    inputs : sequence of str
        Audio files; folders, of which all audio is taken, subfolders included, sorted; manifests and indices of
        shards (*.csv with columns ID and wav, and for segments channel, start and duration); "-" for standard input.
        A recording's name is its ID in a manifest, its path within a folder without the suffix, or the file's name
        without the suffix.
    spool : pathlib.Path
        Folder for copies of standard input and other pipes, which cannot be read twice.
    channel : int
        See :class:`Recording`.
    tell : function of str
        Called with a message about what is skipped in a folder: linked folders, unreadable folders, pipes, and files
        without an audio suffix.

    Raises
    ------
    ValueError
        If standard input is closed or a terminal, a folder has no audio, a CSV file is not a manifest, or two
        recordings have the same name.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "b.wav").touch(), (folder / "a.FLAC").touch(), (folder / "notes.txt").touch()
    >>> [recording.name for recording in find_recordings([str(folder), "c.wav"], folder)]
    ['a', 'b', 'c']
    """
    recordings = [recording for text in inputs for recording in _find(text, spool, channel, tell)]
    paths: dict[str, object] = {}
    for recording in recordings:
        if recording.name in paths:
            raise ValueError(
                f"{paths[recording.name]} and {recording.path} are both called {recording.name}; "
                "transcribe them apart, or name them in a manifest (a CSV file with columns ID and wav)."
            )
        paths[recording.name] = recording.path
    return recordings


def find_stream(text: str, channel: int | None = None) -> Recording:
    """The recording to stream: an audio file, a pipe, or "-" for standard input.

    Raises
    ------
    ValueError
        If standard input is closed or a terminal.

    Example
    -------
    >>> find_stream("talk.wav").name
    'talk'
    """
    if text == STANDARD_INPUT:
        _check_standard_input()
        return Recording("stdin", audio.STANDARD_INPUT, channel, label="standard input")
    return Recording(Path(text).stem, Path(text), channel)


def _check_standard_input() -> None:
    # Python's stdin is None if the descriptor was closed, as `<&-` does.
    if sys.stdin is None:
        raise ValueError("standard input: is closed; pipe audio into it, as in `arecord | biglittle ...`.")
    if sys.stdin.isatty():
        raise ValueError("standard input: is a terminal; pipe audio into it, as in `arecord | biglittle ...`.")


def _find(text: str, spool: Path, channel: int | None, tell: Callable[[str], None]) -> list[Recording]:
    path = Path(text)
    if text == STANDARD_INPUT:
        _check_standard_input()
        copy = spool / "standard input"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return [Recording("stdin", copy, channel, label="standard input")]
    if path.is_dir():
        if has_shards(path):
            raise ValueError(f"{path}: holds shards; name the index of one of its sets, such as {path / 'test.csv'}.")
        files = sorted(_audio_inside(path, tell))
        if not files:
            raise ValueError(f"{path}: holds no audio ({', '.join(sorted(AUDIO_SUFFIXES))}); check the folder.")
        return [Recording(each.relative_to(path).with_suffix("").as_posix(), each, channel) for each in files]
    if path.suffix.lower() == ".csv":
        return [_recording(row, channel) for row in read_manifest(path, ("ID", "wav"))]
    if path.is_fifo():
        copy = spool / path.name
        with path.open("rb") as source, copy.open("wb") as file:
            shutil.copyfileobj(source, file)
        return [Recording(path.stem, copy, channel, label=text)]
    return [Recording(path.stem, path, channel)]


def _recording(row: Mapping[str, str], channel: int | None) -> Recording:
    """The utterance of a manifest's row; a channel named in the row takes precedence over the user's."""
    recording = Recording.of_segment(row["ID"], row["wav"], row_segment(row))
    return recording if recording.channel is not None else replace(recording, channel=channel)


def _audio_inside(top: Path, tell: Callable[[str], None]) -> Iterator[Path]:
    """Find files with audio suffixes in a folder and its subfolders; report what is skipped, except litter."""
    others: Counter[str] = Counter()
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            tell(f"{folder}: left out, for it cannot be read ({error.strerror}); check its permissions.")
            continue
        for entry in entries:
            path = Path(entry.path)
            if is_litter(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_dir():
                tell(f"{path}: left out, for it is a link to another folder; name it to have it read.")
            elif path.suffix.lower() not in AUDIO_SUFFIXES:
                others[path.suffix.lower() or "no suffix"] += 1
            elif path.exists() and not entry.is_file():
                tell(f"{path}: left out, for it is a pipe or device; name it to have it read.")
            else:
                yield path
    if others:
        kinds = [f"{count} {suffix}" for suffix, count in others.most_common(NAMED_SUFFIXES)]
        kinds += ["others"] if len(others) > NAMED_SUFFIXES else []
        tell(f"{top}: {others.total()} files left out, whose names do not end as audio's do ({', '.join(kinds)}).")
