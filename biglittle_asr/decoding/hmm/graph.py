"""HCLG: a language model's sentences as a graph over the network's outputs (Mohri, Pereira & Riley 2008).

    G   words to words: an ARPA language model
    L   phones to words: the lexicon, with optional silence before, between and after words
    C   phones in context to phones
    H   outputs to phones in context: the HMM states

An input label is an output of the network plus 1; 0 marks arcs that consume no frame. A state entered by a label has a
self-loop with that label.

Needs kaldifst and kaldilm: `pip install 'biglittle-asr[hybrid]'`.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from biglittle_asr.decoding.hmm.tying import Integers, Tying
from biglittle_asr.extras import missing_extra
from biglittle_asr.tokens.lexicon import Lexicon, Pronunciation

try:
    import kaldifst
    import kaldilm  # noqa: F401  (used in a process of its own)
except ImportError as error:
    raise ValueError(missing_extra("decoding graphs need kaldifst and kaldilm", "hybrid", error)) from error

EPSILON = 0
BACKOFF, SENTENCE_START, SENTENCE_END = "#0", "<s>", "</s>"
SILENCE_PROBABILITY = 0.5
"""Probability of silence at each place where it is allowed."""

TIE_COST = 0.01
"""Extra cost of the second of two homophones; it is small enough to decide only ties."""

LONGEST_CHAIN = 256
"""Largest number of consecutive arcs that consume no frame. An n-gram model has one per word of back-off; a search
would never leave a cycle of such arcs."""

CONVERT = f"""
import sys, kaldilm
arguments = dict(disambig_symbol="{BACKOFF}", read_symbol_table=sys.argv[2], max_arpa_warnings=0)
sys.stdout.write(kaldilm.arpa2fst(sys.argv[1], "", **arguments))
"""
"""Program that prints G as text, given the ARPA file and the table of words."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A decoding graph from network outputs to words."""

    fst: Any
    """kaldifst.StdVectorFst from outputs plus 1 to words."""
    words: tuple[str, ...]
    """The word of each output label; label 0 is the empty word."""

    @property
    def num_states(self) -> int:
        """Number of states."""
        return int(self.fst.num_states)

    @property
    def num_arcs(self) -> int:
        """Number of arcs."""
        return sum(self.fst.num_arcs(state) for state in range(self.num_states))

    def vocabulary(self) -> frozenset[str]:
        """Words on the graph's paths, which are those in both the lexicon and the language model."""
        return frozenset(self.words[label] for label in np.unique(Arcs.of(self.fst).outputs).tolist() if label)

    def write(self, folder: str | PathLike[str]) -> None:
        """Write HCLG.fst and words.txt, with Kaldi's file names."""
        folder = Path(folder)
        if not self.fst.write(str(folder / "HCLG.fst")):
            raise OSError(f"{folder / 'HCLG.fst'}: cannot be written.")
        lines = [f"{word or '<eps>'} {label}\n" for label, word in enumerate(self.words)]
        (folder / "words.txt").write_text("".join(lines), encoding="utf-8")


def build_graph(
    lexicon: Lexicon, tying: Tying, language_model: str | PathLike[str], counts: Mapping[str, int] | None = None
) -> Graph:
    """Build HCLG.

    Arguments
    ---------
    lexicon : Lexicon
        A lexicon with the phones of `tying`. All pronunciations of a word are equally likely.
    tying : Tying
    language_model : path
        A file in ARPA format. Its words that are not in the lexicon are omitted.
    counts : mapping from word to int, optional
        Number of occurrences of words in training. The most frequent of several homophones wins if the language model
        finds them equally likely. Without counts, the first in alphabetical order wins.

    Raises
    ------
    FileNotFoundError
        If there is no such language model.
    ValueError
        If it is not an ARPA file, or has no sentence whose words are all in the lexicon.
    """
    words = sorted(lexicon.pronunciations)
    symbols = {word: label for label, word in enumerate(["<eps>", *words, BACKOFF, SENTENCE_START, SENTENCE_END])}
    grammar = _grammar(Path(language_model), symbols)
    phones = {phone: label for label, phone in enumerate(tying.phones, start=1)}
    backoff = len(phones) + 1
    dictionary, last = _dictionary(lexicon, symbols, phones, backoff, counts or {})
    kaldifst.arcsort(dictionary, sort_type="olabel")
    composed = kaldifst.compose(dictionary, grammar)
    if not any(arc.olabel for arc in _arc_objects(composed)):
        raise ValueError(
            f"{language_model}: the graph is empty, as none of its sentences has only words of the "
            "lexicon; use a language model and a lexicon that match."
        )
    kaldifst.determinize_star(composed)
    kaldifst.minimize_encoded(composed)
    in_context, windows = kaldifst.compose_context(range(backoff, last + 1), 3, 1, composed)
    rows = _rows(tying, windows)
    kaldifst.arcsort(in_context, sort_type="ilabel")
    composed = kaldifst.compose(rows, in_context)
    kaldifst.determinize_star(composed)
    arcs = Arcs.of(composed)
    # Remove the labels that kept homophones apart.
    arcs.inputs[arcs.inputs > tying.size] = EPSILON
    simplified = arcs.compile()
    kaldifst.minimize_encoded(simplified)
    return Graph(Arcs.of(simplified).with_self_loops().compile(), ("", *words))


def _grammar(path: Path, symbols: dict[str, int]) -> Any:
    """Build G from an ARPA file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such language model; check the path.")
    with TemporaryDirectory() as folder:
        table = Path(folder, "words.txt")
        table.write_text("".join(f"{word} {label}\n" for word, label in symbols.items()), encoding="utf-8")
        # Use a separate process, since kaldilm exits the process on an error.
        command = [sys.executable, "-c", CONVERT, str(path), str(table)]
        process = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if process.returncode:
        faults = [line.removeprefix("[E] ") for line in process.stderr.splitlines() if line.startswith("[E]")]
        reason = (faults or ["kaldilm cannot read it"])[0].strip(". ")
        raise ValueError(f"{path}: is not a language model in ARPA format ({reason}); correct it, or check the path.")
    grammar = kaldifst.compile(process.stdout)
    kaldifst.arcsort(grammar, sort_type="ilabel")
    return grammar


def _dictionary(
    lexicon: Lexicon, symbols: dict[str, int], phones: dict[str, int], backoff: int, counts: Mapping[str, int]
) -> tuple[Any, int]:
    """Build L, with disambiguation labels after ambiguous pronunciations; return L and the last of these labels."""
    marks = _marks(lexicon, counts)
    after_silence = backoff + max(marks.values(), default=0) + 1
    silence = phones[lexicon.silence]
    with_silence, without = -math.log(SILENCE_PROBABILITY), -math.log(1 - SILENCE_PROBABILITY)
    start, loop, pause, marked = range(4)
    lines = [
        _line(start, loop, EPSILON, EPSILON, without),
        _line(start, pause, EPSILON, EPSILON, with_silence),
        _line(pause, marked, silence, EPSILON),
        _line(marked, loop, after_silence, EPSILON),
    ]
    free = 4
    for word, pronunciations in sorted(lexicon.pronunciations.items()):
        for pronunciation in pronunciations:
            labels = [phones[phone] for phone in pronunciation]
            if (word, pronunciation) in marks:
                labels.append(backoff + marks[word, pronunciation])
            rarity = TIE_COST * (marks.get((word, pronunciation), 1) - 1)
            state = loop
            for index, label in enumerate(labels[:-1]):
                lines.append(_line(state, free, label, symbols[word] if index == 0 else EPSILON))
                state, free = free, free + 1
            spoken = symbols[word] if len(labels) == 1 else EPSILON
            lines.append(_line(state, loop, labels[-1], spoken, without + rarity))
            lines.append(_line(state, pause, labels[-1], spoken, with_silence + rarity))
    lines.append(f"{loop}\n")
    dictionary = kaldifst.compile("".join(lines))
    kaldifst.add_self_loops(dictionary, [backoff], [symbols[BACKOFF]])
    return dictionary, after_silence


def _marks(lexicon: Lexicon, counts: Mapping[str, int]) -> dict[tuple[str, Pronunciation], int]:
    """Number the pronunciations that another word shares or extends, from 1 for the most frequent word."""
    sharing: dict[Pronunciation, list[str]] = {}
    for word, pronunciations in sorted(lexicon.pronunciations.items()):
        for pronunciation in pronunciations:
            sharing.setdefault(pronunciation, []).append(word)
    begun = {phones[:length] for phones in sharing for length in range(1, len(phones))}
    return {
        (word, phones): number
        for phones, words in sharing.items()
        if len(words) > 1 or phones in begun
        for number, word in enumerate(sorted(words, key=lambda word: -counts.get(word, 0)), start=1)
    }


def _rows(tying: Tying, windows: Sequence[Sequence[int]]) -> Any:
    """Build H: the outputs of each window of phones (left, phone, right); other symbols pass unchanged."""
    lines = []
    free, label = 1, tying.size
    for window_label, window in enumerate(windows):
        if not window:
            continue
        if len(window) < 3:
            # A disambiguation label, or the start symbol of C.
            label += 1
            lines.append(_line(0, 0, label, window_label))
            continue
        # At the edge of an utterance, C has 0, which counts as silence; C numbers phones from 1.
        left, phone, right = (max(symbol - 1, 0) for symbol in window)
        outputs = tying.table[phone, : tying.num_states(phone), left, right]
        state = 0
        for position, output in enumerate(outputs.tolist()):
            following = 0 if position + 1 == len(outputs) else free
            lines.append(_line(state, following, output + 1, window_label if position == 0 else EPSILON))
            state, free = free, free + bool(following)
    lines.append("0\n")
    rows = kaldifst.compile("".join(lines))
    kaldifst.arcsort(rows, sort_type="olabel")
    return rows


def _line(source: int, target: int, label: int, output: int, cost: float = 0.0) -> str:
    return f"{source} {target} {label} {output} {cost!r}\n"


def _arc_objects(fst: Any) -> Iterable[Any]:
    for state in kaldifst.StateIterator(fst):
        yield from kaldifst.ArcIterator(fst, state)


@dataclass
class Arcs:
    """A graph as arrays of arcs."""

    start: int
    sources: Integers
    targets: Integers
    inputs: Integers
    outputs: Integers
    costs: npt.NDArray[np.float64]
    final: dict[int, float]

    @classmethod
    def of(cls, fst: Any) -> Arcs:
        lines = [line.split() for line in fst.to_str(show_weight_one=True).splitlines()]
        arcs = [line for line in lines if len(line) > 2]
        final = {int(line[0]): float(line[1]) for line in lines if len(line) == 2}
        numbers = np.array([line[:4] for line in arcs], np.int32).reshape(-1, 4)
        costs = np.array([float(line[4]) for line in arcs])
        sources, targets, inputs, outputs = numbers.T
        return cls(fst.start, sources, targets, inputs, outputs, costs, final)

    def compile(self) -> Any:
        # The source state of the first line is the initial state.
        order = np.argsort(self.sources != self.start, kind="stable")
        rows = zip(
            *(each[order].tolist() for each in (self.sources, self.targets, self.inputs, self.outputs, self.costs)),
            strict=True,
        )
        lines = ["{} {} {} {} {!r}\n".format(*row) for row in rows]
        lines += [f"{state} {cost!r}\n" for state, cost in self.final.items()]
        fst = kaldifst.compile("".join(lines))
        kaldifst.arcsort(fst, sort_type="ilabel")
        return fst

    def silent_levels(self) -> list[npt.NDArray[np.int64]]:
        """Indices of the arcs that consume no frame, sorted so that arcs into a state precede arcs out of it.

        Raises
        ------
        ValueError
            If such arcs form a cycle, or more than `LONGEST_CHAIN` of them follow each other.
        """
        left = np.flatnonzero(self.inputs == EPSILON)
        levels: list[npt.NDArray[np.int64]] = []
        while len(left):
            waits = np.isin(self.sources[left], self.targets[left])
            if waits.all() or len(levels) == LONGEST_CHAIN:
                raise ValueError(f"the graph has cycles or chains of over {LONGEST_CHAIN} arcs that consume no frame")
            levels.append(left[~waits])
            left = left[waits]
        return levels

    def with_self_loops(self) -> Arcs:
        """Copy each state for every label that leads to it, and give each copy a self-loop with that label."""
        entries = np.stack([self.targets, self.inputs], 1)
        entries = np.unique(np.concatenate([entries, [[self.start, EPSILON]]]), axis=0)
        states, labels = entries.T
        index = {(state, label): number for number, (state, label) in enumerate(entries.tolist())}
        targets = np.array([index[pair] for pair in zip(self.targets.tolist(), self.inputs.tolist(), strict=True)])
        # Copies of a state are adjacent, and so are the arcs out of it.
        order = np.argsort(self.sources, kind="stable")
        sorted_sources = self.sources[order]
        lows, highs = (np.searchsorted(sorted_sources, states, side=side) for side in ("left", "right"))
        copies = np.repeat(np.arange(len(states)), highs - lows)
        offsets = np.arange(len(copies)) - np.repeat(np.cumsum(highs - lows) - (highs - lows), highs - lows)
        arcs = order[lows[copies] + offsets]
        loops = np.flatnonzero(labels != EPSILON)
        zeros = np.zeros(len(loops))
        return Arcs(
            index[self.start, EPSILON],
            np.concatenate([copies, loops]).astype(np.int32),
            np.concatenate([targets[arcs], loops]).astype(np.int32),
            np.concatenate([self.inputs[arcs], labels[loops]]),
            np.concatenate([self.outputs[arcs], zeros.astype(np.int32)]),
            np.concatenate([self.costs[arcs], zeros]),
            {number: self.final[state] for number, state in enumerate(states.tolist()) if state in self.final},
        )
