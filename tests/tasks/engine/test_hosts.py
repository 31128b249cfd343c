"""Training on two hosts ends in the weights of one host, also if a host dies or the network between them fails."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import halting, killing
from support.corpora import make_an4
from support.hosts import INTERFACE, Host, two_hosts
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow

OPTIONS = "--nnodes=2 --nproc_per_node=1 --max_restarts=3 --rdzv_id=an4 --rdzv_backend=c10d --rdzv_endpoint=first:29500"
"""Options of torchrun, on each host."""
ENVIRONMENT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": INTERFACE}
SHORT = "--rdzv_conf=keep_alive_interval=2"
"""torchrun notices that a host has died after three such intervals, in seconds. The default is 5."""
SCRIPT = str(REPOSITORY / "tests" / "support" / "halting.py")
PLACE = (2, 4)
"""Epoch and step of a disturbance; the last checkpoint is one after step 2, so step 3 is repeated."""
TIME_LIMIT = 240
"""Seconds after which a test of a training that hangs fails, on a machine that is busy."""


def torchrun(options: str, argv: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options.split(), SCRIPT, *argv]


def recipe(data: Path, out: Path, **options: Any) -> list[str]:
    batches = {"dynamic_batching": False, "batch_size": 4, "number_of_epochs": 2}
    return [*killing.arguments(data, out, **batches, **options), "--device=cpu"]


def halts(folder: Path, *places: tuple[int, int]) -> dict[str, str]:
    return {"HALT_FOLDER": str(folder), "HALT_AT": json.dumps(places)}


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with contextlib.ExitStack() as stack:
        try:
            pair = stack.enter_context(two_hosts())
        except OSError as error:
            pytest.skip(f"not shown: trainings on two hosts, for lack of network namespaces ({error})")
        yield pair


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_an4(tmp_path_factory.mktemp("data") / "an4")


@pytest.fixture(scope="module")
def one_host(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Mapping[str, Any]:
    """What a training leaves with two processes of one host."""
    folder = tmp_path_factory.mktemp("one")
    with (folder / "log.txt").open("w") as log:
        subprocess.run(
            torchrun("--standalone --nproc_per_node=2", recipe(data, folder / "out")),
            env={**os.environ, **halts(folder)},
            stdout=log,
            stderr=log,
            check=True,
            timeout=TIME_LIMIT,
        )
    return {"steps": halting.steps(folder), **killing.outcome(folder / "out")}


class Training:
    """A training on two hosts that share all files."""

    def __init__(self, hosts: tuple[Host, Host], folder: Path, argv: Sequence[str], *places: tuple[int, int]) -> None:
        self.folder, self.out = folder, folder / "out"
        self.command, self.environment = torchrun(f"{OPTIONS} {SHORT}", argv), {**ENVIRONMENT, **halts(folder, *places)}
        self.processes: dict[Host, subprocess.Popen[bytes]] = {}
        for host in hosts:
            self.start(host)

    def start(self, host: Host) -> None:
        self.processes[host] = host.start(self.command, self.log(host), self.environment)

    def log(self, host: Host) -> Path:
        return self.folder / f"{host.name}.txt"

    def halt(self, place: tuple[int, int]) -> None:
        """Wait until it has halted there."""
        halting.wait_for(lambda: halting.halted(self.folder, place), TIME_LIMIT)

    def wait_for_error(self, *hosts: Host) -> None:
        halting.wait_for(lambda: all("\nerror: " in self.log(host).read_text() for host in hosts), TIME_LIMIT)

    def finish(self) -> Mapping[str, Any]:
        """What it leaves, when it has ended well."""
        for host, process in self.processes.items():
            assert process.wait(TIME_LIMIT) == 0, self.log(host).read_text()
        return {"steps": halting.steps(self.folder), **killing.outcome(self.out)}


def check_repeated(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that a disturbed training went on after its checkpoint, and ended as one that was not disturbed."""
    repeated = (PLACE[0], PLACE[1] - 1)
    for again, once in zip(actual["steps"], expected["steps"], strict=True):
        disturbed = [place for place, _ in once].index(PLACE)
        assert again == [*once[:disturbed], once[disturbed - 1], *once[disturbed:]]
        assert once[disturbed - 1][0] == repeated
    check_same(actual, expected, but=("steps",))


def check_same(actual: Mapping[str, Any], expected: Mapping[str, Any], but: Sequence[str] = ()) -> None:
    for part in expected.keys() - set(but):
        assert actual[part] == expected[part], part


def test_two_hosts_train_to_the_weights_of_one(
    tmp_path: Path, hosts: tuple[Host, Host], data: Path, one_host: Mapping[str, Any]
) -> None:
    for epoch in (1, 2):
        trained = [name for each in one_host["steps"] for place, names in each if place[0] == epoch for name in names]
        assert len(trained) == len(set(trained)) == 30
    training = Training(hosts, tmp_path, recipe(data, tmp_path / "out"))
    check_same(training.finish(), one_host)


def test_a_host_that_dies_and_comes_back_costs_only_the_work_since_the_last_checkpoint(
    tmp_path: Path, hosts: tuple[Host, Host], data: Path, one_host: Mapping[str, Any]
) -> None:
    first, second = hosts
    training = Training(hosts, tmp_path, recipe(data, tmp_path / "out"), PLACE)
    training.halt(PLACE)
    second.kill()
    halting.let_go(tmp_path, PLACE)
    training.wait_for_error(first)
    training.start(second)
    check_repeated(training.finish(), one_host)


def test_a_host_that_is_cut_off_for_longer_than_the_timeout_costs_only_the_work_since_the_last_checkpoint(
    tmp_path: Path, hosts: tuple[Host, Host], data: Path, one_host: Mapping[str, Any]
) -> None:
    first, second = hosts
    training = Training(
        hosts, tmp_path, recipe(data, tmp_path / "out", distributed_timeout_minutes=0.25), (1, 2), PLACE
    )
    training.halt((1, 2))
    first.cut()
    halting.let_go(tmp_path, (1, 2))
    time.sleep(1)
    # Before the timeout, the training waits and loses nothing.
    first.join()
    training.halt(PLACE)
    first.cut()
    halting.let_go(tmp_path, PLACE)
    training.wait_for_error(first, second)
    first.join()
    check_repeated(training.finish(), one_host)


def test_hosts_that_do_not_share_the_output_folder_are_refused(
    tmp_path: Path, hosts: tuple[Host, Host], data: Path
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    command = torchrun(OPTIONS.replace("--max_restarts=3", "--max_restarts=0"), recipe(data, storage / "out"))
    logs = [tmp_path / f"{host.name}.txt" for host in hosts]
    processes = [
        host.start(command, log, {**ENVIRONMENT, **halts(tmp_path)}, own_folder=storage if host is hosts[1] else None)
        for host, log in zip(hosts, logs, strict=True)
    ]
    for process, log in zip(processes, logs, strict=True):
        assert process.wait(TIME_LIMIT) == 1
        (error,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
        assert error == (
            f"error: {storage / 'out'}: is not shared by the machines of this training: what process 0 on first writes "
            "there is not seen by process 1 on second; choose an output_folder on storage that all have under this "
            "path."
        )
    assert not list(storage.iterdir())


def test_the_documentation_shows_what_is_tested() -> None:
    page = " ".join((REPOSITORY / "docs" / "scale.md").read_text().replace("\\\n", "").split())
    for option in OPTIONS.replace("first:", "FIRST_MACHINE:").replace("--rdzv_id=an4", "").split():
        assert option in page, option
    assert "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in page
