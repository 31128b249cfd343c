"""Benchmarks run, and print what they promise; what they measure is not tested."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from biglittle_asr.inference import Recording, Transcript
from support.golden import MODELS
from support.repository import REPOSITORY


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their annotations up there, and processes their functions.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def throughput() -> Any:
    yield load("throughput")
    del sys.modules["throughput"]


@pytest.fixture
def gpu_check(monkeypatch: Any) -> Any:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    yield load("gpu_check")
    del sys.modules["gpu_check"]


@pytest.fixture
def twins() -> Any:
    yield load("twins")
    del sys.modules["twins"]


SMALL = ["--device=cpu", "--batch=2", "--pixels=32", "--utterances=1", "--seconds=0.2", "--time=0"]


@pytest.mark.slow
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


def test_twins_differ_in_their_stages_and_are_measured_in_turns(twins: Any, capsys: Any) -> None:
    words = ["bl_resnet22_half", "alpha=2", "bl_resnet22_half", "input_size=40"]
    assert twins.models(words) == ["bl_resnet22_half alpha=2", "bl_resnet22_half input_size=40"]
    twins.main([*words, "--rounds=2", "--seconds=0.2", "--training", "--json"])
    told = json.loads(capsys.readouterr().out)
    first, second = told["rows"]
    assert first["macs"] > second["macs"] and first["macs_ratio"] == first["macs"] / first["twin_macs"] < 1
    assert second["twin_macs"] < first["twin_macs"] and first["twin_parameters"] == second["twin_parameters"]
    for row in told["rows"]:
        for work in ("forward", "training"):
            for clock in ("wall", "cpu"):
                assert all(value > 0 for value in row[f"{work}_{clock}"].values())
    order: list[int] = []
    rounds = twins.in_turns([lambda: order.append(0), lambda: order.append(1)], 2)
    assert order == [0, 1] * 3 and {clock: len(turns) for clock, turns in rounds.items()} == {"wall": 2, "cpu": 2}
    twins.main([words[0], "--rounds=1", "--seconds=0.2"])
    assert "forward" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="name the encoder before it"):
        twins.main(["alpha=2"])


@pytest.mark.slow
def test_every_gpu_check_runs_on_a_cpu_and_leaves_a_row(gpu_check: Any, tmp_path: Path) -> None:
    assert sum(check.budget for check in gpu_check.CHECKS.values()) <= 480
    output = tmp_path / "table.md"
    command = ["bash", "benchmarks/gpu_check.sh", "--device=cpu", "--quick", "--patience=30", f"--output={output}"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = output.read_text()
    assert done.stdout == table
    rows = re.findall(r"^\| (\S+) \| .+ \| (pass|not run) \| (.*) \| .* \|$", table, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(gpu_check.CHECKS)
    assert {name for name, result, _ in rows if result == "not run"} == {"images-fp16", "speech-fp16"}


def test_a_gpu_check_that_fails_or_hangs_leaves_the_others(gpu_check: Any, capsys: Any, monkeypatch: Any) -> None:
    """Run in this process: what becomes of rows and exceptions, and of a check that runs out of time."""
    row = gpu_check.Row("difference", False, "1e-1", "1e-4")

    class Rows(list[Any]):
        put = list.append

    def broken(device: Any, sizes: Any) -> Any:
        yield row
        raise RuntimeError("a|b\nno such | thing")

    monkeypatch.setitem(gpu_check.CHECKS, "logits", gpu_check.Check(broken, 1))
    monkeypatch.setattr(os, "setsid", lambda: None)
    rows = Rows()
    gpu_check.report("logits", "cpu", gpu_check.SIZES["quick"], rows)
    assert rows == [row, gpu_check.Row("all", False, "no such / thing"), None]
    monkeypatch.setattr(gpu_check, "run_check", lambda name, *_: iter(rows[:2]))
    assert gpu_check.main(["--device=cpu", "--checks", "logits", "processes"]) == 1
    out = capsys.readouterr().out
    assert out.count("**FAIL**") == 4 and out.endswith("0 passed, 4 failed, 0 not run.\n")


def test_a_gpu_check_out_of_time_is_ended(gpu_check: Any) -> None:
    rows = list(gpu_check.run_check("logits", torch.device("cpu"), gpu_check.SIZES["full"], patience=0.0))
    assert [(row.what, row.passed) for row in rows] == [("time", False)]


def test_deviations_that_are_not_numbers_fail(gpu_check: Any) -> None:
    nan = float("nan")
    assert gpu_check.worst("", {"a": 1e-6, "b": 1e-5}, 1e-4).passed
    assert not gpu_check.worst("", {"a": 1e-6, "b": nan, "c": 1e-5}, 1e-4).passed
    assert gpu_check.deviation(torch.ones(2), torch.tensor([1.0, 2.0])) == 0.5
    assert gpu_check.deviation(torch.ones(2), torch.ones(3)) == float("inf")


@pytest.mark.slow
def test_inference_is_measured_in_every_runtime_beside_the_twin(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    inference = load("inference")
    monkeypatch.setattr(inference, "create_encoder", _narrow(inference.create_encoder))
    monkeypatch.setitem(inference.FOREIGN, "conformer", lambda: inference.conformer(80, (4, 4), 16, 1, 1, 16, 3))
    options = ["--seconds=0.2", "--rounds=4", "--threads=1", "--batch=1", f"--output={tmp_path}", "--json"]
    inference.main(["bl_resnet22", "conformer", *options])
    found = json.loads(capsys.readouterr().out)["rows"]
    assert not any(row["note"] for row in found)
    rows = [row for row in found if row["network"] != "conformer"]
    assert len(found) - len(rows) == 7  # all but PyTorch after optimize()
    assert {(row["runtime"], row["precision"]) for row in rows if row["network"] == "bl_resnet22"} == {
        *((each, precision) for each in ("torch", "optimized") for precision in ("fp32", "bf16")),
        *(("onnxruntime", each) for each in ("fp32", "int8")),
        *(("openvino", each) for each in ("fp32", "bf16", "int8")),
    }
    assert all(0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows if "ratio" in row)
    assert sum("ratio" in row for row in rows) * 2 == len(rows)
    assert (tmp_path / "times.svg").stat().st_size
    assert len((tmp_path / "times.csv").read_text().splitlines()) == 1 + len(found)
    assert "| network (MACs) | torch, fp32 |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_inference_under_other_loads_is_measured_with_its_memory(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    inference = load("inference")
    options = ["--runtimes=torch", "--precisions=fp32", "--threads", "1", "--batch", "1", "2", "--rounds=1"]
    inference.main(["bl_resnet22_half", *options, "--seconds", "0.2", "0.1", f"--output={tmp_path}", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    loads = [(1, 1, 0.2), (1, 2, 0.2), (1, 1, 0.1)]
    assert [(row["threads"], row["batch"], row["seconds"]) for row in rows] == [
        each for each in loads for _ in range(2)
    ]
    assert all(("peak_mb" in row) == (row["batch"] == 1) and row["ms"] > 0 for row in rows)
    table = (tmp_path / "table.md").read_text()
    assert "per second of audio" in table and "Peak memory" in table


def test_inference_tells_what_it_could_not_measure_and_goes_on(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    inference = load("inference")

    def refuse(*arguments: Any) -> Any:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(inference, "graph_of", refuse)
    options = ["--seconds=0.1", "--rounds=1", "--threads=1", "--batch=1", "--precisions=fp32"]
    inference.main(["bl_resnet22_half", *options, "--runtimes", "torch", "onnxruntime"])
    table = capsys.readouterr().out
    assert "not measured: no such operator." in table and "and more" not in table
    with pytest.raises(SystemExit):
        inference.main(["resnet23"])
    assert "no network is named resnet23" in capsys.readouterr().err


def _narrow(create: Any) -> Any:
    return lambda name, **options: create(name, **{"channels": (4, 8, 8, 16), **options})


def test_transcription_is_measured_from_files_to_words(tmp_path: Path, capsys: Any) -> None:
    rows, rate = [], 16000
    for number in range(3):
        samples = np.random.default_rng(number).normal(size=rate * (number + 1)) / 10
        soundfile.write(tmp_path / f"{number}.wav", samples, rate)
        rows.append(f"u{number},{tmp_path / f'{number}.wav'},A B")
    manifest = tmp_path / "test.csv"
    manifest.write_text("\n".join(["ID,wav,wrd", *rows]) + "\n")
    options = ["--runtimes", "torch", "--rounds=2", "--hours=0.002", "--json"]
    load("transcription").main([str(MODELS / "ctc"), str(manifest), *options])
    found = json.loads(capsys.readouterr().out)
    (row,) = found["rows"]
    assert found["seconds"] == 6 and row["name"] == "torch, fp32"
    assert row["range"][0] <= row["times"] <= row["range"][1] and row["hours_times"] > 0
    assert row["shares"].keys() == {"reading", "features", "encoder", "decoding"}
    # Each of the six words is an error or is not.
    assert row["wer"] * 6 / 100 == pytest.approx(round(row["wer"] * 6 / 100))


@pytest.mark.slow
def test_a_server_under_load_is_measured() -> None:
    small = ["--streams=3", "--seconds=0.7", "--channels", "4", "8", "8", "16"]
    for options in ([], ["--json"]):
        command = [sys.executable, str(REPOSITORY / "benchmarks" / "serving.py"), *small, *options]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        if options:
            told = json.loads(printed)
            lags = told["behind_seconds"]
            assert 0 < lags["p50"] <= lags["p95"] <= lags["max"] and told["falls_behind"] == (lags["p95"] > 1)
            assert told["cpu_seconds_per_second_of_audio"] > 0 and 1 <= told["steps_per_call"] <= 3
        else:
            assert re.search("keeps up|FALLS BEHIND", printed) and len(printed.splitlines()) == 5


@pytest.mark.slow
def test_memory_does_not_grow_with_length_and_failures_are_listed() -> None:
    small = ["--hours", "0.25", "1", "--files", "300", "--bad", "0.0667", "--json"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "memory.py"), *small]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    short, long, many = told["rows"]
    assert all(row["is_right"] for row in told["rows"])
    assert (short["status"], long["status"], many["status"]) == (0, 0, 1) and many["input"] == "300 files, 20 bad"
    # The samples of the other 45 minutes alone would be 173 MB.
    assert long["peak_megabytes"] - short["peak_megabytes"] < 80


def test_what_limits_workers_is_told() -> None:
    """The whole command starts clusters: tests/inference/test_distributed.py has one."""
    benchmark = load("distributed")
    assert benchmark.parse(["an4", "test.csv"]).workers == [1, 2]
    good = {"workers": 1, "efficiency": 0.95, "driver": 0.1}
    for changed, load_before, told in (
        ({}, 0.0, "the workers' cores"),
        ({}, 5.0, "other programs ran"),
        ({"workers": 10_000}, 0.0, "this machine's"),
        ({"efficiency": 0.5, "driver": 0.9}, 0.0, "the driver"),
        ({"efficiency": 0.5}, 0.0, "Ray's work between units"),
    ):
        assert told in benchmark.limit({**good, **changed}, load_before)
    found = benchmark.timed(Transcript(Recording(str(each), Path("a.wav")), 2.0, ()) for each in range(3))
    assert found["seconds"] == 6 and 0 < found["start_s"] <= found["total_s"]
