"""`biglittle shard`: pack a manifest's audio, or a folder of images, into shards."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from biglittle_asr.commands.shared import add_json, positive_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="manifest (such as train.csv from `biglittle prepare`), or folder of images",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the shards, which several sets may share")
    parser.add_argument(
        "--shard-megabytes",
        "--shard_megabytes",
        type=positive_count,
        metavar="N",
        help="largest size of a shard in megabytes (default: 256)",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from tqdm import tqdm

    from biglittle_asr.corpora.sharding import SHARD_MEGABYTES, write_shards

    with tqdm(desc=f"packing {options.source.name}", unit="B", unit_scale=True, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        summary = write_shards(options.source, options.out, options.shard_megabytes or SHARD_MEGABYTES, show)
    if options.json:
        print(json.dumps({**asdict(summary), "index": str(summary.index)}))
        return
    print("  samples    shards   written  megabytes  index")
    megabytes = summary.bytes / 2**20
    print(f"{summary.samples:>9}{summary.shards:>10}{summary.written:>10}{megabytes:>11.1f}  {summary.index}")
