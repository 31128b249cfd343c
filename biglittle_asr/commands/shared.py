"""Code that the commands share: arguments of several commands, their types, and messages."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biglittle_asr.decoding import DecodingSettings
    from biglittle_asr.inference import Recognizer
    from biglittle_asr.inference.distributed import SharedModel
    from biglittle_asr.inference.evaluation import Engine
    from biglittle_asr.scoring import Normalizer, Score


MODEL = "model folder, or a name: of a model of this package (biglittle models) or on Hugging Face's hub (org/name)"
"""What MODEL is, in the help of commands."""


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def add_model(parser: argparse.ArgumentParser, description: str = MODEL) -> None:
    """Declare MODEL, and the device to run it on."""
    parser.add_argument("model", metavar="MODEL", type=Path, help=description)
    parser.add_argument("--device", default="cpu", help="device to run on, such as cuda (default: %(default)s)")


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Declare --runtime and --precision."""
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnxruntime", "openvino"),
        default="torch",
        help="what runs the network (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        default="fp32",
        help="numbers that it computes with; int8 needs a file from `biglittle export --int8` (default: %(default)s)",
    )


def open_model(options: argparse.Namespace) -> Recognizer:
    """Load the speech model that MODEL names, for --device, --runtime and --precision, and make it faster."""
    from biglittle_asr.inference import load_model, optimize
    from biglittle_asr.nnet.devices import usable_device

    # On a cluster, the workers have the device; this process needs the model only to check it and the options.
    device = usable_device("cpu" if is_distributed(options) else options.device)
    recognizer = load_model(options.model, device, options.runtime, options.precision)
    return optimize(recognizer) if recognizer.network is None else recognizer


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Declare --engine and --address."""
    parser.add_argument(
        "--engine",
        choices=("process", "ray"),
        help="what transcribes: this process, or a worker of Ray on each core or GPU (default: process)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster that this machine is part of, or auto to find it (default: this machine alone)",
    )


def is_distributed(options: argparse.Namespace) -> bool:
    """Whether --engine asks for Ray; raises ValueError for an --address without it."""
    ray = getattr(options, "engine", None) == "ray"
    if getattr(options, "address", None) is not None and not ray:
        raise ValueError("--address: is of a Ray cluster; add --engine ray.")
    return ray


def shared_model(recognizer: Recognizer, options: argparse.Namespace) -> SharedModel:
    """What workers need to have the recognizer that :func:`open_model` has loaded."""
    from biglittle_asr.inference.distributed import SharedModel

    settings = decoding_settings(options)
    if settings is not None:
        # Workers run in other folders.
        lm, lexicon = (None if each is None else str(Path(each).absolute()) for each in (settings.lm, settings.lexicon))
        settings = dataclasses.replace(settings, lm=lm, lexicon=lexicon)
    # The number of a device is of one machine; Ray gives each worker its own.
    device, more = options.device.partition(":")[0], (options.runtime, options.precision)
    return SharedModel.of(options.model, recognizer, device, *more, settings)


@contextmanager
def open_engine(model: SharedModel, options: argparse.Namespace) -> Iterator[Engine]:
    """Connect to the cluster of --address, or start one; gives what transcribes there."""
    from biglittle_asr.inference.distributed import cluster, distribute

    with cluster(options.address):
        yield functools.partial(distribute, model, report=tell)


def add_image_size(parser: argparse.ArgumentParser) -> None:
    """Declare --image-size."""
    parser.add_argument(
        "--image-size",
        "--image_size",
        type=positive_count,
        metavar="N",
        help="height and width of images in pixels (default: that of the recipe or model folder, or 224)",
    )


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    """Declare --bootstrap."""
    parser.add_argument(
        "--bootstrap",
        type=count,
        default=1000,
        metavar="N",
        help="sets of speakers drawn for the 95 %% interval of the WER (default: %(default)s; 0 for no interval)",
    )


def add_normalizer(parser: argparse.ArgumentParser) -> None:
    """Declare --normalizer."""
    parser.add_argument(
        "--normalizer",
        choices=("english", "basic"),
        help="write references and recognized words alike before they are compared, by Whisper's rules for English, or "
        "by those for any language (case, punctuation, brackets)",
    )


def add_batch_seconds(parser: argparse.ArgumentParser) -> None:
    """Declare --batch-seconds."""
    parser.add_argument(
        "--batch-seconds",
        "--batch_seconds",
        type=positive_seconds,
        default=120.0,
        metavar="SECONDS",
        help="audio per batch, which changes no word (default: %(default)g)",
    )


def add_corpus(parser: argparse.ArgumentParser, split: str) -> None:
    """Declare --corpus and --split, which describe DATA that is not a manifest."""
    parser.add_argument("--corpus", help="name of the corpus in DATA, such as an4 or librispeech")
    parser.add_argument("--split", help=f"split of the corpus, or set in shards (default: {split})")


def find_manifest(options: argparse.Namespace, split: str, folder: Path) -> Path:
    """Find the manifest that DATA names, or that of a set in shards, or prepare that of a corpus in `folder`.

    Raises
    ------
    OSError, ValueError
        If there is no manifest, or options conflict.
    """
    from biglittle_asr.corpora import list_corpora, prepare
    from biglittle_asr.corpora.manifest import copy_indices
    from biglittle_asr.shards import has_shards, is_url, list_sets

    data, chosen = options.data, options.split or split
    if has_shards(data):
        if options.corpus is not None:
            raise ValueError(f"{data}: holds shards, which were prepared already; leave out --corpus.")
        if is_url(data):
            return copy_indices(data, [chosen], folder)[chosen]
        return _chosen(data, chosen, {name: Path(data) / f"{name}.csv" for name in list_sets(data)})
    if options.corpus is not None:
        return _chosen(data, chosen, prepare(options.corpus, data, folder))
    if Path(data).is_dir():
        known = ", ".join(list_corpora())
        raise ValueError(f"{data}: a folder, where a manifest is expected; name its corpus with --corpus ({known}).")
    if options.split is not None:
        raise ValueError(f"--split {chosen}: is of a corpus, or of shards, but {data} is one set; leave it out.")
    return Path(data)


def _chosen(data: str, split: str, manifests: Mapping[str, Path]) -> Path:
    if split not in manifests:
        raise ValueError(f"{data}: no split {split}; choose one of {', '.join(manifests)} with --split.")
    return manifests[split]


def check_output(path: Path | None) -> None:
    """Check, before any work, that an output file can be written; raises ValueError."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file to write.")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder; make it, or write {path.name} elsewhere.")


def check_folder(model: Path) -> None:
    """Check, before other arguments, that MODEL is a folder.

    Raises
    ------
    OSError
        If it is not; the message has similar names.
    """
    from biglittle_asr.inference.folder.store import existing_folder

    existing_folder(model)


def add_decoding(parser: argparse.ArgumentParser, nbest: bool = False) -> None:
    """Declare the decoding options, which are fields of `DecodingSettings`."""
    group = parser.add_argument_group(
        "decoding", "Greedy for CTC models unless one of these asks for a beam search; other models use their own."
    )
    group.add_argument("--decoding", type=Path, metavar="FILE", help="JSON file of settings from `biglittle tune`")
    add_language_model(group)
    group.add_argument(
        "--lm-weight", "--lm_weight", type=float, metavar="X", help="weight of the language model (default: 0.5)"
    )
    group.add_argument(
        "--word-score", "--word_score", type=float, metavar="X", help="score per word in nats (default: 0)"
    )
    if nbest:
        group.add_argument(
            "--nbest", type=positive_count, metavar="N", help="texts per recording, in JSON (default: 1)"
        )


def add_language_model(parser: argparse._ActionsContainer) -> None:
    """Declare the options of a beam search other than its weights."""
    parser.add_argument("--lm", metavar="FILE", help="language model of words or of tokens, an ARPA or KenLM file")
    parser.add_argument(
        "--lexicon", metavar="FILE", help="file of the words that can be recognized; each line begins with one"
    )
    parser.add_argument(
        "--beam",
        type=positive_count,
        metavar="N",
        help="hypotheses kept (default: 50 for CTC models, otherwise the model's own setting)",
    )
    parser.add_argument("--hotwords", type=Path, metavar="FILE", help="file with a word and its boost in nats per line")


def decoding_settings(options: argparse.Namespace) -> DecodingSettings | None:
    """The decoding settings of the options, which override those of a --decoding file; None for greedy decoding.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read, or a value is not valid.
    """
    names = ("lm", "lexicon", "beam", "lm_weight", "word_score", "nbest")
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    file: Path | None = getattr(options, "decoding", None)
    if not given and file is None and options.hotwords is None:
        return None
    from biglittle_asr.decoding.settings import DecodingSettings, read_hotwords, read_settings

    settings = DecodingSettings() if file is None else read_settings(file)
    if options.hotwords is not None:
        given["hotwords"] = read_hotwords(options.hotwords)
    settings = dataclasses.replace(settings, **given)
    if "lm_weight" in given and settings.lm is None:
        raise ValueError("--lm-weight: is of a language model; name one with --lm.")
    return settings


def set_decoding(recognizer: Recognizer, options: argparse.Namespace) -> None:
    """Set a recognizer's decoding from the options."""
    settings = decoding_settings(options)
    if settings is None:
        return
    recognizer.set_search(settings, tell)
    weights = (options.lm_weight, options.word_score, options.decoding)
    if settings.lm is not None and weights == (None, None, None) and not getattr(options, "stream", False):
        tell(
            f"--lm: its weight ({settings.lm_weight:g}) and the score of a word ({settings.word_score:g}) are not "
            "tuned, and may lose all that it could bring; `biglittle tune` finds them."
        )


def count(text: str) -> int:
    """Type of an argument: an integer of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 0 or more")
    return int(text)


def positive_count(text: str) -> int:
    """Type of an argument: an integer of 1 or more."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def positive_seconds(text: str) -> float:
    """Type of an argument: a duration in seconds, above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return seconds


def print_score(
    score: Score,
    options: argparse.Namespace,
    title: str = "",
    remark: str = "",
    more: Mapping[str, Any] | None = None,
    normalizer: Normalizer | None = None,
) -> None:
    """Print a score as a table with a title and a remark, or with --json as JSON, with the keys of `more`."""
    if normalizer is not None:
        title = "\n".join(filter(None, [title, f"normalizer: {normalizer.name}"]))
        more = {**(more or {}), "normalizer": normalizer.name}
    if options.bootstrap and score.all.wer_low is None:
        tell("no interval for the WER: that takes two speakers or more, and reference words.")
    counted = score.all
    if counted.correct and not any(pair.hypothesis for each in score.utterances for pair in each.pairs):
        tell(
            f"nothing was recognized, and {counted.correct} of {counted.words} words count as correct all the same: by "
            "NIST's rules a word in brackets, such as (uh), may be left out."
        )
    if options.json:
        print(json.dumps({**score.to_dict(), **(more or {})}))
    else:
        print("\n\n".join(filter(None, (score.table(title), score.summary(), remark))))


class _Teller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(record.getMessage())


def tell_log(name: str) -> None:
    """Print the log messages of a package, from level INFO, as messages to the user from now on."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Teller) for handler in logger.handlers):
        logger.addHandler(_Teller())


def tell(message: str) -> None:
    """Print a message on standard error."""
    # A progress bar, if there is one, is cleared meanwhile.
    bars = sys.modules.get("tqdm")
    with bars.tqdm.external_write_mode(file=sys.stderr) if bars is not None else nullcontext():
        print(f"biglittle: {message}", file=sys.stderr)
