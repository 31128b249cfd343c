"""The CTC task: recipe files, tokenizers, data, loss, training, resuming, and one sentence for what goes wrong."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch

from biglittle_asr.inference import load_model, pack
from biglittle_asr.nnet import sparse
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.engine.batches import Draw
from biglittle_asr.tasks.engine.brain import NonFiniteLossError
from biglittle_asr.tasks.engine.curves import Curves, EpochHistory
from biglittle_asr.tasks.engine.schedule import WarmupCosine
from biglittle_asr.tasks.speech import brain as recognition
from biglittle_asr.tasks.speech.brain import RATES, UtteranceProgress
from biglittle_asr.tasks.speech.ctc import consistency_loss, ctc_loss, frames_needed
from biglittle_asr.tasks.speech.data import Datasets, Utterances, train_loader_options
from support.ctc_recipe import WORDS, load, small, train_an4, write_tones
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow

COLUMNS = Curves("", RATES).columns


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
    # Sums over valid frames run in another order, in float32.
    torch.testing.assert_close(gradient_of_two, gradient, rtol=1e-4, atol=1e-5)


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
