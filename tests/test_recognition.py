"""What holds for every speech recognition task, with every encoder, and for every recipe file."""

import importlib.util
import itertools
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import AN4, REPOSITORY
from helpers import randomize_batchnorm
from speechbrain.decoders.transducer import TransducerBeamSearcher
from test_tasks import write_manifests, write_tones

from biglittle_asr.audio.files import read_audio
from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding.transducer import TransducerBeamSearch, TransducerGreedySearcher
from biglittle_asr.inference import Transcript, evaluate, load_model, pack
from biglittle_asr.inference.evaluation import transcribe_rows
from biglittle_asr.inference.folder.config import recognizer_config
from biglittle_asr.models import TransducerModel, create_encoder
from biglittle_asr.recipe.keys import ATTENTION_KEYS, CTC_KEYS, TRANSDUCER_KEYS
from biglittle_asr.recipe.prepare import make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import RecipeError, read_tree, tag_of
from biglittle_asr.tasks.speech.attention import AttentionBrain
from biglittle_asr.tasks.speech.brain import RecognitionBrain
from biglittle_asr.tasks.speech.ctc import CTCBrain
from biglittle_asr.tasks.speech.data import Datasets, build_datasets
from biglittle_asr.tasks.speech.transducer import TransducerBrain, transducer_loss

TASKS: dict[str, tuple[type[RecognitionBrain], frozenset[str]]] = {
    "ctc": (CTCBrain, CTC_KEYS),
    "attention": (AttentionBrain, ATTENTION_KEYS),
    "transducer": (TransducerBrain, TRANSDUCER_KEYS),
}
ENCODERS = {
    "bl_resnet22": "channels: [4, 8, 16, 32], output_size: 32",
    "crdnn": "cnn_channels: [4, 4], rnn_layers: 1, rnn_neurons: 16, dnn_blocks: 1, dnn_neurons: 32, dropout: 0.0",
    "conformer": "cnn_channels: [4, 4], d_model: 32, heads: 2, layers: 1, d_ffn: 32, kernel_size: 3, dropout: 0.0",
}
SMALL: dict[str, dict[str, Any]] = {
    "ctc": {},
    "attention": {
        "embedding_size": 16,
        "decoder": "{hidden_size: 32, attn_dim: 32, channels: 2, kernel_size: 3}",
        "test_beam_size": 3,
        "label_smoothing": 0.0,
    },
    "transducer": {"model": "{prediction_size: 32, joint_size: 64}", "test_beam_size": 3},
}
RECIPES = sorted(path for task in TASKS for path in REPOSITORY.glob(f"hparams/*/{task}_*.yaml"))

every_task = pytest.mark.parametrize("task", TASKS)


def command(file: Path, folder: Path, **overrides: Any) -> list[str]:
    """Command line of a recipe for the tones in `folder`, small and without chance."""
    task = file.name.split("_")[0]
    options = {
        **({"splits": "{train: train, dev: dev, test: test}"} if "splits" in read_tree(file) else {}),
        "skip_prep": True,
        "output_folder": folder,
        "number_of_epochs": 1,
        "average_checkpoints": "[1]",
        "precision": "fp32",
        "token_type": "character",
        "dropout": 0.0,
        "fea_augment": "null",
        "wav_augment": "null",
        "train_dataloader_opts": "{num_workers: 0}",
        **SMALL[task],
        **overrides,
    }
    return [str(file), "--noprogressbar", *placeholders(file), *(f"--{key}={value}" for key, value in options.items())]


def placeholders(file: Path) -> list[str]:
    """What a recipe must be told on its command line, and no test reads."""
    tree = read_tree(file)
    return [f"--{key}=none" for key in tree if tag_of(tree[key]) == "!PLACEHOLDER"]


def load(task: str, folder: Path, encoder: str = "bl_resnet22", **overrides: Any) -> Any:
    """What the task's train.py builds on LibriSpeech with another encoder: brain, datasets, what the YAML defines."""
    brain_class, keys = TASKS[task]
    file = REPOSITORY / "hparams" / "LibriSpeech" / f"{task}_bl_resnet22.yaml"
    fragment = f"!include:../encoders/{encoder}.yaml {{input_size: 20, {ENCODERS[encoder]}}}"
    options = {"n_mels": 20, "encoder": fragment, "dynamic_batching": False, **overrides}
    hparams, run_opts = load_recipe(command(file, folder, **options), keys)
    manifests = prepare_manifests("librispeech", hparams)
    tokenizer = make_tokenizer(manifests, hparams)
    datasets = build_datasets(manifests, tokenizer, hparams)
    return brain_class(hparams["model"](output_neurons=tokenizer.size), tokenizer, hparams, run_opts), datasets, hparams


def train(corpus: str, task: str) -> Callable[[Sequence[str]], None]:
    """`main` of a recipe's train.py."""
    file = REPOSITORY / "recipes" / corpus / {"ctc": "CTC"}.get(task, task.title()) / "train.py"
    spec = importlib.util.spec_from_file_location("train", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[Sequence[str]], None] = module.main
    return main


def write_few_utterances(folder: Path) -> None:
    """Manifests of three short utterances of AN4, or of tones where the real corpus is not at hand."""
    if not (AN4 / "etc").is_dir():
        write_tones(folder, ["ONE", "BAD", "GO"])
        return
    rows = []
    for name, words in (("an130-mcen-b", "HELP"), ("an353-msjr-b", "NO"), ("cen3-fjdn-b", "THIRTY THREE")):
        file = next(AN4.rglob(f"{name}.sph"))
        samples, rate = read_audio(file)
        rows.append([name, len(samples) / rate, file, "speaker", words])
    write_manifests(folder / "save" / "manifests", rows)


def rows_of_test(folder: Path) -> list[dict[str, str]]:
    """The utterances of test."""
    return read_manifest(folder / "save" / "manifests" / "test.csv")


@every_task
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_task_overfits_with_every_encoder(task: str, encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_few_utterances(tmp_path)
    brain, datasets, hparams = load(task, tmp_path, encoder, batch_size=3, sorting="ascending", lr=0.01)
    repeated = Datasets(datasets.train.overfit_test(3, 3 * 160), datasets.dev, datasets.test)
    brain.fit_datasets(repeated, hparams)
    assert brain.history.rows[-1]["dev_loss"] < 0.1
    # A transducer may be sure of a token and of no frame for it: a beam search sums over frames, a greedy one does not.
    assert evaluate(brain.recognizer(), rows_of_test(tmp_path)).all.errors == 0


@every_task
@pytest.mark.parametrize("final", [False, True])
def test_transcripts_do_not_depend_on_the_batch_size(task: str, final: bool, tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "TWO NINE", "A B", "HELLO", "Q", "SUPERCALIFRAGILISTIC"])
    brain, datasets, _ = load(task, tmp_path)
    torch.manual_seed(0)
    randomize_batchnorm(brain.model, torch.Generator().manual_seed(1))
    results = []
    for size in (1, 4, 16):
        if final:
            found = transcribe_rows(brain.recognizer(), rows_of_test(tmp_path), batch_seconds=size)
            results.append({each.recording.name: each.text for each in found if isinstance(each, Transcript)})
        else:
            brain.score_dataset(datasets.test, {"batch_size": size}, bootstrap=0)
            results.append(dict(brain.hypotheses))
    assert results[0] == results[1] == results[2] and len(results[0]) == 6
    assert len(set(results[0].values())) > 1


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_recipe_file_trains_and_evaluates(file: Path, tmp_path: Path, capsys: Any) -> None:
    task = file.name.split("_")[0]
    _, keys = TASKS[task]
    # Its networks can be built as they are; it is smaller ones that are trained.
    hparams, _ = load_recipe([str(file), f"--output_folder={tmp_path}", *placeholders(file)], keys)
    assert hparams["encoder"].output_size == hparams["model"](output_neurons=5).encoder.output_size
    write_tones(tmp_path, ["ONE", "BAD"], hparams["sample_rate"])
    train(file.parent.name, task)(command(file, tmp_path, encoder="{channels: [4, 8, 8, 16], output_size: 32}"))
    # What was loaded is in the output folder, complete.
    assert "create_encoder" in (tmp_path / "hyperparams.yaml").read_text()
    assert (tmp_path / "wer_test.txt").stat().st_size > 0
    assert "epoch 1: " in (tmp_path / "log.txt").read_text()
    assert "% of the training time was spent waiting for data" in (tmp_path / "log.txt").read_text()
    # The folder scores as the recipe did, and could have been made of the only checkpoint.
    folder = load_model(tmp_path / "model")
    score = evaluate(folder, rows_of_test(tmp_path))
    assert score.summary() in (tmp_path / "wer_test.txt").read_text()
    assert score.to_dict() == json.loads((tmp_path / "scores.json").read_text())["test"]
    shutil.rmtree(tmp_path / "model")
    packed = load_model(pack(tmp_path, tmp_path / "packed"))
    described, expected = ({**recognizer_config(each), "training": {}} for each in (packed, folder))
    assert described == expected
    assert all(torch.equal(tensor, packed.state_dict()[name]) for name, tensor in folder.state_dict().items())


def test_no_recipe_file_is_missed() -> None:
    elsewhere = {"encoders", "ImageNet"}, ("common.yaml", "hybrid_")
    for file in set(REPOSITORY.glob("hparams/*/*.yaml")) - set(RECIPES):
        assert file.parent.name in elsewhere[0] or file.name.startswith(elsewhere[1]), f"no test runs {file}"


def test_a_key_of_another_task_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    base = REPOSITORY / "hparams" / "LibriSpeech" / "ctc_bl_resnet22.yaml"
    for key, message in (("ctc_weight", "named ctc_weight; "), ("consistency_wait", "line 2: .* mean 'consist")):
        file.write_text(f"!include:{base}\n{key}: 0.5\n")
        with pytest.raises(RecipeError, match=message):
            load_recipe([str(file), "--data_folder=none", f"--output_folder={tmp_path}"])


@pytest.mark.parametrize(
    "task, wrong, message",
    [
        ("attention", {"search_options": "{beam: 3}"}, "search_options: .*beam"),
        ("attention", {"ctc_weight": 2}, "ctc_weight: is 2, but must lie between 0 and 1"),
        ("attention", {"test_beam_size": 0}, "a beam of at least 1"),
        ("attention", {"search_options": "{temperature: 0}"}, "a temperature above 0"),
        ("transducer", {"test_beam_size": 0}, "a beam of at least 1"),
    ],
)
def test_searches_that_cannot_be_are_refused(task: str, wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "BAD"])
    with pytest.raises(ValueError, match=message):
        load(task, tmp_path, **wrong)


# Transducers


def test_transducer_loss_is_the_sum_over_all_alignments() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 3, 4)
    frames, tokens, num_tokens = torch.tensor([3, 2]), torch.tensor([[1, 3], [2, 7]]), torch.tensor([2, 1])
    losses = transducer_loss(logits, frames, tokens, num_tokens)
    for row in range(2):
        log_probs, (length, count) = logits[row].log_softmax(-1), (int(frames[row]), int(num_tokens[row]))
        paths = []
        # An alignment says at which frame each token is put out; frames do not go back.
        for when in itertools.combinations_with_replacement(range(length), count):
            put_out = sum(log_probs[t, u, tokens[row, u]] for u, t in enumerate(when))
            blanks = sum(log_probs[t, sum(each <= t for each in when), 0] for t in range(length))
            paths.append(put_out + blanks)
        assert losses[row].item() == pytest.approx(-torch.stack(paths).logsumexp(0).item(), rel=1e-5)


def test_transducer_searches_agree_with_speechbrains_on_one_utterance() -> None:
    torch.manual_seed(0)
    model = TransducerModel(create_encoder("bl_resnet22_half"), 7, prediction_size=8, joint_size=16).eval()
    with torch.no_grad():
        model.output.weight.mul_(8)
        model.output.bias[0] = 2
    encoded, frames = 2 * torch.randn(3, 9, 16), torch.tensor([9, 5, 1])
    found = TransducerGreedySearcher(model).search(encoded, frames)
    layers = [model.embedding, model.prediction, model.project_predicted]
    greedy = TransducerGreedySearcher(model)
    theirs = TransducerBeamSearcher(layers, greedy.tjoint, [model.output], blank_id=0, beam_size=1)
    assert any(found)
    for row, length in enumerate(frames.tolist()):
        with torch.no_grad():
            assert found[row] == theirs(encoded[row : row + 1, :length])[0][0]
    # A wide beam finds nothing less likely than the greedy search does.
    widest = TransducerBeamSearch(model, beam_size=6).search(encoded, frames)
    for row, length in enumerate(frames.tolist()):
        assert _score(model, encoded[row, :length], widest[row]) >= _score(model, encoded[row, :length], found[row])


@torch.no_grad()
def blank_or_one(blank: float, again: float) -> TransducerModel:
    """A transducer that says blank or token 1 at every frame: blank with these probabilities, before it and after."""
    model = TransducerModel(create_encoder("bl_resnet22_half"), 3, prediction_size=1, joint_size=1).eval()
    for parameter in model.parameters():
        parameter.zero_()
    # The LSTM lets through what it reads and forgets what it read: 0 at the beginning, and then tanh(1).
    model.embedding.weight[1] = 9.0
    model.prediction.weight_ih_l0[2] = 1.0
    model.prediction.bias_ih_l0.copy_(torch.tensor([20.0, -20.0, 0.0, 20.0]))
    model.project_predicted.weight.fill_(1.0)
    odds = [math.log(each / (1 - each)) for each in (blank, again)]
    model.output.weight[0] = (odds[1] - odds[0]) / math.tanh(math.tanh(1.0))
    model.output.bias.copy_(torch.tensor([odds[0], 0.0, -30.0]))
    return model


def test_greedy_search_loses_a_token_that_is_sure_but_at_no_frame() -> None:
    model, encoded, frames = blank_or_one(0.6, 0.999999), torch.zeros(1, 10, 1), torch.tensor([10])
    assert math.exp(3 * _score(model, encoded[0], [1])) == pytest.approx(1 - 0.6**10, abs=1e-3)
    assert TransducerGreedySearcher(model).search(encoded, frames) == [[]]
    assert TransducerBeamSearch(model, beam_size=2).search(encoded, frames) == [[1]]
    assert TransducerGreedySearcher(blank_or_one(0.4, 0.999999)).search(encoded, frames) == [[1]]


def _score(model: TransducerModel, encoded: torch.Tensor, tokens: list[int]) -> float:
    """Log-probability a token, the end counted: what torchaudio's search ranks by."""
    with torch.no_grad():
        read, _ = model.prediction(model.embedding(torch.tensor([[0, *tokens]])))
        logits = model.join(encoded[None, :, None], model.project_predicted(read).unsqueeze(1))
        targets, count = torch.tensor([tokens], dtype=torch.long), torch.tensor([len(tokens)])
        loss = transducer_loss(logits, torch.tensor([len(encoded)]), targets, count)
    return -loss.item() / (len(tokens) + 2)
