"""Images: class indices, pixels, the recipe and its files, evaluation, and one sentence for what goes wrong."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image
from torchvision import datasets, transforms

from biglittle_asr.cli import main
from biglittle_asr.corpora.images import folder as image_folder
from biglittle_asr.corpora.images import imagenet
from biglittle_asr.features.images import MEAN, UnreadableImageError, evaluation_transform, read_image  # noqa: E402
from biglittle_asr.inference.classification import count_top, find_images
from biglittle_asr.inference.folder.classifier import Classifier, load_classifier, save_classifier
from biglittle_asr.models import create_model
from biglittle_asr.recipe.keys import IMAGE_KEYS
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.engine.schedule import ByEpoch
from biglittle_asr.tasks.images.brain import ImageBrain, find_image_sets

YAML_FILES = sorted((REPOSITORY / "hparams" / "ImageNet").glob("*.yaml"))
PLAIN = REPOSITORY / "hparams" / "ImageNet" / "reproduction_resnet18.yaml"
TINY = {"channels": [8, 8, 8, 8], "blocks": [1, 1, 1, 1], "stem": "small", "small_stem_stride": 2}
"""Of a network for images of 16 pixels."""
WNIDS = list(imagenet.imagenet_classes())


def picture(seed: int, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Image.Image:
    """A picture of smooth random colors."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).convert(mode)


def make_folder(folder: Path, classes: Sequence[str] = ("ape", "bee", "cat"), images: int = 4) -> Path:
    """Class folders with a few pictures each."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            picture(100 * number + index).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder with train/ and val/."""
    make_folder(tmp_path / "data" / "train")
    make_folder(tmp_path / "data" / "val", images=2)
    return tmp_path / "data"


# Classes


def nameless(outputs: int) -> Classifier:
    """A classifier that does not know what its classes are called, as published checkpoints are."""
    return Classifier("resnet18", create_model("resnet18", **TINY, num_classes=outputs), None)


def test_classes_are_the_sorted_wnids() -> None:
    assert len(WNIDS) == len(set(WNIDS)) == 1000 and sorted(WNIDS) == WNIDS
    assert (WNIDS[0], WNIDS[999]) == ("n01440764", "n15075141")


@pytest.mark.parametrize("chosen", [(999, 0, 17), (5,), tuple(range(0, 1000, 97))])
def test_a_part_of_imagenet_gets_the_indices_of_the_whole(tmp_path: Path, chosen: tuple[int, ...]) -> None:
    make_folder(tmp_path / "val", [WNIDS[index] for index in chosen], images=1)
    images = find_images(nameless(1000), tmp_path)
    assert {file.path.parent.name: file.label for file in images.files} == {WNIDS[index]: index for index in chosen}


def test_any_other_folder_has_its_own_sorted_classes(sets: Path) -> None:
    images = image_folder.read_image_folder(sets / "train")
    judge = datasets.ImageFolder(str(sets / "train"))
    assert list(images.classes) == judge.classes
    assert [(str(path), label) for path, label in images.files] == judge.samples


def test_a_slimmed_set_has_the_first_classes_and_images(sets: Path) -> None:
    found = find_image_sets({"data_folder": sets, "classes": 2, "images_per_class": 3})
    assert found.train.classes == found.val.classes == ("ape", "bee")
    assert len(found.train.files) == 2 * 3 and len(found.val.files) == 2 * 2


FOLDERS: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "nothing there": (lambda folder: None, 3, "no such folder"),
    "no class folders": (lambda folder: folder.mkdir(), 3, "has no class folders"),
    "no subset of ImageNet": (
        lambda folder: make_folder(folder, [WNIDS[3], "cat"]),
        1000,
        "class folder cat is none of the 1000 classes of the model (1 of 2 folders are not)",
    ),
    "another number of classes": (lambda folder: make_folder(folder), 10, "has 3 classes, but the model has 10"),
    "an empty class folder": (
        lambda folder: (make_folder(folder) / "dog").mkdir(),
        4,
        "dog: the class folder is empty",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    make, outputs, message = FOLDERS[case]
    folder = tmp_path / "images"
    make(folder)
    with pytest.raises((ValueError, OSError)) as error:
        find_images(nameless(outputs), folder)
    assert message in str(error.value) and str(folder) in str(error.value) and "\n" not in str(error.value)


# Pixels


def judged(path: Path) -> torch.Tensor:
    """What torchvision makes of an image in the authors' evaluation."""
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    normalize = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    return transforms.Compose([*steps, normalize])(datasets.folder.default_loader(str(path)))


def rotated_by_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3, (300, 260)).save(path, exif=exif)


PICTURES: dict[str, Callable[[Path], Any]] = {
    "grey.jpg": lambda path: picture(1, (260, 300), "L").save(path),
    "cmyk.jpg": lambda path: picture(2, (260, 300), "CMYK").save(path),
    "exif.jpg": rotated_by_exif,
    "palette.png": lambda path: picture(4, (260, 300), "P").save(path),
    "transparent.png": lambda path: picture(5, (260, 300), "RGBA").save(path),
    "png_named.JPEG": lambda path: picture(6, (300, 290)).save(path, "PNG"),
    "tiny.png": lambda path: picture(7, (9, 14)).save(path),
    "narrow.png": lambda path: picture(8, (1000, 40)).save(path),
    "huge.png": lambda path: picture(10, (900, 700)).save(path),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_is_prepared_as_published_to_the_pixel(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From here on PIL calls a picture huge, and at twice as much it refuses to read it.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    path = tmp_path / name
    PICTURES[name](path)
    assert torch.equal(evaluation_transform()(read_image(path)), judged(path))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_grey_of_16_bits_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    shades = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    path = tmp_path / f"a{suffix}"
    if suffix == ".pgm":
        path.write_bytes(b"P5 64 64 65535\n" + shades.astype(">u2").tobytes())
    else:
        Image.fromarray(shades).save(path)
    found = np.asarray(read_image(path))
    assert found.shape == (64, 64, 3)
    np.testing.assert_allclose(found, np.repeat((shades / 257)[:, :, None], 3, axis=2), atol=1)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.ones((8, 8), dtype=kind)).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImageError, match="its pixels have 32 bits"):
        read_image(tmp_path / "a.tiff")


def test_real_photographs_are_prepared_as_published_to_the_pixel() -> None:
    folder = os.environ.get("BIGLITTLE_IMAGENET", REPOSITORY.parent / "shared" / "data" / "imagenet_sample")
    paths = sorted(Path(folder).rglob("*.JPEG"))
    if not paths:
        pytest.skip(f"no photographs in {folder}; set BIGLITTLE_IMAGENET")
    for path in paths:
        assert torch.equal(evaluation_transform()(read_image(path)), judged(path)), path


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def break_image(path: Path, fault: str) -> None:
    """Put a file that is no whole image in the place of one."""
    path.unlink(missing_ok=True)
    whole = io.BytesIO()
    picture(9, (64, 64)).save(whole, "JPEG")
    data = whole.getvalue()
    contents = {
        "no image": b"this is text",
        "empty file": b"",
        "truncated": data[: len(data) // 2],
        "corrupt": data[:30] + b"\xff" * 200 + data[230:],
        "cut PNG": PNG_SIGNATURE + b"\0\0\0\rIHDR",
        "bomb": PNG_SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", b""),
    }
    if fault != "missing":
        path.write_bytes(contents[fault])


FAULTS = ("no image", "empty file", "truncated", "corrupt", "cut PNG", "bomb", "missing")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_whole_image_is_refused_in_a_sentence(tmp_path: Path, fault: str) -> None:
    break_image(tmp_path / "a.jpg", fault)
    with pytest.raises(UnreadableImageError) as error:
        read_image(tmp_path / "a.jpg")
    assert str(error.value).startswith(f"{tmp_path / 'a.jpg'}: ") and "\n" not in str(error.value)


# The recipe


def tiny(yaml: Path, sets: Path, out: Path, **overrides: Any) -> list[str]:
    """Command line of a recipe at 16 pixels with a small network."""
    big_little = {"blocks": [2, 1, 1, 1], "big_little_stages": 1} if "_bl_" in yaml.name else {}
    options = {
        "data_folder": sets,
        "output_folder": out,
        "model": json.dumps({**TINY, **big_little}),
        "number_of_epochs": 1,
        "batch_size": 4,
        "crop": 16,
        "resize": 18,
        "precision": "fp32",
        "train_dataloader_opts": "{num_workers: 0, pin_memory: False}",
        "valid_dataloader_opts": "{batch_size: 4, num_workers: 0}",
        **overrides,
    }
    options["warmup_epochs"] = 0
    return [str(yaml), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())]


def train(arguments: Sequence[str]) -> ImageBrain:
    """What train.py does."""
    hparams, run_opts = load_recipe(arguments, IMAGE_KEYS)
    found = find_image_sets(hparams)
    brain = ImageBrain(hparams["model"](num_classes=len(found.train.classes)), found, hparams, run_opts)
    brain.fit_sets(hparams)
    brain.score = brain.evaluate_sets(hparams)
    return brain


@pytest.mark.parametrize("yaml", YAML_FILES, ids=lambda path: path.stem)
def test_every_yaml_trains_evaluates_and_leaves_a_model(yaml: Path, sets: Path, tmp_path: Path, capsys: Any) -> None:
    spec = importlib.util.spec_from_file_location("train", REPOSITORY / "recipes" / "ImageNet" / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = tmp_path / "out"
    module.main(tiny(yaml, sets, out))
    for name in ("train_log.txt", "epochs.csv", "curves.png", "score.json", "model/README.md"):
        assert (out / name).stat().st_size > 0
    capsys.readouterr()
    assert main(["evaluate", str(out / "model"), str(sets), "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    expected = json.loads((out / "score.json").read_text())
    assert evaluated == pytest.approx(expected, rel=1e-4) and evaluated["images"] == 6
    # A pruned network leaves plain weights, most of them zero.
    model = load_classifier(out / "model").model
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    pruned = [layer for layer in convolutions if (layer.weight == 0).double().mean() > 0.8]
    assert len(pruned) == ("sparse" in yaml.name) * (len(convolutions) - 1)


def test_interrupted_and_resumed_equals_undisturbed(sets: Path, tmp_path: Path, monkeypatch: Any) -> None:
    options = {"number_of_epochs": 2, "ema_decay": 0.5, "ckpt_interval_steps": 1}
    whole = train(tiny(PLAIN, sets, tmp_path / "whole", **options))
    step, arguments = ImageBrain.fit_batch, tiny(PLAIN, sets, tmp_path / "resumed", **options)

    def fail(brain: ImageBrain, batch: Any) -> Any:
        if brain.hparams.epoch_counter.current == 2 and brain.step == 3:
            raise KeyboardInterrupt
        return step(brain, batch)

    monkeypatch.setattr(ImageBrain, "fit_batch", fail)
    with pytest.raises(KeyboardInterrupt):
        train(arguments)
    monkeypatch.setattr(ImageBrain, "fit_batch", step)
    resumed = train(arguments)
    for first, second in ((whole.model, resumed.model), (whole.evaluated, resumed.evaluated)):
        other = second.state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(whole.model.fc.weight, whole.evaluated.fc.weight)
    assert whole.score == resumed.score and len(resumed.history.rows) == 2


def test_training_skips_and_counts_bad_images_and_evaluation_refuses_them(sets: Path, tmp_path: Path) -> None:
    (sets / "train" / "ape" / "0.png").write_bytes(b"no image")
    (sets / "val" / "bee" / "1.png").write_bytes(b"no image")
    arguments = tiny(PLAIN, sets, tmp_path / "out")
    with pytest.raises(ValueError, match=r"bee/1.png: is no image .*evaluate without such images \(--skip_bad True"):
        train(arguments)
    brain = train([*arguments, "--skip_bad=True", "--test_only"])
    assert (brain.score.images, brain.score.skipped) == (5, 1)
    with (tmp_path / "out" / "failed_files.csv").open() as file:
        failed = {(row["set"], row["ID"]) for row in csv.DictReader(file)}
    assert {("val", "bee/1.png")} <= failed <= {("val", "bee/1.png"), ("train", "ape/0.png")}


def test_rates_change_between_epochs_only() -> None:
    for schedule in ("cosine", "step"):
        rate = ByEpoch(0.1, epochs=100, schedule=schedule)
        rates = [rate(step / 1000) for step in range(1, 1001)]
        assert all(len(set(rates[start : start + 10])) == 1 for start in range(0, 1000, 10))
        assert rates[0] == 0.1 and rates == sorted(rates, reverse=True)
    with pytest.raises(ValueError, match="schedule: is 'line', but must be cosine or step"):
        ByEpoch(0.1, 10, "line")


# Evaluation


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A folder with an untrained classifier of three classes."""
    torch.manual_seed(0)
    model = create_model("resnet18", **TINY, num_classes=3)
    return save_classifier(tmp_path / "model", Classifier("resnet18", model, ("ape", "bee", "cat"), 18, 16), "# card")


def test_a_classifier_comes_back_from_its_folder(classifier: Path) -> None:
    loaded = load_classifier(str(classifier))
    assert (loaded.classes, loaded.resize, loaded.crop) == (("ape", "bee", "cat"), 18, 16)
    torch.manual_seed(0)
    twin = create_model("resnet18", **TINY, num_classes=3).eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded.model(x), twin(x))


def test_the_folder_may_have_some_of_the_classes_only(classifier: Path, tmp_path: Path, capsys: Any) -> None:
    make_folder(tmp_path / "some", ["cat"])
    assert main(["evaluate", str(classifier), str(tmp_path / "some"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
    assert main(["evaluate", str(classifier), str(make_folder(tmp_path / "others", ["dog"]))]) == 1
    assert "class folder dog is none of the 3 classes of the model" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "missing"])
def test_bad_images_are_skipped_only_on_demand(classifier: Path, sets: Path, fault: str, capsys: Any) -> None:
    break_image(sets / "val" / "bee" / "0.png", fault)
    arguments = ["evaluate", str(classifier), str(sets / "val"), "--json"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "bee/0.png" in err and "--skip_bad" in err
    assert main([*arguments, "--skip_bad"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"images", "top1", "top5", "loss", "skipped"}
    assert (result["images"], result["skipped"], result["top5"]) == (5, 1, 100.0)


CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "version": (lambda config: config.update(version=2), "reads version 1 only"),
    "classes": (lambda config: config.update(classes=["a"]), "classes are 1 names, but num_classes is 3"),
    "size": (lambda config: config["network"].update(channels=[8, 8, 8, 1 << 30]), "network.channels is"),
    "shape": (lambda config: config["network"].update(channels=[8, 8, 8, 16]), "tensor"),
    "field": (lambda config: config["network"].update(depth=50), "has the unknown key 'network.depth'"),
    "default": (lambda config: config["network"].pop("stem"), "tensor conv1.weight is"),
    "key": (lambda config: config.pop("crop"), "lacks the key crop"),
    "crop": (lambda config: config.update(crop=-1), "crop is -1, but must be"),
    "no crop": (lambda config: config.update(crop=0), "but both must be 1 or more"),
    "class twice": (lambda config: config.update(classes=["a", "a", "b"]), "classes are 3 names"),
    "network": (lambda config: config["network"].update(alpha=3, big_little_stages=3), "network cannot be built"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_folder_that_is_not_whole_is_refused(classifier: Path, sets: Path, case: str, capsys: Any) -> None:
    change, message = CONFIGS[case]
    config = json.loads((classifier / "config.json").read_text())
    change(config)
    (classifier / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", str(classifier), str(sets)]) == 1
    err = capsys.readouterr().err
    assert message in err and str(classifier) in err and err.count("\n") == 1


def test_a_checkpoint_of_a_named_model_is_evaluated(sets: Path, tmp_path: Path, capsys: Any) -> None:
    model = create_model("resnet18", num_classes=3)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "a.pth.tar"
    )
    arguments = ["evaluate", "resnet18", str(sets), "--weights", str(tmp_path / "a.pth.tar"), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    make_folder(tmp_path / "four", "abcd", images=1)
    for name, data, message in (
        ("resnet18", tmp_path / "four", "has 4 classes, but the model has 3"),
        ("resnet34", sets, "a.pth.tar: is no checkpoint of this model: it lacks "),
    ):
        assert main(["evaluate", name, str(data), *arguments[3:]]) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_models_that_cannot_be_evaluated_are_refused(classifier: Path, sets: Path, capsys: Any) -> None:
    for arguments, message in (
        (["resnet18", str(sets)], "has no weights of its own; give a checkpoint with --weights FILE"),
        (["resnet19", str(sets), "--weights", "a.pth"], "resnet19: is no image model's name, which --weights needs"),
        ([str(classifier), str(sets), "--weights", "a.pth"], "folders have their own"),
        ([str(classifier), str(sets), "--beam", "5"], "classifies images; leave --lm, --beam"),
        ([str(classifier), str(sets), "--corpus", "an4"], "classifies images; leave out --corpus"),
    ):
        assert main(["evaluate", *arguments]) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_top_counts_are_those_of_sorting() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(200, 12), torch.randint(0, 12, (200,))
    best = logits.topk(5).indices == labels.unsqueeze(1)
    assert count_top(logits, labels) == (int(best[:, 0].sum()), int(best.sum()))
    # A network that says the same of all classes, or nothing, is right by chance only.
    assert count_top(torch.zeros(10, 10), torch.arange(10)) == (1, 5)
    assert count_top(torch.full((4, 10), torch.nan), torch.zeros(4, dtype=torch.long)) == (0, 0)


# Arranging ImageNet


def make_distribution(folder: Path, classes: int = 3) -> dict[str, str]:
    """ImageNet as it is distributed, but small; returns the class of each validation image.

    The devkit numbers classes in another order than the wnids', and knows classes that have subclasses.
    """
    from scipy.io import savemat

    folder.mkdir()
    wnids = WNIDS[:classes]
    numbered = {number: wnid for number, wnid in enumerate([*wnids[1:], wnids[0], "n00001740"], start=1)}
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(n, w, "some words", int(w == "n00001740")) for n, w in numbered.items()], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    truth = [1 + index % classes for index in range(2 * classes)]
    (folder / "truth.txt").write_text("".join(f"{number}\n" for number in truth))
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(folder / "meta.mat", "ILSVRC2012_devkit_t12/data/meta.mat")
        tar.add(folder / "truth.txt", f"ILSVRC2012_devkit_t12/data/{imagenet.GROUND_TRUTH}")
    for name in ("meta.mat", "truth.txt"):
        (folder / name).unlink()
    expected = {}
    with tarfile.open(folder / imagenet.VALIDATION_TAR, "w") as tar:
        for index, number in enumerate(truth, start=1):
            expected[f"ILSVRC2012_val_{index:08d}.JPEG"] = numbered[number]
            add(tar, f"ILSVRC2012_val_{index:08d}.JPEG", jpeg(index))
    with tarfile.open(folder / imagenet.TRAINING_TAR, "w") as tar:
        for wnid in wnids:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                add(images, f"{wnid}_7.JPEG", jpeg(7))
                add(images, f"../{wnid}/../../{wnid}_8.JPEG", jpeg(8))
            add(tar, f"{wnid}.tar", inner.getvalue())
    return expected


def jpeg(seed: int) -> bytes:
    data = io.BytesIO()
    picture(seed).save(data, "JPEG")
    return data.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_validation_images_get_the_classes_of_the_devkit(tmp_path: Path, capsys: Any) -> None:
    expected = make_distribution(tmp_path / "tars")
    assert main(["prepare", "imagenet", str(tmp_path / "tars"), str(tmp_path / "out"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["val"]["images"], facts["val"]["classes"], facts["train"]["images"]) == (6, 3, 6)
    found = {path.name: path.parent.name for path in (tmp_path / "out" / "val").rglob("*.JPEG")}
    assert found == expected
    # Nothing is written outside, whatever a tar file's names say.
    assert {path.parent.parent for path in tmp_path.rglob("n*_8.JPEG")} == {tmp_path / "out" / "train"}
    assert set(image_folder.read_image_folder(tmp_path / "out" / "train").classes) <= set(WNIDS)


def test_an_interrupted_arrangement_goes_on(tmp_path: Path) -> None:
    make_distribution(tmp_path / "tars")

    class Enough(Exception):
        pass

    def stop(split: str, done: int, total: int) -> None:
        if done == 3:
            raise Enough

    with pytest.raises(Enough):
        imagenet.arrange(tmp_path / "tars", tmp_path / "out", stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.JPEG")}
    assert len(before) == 3
    imagenet.arrange(tmp_path / "tars", tmp_path / "out")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list((tmp_path / "out" / "val").rglob("*.JPEG"))) == 6
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 5)


DISTRIBUTIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda folder: [path.unlink() for path in folder.iterdir()], "has neither ILSVRC2012_img_val.tar nor"),
    "no devkit": (lambda folder: (folder / "ILSVRC2012_devkit_t12.tar.gz").unlink(), "tells the classes of the"),
    "cut validation": (lambda folder: cut(folder / imagenet.VALIDATION_TAR), "ILSVRC2012_img_val.tar: "),
    "cut training": (lambda folder: cut(folder / imagenet.TRAINING_TAR), "ILSVRC2012_img_train.tar: "),
    "cut devkit": (lambda folder: cut(folder / "ILSVRC2012_devkit_t12.tar.gz"), "ILSVRC2012_devkit_t12.tar.gz: "),
    "no tar": (lambda folder: (folder / imagenet.VALIDATION_TAR).write_bytes(b"no tar"), "is no whole tar file"),
    "other meta": (
        lambda folder: [(folder / "data").mkdir(), (folder / "data" / "meta.mat").write_bytes(b"no mat file")],
        "meta.mat is not as distributed",
    ),
    "other truth": (
        lambda folder: [(folder / "data").mkdir(), (folder / "data" / imagenet.GROUND_TRUTH).write_text("77\n")],
        "has a class that its meta.mat has not",
    ),
}


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_a_distribution_that_is_not_whole_is_refused_in_a_sentence(tmp_path: Path, case: str, capsys: Any) -> None:
    make_distribution(tmp_path / "tars")
    change, message = DISTRIBUTIONS[case]
    change(tmp_path / "tars")
    assert main(["prepare", "imagenet", str(tmp_path / "tars"), str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and "Traceback" not in err


def test_mean_is_subtracted() -> None:
    grey = Image.new("RGB", (300, 300), tuple(round(255 * each) for each in MEAN))
    assert evaluation_transform()(grey).abs().max() < 0.02
