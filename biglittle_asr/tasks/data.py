"""From manifests to batches: audio, targets, speed perturbation, and batches of similar durations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.logger import get_logger
from torch import Tensor

from biglittle_asr.corpora.audio import read_audio
from biglittle_asr.decoding.tokenizer import Tokenizer

logger = get_logger(__name__)

OUTPUT_KEYS = ["id", "sig", "num_samples", "tokens", "num_tokens", "wrd", "spk_id"]
SORTINGS = ("random", "ascending", "descending")


class AudioReader:
    """Reads the audio of an utterance at the expected sample rate.

    Arguments
    ---------
    sample_rate : int
        Hz.
    cache : bool
        Keep what was read in memory (4 bytes a sample).
    """

    def __init__(self, sample_rate: int, cache: bool = False) -> None:
        self.sample_rate = sample_rate
        self._cache: dict[str, Tensor] | None = {} if cache else None

    def __call__(self, path: str) -> Tensor:
        """Samples (S,) of a file, float32, full scale 1.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file cannot be read, or has another sample rate.
        """
        if self._cache is not None and path in self._cache:
            return self._cache[path]
        samples, sample_rate = read_audio(path)
        if sample_rate != self.sample_rate:
            raise ValueError(
                f"{path}: sampled at {sample_rate} Hz, but the recipe's sample_rate is {self.sample_rate}; "
                "resample the corpus or change the recipe."
            )
        wav = torch.from_numpy(samples)
        if self._cache is not None:
            self._cache[path] = wav
        return wav


@dataclass(frozen=True)
class Datasets:
    """The three sets of a recipe."""

    train: DynamicItemDataset
    dev: DynamicItemDataset
    test: DynamicItemDataset


def build_datasets(manifests: Mapping[str, Path], tokenizer: Tokenizer, hparams: Mapping[str, Any]) -> Datasets:
    """Make the datasets of a recipe: speed perturbation in train only, dev and test sorted by duration.

    Arguments
    ---------
    manifests : mapping from "train", "dev", "test" to pathlib.Path
        CSV files with columns ID, duration, wav, spk_id, wrd.
    tokenizer : Tokenizer
        Makes the targets.
    hparams : mapping
        Reads sample_rate, cache_audio, sorting, wav_augment.

    Raises
    ------
    ValueError
        If a training transcript has unknown characters, or sorting is unknown.
    """
    if hparams["sorting"] not in SORTINGS:
        raise ValueError(f"sorting: '{hparams['sorting']}' is none of {', '.join(SORTINGS)}.")
    read = AudioReader(hparams["sample_rate"], hparams["cache_audio"])
    train = build_dataset(manifests["train"], read, tokenizer, hparams["wav_augment"])
    if hparams["sorting"] != "random":
        train = train.filtered_sorted(sort_key="duration", reverse=hparams["sorting"] == "descending")
    held_out = {}
    for name in ("dev", "test"):
        dataset = build_dataset(manifests[name], read, tokenizer, unknown="drop")
        report_unknown(dataset, tokenizer, manifests[name])
        held_out[name] = dataset.filtered_sorted(sort_key="duration")
    return Datasets(train, held_out["dev"], held_out["test"])


def build_dataset(
    manifest: Path,
    read: AudioReader,
    tokenizer: Tokenizer,
    wav_augment: torch.nn.Module | None = None,
    unknown: str = "refuse",
) -> DynamicItemDataset:
    """Make a dataset of :data:`OUTPUT_KEYS` from a manifest.

    Raises
    ------
    FileNotFoundError
        If there is no such manifest.
    """
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest}: no such manifest; run without skip_prep, which makes it.")

    def audio(path: str) -> Iterator[Any]:
        wav = read(path)
        if wav_augment is not None:
            wav = wav_augment(wav)
        yield wav
        yield len(wav)

    def target(text: str) -> Iterator[Any]:
        ids = tokenizer.encode(text, unknown)
        yield torch.tensor(ids, dtype=torch.long)
        yield len(ids)

    dataset = DynamicItemDataset.from_csv(manifest)
    dataset.add_dynamic_item(audio, takes=["wav"], provides=["sig", "num_samples"])
    dataset.add_dynamic_item(target, takes=["wrd"], provides=["tokens", "num_tokens"])
    dataset.set_output_keys(OUTPUT_KEYS)
    return dataset


def report_unknown(dataset: DynamicItemDataset, tokenizer: Tokenizer, manifest: Path) -> None:
    """Log how many utterances have characters that training does not have; the WER counts their words all the same."""
    known = {character for row in dataset.data.values() for character in row["wrd"]}
    unknown = {character for character in known if not _can_encode(tokenizer, character)}
    if unknown:
        count = sum(bool(unknown & set(row["wrd"])) for row in dataset.data.values())
        logger.warning(
            f"{manifest}: {count} of {len(dataset)} utterances have characters that the training transcripts do not "
            f"({''.join(sorted(unknown))}); they are left out of the targets, and so out of the loss."
        )


def _can_encode(tokenizer: Tokenizer, character: str) -> bool:
    try:
        tokenizer.encode(character)
    except ValueError:
        return False
    return True


def train_loader_options(dataset: DynamicItemDataset, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the training set's loader: dynamic batches of similar durations, or batches of a fixed size.

    Arguments
    ---------
    dataset : DynamicItemDataset
        The training set.
    hparams : mapping
        Reads seed, batch_size, sorting, dynamic_batching, max_batch_length (s), num_buckets, train_dataloader_opts.
    """
    options = dict(hparams["train_dataloader_opts"])
    if not hparams["dynamic_batching"]:
        return {**options, "batch_size": hparams["batch_size"], "shuffle": hparams["sorting"] == "random"}
    sampler = DynamicBatchSampler(
        dataset,
        max_batch_length=hparams["max_batch_length"],
        bucket_boundaries=bucket_boundaries([row["duration"] for row in dataset.data.values()], hparams["num_buckets"]),
        length_func=lambda row: row["duration"],
        shuffle=hparams["sorting"] == "random",
        batch_ordering=hparams["sorting"],
        seed=hparams["seed"],
    )
    return {**options, "batch_sampler": sampler}


def bucket_boundaries(durations: Sequence[float], buckets: int) -> list[float]:
    """Upper edges of buckets that hold about equally many utterances each.

    SpeechBrain's own spacing assumes durations up to the length of a whole batch: with utterances of a few seconds most
    of its buckets stay empty and the others mix short with long.

    Example
    -------
    >>> bucket_boundaries([1.0, 2.0, 3.0, 4.0], 2)
    [2.5, 4.0]
    """
    return np.unique(np.quantile(durations, np.arange(1, buckets + 1) / buckets)).tolist()
