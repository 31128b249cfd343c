"""Training text of language models: sentences as words, or as a model's tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding.lm.arpa import SPECIAL_WORDS
from biglittle_asr.files import text_lines
from biglittle_asr.tokens.tokenizer import WORD_START, Tokenizer


def read_sentences(path: Path) -> Iterator[list[str]]:
    r"""Read the words of each sentence from a text file (one sentence per line) or a manifest (.csv, column wrd).

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not UTF-8 text or not such a manifest, or a word is <s>, </s> or <unk>. The message names the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_text("ENTER FOUR\n\nYES\n")
    >>> list(read_sentences(path))
    [['ENTER', 'FOUR'], ['YES']]
    """
    if path.suffix == ".csv":
        rows = read_manifest(path, ("ID", "wav", "wrd"))
        lines: Iterable[tuple[str, str]] = (
            (f"{path}:{number}", row["wrd"]) for number, row in enumerate(rows, start=2)
        )
    else:
        lines = text_lines(path)
    for place, line in lines:
        words = line.split()
        special = SPECIAL_WORDS.intersection(words)
        if special:
            raise ValueError(
                f"{place}: '{min(special)}' occurs in the text, but is reserved in language "
                "models; give sentences of plain words."
            )
        if words:
            yield words


def token_sentences(sentences: Iterable[list[str]], tokenizer: Tokenizer) -> Iterator[list[str]]:
    """Convert sentences to the names of their tokens, for a language model of tokens.

    Raises
    ------
    ValueError
        If a character has no token.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> list(token_sentences([["GO", "ON"]], CharacterTokenizer(" GON")))
    [['G', 'O', '▁', 'O', 'N']]
    """
    names = token_names(tokenizer)
    for sentence in sentences:
        try:
            yield [names[index] for index in tokenizer.encode(" ".join(sentence))]
        except ValueError as error:
            advice = "a language model of tokens takes text in the model's letters and case."
            raise ValueError(f"{str(error).rstrip('.')}; {advice}") from error


def token_names(tokenizer: Tokenizer) -> list[str]:
    """Return each token's name in a language model of tokens: its text, with ▁ for a space.

    The blank is "<blank>", which no language model contains.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> token_names(CharacterTokenizer(" AB"))
    ['<blank>', '▁', 'A', 'B']
    """
    return ["<blank>", *(tokenizer.piece(index).replace(" ", WORD_START) for index in range(1, tokenizer.size))]
