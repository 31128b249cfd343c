"""The model card: a network's training data, scores, costs and limits."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from biglittle_asr.features import SentenceNormalization
from biglittle_asr.inference.classification import Classifier, ImageScore
from biglittle_asr.inference.folder.head import IMAGES, SPEECH, HubFacts, format_head
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.models import EncoderConfig
from biglittle_asr.profiling import count_costs, encoder_costs
from biglittle_asr.profiling.costs import FRAMES_PER_SECOND
from biglittle_asr.scoring.score import OverallCounts
from biglittle_asr.tokens.tokenizer import CharacterTokenizer


@dataclass(frozen=True)
class ModelCard:
    """Facts about a network that its files do not hold. Any may be left empty; the card then says "Not recorded."."""

    data: str = ""
    """Corpus and size of its sets, in Markdown."""
    command: str = ""
    """The training command."""
    precision: str = ""
    """Precision of the training, such as "bf16"."""
    weights: str = ""
    """Which weights these are, such as "average of last 10 epochs"."""
    scores: Mapping[str, OverallCounts] | Mapping[str, ImageScore] = field(default_factory=dict)
    """Set -> its word errors, or the accuracy on its images; "dev" is the one on which the weights were chosen."""
    decoding: str = ""
    """Decoding used for the scores, if it is not the folder's default."""
    start: str = ""
    """Model folder from whose weights the training started, if any."""
    hub: HubFacts = HubFacts()
    """Facts for model hubs."""

    def training(self) -> dict[str, str]:
        """The facts that config.json keeps, for programs."""
        return {"precision": self.precision, "weights": self.weights}


NEW_LINE = "\n"
NOT_KNOWN = "Not recorded."
RESUMING = ("--test_only", "--noprogressbar")
"""Options that say nothing about a training."""


def training_command(argv: Sequence[str]) -> str:
    """Format a recipe's `sys.argv` for a card, which is given away: absolute paths show only their last part.

    Example
    -------
    >>> training_command(["recipes/AN4/CTC/train.py", "--seed=1", "--data_folder", "/an4", "--output_folder=/mine"])
    'python recipes/AN4/CTC/train.py --seed=1 --data_folder /path/to/an4 --output_folder=/path/to/mine'
    """
    words = []
    for word in argv:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        path = Path(value)
        words.append(f"{option}{equals}{'/path/to/' + path.name if path.is_absolute() else value}")
    return shlex.join(["python", *(word for word in words if word not in RESUMING)])


def format_card(model: Recognizer | Classifier, card: ModelCard) -> str:
    """Format README.md: a head in YAML, which model hubs read, and Markdown.

    Arguments
    ---------
    model : Recognizer or Classifier
        Its parameters and multiply-accumulates (MACs) are counted.
    card : ModelCard
    """
    training = {"## Trained on": card.data or NOT_KNOWN, "## Trained with": _training(card)}
    if isinstance(model, Classifier):
        name, task = model.name, IMAGES
        scores = {split: score.top1 for split, score in card.scores.items() if isinstance(score, ImageScore)}
        sections = {
            f"# {name}, {model.model.config.num_classes} classes": _image_facts(model),
            **training,
            "## Accuracy": _accuracy(card),
            "## Limits": "- The accuracy says nothing about images unlike that data.",
            "## Use": USE_IMAGES,
        }
    else:
        name = f"{describe_encoder(model.model.encoder.config)}, {model.kind.title}"
        task = SPEECH
        scores = {
            split: counts.wer
            for split, counts in card.scores.items()
            if isinstance(counts, OverallCounts) and counts.wer is not None
        }
        sections = {
            f"# {name}": _facts(model),
            **training,
            "## Word error rate": _scores(card, model.kind.searching.describe(model.search_settings)),
            "## Limits": _limits(model),
            "## Use": USE.format(interface=model.kind.interface),
        }
    head = format_head(name, task, card.hub, scores)
    parts = [head, *(f"{title}\n\n{body.strip(NEW_LINE)}" for title, body in sections.items())]
    return "\n\n".join(parts) + NEW_LINE


def describe_encoder(config: EncoderConfig) -> str:
    """Name an encoder for display.

    Example
    -------
    >>> describe_encoder(EncoderConfig())
    'Big-Little ResNet-22 (alpha 4, beta 2)'
    """
    depth = f"ResNet-{2 * sum(config.blocks) + 2}"
    if not config.big_little_stages:
        return depth
    return f"Big-Little {depth} (alpha {config.alpha}, beta {config.beta})"


USE = """\
    biglittle transcribe THIS_FOLDER recording.wav

or in Python, which executes nothing from this folder:

    from biglittle_asr.inference import load_model

    print(load_model("THIS_FOLDER").transcribe("recording.wav").text)

or in SpeechBrain, which runs what `hyperparams.yaml` says, so only if you trust who gave you this folder:

    from speechbrain.inference.ASR import {interface}

    asr = {interface}.from_hparams(source="THIS_FOLDER", savedir="ANOTHER_FOLDER")
    print(asr.transcribe_file("recording.wav"))
"""
USE_IMAGES = """\
    biglittle evaluate THIS_FOLDER IMAGES

or in Python `biglittle_asr.inference.load_classifier("THIS_FOLDER")`, which executes nothing from this folder.
"""


@dataclass(frozen=True)
class RecognizerCosts:
    """Size of a recognizer, and its multiply-accumulates (MACs) in convolutions and linear layers."""

    encoder_parameters: int
    head_parameters: int
    """Parameters of all layers behind the encoder."""
    encoder_macs: int
    """MACs of the encoder, per second of audio."""
    head_macs: int | None
    """MACs of the layers behind it, per second of audio; None if they depend on what is said."""


def count_recognizer(recognizer: Recognizer) -> RecognizerCosts:
    """Count parameters and MACs of a recognizer, whose weights may be on PyTorch's meta device."""
    model = recognizer.model
    costs = encoder_costs(model.encoder)
    frames_per_second = recognizer.sample_rate / recognizer.compute_features.hop_samples
    frame_macs = recognizer.kind.output_macs(model)
    return RecognizerCosts(
        costs.parameters,
        sum(parameter.numel() for parameter in model.parameters()) - costs.parameters,
        round(costs.macs * frames_per_second / FRAMES_PER_SECOND),
        None if frame_macs is None else round(frame_macs / recognizer.frame_seconds),
    )


def _facts(recognizer: Recognizer) -> str:
    model, head = recognizer.model, recognizer.kind.head
    costs = count_recognizer(recognizer)
    parameters = costs.encoder_parameters + costs.head_parameters
    if costs.head_macs is None:
        macs = f"{costs.encoder_macs:,} (encoder; those of the {head} depend on what is said)"
    else:
        total = costs.encoder_macs + costs.head_macs
        macs = f"{total:,} (encoder {costs.encoder_macs:,}, {head} {costs.head_macs:,})"
    rows = {
        "input": f"mono, {recognizer.sample_rate} Hz, {recognizer.compute_features.output_size} log-mel features "
        f"({recognizer.compute_features.config['form']})",
        "output": f"{recognizer.kind.describe_output(recognizer.tokenizer, model)}, "
        f"one frame every {1000 * recognizer.frame_seconds:g} ms",
        "parameters": f"{parameters:,} (encoder {costs.encoder_parameters:,}, {head} {costs.head_parameters:,})",
        "MACs per second of audio, of convolutions and linear layers": macs,
    }
    return _table(rows)


def _image_facts(classifier: Classifier) -> str:
    channels, size = classifier.model.config.input_channels, classifier.crop
    costs = count_costs(classifier.model, torch.empty(1, channels, size, size, device="meta"))
    return _table(
        {
            "input": f"the middle {size} x {size} pixels of an image whose shorter side is {classifier.resize}",
            "output": f"logits of {classifier.model.config.num_classes} classes, named in `config.json`",
            "parameters": f"{costs.parameters:,}",
            "MACs per image, of convolutions and linear layers": f"{costs.macs:,}",
        }
    )


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _training(card: ModelCard) -> str:
    command = textwrap.indent(card.command, "    ") if card.command else NOT_KNOWN
    start = f"`{card.start}`, whose card says what that was trained on" if card.start else ""
    facts = {"Started from": start, "Precision": card.precision, "Weights": card.weights}
    return "\n\n".join([command, " ".join(f"{name}: {fact}." for name, fact in facts.items() if fact)])


def _scores(card: ModelCard, own_decoding: str) -> str:
    if not card.scores:
        return NOT_KNOWN
    lines = ["| set | WER % | 95 % interval | S / D / I | words | utterances |", "|---|---|---|---|---|---|"]
    for name, counts in card.scores.items():
        assert isinstance(counts, OverallCounts)
        wer = "" if counts.wer is None else f"{counts.wer:.2f}"
        known = counts.wer_low is not None and counts.wer_high is not None
        interval = f"{counts.wer_low:.2f} to {counts.wer_high:.2f}" if known else ""
        errors = f"{counts.substitutions} / {counts.deletions} / {counts.insertions}"
        lines.append(f"| {name} | {wer} | {interval} | {errors} | {counts.words} | {counts.segments} |")
    lines += ["", f"{card.decoding or own_decoding} S, D, I: substitutions, deletions, insertions of words."]
    if "dev" in card.scores:
        lines.append("The weights were chosen on dev.")
    return "\n".join(lines)


def _accuracy(card: ModelCard) -> str:
    lines = ["| set | top-1 % | top-5 % | cross-entropy, nats | images | unreadable |", "|---|---|---|---|---|---|"]
    for name, score in card.scores.items():
        assert isinstance(score, ImageScore)
        scores = f"{score.top1:.2f} | {score.top5:.2f} | {score.loss:.4f}"
        lines.append(f"| {name} | {scores} | {score.images} | {score.skipped} |")
    return "\n".join(lines) if card.scores else NOT_KNOWN


def _limits(recognizer: Recognizer) -> str:
    limits = [
        "The word error rates say nothing about speech unlike that data: other microphones, rooms, accents, subjects.",
        f"Audio of other sample rates is brought to {recognizer.sample_rate} Hz first.",
    ]
    tokenizer = recognizer.tokenizer
    if isinstance(tokenizer, CharacterTokenizer):
        limits.append(f"It knows {tokenizer.size - 1} characters, and writes no others; they are in `tokenizer.json`.")
    causal = recognizer.model.encoder.config.time_padding == "causal"
    if not (causal and recognizer.kind.searching.streams) or isinstance(recognizer.normalize, SentenceNormalization):
        limits.append("It needs the whole utterance before the first word: it cannot recognize while someone speaks.")
    return "\n".join(f"- {limit}" for limit in limits)
