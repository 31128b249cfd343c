"""Small experiments of every kind that a report reads, each with the score that it must show."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from biglittle_asr.cli import main
from biglittle_asr.files import write_table
from biglittle_asr.scoring import Score, read_ctm, read_stm, score_nist, score_texts
from support.nist import GLMS, random_example, random_trn

WORDS = ["one", "two", "TWO", "three", "größe", "你好", "it's", "<b>", "&amp;", "a"]
MAKERS: dict[str, Callable[[Path, int], tuple[list[str], dict[str, Any]]]] = {}
"""By kind: writes its files to a folder, by a seed; returns arguments of `biglittle report`, and the score as JSON."""


def _maker(kind: str) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        MAKERS[kind] = function
        return function

    return add


def texts(
    seed: int, utterances: int = 60, words: Sequence[str] = WORDS
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """References, hypotheses and speakers by ID; references are the same for every seed."""
    said, draw = random.Random(0), random.Random(seed)
    references, hypotheses, speakers = {}, {}, {}
    for number in range(utterances):
        speaker = f"s{number % 4}"
        name = f"{speaker}-{number:03}"
        spoken = said.choices(words, k=said.randrange(1, 12))
        heard = [draw.choice(words) if draw.random() < 0.2 else word for word in spoken if draw.random() < 0.85]
        references[name], speakers[name] = " ".join(spoken), speaker
        hypotheses[name] = " ".join(heard + draw.choices(words, k=draw.randrange(2)))
    return references, hypotheses, speakers


def score_json(*arguments: str) -> dict[str, Any]:
    """The object that `biglittle score --json` prints."""
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(StringIO()):
        assert main(["score", *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(printed.getvalue())
    return result


def write_recipe(folder: Path, score: Score, name: str = "test", **more: Any) -> None:
    """Write what a speech recipe leaves in its output folder, but for the model."""
    manifests = folder / "save" / "manifests"
    manifests.mkdir(parents=True, exist_ok=True)
    score.write(folder / f"wer_{name}.txt")
    (folder / "scores.json").write_text(json.dumps({name: score.to_dict(), **more}))
    rows = [
        (each.id, round(0.4 * len(each.pairs) + 0.3, 3), f"/nowhere/{number}.wav", each.speaker or "", "")
        for number, each in enumerate(score.utterances)
    ]
    write_table(manifests / f"{MANIFEST_OF.get(name, name)}.csv", ("ID", "duration", "wav", "spk_id", "wrd"), rows)
    write_epochs(folder, 12)
    (folder / "hyperparams.yaml").write_text(
        "seed: 1\nprecision: bf16\noutput_folder: /home/me/out\ndata_folder: /home/me/an4  # a corpus\nlr: 0.002\n"
        "encoder: &e !apply:biglittle_asr.models.create_encoder\n  alpha: 4\n"
        "model: !name:biglittle_asr.models.CTCModel\n  encoder: *e\nlm: /home/me/3gram.arpa\nsparsity:\n"
    )
    (folder / "env.log").write_text(
        "Python version:\n3.11.7 (main)\n====\ntorch==2.11.0\n====\nGit revision:\nabc123\n====\n"
    )


MANIFEST_OF = {"hub5_test": "test"}


def write_epochs(folder: Path, epochs: int) -> None:
    """Write the history of a training."""
    rows = [(e, 0.001, 3.0 / e, 2.5 / e, 100.0 / e, 60.0 / e, 61.5) for e in range(1, epochs + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "epochs.csv", ("epoch", "lr", "train_loss", "dev_loss", "dev_wer", "dev_cer", "seconds"), rows)


@_maker("output folder of a recipe")
def _recipe(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    score = score_texts(*texts(seed))
    write_recipe(folder / "out", score)
    return [str(folder / "out")], score.to_dict()


@_maker("output folder of a recipe scored as NIST does")
def _hub5(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    stm, ctm = random_example(seed, 5, for_hubscr=False)
    out, manifests = folder / "out", folder / "out" / "save" / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "test.stm").write_text(stm, encoding="utf-8")
    (out / "test.ctm").write_text(ctm, encoding="utf-8")
    score = score_nist(read_stm(manifests / "test.stm").segments, read_ctm(out / "test.ctm"))
    by_utterance = score_texts(*texts(seed))
    write_recipe(out, by_utterance, hub5_test=score.to_dict())
    score.write(out / "hub5_test.txt")
    return [str(out)], score.to_dict()


@_maker("file of evaluate --output")
def _file(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    score = score_texts(*texts(seed))
    score.write(folder / "wer.txt", "MODEL on DATA")
    return [str(folder / "wer.txt")], score.to_dict()


@_maker("file of evaluate --output as NIST scores")
def _nist_file(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    arguments, expected = _stm(folder, seed)
    paths = dict(zip(arguments[::2], arguments[1::2], strict=True))
    score = score_nist(read_stm(paths["--ref"]).segments, read_ctm(paths["--hyp"]))
    score.write(folder / "wer.txt", "MODEL on DATA")
    # The file has no counts by label.
    return [str(folder / "wer.txt")], {**expected, "labels": {}}


def _pair(
    folder: Path, reference: str, hypothesis: str, suffix: str, *options: str
) -> tuple[list[str], dict[str, Any]]:
    (folder / f"ref.{suffix}").write_text(reference, encoding="utf-8")
    (folder / f"hyp.{suffix}").write_text(hypothesis, encoding="utf-8")
    arguments = ["--ref", str(folder / f"ref.{suffix}"), "--hyp", str(folder / f"hyp.{suffix}"), *options]
    return arguments, score_json(*arguments)


@_maker("plain text")
def _plain(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    sides = ["".join(f"{text}\n" for text in side.values()) for side in texts(seed)[:2]]
    return _pair(folder, *sides, "txt", "--format", "plain")


@_maker("Kaldi text")
def _kaldi(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    references, hypotheses, speakers = texts(seed)
    sides = ["".join(f"{name} {text}\n" for name, text in side.items()) for side in (references, hypotheses)]
    (folder / "utt2spk").write_text("".join(f"{name} {speaker}\n" for name, speaker in speakers.items()))
    return _pair(folder, *sides, "txt", "--format", "kaldi", "--utt2spk", str(folder / "utt2spk"))


@_maker("Kaldi text, case-sensitive, without speakers")
def _case(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    sides = ["".join(f"{name} {text}\n" for name, text in side.items()) for side in texts(seed)[:2]]
    return _pair(folder, *sides, "txt", "--format", "kaldi", "--case-sensitive")


@_maker("trn")
def _trn(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    sides = ["".join(f"{text} ({name})\n" for name, text in side.items()) for side in texts(seed)[:2]]
    return _pair(folder, *sides, "trn")


@_maker("trn with NIST's marks")
def _marked(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    return _pair(folder, *random_trn(seed, 40), "trn", "--optional", "--fragments")


@_maker("STM and CTM")
def _stm(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    stm, ctm = random_example(seed, 5, for_hubscr=False)
    (folder / "ref.stm").write_text(stm, encoding="utf-8")
    (folder / "hyp.ctm").write_text(ctm, encoding="utf-8")
    arguments = ["--ref", str(folder / "ref.stm"), "--hyp", str(folder / "hyp.ctm")]
    return arguments, score_json(*arguments)


@_maker("STM, CTM and GLM")
def _glm(folder: Path, seed: int) -> tuple[list[str], dict[str, Any]]:
    arguments, _ = _stm(folder, seed)
    (folder / "rules.glm").write_text(GLMS["rules"])
    arguments = [*arguments, "--glm", str(folder / "rules.glm")]
    return arguments, score_json(*arguments)
