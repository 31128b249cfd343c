"""The study file: its trainings, their order and their settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from biglittle_asr.files import InvalidYAML, read_yaml
from biglittle_asr.messages import did_you_mean, first_line, show

DEFAULTS: dict[str, Any] = {
    "recipe": None,
    "hparams": None,
    "data": None,
    "overrides": {},
    "seeds": None,
    "test": False,
}
"""Keys of a run other than its name, with values for keys that neither the run nor the file's `defaults` sets."""

MARGIN = 0.5
"""Default margin of a comparison, in absolute points of WER."""

OWN_OPTIONS = ("seed", "data_folder", "output_folder", "skip_test")
"""Options of a recipe that the queue sets itself."""


class StudyError(ValueError):
    """A study file, or an argument of its run, is wrong."""


@dataclass(frozen=True)
class Run:
    """One training."""

    name: str
    """Name in the table of results; runs that differ only in their seed share a name."""
    seed: int
    recipe: str
    """Path of train.py, relative to the repository."""
    hparams: str
    """YAML file of the recipe, relative to the repository."""
    data: str | None = None
    """Name of the data folder, whose path the command line gives; None for a recipe without data."""
    test: bool | None = False
    """Whether to score test in addition to dev; None for a recipe without this choice, such as that of images."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the YAML file and options of SpeechBrain, with the values to pass on the command line."""

    @property
    def label(self) -> str:
        """Name and seed, for messages.

        Example
        -------
        >>> Run("small", 3, "train.py", "small.yaml").label
        'small, seed 3'
        """
        return f"{self.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Folder of the run's files, relative to the study's `runs` folder."""
        return Path(self.name) / str(self.seed)

    def settings(self) -> dict[str, str]:
        """Return the settings that determine the result, as written to the table of results."""
        return {
            "recipe": self.recipe,
            "hparams": self.hparams,
            "overrides": json.dumps(dict(self.overrides), sort_keys=True, ensure_ascii=False),
            "data": self.data or "",
        }

    def arguments(self, data_folders: Mapping[str, str], output_folder: Path) -> list[str]:
        """Build the command line of train.py.

        Example
        -------
        >>> run = Run("small", 3, "train.py", "small.yaml", overrides={"encoder": {"alpha": 2}, "lr": 0.001})
        >>> run.arguments({}, Path("out"))[:4]
        ['small.yaml', '--noprogressbar', '--seed=3', '--output_folder=out']
        >>> run.arguments({}, Path("out"))[4:]
        ['--skip_test=True', '--encoder={"alpha": 2}', '--lr=0.001']
        """
        options: dict[str, Any] = {"seed": self.seed, "output_folder": output_folder}
        if self.data is not None:
            options["data_folder"] = data_folders[self.data]
        if self.test is not None:
            options["skip_test"] = not self.test
        options |= self.overrides
        return [self.hparams, "--noprogressbar", *(f"--{key}={_as_option(value)}" for key, value in options.items())]


@dataclass(frozen=True)
class ComparedRuns:
    """Two networks of a study, of which the first should be no worse than the second."""

    run: str
    """Name of the network that is judged, such as a Big-Little one."""
    against: str
    """Name of the network that it is compared with, such as its plain twin."""
    margin: float = MARGIN
    """Points of WER, absolute, by which it may be worse and still count as not inferior."""


@dataclass(frozen=True)
class Study:
    """Content of a study file."""

    name: str
    runs: list[Run]
    """Runs in the order of the file, with one run per seed of each entry."""
    comparisons: tuple[ComparedRuns, ...] = ()

    def seeds(self, name: str) -> dict[int, Run]:
        """Runs of a name, by seed."""
        return {run.seed: run for run in self.runs if run.name == name}

    @property
    def data(self) -> list[str]:
        """Names of the required data folders."""
        return sorted({run.data for run in self.runs if run.data is not None})


def read_study(path: Path) -> Study:
    """Read a study file.

    Arguments
    ---------
    path : pathlib.Path
        YAML file with the key `runs`, a list, and the optional keys `name`, `defaults` and `comparisons`; see
        docs/studies.md.

    Raises
    ------
    StudyError
        If it is malformed, two runs have the same name and seed, or compared runs differ in seeds or data.
    FileNotFoundError
        If it does not exist.

    Example
    -------
    >>> path = getfixture("tmp_path") / "widths.yaml"
    >>> _ = path.write_text('''
    ... defaults: {recipe: train.py, hparams: small.yaml, seeds: [1, 2]}
    ... runs:
    ... - {name: small}
    ... - {name: wide, overrides: {channels: 64}, seeds: 1, test: true}
    ... ''')
    >>> study = read_study(path)
    >>> study.name, [run.label for run in study.runs]
    ('widths', ['small, seed 1', 'small, seed 2', 'wide, seed 1'])
    """
    try:
        tree = read_yaml(path, "study file", plain=True)
    except InvalidYAML as error:
        raise StudyError(str(error)) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("runs"), list) or not tree["runs"]:
        raise StudyError(f"{path}: has no list of runs; write 'runs:' and '- {{name: NAME, ...}}' below it.")
    _check_keys(tree, {"name", "defaults", "runs", "comparisons"}, str(path))
    defaults = tree.get("defaults") or {}
    _check_keys(defaults, set(DEFAULTS), f"{path}, defaults")
    runs: list[Run] = []
    for number, entry in enumerate(tree["runs"], start=1):
        runs += _read_entry(entry, {**DEFAULTS, **defaults}, f"{path}, run {number}")
    seen: set[Path] = set()
    for run in runs:
        if run.folder in seen:
            raise StudyError(f"{path}: has {run.label} twice; give one of them another name or seed.")
        seen.add(run.folder)
    study = Study(str(tree.get("name") or path.stem), runs)
    comparisons = tree.get("comparisons") or []
    if not isinstance(comparisons, list):
        raise StudyError(
            f"{path}: comparisons are {comparisons!r}, but must be a list of {{run: NAME, against: NAME}}."
        )
    read = [_read_comparison(each, study, f"{path}, comparison {number}") for number, each in enumerate(comparisons, 1)]
    return replace(study, comparisons=tuple(read))


def can_skip_test(hparams: Path) -> bool:
    """Whether recipes of a YAML file have a test set that they can be told to leave out: those of speech do."""
    return any(has_key(hparams, key) for key in ("compute_features", "skip_test"))


def has_key(hparams: Path, key: str) -> bool:
    """Whether a recipe's YAML file has a key, either itself or in a file that it includes completely."""
    seen: set[Path] = set()
    while hparams.resolve() not in seen:
        seen.add(hparams.resolve())
        tree: Any = read_yaml(hparams)
        if isinstance(tree, Mapping) and key in tree:
            return True
        tag = str(getattr(getattr(tree, "tag", None), "value", None) or "")
        if not tag.startswith("!include:"):
            return False
        hparams = hparams.parent / tag.removeprefix("!include:")
    return False


def _read_entry(entry: Any, defaults: Mapping[str, Any], where: str) -> Iterator[Run]:
    _check_keys(entry, {"name", *DEFAULTS}, where)
    name = str(entry.get("name") or "")
    # Files are called by names and seeds.
    if not re.fullmatch(r"\w[\w.+-]{,99}", name):
        raise StudyError(f"{where}: its name is {show(name)}, but must be of up to 100 letters, digits and _ . + -.")
    where = f"{where} ({name})"
    settings = {**defaults, **entry}
    for key in ("recipe", "hparams", "seeds"):
        if settings[key] is None:
            raise StudyError(f"{where}: has no '{key}', nor do the defaults.")
    overrides = {**_mapping(defaults, where), **_mapping(entry, where)}
    for key in OWN_OPTIONS:
        if key in overrides:
            raise StudyError(f"{where}: overrides {key}, which the queue sets itself; leave it out.")
    if settings["test"] not in (True, False, None):
        raise StudyError(f"{where}: test is {show(settings['test'])}, but must be true, false or null.")
    seeds = settings["seeds"] if isinstance(settings["seeds"], list) else [settings["seeds"]]
    if not seeds or any(type(seed) is not int or not 0 <= seed < 1 << 32 for seed in seeds):
        raise StudyError(
            f"{where}: seeds are {show(settings['seeds'])}, but must be whole numbers below 2^32, such as [1, 2, 3]."
        )
    data = None if settings["data"] is None else str(settings["data"])
    for seed in seeds:
        yield Run(name, seed, str(settings["recipe"]), str(settings["hparams"]), data, settings["test"], overrides)


def _read_comparison(entry: Any, study: Study, where: str) -> ComparedRuns:
    _check_keys(entry, {"run", "against", "margin"}, where)
    margin = entry.get("margin", MARGIN)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < math.inf:
        raise StudyError(f"{where}: margin is {margin!r}, but must be a number of points of WER, such as {MARGIN}.")
    sides = []
    for key in ("run", "against"):
        runs = study.seeds(str(entry.get(key)))
        if not runs:
            names = ", ".join(dict.fromkeys(run.name for run in study.runs))
            raise StudyError(f"{where}: {key} is {show(entry.get(key))}, but must be one of: {names}.")
        sides.append(({run.data for run in runs.values()}, runs.keys()))
    if sides[0] != sides[1]:
        raise StudyError(f"{where}: {entry['run']} and {entry['against']} must have the same seeds and data.")
    return ComparedRuns(str(entry["run"]), str(entry["against"]), float(margin))


def _mapping(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    overrides = entry.get("overrides") or {}
    if not isinstance(overrides, dict):
        raise StudyError(f"{where}: overrides are {show(overrides)}, but must be {{key: value, ...}}.")
    try:
        # As the command line and the table of results have them.
        json.dumps(overrides, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise StudyError(
            f"{where}: overrides have something else than numbers, texts, lists and mappings ({first_line(error)}); "
            "put dates and numbers that are keys in quotes."
        ) from error
    return overrides


def _check_keys(entry: Any, known: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise StudyError(f"{where}: is {show(entry)}, but must be {{key: value, ...}}.")
    for key in entry:
        if key not in known:
            hint = did_you_mean(key, known) or f"known are {', '.join(sorted(known))}."
            raise StudyError(f"{where}: no key is named {show(key)}; {hint}")


def _as_option(value: Any) -> str:
    """Format a value as YAML for a recipe's command line; lists, mappings and None as JSON, which is valid YAML."""
    if isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | None) else str(value)
