"""Small corpora in the layouts of Switchboard, Fisher and Hub5'00, for demonstrations and tests without LDC's data.

    python -m biglittle_asr.corpora.telephone.synthesis OUT [--recordings fsdd/recordings]

Two people say digits to each other. The digits are cut from the 8 kHz recordings of the Free Spoken Digit Dataset, or
synthesized by espeak-ng if those are not available. Files are named and written as LDC's are, including marks;
OUT/said.csv lists the words and their times without marks. The readers share no code with this module, so each can test
the other. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from biglittle_asr.corpora.synthesis.espeak import Espeak

SAMPLE_RATE = 8000
DIGITS = {
    "zero": "z iy r ow",
    "one": "w ah n",
    "two": "t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f ay v",
    "six": "s ih k s",
    "seven": "s eh v ax n",
    "eight": "ey t",
    "nine": "n ay n",
}
"""Words and their phones."""
VOICES = ("en-us+f2", "en-us+m3", "en+f4", "en-us+m7", "en-gb-x-rp+f5", "en-gb-scotland+m1")
RATES = (110, 130)
"""Rates of synthesized digits, in words per minute."""
CLIPS = 10
"""Recordings of each digit taken from each speaker."""
NOISE_LEVEL = 0.002
"""Noise level of a line on which nobody speaks, relative to full scale."""
MARGIN = 0.1
"""Seconds that a segment extends beyond its turn at both ends."""

FRAGMENTS = 0.05
"""Fraction of words that are cut off."""

Clip = npt.NDArray[np.float64]
Voice = Mapping[str, Sequence[Clip]]
"""Recordings of each word by one speaker."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the corpora."""

    seed: int = 1
    """Seed of all random choices."""
    switchboard: int = 8
    """Number of Switchboard conversations."""
    fisher: int = 4
    """Number of Fisher calls, half of them in each part."""
    hub5: int = 4
    """Number of Hub5'00 conversations, half of each kind, with speakers who are in no other set."""
    turns: int = 6
    """Turns per side."""


class Word(NamedTuple):
    """A word, or the beginning of one, in a conversation."""

    said: str
    """The spoken part, with a hyphen if it is cut off."""
    meant: str
    start: float
    """Seconds."""
    stop: float
    """Seconds."""


class Turn(NamedTuple):
    """A stretch of speech by one side."""

    side: str
    start: float
    """Seconds."""
    stop: float
    """Seconds."""
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Conversation:
    """A conversation between two sides."""

    name: str
    turns: tuple[Turn, ...]
    """Turns in order of time."""
    channels: Clip
    """Shape (S, 2)."""

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.channels) / SAMPLE_RATE

    def side(self, side: str) -> list[Turn]:
        """Turns of one side."""
        return [turn for turn in self.turns if turn.side == side]


def synthesize_telephone(
    folder: str | PathLike[str], sizes: Sizes | None = None, recordings: str | PathLike[str] | None = None
) -> Path:
    """Make the three corpora, in folders `switchboard`, `fisher` and `hub5`.

    Arguments
    ---------
    folder : path
        Folder for the corpora; new or empty.
    sizes : Sizes, optional
        Sizes and seed.
    recordings : path, optional
        The folder `recordings` of the Free Spoken Digit Dataset; by default, speech is synthesized.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ModuleNotFoundError
        If speech is synthesized and espeakng-loader is not installed.
    FileNotFoundError
        If there are no recordings.
    ValueError
        If the folder is not empty.

    Example
    -------
    >>> folder = synthesize_telephone(getfixture("tmp_path") / "calls", Sizes(switchboard=1, fisher=0, hub5=0))
    >>> sorted(path.name for path in folder.rglob("*.sph"))
    ['sw02001.sph']
    """
    folder, sizes = Path(os.path.expanduser(folder)), sizes or Sizes()
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: not empty; choose another folder.")
    voices = speak_digits() if recordings is None else read_digits(Path(recordings))
    names = sorted(voices)
    strangers, familiar = names[:2], names[2:]
    said: list[tuple[object, ...]] = []

    def call(name: str, speakers: Sequence[str]) -> tuple[Conversation, random.Random]:
        rng = random.Random(f"{sizes.seed} {name}")
        first, second = rng.sample(speakers, 2)
        conversation = converse(name, (voices[first], voices[second]), sizes.turns, rng)
        for turn in conversation.turns:
            words = " ".join(word.said for word in turn.words).upper()
            said.append((name, turn.side, f"{turn.start:.2f}", f"{turn.stop:.2f}", words))
        return conversation, rng

    write_lexicon(folder / "switchboard")
    for number in range(2001, 2001 + sizes.switchboard):
        write_switchboard(folder / "switchboard", *call(f"sw0{number}", familiar))
    for number in range(1, 1 + sizes.fisher):
        part = 1 if number <= sizes.fisher // 2 else 2
        write_fisher(folder / "fisher", part, *call(f"fe_03_{number if part == 1 else 5850 + number:05}", familiar))
    calls = [
        call(f"sw_{4390 + number}" if number % 2 else f"en_{4156 + number}", strangers) for number in range(sizes.hub5)
    ]
    write_hub5(folder / "hub5", calls)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("recording", "side", "start", "stop", "words"), *said])
    write_text(folder / "said.csv", text.getvalue())
    return folder


# Speech


def read_digits(folder: Path) -> dict[str, Voice]:
    """Read some recordings of each digit by each speaker of the Free Spoken Digit Dataset: 7_jackson_32.wav."""
    voices: dict[str, dict[str, list[Clip]]] = {}
    words = list(DIGITS)
    for path in sorted(folder.glob("[0-9]_*_*.wav")):
        digit, speaker, _ = path.stem.split("_")
        clips = voices.setdefault(speaker, {word: [] for word in words})[words[int(digit)]]
        if len(clips) < CLIPS:
            clips.append(soundfile.read(path)[0])
    if len(voices) < 4:
        raise FileNotFoundError(f"{folder}: holds no recordings of four speakers or more, such as 7_jackson_32.wav.")
    return dict(voices)


def speak_digits() -> dict[str, Voice]:
    """Synthesize every digit with several voices of espeak-ng."""
    with Espeak() as espeak:

        def speak(word: str, voice: str, rate: int) -> Clip:
            clip = espeak.speak_at(SAMPLE_RATE, word, voice, rate, 50)
            loud = np.flatnonzero(np.abs(clip) > 0.02 * np.abs(clip).max())
            return np.asarray(clip[loud[0] : loud[-1] + 1])

        return {voice: {word: [speak(word, voice, rate) for rate in RATES] for word in DIGITS} for voice in VOICES}


def converse(name: str, voices: tuple[Voice, Voice], turns: int, rng: random.Random) -> Conversation:
    """Make a conversation of two speakers who take turns; sometimes one begins before the other ends."""
    spoken: list[Turn] = []
    clips: list[tuple[int, float, Clip]] = []
    time = 0.5
    for number in range(2 * turns):
        channel = number % 2
        start, words = round(time, 2), []
        time = start + MARGIN
        for _ in range(rng.randint(1, 4)):
            meant = rng.choice(list(DIGITS))
            clip = rng.choice(voices[channel][meant])
            said = meant
            if rng.random() < FRAGMENTS:
                said, clip = f"{meant[:2]}-", clip[: len(clip) // 2]
            clip = clip * (rng.uniform(0.2, 0.6) / np.abs(clip).max())
            clips.append((channel, time, clip))
            words.append(Word(said, meant, time, time + len(clip) / SAMPLE_RATE))
            time = words[-1].stop + rng.uniform(0.02, 0.15)
        stop = round(words[-1].stop + MARGIN, 2)
        spoken.append(Turn("AB"[channel], start, stop, tuple(words)))
        time = stop + rng.uniform(-0.2, 0.6)
    generator = np.random.default_rng(rng.getrandbits(32))
    channels = NOISE_LEVEL * generator.standard_normal((round((time + 1) * SAMPLE_RATE), 2))
    for channel, begin, clip in clips:
        first = round(begin * SAMPLE_RATE)
        channels[first : first + len(clip), channel] += clip
    return Conversation(name, tuple(spoken), channels)


# Files


def write_text(path: Path, text: str) -> None:
    """Write a text file; its folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_sphere(path: Path, conversation: Conversation) -> None:
    """Write a NIST SPHERE file of two channels, mu-law at 8 kHz."""
    content = io.BytesIO()
    soundfile.write(content, conversation.channels, SAMPLE_RATE, format="RAW", subtype="ULAW")
    fields = (
        "NIST_1A\n   1024\n"
        f"conversation_id -s{len(conversation.name)} {conversation.name}\n"
        "channel_count -i 2\n"
        f"sample_count -i {len(conversation.channels)}\n"
        f"sample_rate -i {SAMPLE_RATE}\n"
        "sample_n_bytes -i 1\n"
        "sample_byte_format -s1 1\n"
        "sample_coding -s4 ulaw\n"
        "end_head\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(fields.encode().ljust(1024) + content.getvalue())


def write_lexicon(folder: Path) -> None:
    """Write the pronunciations of all words, and of their beginnings."""
    lines = [f"{word} {phones}" for word, phones in DIGITS.items()]
    lines += [f"{word[:2]}[{word[2:]}]- {' '.join(phones.split()[:2])}" for word, phones in DIGITS.items()]
    text = "# words and their phones\n" + "".join(f"{line}\n" for line in lines)
    write_text(folder / "swb_ms98_transcriptions" / "sw-ms98-dict.text", text)


def write_switchboard(folder: Path, conversation: Conversation, rng: random.Random) -> None:
    """Write a recording and transcripts as in Switchboard: segments, including silence, that cover the whole time."""
    write_sphere(folder / "LDC97S62" / "swb1_d1" / "data" / f"{conversation.name}.sph", conversation)
    number = conversation.name[3:]
    for side in "AB":
        name = f"sw{number}{side}-ms98-a"
        segments: list[tuple[float, float, str, tuple[Word, ...]]] = []
        time = 0.0
        for turn in conversation.side(side):
            segments.append((time, turn.start, "[silence]", ()))
            segments.append((turn.start, turn.stop, _switchboard_text(turn, rng), turn.words))
            time = turn.stop
        segments.append((time, conversation.seconds, "[silence]", ()))
        lines, words = [], []
        for index, (start, stop, text, spoken) in enumerate(segments, start=1):
            lines.append(f"{name}-{index:04} {start:.6f} {stop:.6f} {text}\n")
            times = [(word.start, word.stop, word.said) for word in spoken] or [(start, stop, text)]
            words += [f"{name}-{index:04} {first:.6f} {last:.6f} {word}\n" for first, last, word in times]
        place = folder / "swb_ms98_transcriptions" / number[:2] / number
        write_text(place / f"{name}-trans.text", "".join(lines))
        write_text(place / f"{name}-word.text", "".join(words))


def _switchboard_text(turn: Turn, rng: random.Random) -> str:
    tokens = []
    for word in turn.words:
        if word.said != word.meant:
            tokens.append(f"{word.said[:-1]}[{word.meant[len(word.said) - 1 :]}]-")
            continue
        marks = (f"[laughter-{word.said}]", f"{{{word.said}}}", f"{word.said}_1", f"<b_aside> {word.said} <e_aside>")
        tokens.append(rng.choice(marks) if rng.random() < 0.15 else word.said)
    return _among(tokens, ("[noise]", "[vocalized-noise]", "[laughter]"), rng)


def write_fisher(folder: Path, part: int, conversation: Conversation, rng: random.Random) -> None:
    """Write a recording and transcript as in Fisher; part 1 has LDC's old folders for audio, part 2 its new ones."""
    disc = "fe_03_p1_sph1" if part == 1 else "fisher_eng_tr_sp_d1"
    hundred = conversation.name[6:9]
    write_sphere(folder / disc / "audio" / hundred / f"{conversation.name}.sph", conversation)
    text = f"# {conversation.name}.sph\n# Transcribed at the LDC\n\n"
    for turn in conversation.turns:
        words = [f"(({word.said}))" if rng.random() < 0.1 else word.said for word in turn.words]
        spoken = _among(words, ("[laugh]", "[noise]", "[sigh]"), rng)
        text += f"{turn.start:.2f} {turn.stop:.2f} {turn.side}: {spoken}\n\n"
    text += f"{conversation.seconds - 0.9:.2f} {conversation.seconds - 0.1:.2f} B: (( ))\n"
    write_text(folder / f"fe_03_p{part}_tran" / "data" / "trans" / hundred / f"{conversation.name}.txt", text)


def write_hub5(folder: Path, calls: Sequence[tuple[Conversation, random.Random]]) -> None:
    """Write recordings, segments (PEM), references (STM, with the errors of the real one) and mapping (GLM)."""
    if not calls:
        return
    # NIST's tools require an explanation of every label.
    stm = [';; LABEL "O" "Overall" "all conversations"', ';; LABEL "F" "Female" "all speakers"']
    for label, name in (("sw", "Switchboard"), ("en", "CallHome")):
        stm += [f';; LABEL "{label}" "{name}" "of {name}"', f';; LABEL "{label}-F" "{name}" "speakers of {name}"']
    pem = [";; recording, channel, speaker, start, stop"]
    for conversation, rng in calls:
        name, kind = conversation.name, conversation.name[:2]
        write_sphere(folder / "LDC2002S09" / "hub5e_00" / "english" / f"{name}.sph", conversation)
        for turn in conversation.turns:
            times = f"{turn.start:.2f} {turn.stop:.2f}"
            pem.append(f"{name} {turn.side} unknown_speaker {times}")
            labels = f"<O,{kind},F,{kind}-F>"
            stm.append(f"{name} {turn.side} {name}_{turn.side} {times} {labels} {_hub5_text(turn, rng)}")
        silence = f"{conversation.seconds - 0.90:.2f} {conversation.seconds - 0.10:.2f}"
        pem.append(f"{name} B unknown_speaker {silence}")
        stm.append(f"{name} B {name}_B {silence} <O,{kind},F,{kind}-F> IGNORE_TIME_SEGMENT_IN_SCORING")
    glm = [";; spellings that count as the same", '* name "en20000405_hub5.glm"', '* desc "digits"']
    glm += ["* copy_no_hit = 'T'", "[TOO] => [TWO] / [ ] __ [ ]", "[UM] => [(%HESITATION)] / [ ] __ [ ]"]
    glm += ["[UH] => [(%HESITATION)] / [ ] __ [ ]"]
    english, references = folder / "LDC2002S09" / "hub5e_00" / "english", folder / "LDC2002T43" / "reference"
    write_text(english / "hub5e_00.pem", "\n".join(pem) + "\n")
    write_text(references / "hub5e00.english.000405.stm", "\n".join(stm) + "\n")
    write_text(references / "en20000405_hub5.glm", "\n".join(glm) + "\n")


def _hub5_text(turn: Turn, rng: random.Random) -> str:
    spellings = {"two": "{ TWO / TOO }", "four": "{ FOUR / FOR }", "eight": "{ EIGHT / ATE }"}
    tokens = []
    for word in turn.words:
        # Words that are cut off need not be recognized.
        plain = word.said.upper() if word.said == word.meant else f"({word.said.upper()})"
        tokens.append(spellings[word.said] if word.said in spellings and rng.random() < 0.5 else plain)
    if rng.random() < 0.1:
        tokens = ["<B_ASIDE>", *tokens, "<E_ASIDE>"]
    return _among(tokens, ("(%HESITATION)", "((%HESITATION)"), rng)


def _among(tokens: Sequence[str], others: Sequence[str], rng: random.Random) -> str:
    """Join tokens; at random, one of the others comes first."""
    return " ".join([rng.choice(others), *tokens] if rng.random() < 0.2 else tokens)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `python -m biglittle_asr.corpora.telephone.synthesis`."""
    parser = argparse.ArgumentParser(
        prog="python -m biglittle_asr.corpora.telephone.synthesis",
        description="Make small corpora in the layouts of Switchboard, Fisher and Hub5'00.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder for the corpora")
    parser.add_argument("--recordings", type=Path, help="folder of the Free Spoken Digit Dataset (default: synthesis)")
    for field in fields(Sizes):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help="see class Sizes")
    options = vars(parser.parse_args(arguments))
    try:
        folder = synthesize_telephone(options.pop("out"), recordings=options.pop("recordings"), sizes=Sizes(**options))
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The corpora are in {folder}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
