"""onnxruntime-web, which runs networks in browsers: its files, from npm's cache of this user or a folder, checked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from biglittle_asr.export.files import cache_folder
from biglittle_asr.files import write_atomically
from biglittle_asr.messages import first_line

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The files that a page needs, with their SHA-256. They are of one release: others may compute something else."""
INSIDE = ("", "dist", "package/dist")
"""Where they may be in a folder: npm has them in `dist`, and its archives have that in `package`."""


def runtime_files(folder: Path | None = None) -> dict[str, bytes]:
    """Get the files of onnxruntime-web that a page needs.

    Arguments
    ---------
    folder : pathlib.Path, optional
        An unpacked copy. By default npm gets the package, as this user has configured it, and a cache folder keeps the
        files.

    Returns
    -------
    dict from str to bytes
        The content of each of :data:`FILES`.

    Raises
    ------
    FileNotFoundError
        If the folder lacks a file.
    ValueError
        If a file has another checksum, or npm is missing or fails.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> try:
    ...     runtime_files(folder)
    ... except FileNotFoundError as error:
    ...     print(str(error).replace(str(folder), "folder"))
    folder/ort.wasm.bundle.min.mjs: no such file; unpack onnxruntime-web 1.30.0 there.
    """
    if folder is not None:
        return {name: _checked(folder / _place(folder, name) / name, name) for name in FILES}
    cache = cache_folder() / f"{PACKAGE}-{VERSION}"
    if not all((cache / name).is_file() for name in FILES):
        _fill(cache)
    return {name: _checked(cache / name, name) for name in FILES}


def _place(folder: Path, name: str) -> str:
    return next((place for place in INSIDE if (folder / place / name).is_file()), "")


def _checked(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; unpack {PACKAGE} {VERSION} there.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise ValueError(f"{path}: is not the file of {PACKAGE} {VERSION}; delete it, or name a copy of this version.")
    return content


def _fill(cache: Path) -> None:
    """Let npm get the package, and keep the files that are needed."""
    wanted = f"{PACKAGE} {VERSION}"
    advice = f"name an unpacked copy with --onnxruntime-web FOLDER (npm pack {PACKAGE}@{VERSION} gets one elsewhere)"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"a page needs {PACKAGE} {VERSION}, which npm gets, and there is no npm: install it, or {advice}."
        )
    with TemporaryDirectory(prefix="biglittle") as place:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        archives = list(Path(place).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            reason = first_line(ValueError(done.stderr or f"status {done.returncode}"))
            raise ValueError(f"{wanted}: npm cannot get it ({reason}); mend that, or {advice}.")
        unpacked = Path(place) / "unpacked"
        unpacked.mkdir()
        try:
            with tarfile.open(archives[0]) as archive:
                for name in FILES:
                    file = archive.extractfile(f"package/dist/{name}")
                    (unpacked / name).write_bytes(b"" if file is None else file.read())
        except (EOFError, KeyError, tarfile.TarError, zlib.error) as error:
            raise ValueError(
                f"{PACKAGE} {VERSION}: npm got a damaged archive ({first_line(error)}); {advice}."
            ) from error
        cache.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            write_atomically(cache / name, _checked(unpacked / name, name))
