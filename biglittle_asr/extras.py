"""Optional packages: what each extra of setup.py is for, and what to tell a user who lacks one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """Packages that only some uses need."""

    purpose: str
    """What they are for."""
    packages: tuple[str, ...]
    """Their names, as pip knows them."""


EXTRAS = {
    "completion": Extra("shell completion (biglittle completion)", ("shtab",)),
    "demo": Extra("synthetic speech (make demo)", ("espeakng-loader",)),
    "docs": Extra("the documentation as a site (make docs)", ("zensical", "mkdocstrings-python")),
    "export": Extra("networks for onnxruntime, OpenVINO and others", ("onnx", "onnxscript", "onnxruntime", "openvino")),
    "hub": Extra("models named org/name on Hugging Face's hub", ("huggingface_hub",)),
    "hybrid": Extra("hybrid systems", ("kaldifst", "kaldi-decoder", "kaldilm", "kaldi-native-io")),
    "images": Extra("images: classifiers and their training", ("torchvision", "pillow")),
    "lm": Extra("beam search for CTC models: --lm, --lexicon, --hotwords", ("flashlight-text",)),
    "normalizer": Extra("scoring with --normalizer", ("whisper-normalizer",)),
    "scale": Extra("transcription on many cores and machines: --engine ray", ("ray",)),
    "serve": Extra("the server (biglittle serve)", ("starlette", "uvicorn", "h11", "websockets", "python-multipart")),
    "storage": Extra("object storage: s3://, gs://, abfs://", ("s3fs", "gcsfs", "adlfs")),
}
"""Extras of setup.py by name, without `dev`."""


def pip_command(extra: str) -> str:
    """The command that installs an extra.

    Example
    -------
    >>> pip_command("lm")
    "pip install 'biglittle-asr[lm]'"
    """
    return f"pip install 'biglittle-asr[{extra}]'"


def missing_extra(need: str, extra: str, error: ImportError) -> str:
    """Write the sentence about a package that cannot be imported.

    Arguments
    ---------
    need : str
        What needs which package.
    extra : str
        The extra that has it.
    error : ImportError
        What importing it raised.

    Example
    -------
    >>> missing_extra("a beam search needs flashlight-text", "lm", ImportError("No module named 'flashlight'"))
    "a beam search needs flashlight-text (No module named 'flashlight'): pip install 'biglittle-asr[lm]'."
    """
    return f"{need} ({error}): {pip_command(extra)}."
