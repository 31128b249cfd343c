"""What a report shows of an experiment, read from a recipe's output folder or from the file of a score.

Nothing in the folder is executed, and nothing is measured: a report of the same files is the same file.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import commonprefix
from pathlib import Path
from typing import Any

from biglittle_asr.audio.files import WHOLE, Segment
from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.files import read_json, read_text, read_yaml, text_lines
from biglittle_asr.messages import first_line, visible
from biglittle_asr.scoring import (
    AlignedUtterance,
    NistScore,
    Score,
    read_ctm,
    read_glm,
    read_score,
    read_stm,
    score_nist,
)
from biglittle_asr.scoring.saved import COMPARED
from biglittle_asr.study.queue import Places
from biglittle_asr.study.results import read_epochs

SETS = {"hub5_test": "hub5_test.txt", "test": "wer_test.txt", "dev": "wer_dev.txt"}
"""Sets of a recipe, with the file of their alignments; the first that an experiment has is shown."""
MANIFESTS = {"hub5_test": "test", "test": "test", "dev": "dev"}
"""The manifest of each set."""
OUT = Places(Path()).out.name
"""Name of the recipe's output folder in a run's folder of a study."""
SIGNS = ("scores.json", "epochs.csv", "iterations", *SETS.values())
"""Any of these makes a folder the output folder of a recipe."""
SIDES = {"A": 1, "B": 2, "1": 1, "2": 2}
"""NIST's names of channels."""
NO_SETTINGS = frozenset(
    "output_folder save_folder train_log modules epoch_counter checkpointer train_logger tensorboard_logger".split()
) | {"precision"}
"""Keys of a recipe's YAML file that say where its output goes, or repeat other keys. The precision of a training may be
another than the file has; it stands in the model folder."""
NORMALIZER = re.compile(r", normalizer (\w+ \([^()]*\))\)?$")
"""In the first line of the file of a score, the normalizer of the texts."""
LONGEST_SETTING = 200
"""Largest number of characters of a setting that is shown."""
PACKAGES = ("torch", "torchaudio", "speechbrain", "numpy")
"""Packages whose versions are shown."""


@dataclass(frozen=True)
class Audio:
    """The audio of an utterance."""

    duration: float
    """Seconds."""
    wav: str = ""
    """Its file; empty if it is not known."""
    segment: Segment = WHOLE
    """The part of the file."""


@dataclass(frozen=True)
class NetworkCosts:
    """What a network costs; None where it is not known."""

    parameters: int
    encoder_macs: int | None = None
    """Multiply-accumulates of the encoder per second of audio."""
    head_macs: int | None = None
    """The same of the layers behind it."""
    latency: float | None = None
    """Median time for 10 s of audio, in ms."""
    latency_of: str = ""
    """Threads, batch size, number type and machine of that time."""

    @property
    def macs(self) -> int | None:
        """All multiply-accumulates per second of audio."""
        return None if self.encoder_macs is None or self.head_macs is None else self.encoder_macs + self.head_macs


@dataclass(frozen=True)
class Experiment:
    """What a report shows of one experiment."""

    name: str
    set: str = ""
    """Name of the set that is shown; empty if the file does not say, and before the end of a training."""
    score: Score | None = None
    """Counts and alignments of that set; None before the end of a training, or if the file with them is missing."""
    totals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Counts of all sets, as `biglittle score --json` prints them under "all"."""
    audio: Mapping[str, Audio] = field(default_factory=dict)
    """Audio by utterance ID; empty if it is not known."""
    epochs: Sequence[Mapping[str, float]] = ()
    """Rows of epochs.csv."""
    costs: NetworkCosts | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of programs, by name."""

    @property
    def counts(self) -> Mapping[str, Any] | None:
        """Counts of all utterances of the set that is shown; None before the end of a training."""
        return self.totals.get(self.set)

    @property
    def minutes(self) -> float | None:
        """Minutes of all epochs; None if they are not known."""
        seconds = [row["seconds"] for row in self.epochs if "seconds" in row]
        return sum(seconds) / 60 if seconds else None


# Reading


def read_experiments(paths: Sequence[Path], wanted: str | None = None, bootstrap: int = 1000) -> list[Experiment]:
    """Read experiments.

    Arguments
    ---------
    paths : sequence of pathlib.Path
        Each the output folder of a recipe, whose training may not have ended, or a file that
        :meth:`~biglittle_asr.scoring.Score.write` has written.
    wanted : str, optional
        A key of :data:`SETS`, the set of the folders to show; by default the first that all of them have.
    bootstrap : int
        Number of sets of speakers drawn for intervals; 0 for none.

    Raises
    ------
    OSError, ValueError
        If a path is neither, or a file in it is not valid.
    """
    sets = {path: _sets_of(path) for path in paths if not path.is_file()}
    finished = [names for names in sets.values() if names]
    for path, names in sets.items():
        if wanted is not None and names and wanted not in names:
            raise ValueError(
                f"{path}: has no scores of the set '{wanted}'; choose one of {', '.join(names)} with --set."
            )
    shown = wanted or next((name for name in SETS if all(name in names for names in finished)), None)
    if finished and shown is None:
        raise ValueError("The experiments have no set in common; name those of one set.")
    return [
        _read_file(path, name, bootstrap)
        if path not in sets
        else _read_folder(path, name, shown if sets[path] else None, bootstrap)
        for path, name in zip(paths, short_names(paths), strict=True)
    ]


def scored_experiment(name: str, score: Score, settings: Mapping[str, str] | None = None) -> Experiment:
    """The experiment of which only a score is known, and settings such as a normalizer of the texts."""
    audio = {}
    if isinstance(score, NistScore):
        audio = {
            utterance.id: Audio(segment.end - segment.start)
            for utterance, segment in zip(score.utterances, score.scored, strict=True)
        }
    return Experiment(name, score=score, totals={"": score.all.to_dict()}, audio=audio, settings=settings or {})


def with_manifest(experiment: Experiment, manifest: Path) -> Experiment:
    """Add the audio of the utterances, from the rows of a manifest with their IDs.

    Raises
    ------
    OSError, ValueError
        If it is not a manifest, or has none of the utterances.
    """
    rows = read_manifest(manifest, ("ID", "wav", "duration"))
    audio = {row["ID"]: _audio_of_row(row) for row in rows}
    ids = {utterance.id for utterance in experiment.score.utterances} if experiment.score is not None else set()
    if ids and not ids & audio.keys():
        raise ValueError(
            f"{manifest}: has none of the utterances of {experiment.name}, such as {visible(min(ids))}; give the "
            "manifest of this set."
        )
    return replace(experiment, audio={**experiment.audio, **audio})


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of experiments: the ends of their paths, from where these differ, but two parts at least.

    The last part of a study's folders, `out`, is left out.

    Example
    -------
    >>> short_names([Path("/home/me/results/an4/big/1"), Path("/home/me/results/an4/small/1")])
    ['big/1', 'small/1']
    >>> short_names([Path("results/demo")])
    ['results/demo']
    """
    parts = [[part for part in path.parts if part not in ("/", ".", "..")] for path in paths]
    parts = [each[:-1] if len(each) > 1 and each[-1] == OUT else each for each in parts]
    shared = len(commonprefix(parts)) if len(parts) > 1 else sys.maxsize
    return [visible("/".join(each[min(shared, max(0, len(each) - 2)) :])) or "." for each in parts]


def _sets_of(folder: Path) -> list[str]:
    """The sets whose scores are in a recipe's output folder."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder or file; check the path.")
    if not any((folder / name).exists() for name in SIGNS):
        raise ValueError(
            f"{folder}: is no recipe's output folder, for it has neither epochs.csv nor scores; name such a folder, or "
            "a file of `biglittle evaluate --output`."
        )
    # Without scores.json, which recipes write last, the files may be those of an earlier run.
    totals = _totals(folder / "scores.json")
    return [name for name, file in SETS.items() if name in totals and (folder / file).is_file()]


def _read_file(path: Path, name: str, bootstrap: int) -> Experiment:
    score = read_score(path, bootstrap)
    # What `biglittle evaluate` and `score` write behind the names of the files.
    _, title = next(iter(text_lines(path)))
    normalizer = NORMALIZER.search(title)
    return scored_experiment(name, score, {"normalizer": normalizer[1]} if normalizer else {})


def _read_folder(folder: Path, name: str, shown: str | None, bootstrap: int) -> Experiment:
    totals = _totals(folder / "scores.json")
    score: Score | None = None
    audio: Mapping[str, Audio] = {}
    if shown is not None:
        score, audio = _read_set(folder, shown, bootstrap)
        counted = score.all.to_dict()
        if any(totals[shown].get(name) != counted[name] for name in COMPARED):
            raise ValueError(
                f"{folder}: scores.json and {SETS[shown]} are not of the same run; run the recipe with --test_only."
            )
        totals = {**totals, shown: counted}
    return Experiment(
        name,
        shown or next((each for each in SETS if each in totals), ""),
        score,
        {each: totals[each] for each in reversed(SETS) if each in totals},
        audio,
        _epochs(folder),
        _costs(folder),
        {**_settings(folder / "hyperparams.yaml"), **_training(folder / "model" / "config.json")},
        _versions(folder / "env.log"),
    )


def _read_set(folder: Path, name: str, bootstrap: int) -> tuple[Score, dict[str, Audio]]:
    """Read the score and the audio of a set."""
    manifest = folder / "save" / "manifests" / f"{MANIFESTS[name]}.csv"
    rows = read_manifest(manifest, ("ID", "wav", "duration")) if manifest.is_file() else []
    stm, glm, ctm = manifest.with_suffix(".stm"), manifest.with_suffix(".glm"), folder / "test.ctm"
    if name != "hub5_test" or not (stm.is_file() and ctm.is_file()):
        return read_score(folder / SETS[name], bootstrap), {row["ID"]: _audio_of_row(row) for row in rows}
    # Scored again, since the file with the alignments has neither labels nor times. The CTM has the scored words.
    rules = read_glm(glm) if glm.is_file() else None
    score = score_nist(read_stm(stm).segments, read_ctm(ctm), rules, bootstrap=bootstrap, missing_as_empty=True)
    recordings = {Path(row["wav"]).stem.lower(): row["wav"] for row in rows}
    audio = {}
    for utterance, segment in zip(score.utterances, score.scored, strict=True):
        duration = segment.end - segment.start
        part = Segment(SIDES.get(segment.channel.upper()), segment.start, duration)
        audio[utterance.id] = Audio(duration, recordings.get(segment.recording.lower(), ""), part)
    return score, audio


def _audio_of_row(row: Mapping[str, str]) -> Audio:
    try:
        duration = float(row["duration"])
    except ValueError:
        duration = math.nan
    if not math.isfinite(duration):
        raise ValueError(
            f"{row['ID']}: its duration '{row['duration']}' is not a number of seconds; correct the manifest."
        )
    return Audio(duration, row["wav"], row_segment(row))


def _totals(path: Path) -> dict[str, Mapping[str, Any]]:
    """Counts of all utterances by set; none before the end of a training."""
    if not path.is_file():
        return {}
    scores = read_json(path)
    try:
        # Fails for anything but an object.
        scores = {**scores}
        return {name: dict(scores[name]["all"]) for name in SETS if name in scores}
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: does not have the scores of a speech recipe; replace the file.") from None


def _epochs(folder: Path) -> list[dict[str, float]]:
    rows = read_epochs(folder)
    try:
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except ValueError as error:
        raise ValueError(f"{folder / 'epochs.csv'}: {first_line(error)}; correct the line.") from None


# Costs


def _costs(folder: Path) -> NetworkCosts | None:
    """Costs that a study has measured beside the folder, or else those of the model folder."""
    places = Places(folder.parent)
    if folder.name == OUT and places.costs.is_file():
        return _measured_costs(places.costs)
    if (folder / "model" / "config.json").is_file():
        # Only here, since PyTorch takes seconds to import.
        from biglittle_asr.inference import load_model
        from biglittle_asr.inference.folder.card import count_recognizer

        counted = count_recognizer(load_model(folder / "model"))
        return NetworkCosts(
            counted.encoder_parameters + counted.head_parameters, counted.encoder_macs, counted.head_macs
        )
    return None


def _measured_costs(path: Path) -> NetworkCosts:
    facts = read_json(path)
    try:
        latency = facts.get("latency_ms")
        return NetworkCosts(
            int(facts["parameters"]),
            None if facts.get("encoder_macs") is None else int(facts["encoder_macs"]),
            None if facts.get("head_macs") is None else int(facts["head_macs"]),
            None if latency is None else float(latency["median"]),
            ""
            if latency is None
            else f"{latency['threads']} threads, batch {latency['batch']}, {latency['dtype']}, {facts['machine']}",
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path}: is not what `biglittle profile --json` prints; remove it, or write it again."
        ) from None


# Settings and versions


def _settings(path: Path) -> dict[str, str]:
    """The settings of a recipe's YAML file, by their keys joined with dots."""
    if not path.is_file():
        return {}
    tree = read_yaml(path)
    if not isinstance(tree, Mapping):
        raise ValueError(f"{path}: is not a YAML file of 'key: value' lines; replace the file.")
    found: dict[str, str] = {}
    _flatten(tree, "", found, set())
    return found


def _training(path: Path) -> dict[str, str]:
    """Precision and weights, as the config of the model folder has them."""
    if not path.is_file():
        return {}
    config = read_json(path)
    training = config.get("training") if isinstance(config, dict) else None
    return {name: str(value) for name, value in (training if isinstance(training, dict) else {}).items()}


def _flatten(tree: Mapping[Any, Any], prefix: str, found: dict[str, str], seen: set[int]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if str(key).startswith("__") or name in NO_SETTINGS or id(value) in seen:
            continue
        tag = _tag(value)
        if tag:
            found[name] = tag
        if isinstance(value, Mapping):
            # A node that others refer to is shown where it stands first.
            seen.add(id(value))
            _flatten(value, f"{name}.", found, seen)
        elif not tag:
            text = _plain(value)
            # Of a path, what it names; where that lies is a matter of the machine.
            found[name] = (Path(text).name if "/" in text else text)[:LONGEST_SETTING]


def _tag(node: Any) -> str:
    """Name of the class that a tagged node builds; empty for other nodes."""
    tag = str(getattr(getattr(node, "tag", None), "value", None) or "")
    return tag.rpartition(".")[2] if tag.startswith(("!new:", "!name:")) else ""


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


def _versions(path: Path) -> dict[str, str]:
    """Versions in the description of the environment."""
    if not path.is_file():
        return {}
    text = read_text(path)
    patterns = {
        "Python": r"^Python version:\n(\S+)",
        "biglittle_asr": r"\bbiglittle[-_]asr==([\w.+-]+)",
        "commit": r"^Git revision:\n([0-9a-f]{7,12})",
        **{name: rf"^{name}==(\S+)" for name in PACKAGES},
        "CUDA": r"^CUDA version:\n(\d\S*)",
    }
    found = {name: re.search(pattern, text, re.MULTILINE) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match is not None}


def utterances_by_id(experiment: Experiment) -> dict[str, AlignedUtterance]:
    """The utterances of an experiment's score; none without a score."""
    return {each.id: each for each in experiment.score.utterances} if experiment.score is not None else {}
