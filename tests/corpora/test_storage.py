"""Shards in storage that misbehaves, over HTTP and S3's protocol: no wrong or partial word, no hang, no secret told."""

from __future__ import annotations

import json
import logging
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec.config
import numpy as np
import pytest
import soundfile
import torch

from biglittle_asr import shards
from biglittle_asr.audio.files import read_audio
from biglittle_asr.cli import main
from biglittle_asr.corpora.manifest import copy_indices, read_manifest
from biglittle_asr.corpora.sharding import write_shards
from biglittle_asr.inference.classification import read_image_anywhere
from biglittle_asr.recipe.prepare import OWN_SPLITS
from biglittle_asr.shards import RetryPolicy, ShardError, ShardMember, StorageError, has_shards, read_index, redact
from biglittle_asr.tasks.speech.data import AudioReader
from support.corpora import SAMPLE_RATE, tone
from support.ctc_recipe import WORDS, load, small, write_manifests, write_tones
from support.faulty_storage import BUCKET, Fault, FaultyStorage, faulty_storage
from support.image_recipe import make_folder
from support.recognizers import babble

pytest.importorskip("aiohttp")
pytest.importorskip("s3fs")

PROTOCOLS = ("http", "s3")
ATTEMPTS = 3
IMPATIENCE = 0.25


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between requests, which are noted and not waited for."""
    waits: list[float] = []
    monkeypatch.setattr(shards, "sleep", waits.append)
    monkeypatch.setattr(shards, "RETRIES", RetryPolicy(attempts=ATTEMPTS, request_seconds=30))
    return waits


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyStorage]:
    """One server for all tests, as making a client of S3 takes a second."""
    with faulty_storage() as storage:
        yield storage


@pytest.fixture
def storage(server: FaultyStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStorage]:
    use_endpoint(server.url, monkeypatch)
    yield server
    server.reset()


def befall(storage: FaultyStorage, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Have a fault happen; requests that it makes slow end early."""
    storage.fault = Fault(**vars(fault))
    if fault.kind in ("silence", "drip"):
        monkeypatch.setattr(shards, "RETRIES", RetryPolicy(attempts=ATTEMPTS, request_seconds=IMPATIENCE))
    return storage.fault


def use_endpoint(url: str, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    """Have s3:// read from a server on loopback."""
    found = {"endpoint_url": url, "key": "key", "secret": "secret", **options}
    monkeypatch.setitem(fsspec.config.conf, "s3", found)


def location(storage: FaultyStorage, protocol: str) -> str:
    return f"{storage.url}/{BUCKET}" if protocol == "http" else f"s3://{BUCKET}"


def upload(storage: FaultyStorage, folder: Path) -> None:
    storage.files |= {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def packed(tmp_path: Path, storage: FaultyStorage) -> Path:
    """The sets `train` (four utterances) and `val` (images) in storage; returns the folder that they are copies of."""
    rows = []
    for number in range(4):
        wav = tmp_path / f"u{number}.wav"
        soundfile.write(wav, tone(4000 + 100 * number), SAMPLE_RATE)
        rows.append([f"u{number}", 0.25, wav, "s", "YES"])
    write_manifests(tmp_path / "manifests", rows)
    write_shards(tmp_path / "manifests" / "train.csv", tmp_path / "shards")
    write_shards(make_folder(tmp_path / "val", images=2), tmp_path / "shards")
    upload(storage, tmp_path / "shards")
    return tmp_path / "shards"


# What is read, and how: each prepares without faults, and returns what then reads under faults.

Read = Callable[[], Any]


def of_index(place: str, folder: Path) -> Read:
    return lambda: [{**row, "wav": ""} for row in read_index(place, "train", "wav")]


def of_manifest(place: str, folder: Path) -> Read:
    copy = copy_indices(place, ["train"], folder / place.partition(":")[0])["train"]
    return lambda: [{**row, "wav": ""} for row in read_manifest(copy)]


def of_member(place: str, folder: Path) -> Read:
    rows = read_index(place, "train", "wav")
    return lambda: [ShardMember.parse(row["wav"]).read() for row in rows]


def of_training(place: str, folder: Path) -> Read:
    rows = read_index(place, "train", "wav")
    return lambda: [AudioReader(SAMPLE_RATE)(row["wav"]).tolist() for row in rows]


def of_images(place: str, folder: Path) -> Read:
    rows = read_index(place, "val", "image")
    return lambda: [read_image_anywhere(ShardMember.parse(row["image"])).tobytes() for row in rows]


READERS = (of_index, of_manifest, of_member, of_training, of_images)
CONTENT = (of_member, of_training, of_images)
"""Those that read what is in shards."""

TRANSIENT = {
    "500 twice": Fault("500", 2),
    "503 twice": Fault("503", 2, code="SlowDown"),
    "429 once": Fault("429", 1),
    "silence once": Fault("silence", 1),
    "connection closed twice": Fault("hang up", 2),
    "connection closed in the middle": Fault("cut", 2),
    "truncated body": Fault("short", 1),
    "other bytes once": Fault("other bytes", 1, ".tar"),
    "slower than the slowest": Fault("drip", 1),
}
PERMANENT = {
    "500": (Fault("500"), "HTTP status 500", "check the network and the storage"),
    "503": (Fault("503"), "HTTP status 503", "check the network and the storage"),
    "silence": (Fault("silence"), "no answer within 0.", "check the network and the storage"),
    "connections closed": (Fault("hang up"), "the last of 3 requests", "check the network and the storage"),
    "401": (Fault("401", code="Unauthorized"), "HTTP status 401", "give valid credentials"),
    "403": (Fault("403", code="AccessDenied"), "HTTP status 403", "give valid credentials"),
    "expired credentials": (
        Fault("400", code="ExpiredToken"),
        "HTTP status 400",
        "check the location, and your access",
    ),
}
RETRIED = {"500", "503", "silence", "connections closed"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("reader", READERS)
def test_transient_faults_change_nothing_that_is_read(
    reader: Any,
    fault: str,
    protocol: str,
    storage: FaultyStorage,
    packed: Path,
    tmp_path: Path,
    caplog: Any,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = reader(str(packed), tmp_path / "local")()
    read = reader(location(storage, protocol), tmp_path)
    caplog.clear()
    found = befall(storage, TRANSIENT[fault], monkeypatch)
    times = found.times
    assert read() == expected
    befallen = times - found.times
    # Sizes, which are all that a manifest in a folder asks for, have no bytes that could be damaged.
    assert befallen == times or reader not in CONTENT
    told = [record for record in caplog.records if record.name == shards.__name__]
    assert all(record.levelno == logging.WARNING for record in told)
    # fsspec answers a failing HEAD by GET, and aiohttp repeats a request if an open connection was closed.
    assert len(told) <= befallen or found.kind in ("silence", "drip")
    assert told or protocol == "http" or not befallen
    assert len(waits) == (0 if found.kind == "other bytes" else len(told))
    assert all(2**number / 2 <= wait <= 2**number for number, wait in enumerate(waits))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", PERMANENT)
@pytest.mark.parametrize("reader", READERS)
def test_permanent_faults_end_in_a_sentence(
    reader: Any,
    fault: str,
    protocol: str,
    storage: FaultyStorage,
    packed: Path,
    tmp_path: Path,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = reader(location(storage, protocol), tmp_path)
    found, reason, advice = PERMANENT[fault]
    befall(storage, found, monkeypatch)
    with pytest.raises(StorageError) as error:
        read()
    sentence = str(error.value)
    assert sentence.startswith(location(storage, protocol)) and "\n" not in sentence and sentence.endswith(".")
    assert reason in sentence and advice in sentence
    assert len(waits) == (ATTEMPTS - 1 if fault in RETRIED else 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_named_at_once(
    reader: Any, protocol: str, storage: FaultyStorage, packed: Path, tmp_path: Path, waits: Any
) -> None:
    read = reader(location(storage, protocol), tmp_path)
    storage.files.clear()
    with pytest.raises(StorageError if reader in CONTENT else FileNotFoundError) as error:
        read()
    assert re.match(rf"{re.escape(location(storage, protocol))}/\S+: no such", str(error.value)) and not waits


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("reader", CONTENT)
def test_a_server_that_knows_no_ranges_is_refused(
    reader: Any, protocol: str, storage: FaultyStorage, packed: Path, tmp_path: Path
) -> None:
    read = reader(location(storage, protocol), tmp_path)
    storage.fault = Fault("no ranges")
    with pytest.raises(StorageError, match="does not read parts of files"):
        read()


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "other bytes of the same size": lambda content: content[:-2000] + bytes(1000) + content[-1000:],
    "all other bytes": lambda content: b"x" * len(content),
    "truncated": lambda content: content[:600],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_replaced_shard_gives_no_other_bytes(
    change: str, protocol: str, storage: FaultyStorage, packed: Path
) -> None:
    originals = [ShardMember.parse(row["wav"]).read() for row in read_index(packed, "train", "wav")]
    rows = read_index(location(storage, protocol), "train", "wav")
    (shard,) = (name for name in storage.files if name.startswith("train-") and name.endswith(".tar"))
    storage.files[shard] = CHANGES[change](storage.files[shard])
    refused = 0
    for row, original in zip(rows, originals, strict=True):
        try:
            assert ShardMember.parse(row["wav"]).read() == original
        except ShardError as error:
            assert not isinstance(error, StorageError)
            assert "is not the shard that its index was made of" in str(error) or "is cut off at" in str(error)
            refused += 1
    assert refused


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"audio")
    (tmp_path / "train.csv").write_text("ID,duration,wav,spk_id,wrd\na,1.0,a.wav,s,YES\n")
    write_shards(tmp_path / "train.csv", tmp_path / "out")
    (row,) = read_index(tmp_path / "out", "train", "wav")
    member = ShardMember.parse(row["wav"])
    shard, content = Path(member.shard), Path(member.shard).read_bytes()
    for place in range(member.offset + 512, member.end):
        shard.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(ShardError, match="is not the shard that its index was made of"):
            member.read()
    # Indices of earlier versions have no checksums.
    shard.write_bytes(content)
    old = ShardMember.parse(row["wav"].rpartition(":")[0])
    assert old.checksum is None and old.read() == member.read() == b"audio"


def test_an_index_that_ends_early_is_refused(storage: FaultyStorage, packed: Path) -> None:
    index = storage.files["train.csv"]
    for end in range(len(index) - 3, len(index) - 30, -1):
        storage.files["train.csv"] = index[:end]
        with pytest.raises(ShardError, match="is cut off in the middle of a line"):
            read_index(location(storage, "http"), "train", "wav")


# Secrets

SECRETS = {
    "http://anna:s3cr3t@127.0.0.1:1/x": "http://127.0.0.1:1/x",
    "http://anna:s3/cr3t@127.0.0.1:1/x": "http://127.0.0.1:1/x",
    "https://t0k3n@host/x": "https://host/x",
    "https://host/x?X-Amz-Signature=s3cr3t&a=b": "https://host/x?...",
    "s3://key:s3cr3t@bucket/x": "s3://bucket/x",
}


@pytest.mark.parametrize("url", SECRETS)
def test_a_url_with_a_secret_is_refused_without_telling_it(url: str, capfd: Any, caplog: Any) -> None:
    assert redact(f"{url} and more") == f"{SECRETS[url]} and more"
    uses: tuple[Callable[[], Any], ...] = (
        lambda: has_shards(url),
        lambda: read_index(url, "train", "wav"),
        ShardMember(f"{url}/a.tar", 0, 1).read,
    )
    for use in uses:
        with pytest.raises(StorageError) as error:
            use()
        assert str(error.value).startswith(SECRETS[url].rstrip(".")) and str(error.value).endswith(".")
        assert not re.search("s3cr3t|cr3t|t0k3n", str(error.value))
    assert main(["evaluate", "an4", url]) == 1
    assert not re.search("s3cr3t|cr3t|t0k3n", "".join(capfd.readouterr()) + caplog.text)


@pytest.mark.parametrize("url", ["abfs://container@account.dfs.core.windows.net/x", "http://h:80/a@b", "s3://b/x"])
def test_a_url_without_a_secret_stays(url: str) -> None:
    assert redact(f"{url}, {url}") == f"{url}, {url}" and has_shards(url)


def test_a_signed_url_in_an_answer_is_not_told(
    storage: FaultyStorage, packed: Path, caplog: Any, monkeypatch: Any
) -> None:
    class Refusing:
        async_impl = False

        def info(self, path: str) -> None:
            raise ConnectionError("http://mirror/x?Signature=s3cr3t: gone")

    monkeypatch.setattr(shards, "_open", lambda url: (Refusing(), url))
    with pytest.raises(StorageError) as error:
        read_index("http://host/x", "train", "wav")
    assert "http://mirror/x?..." in str(error.value) and "s3cr3t" not in str(error.value) + caplog.text


# Commands


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_evaluation_and_transcription_survive_or_stop(
    protocol: str, model_folder: Path, storage: FaultyStorage, tmp_path: Path, capsys: Any
) -> None:
    rows = []
    for number in range(3):
        wav = tmp_path / f"u{number}.wav"
        soundfile.write(wav, babble(1 + number / 4, number), SAMPLE_RATE)
        rows.append([f"u{number}", 1 + number / 4, wav, "s", "AB C"])
    write_manifests(tmp_path / "manifests", rows)
    index = write_shards(tmp_path / "manifests" / "test.csv", tmp_path / "shards").index
    upload(storage, tmp_path / "shards")
    place = location(storage, protocol)
    elsewhere = tmp_path / "index.csv"
    elsewhere.write_text(index.read_text().replace("test-", f"{place}/test-"))

    def told(*arguments: Any) -> tuple[int, str, str]:
        status = main([arguments[0], str(model_folder), *map(str, arguments[1:])])
        return status, *capsys.readouterr()

    for arguments, local in ((("evaluate", place), index.parent), (("transcribe", elsewhere), index)):
        expected = told(arguments[0], local)
        storage.fault = Fault("503", 2, ".tar")
        assert told(*arguments)[:2] == expected[:2] and expected[0] == 0
        # Nothing is left out, and no time is lost with the other files.
        for fault, reason in ((Fault("503", suffix=".tar"), "status 503"), (Fault("403", suffix=".tar"), "status 403")):
            storage.fault = fault
            status, out, err = told(*arguments)
            assert (status, out) == (1, "") and reason in err.splitlines()[-1]
        storage.fault = None


# Training


def train(folder: Path, place: str, storage: FaultyStorage, fault: Fault | None, workers: int) -> Any:
    options = {"number_of_epochs": 1, "max_batch_length": 8, "cache_audio": False, "data_folder": place}
    options["train_dataloader_opts"] = f"{{num_workers: {workers}}}"
    brain, datasets, hparams = load(small(folder, **options))
    storage.fault = fault
    brain.fit_datasets(datasets, hparams)
    return brain


@pytest.fixture
def speech(tmp_path: Path, storage: FaultyStorage) -> FaultyStorage:
    write_tones(tmp_path / "files", WORDS * 3)
    for name in OWN_SPLITS:
        write_shards(tmp_path / "files" / "save" / "manifests" / f"{name}.csv", tmp_path / "shards")
    upload(storage, tmp_path / "shards")
    return storage


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_with_transient_faults_has_the_same_weights(
    speech: FaultyStorage, tmp_path: Path, workers: int
) -> None:
    weights = []
    for name, fault in (("calm", None), ("faulty", Fault("503", 2, ".tar"))):
        brain = train(tmp_path / name, location(speech, "s3"), speech, fault, workers)
        assert not brain.failures.rows
        weights.append(brain.model.state_dict())
    assert fault.times == 0
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_without_storage_stops_and_goes_on_later(
    speech: FaultyStorage, tmp_path: Path, workers: int
) -> None:
    place = location(speech, "http")
    with pytest.raises(StorageError, match="HTTP status 503"):
        train(tmp_path / "out", place, speech, Fault("503", suffix=".tar"), workers)
    speech.fault = None
    brain = train(tmp_path / "out", place, speech, None, workers)
    assert not brain.failures.rows and brain.optimizer_step > 1


# S3 itself


@pytest.fixture(scope="module")
def moto_server() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto_server: str, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """S3 with the files of `packed` in a bucket."""
    use_endpoint(moto_server, monkeypatch)
    monkeypatch.setattr(shards, "RETRIES", RetryPolicy(attempts=ATTEMPTS, request_seconds=20))
    client = fsspec.filesystem("s3")
    client.mkdir(f"s3://{BUCKET}")
    client.pipe({f"{BUCKET}/{path.name}": path.read_bytes() for path in packed.iterdir()})
    yield client
    urllib.request.urlopen(urllib.request.Request(f"{moto_server}/moto-api/reset", method="POST")).close()


def test_s3_reads_as_a_folder_does(bucket: Any, packed: Path, waits: list[float]) -> None:
    for here, there in zip(*(read_index(place, "train", "wav") for place in (packed, f"s3://{BUCKET}/")), strict=True):
        np.testing.assert_array_equal(read_audio(there["wav"])[0], read_audio(here["wav"])[0])
    for place, name in (
        (f"s3://{BUCKET}", "nowhere"),
        ("s3://no-such-bucket-of-ours", "train"),
        (f"s3://{BUCKET}/x", "val"),
    ):
        with pytest.raises(FileNotFoundError, match="no such index of shards"):
            read_index(place, name, "wav")
    assert not waits


def test_s3_with_an_object_replaced_since(bucket: Any, packed: Path) -> None:
    rows = read_index(f"s3://{BUCKET}", "train", "wav")
    shard = ShardMember.parse(rows[0]["wav"]).shard
    content = bucket.cat_file(shard)
    bucket.pipe_file(shard, content.replace(b"\x00\x01", b"\x01\x00"))
    for row in rows:
        with pytest.raises(ShardError, match="is not the shard that its index was made of"):
            read_audio(row["wav"])
    bucket.rm(shard)
    with pytest.raises(StorageError, match="no such shard"):
        read_audio(rows[0]["wav"])


def test_s3_with_invalid_credentials(
    bucket: Any, moto_server: str, monkeypatch: pytest.MonkeyPatch, waits: Any
) -> None:
    def allow(actions: str) -> None:
        request = urllib.request.Request(f"{moto_server}/moto-api/reset-auth", actions.encode(), method="POST")
        request.add_header("Content-Type", "text/plain")
        json.load(urllib.request.urlopen(request))

    use_endpoint(moto_server, monkeypatch, key="AKIAIOSFODNN7EXAMPLE", secret="s3cr3t")
    allow("0")
    try:
        with pytest.raises(StorageError, match="HTTP status 403.*give valid credentials") as error:
            read_index(f"s3://{BUCKET}", "train", "wav")
    finally:
        allow("1000000")
    assert "s3cr3t" not in str(error.value) and not waits
