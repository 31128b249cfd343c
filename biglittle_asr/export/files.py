"""ONNX files: written only if they compute what the network computes, and read without trust."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr.files import InvalidJSON, parse_json, refuse_pointer
from biglittle_asr.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    import onnx

FLOAT, INT8, STREAMING = "model.onnx", "model.int8.onnx", "model.streaming.onnx"
"""Names of a speech model's files."""
TOKENS = "tokens.txt"
"""Name of the list of tokens that sherpa-onnx and onnx-asr read."""
LARGEST = (1 << 31) - 1
"""Size limit in bytes of an ONNX file, that of the format (protocol buffers)."""
OWN = "biglittle_asr"
"""Key of this package's facts in a file's metadata; the value is JSON."""
BLANK, WORD_START = "<blk>", "\u2581"


def cache_folder() -> Path:
    """The user's folder of files that this package can make or get again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biglittle_asr"


class ExportError(ValueError):
    """A network cannot be exported, or an exported one computes something else."""


def tokens_text(tokenizer: Tokenizer) -> str:
    """The content of tokens.txt: a token and its index per line, the blank first, spaces as U+2581.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> print(tokens_text(CharacterTokenizer(" GO")), end="")
    <blk> 0
    \u2581 1
    G 2
    O 3
    """
    pieces = [BLANK, *(tokenizer.piece(index).replace(" ", WORD_START) for index in range(1, tokenizer.size))]
    return "".join(f"{piece} {index}\n" for index, piece in enumerate(pieces))


def own_metadata(**facts: Any) -> dict[str, str]:
    """Facts of this package about a file, as metadata."""
    return {OWN: json.dumps(facts, sort_keys=True)}


def metadata_of(found: Mapping[str, str]) -> dict[str, Any]:
    """Read the facts of this package in the metadata of a file.

    Raises
    ------
    ValueError
        If there are none.
    """
    try:
        facts = parse_json(found[OWN])
    except (KeyError, InvalidJSON):
        facts = None
    if not isinstance(facts, dict):
        raise ValueError("is no ONNX file that `biglittle export` has written.")
    return facts


def read_onnx(path: Path) -> bytes:
    """Read an ONNX file whose weights are all inside it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is too large, a pointer of git-lfs, or refers to weights in other files.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such ONNX file; make it with biglittle export.")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: is larger than an ONNX file can be; copy it again.")
    content = path.read_bytes()
    try:
        refuse_pointer(content[:1024])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # The key that names another file stands uncompressed in a protocol buffer, and no other text of our files has it.
    if b"location" in content:
        raise ValueError(f"{path}: refers to weights in another file, which is not read; export the model again.")
    return content


def serialized(model: onnx.ModelProto) -> bytes:
    """The content of a file; raises ExportError if the network is too large for the format."""
    try:
        content: bytes = model.SerializeToString()
    except ValueError as error:
        raise ExportError("the network is larger than 2 GB, the most that an ONNX file can hold.") from error
    return content
