"""Greedy CTC decoding against its definition."""

import itertools

import pytest
import torch

from biglittle_asr.decoding import GreedyDecoder, ctc_greedy


def by_definition(best: list[int], blank: int) -> list[int]:
    return [token for token, _ in itertools.groupby(best) if token != blank]


@pytest.mark.parametrize("blank", [0, 3])
def test_greedy_equals_its_definition(blank: int) -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(16, 30, 4).log_softmax(-1)
    frames = torch.randint(0, 31, (16,))
    expected = [
        by_definition(row[:valid].tolist(), blank)
        for row, valid in zip(log_probs.argmax(-1), frames.tolist(), strict=True)
    ]
    assert ctc_greedy(log_probs, frames, blank) == expected


def test_greedy_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    log_probs, frames = torch.randn(5, 20, 6), torch.tensor([20, 1, 7, 13, 19])
    alone = [ctc_greedy(log_probs[i : i + 1, :n], frames[i : i + 1])[0] for i, n in enumerate(frames.tolist())]
    assert ctc_greedy(log_probs, frames) == alone


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_tokens_are_the_same_however_an_utterance_is_cut(size: int) -> None:
    torch.manual_seed(0)
    for log_probs in torch.randn(8, 30, 3).log_softmax(-1):
        decoder = GreedyDecoder()
        tokens = [token for piece in log_probs.split(size) for token in decoder.decode(piece)] + decoder.finish()
        assert [token.index for token in tokens] == ctc_greedy(log_probs[None], torch.tensor([30]))[0]
        best = log_probs.argmax(-1)
        for token in tokens:
            frames = slice(token.start, token.end)
            assert best[frames].eq(token.index).all() and token.end > token.start
            assert token.log_prob == log_probs[frames, token.index].max()
            assert all(best[frame] != token.index for frame in (token.start - 1, token.end) if 0 <= frame < 30)


def test_only_blanks_decode_to_nothing() -> None:
    log_probs = torch.zeros(2, 4, 3)
    log_probs[..., 0] = 1
    assert ctc_greedy(log_probs, torch.tensor([4, 2])) == [[], []]
