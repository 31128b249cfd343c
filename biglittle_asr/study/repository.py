"""A clone of the repository at a fixed commit, so that changes in the work tree do not affect runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from biglittle_asr.files import replacing_folder
from biglittle_asr.messages import some
from biglittle_asr.study.plan import StudyError


def check_out(repository: Path, clone: Path, commit: str | None, tell: Callable[[str], None]) -> str:
    """Make the clone from which a study runs, or use the existing one.

    Arguments
    ---------
    repository : pathlib.Path
        Repository that the clone shares its objects with.
    clone : pathlib.Path
        Folder of the clone. It is made under another name and then renamed, so that it is never incomplete.
    commit : str, optional
        Commit to check out. Default: the commit of the existing clone, or else HEAD.
    tell : callable
        Called with messages about uncommitted changes and about a clone behind HEAD.

    Returns
    -------
    str
        The commit, 40 digits.

    Raises
    ------
    StudyError
        If git fails, the clone is at another commit than `commit`, or files in it were changed.
    """
    wanted = _git(repository, "rev-parse", "--verify", f"{commit or 'HEAD'}^{{commit}}")
    if clone.is_dir():
        present = _git(clone, "rev-parse", "HEAD")
        if _git(clone, "status", "--porcelain", "--untracked-files=no"):
            raise StudyError(f"{clone}: files of this clone were changed; undo that, or use another --output folder.")
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
