"""The CTC task: recipe files, tokenizers, data, loss, training, resuming, and one sentence for what goes wrong."""

import csv
import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from conftest import REPOSITORY, SAMPLE_RATE

from biglittle_asr.inference import load_model, pack
from biglittle_asr.nnet import sparse
from biglittle_asr.recipe.prepare import OWN_SPLITS, make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe, run
from biglittle_asr.recipe.yaml import RecipeError, read_tree
from biglittle_asr.tasks.engine.batches import Draw
from biglittle_asr.tasks.engine.brain import NonFiniteLossError
from biglittle_asr.tasks.engine.curves import Curves, EpochHistory
from biglittle_asr.tasks.engine.schedule import WarmupCosine
from biglittle_asr.tasks.speech import brain as recognition
from biglittle_asr.tasks.speech.brain import RATES, UtteranceProgress
from biglittle_asr.tasks.speech.ctc import CTCBrain, consistency_loss, ctc_loss, frames_needed
from biglittle_asr.tasks.speech.data import Datasets, Utterances, build_datasets, train_loader_options
from biglittle_asr.tasks.speech.evaluation import evaluate_recipe
from biglittle_asr.tokens.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

YAML_FILE = REPOSITORY / "hparams" / "AN4" / "ctc_bl_resnet22.yaml"
TWIN_FILE = REPOSITORY / "hparams" / "AN4" / "ctc_resnet22.yaml"
WORDS = ["ONE", "TWO NINE", "A B", "HELLO"]
"""Transcripts; LL needs a blank."""
SECONDS_PER_LETTER = 0.2
COLUMNS = Curves("", RATES).columns


def small(output_folder: Path, **overrides: Any) -> list[str]:
    """Command line of the AN4 recipe with a small encoder and whatever a test changes."""
    defaults = {
        "data_folder": "none",
        "output_folder": output_folder,
        "encoder": "{channels: [4, 8, 8, 16], output_size: 32}",
        "corpus_options": "{dev_utterances: 6}",
        "number_of_epochs": 2,
        "average_checkpoints": "[1, 2]",
        "precision": "fp32",
    }
    options = {**defaults, **overrides}
    return [str(YAML_FILE), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())]


def write_tones(folder: Path, texts: Sequence[str] = WORDS, sample_rate: int = SAMPLE_RATE) -> None:
    """Manifests of a corpus in which every letter sounds at its own frequency."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, text in enumerate(texts):
        times = np.arange(int(SECONDS_PER_LETTER * sample_rate)) / sample_rate
        fade = np.sin(np.pi * times / SECONDS_PER_LETTER)
        letters = [fade * np.sin(2 * np.pi * (300 + 150 * (ord(letter) - 64)) * times) for letter in text]
        wav = folder / f"u{index}.wav"
        soundfile.write(wav, 0.3 * np.concatenate(letters), sample_rate)
        rows.append([f"u{index}", len(text) * SECONDS_PER_LETTER, wav, f"s{index}", text])
    write_manifests(folder / "save" / "manifests", rows)


def write_manifests(folder: Path, rows: Sequence[Sequence[Any]]) -> None:
    """The same utterances as train, dev and test; a row has ID, seconds, file, speaker and words."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in OWN_SPLITS:
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["ID", "duration", "wav", "spk_id", "wrd"], *rows])


def load(arguments: Sequence[str]) -> tuple[CTCBrain, Datasets, dict[str, Any]]:
    """What train.py builds, up to the training."""
    hparams, run_opts = load_recipe(arguments)
    manifests = prepare_manifests("an4", hparams)
    tokenizer = make_tokenizer(manifests, hparams)
    datasets = build_datasets(manifests, tokenizer, hparams)
    model = hparams["model"](output_neurons=tokenizer.size)
    return CTCBrain(model, tokenizer, hparams, run_opts), datasets, hparams


def finish(brain: CTCBrain, datasets: Datasets, hparams: dict[str, Any]) -> dict[str, Any]:
    """What train.py does after the training."""
    brain.choose_average(datasets.dev, hparams)
    folder = Path(hparams["save_folder"]) / "manifests"
    manifests = {name: folder / f"{name}.csv" for name in ("dev", "test")}
    return dict(evaluate_recipe(brain, brain.recognizer(), datasets, manifests, hparams))


def train_an4() -> Callable[[Sequence[str]], None]:
    """`main` of recipes/AN4/CTC/train.py."""
    spec = importlib.util.spec_from_file_location("train", REPOSITORY / "recipes" / "AN4" / "CTC" / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


# The whole recipe


@pytest.mark.parametrize("precision, targets", [("bf16", {}), ("fp32", {"token_type": "bpe", "vocab_size": 20})])
def test_recipe_runs_and_writes_what_it_promises(
    tmp_path: Path, tiny_an4: Path, precision: str, targets: dict[str, Any]
) -> None:
    folder = tmp_path / "out"
    arguments = small(folder, data_folder=tiny_an4, precision=precision, **targets)
    train_an4()(arguments)
    for name in ("hyperparams.yaml", "env.log", "train_log.txt", "curves.png", "epochs.csv", "wer_dev.txt"):
        assert (folder / name).stat().st_size > 0
    assert len(EpochHistory(folder / "epochs.csv", COLUMNS).rows) == 2
    assert load_model(folder / "model").sample_rate == 16000
    assert list((folder / "tensorboard").iterdir())
    before, scores = (folder / "wer_test.txt").read_text(), json.loads((folder / "scores.json").read_text())
    assert list(scores) == ["dev", "test"] and scores["test"]["all"]["words"] > 0
    assert f"WER {scores['test']['all']['wer']:.2f} %" in before
    # Once more: nothing left to train, the same result.
    train_an4()([*arguments, "--test_only"])
    assert (folder / "wer_test.txt").read_text() == before
    assert json.loads((folder / "scores.json").read_text()) == scores
    assert len(EpochHistory(folder / "epochs.csv", COLUMNS).rows) == 2


def test_skip_test_leaves_test_alone(tmp_path: Path) -> None:
    write_tones(tmp_path)
    (tmp_path / "u0.wav").rename(tmp_path / "only_in_test.wav")
    test = tmp_path / "save" / "manifests" / "test.csv"
    test.write_text(test.read_text().replace("u0.wav", "only_in_test.wav"))
    for name in ("train", "dev"):
        manifest = tmp_path / "save" / "manifests" / f"{name}.csv"
        manifest.write_text("".join(line for line in manifest.open() if not line.startswith("u0,")))
    (tmp_path / "only_in_test.wav").unlink()
    arguments = small(tmp_path, skip_prep=True, number_of_epochs=1, average_checkpoints="[1]")
    train_an4()([*arguments, "--skip_test=True"])
    assert (tmp_path / "wer_dev.txt").is_file() and not (tmp_path / "wer_test.txt").exists()
    assert list(json.loads((tmp_path / "scores.json").read_text())) == ["dev"]


def test_a_sparse_training_ends_in_a_frozen_model_which_pack_makes_as_well(tmp_path: Path) -> None:
    write_tones(tmp_path)
    options = {"skip_prep": True, "skip_test": True, "number_of_epochs": 1, "average_checkpoints": "[1]"}
    train_an4()(small(tmp_path, **options, sparsity="{rate: 0.5, dense: [output]}"))
    model = load_model(tmp_path / "model").model
    for layer in sparse.report(model).layers:
        dense = layer.name in ("encoder.stem.0", "output")
        assert layer.nonzero == layer.elements - (0 if dense else layer.elements // 2), layer.name
    shutil.rmtree(tmp_path / "model")
    packed = load_model(pack(tmp_path, tmp_path / "packed")).model
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in packed.state_dict().items())


def test_a_sparsity_that_cannot_be_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    for sparsity in ("{rate: 2}", "{rates: 0.9}", "{dense: [nothing]}", "0.9"):
        with pytest.raises(RecipeError, match="sparsity|rates"):
            load(small(tmp_path, skip_prep=True, sparsity=sparsity))


def test_a_handful_of_utterances_is_overfitted(tmp_path: Path) -> None:
    write_tones(tmp_path)
    brain, datasets, hparams = load(
        small(
            tmp_path,
            encoder="{channels: [8, 16, 32, 64], output_size: 64}",
            skip_prep=True,
            number_of_epochs=1,
            dynamic_batching=False,
            batch_size=4,
            sorting="ascending",
            lr=0.01,
            dropout=0.0,
            wav_augment="null",
            fea_augment="null",
        )
    )
    repeated = Datasets(datasets.train.overfit_test(4, 4 * 120), datasets.dev, datasets.test)
    brain.fit_datasets(repeated, hparams)
    row = brain.history.rows[-1]
    assert row["dev_loss"] < 0.1
    assert row["dev_wer"] == 0.0


def test_transcripts_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    write_tones(tmp_path, [*WORDS, "Q", "SUPERCALIFRAGILISTIC"])
    brain, datasets, _ = load(small(tmp_path, skip_prep=True))
    torch.manual_seed(0)
    for name, tensor in brain.model.state_dict().items():
        if tensor.dtype == torch.float32 and tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5) if "var" in name or "weight" in name else tensor.normal_()
    results = []
    for size in (1, 4, 16):
        brain.score_dataset(datasets.test, {"batch_size": size}, bootstrap=0)
        results.append(dict(brain.hypotheses))
    assert results[0] == results[1] == results[2]
    assert any(results[0].values())


def test_average_is_the_mean_of_checkpoints(tmp_path: Path) -> None:
    write_tones(tmp_path)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, number_of_epochs=3, average_checkpoints="[2]"))
    brain.fit_datasets(datasets, hparams)
    checkpoints = brain.checkpointer.find_checkpoints(max_num_checkpoints=2)
    states = [torch.load(checkpoint.paramfiles["model"]) for checkpoint in checkpoints]
    brain.load_average(checkpoints)
    for name, tensor in brain.model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)
    # The best and the latest two are kept.
    epochs = sorted(checkpoint.meta["epoch"] for checkpoint in brain.checkpointer.list_checkpoints())
    assert epochs in ([2, 3], [1, 2, 3])


def test_learned_normalization_is_saved_and_averaged_with_the_weights(tmp_path: Path) -> None:
    write_tones(tmp_path)
    _, *options = small(tmp_path, skip_prep=True, average_checkpoints="[2]", wav_augment="null")
    brain, datasets, hparams = load([str(REPOSITORY / "hparams/AN4/ctc_bl_resnet22_causal.yaml"), *options])
    brain.fit_datasets(datasets, hparams)
    learned = brain.modules.normalize.state_dict()
    checkpoints = brain.checkpointer.find_checkpoints(max_num_checkpoints=2)
    states = [torch.load(checkpoint.paramfiles["normalize"]) for checkpoint in checkpoints]
    torch.testing.assert_close(states[0], learned, rtol=0, atol=0)
    # Every epoch sees the same frames once more, in another order.
    assert states[0]["count"] == 2 * states[1]["count"] > 0
    torch.testing.assert_close(states[0]["mean"], states[1]["mean"])
    brain.load_average(checkpoints)
    torch.testing.assert_close(brain.modules.normalize.mean, (states[0]["mean"] + states[1]["mean"]) / 2)


# Optimization


def test_weight_decay_spares_vectors_and_clipping_covers_everything(tmp_path: Path) -> None:
    write_tones(tmp_path)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, max_grad_norm=0.001))
    brain.init_optimizers()
    for group in brain.optimizer.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] == 0.0) == (parameter.dim() == 1)
            parameter.grad = torch.ones_like(parameter)
    seen: list[torch.Tensor] = []
    parameters = [parameter for group in brain.optimizer.param_groups for parameter in group["params"]]
    brain.optimizer.step = lambda: seen.extend(parameter.grad.flatten() for parameter in parameters)
    brain.optimizers_step()
    assert float(torch.cat(seen).norm()) == pytest.approx(0.001, rel=1e-3)


def test_warmup_then_cosine() -> None:
    schedule = WarmupCosine(peak=1.0, warmup=0.2)
    rates = [schedule(step / 100) for step in range(101)]
    assert max(rates) == rates[20] == 1.0 and rates[0] == 0.0 and rates[100] == pytest.approx(0.0)
    assert rates[10] == pytest.approx(0.5) and rates[60] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="warmup must be at least 0 and below 1"):
        WarmupCosine(peak=1.0, warmup=1.0)


# Data


def test_dynamic_batches_hold_everything_once_and_differ_between_epochs(tmp_path: Path) -> None:
    write_tones(tmp_path, WORDS * 10)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, max_batch_length=8, num_buckets=3))
    loader = brain.make_dataloader(datasets.train, sb.Stage.TRAIN, **train_loader_options(datasets.train, hparams))
    epochs = []
    for epoch in (1, 2):
        brain.train_sampler.set_epoch(epoch)
        epochs.append([batch.examples.id for batch in loader])
    for batches in epochs:
        assert sorted(name for batch in batches for name in batch) == sorted(datasets.train.data_ids)
        durations = [[datasets.train.data[name]["duration"] for name in batch] for batch in batches]
        assert all(len(batch) * max(batch) <= 8.001 for batch in durations)
    assert epochs[0] != epochs[1]


def test_speed_perturbation_is_for_training_only(tmp_path: Path) -> None:
    write_tones(tmp_path)
    _, datasets, _ = load(small(tmp_path, skip_prep=True))
    lengths = {name: {dataset[0]["num_samples"] for _ in range(30)} for name, dataset in vars(datasets).items()}
    utterances = Utterances(datasets.train, seed=1)
    drawn = [[utterances[Draw(epoch, 0)]["num_samples"] for epoch in range(30)] for _ in range(2)]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 3
    assert len(lengths["train"]) == 3 and len(lengths["dev"]) == len(lengths["test"]) == 1


# Loss


UNAUGMENTED = {
    "skip_prep": True,
    "dropout": 0.0,
    "wav_augment": "null",
    "fea_augment": "{freq_masks: 0, max_time_masks: 0}",
}


def first_step(folder: Path, **overrides: Any) -> tuple[float, torch.Tensor]:
    """Loss and a gradient of the first batch of a training."""
    brain, datasets, hparams = load(small(folder, **UNAUGMENTED, **overrides))
    loader = brain.make_dataloader(datasets.train, sb.Stage.TRAIN, **train_loader_options(datasets.train, hparams))
    brain.step = 0
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.modules.train()
    batch = next(iter(loader)).examples
    loss = brain.compute_objectives(brain.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN)
    loss.backward()
    gradient = brain.model.output.weight.grad
    assert gradient is not None
    return loss.item(), gradient


def test_two_views_that_agree_cost_what_one_does(tmp_path: Path) -> None:
    write_tones(tmp_path)
    loss, gradient = first_step(tmp_path, consistency_weight=0.0)
    loss_of_two, gradient_of_two = first_step(tmp_path, consistency_weight=0.5)
    assert loss_of_two == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(gradient_of_two, gradient, rtol=1e-4, atol=1e-6)


def test_padding_to_few_shapes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path)
    loss, gradient = first_step(tmp_path)
    monkeypatch.setattr(recognition, "FRAMES_MULTIPLE", 1)
    loss_unpadded, gradient_unpadded = first_step(tmp_path)
    assert loss_unpadded == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(gradient_unpadded, gradient, rtol=1e-4, atol=1e-6)


def test_views_are_drawn_together_over_valid_frames_only() -> None:
    log_probs = torch.randn(4, 5, 3).log_softmax(-1).requires_grad_()
    frames = torch.tensor([5, 2, 5, 2])
    loss = consistency_loss(log_probs, frames)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    assert loss > 0 and gradient[[1, 3], 2:].abs().max() == 0
    closer = (log_probs - 0.01 * gradient).detach().log_softmax(-1)
    assert consistency_loss(closer, frames) < loss
    swapped = consistency_loss(log_probs[[2, 3, 0, 1]], frames)
    torch.testing.assert_close(swapped, loss)


def test_ctc_loss_leaves_out_what_does_not_fit_and_nothing_else() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(4, 6, 5).log_softmax(-1).requires_grad_()
    frames, num_tokens = torch.tensor([6, 3, 2, 1]), torch.tensor([3, 3, 2, 1])
    tokens = torch.tensor([[1, 2, 3], [1, 1, 2], [4, 4, 0], [2, 0, 0]])
    losses, fits = ctc_loss(log_probs, frames, tokens, num_tokens)
    expected = [int(f) >= frames_needed(t[:n].tolist()) for f, t, n in zip(frames, tokens, num_tokens, strict=True)]
    assert fits.tolist() == expected == [True, False, False, True]
    alone = torch.nn.functional.ctc_loss(log_probs[0][:, None], tokens[:1], frames[:1], num_tokens[:1], reduction="sum")
    assert losses[0].item() == pytest.approx(alone.item())
    losses.sum().backward()
    assert log_probs.grad is not None and log_probs.grad.isfinite().all()
    assert not log_probs.grad[1:3].any() and log_probs.grad[0].any()


def test_token_beyond_the_output_layer_is_refused() -> None:
    log_probs = torch.zeros(1, 4, 3).log_softmax(-1)
    with pytest.raises(ValueError, match="token 3 does not exist in an output layer of 3"):
        ctc_loss(log_probs, torch.tensor([4]), torch.tensor([[3]]), torch.tensor([1]))
    # Behind an utterance's end anything may stand.
    ctc_loss(log_probs, torch.tensor([4]), torch.tensor([[1, 9]]), torch.tensor([1]))


def test_targets_that_do_not_fit_are_named_and_refused_if_many(tmp_path: Path) -> None:
    write_tones(tmp_path, ["AAAAA", "B"])
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, encoder="{channels: [4, 8, 8, 16]}"))
    datasets.train.data["u0"]["wrd"] = "A" * 40
    with pytest.raises(ValueError, match="1 of 2 utterances have too few frames for their target: u0; correct them"):
        brain.fit_datasets(datasets, hparams)
    brain._report_left_out(UtteranceProgress(left_out=["u7"], utterances=1000))
    assert "u7; they are left out of the loss" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("poison, what", [("model", "loss"), ("gradient", "gradient")])
def test_not_finite_names_epoch_step_and_utterances(tmp_path: Path, poison: str, what: str) -> None:
    write_tones(tmp_path, WORDS[:1])
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True))
    if poison == "model":
        torch.nn.init.constant_(brain.model.output.bias, math.nan)
    else:
        brain.model.output.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLossError, match=f"{what} is not finite in epoch 1, step 1, utterances u0: look at"):
        brain.fit_datasets(datasets, hparams)


# Tokenizers


@pytest.mark.parametrize("token_type, vocab_size", [("character", None), ("bpe", 40), ("unigram", 30)])
def test_tokenizers_give_back_what_they_were_given(tmp_path: Path, token_type: str, vocab_size: int | None) -> None:
    texts = ["RUBOUT G M E F THREE NINE", "ENTER FIVE O'CLOCK", "YES NO", "HELP STOP ERASE REPEAT"] * 5
    tokenizer = train_tokenizer(texts, tmp_path / "tokenizer.json", token_type, vocab_size)
    for text in texts:
        ids = tokenizer.encode(text)
        assert 0 not in ids and max(ids) < tokenizer.size
        assert tokenizer.decode(ids) == load_tokenizer(tmp_path / "tokenizer.json").decode(ids) == text
    if vocab_size is not None:
        assert tokenizer.size == vocab_size
    with pytest.raises(ValueError, match="does not occur in the training transcripts"):
        tokenizer.encode("YES ?")
    assert tokenizer.decode(tokenizer.encode("YES ?", unknown="drop")) == "YES"
    assert tokenizer.decode([]) == ""


def test_tokenizer_of_other_texts_is_not_reused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made: Tokenizer = train_tokenizer(["YES"], path)
    assert train_tokenizer(["YES"], path).size == made.size
    with pytest.raises(ValueError, match="tokenizer made of other transcripts or settings; choose another"):
        train_tokenizer(["NO"], path)


@pytest.mark.parametrize(
    "token_type, vocab_size, message",
    [
        ("bpe", 500, "vocab_size: SentencePiece cannot make 500 bpe pieces"),
        ("bpe", None, "vocab_size: bpe pieces need one"),
        ("phone", None, "token_type: 'phone' is none of character, unigram, bpe"),
    ],
)
def test_impossible_tokenizers_are_refused(
    tmp_path: Path, token_type: str, vocab_size: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(WORDS, tmp_path / "tokenizer.json", token_type, vocab_size)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": "bpe", "model": "!"}', '{"kind": "bpe", "model": "AAAA"}']
)
def test_broken_tokenizer_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_tokenizer(path)


# Recipe files


def test_twin_differs_in_encoder_and_output_folder_only() -> None:
    big_little, plain = read_tree(YAML_FILE), read_tree(TWIN_FILE)
    assert big_little.keys() == plain.keys()
    differing = {
        key for key in plain if str(plain[key]) != str(big_little[key]) or _tag(plain[key]) != _tag(big_little[key])
    }
    assert differing == {"encoder", "output_folder"}


def _tag(node: Any) -> str:
    return str(getattr(getattr(node, "tag", None), "value", ""))


def test_encoder_is_changed_on_the_command_line(tmp_path: Path) -> None:
    hparams, _ = load_recipe(small(tmp_path, encoder="{alpha: 2, beta: 3}"))
    assert (hparams["encoder"].config.alpha, hparams["encoder"].config.beta) == (2, 3)


@pytest.mark.parametrize(
    "fast, options, precision",
    [(True, [], "bf16"), (False, [], "fp32"), (False, ["--precision", "bf16"], "bf16")],
)
def test_bfloat16_is_no_default_where_the_cpu_is_slow_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool, options: list[str], precision: str
) -> None:
    monkeypatch.setattr("biglittle_asr.recipe.run.cpu_computes_bfloat16", lambda: fast)
    monkeypatch.setattr("biglittle_asr.recipe.run.infer_device", lambda: "cpu")
    arguments = [word for word in small(tmp_path) if not word.startswith("--precision")]
    hparams, run_opts = load_recipe([*arguments, *options])
    assert (run_opts.precision if options else hparams["precision"]) == precision


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            {"number_of_epoch": 3},
            "command line: no recipe key is named --number_of_epoch; did you mean '--number_of_epochs'?",
        ),
        ({"encoder": "{name: resnet23}"}, "unknown encoder preset 'resnet23'"),
        ({"encoder": "{alhpa: 3}"}, "unknown encoder argument 'alhpa'"),
        ({"lr": "{"}, "is not understood; write --key value"),
    ],
)
def test_wrong_overrides_are_named(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(small(tmp_path, **overrides))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            ("max_grad_norm:", "max_grad_nrm:"),
            "line [0-9]+: no recipe key is named max_grad_nrm; did you mean 'max_grad_norm'",
        ),
        (("sorting: random", ""), "lacks the key sorting"),
        (("seed: 1234", "seed: [1234"), "line [0-9]+: is not valid YAML"),
        (("bl_resnet22.yaml", "bl_resnet23.yaml"), "includes .*bl_resnet23.yaml, which does not exist"),
        (("<sample_rate>", "<sample_rat>"), 'The reference "sample_rat" is not valid'),
        (("features.LogMel", "features.LogMell"), "There is no such class as biglittle_asr.features.LogMell"),
    ],
)
def test_wrong_recipe_file_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = tmp_path / "hparams" / "AN4" / "wrong.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML_FILE.read_text().replace(*change))
    encoders = REPOSITORY / "hparams" / "encoders"
    (tmp_path / "hparams" / "encoders").symlink_to(encoders)
    with pytest.raises((RecipeError, FileNotFoundError), match=f"wrong.yaml.*{message}"):
        load_recipe([str(file), "--data_folder=none", f"--output_folder={tmp_path / 'out'}"])


def test_a_key_that_recipes_once_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "hparams" / "AN4" / "old.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"{YAML_FILE.read_text()}\ntest_dataloader_opts: {{batch_size: 16}}\n")
    (tmp_path / "hparams" / "encoders").symlink_to(REPOSITORY / "hparams" / "encoders")
    load_recipe([str(file), *small(tmp_path)[1:]])
    assert f"{file}: nothing reads test_dataloader_opts any more; remove it." in (tmp_path / "log.txt").read_text()


def test_missing_recipe_data_and_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.yaml: no such recipe file"):
        load_recipe([str(tmp_path / "nowhere.yaml")])
    with pytest.raises(RecipeError, match="data_folder has no value; give it on the command line"):
        load_recipe([str(YAML_FILE), f"--output_folder={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load(small(tmp_path, data_folder=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="train.csv: no such manifest; run without skip_prep"):
        load(small(tmp_path, skip_prep=True))


def test_output_layer_that_disagrees_with_the_tokenizer_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    with pytest.raises(RecipeError, match="output_neurons: is 7, but the tokenizer .* has 12 tokens with the blank"):
        load(small(tmp_path, skip_prep=True, output_neurons=7))


def test_audio_of_another_sample_rate_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    soundfile.write(tmp_path / "u0.wav", np.zeros(800), 8000)
    _, datasets, _ = load(small(tmp_path, skip_prep=True))
    with pytest.raises(ValueError, match="u0.wav: sampled at 8000 Hz, but the recipe's sample_rate is 16000"):
        datasets.train[0]


def test_evaluation_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint of a whole epoch; train first"):
        train_an4()([*small(tmp_path, skip_prep=True), "--test_only"])


def test_unknown_characters_in_dev_are_reported(tmp_path: Path) -> None:
    write_tones(tmp_path)
    manifest = tmp_path / "save" / "manifests" / "dev.csv"
    manifest.write_text(manifest.read_text().replace("HELLO", "ZOO"))
    _, datasets, _ = load(small(tmp_path, skip_prep=True))
    report = "dev.csv: 1 of 4 utterances have characters that the training transcripts do not (Z)"
    assert report in (tmp_path / "log.txt").read_text()
    assert {datasets.dev[index]["wrd"] for index in range(4)} >= {"ZOO"}


def test_recipe_errors_end_in_one_sentence_and_status_1(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", str(tmp_path / "nowhere.yaml")])
    with pytest.raises(SystemExit) as stop:
        run(train_an4())
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: ") and capsys.readouterr().out == ""
