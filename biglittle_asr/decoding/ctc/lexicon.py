"""Lexicons of a search: its words, spelled in a model's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.messages import visible
from biglittle_asr.tokens.lexicon import lexicon_lines
from biglittle_asr.tokens.tokenizer import Tokenizer

EXAMPLES = 3
"""Number of words that a message quotes."""


@dataclass(frozen=True)
class SpelledWords:
    """Words and their spellings."""

    words: tuple[str, ...]
    spellings: tuple[tuple[int, ...], ...]
    """Tokens of each word."""


def read_words(path: str | Path) -> list[str]:
    r"""Read the words of a lexicon: the first column of each line, in order, without repeats.

    Phones or spellings after a word are ignored, as the model's tokenizer spells words. `WORD(2)`, another
    pronunciation of a word, counts as that word. Lines that begin with `;;;`, or with `#` and a space, are comments.
    Plain word lists work, and so do lexicons in the formats of CMU, Kaldi, MFA and torchaudio.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not UTF-8 text, has a word with a space in it (recognized by the tab after the word), or has no words.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.dic"
    >>> _ = path.write_text("A AH\nA(2) EY\nAND AE N D\n")
    >>> read_words(path)
    ['A', 'AND']
    """
    words = dict.fromkeys(word for _, word, _ in lexicon_lines(path))
    if not words:
        raise ValueError(f"{path}: has no words; a lexicon has a word at the beginning of each line.")
    return list(words)


def spell(
    words: Iterable[str], tokenizer: Tokenizer, source: str, report: Callable[[str], None] = lambda message: None
) -> SpelledWords:
    """Spell words in a model's tokens; words that it cannot spell are omitted.

    Arguments
    ---------
    words : iterable of str
    tokenizer : Tokenizer
    source : str
        Source of the words, for messages.
    report : function of str
        Called with a message that names omitted words, if there are any.

    Raises
    ------
    ValueError
        If more than half of the words cannot be spelled, since they are in another language or case.

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
    return SpelledWords(tuple(spelled), tuple(spelled.values()))


def spellable_hotwords(
    hotwords: Mapping[str, float], tokenizer: Tokenizer, report: Callable[[str], None] = lambda message: None
) -> dict[str, float]:
    """Select the hotwords that a model can spell, with their boosts; a message names the others.

    Raises
    ------
    ValueError
        If more than half of them cannot be spelled.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> spellable_hotwords({"GO": 5.0, "now": 5.0}, CharacterTokenizer(" GON"), print)
    hotwords: the model has no tokens to spell 'now' with; left out.
    {'GO': 5.0}
    """
    missing = [word for word in hotwords if not spelling_of(word, tokenizer)]
    if missing:
        count = f"{len(missing)} of {len(hotwords)} words with, such as {examples(missing)}"
        fault = (
            f"hotwords: the model has no tokens to spell {count if len(missing) > 1 else f'{examples(missing)} with'}"
        )
        if 2 * len(missing) > len(hotwords):
            raise ValueError(f"{fault}; write {'them' if len(missing) > 1 else 'it'} as the model would.")
        report(f"{fault}; left out.")
    return {word: boost for word, boost in hotwords.items() if word not in missing}


def spelling_of(word: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens of a word; none if it cannot be spelled."""
    try:
        return tuple(tokenizer.encode(word))
    except ValueError:
        return ()


def examples(words: Sequence[str]) -> str:
    """Quote the first few words, without invisible characters.

    Example
    -------
    >>> examples(["a", "b", "c", "d"])
    "'a', 'b', 'c'"
    """
    return ", ".join(f"'{visible(word)}'" for word in words[:EXAMPLES])
