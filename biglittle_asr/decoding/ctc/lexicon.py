"""The words that a search may find, spelled in a model's tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.tokens.tokenizer import Tokenizer

EXAMPLES = 3
"""Words that a message names."""


@dataclass(frozen=True)
class Lexicon:
    """Words and their spellings."""

    words: tuple[str, ...]
    spellings: tuple[tuple[int, ...], ...]
    """Tokens of each word."""


def read_lexicon(path: str | Path) -> list[str]:
    r"""Words of a lexicon: the first column of each line, in order, each once.

    What stands behind a word, phones or a spelling, is not read: a model's tokenizer spells words. `WORD(2)`, another
    pronunciation of a word, is that word; lines that begin with `;;;` are comments. So lists of words do, and lexicons
    of CMU's, Kaldi's and torchaudio's kind.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no UTF-8 text, or holds no word.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.dic"
    >>> _ = path.write_text("A AH\nA(2) EY\nAND AE N D\n")
    >>> read_lexicon(path)
    ['A', 'AND']
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, where a lexicon is expected.")
    words: dict[str, None] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            fields = line.decode().split()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number}: not UTF-8; save the lexicon as UTF-8.") from error
        if fields and not fields[0].startswith(";;;"):
            words[re.sub(r"(?<=.)\(\d+\)$", "", fields[0])] = None
    if not words:
        raise ValueError(f"{path}: holds no word; a lexicon has a word at the beginning of each line.")
    return list(words)


def spell(
    words: Iterable[str], tokenizer: Tokenizer, source: str, report: Callable[[str], None] = lambda message: None
) -> Lexicon:
    """Spell words in a model's tokens; those that it has no tokens for are left out.

    Arguments
    ---------
    words : iterable of str
    tokenizer : Tokenizer
    source : str
        Where the words come from, for messages.
    report : function of str
        Is told which words are left out, if any are.

    Raises
    ------
    ValueError
        If more than half of them cannot be spelled: they are not of this model's language, or case.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> spell(["GO", "ON"], CharacterTokenizer(" GON"), "here").spellings
    ((2, 3), (3, 4))
    >>> spell(["go", "on"], CharacterTokenizer(" GON"), "lm.arpa")
    Traceback (most recent call last):
    ...
    ValueError: lm.arpa: does not fit the model, which has no tokens to spell 2 of 2 words with, such as 'go', 'on'; \
in upper case it could.
    """
    words = list(words)
    spelled = {word: spelling for word in words if (spelling := spelling_of(word, tokenizer))}
    missing = [word for word in words if word not in spelled]
    if missing:
        count = f"{len(missing)} of {len(words)} words with, such as {examples(missing)}"
        if 2 * len(missing) > len(words):
            hints = [
                f"in {name} case it could"
                for name, change in (("upper", str.upper), ("lower", str.lower))
                if 2 * sum(bool(spelling_of(change(word), tokenizer)) for word in missing) > len(missing)
            ]
            hint = (hints or ["take one made of the model's kind of text"])[0]
            raise ValueError(f"{source}: does not fit the model, which has no tokens to spell {count}; {hint}.")
        report(f"{source}: the model has no tokens to spell {count}; these are not recognized.")
    return Lexicon(tuple(spelled), tuple(spelled.values()))


def spelling_of(word: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens of a word; none if it cannot be spelled."""
    try:
        return tuple(tokenizer.encode(word))
    except ValueError:
        return ()


def examples(words: Sequence[str]) -> str:
    """The first few, in quotes.

    Example
    -------
    >>> examples(["a", "b", "c", "d"])
    "'a', 'b', 'c'"
    """
    return ", ".join(f"'{word}'" for word in words[:EXAMPLES])
