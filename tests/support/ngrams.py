"""N-grams by the letter of the ARPA format, and the definition of backing off."""

from __future__ import annotations

Grams = dict[tuple[str, ...], tuple[float, float]]


def parse(text: str) -> Grams:
    """n-gram -> (log10 probability, log10 backoff weight), by the letter of the format."""
    grams, order = {}, 0
    for line in text.splitlines():
        fields = line.split()
        if line.endswith("-grams:"):
            order = int(line[1])
        elif order and fields and not line.startswith("\\"):
            backoff = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
            grams[tuple(fields[1 : order + 1])] = (float(fields[0]), backoff)
    return grams


def log_prob(grams: Grams, history: tuple[str, ...], word: str) -> float:
    """log10 P(word | history), by the definition of backing off."""
    word = word if (word,) in grams else "<unk>"
    if (*history, word) in grams:
        return grams[(*history, word)][0]
    return grams.get(history, (0.0, 0.0))[1] + log_prob(grams, history[1:], word)
