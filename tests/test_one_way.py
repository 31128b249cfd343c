"""A recipe's Brain and the model folder that it leaves say the same of every utterance, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_hybrid
import test_recognition
import torch
from helpers import randomize_batchnorm
from test_tasks import write_tones

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding.attention import AttentionSettings
from biglittle_asr.decoding.hmm.decoder import HybridSettings, SearchGraph
from biglittle_asr.decoding.transducer import TransducerSettings
from biglittle_asr.inference import Recognizer, Recording, load_model, save_model, transcribe
from biglittle_asr.inference.folder.kinds import KINDS, GreedySettings
from biglittle_asr.tokens.tokenizer import WordTokenizer

TEXTS = ["ONE", "TWO NINE", "A B", "HELLO", "Q", "SUPERCALIFRAGILISTIC"]

System = tuple[Any, Any, Any, Any]
"""Brain, dataset of test, tokenizer of a folder, settings of the search that the Brain uses while it trains."""


def end_to_end(kind: str, quick_search: Callable[[Any], Any]) -> Callable[[Path], System]:
    """A network of random weights, as the recipe of LibriSpeech builds it."""

    def build(folder: Path) -> System:
        write_tones(folder, TEXTS)
        brain, datasets, _ = test_recognition.load(kind, folder)
        torch.manual_seed(0)
        randomize_batchnorm(brain.model, torch.Generator().manual_seed(1))
        return brain, datasets.test, brain.tokenizer, quick_search(brain.hparams)

    return build


def hybrid(folder: Path) -> System:
    """A system after an iteration, as the recipe of AN4 trains it."""
    test_hybrid.write_corpus(folder, copies=24)
    options = {"iterations": "[{epochs: 1}]", "lm_weights": "[1]"}
    system = test_hybrid.start(test_hybrid.small(folder, **options)).train()
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


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_brain_and_its_folder_say_the_same_of_every_utterance(kind: str, final: bool, tmp_path: Path) -> None:
    brain, dataset, tokenizer, settings = SYSTEMS[kind](tmp_path)
    brain.final = final
    if final and brain.search_settings is not None:
        settings = brain.search_settings
    brain.score_dataset(dataset, {"batch_size": 4}, bootstrap=0)
    assert len(set(brain.hypotheses.values())) > 1
    parts = brain.modules.compute_features, brain.modules.normalize, brain.model, tokenizer
    recognizer = load_model(save_model(tmp_path / "model", Recognizer(*parts, settings)))
    rows = read_manifest(tmp_path / "save" / "manifests" / "test.csv")
    recordings = [Recording(row["ID"], Path(row["wav"])) for row in rows]
    found = {each.recording.name: words(kind, each.text) for each in transcribe(recognizer, recordings)}
    assert found == {name: words(kind, text) for name, text in brain.hypotheses.items()}
