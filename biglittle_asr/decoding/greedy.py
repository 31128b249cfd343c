"""Greedy CTC decoding: the best token of every frame, repeats merged, blanks removed."""

import torch
from torch import Tensor


def ctc_greedy(log_probs: Tensor, frames: Tensor, blank: int = 0) -> list[list[int]]:
    """Decode a batch by its best path.

    Arguments
    ---------
    log_probs : Tensor
        (B, T, V) log-probabilities (or logits: only their order counts).
    frames : Tensor
        (B,) integer valid frames.
    blank : int
        Index of the blank token.

    Returns
    -------
    list of list of int
        Token indices of each utterance, without blanks.

    Example
    -------
    >>> best = torch.tensor([[1, 1, 0, 1, 2]])
    >>> ctc_greedy(torch.nn.functional.one_hot(best, 3).float(), torch.tensor([4]))
    [[1, 1]]
    """
    best = log_probs.argmax(dim=-1)
    keep = best != blank
    keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    keep &= torch.arange(best.shape[1], device=best.device) < frames.to(best.device).unsqueeze(1)
    # One transfer to the CPU: the tokens of all utterances in a row, and how many each has.
    tokens = torch.cat([keep.sum(dim=1), best[keep]]).tolist()
    counts, tokens = tokens[: len(best)], tokens[len(best) :]
    ends = torch.tensor(counts).cumsum(0).tolist()
    return [tokens[end - count : end] for count, end in zip(counts, ends, strict=True)]
