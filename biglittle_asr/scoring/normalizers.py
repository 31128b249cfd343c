"""Text normalizers: ways of writing that do not count as errors, by well-known rules.

They come from the package whisper-normalizer, which has the rules that OpenAI published with Whisper and with which
much English speech recognition is scored: `pip install 'biglittle-asr[normalizer]'`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from biglittle_asr.extras import missing_extra
from biglittle_asr.messages import unknown

PACKAGE = "whisper-normalizer"
NORMALIZERS = {
    "english": "expands contractions and titles, writes numbers as digits and British spellings the American way; "
    "leaves out hesitations, case, punctuation and what is in brackets",
    "basic": "leaves out case, punctuation and what is in brackets",
}
"""Normalizers by name, and what each does."""


@dataclass(frozen=True)
class Normalizer:
    """A loaded normalizer."""

    name: str
    """Its name, with the package and its version, which scores are given with."""
    rules: Any
    """Function from text to text."""

    def __call__(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Normalize texts by utterance ID."""
        return {utterance: " ".join(self.rules(text).split()) for utterance, text in texts.items()}


def load_normalizer(name: str) -> Normalizer:
    """Load a normalizer.

    Arguments
    ---------
    name : str
        One of `NORMALIZERS`.

    Raises
    ------
    ValueError
        If there is no such normalizer, or its package is not installed.

    Example
    -------
    >>> normalizer = load_normalizer("english")
    >>> normalizer({"a": "Mr. Smith's colours, um, won't cost twenty-two dollars."})
    {'a': 'mister smith is colors will not cost $22'}
    """
    if name not in NORMALIZERS:
        raise ValueError(unknown("normalizer", name, NORMALIZERS))
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise ValueError(missing_extra(f"--normalizer needs {PACKAGE}", "normalizer", error)) from error
    rules = {"english": EnglishTextNormalizer, "basic": BasicTextNormalizer}[name]()
    return Normalizer(f"{name} ({PACKAGE} {metadata.version(PACKAGE)})", rules)
