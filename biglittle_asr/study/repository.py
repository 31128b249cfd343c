"""A clone of the repository at a fixed commit: what changes in the work tree does not change what runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from biglittle_asr.files import replacing_folder
from biglittle_asr.messages import some
from biglittle_asr.study.plan import StudyError


def check_out(repository: Path, clone: Path, commit: str | None, tell: Callable[[str], None]) -> str:
    """Make the clone that a study runs from, or go on with the one that is there.

    Arguments
    ---------
    repository : pathlib.Path
        Whose objects the clone shares.
    clone : pathlib.Path
        Folder; made under another name and then renamed, so that it is complete or not there.
    commit : str, optional
        What to check out; HEAD if not given, or the clone's commit if there is one.
    tell : callable
        Takes what the user should know: of changes that are not committed, and of a clone behind HEAD.

    Returns
    -------
    str
        The commit, 40 digits.

    Raises
    ------
    StudyError
        If git cannot do it, the clone is at another commit than the one asked for, or files in it were changed.
    """
    wanted = _git(repository, "rev-parse", "--verify", f"{commit or 'HEAD'}^{{commit}}")
    if clone.is_dir():
        present = _git(clone, "rev-parse", "HEAD")
        if _git(clone, "status", "--porcelain", "--untracked-files=no"):
            raise StudyError(f"{clone}: files of this clone were changed; undo that, or take another --output folder.")
        if commit is not None and present != wanted:
            raise StudyError(
                f"{clone}: is at commit {present[:12]}, not {wanted[:12]}; take another --output folder for another "
                "commit."
            )
        if present != wanted:
            tell(f"{clone} stays at commit {present[:12]}, though the repository is at {wanted[:12]}.")
        return present
    changed = _git(repository, "status", "--porcelain").splitlines()
    if changed:
        names = some([line[3:] for line in changed])
        tell(f"warning: changes that are not committed are not in the runs: {names}")
    with replacing_folder(clone) as partial:
        _git(repository, "clone", "--quiet", "--shared", "--no-checkout", str(repository), str(partial))
        _git(partial, "checkout", "--quiet", "--detach", wanted)
    return wanted


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise StudyError("git: not installed; a study runs from a clone of the repository.") from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("fatal: ")
        raise StudyError(f"{folder}: git {words[0]} failed ({reason}).")
    return done.stdout.rstrip("\n")
