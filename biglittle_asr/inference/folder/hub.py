"""Model folders from Hugging Face's hub: only their data is downloaded, into the hub's own cache.

Needs huggingface_hub: `pip install 'biglittle-asr[hub]'`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from biglittle_asr.extras import missing_extra
from biglittle_asr.messages import first_line

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`org/name`."""


def is_hub_name(folder: Path) -> bool:
    """Whether a path that does not exist can only be a name on the hub: `org/name`, without a folder `org` here.

    Example
    -------
    >>> is_hub_name(Path("no_such_org/model")), is_hub_name(Path("model")), is_hub_name(Path("/no_such_org/model"))
    (True, False, False)
    """
    return HUB_NAME.fullmatch(folder.as_posix()) is not None and not folder.parent.exists()


@functools.cache
def download(name: str, files: Sequence[str]) -> Path:
    """Download a model folder, unless the hub's cache has it.

    Arguments
    ---------
    name : str
        `org/name`.
    files : sequence of str
        Names of files; no others are downloaded.

    Returns
    -------
    pathlib.Path
        The folder in the cache.

    Raises
    ------
    FileNotFoundError
        If huggingface_hub is not installed, or does not get the folder: there is none, it is private, or the hub cannot
        be reached and the cache does not have it.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        need = f"{name}: no such model folder, and one from Hugging Face's hub needs huggingface_hub"
        raise FileNotFoundError(missing_extra(need, "hub", error)) from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    # Its errors and those of the package that it connects with, which differs between versions, share no other class.
    except Exception as error:
        raise FileNotFoundError(
            f"{name}: no such model folder, and Hugging Face's hub gives none of this name ({first_line(error)})."
        ) from error
