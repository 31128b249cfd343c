"""A synthetic speech corpus, for demonstrations and tests on machines without a recorded one.

    python -m biglittle_asr.corpora.synthesis OUT [--utterances 25] [--train-speakers 24] ...

It has spoken digit strings and short household commands, by espeak-ng in several voices, accents, rates and pitches, in
LibriSpeech's folder layout (FLAC at 16 kHz and .trans.txt), so that `prepare("librispeech", OUT, ...)` reads it.
No speaker and no sentence is in two splits. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from tqdm import tqdm

from biglittle_asr.corpora.synthesis.espeak import Espeak
from biglittle_asr.files import replacing_folder

SAMPLE_RATE = 16000
RECORD_NAME = "synthesis.json"
READERS_NAME = "SPEAKERS.TXT"

VOICES = (
    *("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
    *("Alicia", "Andrea", "Annie", "anika", "aunty", "belinda", "grandma", "linda", "steph", "steph2"),
    *("Alex", "Denis", "Diogo", "Gene", "Lee", "Marco", "Mario", "Michael", "Mike", "adam", "antonio", "benjamin"),
    *("boris", "david", "ed", "edward", "grandpa", "ian", "iven", "john", "max", "paul", "pedro", "rob", "robert"),
    *("steph3", "travis", "victor", "zac"),
)
"""espeak-ng's voice variants that sound human."""
ACCENTS = ("en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland")
RATES = (100, 150)
"""Slowest and fastest speaker, in words per minute: slow enough for 40 ms per character, as CTC needs at stride 4."""
PITCHES = (35, 65)
"""Lowest and highest pitch, on espeak-ng's scale of 0 to 100."""
NOISE_DB = (25.0, 45.0)
"""Lowest and highest signal-to-noise ratio, in dB."""
PEAKS = (0.2, 0.9)
"""Quietest and loudest utterance, by the largest sample."""

SLOTS = {
    "digit": ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"),
    "state": ("ON", "OFF"),
    "room": ("KITCHEN", "BEDROOM", "GARDEN"),
    "device": ("LIGHT", "RADIO", "HEATER"),
    "action": ("OPEN", "CLOSE"),
    "part": ("DOOR", "WINDOW"),
    "direction": ("LEFT", "RIGHT", "FORWARD"),
}
TEMPLATES = (
    "digit digit",
    "digit digit digit",
    "digit digit digit digit",
    "digit digit digit digit digit",
    "CALL digit digit digit digit",
    "TURN state THE room device",
    "TURN state THE device",
    "action THE room part",
    "GO direction digit STEPS",
    "PLAY digit digit",
)
"""Sentences: words in upper case are spoken; each other word is a slot, replaced by one of its fillers."""
SHARES = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0)}
"""The share of all possible sentences that belongs to each split."""


@dataclass(frozen=True)
class Recipe:
    """The parameters of a corpus; the same parameters give the same bytes."""

    seed: int = 1
    """Seed of all random choices."""
    train_speakers: int = 24
    """Speakers of the split `train`."""
    dev_speakers: int = 4
    """Speakers of the split `dev`."""
    test_speakers: int = 6
    """Speakers of the split `test`."""
    utterances: int = 25
    """Utterances of each train speaker."""
    held_out_utterances: int = 10
    """Utterances of each dev or test speaker."""

    def splits(self) -> dict[str, tuple[int, int]]:
        """Number of speakers, and of utterances per speaker, by split."""
        return {
            "train": (self.train_speakers, self.utterances),
            "dev": (self.dev_speakers, self.held_out_utterances),
            "test": (self.test_speakers, self.held_out_utterances),
        }


@dataclass(frozen=True)
class Speaker:
    """One voice at one rate and pitch."""

    reader: str
    """Number, as in LibriSpeech."""
    split: str
    """Name of the split folder."""
    voice: str
    """espeak-ng's accent and variant."""
    rate: int
    """Words per minute."""
    pitch: int
    """Pitch on espeak-ng's scale, 0 to 100."""


def synthesize(folder: str | PathLike[str], recipe: Recipe | None = None) -> Path:
    """Make a speech corpus in LibriSpeech's layout, with splits `train`, `dev` and `test`.

    A folder that already holds this corpus is left as it is.

    Arguments
    ---------
    folder : path
        Folder for the corpus. It must be new, empty, or made by this function.
    recipe : Recipe, optional
        Sizes and seed.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ModuleNotFoundError
        If espeakng-loader is not installed.
    ValueError
        If the recipe has too few or too many speakers, or the folder holds something else.

    Example
    -------
    >>> small = Recipe(train_speakers=2, dev_speakers=1, test_speakers=1, utterances=2, held_out_utterances=1)
    >>> corpus = synthesize(getfixture("tmp_path") / "corpus", small)
    >>> sorted(path.name for path in corpus.iterdir())
    ['SPEAKERS.TXT', 'dev', 'synthesis.json', 'test', 'train']
    >>> len(list(corpus.glob("train/*/*/*.flac")))
    4
    """
    folder = Path(os.path.expanduser(folder))
    recipe = recipe or Recipe()
    speakers = choose_speakers(recipe)
    record = json.dumps(asdict(recipe), indent=1) + "\n"
    if _is_complete(folder, recipe, record):
        return folder
    if folder.exists() and any(folder.iterdir()) and not (folder / RECORD_NAME).is_file():
        raise ValueError(f"{folder}: not empty, and not made by this synthesis; choose another folder.")

    with replacing_folder(folder) as partial:
        _speak_all(partial, speakers, recipe)
        lines = [f"{each.reader} | {each.split} | {each.voice} | {each.rate} | {each.pitch}\n" for each in speakers]
        header = "; reader | split | espeak-ng voice | words a minute | pitch (0-100)\n"
        (partial / READERS_NAME).write_text(header + "".join(lines), encoding="utf-8", newline="\n")
        (partial / RECORD_NAME).write_text(record, encoding="utf-8", newline="\n")
    return folder


def choose_speakers(recipe: Recipe) -> list[Speaker]:
    """Draw the speakers of all splits; dev and test share no voice with train or with each other.

    Arguments
    ---------
    recipe : Recipe
        Sizes and seed.

    Returns
    -------
    list of Speaker
        Train may have several speakers with one voice, at different rates and pitches.

    Raises
    ------
    ValueError
        If there are too few or too many speakers.

    Example
    -------
    >>> [speaker.split for speaker in choose_speakers(Recipe(train_speakers=2, dev_speakers=1, test_speakers=1))]
    ['train', 'train', 'dev', 'test']
    """
    for split, sizes in recipe.splits().items():
        if min(sizes) < 1:
            raise ValueError(
                f"{split}: {sizes[0]} speakers of {sizes[1]} utterances each make no split; use 1 or more."
            )
    held_out = recipe.dev_speakers + recipe.test_speakers
    if held_out >= len(VOICES):
        raise ValueError(
            f"dev and test: {held_out} speakers leave none of the {len(VOICES)} voices to train; use fewer."
        )
    rng = random.Random(recipe.seed)
    voices = rng.sample(VOICES, len(VOICES))
    of_split = {"dev": voices[: recipe.dev_speakers], "test": voices[recipe.dev_speakers : held_out]}
    of_train = voices[held_out:]
    speakers: list[Speaker] = []
    for split, (count, _) in recipe.splits().items():
        of_this = of_split.get(split, of_train)
        for index in range(count):
            voice = f"{rng.choice(ACCENTS)}+{of_this[index % len(of_this)]}"
            speakers.append(Speaker(str(101 + len(speakers)), split, voice, rng.randint(*RATES), rng.randint(*PITCHES)))
    return speakers


def sentences(split: str, rng: random.Random) -> Iterator[str]:
    """Draw sentences without end; the sentence alone determines which split may speak it.

    Arguments
    ---------
    split : str
        A key of `SHARES`.
    rng : random.Random
        Source of the random choices.

    Yields
    ------
    str
        Words in upper case.

    Example
    -------
    >>> next(sentences("train", random.Random(1)))
    'CLOSE THE GARDEN WINDOW'
    """
    lowest, highest = SHARES[split]
    while True:
        template = rng.choice(TEMPLATES)
        sentence = " ".join(rng.choice(SLOTS.get(word, (word,))) for word in template.split())
        share = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4], "big") / 2**32
        if lowest <= share < highest:
            yield sentence


def _speak_all(folder: Path, speakers: list[Speaker], recipe: Recipe) -> None:
    splits = recipe.splits()
    total = sum(count * utterances for count, utterances in splits.values())
    bar = tqdm(total=total, desc="synthesizing speech", unit="utterance", delay=1, disable=None)
    with Espeak() as espeak, bar as progress:
        for speaker in speakers:
            chapter = folder / speaker.split / speaker.reader / "1"
            chapter.mkdir(parents=True)
            drawn = sentences(speaker.split, random.Random(f"{recipe.seed} {speaker.reader}"))
            generator = np.random.default_rng((recipe.seed, int(speaker.reader)))
            transcripts = []
            for index in range(splits[speaker.split][1]):
                sentence = next(drawn)
                utterance_id = f"{speaker.reader}-1-{index:04d}"
                spoken = espeak.speak_at(SAMPLE_RATE, sentence.lower(), speaker.voice, speaker.rate, speaker.pitch)
                recorded = _record(spoken, generator)
                soundfile.write(chapter / f"{utterance_id}.flac", recorded, SAMPLE_RATE, subtype="PCM_16")
                transcripts.append(f"{utterance_id} {sentence}\n")
                progress.update()
            text = "".join(transcripts)
            (chapter / f"{speaker.reader}-1.trans.txt").write_text(text, encoding="utf-8", newline="\n")


def _record(speech: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Vary level and background noise, as rooms and microphones do."""
    level = np.sqrt(np.mean(speech**2)) * 10 ** (-generator.uniform(*NOISE_DB) / 20)
    noisy = speech + level * generator.standard_normal(len(speech))
    return noisy * (generator.uniform(*PEAKS) / np.abs(noisy).max())


def _is_complete(folder: Path, recipe: Recipe, record: str) -> bool:
    path = folder / RECORD_NAME
    if not path.is_file() or path.read_text(encoding="utf-8") != record:
        return False
    return all(
        len(list(folder.glob(f"{split}/*/*/*.flac"))) == count * utterances
        for split, (count, utterances) in recipe.splits().items()
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line `python -m biglittle_asr.corpora.synthesis`."""
    parser = argparse.ArgumentParser(
        prog="python -m biglittle_asr.corpora.synthesis",
        description="Make a synthetic speech corpus in LibriSpeech's folder layout.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder for the corpus")
    default = Recipe()
    parser.add_argument("--seed", type=int, default=default.seed, help="seed of all random choices")
    parser.add_argument("--utterances", type=int, default=default.utterances, help="of each train speaker")
    parser.add_argument(
        "--held-out-utterances", type=int, default=default.held_out_utterances, help="of each dev or test speaker"
    )
    for split, (count, _) in default.splits().items():
        parser.add_argument(f"--{split}-speakers", type=int, default=count, help=f"speakers of {split}")
    options = vars(parser.parse_args(arguments))
    try:
        folder = synthesize(options.pop("out"), Recipe(**options))
    except (ImportError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The corpus is in {folder}.", file=sys.stderr)
    return 0
