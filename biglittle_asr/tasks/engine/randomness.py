"""Random numbers that depend on where in a training they are drawn, and on nothing that happened before.

Every utterance of every epoch is augmented with generators seeded for it alone, every step likewise. So neither the
number of loading processes nor an interruption changes a number, and a checkpoint need not hold any generator's state.
"""

import hashlib
import random

import numpy as np
import torch


def seed_all(*place: object) -> None:
    """Seed the generators of torch (every device), numpy and Python for a place in a training.

    Arguments
    ---------
    *place
        What tells this place from all others, such as seed, epoch and utterance; numbers and strings.

    Example
    -------
    >>> seed_all(1234, 1, "utterance 1")
    >>> first = torch.rand(3)
    >>> _ = torch.rand(100)
    >>> seed_all(1234, 1, "utterance 1")
    >>> torch.equal(torch.rand(3), first)
    True
    """
    digest = hashlib.sha256(repr(place).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little"))
    np.random.seed(int.from_bytes(digest[8:12], "little"))
    random.seed(digest[12:20])
