"""Networks in other runtimes: the features, windows and searches of PyTorch's recognizer, the network elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from biglittle_asr.export.files import metadata_of, read_onnx
from biglittle_asr.extras import pip_command
from biglittle_asr.messages import first_line, unknown
from biglittle_asr.nnet import output_length

Array = np.ndarray[Any, Any]


class Runtime(ABC):
    """An ONNX file, loaded by a program that runs it.

    Arguments
    ---------
    path : pathlib.Path
        A file from `biglittle export`.
    threads : int
        Threads that compute one call.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    facts : dict
        This package's facts in the file's metadata.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    """The optional package that has to be installed."""
    facts: dict[str, Any]

    def __init__(self, path: Path, threads: int) -> None:
        check_installed(type(self))
        self.check_process()
        self.path = path
        content = read_onnx(path)
        try:
            metadata = self._load(content, threads)
        except Exception as error:  # runtimes have error classes of their own
            raise ValueError(f"{path}: {self.name} cannot load it ({first_line(error)}).") from error
        try:
            self.facts = metadata_of(metadata)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def check_process(self) -> None:  # noqa: B027 (most runtimes have nothing to check)
        """Raise ValueError if the runtime cannot be used in this process."""

    @abstractmethod
    def _load(self, content: bytes, threads: int) -> Mapping[str, str]:
        """Load a file; returns its metadata."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute the outputs from the inputs, both in the order of the file.

        Raises
        ------
        ValueError
            If the file's network cannot be run on them.
        """
        self.check_process()
        try:
            return self._run(inputs)
        except Exception as error:  # runtimes have error classes of their own
            raise ValueError(
                f"{self.path}: {self.name} cannot run it ({first_line(error)}); export the model again."
            ) from error

    @abstractmethod
    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        """Compute the outputs."""

    def floats(self, outputs: Array, *shape: int | None) -> Tensor:
        """Outputs as a tensor; raises ValueError unless they have the shape, whose None may be any size."""
        fits = outputs.ndim == len(shape) and all(
            size in (None, found) for size, found in zip(shape, outputs.shape, strict=True)
        )
        if not fits or outputs.dtype != np.float32 or not np.isfinite(outputs).all():
            raise ValueError(
                f"{self.path}: computes {outputs.dtype} of shape {list(outputs.shape)}, and not finite float32 of "
                f"shape {list(shape)}; export the model again."
            )
        return torch.from_numpy(outputs)


class OnnxRuntime(Runtime):
    """Microsoft's onnxruntime: fast for any mix of lengths."""

    name = package = "onnxruntime"

    def _load(self, content: bytes, threads: int) -> Mapping[str, str]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that wait for work spin, which takes the other cores from whoever else computes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]
        metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return metadata

    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        found: list[Array] = self._session.run(None, dict(zip(self._inputs, inputs, strict=True)))
        return found


class OpenVINO(Runtime):
    """Intel's OpenVINO: fastest on few lengths, since it prepares itself anew for each length."""

    name = package = "openvino"
    hint = "f32"
    """Precision of operators that are not quantized; OpenVINO takes bfloat16 by itself where it is fast."""

    def _load(self, content: bytes, threads: int) -> Mapping[str, str]:
        import openvino

        core, _ = _openvino_core()
        model = core.read_model(content)
        precise = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": self.hint}
        self._request = core.compile_model(model, "CPU", precise).create_infer_request()
        found = model.get_rt_info()
        facts = dict(found["framework"]) if "framework" in list(found) else {}
        return {key: str(each.value if isinstance(each, openvino.OVAny) else each) for key, each in facts.items()}

    def check_process(self) -> None:
        """Raise ValueError in a process that was forked from one that has used OpenVINO, for it would hang."""
        if _openvino_core()[1] != os.getpid():
            raise ValueError(
                "openvino hangs in a process that was forked from one that has used it; start processes with "
                'multiprocessing\'s method "spawn", or take the runtime onnxruntime.'
            )

    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        found = self._request.infer(dict(enumerate(inputs)))
        return [np.array(found[index]) for index in range(len(found))]


@functools.cache
def _openvino_core() -> tuple[Any, int]:
    """The one core of the process, and the process's number.

    Each core has a stack for signals. When two cores end in the order in which they began, the second restores the
    stack of the first, which is gone, and the next signal with a handler in Python ends the process.
    """
    import openvino

    return openvino.Core(), os.getpid()


RUNTIMES: dict[str, type[Runtime]] = {each.name: each for each in (OnnxRuntime, OpenVINO)}
"""Runtimes other than PyTorch, by name."""
TORCH = "torch"


def check_installed(runtime: type[Runtime]) -> None:
    """Raise ValueError if the package of a runtime is not installed."""
    if importlib.util.find_spec(runtime.package) is None:
        raise ValueError(
            f"the runtime {runtime.name} needs the package {runtime.package}; install it with {pip_command('export')}."
        )


def find_runtime(name: str) -> type[Runtime]:
    """The runtime of a name.

    Raises
    ------
    ValueError
        If none has this name.

    Example
    -------
    >>> find_runtime("onnxruntime").package
    'onnxruntime'
    """
    if name not in RUNTIMES:
        raise ValueError(unknown("runtime", name, (TORCH, *RUNTIMES)))
    return RUNTIMES[name]


class RuntimeNetwork:
    """A recognizer's network in another runtime.

    Arguments
    ---------
    runtime : Runtime
        The file for padded batches.
    stream : function without arguments
        Opens the file for streaming; raises ValueError if the network cannot stream.
    time_stride, size : int
        Feature frames per output, and values of an output.
    """

    def __init__(self, runtime: Runtime, stream: Callable[[], Runtime], time_stride: int, size: int) -> None:
        self.runtime = runtime
        self.time_stride, self.size = time_stride, size
        # Streams keep their state themselves, so that all can share one open file.
        self._stream = functools.cache(stream)

    @property
    def normalizes(self) -> bool:
        """Whether the file normalizes features itself."""
        return bool(self.runtime.facts["inputs"] == "features")

    def outputs(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what decoding reads, (B, T', D), and frames (B,), of features (B, T, F) and frames (B,).

        Raises
        ------
        ValueError
            If the file's network cannot be run, or its outputs are of another shape or not finite.
        """
        planes = np.ascontiguousarray(features.float().transpose(1, 2).numpy())
        outputs = self.runtime.run([planes, frames.numpy()])[0]
        longest = output_length(features.shape[1], self.time_stride)
        # The file counts frames too, for programs that do not know the stride.
        return self.runtime.floats(outputs, len(features), longest, self.size), output_length(frames, self.time_stride)

    def stream(self) -> RuntimeStream:
        """Begin a stream."""
        return RuntimeStream(self._stream())


class RuntimeStream:
    """A stream through a network in another runtime, which takes windows of one size.

    Arguments
    ---------
    runtime : Runtime
        The file for streaming.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.window, self.stride = int(runtime.facts["window"]), int(runtime.facts["time_stride"])
        size = int(runtime.facts["state_size"])
        self._state: list[Array] = [
            np.zeros((1, 1, 1, size), np.float32),
            np.zeros((1, 1, 1, 1), np.float32),
            np.zeros(1, np.int64),
        ]
        self._waiting = np.zeros((1, int(runtime.facts["input_size"]), 0), np.float32)

    def step(self, features: Tensor) -> Tensor:
        """Outputs (T', V) of the windows that the next features (1, T, F) complete."""
        self._waiting = np.concatenate([self._waiting, features.transpose(1, 2).numpy()], axis=2)
        found = []
        while self._waiting.shape[2] >= self.window:
            found.append(self._run(self._waiting[:, :, : self.window]))
            self._waiting = self._waiting[:, :, self.window :]
        return torch.cat(found) if found else torch.zeros(0, int(self.runtime.facts["outputs"]))

    def finish(self, features: Tensor) -> Tensor:
        """Outputs (T', V) of the last features (1, T, F) and of those that wait for a whole window."""
        found = self.step(features)
        left = self._waiting.shape[2]
        if not left:
            return found
        # Frames behind the end cannot change those before, since the network is causal.
        last = self._run(np.pad(self._waiting, ((0, 0), (0, 0), (0, self.window - left))))
        return torch.cat([found, last[: output_length(left, self.stride)]])

    def _run(self, window: Array) -> Tensor:
        lengths = np.array([self.window], np.int64)
        outputs, _, *self._state = self.runtime.run([np.ascontiguousarray(window), lengths, *self._state])
        size = int(self.runtime.facts["outputs"])
        return self.runtime.floats(outputs, 1, output_length(self.window, self.stride), size)[0]
