"""Shards: written the same however often, read from anywhere, trained on as the files in them; damage is named."""

from __future__ import annotations

import csv
import json
import os
import tarfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import soundfile
import torch

from biglittle_asr.audio.files import read_audio
from biglittle_asr.cli import main
from biglittle_asr.corpora import sharding
from biglittle_asr.corpora.images.folder import read_image_folder, read_image_shards
from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.corpora.sharding import write_shards
from biglittle_asr.features.images import evaluation_transform
from biglittle_asr.inference.folder.classifier import Classifier, save_classifier
from biglittle_asr.models import create_model
from biglittle_asr.recipe.prepare import OWN_SPLITS
from biglittle_asr.shards import ShardError, ShardMember, StorageError, has_shards, read_index
from biglittle_asr.tasks.engine.batches import Failure
from biglittle_asr.tasks.images.brain import ImageBrain, Images, find_image_sets
from support.corpora import SAMPLE_RATE, tone
from support.ctc_recipe import WORDS, finish, load, small, write_tones
from support.image_recipe import PLAIN, break_image, make_folder, tiny, train
from support.terminal import Terminal

NAMES = ["u.with.dots", "ünïcode", "n" * 120, *(f"u{number:02d}" for number in range(9))]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards hold kilobytes for megabytes, so that a few files fill several."""
    arrange = sharding._arrange
    monkeypatch.setattr(sharding, "_arrange", lambda *arguments: arrange(*arguments[:-1], arguments[-1] >> 10))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest of files of several sizes, formats and kinds of names."""
    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "duration", "wav", "spk_id", "wrd"])
        for number, name in enumerate(NAMES):
            wav = tmp_path / f"{number}.{'flac' if number % 2 else 'wav'}"
            soundfile.write(wav, tone(8000 + 100 * number), SAMPLE_RATE)
            writer.writerow([name, 0.5, wav, "s", "YES"])
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


# Writing


def test_every_file_comes_back_in_the_order_of_the_manifest(manifest: Path, tmp_path: Path) -> None:
    summary = write_shards(manifest, tmp_path / "out", 64)
    assert summary.shards == summary.written > 2 and summary.samples == len(NAMES)
    assert summary.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    rows = read_index(tmp_path / "out", "train", "wav")
    for row, original in zip(rows, read_manifest(manifest), strict=True):
        member = ShardMember.parse(row["wav"])
        assert member is not None and member.read() == Path(original["wav"]).read_bytes()
        np.testing.assert_array_equal(read_audio(row["wav"])[0], read_audio(original["wav"])[0])
        assert read_audio(row["wav"])[1] == read_audio(original["wav"])[1]
        assert {**row, "wav": ""} == {**original, "wav": ""}
    # The index is a manifest too.
    assert [row["wav"] for row in read_manifest(summary.index)] == [row["wav"] for row in rows]


def test_shards_are_tar_files_with_a_description_beside_each_file(manifest: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "out", 64)
    found = {}
    for path in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            for description, audio in zip(members[::2], members[1::2], strict=True):
                assert description.name.removesuffix(".json") == audio.name.rpartition(".")[0]
                found[json.load(tar.extractfile(description))["ID"]] = tar.extractfile(audio).read()
    assert found == {row["ID"]: Path(row["wav"]).read_bytes() for row in read_manifest(manifest)}


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(manifest: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "out", 64)
    before = contents(tmp_path / "out")
    assert write_shards(manifest, tmp_path / "out", 64).written == 0
    first, second, *_ = sorted((tmp_path / "out").glob("*.tar"))
    first.unlink()
    os.truncate(second, 1000)
    assert write_shards(manifest, tmp_path / "out", 64).written == 2
    assert contents(tmp_path / "out") == before
    write_shards(manifest, tmp_path / "again", 64)
    assert contents(tmp_path / "again") == before
    # Other files under the same names, and other options, leave nothing of the old behind.
    soundfile.write(read_manifest(manifest)[0]["wav"], tone(123), SAMPLE_RATE)
    summary = write_shards(manifest, tmp_path / "out", 128)
    assert summary.written == summary.shards == len(list((tmp_path / "out").glob("*.tar")))
    read_index(tmp_path / "out", "train", "wav")


def test_what_cannot_be_packed_is_refused(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Path(read_manifest(manifest)[3]["wav"])
    content = missing.read_bytes()
    missing.unlink()
    with pytest.raises(FileNotFoundError, match="no such file; restore it, or leave u00 out") as error:
        write_shards(manifest, tmp_path / "out")
    sentence(error)
    missing.write_bytes(content)
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"half")
    with pytest.raises(ValueError, match="changed while it was packed") as error:
        write_shards(manifest, tmp_path / "out")
    sentence(error)
    assert not list((tmp_path / "out").iterdir())


def test_the_command_packs_and_tells(manifest: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["shard", str(manifest), str(tmp_path / "out"), "--shard-megabytes", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == len(NAMES) and Path(told["index"]).is_file()
    assert main(["shard", str(manifest), str(tmp_path / "out")]) == 0
    assert "train.csv" in capsys.readouterr().out
    assert main(["shard", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
    assert "nowhere: no such manifest" in capsys.readouterr().err


def test_a_terminal_shows_progress(manifest: Path, tmp_path: Path) -> None:
    with redirect_stderr(Terminal()) as terminal:
        assert main(["shard", str(manifest), str(tmp_path / "out")]) == 0
    assert "packing train.csv: 100%|" in terminal.getvalue()


# Reading


def test_object_storage_reads_as_a_folder_does(manifest: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "out", 64)
    storage = fsspec.filesystem("memory")
    storage.pipe({f"/bucket/{name}": content for name, content in contents(tmp_path / "out").items()})
    local, remote = (read_index(place, "train", "wav") for place in (tmp_path / "out", "memory://bucket/"))
    assert all(row["wav"].startswith("memory://bucket/train-") for row in remote)
    for here, there in zip(local, remote, strict=True):
        assert ShardMember.parse(here["wav"]).read() == ShardMember.parse(there["wav"]).read()
    storage.rm("/bucket", recursive=True)


def test_image_shards_are_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "val", images=3)
    write_shards(folder, tmp_path / "out", 1)
    assert has_shards(tmp_path / "out") and not has_shards(tmp_path)
    for options in ({}, {"limit_classes": 2, "images_per_class": 2}, {"classes": ["cat", "x"], "ignore_others": True}):
        files, packed = read_image_folder(folder, **options), read_image_shards(tmp_path / "out", "val", **options)
        assert (packed.classes, packed.names) == (files.classes, files.names)
        for file, member in zip(files.files, packed.files, strict=True):
            assert member.label == file.label and member.path.read() == file.path.read_bytes()
    with pytest.raises(ValueError, match="class folder ape is none of the 2 classes") as error:
        read_image_shards(tmp_path / "out", "val", classes=["bee", "cat"])
    sentence(error)


def test_image_models_are_evaluated_on_shards_as_on_the_folder(tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    names = ("ape", "bee", "cat")
    network = create_model("resnet18", channels=[8, 8, 8, 8], blocks=[1, 1, 1, 1], num_classes=len(names))
    model = save_classifier(tmp_path / "model", Classifier("resnet18", network, names, 16, 16), "A card.")
    for name in ("val", "test"):
        write_shards(make_folder(tmp_path / "data" / name, images=3 if name == "val" else 2), tmp_path / "out", 1)

    def evaluated(*arguments: Any) -> Any:
        status = main(["evaluate", str(model), *map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return json.loads(out) if status == 0 else err

    assert evaluated(tmp_path / "out") == evaluated(tmp_path / "data") == evaluated(tmp_path / "data" / "val")
    test = evaluated(tmp_path / "out", "--split", "test")
    assert test == evaluated(tmp_path / "data", "--split", "test") and test["images"] == 6
    assert "nowhere.csv: no such index of shards" in evaluated(tmp_path / "out", "--split", "nowhere")
    assert "nowhere: no such folder" in evaluated(tmp_path / "data", "--split", "nowhere")
    shard = next((tmp_path / "out").glob("val-*-00001.tar"))
    os.truncate(shard, 700)
    assert "is cut off" in evaluated(tmp_path / "out")
    assert evaluated(tmp_path / "out", "--skip-bad")["skipped"] >= 1


def drop(path: Path) -> None:
    path.unlink()


def foreign(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


INDICES = {
    "no index": (lambda index: index.unlink(), FileNotFoundError, "train.csv: no such index of shards"),
    "no text": (lambda index: index.write_bytes(b"\xff"), ShardError, "is not an index of shards"),
    "images": (lambda index: index.write_text("ID,class,image\n"), ShardError, "lists no utterances in shards"),
    "ordinary manifest": (
        lambda index: index.write_text("ID,duration,wav,spk_id,wrd\na,1,/a.wav,s,A\n"),
        ShardError,
        "train.csv:2: does not say where in a shard",
    ),
    "missing shard": (
        lambda index: next(index.parent.glob("*.tar")).unlink(),
        FileNotFoundError,
        "no such shard (1 of the",
    ),
}


@pytest.mark.parametrize("case", INDICES)
def test_an_index_that_cannot_be_used_is_refused(manifest: Path, tmp_path: Path, case: str) -> None:
    index = write_shards(manifest, tmp_path / "out", 64).index
    damage, kind, message = INDICES[case]
    damage(index)
    with pytest.raises(kind) as error:
        read_index(tmp_path / "out", "train", "wav")
    assert message in sentence(error)


@pytest.mark.parametrize(
    "location, message", [("nonsense://bucket", "cannot be read"), ("s3://no-such-bucket-of-ours", "")]
)
def test_storage_that_cannot_be_read_is_told_in_a_sentence(location: str, message: str, monkeypatch: Any) -> None:
    # As where no package for this storage is installed.
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(StorageError) as error:
        read_index(location, "train", "wav")
    assert (message or "pip install 'biglittle-asr[storage]'") in sentence(error)


def test_a_cut_off_shard_is_named_and_the_rest_of_it_read(manifest: Path, tmp_path: Path, caplog: Any) -> None:
    write_shards(manifest, tmp_path / "out", 64)
    whole = {row["ID"]: read_audio(row["wav"])[0] for row in read_index(tmp_path / "out", "train", "wav")}
    shard = next((tmp_path / "out").glob("*-00001.tar"))
    os.truncate(shard, shard.stat().st_size // 2)
    rows = read_index(tmp_path / "out", "train", "wav")
    (told,) = [record.getMessage() for record in caplog.records]
    lost = 0
    for row in rows:
        try:
            np.testing.assert_array_equal(read_audio(row["wav"])[0], whole[row["ID"]])
        except ShardError as error:
            assert str(error).startswith(f"{shard}: is cut off at") and "\n" not in str(error)
            lost += 1
    assert 0 < lost and told.startswith(f"{shard}: is cut off") and f"so that {lost} of {len(rows)} files" in told


def test_a_shard_of_other_files_is_named(manifest: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "out", 64)
    (row, *_) = read_index(tmp_path / "out", "train", "wav")
    foreign(Path(ShardMember.parse(row["wav"]).shard))
    with pytest.raises(ShardError, match="is not the shard that its index was made of") as error:
        read_audio(row["wav"])
    sentence(error)


# Training


def pack_speech(tmp_path: Path) -> Path:
    """Tones as manifests, and packed."""
    write_tones(tmp_path / "files", WORDS * 3)
    for name in OWN_SPLITS:
        write_shards(tmp_path / "files" / "save" / "manifests" / f"{name}.csv", tmp_path / "shards", 64)
    return tmp_path / "shards"


@pytest.mark.slow
def test_speech_in_shards_trains_to_the_same_weights_as_in_files(tmp_path: Path) -> None:
    shards = pack_speech(tmp_path)
    options = {"number_of_epochs": 1, "max_batch_length": 8, "cache_audio": False}
    weights = []
    for folder, extra in (
        ("files", {"skip_prep": True}),
        ("out", {"data_folder": shards, "train_dataloader_opts": "{num_workers: 1}"}),
    ):
        brain, datasets, hparams = load(small(tmp_path / folder, **options, **extra))
        brain.fit_datasets(datasets, hparams)
        weights.append(brain.model.state_dict())
        assert not brain.failures.rows and brain.optimizer_step > 1
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.slow
def test_what_a_cut_off_shard_lost_is_left_out_of_training_and_counted(tmp_path: Path) -> None:
    shards = pack_speech(tmp_path)
    cut = [next(shards.glob(f"{name}-*-00000.tar")) for name in ("train", "test")]
    for path in cut:
        os.truncate(path, path.stat().st_size // 2)
    brain, datasets, hparams = load(small(tmp_path / "out", data_folder=shards, number_of_epochs=1))
    brain.fit_datasets(datasets, hparams)
    failed = [row for row in brain.failures.rows if row["set"] == "train"]
    assert failed and all(str(cut[0]) in row["problem"] for row in failed)
    scores = finish(brain, datasets, hparams)
    assert scores["test"].all.segments == len(WORDS) * 3
    log = (tmp_path / "out" / "log.txt").read_text()
    assert f"{cut[0]}: is cut off at" in log and "left out" in log


@pytest.mark.slow
def test_images_in_shards_train_to_the_same_weights_and_resume(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("train", "val"):
        make_folder(tmp_path / "data" / name, images=4)
        write_shards(tmp_path / "data" / name, tmp_path / "shards", 2)
    options = {"number_of_epochs": 1, "ckpt_interval_steps": 1}
    whole = train(tiny(PLAIN, tmp_path / "data", tmp_path / "whole", **options))
    arguments = tiny(PLAIN, tmp_path / "shards", tmp_path / "packed", **options)
    step = ImageBrain.fit_batch

    def fail(brain: ImageBrain, batch: Any) -> Any:
        if brain.step == 2:
            raise KeyboardInterrupt
        return step(brain, batch)

    monkeypatch.setattr(ImageBrain, "fit_batch", fail)
    with pytest.raises(KeyboardInterrupt):
        train(arguments)
    monkeypatch.setattr(ImageBrain, "fit_batch", step)
    packed = train(arguments).model.state_dict()
    assert all(torch.equal(tensor, packed[name]) for name, tensor in whole.model.state_dict().items())


def test_bad_images_in_shards_are_failures_of_their_own(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "train", images=4)
    break_image(folder / "ape" / "0.png", "truncated")
    write_shards(folder, tmp_path / "shards", 2)
    cut = next((tmp_path / "shards").glob("*-00001.tar"))
    os.truncate(cut, cut.stat().st_size // 2)
    images = Images(read_image_shards(tmp_path / "shards", "train"), evaluation_transform(18, 16), seed=1)
    failures = [item for item, _ in (images[index] for index in range(len(images))) if isinstance(item, Failure)]
    reasons = {failure.id: failure.reason for failure in failures}
    assert "cannot be decoded" in reasons.pop("ape/0.png")
    assert reasons and all(reason.startswith(f"{cut}: is cut off") for reason in reasons.values())


def test_sets_are_found_in_shards(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_shards(make_folder(tmp_path / "data" / name, images=2), tmp_path / "shards")
    hparams = {"data_folder": str(tmp_path / "shards"), "classes": 2, "images_per_class": 1}
    sets = find_image_sets(hparams)
    assert sets.train.classes == sets.val.classes == ("ape", "bee")
    assert (len(sets.train.files), len(sets.val.files)) == (2, 4)
