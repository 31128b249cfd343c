"""What the commands share: arguments that several take, their types, and messages."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biglittle_asr.decoding import DecodingSettings
    from biglittle_asr.inference import Recognizer
    from biglittle_asr.scoring import Score


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")


def add_model(parser: argparse.ArgumentParser, description: str = "model folder") -> None:
    """Declare MODEL, and the device to run it on."""
    parser.add_argument("model", metavar="MODEL", type=Path, help=description)
    parser.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")


def add_image_size(parser: argparse.ArgumentParser) -> None:
    """Declare --image-size."""
    parser.add_argument(
        "--image-size",
        "--image_size",
        type=positive_count,
        metavar="N",
        help="of image models, in pixels (default: that of the recipe or model folder, or 224)",
    )


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    """Declare --bootstrap."""
    parser.add_argument(
        "--bootstrap",
        type=count,
        default=1000,
        metavar="N",
        help="sets of speakers drawn for the 95 %% interval of the WER (default: %(default)s; 0: no interval)",
    )


def add_batch_seconds(parser: argparse.ArgumentParser) -> None:
    """Declare --batch-seconds."""
    parser.add_argument(
        "--batch-seconds",
        "--batch_seconds",
        type=positive_seconds,
        default=120.0,
        metavar="SECONDS",
        help="audio of a batch, which changes no word (default: %(default)g)",
    )


def add_corpus(parser: argparse.ArgumentParser, split: str) -> None:
    """Declare what DATA holds, if it is no manifest."""
    parser.add_argument("--corpus", help="name of the corpus in DATA, such as an4 or librispeech")
    parser.add_argument("--split", help=f"of the corpus, or the set in shards (default: {split})")


def find_manifest(options: argparse.Namespace, split: str, folder: Path) -> Path:
    """The manifest that is named, or that of a set in shards, or of a corpus, made in a folder.

    Raises
    ------
    OSError, ValueError
        If there is none, or options do not go together.
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
    """Refuse, before the work, a file to write that cannot be one; raises ValueError."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file to write.")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder; make it, or write {path.name} elsewhere.")


def check_folder(model: Path) -> None:
    """Refuse, before other arguments are looked at, a MODEL that is no folder.

    Raises
    ------
    OSError
        With the names that come close.
    """
    from biglittle_asr.inference.folder.store import existing_folder

    existing_folder(model)


def add_decoding(parser: argparse.ArgumentParser, nbest: bool = False) -> None:
    """Declare how to search for words; of `DecodingSettings`, those that the command line gives."""
    group = parser.add_argument_group(
        "decoding", "Of CTC models greedy, unless one of these asks for a beam search; of others, as the model says."
    )
    group.add_argument(
        "--decoding", type=Path, metavar="FILE", help="JSON file of settings, as `biglittle tune` writes"
    )
    add_language_model(group)
    group.add_argument(
        "--lm-weight", "--lm_weight", type=float, metavar="X", help="of the language model (default: 0.5)"
    )
    group.add_argument("--word-score", "--word_score", type=float, metavar="X", help="nats a word (default: 0)")
    if nbest:
        group.add_argument("--nbest", type=positive_count, metavar="N", help="texts a recording, in JSON (default: 1)")


def add_language_model(parser: argparse._ActionsContainer) -> None:
    """Declare what a beam search goes by, apart from its weights."""
    parser.add_argument("--lm", metavar="FILE", help="language model: ARPA or KenLM file, of words or of tokens")
    parser.add_argument(
        "--lexicon", metavar="FILE", help="words that may be recognized, one at the beginning of each line"
    )
    parser.add_argument(
        "--beam",
        type=positive_count,
        metavar="N",
        help="hypotheses kept (default: 50; of models other than CTC's, as the model says)",
    )
    parser.add_argument("--hotwords", type=Path, metavar="FILE", help="a word a line, and behind it its boost in nats")


def decoding_settings(options: argparse.Namespace) -> DecodingSettings | None:
    """The settings that the options describe, on top of those of a file if they name one; None for greedy decoding.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read, or a value makes no sense.
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
    """Have a recognizer decode as the options say."""
    settings = decoding_settings(options)
    weights = (options.lm_weight, options.word_score, options.decoding)
    if settings is not None and settings.lm is not None and weights == (None, None, None):
        tell(
            f"--lm: its weight ({settings.lm_weight:g}) and the score of a word ({settings.word_score:g}) are not "
            "tuned, and may lose all that it could bring; `biglittle tune` finds them."
        )
    if settings is not None:
        recognizer.set_search(settings, tell)


def count(text: str) -> int:
    """Type of an argument: a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 0 or more")
    return int(text)


def positive_count(text: str) -> int:
    """Type of an argument: a whole number of 1 or more."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def positive_seconds(text: str) -> float:
    """Type of an argument: a duration above 0."""
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
) -> None:
    """A score as a table with a title, and a remark below it; or as JSON, with more keys, if the options ask for it."""
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
    """From now on, have what the modules of a package log be told as messages, routine ones among them."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _Teller) for handler in logger.handlers):
        logger.addHandler(_Teller())


def tell(message: str) -> None:
    """A message on standard error."""
    # A progress bar, where there is one, steps aside.
    bars = sys.modules.get("tqdm")
    with bars.tqdm.external_write_mode(file=sys.stderr) if bars is not None else nullcontext():
        print(f"biglittle: {message}", file=sys.stderr)
