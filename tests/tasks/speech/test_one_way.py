"""A recipe's Brain and the model folder that it leaves say the same of every utterance, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.decoding.attention import AttentionSettings
from biglittle_asr.decoding.hmm.decoder import HybridSettings, SearchGraph
from biglittle_asr.decoding.transducer import TransducerSettings
from biglittle_asr.inference import Failure, Recognizer, Transcript, evaluate, load_model, save_model
from biglittle_asr.inference.evaluation import transcribe_rows
from biglittle_asr.inference.folder.kinds import KINDS, GreedySettings
from biglittle_asr.tokens.tokenizer import WordTokenizer
from support import hybrid_recipe, speech_recipes
from support.ctc_recipe import finish, write_tones
from support.networks import randomize_batchnorm
from support.speech_recipes import rows_of_test

pytestmark = pytest.mark.slow

TEXTS = ["ONE", "TWO NINE", "A B", "HELLO", "Q", "SUPERCALIFRAGILISTIC"]

System = tuple[Any, Any, Any, Any]
"""Brain, dataset of test, tokenizer of a folder, settings of the search that the Brain uses while it trains."""


def end_to_end(kind: str, quick_search: Callable[[Any], Any]) -> Callable[[Path], System]:
    """A network of random weights, as the recipe of LibriSpeech builds it."""

    def build(folder: Path) -> System:
        write_tones(folder, TEXTS)
        brain, datasets, _ = speech_recipes.load(kind, folder)
        torch.manual_seed(0)
        randomize_batchnorm(brain.model, torch.Generator().manual_seed(1))
        return brain, datasets.test, brain.tokenizer, quick_search(brain.hparams)

    return build


def hybrid(folder: Path) -> System:
    """A system after an iteration, as the recipe of AN4 trains it."""
    hybrid_recipe.write_corpus(folder, copies=24)
    options = {"iterations": "[{epochs: 1}]", "lm_weights": "[1]"}
    system = hybrid_recipe.start(hybrid_recipe.small(folder, **options)).train()
    system.brain.model.search_graph = SearchGraph.of(system.graph, system.tying)
    assert system.lexicon is not None
    settings = HybridSettings(1, **vars(system.brain.hparams)["search_options"])
    return system.brain, system.datasets.test, WordTokenizer(system.lexicon), settings


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "ctc": end_to_end("ctc", lambda hparams: GreedySettings()),
    "attention": end_to_end("attention", lambda hparams: AttentionSettings(hparams.valid_beam_size)),
    "transducer": end_to_end("transducer", lambda hparams: TransducerSettings(hparams.valid_beam_size)),
    "hybrid": hybrid,
}


def words(kind: str, text: str) -> str:
    """A text as it is compared: where CTC says no space, a pause ends a word of a folder's transcripts nevertheless."""
    return text.replace(" ", "") if kind == "ctc" else text


@pytest.mark.parametrize("kind", KINDS)
def test_a_brain_and_its_folder_say_the_same_of_every_utterance(kind: str, tmp_path: Path) -> None:
    brain, dataset, tokenizer, settings = SYSTEMS[kind](tmp_path)
    brain.score_dataset(dataset, {"batch_size": 4}, bootstrap=0)
    assert len(set(brain.hypotheses.values())) > 1
    parts = brain.modules.compute_features, brain.modules.normalize, brain.model, tokenizer
    recognizer = load_model(save_model(tmp_path / "model", Recognizer(*parts, settings)))
    results = transcribe_rows(recognizer, rows_of_test(tmp_path))
    found = {each.recording.name: words(kind, each.text) for each in results if isinstance(each, Transcript)}
    assert found == {name: words(kind, text) for name, text in brain.hypotheses.items()}


@pytest.mark.parametrize("encoder", sorted({*speech_recipes.ENCODERS} - {"bl_resnet22"}))
def test_a_network_that_no_folder_can_hold_is_scored_all_the_same(encoder: str, tmp_path: Path) -> None:
    write_tones(tmp_path, TEXTS)
    brain, datasets, hparams = speech_recipes.load("ctc", tmp_path, encoder)
    brain.fit_datasets(datasets, hparams)
    scores = finish(brain, datasets, hparams)
    assert scores["test"].all.segments == len(TEXTS) and (tmp_path / "scores.json").is_file()
    assert "No model folder is written" in (tmp_path / "log.txt").read_text() and not (tmp_path / "model").exists()


def test_what_cannot_be_read_is_left_out_or_counts_as_deletions(tmp_path: Path) -> None:
    write_tones(tmp_path, TEXTS)
    brain, _, _ = speech_recipes.load("ctc", tmp_path)
    rows, recognizer = rows_of_test(tmp_path), brain.recognizer()
    (tmp_path / "u1.wav").unlink()
    failures: list[Failure] = []
    left_out = evaluate(recognizer, rows, report=failures.append)
    deleted = evaluate(recognizer, rows, unreadable="deletions")
    assert [failure.recording.name for failure in failures] == ["u1"]
    assert left_out.all.segments == len(TEXTS) - 1 and deleted.all.segments == len(TEXTS)
    assert deleted.all.deletions == left_out.all.deletions + len(TEXTS[1].split())
    with pytest.raises(ValueError, match="not one of 1 utterances could be transcribed"):
        evaluate(recognizer, rows[1:2])
    assert evaluate(recognizer, rows[1:2], unreadable="deletions").all.wer == 100
