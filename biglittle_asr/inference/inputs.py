"""What a user may name as audio: files, folders, manifests, and standard input, as a list of recordings."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from biglittle_asr.corpora.audio import AUDIO_SUFFIXES
from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.corpora.shards import ShardMember, has_shards
from biglittle_asr.inference.audio import Recording

STANDARD_INPUT = "-"


def find_recordings(inputs: Sequence[str], spool: Path, channel: int | None = None) -> list[Recording]:
    """Make a list of what is to be transcribed; no audio is opened.

    Arguments
    ---------
    inputs : sequence of str
        Audio files; folders, all of whose audio is taken, in their subfolders too, sorted; manifests (*.csv with
        columns ID and wav, and of segments channel, start and duration), indices of shards among them; "-" for
        standard input. A recording is named by its ID in a manifest, by its path within a folder without the suffix, or
        else by the file's name without the suffix.
    spool : pathlib.Path
        Folder for a copy of standard input, or of another pipe: what cannot be read twice.
    channel : int
        See :class:`Recording`.

    Raises
    ------
    ValueError
        If a folder has no audio, a manifest is none, or two recordings have the same name.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "b.wav").touch(), (folder / "a.FLAC").touch(), (folder / "notes.txt").touch()
    >>> [recording.name for recording in find_recordings([str(folder), "c.wav"], folder)]
    ['a', 'b', 'c']
    """
    recordings = [recording for text in inputs for recording in _find(text, spool, channel)]
    paths: dict[str, Path | ShardMember] = {}
    for recording in recordings:
        if recording.name in paths:
            raise ValueError(
                f"{paths[recording.name]} and {recording.path} are both called {recording.name}; "
                "transcribe them apart, or name them in a manifest (a CSV file with columns ID and wav)."
            )
        paths[recording.name] = recording.path
    return recordings


def find_stream(text: str, channel: int | None = None) -> Recording:
    """What to read as it comes: an audio file, a pipe, or "-" for standard input.

    Raises
    ------
    ValueError
        If standard input is a terminal.

    Example
    -------
    >>> find_stream("talk.wav").name
    'talk'
    """
    if text == STANDARD_INPUT:
        _refuse_terminal()
        return Recording("stdin", Path("/dev/stdin"), channel, label="standard input")
    return Recording(Path(text).stem, Path(text), channel)


def _refuse_terminal() -> None:
    if sys.stdin.isatty():
        raise ValueError("standard input: is a terminal; pipe audio into it, as in `arecord | biglittle ...`.")


def _find(text: str, spool: Path, channel: int | None) -> list[Recording]:
    path = Path(text)
    if text == STANDARD_INPUT:
        _refuse_terminal()
        copy = spool / "standard input"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return [Recording("stdin", copy, channel, label="standard input")]
    if path.is_dir():
        if has_shards(path):
            raise ValueError(f"{path}: holds shards; name the index of one of its sets, such as {path / 'test.csv'}.")
        files = sorted(each for each in path.rglob("*") if _is_audio(each.relative_to(path)) and not each.is_dir())
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
    """The utterance of a manifest's row; a channel that it names itself goes before the user's."""
    recording = Recording.of_segment(row["ID"], row["wav"], row_segment(row))
    return recording if recording.channel is not None else replace(recording, channel=channel)


def _is_audio(path: Path) -> bool:
    """By its name; hidden files, such as the "._a.wav" that some systems leave on others' disks, are none."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not any(part.startswith(".") for part in path.parts)
