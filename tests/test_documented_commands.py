"""The commands that README.md and docs/ show are run, page by page, on tiny models and corpora.

That their arguments exist is tested in tests/commands/test_command_lines.py, also of those that are not run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import soundfile

from biglittle_asr.cli import main
from biglittle_asr.features import GlobalNormalization
from biglittle_asr.inference import save_model
from biglittle_asr.scoring import score_texts
from biglittle_asr.tokens.tokenizer import CharacterTokenizer
from support.command_lines import ELLIPSIS, PAGES, shown
from support.corpora import SAMPLE_RATE, make_an4, make_folder, make_librispeech, make_telephone
from support.experiments import write_recipe
from support.model_folders import make
from support.recognizers import babble
from support.repository import REPOSITORY

NOT_RUN = {
    r"make ": "makes an environment, trains for minutes, or runs all tests",
    r"(python|torchrun) .*recipes/\S+/train.py": "minutes; tests/test_recipe_commands.py runs one of each README",
    r"python recipes/study.py": "hours of trainings; tests/test_recipe_commands.py runs those that only read",
    r"python benchmarks/": "measures for minutes; tests/test_benchmarks.py runs them in small",
    r"python tests/support/": "kills trainings for minutes; tests/tasks/engine and tests/study kill some",
    r"biglittle serve": "runs until it is stopped; tests/serve starts it",
    r"biglittle .*--engine ray": "starts a cluster; tests/inference/test_distributed.py has one",
    r"biglittle export|.* --runtime ": "takes a minute; tests/inference/test_exporting.py runs every kind",
    r"biglittle evaluate an4 .*--corpus": "needs all of AN4; tests/inference/test_pretrained.py has it",
    r"biglittle pack": "needs a checkpoint; tests/inference/test_packing.py trains some",
    r"biglittle transcribe some-org/": "needs Hugging Face's hub; tests/inference/test_hub.py has one of its own",
}
"""Command lines, by how they begin, that this test does not run, and why."""
MORE = {
    r"profile (?!.*--(runs|sweep))": ["--runs", "0"],
    r"prepare an4 ": ["--option", "dev_utterances=6"],
    r"prepare (switchboard|fisher) ": ["--option", "dev_conversations=1"],
}
"""Options without which a command takes long, or needs a larger corpus."""


def lines(path: Path) -> list[list[str]]:
    return shown(path.read_text(encoding="utf-8"), "biglittle", "python", "torchrun", "make")


def reason(words: list[str]) -> str | None:
    return next((why for start, why in NOT_RUN.items() if re.match(start, f"{shlex.join(words)} ")), None)


RUN = {
    path: [words[1:] for words in lines(path) if words[0] == "biglittle" and not reason(words)]
    for path in PAGES
    if path.parent == REPOSITORY / "docs" or path.name == "README.md" and path.parent == REPOSITORY
}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages take for granted, under the names that they use."""
    folder = tmp_path_factory.mktemp("things")
    tokenizer = CharacterTokenizer(" ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
    recognizer = make(tokenizer=tokenizer)
    save_model(folder / "MODEL", recognizer)
    save_model(
        folder / "CAUSAL_MODEL",
        make(tokenizer=tokenizer, normalize=GlobalNormalization(40), time_padding="causal"),
    )
    texts = {"u0": "YES NO", "u1": "ENTER TWO", "u2": "TWO", "u3": "NO"}
    rows = ["ID,duration,wav,spk_id,wrd"]
    (folder / "calls").mkdir()
    for index, (name, text) in enumerate(texts.items()):
        seconds = 1 + index / 2
        wav = folder / "calls" / f"{name}.wav"
        soundfile.write(wav, babble(seconds, index), SAMPLE_RATE)
        rows.append(f"{name},{seconds},{wav},s{index % 2},{text}")
    for name in ("talk.wav", "call.wav", "x.wav", "talk.flac"):
        soundfile.write(folder / name, babble(1.5), SAMPLE_RATE)
    manifest = "\n".join([*rows, ""])
    (folder / "data").mkdir()
    for name in ("train", "dev", "test", "list"):
        (folder / f"{name}.csv").write_text(manifest)
        (folder / "data" / f"{name}.csv").write_text(manifest)
    speakers = {name: f"s{index % 2}" for index, name in enumerate(texts)}
    score = score_texts(texts, dict.fromkeys(texts, "TWO"), speakers)
    score.write(folder / "wer.txt", "MODEL on DATA")
    write_recipe(folder / "experiment", score)
    write_recipe(folder / "experiment", score, "dev")
    for name in ("train", "dev", "test"):
        (folder / "experiment" / "save" / "manifests" / f"{name}.csv").write_text(manifest)
    save_model(folder / "experiment" / "model", recognizer)
    (folder / "ref.txt").write_text("jane-1 yes no\njoe-2 one two\n")
    (folder / "hyp.txt").write_text("jane-1 yes\njoe-2 one three\n")
    (folder / "hub5.stm").write_text("a A jane 0 2 <o,f0> yes (uh) no\nb A joe 0 2 <o,f0> one two\n")
    (folder / "hub5.glm").write_text(';; no rules\n* name "x"\n')
    for name, words in (("system", "yes one"), ("a", "yes two"), ("b", "no one")):
        first, second = words.split()
        (folder / f"{name}.ctm").write_text(f"a A 0.1 0.2 {first}\nb A 0.1 0.2 {second}\n")
    make_folder(folder / "mine")
    make_an4(folder / "path" / "to" / "an4")
    for corpus in ("switchboard", "fisher", "hub5"):
        make_telephone(corpus, folder / "path" / "to" / corpus)
    make_librispeech(folder / "data" / "LibriSpeech")
    return folder


EXPERIMENTS = (
    "results/AN4/ctc_bl_resnet22/1234",
    "results/Folder/ctc_bl_resnet22_context/1234",
    "results/Folder/ctc_bl_resnet22_demo/1234",
    "results/Folder/ctc_bl_resnet36_context/1234",
    "results/a",
    "results/b",
    "results/demo/synthetic",
)


@pytest.fixture
def place(things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which everything is there."""
    for path in (*things.iterdir(), REPOSITORY / "hparams", REPOSITORY / "docs"):
        (tmp_path / path.name).symlink_to(path)
    for name in EXPERIMENTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(things / "experiment")
    (tmp_path / "results" / "demo" / "corpus").mkdir()
    (tmp_path / "results" / "demo" / "corpus" / "test").symlink_to(things / "calls")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def standard_input(path: Path) -> Iterator[TextIO]:
    """A file as standard input, also for what reads its descriptor."""
    before = os.dup(0)
    with path.open() as file:
        os.dup2(file.fileno(), 0)
        try:
            yield file
        finally:
            os.dup2(before, 0)
            os.close(before)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path, shown_there in RUN.items() if shown_there], ids=lambda path: path.stem)
def test_commands_of_pages_run(path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for words in RUN[path]:
        assert ELLIPSIS not in words, f"say why in NOT_RUN: {shlex.join(words)}"
        arguments = [str(place) + word if re.match("/(path|data)/", word) else word for word in words]
        for start, more in MORE.items():
            arguments += more if re.match(start, f"{shlex.join(words)} ") else []
        with standard_input(place / "talk.wav") as audio:
            monkeypatch.setattr("sys.stdin", audio)
            try:
                status = main(arguments)
            except SystemExit as stop:  # after --help
                status = int(stop.code or 0)
        assert status == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
        capsys.readouterr()


PYTHON = {path: re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S) for path in RUN}
"""Python in fences, which stands for itself; indented Python may be a part of a program."""
RUN_ELSEWHERE = {"deployment": "tests/inference/test_exporting.py"}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path, code in PYTHON.items() if code], ids=lambda path: path.stem)
def test_python_of_pages_runs(path: Path, place: Path) -> None:
    if path.stem in RUN_ELSEWHERE:
        assert f"{path.stem}.md" in (REPOSITORY / RUN_ELSEWHERE[path.stem]).read_text(encoding="utf-8")
        return
    for code in PYTHON[path]:
        exec(compile(code, path.name, "exec"), {"__name__": path.stem})


def test_reasons_are_of_commands_that_are_shown() -> None:
    every = [f"{shlex.join(words)} " for path in PAGES for words in lines(path)]
    stale = [start for start in NOT_RUN if not any(re.match(start, line) for line in every)]
    assert not stale


def test_every_command_is_run_or_has_a_reason() -> None:
    for path in RUN:
        for words in lines(path):
            known = words[0] == "biglittle" or reason(words) or words[1] == "-m"
            assert known, f"{path.name}: {shlex.join(words)}: say in NOT_RUN why no test runs it"
