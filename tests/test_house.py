"""The rules of the house: which room may import from which, what a room may need besides, and the tours through it."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import soundfile

from biglittle_asr.cli import main
from biglittle_asr.inference import save_model, transcribe
from biglittle_asr.inference.inputs import find_recordings
from biglittle_asr.inference.transcripts import TranscriptWriter
from biglittle_asr.recipe.prepare import make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.speech.ctc import CTCBrain
from biglittle_asr.tasks.speech.data import Utterances, build_datasets, collate
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support.ctc_recipe import write_tones
from support.model_folders import make
from support.repository import REPOSITORY
from support.speech_recipes import command

TRAINED = REPOSITORY / "hparams" / "AN4" / "ctc_bl_resnet22.yaml"
SMALL_ENCODER = "!include:../encoders/bl_resnet22.yaml {input_size: 20, channels: [4, 8, 16, 32], output_size: 32}"
TESTS = REPOSITORY / "tests"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

PACKAGE = "biglittle_asr"
FLOORS: tuple[dict[str, str], ...] = (
    {"extras": "", "messages": "", "moved": "", "threads": ""},
    {PACKAGE: "", "files": "ruamel", "shards": "fsspec"},
    {
        "audio": "numpy soundfile",
        "nnet": "numpy torch",
        "scoring": "jiwer numpy whisper_normalizer",
        "tokens": "sentencepiece",
    },
    {
        "corpora": "espeakng_loader numpy scipy soundfile tqdm",
        "features": "numpy PIL torch torchaudio torchvision",
        "models": "numpy safetensors speechbrain torch",
    },
    {"decoding": "flashlight kaldi_decoder kaldi_native_io kaldifst kaldilm numpy speechbrain torch torchaudio"},
    {"export": "numpy onnx onnxruntime torch", "profiling": "matplotlib torch"},
    {"inference": "huggingface_hub numpy onnxruntime openvino ray ruamel safetensors speechbrain torch tqdm"},
    {"recipe": "hyperpyyaml ruamel speechbrain torch"},
    {"study": "matplotlib numpy", "tasks/engine": "matplotlib numpy speechbrain torch"},
    {
        "report": "jinja2 markupsafe numpy soundfile",
        "tasks/images": "speechbrain torch",
        "tasks/speech": "numpy speechbrain torch torchaudio",
    },
    {"serve": "h11 numpy starlette torch uvicorn", "tasks/hybrid": "numpy speechbrain torch"},
    {"commands": "packaging shtab soundfile torch torchaudio tqdm"},
    {"cli": ""},
)
"""Rooms, lowest floor first, and the other packages that each may import. A room imports only from floors below it."""
NESTED = "tasks"
"""A folder of rooms, and not itself one."""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its name."""
    for path in sorted((REPOSITORY / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


MODULES = dict(modules())


def room(module: str) -> str:
    """The room that a module is in; none for the folder of rooms."""
    parts = module.split(".")[1:]
    if not parts:
        return PACKAGE
    return "/".join(parts[:2]) if parts[0] == NESTED else parts[0]


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Names of the modules that statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


@functools.cache
def every_import(module: str) -> frozenset[str]:
    """What a module imports, at its top or later, when it runs or for types alone."""
    return frozenset(imported(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))))


def first_imports(module: str) -> set[str]:
    """Modules of ours that importing a module imports, packages around them included."""
    found = set()
    body = iter(ast.parse(MODULES[module].read_text(encoding="utf-8")).body)
    for name in imported(body):
        parts = name.split(".")
        around = {".".join(parts[: count + 1]) for count in range(len(parts))}
        # The packages around a module are being imported when it is.
        found |= {each for each in around if each in MODULES and not f"{module}.".startswith(f"{each}.")}
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in MODULES} - {NESTED}
    assert rooms == {name for floor in FLOORS for name in floor}


def test_rooms_import_only_from_floors_below() -> None:
    floors = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in every_import(module)
        if other in MODULES
        and room(other) not in (room(module), NESTED)
        and floors[room(other)] >= floors[room(module)]
    ]
    assert not wrong


def test_rooms_need_no_other_package_than_the_table_says() -> None:
    known = {name: set(packages.split()) for floor in FLOORS for name, packages in floor.items()}
    used: dict[str, set[str]] = {name: set() for name in known}
    for module in MODULES:
        others = {name.partition(".")[0] for name in every_import(module)} - {PACKAGE, *sys.stdlib_module_names}
        used.setdefault(room(module), set()).update(others)
    assert not used.pop(NESTED, None)
    assert used == known


def test_no_circle_of_imports() -> None:
    try:
        TopologicalSorter({module: first_imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


# Tests


def test_tests_mirror_the_rooms() -> None:
    rooms = {name for floor in FLOORS for name in floor} | {NESTED}
    folders = {path.parent.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    assert folders - {"."} <= rooms


def test_what_tests_share_is_in_support() -> None:
    names = {path.stem for path in TESTS.rglob("test_*.py")} | {"conftest"}
    found = {path: imported(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in TESTS.rglob("*.py")}
    assert not {
        str(path): wrong for path, all in found.items() if (wrong := {n.rpartition(".")[2] for n in all} & names)
    }


# Names

HOMONYMS = frozenset(
    """
    add_arguments collate decode extra_files main read read_alignments run
    Batch Failure Format Segment Summary Turn Word
    """.split()
)
"""Functions and classes of one name in several modules: their rooms say which is meant."""


def test_a_name_means_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    shared = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert shared.keys() == HOMONYMS, {name: shared[name] for name in shared.keys() - HOMONYMS}


# What stays out of a program that does not need it

HEAVY = ("matplotlib", "pandas", "speechbrain", "torchaudio", "torchvision")
WITHOUT_TORCH = ("torch", *HEAVY)
PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "the list of commands": (
        "from biglittle_asr.cli import command_parser\ncommand_parser().format_help()",
        ("numpy", *WITHOUT_TORCH),
    ),
    "the list of networks": ("from biglittle_asr.cli import main\nassert main(['models']) == 0", WITHOUT_TORCH),
    "completion": ("from biglittle_asr.cli import main\nassert main(['completion', 'bash']) == 0", WITHOUT_TORCH),
    "the cost of a network": (
        "from biglittle_asr.cli import main\nassert main(['profile', 'bl_resnet22', '--runs', '0']) == 0",
        HEAVY,
    ),
    "scores of texts": (
        "from biglittle_asr.scoring import score_texts\nassert score_texts({'a': 'x y'}, {'a': 'x'}).all.wer == 50",
        WITHOUT_TORCH,
    ),
    "the command's": (
        "from biglittle_asr.cli import main\nassert main(['score', '--ref', 'a.txt', '--hyp', 'a.txt']) == 0",
        WITHOUT_TORCH,
    ),
    "a report's": (
        "from biglittle_asr.cli import main\nassert main(['report', '--ref', 'a.txt', '--hyp', 'a.txt']) == 0",
        WITHOUT_TORCH,
    ),
    "words of a CTC model": (
        "from biglittle_asr.cli import main\nassert main(['transcribe', 'model', 'a.wav']) == 0",
        ("matplotlib", "pandas", "speechbrain", "torchvision", "torch._dynamo", "triton"),
    ),
    "NIST's": (
        "from biglittle_asr.cli import main\nassert main(['score', '--ref', 'a.stm', '--hyp', 'a.ctm']) == 0",
        WITHOUT_TORCH,
    ),
}
"""Programs, and what they must not import."""


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_import_only_what_they_need(program: str, tmp_path: Path) -> None:
    code, unwanted = PROGRAMS[program]
    (tmp_path / "a.txt").write_text("a x y\n")
    (tmp_path / "a.stm").write_text("r A s 0 1 x y\n")
    (tmp_path / "a.ctm").write_text("r A 0 0.5 x\n")
    (tmp_path / "model").symlink_to(REPOSITORY / "tests" / "golden" / "models" / "ctc")
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(16000)), 16000)
    code = f"import sys\n{code}\nprint('imported:', *set({unwanted}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["imported:"], done.stderr


@pytest.mark.slow
def test_networks_need_no_package_but_torch_and_numpy() -> None:
    """What a bare machine can still check."""
    code = (
        "import importlib.metadata, sys\n"
        "import torch\n"
        "known = set(sys.modules)\n"
        "from biglittle_asr.models import create_encoder\n"
        "create_encoder('bl_resnet22')\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - known}\n"
        "print(*(new & set(importlib.metadata.packages_distributions())))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {PACKAGE, "numpy", "torch"}


# Tours


LONGEST_TOURS = {
    "A training batch, from manifest row to loss and WER": 25,
    "A recording, from `biglittle transcribe` to printed words": 24,
}
"""Tours, and how many files they may pass through: they get shorter, not longer."""


def functions_run(work: Callable[[], object], inside: Sequence[Callable[..., object]]) -> set[str]:
    """Files of the package with functions that run while one of some functions does."""
    codes = {inspect.unwrap(function).__code__ for function in inside}
    files: set[str] = set()
    depth = 0

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal depth
        if frame.f_code in codes:
            depth += (event == "call") - (event == "return")
        # Bodies of modules and classes, which run when they are imported, are not optimized.
        if event == "call" and depth and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            files.add(frame.f_code.co_filename)

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    folder = REPOSITORY / PACKAGE
    return {str(Path(file).relative_to(folder)) for file in files if Path(file).is_relative_to(folder)}


def tour(title: str) -> set[str]:
    """The files that a section of CONTRIBUTING.md names, no more than it may."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(f"\n### {title}\n")[1].split("\n#")[0]
    files = set(re.findall(r"`([\w/]+\.py)`", section))
    assert len(files) <= LONGEST_TOURS[title]
    return files


@pytest.mark.slow
def test_a_training_batch_takes_the_tour_that_contributing_describes(tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "BAD", "GO"])
    augmented = [
        each for each in command(TRAINED, tmp_path, encoder=SMALL_ENCODER, n_mels=20) if "_augment=" not in each
    ]

    def train() -> None:
        hparams, run_opts = load_recipe(augmented, CTCRecipe)
        manifests = prepare_manifests("an4", hparams)
        tokenizer = make_tokenizer(manifests, hparams)
        datasets = build_datasets(manifests, tokenizer, hparams)
        brain = CTCBrain(hparams["model"](output_neurons=tokenizer.size), tokenizer, hparams, run_opts)
        brain.fit_datasets(datasets, hparams)

    on_the_way = (
        build_datasets,
        Utterances.__getitem__,
        collate,
        CTCBrain.fit_batch,
        CTCBrain.evaluate_batch,
        CTCBrain.score_epoch,
    )
    stations = tour("A training batch, from manifest row to loss and WER")
    assert stations == functions_run(train, on_the_way)


def test_a_recording_takes_the_tour_that_contributing_describes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path / "model", make())
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)

    def transcribe_file() -> None:
        assert main(["transcribe", str(tmp_path / "model"), str(tmp_path / "a.wav")]) == 0

    stations = tour("A recording, from `biglittle transcribe` to printed words")
    on_the_way = (find_recordings, transcribe, TranscriptWriter.add, TranscriptWriter.finish)
    assert stations == {"commands/transcribe.py"} | functions_run(transcribe_file, on_the_way)
