r"""Reads and writes ARPA files, which are n-gram language models as text. Errors name the line.

A file has a section `\data\` with the number of n-grams of each order, a section of n-grams for each order (log10
probability, words, log10 backoff weight), and `\end\`. Text above `\data\` is a comment. Tabs or spaces separate
fields. As in KenLM, other white space, such as a no-break space or a vertical tab, is part of a word.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from biglittle_asr.files import FIELD, LFS_POINTER, refuse_pointer, write_atomically

BYTE_ORDER_MARK = "\ufeff"
SENTENCE_START, SENTENCE_END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL_WORDS = frozenset((SENTENCE_START, SENTENCE_END, UNKNOWN, "<UNK>"))
"""Special words, which are never spoken. KenLM accepts the unknown word in upper and lower case."""
SPACES = " \t\r\n"
"""KenLM's separators of fields and lines."""
NEVER = -99.0
"""The logarithm of zero in ARPA files."""


@dataclass(frozen=True)
class Arpa:
    """Header and unigrams of an ARPA file."""

    path: Path
    counts: tuple[int, ...]
    """Number of n-grams of each order."""
    words: Mapping[str, float]
    """log10 probability of each word, including special words."""
    data_line: int
    """Line number of `\\data\\`, from 1; the lines above it are comments."""
    compressed: bool
    """Whether the file is compressed by gzip."""

    @property
    def order(self) -> int:
        """Number of words in the longest n-grams."""
        return len(self.counts)


def read_arpa(path: str | Path, *, whole: bool = False) -> Arpa:
    r"""Read the header and the unigrams of an ARPA file, plain or compressed by gzip.

    Arguments
    ---------
    path : path
    whole : bool
        Check the n-grams of all orders too, which takes minutes for large files.

    Returns
    -------
    Arpa

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not a valid ARPA file. The message names the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.arpa"
    >>> _ = path.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-99 <s>\n-0.3 </s>\n-0.3 YES\n\n\\end\\\n")
    >>> sorted(read_arpa(path).words)
    ['</s>', '<s>', 'YES']
    """
    path = Path(path)
    with _open(path) as file:
        lines = _Lines(path, file)
        for line in lines:
            if line == "\\data\\":
                break
        else:
            raise ValueError(f"{path}: is not an ARPA file, as it has no line \\data\\; give an ARPA or KenLM file.")
        data_line, counts = lines.number, _read_counts(lines)
        words: dict[str, float] = {}
        for order in range(1, len(counts) + 1 if whole else 2):
            for gram, log_prob in _read_grams(lines, order, counts):
                if order == 1:
                    if gram[0] in words:
                        raise lines.error(f"the word '{gram[0]}' occurs a second time")
                    words[gram[0]] = log_prob
                elif not all(word in words for word in gram):
                    unknown = next(word for word in gram if word not in words)
                    raise lines.error(f"'{unknown}' is not among the 1-grams")
        if whole and lines.line != "\\end\\":
            raise lines.error(f"'{lines.line}' where \\end\\ should be")
    for marker in (SENTENCE_START, SENTENCE_END):
        if marker not in words:
            raise ValueError(f"{path}: has no {marker} among its 1-grams, which sentences begin and end with; add it.")
    return Arpa(path, counts, words, data_line, _is_compressed(path))


def write_arpa(path: Path, orders: Sequence[Mapping[tuple[str, ...], tuple[float, float | None]]]) -> None:
    """Write an ARPA file atomically.

    Arguments
    ---------
    path : pathlib.Path
    orders : sequence of mapping
        For each order, n-gram -> (log10 probability, log10 backoff weight or None).

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.arpa"
    >>> write_arpa(path, [{("<s>",): (-99, 0), ("</s>",): (-0.5, None)}, {("<s>", "</s>"): (-0.25, None)}])
    >>> read_arpa(path, whole=True).counts
    (2, 1)
    """
    lines = ["\\data\\", *(f"ngram {order}={len(grams)}" for order, grams in enumerate(orders, start=1))]
    for order, grams in enumerate(orders, start=1):
        lines += ["", f"\\{order}-grams:"]
        for gram, (log_prob, backoff) in grams.items():
            end = "" if backoff is None else f"\t{backoff:.7g}"
            lines.append(f"{log_prob:.7g}\t{' '.join(gram)}{end}")
    write_atomically(path, "\n".join([*lines, "", "\\end\\", ""]))


def write_for_kenlm(arpa: Arpa, path: Path) -> None:
    """Copy an ARPA file into the form that KenLM reads: uncompressed, without comments, with tabs, of order 2 or more.

    A unigram model gets a single bigram, `<s> </s>`, with the probability that backing off gives it. The copy assigns
    the same probabilities as the original.
    """
    bigram = arpa.words[SENTENCE_END]
    order = 0
    with (
        _open(arpa.path) as source,
        path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as copy,
    ):
        for number, line in enumerate(source, start=1):
            if number < arpa.data_line:
                continue
            line = line.strip(SPACES if number > 1 else f"{SPACES}{BYTE_ORDER_MARK}")
            if found := re.fullmatch(r"\\(\d+)-grams:", line):
                order = int(found[1])
            elif line == "\\end\\":
                order = 0
                if arpa.order == 1:
                    copy.write(f"\n\\2-grams:\n{bigram:.7g}\t{SENTENCE_START} {SENTENCE_END}\n\n")
            elif order and line:
                log_prob, *words = FIELD.findall(line)
                line = "\t".join((log_prob, " ".join(words[:order]), *words[order:]))
            elif arpa.order == 1 and line.startswith("ngram "):
                line = f"{line}\nngram 2=1"
            copy.write(f"{line}\n")


class _Lines:
    """Lines of a file with their numbers, stripped of white space, without empty lines."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.number, self.line = path, 0, ""
        self._file = file

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.number += 1
            if line := line.strip(SPACES if self.number > 1 else f"{SPACES}{BYTE_ORDER_MARK}"):
                self.line = line
                yield line

    def check_encoding(self) -> None:
        try:
            self.line.encode()
        except UnicodeEncodeError as error:
            raise self.error("is not UTF-8") from error

    def error(self, fault: str) -> ValueError:
        return ValueError(f"{self.path}:{self.number}: {fault}; correct the ARPA file, or download it again.")


def _read_counts(lines: _Lines) -> tuple[int, ...]:
    counts: list[int] = []
    for line in lines:
        if line == "\\1-grams:":
            if not counts:
                raise lines.error("n-grams begin before a line such as 'ngram 1=100' says how many there are")
            return tuple(counts)
        found = re.fullmatch(r"ngram\s+(\d{1,2})\s*=\s*(\d{1,18})", line)
        if found is None or int(found[1]) != len(counts) + 1:
            raise lines.error(f"'{line}' where 'ngram {len(counts) + 1}=' and a number, or \\1-grams:, should be")
        counts.append(int(found[2]))
    raise lines.error("the file ends before its n-grams")


def _read_grams(lines: _Lines, order: int, counts: tuple[int, ...]) -> Iterator[tuple[list[str], float]]:
    """Yield the n-grams of one order, up to the header of the next section, which is required."""
    following = "\\end\\" if order == len(counts) else f"\\{order + 1}-grams:"
    found = 0
    for line in lines:
        if line.startswith("\\") and not any(space in line for space in SPACES):
            if line != following:
                raise lines.error(f"'{line}' where {following} should be")
            if found != counts[order - 1]:
                raise lines.error(f"{found} {order}-grams end here, but the header promises {counts[order - 1]}")
            return
        lines.check_encoding()
        fields = FIELD.findall(line)
        if len(fields) not in (order + 1, order + 2):
            raise lines.error(f"'{line}' is not a {order}-gram: a log10 probability and {order} words belong there")
        log_prob = _number(fields[0])
        if log_prob is None or log_prob > 0:
            raise lines.error(f"'{fields[0]}' is not the log10 of a probability")
        if len(fields) == order + 2 and _number(fields[-1]) is None:
            raise lines.error(f"'{fields[-1]}' is not a backoff weight")
        found += 1
        yield fields[1 : order + 1], log_prob
    raise lines.error(f"the file ends in the middle of its {order}-grams")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    # A comment may be in any encoding, and so may another kind of file.
    opener = gzip.open if _is_compressed(path) else open
    with opener(path, "rt", encoding="utf-8", errors="surrogateescape", newline="\n") as text:
        try:
            yield text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: is truncated or damaged; download it again.") from error


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            refuse_pointer(file.peek(len(LFS_POINTER)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return file.read(2) == b"\x1f\x8b"
