"""Lets griffe read this package's docstrings, for the API reference.

zensical.toml names this file. griffe's NumPy style says Parameters and Examples where SpeechBrain and this package say
Arguments and Example, and it does not know Sphinx's references.
"""

import re

from griffe import Extension, Object

SECTIONS = {"Arguments": "Parameters", "Example": "Examples"}


class Docstrings(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text: str) -> str:
    """Make a docstring one of griffe's NumPy style, in Markdown."""
    for ours, theirs in SECTIONS.items():
        text = re.sub(rf"^{ours}\n-+$", f"{theirs}\n{'-' * len(theirs)}", text, flags=re.MULTILINE)
    # Markdown's lists begin after an empty line.
    text = re.sub(r"^(?!- |  |$)(.*)\n(?=- )", r"\1\n\n", text, flags=re.MULTILINE)
    # Sphinx's references, and what only doctest reads.
    text = re.sub(r":[a-z]+:`(?:~[\w.]*\.)?([^`]+)`", r"`\1`", text)
    return re.sub(r" *# doctest: .*", "", text)
