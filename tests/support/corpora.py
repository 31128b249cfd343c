"""Small corpora in the layouts of real ones, and what can be wrong in them."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from biglittle_asr.corpora.checks import FAULTS
from support.repository import REPOSITORY

SAMPLE_RATE = 16000


def make_an4(folder: Path) -> Path:
    """Write AN4 as CMU packs it: lists, transcripts with and without sentence marks, SPHERE of either byte order."""
    sets = {
        "train": ("an4_clstk", [f"f{name}" for name in ("ash", "bbh", "clc", "ejs")] + [f"mab{n}x" for n in range(8)]),
        "test": ("an4test_clstk", ["fcaw", "mjgm"]),
    }
    (folder / "etc").mkdir(parents=True)
    for name, (set_folder, speakers) in sets.items():
        file_ids, transcripts = [], []
        for speaker in speakers:
            for index, words in enumerate(("yes", "RUBOUT  G M", "<s> ENTER TWO </s>")):
                utterance = f"an{index}-{speaker}-b"
                file_ids.append(f"{set_folder}/{speaker}/{utterance}\n")
                transcripts.append(f"{words} ({utterance})\n")
                wav = folder / "wav" / set_folder / speaker / f"{utterance}.sph"
                write_sphere(wav, num_samples=SAMPLE_RATE // 2 + index, byte_order="><"[index % 2])
        (folder / "etc" / f"an4_{name}.fileids").write_text("".join(file_ids))
        (folder / "etc" / f"an4_{name}.transcription").write_text("".join(transcripts))
    return folder


def make_librispeech(folder: Path) -> Path:
    """Write LibriSpeech as OpenSLR packs it; one transcript file lacks the newline at its end."""
    for number, split in enumerate(("dev-clean", "test-clean", "train-clean-100")):
        for reader in (10 * number + 1, 10 * number + 2):
            chapter = folder / split / str(reader) / "77"
            chapter.mkdir(parents=True)
            lines = []
            for index in range(3):
                utterance = f"{reader}-77-{index:04d}"
                lines.append(f"{utterance} STEW FOR DINNER {'TURNIPS ' * index}".strip())
                soundfile.write(chapter / f"{utterance}.flac", tone(SAMPLE_RATE // 2 + index), SAMPLE_RATE)
            (chapter / f"{reader}-77.trans.txt").write_text("\n".join(lines))
    return folder


def make_speechocean762(folder: Path) -> Path:
    """Write speechocean762 as its repository has it: of every four speakers, a girl, a boy, a woman and a man."""
    sentences = ("WE CALL IT BEAR", "IT'S A BEAR", "WE SEE {}")
    lexicon = {"WE": ["W IY0"], "CALL": ["K AO0 L"], "IT": ["IH0 T"], "BEAR": ["B EH0 R"], "IT'S": ["IH0 T S"]}
    lexicon |= {"A": ["AH0", "EY0", "AH1"], "SEE": ["S IY0"], "TWO": ["T UW0"], "ZOOS": ["Z UW1 Z"]}
    for name, speakers in (("train", range(1, 9)), ("test", range(9, 13))):
        (folder / name).mkdir(parents=True)
        tables: dict[str, list[str]] = {each: [] for each in ("text", "wav.scp", "utt2spk", "spk2age", "spk2gender")}
        for number in speakers:
            speaker = f"{number:04d}"
            tables["spk2age"].append(f"{speaker}\t{6 if number % 4 < 2 else 21}\n")
            tables["spk2gender"].append(f"{speaker}\t{'fm'[number % 2]}\n")
            (folder / "WAVE" / f"SPEAKER{speaker}").mkdir(parents=True)
            for index, sentence in enumerate(sentences):
                utterance = f"{speaker}{index:05d}"
                wav = f"WAVE/SPEAKER{speaker}/{utterance}.WAV"
                tables["text"].append(f"{utterance}\t{sentence.format('TWO' if name == 'train' else 'ZOOS')}\n")
                tables["wav.scp"].append(f"{utterance}\t{wav}\n")
                tables["utt2spk"].append(f"{utterance} {speaker}\n")
                soundfile.write(folder / wav, tone(SAMPLE_RATE + index), SAMPLE_RATE, format="WAV")
        for each, lines in tables.items():
            (folder / name / each).write_text("".join(lines))
    (folder / "resource").mkdir()
    lines = [f"{word}\t{phones}\n" for word, each in lexicon.items() for phones in each]
    (folder / "resource" / "lexicon.txt").write_text("".join(lines))
    return folder


def make_folder(folder: Path, pairs: bool = False) -> Path:
    """Write somebody's recordings: 8 speakers with 4 each, and a list of them or a text beside each."""
    rows = ["path,text,speaker"]
    for speaker in ("anna", "bea", "carl", "dora", "emil", "fay", "gus", "hal"):
        (folder / speaker).mkdir(parents=True)
        for index in range(4):
            text = f"{speaker.capitalize()} says: {'turnips, ' * index}stew."
            wav = folder / speaker / f"{index}.flac"
            soundfile.write(wav, tone(SAMPLE_RATE // 2 + index), SAMPLE_RATE)
            rows.append(f'{speaker}/{wav.name},"{text}",{speaker}')
            if pairs:
                wav.with_suffix(".txt").write_text(f"{text}\n")
    if not pairs:
        (folder / "list.csv").write_text("\n".join(rows))
    return folder


@functools.cache
def telephone_corpora() -> Path:
    """Switchboard, Fisher and Hub5'00 as our generator makes them; of real digits where they are at hand."""
    from biglittle_asr.corpora.telephone.synthesis import Sizes, synthesize_telephone

    folder = Path(tempfile.mkdtemp(prefix="telephone"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    recordings = REPOSITORY.parent / "shared" / "data" / "fsdd" / "recordings"
    recordings = Path(os.environ.get("BIGLITTLE_FSDD", recordings))
    sizes = Sizes(switchboard=6, fisher=4, hub5=4, turns=4)
    return synthesize_telephone(folder, sizes, recordings if recordings.is_dir() else None)


def make_telephone(corpus: str, folder: Path) -> Path:
    """A copy of one of :func:`telephone_corpora`."""
    return shutil.copytree(telephone_corpora() / corpus, folder)


def write_sphere(path: Path, num_samples: int, byte_order: str = "<") -> None:
    """Write 16-bit NIST SPHERE byte by byte, so that no reader's library is also its own judge."""
    fields = (
        "NIST_1A\n   1024\n"
        f"sample_count -i {num_samples}\n"
        f"sample_rate -i {SAMPLE_RATE}\n"
        "sample_n_bytes -i 2\n"
        f"sample_byte_format -s2 {'01' if byte_order == '<' else '10'}\n"
        "channel_count -i 1\n"
        "sample_coding -s3 pcm\n"
        "end_head\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.round(tone(num_samples) * 32768).astype(f"{byte_order}i2")
    path.write_bytes(fields.encode().ljust(1024) + samples.tobytes())


FILE_FAULTS = [fault for fault in FAULTS if fault not in ("times", "unpaired")]
"""Faults of whole files: these have no times, and a text beside each."""


def break_audio(path: Path, fault: str) -> None:
    """Give an audio file a fault that preparation knows; whatever its name, it then holds WAV, if anything."""
    rate, good = SAMPLE_RATE, tone(SAMPLE_RATE // 2)
    broken = good.copy()
    broken[100] = np.nan
    samples = {
        "empty": good[:0],
        "channels": np.stack([good, good], axis=1),
        "sample_rate": good,
        "not_finite": broken,
        "silent": 0 * good,
        "too_short": good[: SAMPLE_RATE // 20],
        "too_long": np.tile(good, 122),
        "clipped": np.clip(20 * good, -1, 1),
    }
    if fault == "sample_rate":
        rate //= 2
    if fault == "missing":
        path.unlink()
    elif fault == "unreadable":
        path.write_bytes(b"this is no audio")
    else:
        subtype = "FLOAT" if fault == "not_finite" else "PCM_16"
        soundfile.write(path, samples.get(fault, good), rate, format="WAV", subtype=subtype)
    if fault == "truncated":
        os.truncate(path, path.stat().st_size // 2)


def break_an4(folder: Path, names: dict[str, str]) -> None:
    """Give utterances of AN4's training set faults, from their IDs to `biglittle_asr.corpora.checks.FAULTS`."""
    transcripts = folder / "etc" / "an4_train.transcription"
    text = transcripts.read_text()
    for name, fault in names.items():
        if fault == "no_words":
            text = re.sub(rf"^.*(?=\({name}\))", "", text, flags=re.MULTILINE)
        elif fault == "characters":
            text = re.sub(rf"(?=\({name}\))", "[NOISE] ", text)
        else:
            break_audio(next(folder.rglob(f"{name}.sph")), fault)
    transcripts.write_text(text)


def tone(num_samples: int) -> np.ndarray:
    """A quiet 440 Hz tone, float64 of shape (S,)."""
    return 0.1 * np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(num_samples))
