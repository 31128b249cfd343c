"""Random STM, CTM and GLM files that hold all that NIST's scoring knows, and NIST's own tools to judge by."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from biglittle_asr.scoring.alignment import CORRECT, DELETION, INSERTION, SUBSTITUTION
from biglittle_asr.scoring.nist.graph_alignment import (
    EDIT_COST,
    NULL_COST,
    NULL_PAIR_COST,
    OPTIONAL_COST,
    SUBSTITUTION_COST,
)
from biglittle_asr.scoring.nist.wordgraph import Vocabulary, WordGraph, graph_of_text

HAS_SCTK = shutil.which("sctk") is not None
"""Whether NIST's tools are installed, as Debian's package `sctk` has them."""

# Few words, so that many alignments cost the same.
WORDS = ["a", "b", "c", "A", "word", "lord", "wor", "i've", "air", "lines", "wal-mart", "uh-huh", "ö"]
FRAGMENTS = ["wor-", "-ord", "a-", "-b", "w-", "-"]
HESITATIONS = ["uh", "um", "%hesitation"]
SPECIAL = ["b;tag", r"a\;b", "c*", "*", "@", "a/c"]

GLMS = {
    # csrfilt crashes without any rule.
    "idle": ";;\nNEVER SAID => NEVERSAID\n",
    "rules": """;; Rules with alternatives and contexts
* name "rules"
[I'VE] => [{I'VE / I HAVE}] / [ ] __ [ ]
[UH] => [%HESITATION] / [ ] __ [ ]
 AIR LINES => AIRLINES
[LORD] => [{LORD / LOR {D / DE}}] / [ ] __ [ ]
WAL-MART => WALMART
A => AA / [B ] __ []
;; INPUT_DEPENDENT_APPLICATION = "ctm"
[UM] => [%HESITATION] / [ ] __ [ ]
;; INPUT_DEPENDENT_APPLICATION = "ref"
[UM] => [(%HESITATION)] / [ ] __ [ ]
""",
    "any case": """;;
* case_sensitive = 'F'
[i've] => [i have] / [ ] __ [ ]
b => c
[c] => [{c / @}] / [ ] __ [ ]
;; INPUT_DEPENDENT_APPLICATION = ""
a => never
""",
}
"""Mapping rules by name."""


def random_example(seed: int, recordings: int, for_hubscr: bool) -> tuple[str, str]:
    """An STM and a CTM.

    Arguments
    ---------
    seed : int
        The same seed gives the same example.
    recordings : int
        How many; each with one or two channels, whose segments overlap, have gaps between them, are empty, or do not
        count. Every channel has a speaker of its own, whose name begins with the recording's.
    for_hubscr : bool
        Leave out marks of alternatives, which hubscr.pl sorts to the front; put lines in any order, as it sorts them.
    """
    draw = random.Random(seed)
    stm, ctm = [';; LABEL "O" "Overall" "All"', ';; LABEL "odd" "Odd" "Odd"'], []
    for number in range(recordings):
        recording = f"{draw.choice(['sw', 'en', 'fe'])}_{number:04}"
        for channel in "AB"[: draw.randint(1, 2)]:
            segments, words = _random_channel(draw, for_hubscr)
            stm += [f"{recording} {channel} {recording}_{channel} {segment}" for segment in segments]
            ctm += [f"{recording} {channel} {word}" for word in words]
    if for_hubscr:
        draw.shuffle(stm)
        draw.shuffle(ctm)
    return "".join(f"{line}\n" for line in stm), "".join(f"{line}\n" for line in ctm)


def random_trn(seed: int, utterances: int) -> tuple[str, str]:
    """Reference and hypothesis as trn files, with alternatives, optional words, fragments and tags on both sides.

    IDs differ in case; every utterance has a speaker of its own, so that sclite counts it alone.
    """
    draw = random.Random(seed)
    sides: tuple[list[str], list[str]] = ([], [])
    for number in range(utterances):
        text = _random_text(draw, draw.choice([1, 2, 3, 5, 8, 13]), 2)
        heard = [draw.choice([*WORDS, *HESITATIONS]) if draw.random() < 0.3 else word for word in _plain_words(text)]
        heard = [word for word in heard if draw.random() < 0.9]
        if heard and draw.random() < 0.3:
            heard.insert(draw.randrange(len(heard)), _random_text(draw, draw.randint(1, 2), 1))
        speaker = draw.choice(["u", "U"])
        sides[0].append(f"{text} ({speaker}{number:05}-{number % 7})")
        sides[1].append(f"{' '.join(heard)} ({draw.choice([speaker, speaker.swapcase()])}{number:05}-{number % 7})")
    draw.shuffle(sides[1])
    return "".join(f"{line}\n" for line in sides[0]), "".join(f"{line}\n" for line in sides[1])


def random_graphs(seed: int, pairs: int) -> tuple[list[WordGraph], list[WordGraph], Vocabulary]:
    """References and hypotheses with alternatives on both sides; many hypotheses are like their references."""
    draw = random.Random(seed)
    vocabulary = Vocabulary(optional=draw.random() < 0.7, fragments=draw.random() < 0.7)
    sides: tuple[list[WordGraph], list[WordGraph]] = ([], [])
    for _ in range(pairs):
        text = _random_text(draw, draw.choice([0, 1, 2, 5, 13]), draw.choice([0, 2, 3]))
        heard = " ".join(word for word in _plain_words(text) if draw.random() < 0.9)
        heard = draw.choice([text, heard, heard, _random_text(draw, draw.choice([0, 1, 5, 13]), draw.choice([0, 1]))])
        for side, each in zip(sides, (text, heard), strict=True):
            side.append(graph_of_text(each, vocabulary))
    return *sides, vocabulary


def plain_alignment(reference: WordGraph, hypothesis: WordGraph, vocabulary: Vocabulary) -> list[tuple[str, str, str]]:
    """The alignment that sclite finds, cell by cell: operation, reference word and hypothesis word of each step.

    Steps that do not count are left out.
    """
    words, recognized = reference.words, hypothesis.words
    null, optional = (marks().tolist() for marks in (vocabulary.nulls, vocabulary.optionals))
    edit = [NULL_COST if null[word] else OPTIONAL_COST if optional[word] else EDIT_COST for word in range(len(null))]
    costs, back = {(0, 0): np.float32(0)}, {}
    for r in range(len(words)):
        for h in range(len(recognized)):
            if not r and not h:
                continue
            befores, others = _predecessors(reference, r), _predecessors(hypothesis, h)
            both_null = null[words[r]] and null[recognized[h]]
            equal = vocabulary.equal(words[r], recognized[h])
            substitution = NULL_PAIR_COST if both_null else np.float32(0) if equal else SUBSTITUTION_COST
            # In the order of preference; `min` takes the first of equal ones.
            options = [([(i, j) for i in befores for j in others], substitution)]
            options += [([(r, j) for j in others], edit[recognized[h]]), ([(i, h) for i in befores], edit[words[r]])]
            costs[r, h], back[r, h] = min(
                (
                    (costs[cell] + cost, cell)
                    for cells, cost in options
                    if cells
                    for cell in [min(cells, key=costs.get)]
                ),
                key=lambda option: option[0],
            )
    steps, cell = [], min(((r, h) for r in reference.last for h in hypothesis.last), key=costs.get)
    while cell != (0, 0):
        before = back[cell]
        word, other = (
            side[place] if place != previous else 0
            for side, place, previous in zip((words, recognized), cell, before, strict=True)
        )
        if not (null[word] or not word) or not (null[other] or not other):
            if word and other:
                operation = CORRECT if vocabulary.equal(word, other) else SUBSTITUTION
            else:
                operation = CORRECT if optional[word or other] else DELETION if word else INSERTION
            steps.append((operation, vocabulary.texts[word], vocabulary.texts[other]))
        cell = before
    return steps[::-1]


def _predecessors(graph: WordGraph, place: int) -> tuple[int, ...]:
    if graph.previous is not None:
        return graph.previous[place]
    return (place - 1,) if place else ()


def _random_channel(draw: random.Random, for_hubscr: bool) -> tuple[list[str], list[str]]:
    time, segments, words = 0.0, [], []
    for _ in range(draw.randint(1, 6)):
        time += draw.choice([0.0, 0.0, 0.01, 0.73])
        length = draw.choice([0, 1, 2, 3, 5, 8, 13])
        end = time + draw.choice([0.1, 0.37, 0.3 * length + 0.2])
        text = _random_text(draw, length, 2)
        if draw.random() < 0.05:
            text = "IGNORE_TIME_SEGMENT_IN_SCORING"
        label = draw.choice(["", "<O> ", "<O,odd> "])
        segments.append(f"{time:.2f} {end:.2f} {label}{text}".rstrip())
        heard = [draw.choice([*WORDS, *HESITATIONS]) if draw.random() < 0.3 else word for word in _plain_words(text)]
        words += _random_words(draw, heard, time, end, for_hubscr)
        # Segments of a channel may overlap.
        time = draw.choice([end, end, end - 0.05])
    if not words:
        words = [(time, f"{time:.2f} 0.10 a")]
    words.sort(key=lambda word: word[0])
    if draw.random() < 0.1:
        draw.shuffle(words)
        draw.shuffle(segments)
    return segments, [line for _, lines in words for line in lines.split("\n")]


def _random_text(draw: random.Random, length: int, depth: int) -> str:
    parts = []
    for _ in range(length):
        kind = draw.random()
        if kind < 0.12 and depth:
            options = [_random_text(draw, draw.randint(1, 2), depth - 1) for _ in range(draw.randint(1, 3))]
            slash, (opening, closing) = draw.choice([" / ", "/"]), draw.choice([("{ ", " }"), ("{", "}")])
            parts.append(f"{opening}{slash.join([*options, *draw.choice([[], ['@']])])}{closing}")
        elif kind < 0.2:
            optional = draw.choice(["(uh)", "(um)", "(a)", "(wor-)", "(-ord)", "(uh um)" if depth == 2 else "(b)"])
            parts.append(optional.replace(" ", ") ("))
        elif kind < 0.28:
            parts.append(draw.choice(FRAGMENTS))
        elif kind < 0.3:
            parts.append(draw.choice(SPECIAL))
        else:
            parts.append(draw.choice([*WORDS, *HESITATIONS]))
    return " ".join(parts)


def _plain_words(text: str) -> list[str]:
    return [word for word in re.sub(r"[{}()/]|IGNORE\S*", " ", text).split() if word != "@"]


def _random_words(
    draw: random.Random, heard: list[str], start: float, end: float, for_hubscr: bool
) -> list[tuple[float, str]]:
    lines = []
    for index, word in enumerate(heard):
        if draw.random() < 0.1:
            continue
        # Middles on the very end of a segment happen, and words beyond it.
        time = start + (end - start) * index / len(heard) + draw.choice([0.0, 0.0, 0.02, 0.4])
        duration = draw.choice([0.0, 0.1, 0.14, 0.3, 2 * max(end - time, 0.0)])
        confidence = f" {draw.random():.3f}" if draw.random() < 0.5 else ""
        if draw.random() < 0.05:
            word = draw.choice(["(uh)", "(a)", *FRAGMENTS, *([] if for_hubscr else SPECIAL)])
        line = f"{time:.2f} {duration:.2f} {word}{confidence}"
        if not for_hubscr and draw.random() < 0.1:
            others = "\n".join(
                f"{time:.2f} {draw.choice([0.1, 0.3])} {draw.choice(WORDS)}" for _ in range(draw.randint(1, 2))
            )
            none = draw.choice(["", "\n* * <ALT>", f"\n* * <ALT>\n{time:.2f} 0.1 @"])
            line = f"* * <ALT_BEGIN>\n{line}\n* * <ALT>\n{others}{none}\n* * <ALT_END>"
        lines.append((float(f"{time:.2f}"), line))
    return lines


def counts_of_sclite(folder: Path, *options: str, formats: tuple[str, str] = ("stm", "ctm")) -> dict[str, list[int]]:
    """What sclite counts of ref.stm and hyp.ctm by speaker, as its .raw file has it, from segments to wrong ones.

    With the formats ("trn", "trn") it is ref.trn and hyp.trn.
    """
    files = ["-r", f"ref.{formats[0]}", formats[0], "-h", f"hyp.{formats[1]}", formats[1]]
    named = ["-i", "rm"] if formats[0] == "trn" else []
    command = ["sctk", "sclite", *files, *named, *options, "-o", "rsum", "-n", "counts"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return _raw_counts(folder / "counts.raw")


def comparison_of_sc_stats(folder: Path, *options: str) -> tuple[int, float, float]:
    """What sc_stats finds of one.ctm against two.ctm by the matched-pairs test: pieces, mean difference and Z."""
    align = f"sctk sclite -r ref.stm stm -h $s.ctm ctm $s {' '.join(options)} -o sgml stdout -f 0"
    command = f"for s in one two; do {align}; done | grep -v '^$' | sctk sc_stats -p -t mapsswe -v -n compared"
    report = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout
    for path in folder.glob("compared*"):
        report += path.read_text()
    found = re.search(r"# segs: (\d+)\).*?mean: *(-?[\d.]+)\).*?Z Stat: *(-?[\d.]+)\)", report)
    return int(found[1]), float(found[2]), float(found[3])


def counts_of_hubscr(folder: Path) -> dict[str, list[int]]:
    """What hubscr.pl counts of ref.stm and hyp.ctm with rules.glm by speaker, as `counts_of_sclite`."""
    command = "sctk hubscr.pl -V -l english -h hub5 -g rules.glm -r ref.stm hyp.ctm".split()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return _raw_counts(folder / "hyp.ctm.filt.raw")


def _raw_counts(path: Path) -> dict[str, list[int]]:
    counts = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        found = re.match(r"\s*\|\s*(\S+)\s*\|\s*(\d+)\s+(\d+)\s*\|((?:\s*\d+){6})\s*\|", line)
        if found:
            counts[found[1]] = [int(number) for number in (found[2], found[3], *found[4].split())]
    return counts
