"""Readers of Kaldi's decoding graphs and alignments, which map transition-ids to outputs.

Needs kaldi-native-io: `pip install 'biglittle-asr[hybrid]'`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from biglittle_asr.decoding.hmm.graph import EPSILON, Graph
from biglittle_asr.decoding.hmm.openfst import read_arcs
from biglittle_asr.decoding.hmm.tying import Integers
from biglittle_asr.extras import missing_extra
from biglittle_asr.files import read_lines

try:
    import kaldi_native_io
except ImportError as error:
    raise ValueError(missing_extra("Kaldi's files need kaldi-native-io", "hybrid", error)) from error

STATE = re.compile(
    r"Transition-state \d+: .*?(?:pdf = (?P<pdf>\d{1,9}))(?: self-loop-pdf = (?P<loop>\d{1,9}))?$", re.ASCII
)
TRANSITION = re.compile(r"Transition-id = (?P<id>\d{1,9}) (?P<rest>.*)", re.ASCII)
WORD = re.compile(r"(?P<word>\S+)\s+(?P<number>\d{1,9})", re.ASCII)

NO_WORDS = ("[", "<", "!")
"""First characters of symbols in words.txt that are not words."""


def read_transitions(path: str | PathLike[str]) -> Integers:
    r"""Read the map from transition-ids to the network's outputs.

    Arguments
    ---------
    path : path
        Text printed by `show-transitions phones.txt final.mdl`.

    Returns
    -------
    array
        (ids + 1,) pdf of each transition-id. Ids start at 1; the entry of 0 is -1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not the output of show-transitions.

    Example
    -------
    >>> path = getfixture("tmp_path") / "transitions.txt"
    >>> _ = path.write_text('''Transition-state 1: phone = SIL hmm-state = 0 pdf = 4
    ...  Transition-id = 1 p = 0.75 [self-loop]
    ...  Transition-id = 2 p = 0.25 [0 -> 1]
    ... ''')
    >>> read_transitions(path).tolist()
    [-1, 4, 4]
    """
    outputs: dict[int, int] = {}
    pdf = loop = None
    for place, line in read_lines(Path(path), "write it with Kaldi's show-transitions"):
        if state := STATE.fullmatch(line):
            pdf = int(state["pdf"])
            loop = pdf if state["loop"] is None else int(state["loop"])
        elif (transition := TRANSITION.fullmatch(line)) and pdf is not None and loop is not None:
            outputs[int(transition["id"])] = loop if "[self-loop]" in transition["rest"] else pdf
        else:
            raise ValueError(f"{place}: is not a line of Kaldi's show-transitions; write the file with that program.")
    if sorted(outputs) != list(range(1, len(outputs) + 1)) or not outputs:
        raise ValueError(f"{path}: does not have all transition-ids from 1; write it with Kaldi's show-transitions.")
    return np.array([-1, *(outputs[index] for index in range(1, len(outputs) + 1))], np.int32)


def read_graph(graph: str | PathLike[str], words: str | PathLike[str], transitions: Integers) -> Graph:
    """Read Kaldi's HCLG.fst, whose states already have self-loops.

    Symbols in brackets, such as [noise] and <unk>, and Kaldi's !SIL are not words; they are dropped from the output.

    Arguments
    ---------
    graph : path
        HCLG.fst.
    words : path
        words.txt: a word and its number on each line.
    transitions : array
        Result of :func:`read_transitions`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is invalid, or the files do not match.
    """
    table = _read_words(Path(words))
    arcs = read_arcs(graph)
    if arcs.inputs.max(initial=0) >= len(transitions):
        raise ValueError(
            f"{graph}: has transition-id {arcs.inputs.max()}, but the model has only {len(transitions) - 1}; "
            "take the graph and the transitions of the same model."
        )
    if not (arcs.outputs != EPSILON).any():
        raise ValueError(f"{graph}: accepts no words, as no arc has one; build it again.")
    if arcs.outputs.max() >= len(table):
        raise ValueError(
            f"{graph}: has word {arcs.outputs.max()}, which {words} lacks; use the file that it was built with."
        )
    spoken = np.array([not word.startswith(NO_WORDS) for word in table])
    arcs.outputs = np.where(spoken[arcs.outputs], arcs.outputs, EPSILON)
    arcs.inputs = transitions[arcs.inputs] + 1
    return Graph(arcs.compile(), table)


def read_alignments(specifier: str, transitions: Integers | None = None) -> Iterator[tuple[str, Integers]]:
    """Read alignments, such as those of `ali.1.gz` after unpacking.

    Arguments
    ---------
    specifier : str
        Kaldi's specifier of the file: "ark:ali.1" or "scp:ali.scp".
    transitions : array, optional
        Result of :func:`read_transitions`. Leave it out if the file has outputs instead of transition-ids
        (`ali-to-pdf`).

    Yields
    ------
    name, outputs
        Name of each utterance, and the (T,) network outputs of its frames.

    Raises
    ------
    ValueError
        If the specifier is invalid, nothing can be read, or a transition-id is not in the model.
    """
    kind, _, path = specifier.partition(":")
    if kind not in ("ark", "scp") or path.endswith("|"):
        raise ValueError(f"{specifier}: is not a specifier of alignments; give ark:FILE or scp:FILE.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such alignments; check the path, and unpack .gz files.")
    found = False
    for name, states in _read_vectors(specifier, path):
        found = True
        if transitions is None:
            yield name, states
            continue
        if states.size and not 0 < states.min() <= states.max() < len(transitions):
            raise ValueError(
                f"{path}: utterance {name} has transition-ids that the model lacks; take the alignments and the "
                "transitions of the same model."
            )
        yield name, transitions[states]
    if not found:
        raise ValueError(f"{path}: holds no alignments; check the path.")


def _read_vectors(specifier: str, path: str) -> Iterator[tuple[str, Integers]]:
    try:
        with kaldi_native_io.SequentialInt32VectorReader(specifier) as reader:
            for name, ids in reader:
                yield name, np.asarray(ids, np.int32)
    # The reader documents no list of what a damaged file raises; its messages tell places in its source.
    except Exception as error:
        raise ValueError(f"{path}: is no whole archive of alignments; check the path, or write it again.") from error


def _read_words(path: Path) -> tuple[str, ...]:
    table: dict[int, str] = {}
    for place, line in read_lines(path, "give Kaldi's words.txt"):
        found = WORD.fullmatch(line)
        if not found:
            raise ValueError(f"{place}: is not a word and its number; give Kaldi's words.txt.")
        table[int(found["number"])] = found["word"]
    if sorted(table) != list(range(len(table))):
        raise ValueError(f"{path}: the words are not numbered from 0 without gaps; give Kaldi's words.txt.")
    return ("", *(table[label] for label in range(1, len(table))))
