"""Copies of recordings in the format that recipes need: one channel, at one sample rate.

People record at 44.1 or 48 kHz, in stereo. Training reads every recording once per epoch, so the conversion is done
once, when the corpus is prepared.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from tqdm import tqdm

from biglittle_asr.audio.files import WHOLE, AudioFile, AudioFileError
from biglittle_asr.audio.resample import SAMPLE_RATES, Resampler
from biglittle_asr.corpora.checks import Finding, cut_overshoot
from biglittle_asr.corpora.manifest import RECORD_NAME
from biglittle_asr.corpora.splitting import stable_hash
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.files import replacing

logger = logging.getLogger(__name__)

FOLDER_NAME = "audio"
BLOCK_VALUES = 2**17
"""Samples per channel that are read at once."""


def convert_audio(
    corpus: str, splits: Mapping[str, Sequence[Utterance]], output_folder: Path, sample_rate: int
) -> dict[str, list[Utterance]]:
    """Convert recordings with another sample rate, or several channels and none named, to 16-bit FLAC files.

    Arguments
    ---------
    corpus : str
        Name for messages.
    splits : mapping from split name to utterances
    output_folder : pathlib.Path
        The copies go into its folder `audio`. Their names depend on their source, so copies that an earlier run made,
        even an interrupted one, are used again.
    sample_rate : int
        Hz.

    Returns
    -------
    dict from split name to utterances
        The converted ones have their copy for `wav`. Recordings that cannot be read stay as they are; a fault that the
        original file would not show is added.
    """
    utterances = [each for members in splits.values() for each in members if not each.findings]
    folder = output_folder.absolute() / FOLDER_NAME
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        differs = list(pool.map(lambda each: _differs(each, sample_rate), utterances))
        wanted = [each for each, different in zip(utterances, differs, strict=True) if different]
        if not wanted:
            return {name: list(members) for name, members in splits.items()}

        def convert(utterance: Utterance) -> Utterance:
            try:
                with AudioFile(utterance.wav) as file:
                    if not SAMPLE_RATES[0] <= file.sample_rate <= SAMPLE_RATES[1]:
                        raise AudioFileError(f"{utterance.wav}: {file.sample_rate} Hz", "sample_rate")
                    copy = _name_copy(utterance, folder, sample_rate)
                    if not copy.is_file():
                        _write(copy, Resampler(file.sample_rate, sample_rate)(_read(file, utterance)), sample_rate)
            except AudioFileError as error:
                reason = str(error).removeprefix(f"{utterance.wav}: ").rstrip(".")
                return replace(utterance, findings=(Finding(error.fault, reason),))
            return replace(utterance, wav=copy, segment=WHOLE)

        folder.mkdir(parents=True, exist_ok=True)
        # The output may lie in the data folder: this keeps an interrupted run's copies from being found as recordings.
        (output_folder / RECORD_NAME).touch()
        title = f"{corpus}: converting audio"
        progress = tqdm(pool.map(convert, wanted), title, len(wanted), unit="file", delay=1, disable=None)
        done = {utterance.id: utterance for utterance in progress}
    logger.info(
        f"{corpus}: {len(wanted)} of {len(utterances)} recordings have several channels, or not {sample_rate} Hz; "
        f"their copies in {folder} have one channel at {sample_rate} Hz."
    )
    return {name: [done.get(each.id, each) for each in members] for name, members in splits.items()}


def _differs(utterance: Utterance, sample_rate: int) -> bool:
    """Whether to convert a recording; not if it cannot be opened, and the checks report why."""
    try:
        with AudioFile(utterance.wav) as file:
            several = file.channels > 1 and utterance.segment.channel is None
            return several or file.sample_rate != sample_rate
    except (OSError, AudioFileError):
        return False


def _name_copy(utterance: Utterance, folder: Path, sample_rate: int) -> Path:
    status = utterance.wav.stat()
    source = (os.fspath(utterance.wav), status.st_size, status.st_mtime_ns, *utterance.segment, sample_rate)
    name = re.sub(r"\W+", "_", utterance.id, flags=re.ASCII)[:60]
    return folder / f"{name}-{stable_hash(repr(source))[:12]}.flac"


def _read(file: AudioFile, utterance: Utterance) -> Iterator[npt.NDArray[np.float32]]:
    """Yield samples (S,) of an utterance in blocks; the mean of the channels, if it names none."""
    channel = utterance.segment.channel
    if channel is not None and not 1 <= channel <= file.channels:
        raise AudioFileError(f"{file.label}: has no channel {channel}, but {file.channels} in all", "channels")
    place = file.place(cut_overshoot(file, utterance.segment))
    for block in file.blocks(BLOCK_VALUES // file.channels, *place):
        yield block.mean(axis=1) if channel is None else block[:, channel - 1]


def _write(path: Path, blocks: Iterator[npt.NDArray[np.float32]], sample_rate: int) -> None:
    with (
        replacing(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, "PCM_16", format="FLAC") as file,
    ):
        for block in blocks:
            file.write(block)
