"""N-gram language models for decoding: ARPA and KenLM's binary files, scored by the KenLM in flashlight-text.

Both are data; reading them executes nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from biglittle_asr.decoding.lm.arpa import SPECIAL_WORDS, Arpa, read_arpa, write_for_kenlm
from biglittle_asr.tokens.tokenizer import WORD_START

KENLM_MAGIC = b"mmap lm http://kheafield.com/code"
KENLM_PARAMETERS = struct.Struct("<B3xfI?3xI")
"""Order, and whether the words stand at the file's end, are first and fourth; behind them is the number of unigrams."""
KENLM_PARAMETERS_OFFSET = 88


@dataclass(frozen=True)
class LanguageModel:
    """A language model file that looks right."""

    path: Path
    words: frozenset[str] | None
    """Without <s>, </s> and <unk>. None for a KenLM file that was built without its words."""
    arpa: Arpa | None
    """None for a KenLM file."""

    @property
    def of_tokens(self) -> bool:
        """Whether it is a model of characters or word pieces: these mark where words begin, by ▁."""
        return self.words is not None and any(word.startswith(WORD_START) for word in self.words)


def open_language_model(path: str | Path) -> LanguageModel:
    r"""Look into an ARPA file (plain or gzip) or a KenLM binary file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is neither; of an ARPA file, the message has the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.arpa"
    >>> _ = path.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-99 <s>\n-0.3 </s>\n-0.3 YES\n\n\\end\\\n")
    >>> model = open_language_model(path)
    >>> model.words, model.of_tokens
    (frozenset({'YES'}), False)
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, where an ARPA or KenLM file is expected.")
    with path.open("rb") as file:
        binary = file.read(len(KENLM_MAGIC)) == KENLM_MAGIC
    if binary:
        return LanguageModel(path, _binary_words(path), None)
    arpa = read_arpa(path)
    return LanguageModel(path, frozenset(arpa.words) - SPECIAL_WORDS, arpa)


def load_kenlm(model: LanguageModel, names: Sequence[str]) -> Any:
    """Load a model into KenLM, as a language model of flashlight's whose index i is the word `names[i]`.

    Its scores are log10; words that it does not know score as <unk>.

    Raises
    ------
    ValueError
        If KenLM cannot read it; of an ARPA file, the message has the line.
    """
    from flashlight.lib.text.dictionary import Dictionary

    dictionary = Dictionary(list(names))
    with TemporaryDirectory(prefix="biglittle") as folder:
        copy = Path(folder) / "lm.arpa"
        path = model.path
        if model.arpa is not None and (model.arpa.order == 1 or model.arpa.data_line > 1 or model.arpa.compressed):
            write_for_kenlm(model.arpa, copy)
            path = copy
        try:
            return _load(path, dictionary)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].rstrip(".")
        if model.arpa is not None:
            read_arpa(model.path, whole=True)
            # Right in itself, but not as KenLM wants it, such as with spaces where it wants tabs.
            if path != copy:
                write_for_kenlm(model.arpa, copy)
                try:
                    return _load(copy, dictionary)
                except RuntimeError as error:
                    reason = str(error).strip().splitlines()[-1].rstrip(".")
    raise ValueError(f"{model.path}: KenLM cannot read this file ({reason}); build it anew.")


def _load(path: Path, dictionary: Any) -> Any:
    from flashlight.lib.text.decoder.kenlm import KenLM

    with _silence():
        return KenLM(str(path), dictionary)


def _binary_words(path: Path) -> frozenset[str] | None:
    """The words of a KenLM binary file: strings at its end, each with a zero behind it, the first of them <unk>."""
    damaged = ValueError(f"{path}: is a damaged KenLM file; build it anew.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        words = _words_at_end(content)
    if words is not None and not words:
        raise damaged
    try:
        return None if words is None else frozenset(word.decode() for word in words) - SPECIAL_WORDS
    except UnicodeDecodeError:
        raise damaged from None


def _words_at_end(content: mmap.mmap) -> list[bytes] | None:
    """None where the file was built without words, an empty list where they are not what the head promises."""
    head = KENLM_PARAMETERS_OFFSET + KENLM_PARAMETERS.size
    if len(content) < head + 8:
        return []
    has_words = KENLM_PARAMETERS.unpack_from(content, KENLM_PARAMETERS_OFFSET)[3]
    if not has_words:
        return None
    (count,) = struct.unpack_from("<Q", content, head)
    place = len(content)
    while (place := content.rfind(b"<unk>\0", 0, place)) >= 0:
        found = content[place:].split(b"\0")[:-1]
        # A model whose text has no <unk> does not count it.
        if len(found) in (count, count + 1):
            return found
    return []


@contextmanager
def _silence() -> Iterator[None]:
    """KenLM draws a progress bar on standard error, by its file descriptor; it says what is wrong by exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
