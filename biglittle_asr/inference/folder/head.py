"""The head of a model card: YAML that model hubs read, in the form of Hugging Face's hub.

It has only what is known. Nothing is guessed: a license, for example, is given by whoever owns the weights.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString as Quoted

from biglittle_asr.messages import show, unknown

LIBRARY = "biglittle-asr"
"""The hub's name of this package."""


@dataclass(frozen=True)
class HubFacts:
    """Facts for model hubs that nothing else in a model folder has. Any may be left empty, and is then left out."""

    language: str = ""
    """What is spoken, by ISO 639-1, such as "en"."""
    license: str = ""
    """License of the weights, by SPDX's identifier in lower case, such as "apache-2.0"."""
    datasets: Sequence[str] = ()
    """Names of the training data on Hugging Face's hub, such as "openslr/librispeech_asr"."""
    corpus: str = ""
    """Name of the data that the scores are of; without it, hubs get no scores."""

    @classmethod
    def of(cls, given: Mapping[str, Any], corpus: str = "") -> HubFacts:
        """Take the facts that a recipe gives: language, license and datasets.

        Raises
        ------
        ValueError
            If there is another key, or a value is no text or no list of texts.

        Example
        -------
        >>> HubFacts.of({"language": "en"}).language
        'en'
        >>> HubFacts.of({"licence": "mit"})
        Traceback (most recent call last):
        ...
        ValueError: card: unknown key 'licence': did you mean 'license'? known are datasets, language, license.
        """
        known = {field.name for field in fields(cls)} - {"corpus"}
        for key, value in given.items():
            if key not in known:
                raise ValueError(f"card: {unknown('key', key, known)}.")
            texts = value if key == "datasets" and isinstance(value, list | tuple) else [value]
            if not all(isinstance(text, str) for text in texts) or (key == "datasets" and isinstance(value, str)):
                kind = "a list of texts" if key == "datasets" else "text"
                raise ValueError(f"card: {key} is {show(value)}, but must be {kind}.")
        return cls(**given, corpus=corpus)


@dataclass(frozen=True)
class Task:
    """What a model does, by the hub's names and for people."""

    type: str
    title: str
    metric: str
    metric_title: str
    """With the unit."""


SPEECH = Task("automatic-speech-recognition", "Speech recognition", "wer", "Word error rate, %")
IMAGES = Task("image-classification", "Image classification", "accuracy", "Top-1 accuracy, %")


def format_head(name: str, task: Task, facts: HubFacts, scores: Mapping[str, float]) -> str:
    """Format the head, with the lines that enclose it.

    Arguments
    ---------
    name : str
        Name of the model.
    task : Task
    facts : HubFacts
    scores : mapping
        Set -> value of the task's metric.

    Example
    -------
    >>> print(format_head("bl_resnet50", IMAGES, HubFacts(license="mit"), {}))
    ---
    license: "mit"
    library_name: biglittle-asr
    pipeline_tag: image-classification
    ---
    """
    head: dict[str, Any] = {
        "language": Quoted(facts.language),
        "license": Quoted(facts.license),
        "library_name": LIBRARY,
        "pipeline_tag": task.type,
        "datasets": list(map(Quoted, facts.datasets)),
    }
    if facts.corpus and scores:
        # The hub asks for a name of its own here, or for one like them.
        kind = facts.datasets[0] if len(facts.datasets) == 1 else facts.corpus
        results = [
            {
                "task": {"type": task.type, "name": task.title},
                "dataset": {"name": Quoted(facts.corpus), "type": Quoted(kind), "split": Quoted(split)},
                "metrics": [{"type": task.metric, "value": round(value, 2), "name": task.metric_title}],
            }
            for split, value in scores.items()
        ]
        head |= {"metrics": [task.metric], "model-index": [{"name": Quoted(name), "results": results}]}
    yaml, text = YAML(), io.StringIO()
    yaml.width = 4096  # one line for each value
    yaml.dump({key: value for key, value in head.items() if value}, text)
    return f"---\n{text.getvalue()}---"
