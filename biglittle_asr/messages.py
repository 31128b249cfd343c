"""Parts of messages to users."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_TEXT = 64
"""Largest number of characters of a value that a message quotes."""
LONGEST_SENTENCE = 2000
"""Largest number of characters of a message to the user."""
LISTED = 5
"""Largest number of names that a message lists."""


MENDABLE = {
    r"out of memory|can.t allocate memory|cannot allocate memory|unable to allocate|ALLOC_FAILED|not enough memory": (
        "memory is full ({}): take smaller batches (max_batch_length or batch_size in a recipe, --batch-seconds of a "
        "command), or a device with more memory."
    ),
    r"(out of|insufficient|unable to open) shared memory|received 0 items of ancdata|Too many open files": (
        "the processes that load data cannot hand them over ({}): give /dev/shm more space and the process more open "
        "files (ulimit -n), or set num_workers to 0."
    ),
    r"DataLoader worker .* (exited unexpectedly|is killed by signal)|Pin memory thread exited": (
        "a process that loads data was killed ({}), most often because memory is full: lower num_workers, or set "
        "cache_audio to False."
    ),
    r"can't start new thread|Resource temporarily unavailable": (
        "no more threads or processes can be started here ({}): lower num_workers, or raise the limit (ulimit -u)."
    ),
    r"unexpected pos \d+ vs \d+|PytorchStreamWriter|file write failed": (
        "a checkpoint cannot be written ({}): check whether the disk, or your quota, is full."
    ),
    r"no NVIDIA driver|driver on your system is too old|driver version is insufficient|not compiled with|"
    r"invalid device ordinal|No CUDA GPUs|device string|Could not run 'aten::\S+' with arguments from the": (
        "the device cannot be used here ({}): take another, such as --device cpu."
    ),
    r"no kernel image is available": (
        "this PyTorch has no code for this GPU ({}): install one that is built for it, or take --device cpu."
    ),
    r"EADDRINUSE|address already in use": (
        "the port by which the processes meet is taken ({}): name another with torchrun's --master_port."
    ),
    r"Timed out waiting \d+ms|Watchdog caught collective operation timeout": (
        "a process heard nothing from the others for distributed_timeout_minutes ({}): check whether their machines "
        "and the network work; the same command goes on from the last checkpoint."
    ),
    r"Connection (closed|reset) by peer|NCCL|Gloo|TCPStore|ProcessGroup": (
        "the processes of this training lost each other ({}): the cause stands in what another of them says, unless "
        "its machine has failed; the same command goes on from the last checkpoint."
    ),
    r"C\+\+ compiler|InvalidCxxCompiler|Failed to find C compiler": (
        "there is no compiler ({}): install one, or leave out --compile."
    ),
}
"""What errors of torch and of the system say, in upper or lower case -> what to tell the user, who can mend it."""


def show(value: Any) -> str:
    """Format a value from a file for a message: short and without control characters."""
    try:
        text = ascii(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def first_line(error: Exception) -> str:
    r"""Return the first line of an error's message, without a full stop, for use inside another sentence.

    Example
    -------
    >>> first_line(ValueError("wrong size.\nDetails follow.")), first_line(EOFError())
    ('wrong size', 'EOFError')
    """
    line = str(error).strip().split("\n")[0].rstrip(".: ")
    return "".join(filter(str.isprintable, line)) or type(error).__name__


def sentence(text: object) -> str:
    """A text with a full stop at its end, unless it ends a sentence already.

    Example
    -------
    >>> sentence("no such key"), sentence("did you mean 'alpha'?")
    ('no such key.', "did you mean 'alpha'?")
    """
    return str(text) if str(text).endswith((".", "?", "!")) else f"{text}."


class FatalError(RuntimeError):
    """A failure that ends a program, with a sentence for the user.

    It is no ValueError or OSError, so that a reader of many files, which leaves out what it cannot read, lets it pass.
    """


def explain_failure(error: BaseException) -> str | None:
    """What to tell the user of an error that ends a program; None for one that only its traceback explains.

    Invisible characters, which a damaged file may have brought in, are escaped. The middle of a long text is left out.

    Arguments
    ---------
    error : BaseException
        ValueError, OSError and FatalError carry a sentence for the user. `MENDABLE` has what is known of others.

    Example
    -------
    >>> print(explain_failure(RuntimeError("CUDA error: invalid device ordinal")))
    the device cannot be used here (CUDA error: invalid device ordinal): take another, such as --device cpu.
    >>> explain_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    True
    """
    if isinstance(error, OSError) and error.strerror:
        # The system's own (a full disk, a folder in place of a file) name the file last.
        return visible(f"{error.filename}: {error.strerror}." if error.filename is not None else f"{error.strerror}.")
    text = str(error)
    # What a process that loads data has raised comes with its traceback.
    loading = re.match(r"Caught (\w+) in DataLoader worker process", text)
    if loading:
        text = re.split(rf"\n(?:[\w.]+\.)?{loading[1]}:? ?", text)[-1].strip() or loading[1]
    if not isinstance(error, OSError | ValueError | FatalError):
        line = first_line(RuntimeError(text or type(error).__name__))
        if isinstance(error, MemoryError):
            line = f"out of memory: {line}"
        known = [sentence for pattern, sentence in MENDABLE.items() if re.search(pattern, f"{line}\n{text}", re.I)]
        return known[0].format(line) if known else None
    text = visible(text)
    half = LONGEST_SENTENCE // 2 - 5
    return text if len(text) <= LONGEST_SENTENCE else f"{text[:half]} [...] {text[-half:]}"


def some(texts: Sequence[str], separator: str = ", ", most: int = LISTED) -> str:
    """List the first few texts, and the number of the others.

    Example
    -------
    >>> some(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Suggest the closest known name in a question; an empty text if none is close.

    Example
    -------
    >>> did_you_mean("resnet5", ["resnet50", "resnet18"]), did_you_mean("an5", ["hub5"])
    ("did you mean 'resnet50'?", '')
    """
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def unknown(what: str, name: object, known: Iterable[str], listing: str | None = None) -> str:
    """Write the message about an unknown name, with the closest known name and a list of known names.

    Example
    -------
    >>> unknown("model", "resnet5", ["resnet50", "resnet18"])
    "unknown model 'resnet5': did you mean 'resnet50'? known are resnet18, resnet50"
    """
    known = sorted(known)
    hint = did_you_mean(name, known)
    return f"unknown {what} {name!r}: {hint}{' ' if hint else ''}known are {listing or ', '.join(known)}"


def visible(text: str) -> str:
    r"""Replace invisible characters by escapes: controls, joiners, unusual spaces, surrogates.

    Example
    -------
    >>> print(visible("go\u200b on\u00a0it"))
    go\u200b on\xa0it
    """
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else ascii(character)[1:-1]
        for character in text
    )
