"""`biglittle doctor`: what is installed, what this machine can do, and how to get what is missing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from importlib import metadata
from typing import Any

from biglittle_asr import __version__
from biglittle_asr.commands.shared import add_json
from biglittle_asr.extras import EXTRAS, pip_command
from biglittle_asr.messages import first_line
from biglittle_asr.threads import usable_cores

DISTRIBUTION = "biglittle-asr"
SHOWN = ("torch", "torchaudio", "speechbrain")
"""Packages whose versions are printed."""
INSTRUCTIONS = {"avx2": "avx2", "avx512": "avx512_f", "bf16": "avx512_bf16", "vnni": "avx512_vnni", "amx": "amx_tile"}
"""Instructions that make networks faster -> their names in torch.cpu.get_capabilities."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    problems = [*_wrong_versions(), *_failures()]
    facts = {
        "versions": {"python": platform.python_version(), DISTRIBUTION: __version__, **_versions(SHOWN)},
        "problems": problems,
        "threads": _threads(),
        "cpu": _cpu(),
        "gpus": _gpus(),
        "audio": _audio(),
        "extras": {name: _extra(name) for name in EXTRAS},
    }
    print(json.dumps(facts) if options.json else _describe(facts))
    if problems:
        raise ValueError(f"{len(problems)} of the checks failed, the first: {problems[0]}")


def _versions(packages: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _wrong_versions() -> list[str]:
    """A sentence for each package that must be there and is not, or not in a version that fits."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
        from packaging.requirements import Requirement
    except (metadata.PackageNotFoundError, ImportError):
        return []  # run from its source, without having been installed
    sentences = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _versions((requirement.name,))[requirement.name]
        if version is None:
            sentences.append(f"{requirement.name} is not installed: pip install '{requirement}'.")
        elif not requirement.specifier.contains(version, prereleases=True):
            sentences.append(f"{requirement.name} {version} does not fit: pip install '{requirement}'.")
    return sentences


def _failures() -> list[str]:
    """A sentence for each thing that commands and recipes need, and that does not work here."""
    sentences = []
    for what, check in (("PyTorch and a network", _run_network), ("audio files", _import_audio)):
        try:
            check()
        # Whatever a broken installation raises: libraries that are missing, or built for other versions.
        except Exception as error:
            sentences.append(f"{what}: do not work here ({first_line(error)}).")
    return sentences


def _run_network() -> None:
    import torch
    import torchaudio  # noqa: F401  (its library must fit PyTorch's)

    from biglittle_asr.models import create_encoder

    with torch.inference_mode():
        create_encoder("bl_resnet22", channels=(4, 4, 4, 4)).eval()(torch.zeros(1, 16, 80))


def _import_audio() -> None:
    import soundfile  # noqa: F401


def _threads() -> dict[str, Any]:
    """Threads of PyTorch, and what decides their number."""
    try:
        import torch

        threads = torch.get_num_threads()
    except ImportError:
        threads = None
    return {"cores": usable_cores(), "torch": threads, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}


def _cpu() -> dict[str, Any]:
    """Name of the processor, and for each of `INSTRUCTIONS` whether it has them, None if that is not known."""
    try:
        import torch

        from biglittle_asr.profiling.latency import processor

        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        name = processor()
    except ImportError:
        name, capabilities = platform.processor(), {}
    return {"name": name, "instructions": {short: capabilities.get(long) for short, long in INSTRUCTIONS.items()}}


def _gpus() -> list[dict[str, Any]]:
    try:
        import torch
    except ImportError:
        return []
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [{"name": each.name, "gibibytes": round(each.total_memory / 2**30, 1)} for each in properties]


def _audio() -> dict[str, Any]:
    try:
        import soundfile

        version, formats = soundfile.__libsndfile_version__, sorted(soundfile.available_formats())
    except (ImportError, OSError):
        version, formats = None, []
    return {"libsndfile": version, "formats": formats, "ffmpeg": shutil.which("ffmpeg")}


def _extra(name: str) -> dict[str, Any]:
    extra = EXTRAS[name]
    packages = _versions(extra.packages)
    return {
        "purpose": extra.purpose,
        "installed": None not in packages.values(),
        "packages": packages,
        "command": pip_command(name),
    }


def _describe(facts: dict[str, Any]) -> str:
    threads, cpu, audio = facts["threads"], facts["cpu"], facts["audio"]
    instructions = cpu["instructions"]
    sets = {
        "has": [name for name, there in instructions.items() if there],
        "lacks": [name for name, there in instructions.items() if there is False],
    }
    gpus = ", ".join(f"{gpu['name']} ({gpu['gibibytes']} GiB)" for gpu in facts["gpus"])
    ffmpeg = audio["ffmpeg"] or "not found; MPEG-4, WebM, AAC and others need it"
    rows = [
        ("versions", ", ".join(f"{name} {version or 'missing'}" for name, version in facts["versions"].items())),
        ("core", "works" if not facts["problems"] else "does not work"),
        *(("", problem) for problem in facts["problems"]),
        ("threads", f"{threads['torch']} in PyTorch, {threads['cores']} cores usable"),
        ("CPU", cpu["name"]),
        *(("", f"{word} {', '.join(names)}") for word, names in sets.items() if names),
        ("GPU", gpus or "none"),
        ("audio", f"libsndfile {audio['libsndfile'] or 'missing'}: {', '.join(audio['formats'])}"),
        ("ffmpeg", ffmpeg),
    ]
    if threads["OMP_NUM_THREADS"] is not None:
        rows.insert([name for name, _ in rows].index("CPU"), ("", f"OMP_NUM_THREADS={threads['OMP_NUM_THREADS']}"))
    lines = [f"{name:<10}{text}" for name, text in rows]
    lines += ["", "extras"]
    for name, extra in facts["extras"].items():
        there = [f"{package} {version}" for package, version in extra["packages"].items() if version is not None]
        lines.append(f"{name:<12}{'installed' if extra['installed'] else 'missing':<11}{extra['purpose']}")
        lines.append(f"{'':<23}{', '.join(there)}" if extra["installed"] else f"{'':<23}{extra['command']}")
    return "\n".join(lines)
