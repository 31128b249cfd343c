"""`biglittle prepare`: check a corpus and write its manifests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from biglittle_asr.commands.shared import add_json, tell_log
from biglittle_asr.files import read_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "corpus",
        metavar="CORPUS",
        help="name of the corpus, such as an4 or imagenet, or `folder` for your own recordings",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="folder of the corpus as downloaded and unpacked (for `folder`, also a list)",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="folder for the manifests, one CSV file per split (for imagenet, folder for the images)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_option,
        help="option of the corpus, such as dev_conversations=40 or hub5_folder=/path/to/hub5 for switchboard; may be "
        "repeated",
    )
    parser.add_argument("--strict", action="store_true", help="refuse a corpus with faults instead of skipping them")
    add_json(parser)


def _option(text: str) -> tuple[str, bool | int | str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    if value in ("True", "False"):
        return name, value == "True"
    return name, int(value) if value.isdecimal() else value


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    if options.corpus == "imagenet":
        _prepare_images(options)
        return
    from biglittle_asr.corpora import prepare

    tell_log("biglittle_asr.corpora")
    manifests = prepare(options.corpus, options.data, options.out, strict=options.strict, **dict(options.option))
    splits = {split: _describe(path) for split, path in manifests.items()}
    if options.json:
        print(json.dumps(splits))
        return
    print("split             utterances  speakers   hours  manifest")
    for split, facts in splits.items():
        print("{:<16}{utterances:>12}{speakers:>10}{hours:>8.2f}  {manifest}".format(split, **facts))


def _prepare_images(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from biglittle_asr.corpora.images.folder import read_image_folder
    from biglittle_asr.corpora.images.imagenet import arrange

    with tqdm(unit=" images", disable=None) as bar:

        def show(split: str, done: int, total: int) -> None:
            bar.set_description(split, refresh=False)
            bar.total = total or None
            bar.update(done - bar.n)

        folders = arrange(options.data, options.out, show)
    splits = {}
    for split, folder in folders.items():
        images = read_image_folder(folder)
        splits[split] = {"images": len(images.files), "classes": len(images.classes), "folder": str(folder)}
    if options.json:
        print(json.dumps(splits))
        return
    print("split     images  classes  folder")
    for split, facts in splits.items():
        print("{:<8}{images:>8}{classes:>9}  {folder}".format(split, **facts))


def _describe(manifest: Path) -> dict[str, Any]:
    """Size of a split, from its manifest."""
    rows = read_table(manifest)
    return {
        "utterances": len(rows),
        "speakers": len({row["spk_id"] for row in rows}),
        "hours": sum(float(row["duration"]) for row in rows) / 3600,
        "manifest": str(manifest),
    }
