"""`biglittle models`: what there is to run, train and try."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from biglittle_asr.commands.shared import add_json
from biglittle_asr.files import read_json, read_text

PACKAGE = Path(__file__).resolve().parents[1]
COSTS = PACKAGE / "profiling" / "named.json"
"""Costs of the named networks, written by `biglittle_asr.profiling.named`: counting them takes seconds."""
PRETRAINED = PACKAGE / "pretrained"
"""Trained models that come with the package: every model folder in it is listed."""
CHECKOUT = PACKAGE.parent
"""The folder of recipes/ and hparams/, where the package is run from a checkout."""
LINE = 140
"""Columns of the longest line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    costs = read_json(COSTS)
    found = {
        "encoders": list(_networks(costs["encoders"])),
        "images": list(_networks(costs["images"])),
        "recipes": list(_recipes(CHECKOUT / "hparams")),
        "pretrained": list(_pretrained(PRETRAINED)),
    }
    if options.json:
        print(json.dumps(found))
        return
    print(
        "\n\n".join(
            filter(
                None,
                (
                    _network_table("encoder", "per s of audio", found["encoders"]),
                    _network_table("image model", "per image", found["images"]),
                    _file_table("recipe", found["recipes"]),
                    _file_table("trained model", [{**each, "path": each["name"]} for each in found["pretrained"]]),
                ),
            )
        )
    )


def _networks(costs: Mapping[str, Mapping[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield the facts of each network; a Big-Little one is compared with its plain twin."""
    for name, counted in costs.items():
        twin = name.removeprefix("bl_").removeprefix("pyramid_")
        percent = None if twin == name else round(100 * counted["macs"] / costs[twin]["macs"], 1)
        yield {"name": name, **counted, "percent_of_twin": percent}


def _recipes(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the path of each recipe's YAML file, and the first sentence of the comment at its beginning."""
    for path in sorted(folder.glob("*/*.yaml")):
        if path.parent.name == "encoders":
            continue  # parts of recipes
        comment = []
        for line in read_text(path).splitlines():
            # Command lines follow, which are indented.
            if not line.startswith("# ") or line.startswith("#   "):
                break
            comment.append(line.removeprefix("# "))
        yield {"path": str(_shown(path)), "what": " ".join(comment).partition(". ")[0].rstrip(".")}


def _pretrained(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the name and path of each model folder, and the heading of its card."""
    for path in sorted(folder.glob("*/config.json")):
        card = path.with_name("README.md")
        lines = read_text(card).splitlines() if card.is_file() else []
        heading = next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "")
        yield {"name": path.parent.name, "path": str(_shown(path.parent)), "what": heading}


def _shown(path: Path) -> Path:
    """The path as a user in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _network_table(kind: str, unit: str, networks: list[dict[str, Any]]) -> str:
    lines = [f"{kind:<24}{'parameters':>12}{f'MACs {unit}':>22}  % of its plain twin"]
    for network in networks:
        percent = "" if network["percent_of_twin"] is None else f"{network['percent_of_twin']:>6.1f}"
        lines.append(f"{network['name']:<24}{network['parameters']:>12,}{network['macs']:>22,}  {percent}".rstrip())
    return "\n".join(lines)


def _file_table(kind: str, files: list[dict[str, str]]) -> str:
    if not files:
        return ""
    width = max(len(file["path"]) for file in files)
    room = LINE - width - 2
    return "\n".join(
        [kind, *(f"{file['path']:<{width}}  {shorten(file['what'], room, placeholder=' ...')}" for file in files)]
    )
