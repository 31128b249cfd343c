"""The audio of utterances in a page: small MP3 files inside it, or links to the files beside it."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile

from biglittle_asr.audio.files import AudioFile
from biglittle_asr.audio.resample import Resampler
from biglittle_asr.report.experiments import Audio
from biglittle_asr.shards import ShardMember

SAMPLE_RATES = (8000, 16000)
"""Sample rates inside a page, in Hz; audio of another rate gets the higher one. MP3 has not every rate."""
LONGEST = 60.0
"""Seconds of the longest utterance inside a page."""
COMPRESSION = 0.8
"""Of MP3 with a variable rate, from 0 to 1: about 28 kbit/s of read speech at 16 kHz."""


def embed(audio: Iterable[Audio | None], limit: int) -> list[str]:
    """Compress utterances until a page would grow by more than a limit.

    Arguments
    ---------
    audio : iterable of Audio or None
        The audio of the utterances, in their order in the page; None where it is not known.
    limit : int
        Bytes.

    Returns
    -------
    list of str
        MP3 files in base64, of the first utterances; "" for one that cannot be read or is longer than `LONGEST`.

    Raises
    ------
    ValueError
        If the installed libsndfile cannot write MP3.
    """
    if "MP3" not in soundfile.available_formats():
        raise ValueError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot write MP3; install 1.1 or newer, or leave audio out."
        )
    files: list[str] = []
    size = 0
    for each in audio:
        file = ""
        if each is not None and each.wav and each.duration <= LONGEST:
            with suppress(OSError, ValueError):
                file = base64.b64encode(compress(each)).decode("ascii")
        size += len(file)
        if size > limit:
            break
        files.append(file)
    return files


def compress(audio: Audio) -> bytes:
    """One channel of an utterance as an MP3 file.

    Raises
    ------
    OSError, ValueError
        If its file cannot be read.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros(48000), 48000)
    >>> soundfile.info(io.BytesIO(compress(Audio(1.0, str(path))))).samplerate
    16000
    """
    with AudioFile(audio.wav) as file:
        segment = audio.segment if audio.segment.channel is not None else audio.segment._replace(channel=1)
        samples, rate = file.read(segment), file.sample_rate
    if rate not in SAMPLE_RATES:
        samples, rate = np.concatenate(list(Resampler(rate, SAMPLE_RATES[-1])([samples]))), SAMPLE_RATES[-1]
    written = io.BytesIO()
    soundfile.write(
        written, samples, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE",
        compression_level=COMPRESSION,
    )  # fmt: skip
    return written.getvalue()


def link(audio: Audio | None, folder: Path) -> str:
    """Relative address of an utterance's audio from a page in a folder; empty if there is no such file.

    The address of a part of a recording ends in its times, by which browsers play that part only.

    Example
    -------
    >>> from biglittle_asr.audio.files import Segment
    >>> folder = getfixture("tmp_path")
    >>> (folder / "a b.wav").touch()
    >>> link(Audio(1.0, str(folder / "a b.wav"), Segment(1, 2.0, 1.5)), folder / "reports")
    '../a%20b.wav#t=2,3.5'
    """
    if audio is None or not audio.wav or ShardMember.parse(audio.wav) is not None or not os.path.isfile(audio.wav):
        return ""
    relative = os.path.relpath(Path(audio.wav).resolve(), folder.resolve())
    # A colon in the first part of an address would end a scheme's name.
    address = quote(os.fsencode(Path(relative).as_posix() if relative.startswith("..") else f"./{relative}"))
    if audio.segment.duration is None:
        return address
    return f"{address}#t={audio.segment.start:g},{audio.segment.start + audio.segment.duration:g}"
