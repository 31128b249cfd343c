"""Every reader of files gets damaged ones: a few here, the same each time, and as many as wanted by `make fuzz`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fuzz_regressions import REGRESSIONS
from support.fuzz_targets import TARGETS
from support.fuzzing import fault, fuzz, read_in_process
from support.repository import REPOSITORY

FILES = 6
"""Damaged files of each kind."""


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_end_in_a_value_or_a_sentence(name: str, request: pytest.FixtureRequest) -> None:
    if name.endswith("OpenVINO") and "openvino" in sys.modules:
        # Files are read in forked processes, where OpenVINO hangs if an earlier test has used it here.
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", request.node.nodeid]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return
    report = fuzz(TARGETS[name], examples=FILES)
    assert report.files >= FILES
    assert not report.findings, "\n".join(f"{each.what}\n{each.content!r}\n{each.trace}" for each in report.findings)


@pytest.mark.parametrize("case", REGRESSIONS)
def test_faults_that_fuzzing_has_found_stay_mended(case: str) -> None:
    name, change = REGRESSIONS[case]
    assert not read_in_process(TARGETS[name], change)


# No reader is missed

OPENING = re.compile(
    r"""(.*\.)?(open|pread|mmap|cat_file|read_text|read_bytes|text_lines|read_lines|read_text_file|read_table|read_json|
    read_yaml|parse_yaml|read_arrays|_?Sound(File)?|loadmat|load_file|SequentialInt32VectorReader|DictReader|
    SentencePieceProcessor)|
    (np|torch|safetensors\.torch|YAML\(.*\))\.load|json\.loads|csv\.reader|load_hyperpyyaml""",
    re.VERBOSE,
)
"""Functions that open a file, or make something of what is in it."""
WRITING = re.compile(r"""['"][wa]b?['"]""")
OTHERS = {
    "cli.main": "the null device",
    "commands.models._pretrained": "files of this package",
    "commands.models._recipes": "files of the repository",
    "commands.models.run": "a file of this package",
    "commands.networks.override": "an argument of the command line",
    "commands.recipe.run": "what the recipe's reader has returned",
    "corpora.images.imagenet.imagenet_classes": "a file of this package",
    "corpora.sharding._content": "only copies it",
    "corpora.synthesis.librispeech_like._is_complete": "only compares it",
    "export.onnxruntime_web._checked": "only compares its checksum",
    "export.onnxruntime_web._fill": "its checksum is known",
    "inference.web.export_page": "files of this package, and a model that was loaded",
    "inference.folder.packing.copy_model": "a folder that was just loaded",
    "inference.distributed.SharedModel.of": "a folder that was just loaded",
    "inference.distributed._silence": "the null device",
    "inference.inputs._find": "only copies it",
    "profiling.latency.processor": "the system's",
    "recipe.network._load_part": "executes what the file names: tests/recipe",
    "recipe.yaml.parse_overrides": "an argument of the command line",
    "recipe.run.load_recipe": "executes what the file names: tests/recipe",
    "study.locks.locked_folder": "no content",
    "study.locks.try_lock": "no content",
    "study.queue._tail": "any bytes are shown",
    "study.results.describe_machine": "the system's",
    "tasks.engine.brain.ResumableBrain._load_state": "within a checkpoint whose checksum is right",
}
"""Functions that OPENING finds and that read no files of users', and why."""


def readers() -> Iterator[tuple[Path, int, str]]:
    """File, line and name of every function of the package that opens files."""
    for path in sorted((REPOSITORY / "biglittle_asr").rglob("*.py")):
        module = ".".join(path.relative_to(REPOSITORY / "biglittle_asr").with_suffix("").parts)
        for node, name in _functions(ast.parse(path.read_text(encoding="utf-8")), module):
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            if any(
                OPENING.fullmatch(ast.unparse(call.func)) and not WRITING.search(ast.unparse(call)) for call in calls
            ):
                yield path, node.lineno, name


def _functions(tree: ast.AST, name: str) -> Iterator[tuple[ast.FunctionDef, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{name}.{node.name}")
        elif isinstance(node, ast.FunctionDef):
            yield node, f"{name}.{node.name}"


def test_every_reader_has_a_target() -> None:
    called: set[tuple[str, str]] = set()

    def note(frame: object, event: str, argument: object) -> None:
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_name))

    for name, target in TARGETS.items():
        with tempfile.TemporaryDirectory() as folder:
            contents = target.prepare(Path(folder))
            sys.setprofile(note)
            try:
                faults = [fault(target, Path(folder), content) for content in contents]
            finally:
                sys.setprofile(None)
            assert not any(faults), (name, faults)
    missed = {name for path, _, name in readers() if (str(path), name.rpartition(".")[2]) not in called}
    assert missed - OTHERS.keys() == set()
    assert OTHERS.keys() - missed == set()
