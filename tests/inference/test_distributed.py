"""Transcription by Ray: the words of one process, whatever becomes of workers, machines and runs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import soundfile

from biglittle_asr.cli import main
from biglittle_asr.decoding import DecodingSettings, Word
from biglittle_asr.inference import Recognizer, archive, load_model
from biglittle_asr.inference import distributed as engine
from biglittle_asr.inference.archive import FAILURES, FORM
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.inputs import find_recordings
from biglittle_asr.inference.transcription import Failure, Transcript, transcribe
from biglittle_asr.inference.transcripts import FORMATS
from support.corpora import SAMPLE_RATE
from support.recognizers import babble, run
from support.repository import REPOSITORY

PATIENCE = 300.0
"""Seconds after which a run has failed."""
FFMPEG = """#!/bin/sh
# Kills the worker that calls it, once or always, and no other process.
while [ "$1" != -i ]; do shift; done
name=${2#file:}
for last; do :; done
if [ -e "$name.once" ] || [ -e "$name.always" ]; then
    rm -f "$name.once"
    tr -d '\\0' < /proc/$PPID/cmdline | grep -q '^ray::' && kill -9 $PPID
fi
cp "$name.decoded" "$last"
"""
DEADLY = b"\0\0\0\x1cftypM4A " + bytes(40)
"""Begins a file that ffmpeg decodes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, a file that is no audio, and one that can kill its worker."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(12):
        soundfile.write(folder / f"r{number:02}.wav", babble(0.5 + number / 10, number), SAMPLE_RATE)
    (folder / "r05.wav").write_text("not audio")
    (folder / "r07.wav").unlink()
    (folder / "r07.m4a").write_bytes(DEADLY)
    soundfile.write(folder / "r07.m4a.decoded", babble(1.2, 7), SAMPLE_RATE, format="W64")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For the cluster, whose workers have it from there."""
    programs = tmp_path_factory.mktemp("programs")
    (programs / "ffmpeg").write_text(FFMPEG)
    (programs / "ffmpeg").chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**engine.LOCAL, **engine.QUIET, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
            patched.setenv(name, value)
        patched.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        patched.setenv("PYTHONPATH", str(REPOSITORY))
        patched.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def ray_cluster(environment: None) -> Iterator[Any]:
    """A machine without cores, to which others can be added."""
    pytest.importorskip("ray.data", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    small = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20, "include_log_monitor": False}
    try:
        with engine._silence():
            found = Cluster(
                True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False, "no_monitor": True}
            )
    except Exception as error:
        pytest.skip(f"Ray cannot start here: {error}")
    found.small = small
    yield found
    with engine._silence():
        found.shutdown()


@pytest.fixture(scope="module")
def two_cores(ray_cluster: Any) -> Any:
    """The same with a machine of two cores."""
    if not ray_cluster.worker_nodes:
        ray_cluster.add_node(num_cpus=2, **ray_cluster.small)
    return ray_cluster


def spoken(words: Sequence[Word]) -> list[tuple[str, float, float]]:
    """Words and times; confidences depend on batches in their sixth digit."""
    return [(word.text, word.start, word.end) for word in words]


def texts(results: Iterable[Transcript | Failure]) -> dict[str, list[tuple[str, float, float]]]:
    return {each.recording.name: spoken(each.words) for each in results if isinstance(each, Transcript)}


def failed(results: Iterable[Transcript | Failure]) -> set[str]:
    return {each.recording.name for each in results if isinstance(each, Failure)}


@pytest.fixture
def expected(recognizer: Recognizer, folder: Path, environment: None) -> dict[str, list[tuple[str, float, float]]]:
    """What one process hears."""
    found = texts(transcribe(recognizer, find_recordings([str(folder)], folder)))
    assert len(found) == 11 and sum(map(len, found.values())) > 20
    return found


def without_confidence(ctm: str) -> list[str]:
    return [line.rpartition(" ")[0] for line in ctm.splitlines()]


@pytest.mark.slow
def test_dead_workers_and_new_machines_change_no_word(
    ray_cluster: Any, model_folder: Path, folder: Path, expected: Any, monkeypatch: Any, capfd: Any
) -> None:
    levels = {handler: handler.level for handler in logging.getLogger().handlers}
    model = engine.SharedModel.of(model_folder, load_model(model_folder))
    (folder / "r07.m4a.once").touch()
    recordings = find_recordings([str(folder)], folder)
    seen: list[tuple[float, float]] = []
    waits = threading.Event()
    options: dict[str, Any] = {"report": lambda _: waits.set(), "progress": lambda *pair: seen.append(pair)}
    with engine.cluster(ray_cluster.address), ThreadPoolExecutor(1) as pool:
        results = pool.submit(lambda: list(engine.distribute(model, recordings, **options)))
        if not ray_cluster.worker_nodes:
            # Nobody can work until this machine comes. Ray adds machines in the main thread only.
            assert waits.wait(60)
            ray_cluster.add_node(num_cpus=2, **ray_cluster.small)
        found = results.result(PATIENCE)
        assert not (folder / "r07.m4a.once").exists(), "no worker was killed"
        assert [each.recording for each in found] == recordings
        assert texts(found) == expected and failed(found) == {"r05"}
        assert {total for _, total in seen} == {12} and seen[-1][0] == 12
        # What kills whoever reads it fails alone.
        (folder / "r07.m4a.always").touch()
        monkeypatch.setattr(engine, "RETRIES", 0)
        monkeypatch.setattr(engine, "UNITS_PER_CORE", 1)
        found = list(engine.distribute(model, recordings[6:10]))
    (folder / "r07.m4a.always").unlink()
    assert failed(found) == {"r07"} and texts(found) == {name: expected[name] for name in ("r06", "r08", "r09")}
    assert capfd.readouterr() == ("", "")
    assert {handler: handler.level for handler in logging.getLogger().handlers} == levels


@pytest.mark.slow
def test_the_command_writes_what_one_process_does_and_goes_on(
    two_cores: Any, model_folder: Path, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    assert run(model_folder, folder, "--format", "ctm", "--output", tmp_path / "one.ctm") == 1
    one, errors = (tmp_path / "one.ctm").read_text(), capsys.readouterr().err.splitlines()
    out = tmp_path / "out"
    words = ["transcribe", model_folder, folder, "--engine", "ray", "--address", two_cores.address]
    words += ["--format", "ctm", "--output", out]
    command = [sys.executable, "-m", "biglittle_asr.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [*errors[:-1], f"{errors[-1].rstrip('.')}; {out / FAILURES} lists them."]
    assert without_confidence("".join(path.read_text() for path in sorted(out.glob("*.ctm")))) == without_confidence(
        one
    )
    assert [json.loads(line)["name"] for line in (out / FAILURES).read_text().splitlines()] == ["r05"]
    assert {path.suffix for path in out.iterdir()} == {".json", ".jsonl", ".ctm"}

    # Half of the transcripts are lost; the others stay as they are.
    (part,) = out.glob("part-*.jsonl")
    lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[:6]).replace('"text": "', '"text": "KEPT '))
    assert main([*map(str, words)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        errors[0],
        f"biglittle: 6 of 12 recordings have their transcripts in {out} already.",
        *done.stderr.splitlines()[1:],
    ]
    first, second = (path.read_text().splitlines(keepends=True) for path in sorted(out.glob("part-*.jsonl")))
    assert all('"text": "KEPT ' in line for line in first)
    for again, before in zip(map(json.loads, second), map(json.loads, lines[6:]), strict=True):
        assert again["text"] == before["text"] and again["path"] == before["path"]


@pytest.mark.slow
def test_evaluate_counts_as_one_process_does(
    two_cores: Any, model_folder: Path, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    rows = [f"{path.stem},{path},AB C,s{path.stem[-1]}" for path in sorted(folder.glob("r*.wav"))]
    (tmp_path / "test.csv").write_text("\n".join(["ID,wav,wrd,spk_id", *rows]) + "\n")
    words = ["evaluate", str(model_folder), str(tmp_path / "test.csv")]
    assert main(words) == 1
    one = capsys.readouterr()
    assert main([*words, "--engine", "ray", "--address", two_cores.address]) == 1
    assert capsys.readouterr() == one and "1 of 11 utterances" in one.err


LISTEN = """
import os
from pathlib import Path
from biglittle_asr.inference.distributed import cluster

def family(parents, pid):
    return {pid}.union(*(family(parents, child) for child, parent in parents.items() if parent == pid))

def listens():
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    sockets = set()
    for pid in family(parents, os.getpid()):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(link))
            except OSError:
                pass
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                yield fields[1].partition(":")[0]

with cluster(cores=1):
    print(*sorted(set(listens())))
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net")
def test_a_cluster_of_this_machine_listens_on_loopback_alone_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="Ray is not installed")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    environment = {**kept, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", LISTEN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() and set(done.stdout.split()) <= LOOPBACK
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_shared_model_hears_what_the_folder_does(
    model_folder: Path, recordings: list[Path], tmp_path: Path, runtime: str, monkeypatch: Any
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "words.txt").write_text("AB\nCD\nE\n")
    recognizer = load_model(tmp_path / "model", "cpu", runtime)
    settings = DecodingSettings(lexicon=str(tmp_path / "words.txt"))
    shared = engine.SharedModel.of(tmp_path / "model", recognizer, "cpu", runtime, "fp32", settings)
    shutil.rmtree(tmp_path / "model")
    recognizer.set_search(settings)
    # What is sent is data.
    found = pickle.loads(pickle.dumps(shared)).load()
    assert [each.text for each in found.transcribe(recordings)] == [
        each.text for each in recognizer.transcribe(recordings)
    ]
    assert json.loads(json.dumps(shared.facts()))["decoding"]["lexicon"].endswith("words.txt")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers there (Connection refused)"),
        (["--address", "somewhere"], "--address somewhere: must be HOST:PORT, or auto."),
        (["--stream"], "--stream: is of one process"),
        (["--profile"], "--profile: is of one process"),
        (["--format", "srt"], "--format srt: is of one recording a file; take json, text, ctm."),
    ],
)
def test_what_a_cluster_cannot_do_is_told_in_a_sentence(
    model_folder: Path, recordings: list[Path], tmp_path: Path, capsys: Any, options: list[str], message: str
) -> None:
    assert run(model_folder, recordings[0], "--engine", "ray", "--output", tmp_path / "out", *options) == 1
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and said.err.count("\n") == 1
    assert not list(tmp_path.glob("out/part-*"))


def test_another_server_is_no_cluster(model_folder: Path, recordings: list[Path], tmp_path: Path, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n"))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        options = ["--engine", "ray", "--address", address, "--output", tmp_path / "out"]
        assert run(model_folder, recordings[0], *options) == 1
    assert f"{address}: no Ray cluster answers there (something else does)" in capsys.readouterr().err


def test_ray_is_asked_for_where_it_is_missing(
    model_folder: Path, recordings: list[Path], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(model_folder, recordings[0], "--engine", "ray", "--output", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "pip install 'biglittle-asr[scale]'" in err and err.count("\n") == 1
    assert run(model_folder, recordings[0], "--engine", "ray") == 1
    assert "name it with --output FOLDER/" in capsys.readouterr().err
    assert run(model_folder, recordings[0], "--address", "127.0.0.1:1") == 1
    assert "add --engine ray" in capsys.readouterr().err


# Archives


def transcript(name: str, seconds: float = 1.0) -> Transcript:
    return Transcript(Recording(name, Path(f"{name}.wav")), seconds, (Word("YES", 0.1, 0.5, 0.9),))


@pytest.mark.parametrize("form", FORM)
@pytest.mark.parametrize("stops", range(5))
def test_an_archive_goes_on_wherever_it_was_left(tmp_path: Path, form: str, stops: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(archive, "PART_AUDIO", 2.0)
    recordings = [transcript(name).recording for name in ("d", "b", "e", "a", "c")]
    with contextlib.suppress(KeyboardInterrupt), archive.TranscriptArchive(tmp_path, form, {}) as begun:
        for number, each in enumerate(begun.pending(recordings)):
            if number == stops:
                raise KeyboardInterrupt
            begun.add(transcript(each.name))
    with archive.TranscriptArchive(tmp_path, form, {}) as resumed:
        left = resumed.pending(recordings)
        assert [each.name for each in left] == list("abcde")[stops:] and len(resumed.done) == stops
        for each in left:
            resumed.add(transcript(each.name))
    parts = sorted(tmp_path.glob("part-*.jsonl"))
    assert [json.loads(line)["name"] for path in parts for line in path.open()] == list("abcde")
    if form != "json":
        text = "".join(path.with_suffix(FORMATS[form].suffix).read_text() for path in parts)
        assert text == FORMATS[form].several([transcript(name) for name in "abcde"], [])


def test_an_archive_of_other_settings_or_of_no_transcripts_is_refused(tmp_path: Path) -> None:
    with archive.TranscriptArchive(tmp_path / "out", "text", {"model": "a"}) as begun:
        begun.add(transcript("a"))
    for form, settings, message in (
        ("text", {"model": "b"}, "another model ('a', now 'b'); take another folder."),
        ("ctm", {"model": "a"}, "another format ('text', now 'ctm')"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            archive.TranscriptArchive(tmp_path / "out", form, settings)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        archive.TranscriptArchive(tmp_path / "file", "text", {})
    twice = [
        Recording(name, Path(f"{name}.wav")) for name in (r"caf\xe9", b"caf\xe9".decode("utf-8", "surrogateescape"))
    ]
    with pytest.raises(ValueError, match="are both called"):
        archive.TranscriptArchive(tmp_path / "new", "text", {}).pending(twice)


def test_units_are_of_about_equal_work(tmp_path: Path, monkeypatch: Any) -> None:
    sizes = [10, 50, 20, 20, 20, 20, 900, 10]
    recordings = {}
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(bytes(size))
        recordings[number] = Recording(str(number), tmp_path / str(number))
    recordings[8] = Recording("missing", tmp_path / "missing")
    monkeypatch.setattr(engine, "UNIT_BYTES", 60)
    assert list(engine._units(recordings, 3)) == [[0, 1], [2, 3, 4], [5], [6], [7, 8]]
    assert list(engine._units({}, 3)) == []
