"""Greedy CTC decoding against its definition."""

import itertools

import pytest
import torch

from biglittle_asr.decoding import ctc_greedy


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


def test_only_blanks_decode_to_nothing() -> None:
    log_probs = torch.zeros(2, 4, 3)
    log_probs[..., 0] = 1
    assert ctc_greedy(log_probs, torch.tensor([4, 2])) == [[], []]
