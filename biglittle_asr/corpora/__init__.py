"""Corpora: from a corpus as its distributor ships it to the CSV manifests that recipes read.

A corpus is one module with a function `read(data_folder, **options) -> {split: [Utterance, ...]}` and one entry in
`CORPORA`. The rest is shared: `checks.py` finds faults, `manifest.py` writes. A corpus with other files, such as
references or a lexicon, has a function `extra_files`, with the same arguments, that returns their texts by name. A
corpus whose recordings recipes cannot read directly has a function `convert(splits, output_folder, sample_rate)` that
makes copies and returns the splits with them.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.manifest import write_manifests
from biglittle_asr.files import write_atomically
from biglittle_asr.messages import unknown

CORPORA = {
    "an4": "biglittle_asr.corpora.an4",
    "fisher": "biglittle_asr.corpora.telephone.fisher",
    "folder": "biglittle_asr.corpora.folder",
    "hub5": "biglittle_asr.corpora.telephone.hub5",
    "librispeech": "biglittle_asr.corpora.librispeech",
    "speechocean762": "biglittle_asr.corpora.speechocean762",
    "switchboard": "biglittle_asr.corpora.telephone.switchboard",
}
"""Module of each corpus, imported on demand."""

LANGUAGES = {name: "en" for name in CORPORA if name != "folder"}
"""Language of each corpus, by ISO 639-1, where it is known."""

VALUES = {bool: "True or False", int: "a whole number"}
"""Allowed types of an option, by the type of its default."""


def list_corpora() -> list[str]:
    """Names of the corpora that `prepare` knows.

    Example
    -------
    >>> "an4" in list_corpora()
    True
    """
    return sorted(CORPORA)


def prepare(
    corpus: str,
    data_folder: str | PathLike[str],
    output_folder: str | PathLike[str],
    sample_rate: int | None = None,
    strict: bool = False,
    **options: object,
) -> dict[str, Path]:
    """Check a corpus and write its manifests: one `<split>.csv` with columns ID, duration (s), wav, spk_id, wrd.

    If utterances are parts of recordings, there are two more columns: channel (from 1) and start (s). Other files of
    the corpus, such as Hub5'00's test.stm and test.glm or Switchboard's lexicon.txt, are written beside the manifests.

    Training leaves out utterances with faulty audio or transcripts, and report.csv beside the manifests lists them; see
    `write_manifests`. The result is deterministic. A repeated run is quick: audio is read again only if something has
    changed.

    Arguments
    ---------
    corpus : str
        One of `list_corpora()`.
    data_folder : path
        The corpus, downloaded and unpacked; nothing is written there.
    output_folder, sample_rate, strict
        As in :func:`~biglittle_asr.corpora.manifest.write_manifests`.
    **options
        Options of the corpus, see `read` in its module (such as `dev_utterances` of AN4, `splits` of LibriSpeech).

    Returns
    -------
    dict from split name to pathlib.Path
        The manifests.

    Raises
    ------
    FileNotFoundError
        If the folder or a list is missing.
    ValueError
        If the corpus or an option is unknown, the corpus is not as its distributor ships it, most of it is faulty, or,
        if `strict`, any of it is faulty.

    Example
    -------
    >>> prepare("an5", "data", "results")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: unknown corpus 'an5': did you mean 'an4'? known are an4, fisher, folder, hub5, ...
    """
    if corpus not in CORPORA:
        raise ValueError(f"{unknown('corpus', corpus, CORPORA)}.")
    module = import_module(CORPORA[corpus])
    known = {name: each for name, each in inspect.signature(module.read).parameters.items() if name != "data_folder"}
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"{unknown(f'option of corpus {corpus}', name, [*known, 'strict'])}.")
        kind = type(known[name].default)
        if kind in VALUES and type(value) is not kind:
            raise ValueError(f"{name}: is {value!r}, but must be {VALUES[kind]}.")
    data, output = Path(data_folder).expanduser().resolve(), Path(output_folder).expanduser().resolve()
    if output in (data, data.parent if data.is_file() else data):
        raise ValueError(
            f"{output_folder}: holds the data, which manifests might overwrite; name another folder for them."
        )
    splits = module.read(data_folder, **options)
    if hasattr(module, "convert"):
        splits = module.convert(splits, output, sample_rate)
    manifests = write_manifests(corpus, splits, output_folder, sample_rate, strict)
    if hasattr(module, "extra_files"):
        for name, text in module.extra_files(data_folder, **options).items():
            write_atomically(Path(output_folder) / name, text)
    return manifests
