"""The documentation as a site: it builds without a warning, is complete, and loads nothing from elsewhere."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.repository import REPOSITORY

DOCS = REPOSITORY / "docs"
CONFIG = REPOSITORY / "zensical.toml"
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "image": "href"}
"""Elements that load something, and by which attribute; a link of these kinds loads nothing."""
NOT_LOADED = {"canonical", "prev", "next", "edit"}
REFERENCE = [
    ".".join(path.relative_to(REPOSITORY).parent.parts)
    for path in sorted((REPOSITORY / "biglittle_asr").rglob("__init__.py"))
    if "\n__all__ = " in path.read_text(encoding="utf-8")
]
"""Modules that list what they offer."""


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    @functools.cached_property
    def ids(self) -> set[str]:
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages of the site, which is built outside of the repository."""
    for package in ("zensical", "mkdocstrings_handlers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("building the site needs pip install 'biglittle-asr[docs]'")
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(CONFIG, folder)
    shutil.copytree(DOCS, folder / "docs")
    (folder / "biglittle_asr").symlink_to(REPOSITORY / "biglittle_asr")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted((folder / "site").rglob("*.html"))}
    # Its addresses depend on where the site is served from.
    del pages[folder / "site" / "404.html"]
    return pages


def test_navigation_has_every_page_once() -> None:
    listed = re.findall(r'"(\S+\.md)"', CONFIG.read_text(encoding="utf-8"))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert pages - set(listed) == set(), "in no navigation: add them to nav in zensical.toml"
    assert sorted(listed) == sorted(pages)


@pytest.mark.slow
def test_every_page_is_built(site: dict[Path, Page]) -> None:
    built = {path.relative_to(path.parents[-1]).as_posix() for path in site}
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert any(path.endswith(f"/site/{name}") for path in built), name


@pytest.mark.slow
def test_nothing_is_loaded_from_other_hosts(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        for tag, attributes in page.elements:
            if tag in LOADED and not NOT_LOADED & set(attributes.get("rel", "").split()):
                assert not urlsplit(attributes.get(LOADED[tag], "")).netloc, (path.name, tag, attributes)
    (root,) = {path.parent for path in site if path.parent.name == "site"}
    for style in root.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"""(@import|url\()\s*["']?(https?:)?//""", text), style.name
    for script in (root / "assets").glob("*.js"):
        assert "http" not in script.read_text(encoding="utf-8"), script.name


@pytest.mark.slow
def test_links_lead_to_files_and_anchors(site: dict[Path, Page]) -> None:
    """Zensical checks links between pages; this also checks those to other files."""
    for path, page in site.items():
        for _, attributes in page.elements:
            for address in (attributes.get("href", ""), attributes.get("src", "")):
                parts = urlsplit(address)
                if parts.scheme or parts.netloc or not address:
                    continue
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                assert target.exists(), (path.name, address)
                # Some anchors of the theme are made by its script.
                if target in site and parts.fragment and not parts.fragment.startswith("_"):
                    assert unquote(parts.fragment) in site[target].ids, (path.name, address)


@pytest.mark.slow
@pytest.mark.parametrize("module", REFERENCE)
def test_reference_has_everything_that_a_module_offers(site: dict[Path, Page], module: str) -> None:
    ids = set().union(*(page.ids for path, page in site.items() if path.parent.name == "api"))
    found = importlib.import_module(module)
    documented = 0
    for name in found.__all__:
        value = getattr(found, name)
        # Constants and second names have no docstring.
        if getattr(value, "__name__", "").rpartition(".")[2] == name:
            documented += 1
            assert {f"{module}.{name}", f"{getattr(value, '__module__', module)}.{name}"} & ids, name
    assert documented


@pytest.mark.slow
def test_docstrings_are_rendered(site: dict[Path, Page]) -> None:
    """Sections, references and doctests are those that griffe knows, or docs/docstrings.py made them so."""
    pages = [page for path, page in site.items() if path.parent.name == "api" and path.name != "index.html"]
    assert all(word in " ".join(page.text for page in pages) for word in ("Parameters:", "Examples:", "Raises:"))
    for page in pages:
        assert not re.search(r"\n *-----|:(class|func|meth|data|mod|attr):`|# doctest:|\n *:::", page.text)
