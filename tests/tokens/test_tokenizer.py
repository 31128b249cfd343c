"""Tokenizers: what goes in comes out, what does not fit is refused."""

from pathlib import Path

import pytest

from biglittle_asr.tokens.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from support.ctc_recipe import WORDS

# Tokenizers


@pytest.mark.parametrize("token_type, vocab_size", [("character", None), ("bpe", 40), ("unigram", 30)])
def test_tokenizers_give_back_what_they_were_given(tmp_path: Path, token_type: str, vocab_size: int | None) -> None:
    texts = ["RUBOUT G M E F THREE NINE", "ENTER FIVE O'CLOCK", "YES NO", "HELP STOP ERASE REPEAT"] * 5
    tokenizer = train_tokenizer(texts, tmp_path / "tokenizer.json", token_type, vocab_size)
    for text in texts:
        ids = tokenizer.encode(text)
        assert 0 not in ids and max(ids) < tokenizer.size
        assert tokenizer.decode(ids) == load_tokenizer(tmp_path / "tokenizer.json").decode(ids) == text
    if vocab_size is not None:
        assert tokenizer.size == vocab_size
    with pytest.raises(ValueError, match="does not occur in the training transcripts"):
        tokenizer.encode("YES ?")
    assert tokenizer.decode(tokenizer.encode("YES ?", unknown="drop")) == "YES"
    assert tokenizer.decode([]) == ""


def test_tokenizer_of_other_texts_is_not_reused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made: Tokenizer = train_tokenizer(["YES"], path)
    assert train_tokenizer(["YES"], path).size == made.size
    with pytest.raises(ValueError, match="tokenizer made of other transcripts or settings; choose another"):
        train_tokenizer(["NO"], path)


@pytest.mark.parametrize(
    "token_type, vocab_size, message",
    [
        ("bpe", 500, "vocab_size: SentencePiece cannot make 500 bpe pieces"),
        ("bpe", None, "vocab_size: bpe pieces need one"),
        ("phone", None, "token_type: 'phone' is none of character, unigram, bpe"),
    ],
)
def test_impossible_tokenizers_are_refused(
    tmp_path: Path, token_type: str, vocab_size: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(WORDS, tmp_path / "tokenizer.json", token_type, vocab_size)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": "bpe", "model": "!"}', '{"kind": "bpe", "model": "AAAA"}']
)
def test_broken_tokenizer_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_tokenizer(path)
