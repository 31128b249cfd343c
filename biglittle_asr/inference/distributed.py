"""Transcription on all cores or GPUs of a machine or a cluster, with Ray: each worker is a process with a recognizer.

The driver, which is the process that calls :func:`distribute`, cuts the recordings into units of about equal work and
sends their names to workers; a worker reads the audio itself and transcribes a unit as
:func:`~biglittle_asr.inference.transcription.transcribe` does in one process. Ray starts a worker again that has died
and repeats its unit. Workers on machines that join later get units too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import pickle
import secrets
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from biglittle_asr.decoding import DecodingSettings
from biglittle_asr.extras import missing_extra
from biglittle_asr.inference.audio import AudioSamples, Recording
from biglittle_asr.inference.exporting import ONNX
from biglittle_asr.inference.folder.store import NEEDED, existing_folder, find_folder, load_model
from biglittle_asr.inference.optimize import optimize
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.inference.transcription import (
    BATCH_SECONDS,
    WINDOW_SECONDS,
    Failure,
    Progress,
    Transcript,
    transcribe,
)
from biglittle_asr.messages import first_line
from biglittle_asr.nnet.devices import usable_device
from biglittle_asr.shards import ShardMember, is_url
from biglittle_asr.threads import usable_cores

UNIT_RECORDINGS, UNIT_BYTES = 64, 32 << 20
"""A unit has at most so many recordings, and at most so many bytes of audio files unless it is one recording. 32 MB are
17 minutes of 16-bit samples at 16 kHz: seconds of work, against milliseconds that Ray needs for a unit."""
UNITS_PER_CORE = 4
"""Fewest units per core, if there are enough recordings, so that no core is idle for long at the end."""
RETRIES = 2
"""How often a unit is repeated whose worker died, and again when its recordings are alone."""
CONNECT_SECONDS = 10.0
"""How long to wait for an answer from an address."""
SETTINGS_FRAME = b"\x04"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS_FRAME + bytes(5)
"""How a connection for remote calls (gRPC) begins: length, type, flags and stream of an empty frame of settings. The
server answers with its own (RFC 9113, section 3.4)."""

LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Every process listens on the loopback interface only; Ray has this for other systems, but obeys it on Linux.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray's default of 15 would starve workers beside any other program.
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",
}
"""Environment of clusters on this machine, unless the user has set it otherwise. Ray reads it when it is imported."""
QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Environment of the driver: its messages are for developers of Ray."""


@dataclasses.dataclass(frozen=True)
class SharedModel:
    """What a worker needs to have the recognizer of another process, as data.

    Arguments
    ---------
    files : mapping from str to bytes
        The model folder, without its card.
    device : str
        Kind of device of the workers: "cpu" or "cuda".
    runtime, precision : str
        As for `load_model`.
    settings : DecodingSettings, optional
        None: the model's own. Its files must have the same paths on all machines.
    """

    files: Mapping[str, bytes]
    device: str = "cpu"
    runtime: str = "torch"
    precision: str = "fp32"
    settings: DecodingSettings | None = None

    @classmethod
    def of(cls, name: str | Path, recognizer: Recognizer, *fields: Any) -> SharedModel:
        """Read the folder of a recognizer, with the files of its runtime; `fields` are the other fields, in order."""
        folder = find_folder(existing_folder(name))
        files = {each: (folder / each).read_bytes() for each in NEEDED}
        if recognizer.network is not None:
            path = recognizer.network.runtime.path
            files[f"{ONNX}/{path.name}"] = path.read_bytes()
        return cls(files, *fields)

    def facts(self) -> dict[str, Any]:
        """What the words depend on, as JSON has it: a checksum of the folder, and the other fields except the device.

        Example
        -------
        >>> SharedModel({"config.json": b"{}"}).facts()
        {'model': 'd456867ea4933cd1', 'runtime': 'torch', 'precision': 'fp32', 'decoding': None}
        """
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        return {
            "model": digest.hexdigest()[:16],
            "runtime": self.runtime,
            "precision": self.precision,
            "decoding": None if self.settings is None else dataclasses.asdict(self.settings),
        }

    def load(self) -> Recognizer:
        """Make the recognizer, with one thread; raises OSError or ValueError as `load_model` and `set_search` do."""
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory(prefix="biglittle") as folder:
            for name, content in self.files.items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            recognizer = load_model(folder, usable_device(self.device), self.runtime, self.precision)
            if self.settings is not None:
                recognizer.set_search(self.settings)
            return optimize(recognizer) if recognizer.network is None else recognizer


class Worker:
    """A process of the cluster: holds a recognizer and transcribes units."""

    def __init__(self, model: Any, options: Mapping[str, Any]) -> None:
        import ray

        self.options = options
        self.recognizer: Recognizer | None = None
        self.error: Exception | None = None
        try:
            self.recognizer = ray.get(model).load()
        except (OSError, ValueError) as error:
            self.error = ValueError(f"a worker on {socket.gethostname()} cannot begin: {error}")

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Transcribe a unit; the result has its number, and its results or an exception, pickled."""
        found: list[Transcript | Failure] | Exception
        try:
            if self.recognizer is None:
                raise self.error or RuntimeError("no recognizer")
            recordings: list[Recording] = pickle.loads(unit["recordings"])
            results = {each.recording: each for each in transcribe(self.recognizer, recordings, **self.options)}
            found = [results[recording] for recording in recordings]
        # As in one process, an error that is not a recording's ends the run; there, its traceback would come in Ray's.
        except Exception as error:
            found = error
        return {"number": unit["number"], "found": pickle.dumps(found)}


@contextlib.contextmanager
def cluster(address: str | None = None, cores: int | None = None) -> Iterator[None]:
    """Connect this process to a Ray cluster; where it is connected already, use that.

    Arguments
    ---------
    address : str, optional
        `HOST:PORT` of a running cluster, one of whose machines this is, or "auto" to find the one on this machine. If
        not given, a cluster of this machine is started for the time being. It listens on the loopback interface only,
        asks for a token that is made up each time, and reports nothing to anyone.
    cores : int, optional
        Cores of a cluster that is started; all usable ones if not given.

    Raises
    ------
    ValueError
        If Ray is not installed, no cluster answers at the address, or it cannot be joined or started.
    """
    if address is not None and address != "auto":
        _check_address(address)
    for name, value in {**QUIET, **(LOCAL if address is None else {})}.items():
        os.environ.setdefault(name, value)
    if address is None and os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Without one in the environment, Ray would write one into the user's home.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(missing_extra("--engine ray needs Ray", "scale", error)) from error
    if ray.is_initialized():
        yield
        return
    # Otherwise, news of dead workers would go to standard output, whatever log_to_driver is.
    ray._private.worker._worker_logs_enabled = False
    # Ray's own place, since the paths of its sockets must be short.
    short = "/tmp" if os.path.isdir("/tmp") else None
    with tempfile.TemporaryDirectory(prefix="ray", dir=short, ignore_cleanup_errors=True) as folder:
        options: dict[str, Any] = {"address": address}
        if address is None:
            options = {
                "address": "local",
                "num_cpus": cores or usable_cores(),
                "include_dashboard": False,
                "object_store_memory": 512 << 20,
                "_temp_dir": folder,
            }
        try:
            with _silence():
                ray.init(log_to_driver=False, logging_level="ERROR", **options)
        # Ray raises exceptions of many kinds.
        except Exception as error:
            place = "on this machine" if address is None else f"at {address}"
            raise ValueError(f"--engine ray: no cluster {place} ({first_line(error)}).") from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Find out quickly whether something like Ray answers, for Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--address {address}: must be HOST:PORT, or auto.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as connection:
            connection.sendall(HTTP2)
            if "RAY_USE_TLS" not in os.environ and connection.recv(4)[3:] != SETTINGS_FRAME:
                raise OSError("something else does")
    except OSError as error:
        raise ValueError(
            f"--address {address}: no Ray cluster answers there ({error.strerror or first_line(error)}); check the "
            "address, or start one with `ray start --head`."
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard what compiled code writes to standard error, such as Ray's note that its messages are off."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def distribute(
    model: SharedModel,
    recordings: Sequence[Recording],
    *,
    window_seconds: float = WINDOW_SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress = lambda done, total: None,
    report: Callable[[str], None] = lambda message: None,
) -> Iterator[Transcript | Failure]:
    """Transcribe recordings on the cluster that this process is connected to; see :func:`cluster`.

    Arguments
    ---------
    model : SharedModel
        Sent to each machine once.
    recordings : sequence of Recording
        Of files or members of shards, which all machines must have under the same paths or URLs.
    window_seconds, batch_seconds
        As in :func:`~biglittle_asr.inference.transcription.transcribe`; they change no word.
    progress : function of (float, float)
        Called from time to time with the number of recordings done and in total.
    report : function of str
        Called with a message if the cluster has nothing to begin with.

    Yields
    ------
    Transcript or Failure
        One per recording, in their order, except that those whose workers died again and again come last.

    Raises
    ------
    ValueError
        If a worker cannot load the model, or a recording is of samples in memory.
    """
    import ray
    import ray.data

    resource = "CPU" if model.device == "cpu" else "GPU"
    slots = int(ray.cluster_resources().get(resource, 0))
    if not slots:
        report(f"the cluster has no {resource} yet; waiting for a machine that has.")
    shared = ray.put(model)
    options = {"window_seconds": window_seconds, "batch_seconds": batch_seconds}
    left, done = dict(enumerate(recordings)), 0
    # What kills its worker each time takes its unit along, and the one that waits behind it. Alone, it does not.
    together = max(1, min(UNIT_RECORDINGS, len(recordings) // (UNITS_PER_CORE * max(1, slots))))
    for most, in_flight in ((together, None), (1, 1)):
        if not left:
            return
        units = list(_units(left, most))
        workers = ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=len(units),
            initial_size=max(1, min(slots, len(units))),
            max_tasks_in_flight_per_actor=in_flight,
        )
        needs = {"compute": workers, "num_cpus" if resource == "CPU" else "num_gpus": 1}
        for number, results in _map(shared, options, [[left[i] for i in unit] for unit in units], needs):
            for index, result in zip(units[number], results, strict=True):
                # The worker's recording has another path.
                yield dataclasses.replace(result, recording=left.pop(index))
            done += len(results)
            progress(done, len(recordings))
    for recording in left.values():
        name = recording.label or recording.path
        yield Failure(recording, ValueError(f"{name}: the processes that transcribed it died; transcribe it alone."))


def _map(
    shared: Any, options: Mapping[str, Any], units: Sequence[Sequence[Recording]], needs: Mapping[str, Any]
) -> Iterator[tuple[int, list[Transcript | Failure]]]:
    """Yield the numbers and results of units, in their order; units whose workers died are missing."""
    import ray.data

    rows = [{"number": n, "recordings": pickle.dumps([*map(_anywhere, unit)])} for n, unit in enumerate(units)]
    with warnings.catch_warnings():
        # Ray gives up this way of saying max_task_retries in 2.64, which setup.py excludes; there is no other yet.
        warnings.simplefilter("ignore")
        _set_up(ray.data.DataContext.get_current())
        # One block per unit, which is Ray's unit of work.
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(shared, options),
            max_task_retries=RETRIES,
            **needs,
        )
    for row in results.iter_rows():
        found = pickle.loads(row["found"])
        if isinstance(found, Exception):
            raise found
        yield int(row["number"]), found


def _set_up(context: Any) -> None:
    """Have units in order and without messages, however long each takes, and those whose workers died left out."""
    context.execution_options.preserve_order = True
    context.execution_no_progress_timeout_s = -1
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Ray's log file has its messages. Ray also adds the program's own handlers, which are not to be changed.
    for handler in set(logging.getLogger("ray.data").handlers) - set(logging.getLogger().handlers):
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _units(recordings: Mapping[int, Recording], most: int) -> Iterator[list[int]]:
    """Cut recordings into units of at most `most`, by their keys."""
    unit: list[int] = []
    size = 0
    for index, recording in recordings.items():
        added = _bytes(recording)
        if unit and (len(unit) == most or size + added > UNIT_BYTES):
            yield unit
            unit, size = [], 0
        unit.append(index)
        size += added
    if unit:
        yield unit


def _bytes(recording: Recording) -> int:
    """About how many bytes of audio a recording has; 0 if it cannot be read, as its worker will find."""
    if recording.length is not None:
        return round(recording.length * 32_000)
    if isinstance(recording.path, ShardMember):
        return recording.path.size
    with contextlib.suppress(OSError):
        return os.stat(str(recording.path)).st_size
    return 0


def _anywhere(recording: Recording) -> Recording:
    """The same recording for a process in another folder; messages have the path that the user gave."""
    path = recording.path
    if isinstance(path, AudioSamples):
        raise ValueError(f"{path}: only files are transcribed by a cluster; write them to one.")
    absolute: Path | ShardMember
    if isinstance(path, Path):
        absolute = path.absolute()
    else:
        absolute = path if is_url(path.shard) else dataclasses.replace(path, shard=os.path.abspath(path.shard))
    return dataclasses.replace(recording, path=absolute, label=recording.label or str(path))
