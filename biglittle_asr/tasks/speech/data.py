"""From manifests to batches: audio, targets, speed perturbation, and batches of similar durations.

The path of an utterance: a batch sampler names it (:class:`EpochBatches`), its audio is read and perturbed
(:func:`build_dataset`), a file that fails is replaced by a record of the failure (:class:`Utterances`), and the
readable rest becomes a :class:`Batch`.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.utils.logger import get_logger
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from biglittle_asr.audio.files import WHOLE, Segment, read_audio
from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.tasks.engine.batches import SORTINGS, Draw, EpochBatches, Failure, fixed_batches, seed_all
from biglittle_asr.tokens.tokenizer import Tokenizer

logger = get_logger(__name__)

OUTPUT_KEYS = ["id", "sig", "num_samples", "tokens", "num_tokens", "wrd", "spk_id", "seconds"]


class UnreadableAudioError(ValueError):
    """The audio of one utterance cannot be used."""


class AudioReader:
    """Reads the audio of an utterance at the expected sample rate.

    Arguments
    ---------
    sample_rate : int
        Hz.
    cache : bool
        Keep audio in memory once it is read (4 bytes per sample).
    """

    def __init__(self, sample_rate: int, cache: bool = False) -> None:
        self.sample_rate = sample_rate
        self._cache: dict[tuple[str, Segment], Tensor] | None = {} if cache else None

    def __call__(self, path: str, segment: Segment = WHOLE) -> Tensor:
        """Samples (S,) of a file or of a segment, float32, full scale 1.

        Raises
        ------
        UnreadableAudioError
            If the file cannot be read, has another sample rate, or has samples that are not finite.
        StorageError
            If it is in remote storage that fails.
        """
        if self._cache is not None and (path, segment) in self._cache:
            return self._cache[path, segment]
        try:
            samples, sample_rate = read_audio(path, segment)
        except (OSError, ValueError) as error:
            strerror = getattr(error, "strerror", None)
            raise UnreadableAudioError(f"{path}: {strerror}." if strerror else str(error)) from error
        if sample_rate != self.sample_rate:
            raise UnreadableAudioError(
                f"{path}: sampled at {sample_rate} Hz, but the recipe's sample_rate is {self.sample_rate}; "
                "resample the corpus or change the recipe."
            )
        wav = torch.from_numpy(samples)
        if self._cache is not None:
            self._cache[path, segment] = wav
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
        CSV files with the columns ID, duration, wav, spk_id, wrd.
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
    """Make a dataset of :data:`OUTPUT_KEYS` from a manifest; see :func:`build_audio_dataset`."""

    def target(text: str) -> tuple[Tensor, int]:
        ids = tokenizer.encode(text, unknown)
        return torch.tensor(ids, dtype=torch.long), len(ids)

    dataset = build_audio_dataset(manifest, read, wav_augment)
    dataset.add_dynamic_item(target, takes=["wrd"], provides=["tokens", "num_tokens"])
    dataset.set_output_keys(OUTPUT_KEYS)
    return dataset


def build_audio_dataset(
    manifest: Path, read: AudioReader, wav_augment: torch.nn.Module | None = None
) -> DynamicItemDataset:
    """Make a dataset from a manifest, with all of :data:`OUTPUT_KEYS` except `tokens` and `num_tokens`.

    Raises
    ------
    FileNotFoundError
        If there is no such manifest.
    ValueError
        If a row's segment is not given in numbers.
    """
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest}: no such manifest; run without skip_prep, which makes it.")

    # A plain function: SpeechBrain would not restart a generator after a failure.
    def audio(path: str, segment: Segment) -> tuple[Tensor, int, dict[str, float]]:
        start = time.perf_counter()
        wav = read(path, segment)
        seconds = {"reading": time.perf_counter() - start}
        if wav_augment is not None:
            start = time.perf_counter()
            wav = wav_augment(wav)
            seconds["speed perturbation"] = time.perf_counter() - start
        return wav, len(wav), seconds

    # Not SpeechBrain's load_data_csv, which takes the text after a $ for a variable.
    rows = {
        row["ID"]: {**row, "duration": float(row["duration"]), "segment": row_segment(row)}
        for row in read_manifest(manifest)
    }
    for row in rows.values():
        del row["ID"]
    dataset = DynamicItemDataset(rows)
    dataset.add_dynamic_item(audio, takes=["wav", "segment"], provides=["sig", "num_samples", "seconds"])
    return dataset


def report_unknown(dataset: DynamicItemDataset, tokenizer: Tokenizer, manifest: Path) -> None:
    """Log how many utterances have characters that training lacks; the WER still counts their words."""
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


class Utterances(Dataset[dict[str, Any] | Failure]):
    """A dataset whose files may fail, and whose augmentation depends only on seed, epoch and utterance.

    Arguments
    ---------
    dataset : DynamicItemDataset
        A dataset of :func:`build_dataset`.
    seed : int
        Seed of the training.
    """

    def __init__(self, dataset: DynamicItemDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | Draw) -> dict[str, Any] | Failure:
        """Read an utterance; augmentation is drawn for the epoch of a :class:`Draw`."""
        index = key.position if isinstance(key, Draw) else key
        name = self.dataset.data_ids[index]
        if isinstance(key, Draw):
            seed_all(self.seed, key.epoch, name)
        try:
            return self.dataset[index]
        except UnreadableAudioError as error:
            row = self.dataset.data[name]
            return Failure(name, str(error), row["wrd"], row["spk_id"])


@dataclass
class Batch:
    """The readable utterances of a batch, and the failures."""

    examples: PaddedBatch | None
    """The readable ones, with all of :data:`OUTPUT_KEYS` except `seconds`; None if there are none."""
    failures: list[Failure]
    """The others."""
    seconds: dict[str, float]
    """Time of reading and perturbing, by activity."""
    in_worker: bool
    """Whether a process other than the training one read them."""

    def pin_memory(self) -> "Batch":
        """Pin the tensors, for the loader's option of the same name."""
        if self.examples is not None:
            self.examples.pin_memory()
        return self


def collate(examples: Sequence[dict[str, Any] | Failure]) -> Batch:
    """Make a batch from examples of :class:`Utterances`."""
    failures = [example for example in examples if isinstance(example, Failure)]
    read = [dict(example) for example in examples if not isinstance(example, Failure)]
    seconds: defaultdict[str, float] = defaultdict(float)
    for example in read:
        for activity, amount in example.pop("seconds").items():
            seconds[activity] += amount
    return Batch(PaddedBatch(read) if read else None, failures, dict(seconds), get_worker_info() is not None)


def train_loader_options(dataset: DynamicItemDataset, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the training set's loader: dynamic batches of similar durations, or batches of a fixed size.

    Arguments
    ---------
    dataset : DynamicItemDataset
        The training set.
    hparams : mapping
        Reads seed, batch_size, sorting, dynamic_batching, max_batch_length (s), num_buckets, train_dataloader_opts.
    """
    if hparams["dynamic_batching"]:
        batches = _dynamic_batches(dataset, hparams)
    else:
        batches = fixed_batches(len(dataset), hparams["batch_size"], hparams["seed"], hparams["sorting"] == "random")
    return {**hparams["train_dataloader_opts"], "batch_sampler": EpochBatches(batches)}


def _dynamic_batches(dataset: DynamicItemDataset, hparams: Mapping[str, Any]) -> Callable[[int], list[list[int]]]:
    sampler = DynamicBatchSampler(
        dataset,
        max_batch_length=hparams["max_batch_length"],
        bucket_boundaries=bucket_boundaries([row["duration"] for row in dataset.data.values()], hparams["num_buckets"]),
        length_func=lambda row: row["duration"],
        shuffle=hparams["sorting"] == "random",
        batch_ordering=hparams["sorting"],
        seed=hparams["seed"],
    )

    def batches(epoch: int) -> list[list[int]]:
        sampler.set_epoch(epoch)
        return list(sampler)

    return batches


def bucket_boundaries(durations: Sequence[float], buckets: int) -> list[float]:
    """Upper edges of buckets that hold about the same number of utterances each.

    SpeechBrain's own spacing assumes durations up to the length of a whole batch: with utterances of a few seconds,
    most of its buckets stay empty, and the others mix short and long utterances.

    Example
    -------
    >>> bucket_boundaries([1.0, 2.0, 3.0, 4.0], 2)
    [2.5, 4.0]
    """
    return np.unique(np.quantile(durations, np.arange(1, buckets + 1) / buckets)).tolist()
