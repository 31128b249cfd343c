"""Converts text to token indices and back, for CTC. Index 0 is the blank; real tokens start at 1.

A tokenizer is trained on the transcripts of the training set, and saved as one JSON file. Loading it executes no code.
"""

import base64
import hashlib
import io
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from biglittle_asr.files import InvalidJSON, read_json, write_atomically
from biglittle_asr.tokens.lexicon import Lexicon

BLANK = 0
SENTENCEPIECE_TYPES = ("unigram", "bpe")
WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's symbol for a space."""
TOKEN_TYPES = ("character", *SENTENCEPIECE_TYPES)
"""Types of tokens for training."""


class Tokenizer(ABC):
    """Base class of tokenizers.

    `size` includes the blank, so it is the size of the output layer.
    """

    kind: str
    size: int

    @abstractmethod
    def encode(self, text: str, unknown: str = "refuse") -> list[int]:
        """Convert a text to token indices.

        Arguments
        ---------
        text : str
            Words separated by single spaces.
        unknown : str
            How to treat characters or words that were not in training: "refuse" or "drop".

        Raises
        ------
        ValueError
            For an unknown character or word, unless unknown ones are dropped.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Convert token indices to text, with words separated by single spaces."""

    @abstractmethod
    def piece(self, index: int) -> str:
        """Return the text of one token, with its spaces. The joined texts of a sequence are its words and spaces."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return plain data from which :func:`load_tokenizer` restores the tokenizer."""


class CharacterTokenizer(Tokenizer):
    """One token per character.

    Example
    -------
    >>> tokenizer = CharacterTokenizer.train(["AN FOUR"])
    >>> tokenizer.size
    8
    >>> tokenizer.decode(tokenizer.encode("FAN"))
    'FAN'
    """

    kind = "character"

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self.size = len(self.symbols) + 1
        self._index = {symbol: index for index, symbol in enumerate(self.symbols, start=1)}

    @classmethod
    def train(cls, texts: Iterable[str], first: Sequence[str] = ()) -> "CharacterTokenizer":
        """Make a tokenizer of the characters in `texts`, placed after the characters in `first`."""
        return cls([*first, *sorted({character for text in texts for character in text} - set(first))])

    def encode(self, text: str, unknown: str = "refuse") -> list[int]:
        """See :meth:`Tokenizer.encode`."""
        if unknown == "refuse":
            _refuse_unknown(text, [character for character in text if character not in self._index])
        return [self._index[character] for character in text if character in self._index]

    def decode(self, ids: Sequence[int]) -> str:
        """See :meth:`Tokenizer.decode`."""
        return " ".join("".join(self.symbols[index - 1] for index in ids).split())

    def piece(self, index: int) -> str:
        """See :meth:`Tokenizer.piece`."""
        return self.symbols[index - 1]

    def state(self) -> dict[str, Any]:
        """See :meth:`Tokenizer.state`."""
        return {"symbols": self.symbols}


class SentencePieceTokenizer(Tokenizer):
    """Word pieces of a SentencePiece model, unigram or BPE.

    The blank replaces SentencePiece's index 0, the unknown piece, which is never a target. All other indices are
    SentencePiece's own.

    Example
    -------
    >>> tokenizer = SentencePieceTokenizer.train(["RUBOUT ONE TWO", "ENTER FOUR"] * 9, kind="bpe", vocab_size=30)
    >>> tokenizer.decode(tokenizer.encode("TWO FOUR"))
    'TWO FOUR'
    """

    def __init__(self, model: bytes, kind: str) -> None:
        self.model = model
        self.kind = kind
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._processor.get_piece_size()

    @classmethod
    def train(cls, texts: Iterable[str], kind: str, vocab_size: int) -> "SentencePieceTokenizer":
        """Train a model with `vocab_size` tokens, including the blank.

        Raises
        ------
        ValueError
            If the texts do not allow that size.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                model_type=kind,
                vocab_size=vocab_size,
                character_coverage=1.0,
                unk_id=BLANK,
                bos_id=-1,
                eos_id=-1,
                normalization_rule_name="identity",
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).rpartition("] ")[2].strip().rstrip(".")
            most = re.search(r"value <= (\d+)", reason)
            advice = f"lower it (--vocab_size {most[1]})" if most else "choose another size"
            raise ValueError(
                f"vocab_size: SentencePiece cannot make {vocab_size} {kind} pieces of the training transcripts "
                f"({reason}); {advice}."
            ) from error
        return cls(model.getvalue(), kind)

    def encode(self, text: str, unknown: str = "refuse") -> list[int]:
        """See :meth:`Tokenizer.encode`."""
        ids = self._processor.encode(text)
        if unknown == "refuse" and BLANK in ids:
            pieces = self._processor.encode(text, out_type=str)
            _refuse_unknown(text, [piece for piece, index in zip(pieces, ids, strict=True) if index == BLANK])
        return [index for index in ids if index != BLANK]

    def decode(self, ids: Sequence[int]) -> str:
        """See :meth:`Tokenizer.decode`."""
        return " ".join(self._processor.decode(list(ids)).split())

    def pieces(self) -> list[str]:
        """All pieces, by index."""
        return [self._processor.id_to_piece(index) for index in range(self.size)]

    def piece(self, index: int) -> str:
        """See :meth:`Tokenizer.piece`."""
        return str(self._processor.id_to_piece(index)).replace(WORD_START, " ")

    def state(self) -> dict[str, Any]:
        """See :meth:`Tokenizer.state`."""
        return {"model": base64.b64encode(self.model).decode("ascii")}


class WordTokenizer(Tokenizer):
    """One token per word, for hybrid models, whose search finds words. Tokens from 1 are the lexicon's sorted words.

    Example
    -------
    >>> tokenizer = WordTokenizer(Lexicon({"FOUR": [("F", "AO", "R")], "A": [("EY",), ("AH",)]}))
    >>> tokenizer.encode("FOUR A"), tokenizer.decode([2, 1]), tokenizer.size
    ([2, 1], 'FOUR A', 3)
    """

    kind = "word"

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.words = sorted(lexicon.pronunciations)
        self.size = len(self.words) + 1
        self._index = {word: index for index, word in enumerate(self.words, start=1)}

    def encode(self, text: str, unknown: str = "refuse") -> list[int]:
        """See :meth:`Tokenizer.encode`; tokens are words."""
        if unknown == "refuse":
            _refuse_unknown(text, [word for word in text.split() if word not in self._index])
        return self.indices(word for word in text.split() if word in self._index)

    def decode(self, ids: Sequence[int]) -> str:
        """See :meth:`Tokenizer.decode`."""
        return " ".join(self.words_of(ids))

    def piece(self, index: int) -> str:
        """See :meth:`Tokenizer.piece`."""
        return f" {self.words[index - 1]}"

    def indices(self, words: Iterable[str]) -> list[int]:
        """Return the tokens of words of the lexicon."""
        return [self._index[word] for word in words]

    def words_of(self, ids: Iterable[int]) -> list[str]:
        """Return the words of tokens."""
        return [self.words[index - 1] for index in ids]

    def state(self) -> dict[str, Any]:
        """See :meth:`Tokenizer.state`."""
        return {"pronunciations": dict(self.lexicon.pronunciations), "silence": self.lexicon.silence}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> "WordTokenizer":
        """Make a tokenizer from plain data; raises ValueError if they are not a lexicon."""
        entries, silence = state.get("pronunciations"), state.get("silence")
        if not isinstance(entries, dict) or not all(isinstance(each, list) and each for each in entries.values()):
            raise ValueError("holds no tokenizer: pronunciations must be an object with a list of them for each word.")
        pronunciations = [each for several in entries.values() for each in several]
        if not all(isinstance(each, list) and each and all(map(_is_word, each)) for each in pronunciations):
            raise ValueError("holds no tokenizer: a pronunciation must be a list of phones, and not an empty one.")
        if not isinstance(silence, str) or not all(map(_is_word, (*entries, silence))):
            raise ValueError("holds no tokenizer: words, and the name of silence, must be text without spaces.")
        return cls(Lexicon({word: [tuple(each) for each in several] for word, several in entries.items()}, silence))


def train_tokenizer(
    texts: Sequence[str],
    path: Path,
    token_type: str = "character",
    vocab_size: int | None = None,
    base: Tokenizer | None = None,
    going_on: bool = False,
) -> Tokenizer:
    """Train a tokenizer and save it, or load the file if the same texts and settings made it.

    With a base of the same type, new characters are added after those of the base. Word pieces of the base are kept,
    unless `vocab_size` differs from their number. A base of another type is ignored.

    Arguments
    ---------
    texts : sequence of str
        Transcripts of the training set.
    path : pathlib.Path
        JSON file to write.
    token_type : str
        "character", "unigram" or "bpe".
    vocab_size : int
        Number of tokens including the blank; for word pieces only, as characters are those of the texts.
    base : Tokenizer, optional
        Tokenizer of the pretrained model, for fine-tuning.
    going_on : bool
        Whether a training is being resumed, so that the tokenizer in the file is used whatever the base.

    Raises
    ------
    ValueError
        If the type is unknown, the base's word pieces lack a character of the texts, or the file holds a tokenizer of
        other texts or settings, whose indices have other meanings.

    Example
    -------
    >>> path = getfixture("tmp_path") / "tokenizer.json"
    >>> train_tokenizer(["YES", "NO"], path).size
    6
    >>> load_tokenizer(path).size
    6
    """
    if token_type not in TOKEN_TYPES:
        raise ValueError(f"token_type: '{token_type}' is none of {', '.join(TOKEN_TYPES)}.")
    kept = _kept(base, token_type, vocab_size)
    made_of: dict[str, Any] = {
        "kind": token_type,
        "vocab_size": None if token_type == "character" else vocab_size,
        "texts_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
    }
    if kept is not None:
        made_of["base_sha256"] = hashlib.sha256(json.dumps(kept.state()).encode()).hexdigest()
    if path.is_file():
        saved = _read(path).get("made_of")
        if going_on and isinstance(saved, dict) and "base_sha256" in saved:
            made_of["base_sha256"] = saved["base_sha256"]
        if saved != made_of:
            raise ValueError(
                f"{path}: holds a tokenizer made of other transcripts or settings; "
                "choose another output_folder, or delete this one to train again."
            )
        return load_tokenizer(path)
    tokenizer: Tokenizer
    if token_type == "character":
        tokenizer = CharacterTokenizer.train(texts, kept.symbols if isinstance(kept, CharacterTokenizer) else ())
    elif kept is not None:
        tokenizer = kept
        _check_pieces(kept, texts)
    elif vocab_size is None:
        raise ValueError(f"vocab_size: {token_type} pieces need one; set it in the YAML file.")
    else:
        tokenizer = SentencePieceTokenizer.train(texts, token_type, vocab_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"kind": token_type, **tokenizer.state(), "made_of": made_of}
    write_atomically(path, json.dumps(state, indent=1, ensure_ascii=False) + "\n")
    return tokenizer


def _kept(base: Tokenizer | None, token_type: str, vocab_size: int | None) -> Tokenizer | None:
    """Return the base if its tokens are kept, else None."""
    if base is None or base.kind != token_type:
        return None
    return base if token_type == "character" or vocab_size in (None, base.size) else None


def _check_pieces(base: Tokenizer, texts: Sequence[str]) -> None:
    """Check that the base's word pieces can spell all texts."""
    for text in texts:
        try:
            base.encode(text)
        except ValueError as error:
            raise ValueError(
                f"vocab_size: the trained model's {base.kind} pieces cannot spell '{text}', as they lack a character "
                "of it; set another vocab_size than theirs to train pieces of these transcripts."
            ) from error


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer from a JSON file of :func:`train_tokenizer`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not contain a tokenizer.
    """
    state = _read(path)
    try:
        return tokenizer_from_state(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error} Delete it to train it again.") from error


def tokenizer_from_state(state: Any) -> Tokenizer:
    """Make a tokenizer from plain data, `{"kind": ..., **tokenizer.state()}`, which may be untrusted.

    Raises
    ------
    ValueError
        If the data do not describe a tokenizer, or its tokens have control characters.

    Example
    -------
    >>> tokenizer_from_state({"kind": "character", "symbols": [" ", "A"]}).size
    3
    """
    tokenizer: Tokenizer
    kind = state.get("kind") if isinstance(state, dict) else None
    if kind == "character":
        symbols = state.get("symbols")
        if not isinstance(symbols, list) or any(not isinstance(each, str) or len(each) != 1 for each in symbols):
            raise ValueError("holds no tokenizer: symbols must be a list of single characters.")
        if len(set(symbols)) != len(symbols):
            raise ValueError("holds no tokenizer: a symbol occurs twice.")
        tokenizer, pieces = CharacterTokenizer(symbols), symbols
    elif kind in SENTENCEPIECE_TYPES:
        try:
            tokenizer = SentencePieceTokenizer(base64.b64decode(state["model"], validate=True), kind)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError("holds no tokenizer: model is not a SentencePiece model.") from error
        pieces = tokenizer.pieces()
    elif kind == WordTokenizer.kind:
        tokenizer = WordTokenizer.of_state(state)
        pieces = tokenizer.words
    else:
        raise ValueError(f"holds no tokenizer: kind must be one of {', '.join((*TOKEN_TYPES, WordTokenizer.kind))}.")
    if not pieces or any(unicodedata.category(character) in ("Cc", "Cs") for piece in pieces for character in piece):
        raise ValueError("holds no tokenizer: there are no tokens, or control characters in them.")
    return tokenizer


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.split() == [value]


def _read(path: Path) -> dict[str, Any]:
    try:
        state = read_json(path, "tokenizer", "train the model first")
    except InvalidJSON as error:
        fault = str(error).rstrip(".")
        raise ValueError(f"{fault}, so it holds no tokenizer. Delete it to train it again.") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds no tokenizer. Delete it to train it again.")
    return state


def _refuse_unknown(text: str, unknown: Sequence[str]) -> None:
    if unknown:
        raise ValueError(f"'{unknown[0]}' in '{text}' does not occur in the training transcripts.")
