"""N-gram language models for decoding: ARPA and KenLM binary files, scored by the KenLM in flashlight-text.

Reading these files executes no code from them.
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
"""The order is first, whether the words are at the end of the file fourth, and the number of unigrams last."""
KENLM_PARAMETERS_OFFSET = 88


@dataclass(frozen=True)
class LanguageModel:
    """A language model file that has passed a quick check."""

    path: Path
    words: frozenset[str] | None
    """Words other than <s>, </s> and <unk>; None for a KenLM file that was built without its words."""
    arpa: Arpa | None
    """Header and unigrams; None for a KenLM file."""

    @property
    def of_tokens(self) -> bool:
        """Whether it is a model of characters or word pieces, which mark the beginning of words by ▁."""
        return self.words is not None and any(word.startswith(WORD_START) for word in self.words)


def open_language_model(path: str | Path) -> LanguageModel:
    r"""Open an ARPA file (plain or gzip) or a KenLM binary file, and check it quickly.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is neither. For an ARPA file, the message names the line.

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
    """Load a model into KenLM as a flashlight language model in which index i is the word `names[i]`.

    Its scores are log10 probabilities; unknown words score as <unk>.

    Raises
    ------
    ValueError
        If KenLM cannot read it. For an ARPA file, the message names the line.
    """
    from flashlight.lib.text.dictionary import Dictionary

    dictionary = Dictionary(list(names))
    with TemporaryDirectory(prefix="biglittle") as folder:
        copy = Path(folder) / "lm.arpa"
        path = model.path
        if model.arpa is not None and (model.arpa.order == 1 or model.arpa.data_line > 1 or model.arpa.compressed):
            write_for_kenlm(model.arpa, copy)
            path = copy
        loaded, reason = _load(path, dictionary)
        if loaded is not None:
            return loaded
        if model.arpa is not None:
            read_arpa(model.path, whole=True)
            # The file is valid, but not in the form that KenLM needs, such as with spaces instead of tabs.
            if path != copy:
                write_for_kenlm(model.arpa, copy)
                loaded, reason = _load(copy, dictionary)
                if loaded is not None:
                    return loaded
    raise ValueError(f"{model.path}: KenLM cannot read this file ({reason}); build it again.")


def _load(path: Path, dictionary: Any) -> tuple[Any, str]:
    """KenLM's model, or None and the reason."""
    from flashlight.lib.text.decoder.kenlm import KenLM

    try:
        with _silence():
            return KenLM(str(path), dictionary), ""
    except RuntimeError as error:
        return None, str(error).strip().splitlines()[-1].rstrip(".")
    except UnicodeDecodeError:
        # The message quotes the file.
        return None, "it is not UTF-8"


def _binary_words(path: Path) -> frozenset[str] | None:
    """Read the words of a KenLM binary file: zero-terminated strings at its end, of which the first is <unk>."""
    damaged = ValueError(f"{path}: is a damaged KenLM file; build it again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        words = _words_at_end(content)
    if words is not None and not words:
        raise damaged
    try:
        return None if words is None else frozenset(word.decode() for word in words) - SPECIAL_WORDS
    except UnicodeDecodeError:
        raise damaged from None


def _words_at_end(content: mmap.mmap) -> list[bytes] | None:
    """Find the words; None if the file was built without words, an empty list if they contradict the header."""
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
        # The header does not count <unk> if the training text has none.
        if len(found) in (count, count + 1):
            return found
    return []


@contextmanager
def _silence() -> Iterator[None]:
    """Silence KenLM's progress bar, which it writes to the file descriptor of standard error. Errors are exceptions."""
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
