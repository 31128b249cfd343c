"""Benchmarks run, and print what they promise; what they measure is not tested."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
import torch
from conftest import REPOSITORY


@pytest.fixture
def throughput() -> Any:
    spec = importlib.util.spec_from_file_location("throughput", REPOSITORY / "benchmarks" / "throughput.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their annotations up there.
    import sys

    sys.modules["throughput"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["throughput"]


SMALL = ["--device=cpu", "--batch=2", "--pixels=32", "--utterances=1", "--seconds=0.2", "--time=0"]


def test_throughput_is_measured_and_a_missing_compiler_told(throughput: Any, monkeypatch: Any, capsys: Any) -> None:
    def refuse(network: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(throughput, "WARMING", 0)
    throughput.main([*SMALL, "--images", "resnet18", "--encoders", "bl_resnet22", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["threads"] == torch.get_num_threads() and torch.__version__ in told["machine"]
    rows = {(row["network"], row["work"], row["compiled"]): row for row in told["rows"]}
    assert len(rows) == len(told["rows"]) == 8
    for (_, _, compiled), row in rows.items():
        assert (row["throughput"] is None, row["note"]) == ((True, "no C++ compiler") if compiled else (False, ""))
        assert row["unit"] == ("images/s" if row["network"] == "resnet18" else "s of audio/s")
    throughput.main([*SMALL, "--images", "--encoders", "bl_resnet22", "--no-compile"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all("s of audio/s" in line for line in lines[2:])
