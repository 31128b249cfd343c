"""The tutorials run from top to bottom, and hold nothing of the machine on which they were written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from support.repository import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs").rglob("*.ipynb"))
SMALL: dict[str, dict[str, Any]] = {
    "encoder": {},
    "training": {"SPEAKERS": 3, "UTTERANCES": 4, "HELD_OUT": 2, "EPOCHS": 2, "CHANNELS": [4, 8, 8, 16]},
}
"""What a test puts in place of the sizes that a notebook sets in its cell with the tag `parameters`."""


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorials_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: dict[str, Any] = {"__name__": path.stem}
    for cell in cells(path):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(compile(source, f"{path.name}, cell {cell['id']}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                assert set(SMALL[path.stem]) <= set(names)
                names.update(SMALL[path.stem])
    if path.stem == "training":
        assert (names["work"] / "report.html").is_file() and names["work"].is_relative_to(tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorials_are_stored_without_outputs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [word for word in ("/home/", "/work/", "/tmp/", "/root/", "/Users/") if word in text]
    notebook = json.loads(text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    # One form, so that saving it again in Jupyter changes only what was edited.
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def test_every_tutorial_is_listed() -> None:
    page = (REPOSITORY / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert NOTEBOOKS and all(f"]({path.relative_to(REPOSITORY / 'docs')})" in page for path in NOTEBOOKS)
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)
