"""The Switchboard recipe on generated conversations: prepare, train, decode, and score as NIST does."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from biglittle_asr.cli import main
from biglittle_asr.corpora import prepare
from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.decoding import Word
from biglittle_asr.inference import evaluation
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.evaluation import evaluate_nist, find_references
from biglittle_asr.inference.transcription import Transcript
from biglittle_asr.inference.transcripts import FORMATS
from biglittle_asr.scoring import TimedWord, read_ctm, read_glm, read_stm, score_nist, write_ctm
from biglittle_asr.study.results import COLUMNS, read_scores
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support.corpora import telephone_corpora
from support.nist import HAS_SCTK, counts_of_hubscr
from support.repository import REPOSITORY

TINY = """\
!include:{base}
encoder: !include:{encoder}
    channels: [4, 8, 8, 16]
    input_size: !ref <n_mels>
"""


def train() -> Callable[[Sequence[str]], None]:
    spec = importlib.util.spec_from_file_location("train", REPOSITORY / "recipes" / "Switchboard" / "CTC" / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Sequence[str]], None] = module.main
    return function


def arguments(tmp_path: Path, name: str, encoder: str) -> list[str]:
    """A recipe's command line, with a tiny network."""
    hparams = REPOSITORY / "hparams"
    yaml = tmp_path / name
    yaml.write_text(TINY.format(base=hparams / "Switchboard" / name, encoder=hparams / "encoders" / encoder))
    words = [str(yaml), f"--data_folder={telephone_corpora() / 'switchboard'}", "--precision=fp32"]
    words += [f"--hub5_folder={telephone_corpora() / 'hub5'}", f"--output_folder={tmp_path / 'out'}"]
    words += ["--number_of_epochs=1", "--train_dataloader_opts={num_workers: 0}", "--max_batch_length=40"]
    return [*words, "--corpus_options={dev_conversations: 2}", "--average_checkpoints=[1]"]


@pytest.mark.slow
def test_switchboard_from_its_files_to_nists_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train()([*arguments(tmp_path, "ctc_bl_resnet22.yaml", "bl_resnet22.yaml")])
    out = tmp_path / "out"
    assert {path.stem for path in (out / "save" / "manifests").glob("*.csv")} == {"train", "dev", "test", "report"}
    references = out / "save" / "manifests" / "test.stm"
    assert (out / "hub5_test.txt").stat().st_size > 0
    scores = read_scores(out)
    assert scores is not None and {"dev_wer", "test_wer", "hub5_test_wer"} <= scores.keys() <= set(COLUMNS)

    # The same from the words that it leaves, and from the model folder.
    glm = references.with_suffix(".glm")
    score = score_nist(
        read_stm(references).segments, read_ctm(out / "test.ctm"), read_glm(glm), bootstrap=0, missing_as_empty=True
    )
    capsys.readouterr()
    test = str(references.with_suffix(".csv"))
    assert main(["evaluate", str(out / "model"), test, "--json", "--bootstrap", "0"]) == 0
    printed = capsys.readouterr()
    assert "scoring as NIST does, by test.stm and test.glm." in printed.err
    evaluated = json.loads(printed.out)
    assert evaluated["all"]["words"] == score.all.words > 0 and evaluated["all"]["errors"] == score.all.errors
    assert set(evaluated["labels"]) >= {"Switchboard", "CallHome"}
    assert main(["evaluate", str(out / "model"), test, "--json", "--bootstrap", "0", "--by-utterance"]) == 0
    by_utterance = json.loads(capsys.readouterr().out)
    assert by_utterance["all"]["segments"] == score.all.segments


def test_words_of_segments_are_scored_where_they_were_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says what the manifest says, evenly in each segment, makes no error; on the other side he would."""

    def transcribed(rows: Sequence[dict[str, str]], swap: bool) -> Iterator[Transcript]:
        for row in rows:
            segment = row_segment(row)
            if swap:
                segment = segment._replace(channel=3 - (segment.channel or 0))
            recording = Recording.of_segment(row["ID"], row["wav"], segment)
            step = (segment.duration or 0) / (len(row["wrd"].split()) + 1)
            words = [Word(word, n * step, (n + 1) * step, 1.0) for n, word in enumerate(row["wrd"].split())]
            yield Transcript(recording, segment.duration or 0, tuple(words))

    manifest = prepare("hub5", telephone_corpora() / "hub5", tmp_path)["test"]
    rows = read_manifest(manifest)
    references = find_references(manifest)
    assert references is not None and "UH " in manifest.read_text()
    for swap in (False, True):
        transcripts = list(transcribed(rows, swap))
        monkeypatch.setattr(evaluation, "transcribe", lambda *_, found=transcripts, **__: iter(found))
        score, words = evaluate_nist(None, rows, *references, bootstrap=0)
        assert (score.all.errors == 0) != swap
        assert "UH" not in {word.word for word in words}
        ctm = FORMATS["ctm"].several(transcripts, [])
        assert ctm.splitlines()[0].split()[:2] in (["en_4156", "A"], ["en_4156", "B"])
        (tmp_path / "hyp.ctm").write_text(ctm)
        again = score_nist(read_stm(references[0]).segments, read_ctm(tmp_path / "hyp.ctm"), read_glm(references[1]))
        assert (again.all.errors == 0) != swap


@pytest.mark.skipif(not HAS_SCTK, reason="needs NIST's tools: Debian's package sctk")
def test_nists_tools_take_what_preparation_writes(tmp_path: Path) -> None:
    manifest = prepare("hub5", telephone_corpora() / "hub5", tmp_path)["test"]
    words = []
    for number, row in enumerate(read_manifest(manifest)):
        segment = row_segment(row)
        side = "AB"[(segment.channel or 0) - 1]
        # A word is missed now and then, another one misheard.
        heard = ["TEN" if number % 5 == 0 else word for word in row["wrd"].split() if word != "UH"][number % 3 == 0 :]
        words += [
            TimedWord(Path(row["wav"]).stem, side, segment.start + 0.1 * place, 0.1, word)
            for place, word in enumerate(heard)
        ]
    manifest.with_suffix(".stm").rename(tmp_path / "ref.stm")
    manifest.with_suffix(".glm").rename(tmp_path / "rules.glm")
    write_ctm(tmp_path / "hyp.ctm", words)
    segments = read_stm(tmp_path / "ref.stm").segments
    score = score_nist(segments, words, read_glm(tmp_path / "rules.glm"), bootstrap=0)
    found = {name.lower(): counts for name, counts in {**score.speakers, "sum": score.all}.items()}
    assert {
        name: [each.segments, each.words, each.correct, each.substitutions, each.deletions, each.insertions]
        for name, each in found.items()
    } == {name.lower(): counts[:6] for name, counts in counts_of_hubscr(tmp_path).items()}
    assert 0 < score.all.errors < score.all.words


@pytest.mark.slow
def test_fisher_joins_the_training_set_of_the_twin(tmp_path: Path) -> None:
    from biglittle_asr.recipe.prepare import prepare_manifests
    from biglittle_asr.recipe.run import load_recipe

    words = arguments(tmp_path, "ctc_bl_resnet22_fisher.yaml", "resnet22.yaml")
    with pytest.raises(ValueError, match="fisher_folder has no value; give it on the command line: --fisher_folder"):
        load_recipe(words, CTCRecipe)
    words += [f"--fisher_folder={telephone_corpora() / 'fisher'}"]
    hparams, _ = load_recipe(words, CTCRecipe)
    assert hparams["sample_rate"] == hparams["compute_features"].sample_rate == 8000
    manifests = prepare_manifests("switchboard", hparams)
    assert "fe_03_" in manifests["train"].read_text() and "fe_03_" not in manifests["dev"].read_text()
