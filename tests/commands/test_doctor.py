"""`biglittle doctor`: what it tells is so, whatever is missing."""

from __future__ import annotations

import json
import re
import runpy
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import setuptools
import soundfile
import torch

from biglittle_asr.cli import main
from biglittle_asr.commands import doctor
from biglittle_asr.extras import EXTRAS
from support.repository import REPOSITORY


@pytest.fixture(scope="module")
def declared() -> dict[str, list[str]]:
    """The extras of setup.py, with the names of their packages."""
    with pytest.MonkeyPatch.context() as patch:
        given: dict[str, Any] = {}
        patch.setattr(setuptools, "setup", given.update)
        patch.chdir(REPOSITORY)
        runpy.run_path(str(REPOSITORY / "setup.py"))
    return {
        extra: [re.split(r"[<>=\[]", requirement)[0] for requirement in requirements]
        for extra, requirements in given["extras_require"].items()
    }


def test_extras_are_those_of_setup(declared: dict[str, list[str]]) -> None:
    del declared["dev"]
    assert {name: list(extra.packages) for name, extra in sorted(EXTRAS.items())} == dict(sorted(declared.items()))
    assert list(EXTRAS) == sorted(EXTRAS)


def examine(capsys: Any, status: int = 0) -> tuple[Any, str, str]:
    """JSON, text and the last message."""
    assert main(["doctor", "--json"]) == status
    facts = json.loads(capsys.readouterr().out)
    assert main(["doctor"]) == status
    out, err = capsys.readouterr()
    return facts, out, err


def test_a_whole_installation_is_told_as_it_is(capsys: Any) -> None:
    facts, text, err = examine(capsys)
    assert facts["problems"] == [] and "core      works" in text and err == ""
    assert facts["versions"]["torch"] == metadata.version("torch") and metadata.version("torch") in text
    assert facts["threads"]["torch"] == torch.get_num_threads() and facts["threads"]["OMP_NUM_THREADS"] == "1"
    assert facts["audio"]["libsndfile"] == soundfile.__libsndfile_version__ and "FLAC" in facts["audio"]["formats"]
    assert len(facts["gpus"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert all(value in (True, False, None) for value in facts["cpu"]["instructions"].values())
    if facts["cpu"]["instructions"]["avx512"]:
        assert "avx512" in text


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_extra_is_told_with_its_command(name: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = metadata.version

    def version(package: str) -> str:
        if package == EXTRAS[name].packages[-1]:
            raise metadata.PackageNotFoundError(package)
        return known(package) if package in ("torch", "torchaudio", "speechbrain") else "1.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "_wrong_versions", list)
    facts, text, _ = examine(capsys)
    assert [each for each, facts in facts["extras"].items() if not facts["installed"]] == [name]
    assert facts["extras"][name]["packages"][EXTRAS[name].packages[-1]] is None
    commands = [line.strip() for line in text.splitlines() if "pip install" in line]
    assert commands == [f"pip install 'biglittle-asr[{name}]'"]


def test_ffmpeg_is_found_or_not(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts, text, _ = examine(capsys)
    assert facts["audio"]["ffmpeg"] is None and "ffmpeg    not found" in text
    (tmp_path / "ffmpeg").touch(mode=0o755)
    facts, text, _ = examine(capsys)
    assert facts["audio"]["ffmpeg"] == str(tmp_path / "ffmpeg") and str(tmp_path / "ffmpeg") in text


@pytest.mark.parametrize("module", ["torch", "torchaudio", "soundfile", "biglittle_asr.models"])
def test_a_broken_core_is_told_and_fails(module: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    facts, text, err = examine(capsys, status=1)
    (problem,) = facts["problems"]
    assert module in problem and problem in text and "core      does not work" in text
    assert err.splitlines() == [f"biglittle: 1 of the checks failed, the first: {problem}"]


def test_versions_that_do_not_fit_are_told(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["torch>=99", "no-such-package<3", "numpy>=1", "other; extra == 'dev'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    facts, _, _ = examine(capsys, status=1)
    torch_, other = facts["problems"]
    assert torch_ == f"torch {metadata.version('torch')} does not fit: pip install 'torch>=99'."
    assert other == "no-such-package is not installed: pip install 'no-such-package<3'."


def test_gpus_are_told_with_their_memory(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="A GPU", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    facts, text, _ = examine(capsys)
    assert facts["gpus"] == [{"name": "A GPU", "gibibytes": 80.0}] * 2
    assert "GPU       A GPU (80.0 GiB), A GPU (80.0 GiB)" in text
