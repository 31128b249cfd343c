"""What a training ran with: versions of Python and packages, commit, CUDA."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch


def describe_environment() -> str:
    """Describe the running Python, in the form of SpeechBrain's `env.log`.

    SpeechBrain asks the first `pip` and the git repository of the working folder, which may belong to another Python
    and to another project.

    Returns
    -------
    str

    Example
    -------
    >>> describe_environment().splitlines()[0].startswith("Python version:")
    True
    """
    packages = sorted({f"{each.name}=={each.version}" for each in metadata.distributions()}, key=str.lower)
    sections = {
        "Python version": platform.python_version(),
        "Installed Python packages": "\n".join(packages),
        "Git revision": _commit() or "none",
        "CUDA version": torch.version.cuda if torch.cuda.is_available() and torch.version.cuda else "not available",
    }
    return "\n".join(f"{title}:\n{content}" for title, content in sections.items()) + "\n"


def _commit() -> str | None:
    """The commit of the repository that this package is run from; None if it is installed otherwise."""
    repository = Path(__file__).resolve().parents[2]
    if not (repository / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(repository), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
