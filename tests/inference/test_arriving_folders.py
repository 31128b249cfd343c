"""Model folders as they arrive: from hubs' caches, from git, inside experiment folders, of wrapped networks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import soundfile
import torch

from biglittle_asr.audio.files import AudioFileError, read_audio
from biglittle_asr.cli import main
from biglittle_asr.features.images import UnreadableImageError, read_image
from biglittle_asr.files import text_lines
from biglittle_asr.inference import Classifier, load_classifier, load_model, save_model
from biglittle_asr.inference.folder.classifier import is_classifier
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.folder.store import NEEDED, WEIGHTS, read_model, stored_state
from biglittle_asr.inference.speechbrain import load_encoder
from biglittle_asr.models import create_model
from biglittle_asr.models.checkpoints import read_checkpoint
from biglittle_asr.tasks.speech.init_from import find_start
from support.image_recipe import TINY
from support.model_folders import make, speech, transcripts

IMAGES = "images"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0\nsize 12345\n"
CACHE = "models--jane--speech"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("folders")
    found = {kind: save_model(place / kind, make(kind=kind)) for kind in KINDS}
    torch.manual_seed(0)
    network = create_model("resnet18", **TINY, num_classes=3).eval()
    return {**found, IMAGES: save_model(place / IMAGES, Classifier("resnet18", network, ("ape", "bee", "cat"), 18, 16))}


def answer(folder: Path) -> Any:
    """What a model says, to be compared."""
    model = read_model(folder)
    if isinstance(model, Classifier):
        return model.model(torch.linspace(-1, 1, 256).expand(1, 3, 16, -1).unfold(3, 16, 16)[:, :, :, 0]).tolist()
    return transcripts(model, *speech(16000, 9000))


def into_cache(folder: Path, place: Path) -> Path:
    """A folder as Hugging Face's client keeps it: links into blobs/, named by checksum."""
    snapshot = place / CACHE / "snapshots" / "4d7a21"
    (place / CACHE / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, place / CACHE / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    (place / CACHE / "refs").mkdir()
    (place / CACHE / "refs" / "main").write_text("4d7a21")
    return snapshot


def older_revision(folder: Path, place: Path) -> Path:
    """A cache with two snapshots, of which refs/main names one."""
    into_cache(folder, place)
    (place / CACHE / "snapshots" / "0ld").mkdir()
    return place / CACHE


def deeper(folder: Path, place: Path) -> Path:
    """A model in a folder of its repository."""
    snapshot = into_cache(folder, place)
    (snapshot / "model").mkdir()
    for path in [path for path in snapshot.iterdir() if path.is_symlink()]:
        (snapshot / "model" / path.name).symlink_to(Path("..") / path.readlink())
        path.unlink()
    return snapshot


def into_experiment(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place / "1234" / "model")
    (place / "1234" / "save").mkdir()
    (place / "1234" / "hyperparams.yaml").write_text("seed: 1234\n")
    return place / "1234"


def linked(folder: Path, place: Path) -> Path:
    (place / "link").symlink_to(into_cache(folder, place))
    return place / "link"


ARRIVALS: dict[str, Callable[[Path, Path], Path]] = {
    "snapshot in a cache": into_cache,
    "cache": lambda folder, place: into_cache(folder, place).parent.parent,
    "cache of two revisions": older_revision,
    "folder in a snapshot": deeper,
    "link to a snapshot": linked,
    "experiment": into_experiment,
}
every_arrival = pytest.mark.parametrize("arrival", ARRIVALS)
every_kind = pytest.mark.parametrize("kind", [*KINDS, IMAGES])


@pytest.mark.slow
@every_kind
@every_arrival
def test_folders_are_opened_as_they_arrive(arrival: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = ARRIVALS[arrival](folders[kind], tmp_path)
    assert answer(folder) == answer(folders[kind])
    if kind == IMAGES:
        assert is_classifier(str(folder)) and load_classifier(folder).classes


@pytest.mark.slow
@every_arrival
def test_every_command_and_start_takes_them(arrival: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = ARRIVALS[arrival](folders["ctc"], tmp_path)
    wav = tmp_path / "a.wav"
    soundfile.write(wav, speech(16000)[0][0].numpy(), 16000)
    manifest = tmp_path / "test.csv"
    manifest.write_text(f"ID,duration,wav,spk_id,wrd\na,1.0,{wav},jane,BAD CAB\n")
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("BAD B A D\nCAB C A B\n")
    for words in (
        ["transcribe", str(folder), str(wav)],
        ["profile", str(folder), "--runs", "0"],
        ["draw", str(folder), "--output", str(tmp_path / "a.svg")],
        ["pack", str(folder), str(tmp_path / "packed")],
        ["evaluate", str(folder), str(manifest)],
        ["tune", str(folder), str(manifest), "--lexicon", str(lexicon), "--output", str(tmp_path / "decoding.json")],
    ):
        assert main(words) == 0, words
    recognizer = load_model(folders["ctc"])
    hparams = {
        "init_from": str(folder),
        "save_folder": tmp_path,
        "compute_features": recognizer.compute_features,
        "modules": {"normalize": recognizer.normalize},
    }

    class Nothing:
        def find_checkpoints(self, **options: Any) -> list[Any]:
            return []

    start = find_start(hparams, Nothing())  # type: ignore[arg-type]
    assert start is not None
    encoder = load_model(folders["ctc"]).model.encoder
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    if arrival in ("snapshot in a cache", "link to a snapshot"):
        load_encoder(encoder, folder / WEIGHTS)
        (tmp_path / "savedir").mkdir()
        (tmp_path / "savedir" / "encoder.ckpt").symlink_to(folder / WEIGHTS)
        load_encoder(encoder, tmp_path / "savedir" / "encoder.ckpt")
        assert any(parameter.abs().sum() for parameter in encoder.parameters())


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize(
    "target", ["{place}/outside", "../../../outside", "../../../models--other/blobs/1", "../../refs/outside"]
)
def test_links_out_of_a_cache_are_refused(name: str, target: str, folders: dict[str, Path], tmp_path: Path) -> None:
    snapshot = into_cache(folders["ctc"], tmp_path)
    content = (snapshot / name).read_bytes()
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(target.format(place=tmp_path))
    outside = Path((snapshot / name).parent / (snapshot / name).readlink())
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: is a link that leads out of the folder"):
        load_model(snapshot)


def test_a_training_that_has_not_ended_is_told_from_a_model_folder(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "save").mkdir()
    for words in (["transcribe", str(tmp_path), "a.wav"], ["profile", str(tmp_path)]):
        assert main(words) == 1
        assert "has not come to its end" in capsys.readouterr().err


# Pointers of git-lfs


@every_kind
@pytest.mark.parametrize("name", NEEDED)
def test_pointers_of_git_lfs_are_named(name: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[kind], tmp_path / "model")
    if not (tmp_path / "model" / name).exists():
        pytest.skip("a classifier has no tokenizer")
    (tmp_path / "model" / name).write_text(POINTER)
    with pytest.raises(ValueError, match=rf"{name}: is a pointer of git-lfs, .*git lfs pull"):
        read_model(tmp_path / "model")


READERS: dict[str, tuple[str, Callable[[Path], Any], type[Exception]]] = {
    "weights": ("net.safetensors", read_checkpoint, ValueError),
    "pickled weights": ("net.pth", read_checkpoint, ValueError),
    "audio": ("a.wav", read_audio, AudioFileError),
    "image": ("a.png", read_image, UnreadableImageError),
    "text": ("a.txt", lambda path: list(text_lines(path)), ValueError),
}


@pytest.mark.parametrize("reader", READERS)
def test_pointers_are_named_by_every_reader(reader: str, tmp_path: Path) -> None:
    name, read, kind = READERS[reader]
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(kind, match=rf"{name}: is a pointer of git-lfs, .*git lfs pull"):
        read(tmp_path / name)


@pytest.mark.parametrize("option", ["--lm", "--lexicon", "--hotwords", "--decoding"])
def test_pointers_are_named_by_every_option(option: str, folders: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    soundfile.write(tmp_path / "a.wav", speech(16000)[0][0].numpy(), 16000)
    (tmp_path / "file").write_text(POINTER)
    assert main(["transcribe", str(folders["ctc"]), str(tmp_path / "a.wav"), option, str(tmp_path / "file")]) == 1
    assert "file: is a pointer of git-lfs" in capsys.readouterr().err


# Weights of wrapped networks


def averaged(state: dict[str, torch.Tensor], prefix: str = "module.") -> dict[str, torch.Tensor]:
    return {**{f"{prefix}{name}": tensor for name, tensor in state.items()}, "n_averaged": torch.tensor(7)}


def compiled_inside(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One part was compiled."""
    names = {name: name.replace(".", "._orig_mod.", 2).replace("._orig_mod.", ".", 1) for name in state}
    return {names[name]: tensor for name, tensor in state.items()}


WRAPPED: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compile": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "compile inside": compiled_inside,
    "compiled DataParallel": lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
    "DataParallel of compiled": lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
    "AveragedModel": averaged,
    "average of DataParallel": lambda state: averaged(state, "module.module."),
}


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_weights_of_wrapped_networks_are_theirs(
    wrapper: str, kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders[kind], tmp_path / "model")
    state = safetensors.torch.load_file(folders[kind] / WEIGHTS)
    assert set(state) == set(stored_state(read_model(folders[kind])))
    safetensors.torch.save_file(WRAPPED[wrapper](state), tmp_path / "model" / WEIGHTS)
    assert answer(tmp_path / "model") == answer(folders[kind])
    if kind == IMAGES:
        torch.save({"state_dict": WRAPPED[wrapper](state)}, tmp_path / "net.pth")
        for path in (tmp_path / "net.pth", tmp_path / "model" / WEIGHTS):
            assert set(read_checkpoint(path)) == set(state)


@every_kind
def test_two_networks_in_one_file_are_refused(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[kind], tmp_path / "model")
    state = safetensors.torch.load_file(folders[kind] / WEIGHTS)
    both = {**state, **{f"module.{name}": tensor.clone() for name, tensor in state.items()}}
    safetensors.torch.save_file(both, tmp_path / "model" / WEIGHTS)
    with pytest.raises(ValueError, match="has the tensor 'module"):
        read_model(tmp_path / "model")
