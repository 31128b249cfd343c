"""The queue: trains the runs of a study, several at a time, and adds each one's row to the table of results.

The state of every run is kept in files, so that a killed queue continues when it is started again. The folder of a run
has these files:

| file | written | means |
|---|---|---|
| `lock` | before a process starts | while it is locked, a process works on this run |
| `run.json` | before a training starts | settings, commit and machine |
| `out/scores.json` | by the recipe, at its end | the training is done and will not be started again |
| `costs.json` | after `biglittle profile` | the network has been measured |
| `failed.json` | after a failure | the run is started again only with `--retry` |

The row of results comes last. It is made from these files, so any later queue can add it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biglittle_asr.files import read_json, write_atomically
from biglittle_asr.study.locks import try_lock
from biglittle_asr.study.plan import Run, Study, StudyError, can_skip_test
from biglittle_asr.study.results import (
    Results,
    describe_machine,
    is_finished,
    read_costs,
    read_epochs,
    read_scores,
    read_times,
)
from biglittle_asr.study.utterances import collect_utterances

POLL_SECONDS = 0.1
"""Interval between checks of the processes."""

GRACE_SECONDS = 30.0
"""Time for a training to end by itself after the queue is stopped. After this it is killed; its checkpoints survive."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop the queue cleanly."""

MAX_KILLS = 2
"""A run that signals end this many times, without progress in between, has failed. Once may be an accident."""

TAIL_LINES = 20
"""Number of last lines of the log that failed.json keeps."""

PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Places:
    """The files of a run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        """Output folder of the recipe."""
        self.log = folder / "log.txt"
        """Output of its processes."""
        self.lock = folder / "lock"
        """Lock file, locked while a process works on the run."""
        self.record = folder / "run.json"
        """Settings, commit and machine."""
        self.costs = folder / "costs.json"
        """Output of `biglittle profile`."""
        self.failure = folder / "failed.json"
        """Reason of a failure."""


@dataclass
class _Process:
    """A process that works on a run."""

    run: Run
    places: Places
    popen: subprocess.Popen[bytes]
    lock: int
    """Descriptor of the run's lock, which the process has inherited."""
    started: float
    training: bool
    """Whether it trains; else it measures."""
    epochs: int
    """Number of epochs trained before it started."""


class Queue:
    """Trains the runs of a study that are not done yet.

    Arguments
    ---------
    study : Study
    folder : pathlib.Path
        Folder with the clone, in the subfolder `clone`, and the runs. It is locked while the queue exists.
    results : Results
    commit : str
        Commit of the clone.
    data_folders : mapping from str to str
        Path or URL of each data folder, by name.
    jobs : int
        Number of processes at a time.
    threads : int
        Number of threads of each process.
    retry : bool
        Whether to start runs again that failed before.
    tell : callable
        Called with lines for the user.

    Raises
    ------
    StudyError
        If a data folder, recipe or YAML file is missing, or a run was started with other settings.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        results: Results,
        commit: str,
        data_folders: Mapping[str, str],
        jobs: int = 1,
        threads: int = 1,
        retry: bool = False,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.study, self.folder, self.results, self.commit = study, folder, results, commit
        self.data_folders, self.jobs, self.threads, self.tell = data_folders, jobs, threads, tell
        self.clone = folder / "clone"
        self.processes: list[_Process] = []
        self.kills: dict[Path, int] = {}
        self.stopped_by: int | None = None
        self._check()
        results.check(study)
        self.waiting = [run for run in study.runs if not results.has(run)]
        self.failed: list[Run] = []
        if retry:
            for run in self.waiting:
                self.places(run).failure.unlink(missing_ok=True)

    def places(self, run: Run) -> Places:
        """The files of a run."""
        return find_places(self.folder, run)

    def run(self) -> int:
        """Work until all runs are finished or a signal stops the queue.

        Returns
        -------
        int
            Exit status: 0 if every run of the study is in the table, 1 if some failed, 128 + signal if stopped.
        """
        done = len(self.study.runs) - len(self.waiting)
        self.tell(f"{len(self.study.runs)} runs, {done} of them done before; commit {self.commit[:12]}")
        # Under nohup, the queue ignores SIGHUP.
        numbers = [each for each in STOPPING if signal.getsignal(each) != signal.SIG_IGN or each != signal.SIGHUP]
        handlers = {each: signal.signal(each, self._stop) for each in numbers}
        try:
            while (self.waiting or self.processes) and self.stopped_by is None:
                self._start_what_fits()
                time.sleep(POLL_SECONDS)
                self._reap()
            if self.stopped_by is not None:
                self._end_processes()
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
        if self.stopped_by is not None:
            self.tell("stopped; the same command continues from the last checkpoints.")
            return 128 + self.stopped_by
        if self.failed:
            names = "; ".join(run.label for run in self.failed)
            self.tell(f"{len(self.failed)} of {len(self.study.runs)} runs failed: {names}. --retry starts them again.")
        return int(bool(self.failed))

    # Starting runs

    def _check(self) -> None:
        missing = [name for name in self.study.data if name not in self.data_folders]
        if missing:
            raise StudyError(f"{self.study.name}: needs a data folder; give --data {missing[0]}=/path/to/{missing[0]}.")
        for name in self.study.data:
            place = self.data_folders[name]
            if "://" not in place and not Path(place).exists():
                raise StudyError(f"--data {name}={place}: no such folder.")
        for run in self.study.runs:
            for name in (run.recipe, run.hparams):
                if not (self.clone / name).is_file():
                    raise StudyError(f"{run.label}: commit {self.commit[:12]} has no file {name}.")
            if run.test is not None and not can_skip_test(self.clone / run.hparams):
                raise StudyError(f"{run.label}: {run.hparams} has no test set to leave out; write 'test: null'.")
            record = read_record(self.places(run).record)
            if record is not None and record["settings"] != run.settings():
                raise StudyError(
                    f"{self.places(run).folder}: was started with other settings; give the run another name, or remove "
                    "that folder."
                )

    def _start_what_fits(self) -> None:
        """Start runs in order, until the largest number of processes is running."""
        orphans = 0
        for run in list(self.waiting):
            if len(self.processes) + orphans >= self.jobs:
                return
            places = self.places(run)
            if places.failure.is_file():
                self.waiting.remove(run)
                self.failed.append(run)
                reason = read_record(places.failure)
                self.tell(f"{run.label}: failed before: {reason and reason['reason']}")
                continue
            places.folder.mkdir(parents=True, exist_ok=True)
            lock = try_lock(places.lock)
            if lock is None:
                # A process of a killed queue. It counts as one of ours, and continues or ends by itself.
                orphans += 1
                continue
            self.waiting.remove(run)
            self._take_up(run, places, lock)

    def _take_up(self, run: Run, places: Places, lock: int) -> None:
        """Do the next step of a run: train, measure, or add its row."""
        if not is_finished(run, places.out):
            record = {"settings": run.settings(), "commit": self.commit, **self._circumstances()}
            write_atomically(places.record, json.dumps(record, indent=1) + "\n", durable=True)
            words = [run.recipe, *run.arguments(self.data_folders, places.out)]
            self._start(run, places, lock, words, training=True)
        elif not places.costs.is_file():
            # Recipes write no model folder for networks with parts from outside this package.
            network = places.out / "model" if (places.out / "model").is_dir() else places.out / "hyperparams.yaml"
            words = ["-m", "biglittle_asr.cli", "profile", str(network), "--json", "--threads", str(self.threads)]
            self._start(run, places, lock, words, training=False)
        else:
            self._add(run, places)
            os.close(lock)

    def _circumstances(self) -> dict[str, Any]:
        return {"threads": self.threads, "jobs": self.jobs, **describe_machine()}

    def _start(self, run: Run, places: Places, lock: int, words: list[str], training: bool) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.clone),
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
        }
        output = places.log if training else places.costs.with_name(".costs.json")
        with output.open("ab" if training else "wb") as stdout, places.log.open("ab") as stderr:
            popen = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.clone,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                # Ctrl-C in the terminal must reach only the queue, which passes it on.
                start_new_session=True,
                pass_fds=(lock,),
                preexec_fn=_die_with(os.getpid()),
            )
        epochs = len(read_epochs(places.out))
        self.processes.append(_Process(run, places, popen, lock, time.monotonic(), training, epochs))
        if training:
            self.tell(f"{run.label}: " + (f"continues after epoch {epochs}" if epochs else "starts"))

    # Ended processes

    def _reap(self) -> None:
        for process in list(self.processes):
            status = process.popen.poll()
            if status is not None:
                self.processes.remove(process)
                # Its child processes, such as data loaders, may outlive it.
                _signal_group(process.popen, signal.SIGKILL)
                self._conclude(process, status)

    def _conclude(self, process: _Process, status: int) -> None:
        """Take the next step of a run whose process has ended, or record its failure."""
        if status == 128 + signal.SIGTERM:
            # The training ended by itself, at a checkpoint.
            status = -signal.SIGTERM
        run, places = process.run, process.places
        minutes = (time.monotonic() - process.started) / 60
        if process.training:
            done = status == 0 and is_finished(run, places.out)
            if done:
                self.tell(f"{run.label}: trained, {minutes:.1f} min")
        else:
            done = status == 0
            partial = places.costs.with_name(".costs.json")
            if done:
                partial.replace(places.costs)
            elif status > 0:
                # A network whose costs cannot be counted is trained all the same.
                self.tell(f"{run.label}: its costs are not known: {_last_line(places.log)}")
                places.costs.write_text("{}\n", encoding="utf-8")
                done = True
        if done:
            self.kills.pop(places.folder, None)
            self._take_up(run, places, process.lock)
            return
        os.close(process.lock)
        if status < 0 and self.stopped_by is None:
            further = process.training and len(read_epochs(places.out)) > process.epochs
            self.kills[places.folder] = 1 if further else self.kills.get(places.folder, 0) + 1
            if self.kills[places.folder] < MAX_KILLS:
                self.tell(f"{run.label}: was ended by signal {-status}, and is started again")
                self.waiting.insert(0, run)
                return
        self._note_failure(run, places, status)

    def _note_failure(self, run: Run, places: Places, status: int) -> None:
        reason = _last_line(places.log)
        if status < 0:
            reason = f"ended by signal {-status}, {MAX_KILLS} times; the last line of its log: {reason}"
        elif status == 0:
            reason = f"ended without the scores that were asked for; the last line of its log: {reason}"
        failure = {"status": status, "reason": reason, "log": _tail(places.log)}
        write_atomically(places.failure, json.dumps(failure, indent=1, ensure_ascii=False) + "\n", durable=True)
        self.failed.append(run)
        self.tell(f"{run.label}: FAILED: {reason} ({places.log})")

    def _add(self, run: Run, places: Places) -> None:
        """Add the row of a run to the table of results."""
        record = read_record(places.record)
        assert record is not None
        known = ("commit", "threads", "jobs", "cpu", "cores", "cpu_flags", "torch")
        facts = {
            "study": self.study.name,
            **{name: record[name] for name in known},
            **read_costs(places.costs),
            **read_times(places.out),
            **(read_scores(places.out) or {}),
        }
        try:
            # Before the row, after which no queue takes up this run again.
            collect_utterances(self.results, run, places.out)
        except StudyError as error:
            self.tell(f"{run.label}: {error}")
        self.results.add(run, facts)
        errors = [f"{name.removesuffix('_wer')} WER {value:.2f} %" for name, value in facts.items() if "_wer" in name]
        if "dev_top1_error" in facts:
            errors = [f"top-1 error {facts['dev_top1_error']:.2f} %"]
        self.tell(f"{run.label}: done, {', '.join(errors)}, {facts['minutes']:.1f} min of training")

    # Stopping

    def _stop(self, number: int, frame: Any) -> None:
        if self.stopped_by is not None:
            # A second signal stops the processes at once.
            for process in self.processes:
                _signal_group(process.popen, signal.SIGKILL)
        self.stopped_by = number

    def _end_processes(self) -> None:
        self.tell(f"stopping {len(self.processes)} running")
        for process in self.processes:
            _signal_group(process.popen, signal.SIGINT if self.stopped_by == signal.SIGINT else signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        for process in self.processes:
            while process.popen.poll() is None and time.monotonic() < end:
                time.sleep(POLL_SECONDS)
            _signal_group(process.popen, signal.SIGKILL)
            process.popen.wait()
            os.close(process.lock)


def find_places(folder: Path, run: Run) -> Places:
    """Return the files of a run of the study in `folder`."""
    return Places(folder / "runs" / run.folder)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if the file does not exist."""
    try:
        record: Any = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: is not the record that was written there; remove it.")
    return record


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return a function that has a child process killed when its parent dies; None if not on Linux."""
    if LIBC is None:
        return None

    def prepare() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died already.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _signal_group(popen: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and its child processes, such as data loaders."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, number)


def _tail(log: Path) -> list[str]:
    """Return the last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20000))
            lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.strip()][-TAIL_LINES:]


def _last_line(log: Path) -> str:
    return (_tail(log) or ["it printed nothing"])[-1].strip()
