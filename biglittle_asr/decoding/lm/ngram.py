"""Trains n-gram language models with interpolated modified Kneser-Ney smoothing.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech and
Language 13 (1999), section 3. The numbers equal those of KenLM's lmplz: unigrams are interpolated with the uniform
distribution over all words, including </s> and the unknown word. Everything is kept in memory, which is enough for
about a hundred million words; use lmplz for more.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from biglittle_asr.decoding.lm.arpa import NEVER, SENTENCE_END, SENTENCE_START, SPECIAL_WORDS, UNKNOWN

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Discounts of n-grams counted once, twice and more often, used if a text is too small or too regular to estimate them.
They are the defaults of lmplz's --discount_fallback."""

Gram = tuple[str, ...]


@dataclass(frozen=True)
class NGramModel:
    """A trained model."""

    orders: list[dict[Gram, tuple[float, float | None]]]
    """For each order, n-gram -> (log10 probability, log10 backoff weight or None if no longer n-gram extends it)."""
    fallback_orders: tuple[int, ...]
    """Orders that use `FALLBACK_DISCOUNTS`, as their discounts could not be estimated."""

    def __str__(self) -> str:
        return ", ".join(f"{len(grams)} {order}-grams" for order, grams in enumerate(self.orders, start=1))

    def remarks(self, order: int) -> Iterator[str]:
        """Describe, one sentence each, how the model differs from a normal one of the requested order."""
        if len(self.orders) < order:
            yield f"no sentence has words for {order}-grams; the longest are of {len(self.orders)}."
        if self.fallback_orders:
            orders = ", ".join(f"{each}-grams" for each in self.fallback_orders)
            yield f"too little text to estimate the discounts of {orders}; defaults are used."


def train_ngrams(sentences: Iterable[Sequence[str]], order: int = 3) -> NGramModel:
    """Train a model.

    Arguments
    ---------
    sentences : iterable of sequence of str
        Words of each sentence.
    order : int
        Number of words in the longest n-grams. 3 is usual for speech; more helps with millions of words of text. The
        model's order is lower if no sentence, with its start and end, has so many words.

    Returns
    -------
    NGramModel
        Its orders can be written by :func:`biglittle_asr.decoding.lm.arpa.write_arpa`.

    Raises
    ------
    ValueError
        If the order is below 1, there are no sentences, or a word is <s>, </s> or <unk>.

    Example
    -------
    >>> model = train_ngrams([["CALL", "ANN"], ["CALL", "BOB"]], order=2)
    >>> str(model), list(model.remarks(order=2))
    ('6 1-grams, 5 2-grams', ['too little text to estimate the discounts of 1-grams, 2-grams; defaults are used.'])
    """
    if order < 1:
        raise ValueError(f"order: {order} is not a number of words; use 1 or more.")
    counts = _count(sentences, order)
    orders: list[dict[Gram, tuple[float, float | None]]] = []
    fallback = []
    # Unigrams back off to the uniform distribution over words, including </s> and <unk>, but not <s>.
    lower: dict[Gram, float] = {(): 1 / (len(counts[0]) + 1)}
    for size, grams in enumerate(counts, start=1):
        discounts = estimate_discounts(grams.values())
        if discounts is None:
            fallback.append(size)
            discounts = FALLBACK_DISCOUNTS
        totals: Counter[Gram] = Counter()
        withheld: defaultdict[Gram, float] = defaultdict(float)
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            withheld[gram[:-1]] += _discount(count, discounts)
        probabilities = {}
        for gram, count in grams.items():
            context = gram[:-1]
            own = (count - _discount(count, discounts)) / totals[context]
            probabilities[gram] = own + withheld[context] / totals[context] * lower[gram[1:]]
        if size == 1:
            probabilities[(UNKNOWN,)] = withheld[()] / totals[()] * lower[()]
        else:
            for context, total in totals.items():
                log_prob, _ = orders[-1][context]
                orders[-1][context] = (log_prob, _log10(withheld[context] / total))
        orders.append({gram: (_log10(probability), None) for gram, probability in probabilities.items()})
        if size == 1:
            orders[0] = {(SENTENCE_START,): (NEVER, None), **orders[0]}
        lower = probabilities
    return NGramModel(orders, tuple(fallback))


def _count(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Gram]]:
    """Adjusted counts of each order (Chen and Goodman, equation 15, and KenLM's treatment of the sentence start).

    For the highest order, and for n-grams that begin with <s>, the count is the number of occurrences. For other
    n-grams, it is the number of different words that precede them.
    """
    counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
    found = False
    for sentence in sentences:
        for word in sentence:
            if word in SPECIAL_WORDS:
                raise ValueError(f"'{word}' occurs as a word, but is reserved in language models; remove it.")
        found = True
        padded = (SENTENCE_START, *sentence, SENTENCE_END)
        for end in range(1, len(padded)):
            for size in range(1, order + 1):
                start = end - size + 1
                if start < 0:
                    break
                if size == order or start == 0:
                    counts[size - 1][padded[start : end + 1]] += 1
    if not found:
        raise ValueError("there is no sentence to train a language model on; give more text.")
    # If an order has no n-grams, those of the next lower order all begin with <s>, so their counts are occurrences.
    while not counts[-1]:
        counts.pop()
    for size in range(len(counts) - 1, 0, -1):
        for gram in counts[size]:
            counts[size - 1][gram[1:]] += 1
    return counts


def estimate_discounts(counts: Iterable[int]) -> tuple[float, float, float] | None:
    """Estimate the discounts of n-grams counted once, twice, and more often (Chen and Goodman, equation 17).

    Arguments
    ---------
    counts : iterable of int
        Counts of all n-grams of an order.

    Returns
    -------
    tuple of float, or None
        None if no n-gram is counted once, twice or three times, or a discount is negative or exceeds its count.

    Example
    -------
    >>> estimate_discounts([1, 1, 1, 1, 2, 2, 3, 4])
    (0.5, 1.25, 1.0)
    """
    number = Counter(count for count in counts if count <= 4)
    if not all(number[count] for count in (1, 2, 3)):
        return None
    common = number[1] / (number[1] + 2 * number[2])
    one, two, more = (count - (count + 1) * common * number[count + 1] / number[count] for count in (1, 2, 3))
    return (one, two, more) if 0 <= one <= 1 and 0 <= two <= 2 and 0 <= more <= 3 else None


def _discount(count: int, discounts: tuple[float, float, float]) -> float:
    return discounts[min(count, 3) - 1]


def _log10(probability: float) -> float:
    return math.log10(probability) if probability > 0 else NEVER
