"""Alignment of a transcribed utterance's frames with HMM states: Viterbi, and uniform as a start.

Silence is optional before, between and after words, and a word may have several pronunciations; the alignment chooses.
Ties go to the first state, so that every run gives the same alignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from biglittle_asr.decoding.hmm.tying import Integers, Reals, Tying
from biglittle_asr.tokens.lexicon import Lexicon

SILENCE = 0
"""Number of the silence phone, which is also the neighbor of an utterance's first and last phone."""
NO_WORD = -1
EDGE = -1
"""Marks the beginning of an utterance among predecessors, and its end among successors."""


class AlignmentError(ValueError):
    """An utterance cannot be aligned with its transcript."""


@dataclass(frozen=True)
class Segment:
    """A word with its frames."""

    word: str
    start: int
    """First frame."""
    end: int
    """One past the last frame."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """The state of each frame of one utterance."""

    states: Integers
    """(T,) state in context of each frame; see :class:`Tying`."""
    segments: list[Segment]
    """The words; frames between them are silence."""
    score: float
    """Log-likelihood of this path, per frame."""


@dataclass(frozen=True, eq=False)
class StateGraph:
    """All sequences of states in which a transcript can be spoken."""

    states: Integers
    """(N,) state in context."""
    words: Integers
    """(N,) index of each state's word in the transcript; -1 for silence."""
    predecessors: Integers
    """(N, P) possible predecessors of each state, itself first; padded with N."""
    first: npt.NDArray[np.bool_]
    """(N,) whether an utterance may begin in the state."""
    last: npt.NDArray[np.bool_]
    """(N,) whether an utterance may end in the state."""


class Aligner:
    """Aligns utterances with their transcripts.

    Arguments
    ---------
    lexicon : Lexicon
        A lexicon with the phones of `tying`.
    tying : Tying

    Example
    -------
    >>> from biglittle_asr.decoding.hmm.tying import monophones
    >>> lexicon = Lexicon({"TEA": [("T", "IY")]})
    >>> tying = monophones(lexicon.phones, states=1, silence_states=1)
    >>> log_likelihoods = np.log(np.eye(3, dtype=np.float32)[[0, 2, 2, 1]] + 0.1)
    >>> Aligner(lexicon, tying).align(["TEA"], log_likelihoods).segments
    [Segment(word='TEA', start=1, end=4)]
    """

    def __init__(self, lexicon: Lexicon, tying: Tying) -> None:
        self.lexicon = lexicon
        self.tying = tying
        self.number = {phone: index for index, phone in enumerate(tying.phones)}

    def align(self, words: Sequence[str], log_likelihoods: Reals) -> Alignment:
        """Find the most likely states of an utterance.

        Arguments
        ---------
        words : sequence of str
            The transcript; all words must be in the lexicon.
        log_likelihoods : array
            (T, V) log-likelihoods of the frames, one for each output. A constant added to a frame changes nothing.

        Raises
        ------
        AlignmentError
            If there are fewer frames than the transcript has states, or the log-likelihoods are not finite.
        """
        graph = self.graph(words)
        path, score = viterbi(graph, log_likelihoods[:, self.tying.outputs[graph.states]])
        return Alignment(graph.states[path], _segments(words, graph.words[path]), score)

    def uniform(self, words: Sequence[str], frames: int) -> Alignment:
        """Spread the frames evenly over silence, the first pronunciation of each word, and silence.

        Raises
        ------
        AlignmentError
            If there are fewer frames than states, even without silence.
        """
        phones = [(SILENCE, NO_WORD)]
        for index, text in enumerate(words):
            phones += [(self.number[phone], index) for phone in self.lexicon.pronunciations[text][0]]
        phones.append((SILENCE, NO_WORD))
        if sum(self.tying.num_states(phone) for phone, _ in phones) > frames:
            phones = phones[1:-1]
        rows = []
        for index, (phone, word) in enumerate(phones):
            left = phones[index - 1][0] if phone and index else SILENCE
            right = phones[index + 1][0] if phone and index + 1 < len(phones) else SILENCE
            rows += [(state, word) for state in self._row(phone, left, right)]
        if not rows or len(rows) > frames:
            raise AlignmentError(_too_short(frames, len(rows)))
        states, owners = np.array(rows, np.int32)[np.arange(frames) * len(rows) // frames].T
        return Alignment(states, _segments(words, owners), 0.0)

    def graph(self, words: Sequence[str]) -> StateGraph:
        """Build the state graph of a transcript."""
        phones = _phone_graph([[self._numbers(each) for each in self.lexicon.pronunciations[word]] for word in words])
        builder = _GraphBuilder()
        entries: dict[tuple[int, int, int], int] = {}
        exits: dict[tuple[int, int, int], int] = {}
        contexts = [list(_contexts(phones, node)) for node in range(len(phones))]
        for node, phone in enumerate(phones):
            for left, right in contexts[node]:
                row = [builder.add(state, phone.word) for state in self._row(phone.phone, left, right)]
                for before, after in zip(row, row[1:], strict=False):
                    builder.connect(before, after)
                entries[node, left, right], exits[node, left, right] = row[0], row[-1]
        for (node, left, right), entry in entries.items():
            phone = phones[node]
            for previous in phone.before:
                if previous == EDGE:
                    builder.first[entry] |= left == SILENCE
                    continue
                for further, facing in contexts[previous]:
                    # Silence is the same in every context.
                    fits_left = phone.phone == SILENCE or left == phones[previous].phone
                    if fits_left and (phones[previous].phone == SILENCE or facing == phone.phone):
                        builder.connect(exits[previous, further, facing], entry)
            builder.last[exits[node, left, right]] |= EDGE in phone.after and right == SILENCE
        return builder.build()

    def _numbers(self, pronunciation: Iterable[str]) -> list[int]:
        return [self.number[phone] for phone in pronunciation]

    def _row(self, phone: int, left: int, right: int) -> list[int]:
        positions = range(self.tying.num_states(phone))
        return [self.tying.context_state(phone, position, left, right) for position in positions]


def viterbi(graph: StateGraph, emissions: Reals) -> tuple[Integers, float]:
    """Find the best path through a graph.

    Arguments
    ---------
    graph : StateGraph
    emissions : array
        (T, N) log-likelihoods of each frame in each state.

    Returns
    -------
    path : array
        (T,) index into the graph's states.
    score : float
        Sum of the emissions along the path, divided by T.

    Raises
    ------
    AlignmentError
        If every path is longer than T frames, or none has a finite score.
    """
    frames, size = emissions.shape
    if not frames:
        raise AlignmentError(_too_short(0, 1))
    came_from = np.zeros((frames, size), np.int32)
    rows = np.arange(size)
    # The extra entry at the end stands for predecessors that do not exist.
    scores = np.full(size + 1, -np.inf)
    scores[:size][graph.first] = emissions[0][graph.first]
    for frame in range(1, frames):
        candidates = scores[graph.predecessors]
        best = candidates.argmax(1)
        came_from[frame] = graph.predecessors[rows, best]
        scores[:size] = candidates[rows, best] + emissions[frame]
    ends = np.where(graph.last, scores[:size], -np.inf)
    state = int(ends.argmax())
    if not np.isfinite(ends[state]):
        if np.isfinite(emissions).all():
            raise AlignmentError(f"{frames} frames are fewer than its words have states")
        raise AlignmentError("the network's output is not finite")
    path = np.empty(frames, np.int32)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state = came_from[frame, state]
    return path, float(ends.max()) / frames


@dataclass
class _Phone:
    """A phone of a transcript, with its possible predecessors and successors."""

    phone: int
    word: int
    before: list[int]
    after: list[int] = field(default_factory=list)


def _phone_graph(words: Sequence[Sequence[Sequence[int]]]) -> list[_Phone]:
    """Build the phone graph of a transcript, given the pronunciations of each word."""
    phones: list[_Phone] = []

    def add(phone: int, word: int, before: list[int]) -> int:
        for node in before:
            if node != EDGE:
                phones[node].after.append(len(phones))
        phones.append(_Phone(phone, word, before))
        return len(phones) - 1

    ends = [EDGE]
    ends = [*ends, add(SILENCE, NO_WORD, ends)]
    for word, pronunciations in enumerate(words):
        last = []
        for pronunciation in pronunciations:
            before = ends
            for phone in pronunciation:
                before = [add(phone, word, before)]
            last += before
        ends = [*last, add(SILENCE, NO_WORD, last)]
    for node in ends:
        if node != EDGE:
            phones[node].after.append(EDGE)
    return phones


def _contexts(phones: Sequence[_Phone], node: int) -> Iterable[tuple[int, int]]:
    """List the possible left and right neighbors of a phone in a transcript; silence has only one context."""
    phone = phones[node]
    if phone.phone == SILENCE:
        return [(SILENCE, SILENCE)]
    lefts, rights = (
        sorted({SILENCE if other == EDGE else phones[other].phone for other in others})
        for others in (phone.before, phone.after)
    )
    return [(left, right) for left in lefts for right in rights]


class _GraphBuilder:
    def __init__(self) -> None:
        self.states: list[int] = []
        self.words: list[int] = []
        self.predecessors: list[list[int]] = []
        self.first: list[bool] = []
        self.last: list[bool] = []

    def add(self, state: int, word: int) -> int:
        index = len(self.states)
        self.states.append(state)
        self.words.append(word)
        self.predecessors.append([index])
        self.first.append(False)
        self.last.append(False)
        return index

    def connect(self, before: int, after: int) -> None:
        self.predecessors[after].append(before)

    def build(self) -> StateGraph:
        size = len(self.states)
        widest = max(map(len, self.predecessors))
        table = [row + [size] * (widest - len(row)) for row in self.predecessors]
        return StateGraph(
            np.array(self.states, np.int32),
            np.array(self.words, np.int32),
            np.array(table, np.int32),
            np.array(self.first),
            np.array(self.last),
        )


def _segments(words: Sequence[str], owners: Integers) -> list[Segment]:
    """Find the frames of each word, given the word of each frame."""
    segments = []
    for index, word in enumerate(words):
        frames = np.flatnonzero(owners == index)
        segments.append(Segment(word, int(frames[0]), int(frames[-1]) + 1))
    return segments


def _too_short(frames: int, states: int) -> str:
    return f"{frames} frames are fewer than the {states} states of its words"
