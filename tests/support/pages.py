"""HTML pages as trees, to be tested: what is in them, and that it is well-formed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
"""Elements without an end tag."""


@dataclass
class Element:
    """An element of a page."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text inside, with single spaces."""
        inside = "".join(child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(inside.split()) if self.name in ("td", "th", "p", "li", "h1", "caption") else inside

    def all(self, name: str = "", **attributes: str) -> list[Element]:
        """All elements inside of a name and with attributes; `class_` is one of the element's classes."""
        return [each for each in self._inside() if each.fits(name, attributes)]

    def one(self, name: str = "", **attributes: str) -> Element:
        """The only element inside of a name and with attributes."""
        (found,) = self.all(name, **attributes)
        return found

    def fits(self, name: str, attributes: dict[str, str]) -> bool:
        """Whether this has the name and the attributes."""
        classes = self.attributes.get("class", "").split()
        return name in ("", self.name) and all(
            value in classes if key == "class_" else self.attributes.get(key.replace("_", "-")) == value
            for key, value in attributes.items()
        )

    def _inside(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._inside()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(html: str) -> Element:
    """The tree of a page, all of whose elements end where they should."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert parser.open == [parser.root], f"<{parser.open[-1].name}> has no end"
    return parser.root


def page_data(page: Element) -> dict[str, Any]:
    """The data of a report's script."""
    data: dict[str, Any] = json.loads(page.one("script", id="data").text)
    return data
