"""Hybrid systems: the recipe from flat start to scores, resumed, and what goes wrong in one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import kaldi_native_io
import numpy as np
import pytest
import torch

from biglittle_asr.cli import main
from biglittle_asr.corpora import prepare
from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding.hmm import Aligner, Lexicon, monophones, read_lexicon, read_tying
from biglittle_asr.decoding.hmm.graph import build_graph
from biglittle_asr.inference import load_model
from biglittle_asr.models import HybridModel, create_encoder
from biglittle_asr.recipe.prepare import prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.hybrid.brain import HybridBrain, frame_loss, stretched
from biglittle_asr.tasks.hybrid.flat_start import FlatStart
from biglittle_asr.tasks.hybrid.iterations import change, read_alignments, read_iterations
from biglittle_asr.tasks.hybrid.kaldi_start import KaldiStart
from biglittle_asr.tasks.hybrid.linear_start import EveryFrame, fit, linear_model
from biglittle_asr.tasks.hybrid.settings import HybridRecipe
from biglittle_asr.tasks.speech.brain import RecognitionBrain, UtteranceBrain
from support.corpora import make_speechocean762, telephone_corpora
from support.hybrid_recipe import SHALLOW, TEXTS, rows, small, start, train, write_corpus
from support.repository import REPOSITORY
from support.speech_recipes import placeholders


@pytest.mark.slow
def test_a_system_trains_from_transcripts_alone(tmp_path: Path, capsys: Any) -> None:
    write_corpus(tmp_path, copies=24)
    stages = ["{epochs: 1}", "{epochs: 1}", "{epochs: 1, tied: True}", "{epochs: 1, tied: True, mmi: True}"]
    options = small(tmp_path, iterations=f"[{', '.join(stages)}]")
    train("AN4")(options)
    table = rows(tmp_path)
    assert [row["epochs"] for row in table] == ["1", "1", "1", "1"]
    plain = 3 * len("ABCDE") + 3
    assert table[0]["states"] == table[1]["states"] == str(plain) and plain < int(table[2]["states"]) <= 40
    assert math.isnan(float(table[0]["changed"])) and 0 < float(table[1]["changed"]) < 100
    assert float(table[2]["dev_accuracy"]) > 50 and table[3]["states"] == table[2]["states"]
    assert "WER 0.00 %" in (tmp_path / "wer_test.txt").read_text()
    assert (tmp_path / "iterations" / "4" / "curves.png").stat().st_size > 0
    log = (tmp_path / "log.txt").read_text()
    for piece in ("tied states", "% of the frames changed", "frame accuracy", "HCLG: ", "faster than real time"):
        assert piece in log
    # Word times: in order, within the audio, of about three letters of 0.2 s.
    words = [line.split() for line in (tmp_path / "test.ctm").read_text().splitlines()]
    assert [line[4] for line in words if line[0] == "u0"] == ["BAD", "CAB"]
    first, second = (line for line in words if line[0] == "u0")
    assert 0 <= float(first[2]) < 0.4 and abs(float(second[2]) - 0.6) < 0.3
    assert all(0 < float(line[5]) <= 1 for line in words)
    # The model folder says the same, times and confidences included.
    model, manifest = str(tmp_path / "model"), str(tmp_path / "save" / "manifests" / "test.csv")
    assert load_model(model).model.num_states == int(table[2]["states"])
    capsys.readouterr()
    assert main(["transcribe", model, manifest, "--format", "ctm"]) == 0
    found = sorted(line.split() for line in capsys.readouterr().out.splitlines())
    timed = [[(line[0], float(line[2]), float(line[3]), line[4]) for line in lines] for lines in (found, sorted(words))]
    assert timed[0] == timed[1]
    confidences = zip((float(line[5]) for line in found), (float(line[5]) for line in sorted(words)), strict=True)
    assert all(one == pytest.approx(other, abs=0.002) for one, other in confidences)
    # Once more: nothing is left to train, the same result.
    before = (tmp_path / "wer_test.txt").read_text(), (tmp_path / "iterations.csv").read_text()
    train("AN4")(options)
    assert ((tmp_path / "wer_test.txt").read_text(), (tmp_path / "iterations.csv").read_text()) == before


def write_kaldi(folder: Path, left_out: str = "") -> str:
    """What Kaldi would have made of the corpus, with a transition for each pdf; the recipe's key `kaldi`."""
    lexicon = read_lexicon(folder / "etc" / "an4.dic")
    tying = monophones(lexicon.phones, 1, 1)
    build_graph(lexicon, tying, folder / "etc" / "an4.ug.lm").write(folder / "etc")
    states = (f"Transition-state {k}: phone = A hmm-state = 0 pdf = {k - 1}\n" for k in range(1, tying.size + 1))
    ids = (f" Transition-id = {k} p = 1 [0 -> 1]\n" for k in range(1, tying.size + 1))
    (folder / "etc" / "transitions.txt").write_text("".join(map("".join, zip(states, ids, strict=True))))
    with kaldi_native_io.Int32VectorWriter(f"ark:{folder / 'etc' / 'ali.1'}") as writer:
        for name in ("train", "dev"):
            for row in read_manifest(folder / "save" / "manifests" / f"{name}.csv"):
                if row["ID"] != left_out:
                    # Kaldi leaves frames out at the end.
                    frames = round(100 * float(row["duration"])) - 2
                    alignment = Aligner(lexicon, tying).uniform(row["wrd"].split(), frames)
                    writer.write(row["ID"], (tying.outputs[alignment.states] + 1).tolist())
    files = {"transitions": "transitions.txt", "graph": "HCLG.fst", "words": "words.txt"}
    paths = ", ".join(f"{key}: {folder / 'etc' / name}" for key, name in files.items())
    return f"{{alignments: 'ark:{folder / 'etc' / 'ali.1'}', {paths}}}"


@pytest.mark.slow
def test_a_system_trains_on_kaldis_alignments(tmp_path: Path) -> None:
    write_corpus(tmp_path, copies=24)
    kaldi = write_kaldi(tmp_path, left_out="u0-3")
    options = {"kaldi": kaldi, "lexicon": "null", "language_model": "null", "iterations": "[{epochs: 2}]"}
    train("AN4")(small(tmp_path, **options))
    (row,) = rows(tmp_path)
    assert (row["states"], row["failed"]) == (str(len("ABCDE") + 1), "1") and float(row["dev_accuracy"]) > 80
    assert "WER 0.00 %" in (tmp_path / "wer_test.txt").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert "u0-3 (Kaldi has not aligned it)" in log and "No model folder is written" in log
    first, second = (
        line.split() for line in (tmp_path / "test.ctm").read_text().splitlines() if line.startswith("u0 ")
    )
    assert (first[4], second[4]) == ("BAD", "CAB") and abs(float(second[2]) - 0.6) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, message",
    [
        ({"kaldi": "{graph: HCLG.fst}"}, "kaldi: .* must have alignments, transitions, graph, words"),
        ({"iterations": "[{epochs: 1}, {epochs: 1, tied: True}]"}, "of Kaldi's alignments there is one"),
        ({"kaldi": "{alignments: 'ark:a', transitions: nowhere, graph: b, words: c}"}, "nowhere: no such file"),
    ],
)
def test_what_cannot_be_of_kaldis_is_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    write_corpus(tmp_path, TEXTS[:1])
    options = {"kaldi": write_kaldi(tmp_path), "iterations": "[{epochs: 1}]", **options}
    hparams, run_opts = load_recipe(small(tmp_path, **options), HybridRecipe)
    with pytest.raises((ValueError, OSError), match=message):
        KaldiStart(prepare_manifests("an4", hparams), hparams, run_opts)


@pytest.mark.slow
def test_kaldis_alignments_of_other_utterances_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, TEXTS[:2])
    kaldi = write_kaldi(tmp_path)
    for manifest in (tmp_path / "save" / "manifests").glob("*.csv"):
        manifest.write_text(manifest.read_text().replace("\nu", "\nother"))
    with pytest.raises(ValueError, match="2 of 2 utterances could not be aligned.*must name utterances alike"):
        train("AN4")(small(tmp_path, kaldi=kaldi, iterations="[{epochs: 1}]"))


@pytest.mark.slow
def test_switchboard_from_its_files_to_nists_scores(tmp_path: Path) -> None:
    corpora = telephone_corpora()
    hparams = REPOSITORY / "hparams" / "Switchboard" / "hybrid_bl_resnet22.yaml"
    prepare("switchboard", corpora / "switchboard", tmp_path / "words", sample_rate=8000, dev_conversations=2)
    assert main(["lm", str(tmp_path / "words" / "train.csv"), str(tmp_path / "3gram.arpa")]) == 0
    options = {
        "data_folder": corpora / "switchboard",
        "hub5_folder": corpora / "hub5",
        "output_folder": tmp_path / "out",
        "language_model": tmp_path / "3gram.arpa",
        "corpus_options": "{dev_conversations: 2}",
        "encoder": f"{{channels: [4, 4, 8, 8], {SHALLOW}, output_size: 16, time_stride: 4}}",
        "states_per_phone": 1,
        "silence_states": 1,
        "iterations": "[{epochs: 1}, {epochs: 1, tied: True}]",
        "tied_states": 60,
        "min_frames": 5,
        "average_checkpoints": "[1]",
        "lm_weights": "[3]",
        "max_batch_length": 40,
        "train_dataloader_opts": "{num_workers: 0}",
        "precision": "fp32",
    }
    train("Switchboard")([str(hparams), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())])
    assert [row["epochs"] for row in rows(tmp_path / "out")] == ["1", "1"]
    assert (tmp_path / "out" / "hub5_test.txt").stat().st_size > 0
    assert list(json.loads((tmp_path / "out" / "scores.json").read_text())) == ["dev", "test", "hub5_test"]
    assert "as NIST scores" in (tmp_path / "out" / "log.txt").read_text()


def speechocean762(tmp_path: Path, **overrides: Any) -> list[str]:
    """Command line of the speechocean762 recipe on a corpus of its layout, with a tiny network."""
    options = {
        "data_folder": tmp_path / "speechocean762",
        "output_folder": tmp_path / "out",
        "corpus_options": "{dev_speakers: 4}",
        "encoder": f"{{channels: [4, 4, 8, 8], {SHALLOW}, output_size: 16, time_stride: 4}}",
        "states_per_phone": 1,
        "silence_states": 1,
        "iterations": "[{epochs: 1, tied: True}]",
        "tied_states": 30,
        "min_frames": 5,
        "average_checkpoints": "[1]",
        "lm_weights": "[3]",
        "precision": "fp32",
        **overrides,
    }
    hparams = REPOSITORY / "hparams" / "SpeechOcean762" / "hybrid_bl_resnet22_context.yaml"
    return [str(hparams), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())]


@pytest.mark.slow
def test_speechocean762_with_a_language_model_of_its_training_transcripts(tmp_path: Path) -> None:
    make_speechocean762(tmp_path / "speechocean762")
    out = tmp_path / "out"
    main_of_recipe = train("SpeechOcean762")
    main_of_recipe(speechocean762(tmp_path, skip_test=True))
    arpa = out / "save" / "language_model.arpa"
    assert main(["lm", str(out / "save" / "manifests" / "train.csv"), str(tmp_path / "3gram.arpa")]) == 0
    assert arpa.read_bytes() == (tmp_path / "3gram.arpa").read_bytes()
    log = (out / "log.txt").read_text()
    assert f"{arpa}: trained on the 12 training transcripts, 11 1-grams, " in log
    assert "too little text to estimate the discounts" in log
    vocabularies = "out of the training transcripts' vocabulary of 8 words, {} out of the decoding graph's of 8"
    dev = "0 of 40 words (0.00 %)"
    assert log.count(f"dev: {dev} are {vocabularies.format(dev)}") == 1 and "INFO - test: " not in log
    # Nothing is left to train, and test is scored now. ZOOS is said there alone: the lexicon has it, and the graph not.
    trained = arpa.read_bytes(), (out / "iterations.csv").read_text(), (out / "wer_dev.txt").read_text()
    main_of_recipe(speechocean762(tmp_path))
    assert trained == (arpa.read_bytes(), (out / "iterations.csv").read_text(), (out / "wer_dev.txt").read_text())
    test = "4 of 40 words (10.00 %)"
    assert f"test: {test} are {vocabularies.format(test)}" in (out / "log.txt").read_text()
    assert "ZOOS" in (out / "save" / "manifests" / "lexicon.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["null", "{}", "{order: 0}", "{order: 3.0}", "{n: 3}", "{order: 3, text: a}", "[3]"])
def test_an_impossible_language_model_is_refused(tmp_path: Path, wanted: str) -> None:
    write_corpus(tmp_path, TEXTS[:1])
    with pytest.raises(RecipeError, match=r"language_model: is .*, but must be an ARPA file, or \{order: 3\}"):
        start(small(tmp_path, language_model=wanted))


@pytest.mark.slow
def test_a_corpus_without_its_lexicon_is_named(tmp_path: Path) -> None:
    lexicon = make_speechocean762(tmp_path / "speechocean762") / "resource" / "lexicon.txt"
    lexicon.unlink()
    with pytest.raises(FileNotFoundError, match="has no lexicon to prepare; .* --lexicon FILE") as error:
        train("SpeechOcean762")(speechocean762(tmp_path))
    assert "\n" not in str(error.value) and str(tmp_path / "speechocean762") in str(error.value)
    assert f"{lexicon}: no such file" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.slow
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "iterations": "[{epochs: 1}, {epochs: 1, tied: True}]",
        "encoder": f"{{channels: [4, 4, 8, 8], {SHALLOW}, output_size: 16}}",
        "tied_states": 25,
        "min_frames": 1,
    }
    write_corpus(tmp_path / "whole", TEXTS[:2])
    whole = start(small(tmp_path / "whole", **options)).train()
    write_corpus(tmp_path / "parts", TEXTS[:2])
    original = FlatStart._align_by_network

    def interrupted(self: FlatStart, brain: Any, *arguments: Any) -> Any:
        if isinstance(brain.model.encoder, EveryFrame):
            return original(self, brain, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(FlatStart, "_align_by_network", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(small(tmp_path / "parts", **options)).train()
    monkeypatch.setattr(FlatStart, "_align_by_network", original)
    parts = start(small(tmp_path / "parts", **options)).train()
    assert read_tying(tmp_path / "parts/save/iterations/2/tying.npz").size == 25
    for name, value in whole.brain.model.state_dict().items():
        assert torch.equal(value, parts.brain.model.state_dict()[name]), name


def test_what_cannot_be_aligned_is_counted_listed_and_left_out(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    for name in ("train", "dev"):
        manifest = tmp_path / "save" / "manifests" / f"{name}.csv"
        manifest.write_text(manifest.read_text().replace(",DAB\n", "," + "DAB " * 20 + "\n"))
    system, plain = start(small(tmp_path)), monophones(("SIL", *"ABCDE"))
    system.align(1, None, plain, {})
    folder = tmp_path / "save" / "iterations" / "1"
    states = read_alignments(folder / "alignments.npz")
    assert system.table.rows[0].failed == 2 and set(states) == {
        f"u{index}{copy}" for index in (0, 2, 3, 4, 5) for copy in ("", "-0")
    }
    assert "2 of 12 utterances could not be aligned: u1 (31 frames" in (tmp_path / "log.txt").read_text()
    assert "u1," in (folder / "failed_alignments.csv").read_text()
    datasets = system.datasets(plain, states)
    assert "u1-0" not in datasets.train.data_ids and len(datasets.dev) == len(TEXTS)
    assert {row["id"]: row["num_tokens"] for row in datasets.dev}["u1"] == 0
    with pytest.raises(ValueError, match="could not be aligned.*; see to the lexicon, or set fewer states_per_phone"):
        system.align(1, None, monophones(plain.phones, 30), {})


def test_a_lexicon_that_lacks_words_of_the_transcripts_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    lexicon = tmp_path / "etc" / "an4.dic"
    lexicon.write_text("".join(line for line in lexicon.open() if not line.startswith("BAD ")))
    with pytest.raises(ValueError, match="the lexicon lacks 1 word of .*train.csv: BAD; add its pronunciation to it"):
        start(small(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "iterations, message",
    [
        ("[{epoch: 1}]", "iterations: .* is none; write"),
        ("[{epochs: 0}]", "iterations: .* is none; write"),
        ("[{epochs: 1, mmi: True}]", "the first cannot be mmi"),
        ("[{epochs: 1}, {epochs: 1, tied: True}, {epochs: 1}]", "none without tied states can follow"),
    ],
)
def test_impossible_iterations_are_refused(tmp_path: Path, iterations: str, message: str) -> None:
    write_corpus(tmp_path, TEXTS[:1])
    with pytest.raises(RecipeError, match=message):
        start(small(tmp_path, iterations=iterations))


def test_iterations_have_defaults() -> None:
    assert [each.tied for each in read_iterations([{"epochs": 1}, {"epochs": 3, "tied": True}])] == [False, True]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_linear_start_finds_where_phones_are(stride: int) -> None:
    """Frames of noise around a vector for each phone, of which uniform alignments are far."""
    generator = np.random.default_rng(0)
    lexicon = Lexicon({word: [tuple(word)] for word in ("BAD", "CAB", "DAB", "ACE", "BED")})
    tying = monophones(lexicon.phones, states=1, silence_states=1)
    centers = 3 * generator.standard_normal((len(lexicon.phones), 6))
    number = {phone: index for index, phone in enumerate(lexicon.phones)}
    words, vectors, spoken = {}, {}, {}
    for index in range(40):
        words[str(index)] = [str(each) for each in generator.choice(sorted(lexicon.pronunciations), 2)]
        phones = ["SIL", *"".join(words[str(index)]), "SIL"]
        lasting = generator.integers(2, 30, len(phones))
        spoken[str(index)] = np.repeat([number[phone] for phone in phones], lasting)
        noise = 0.5 * generator.standard_normal((lasting.sum(), 6))
        vectors[str(index)] = (centers[spoken[str(index)]] + noise).astype(np.float32)
    model = linear_model(tying, 6, stride)
    thinned = {name: each[::stride] for name, each in vectors.items()}
    fit(model, lexicon, tying, words, thinned)
    aligner, right, total = Aligner(lexicon, tying), 0, 0
    for name, frames in vectors.items():
        log_probs, count = model(torch.from_numpy(frames).unsqueeze(0), torch.tensor([len(frames)]))
        assert count.item() == len(thinned[name])
        found = tying.outputs[aligner.align(words[name], model.log_likelihoods(log_probs)[0].detach().numpy()).states]
        right += int((found == spoken[name][::stride]).sum())
        total += len(found)
    assert right > 0.97 * total


# Targets, loss and priors


def test_a_system_has_nothing_of_tokens() -> None:
    """It shares with recognizers of tokens what both have, and pretends to nothing else."""
    of_tokens = {name for name in vars(RecognitionBrain) if not hasattr(UtteranceBrain, name)}
    assert {"frames_needed", "decode", "check_targets_fit", "recognizer"} <= of_tokens
    assert not {name for name in of_tokens if hasattr(HybridBrain, name)}


def test_the_loss_is_the_weighted_cross_entropy_of_valid_frames() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(3, 8, 5).log_softmax(-1).requires_grad_()
    targets, counts, weights = torch.randint(0, 5, (3, 6)), torch.tensor([6, 0, 4]), torch.rand(5)
    losses, correct = frame_loss(log_probs, targets, counts, weights)
    for row, count in enumerate(counts.tolist()):
        nats = [weights[targets[row, t]] * -log_probs[row, t, targets[row, t]].detach() for t in range(count)]
        assert losses[row].item() == pytest.approx(float(sum(nats)), rel=1e-5)
    assert correct == sum(
        int(log_probs[row, t].argmax() == targets[row, t]) for row in range(3) for t in range(int(counts[row]))
    )
    losses.sum().backward()
    assert log_probs.grad is not None and not log_probs.grad[1].any() and not log_probs.grad[2, 4:].any()


@pytest.mark.parametrize("balance", [1.0, 0.8, 0.0])
def test_a_perfect_model_of_weighted_frames_gives_likelihoods_without_the_weights(balance: float) -> None:
    """What minimizes the weighted loss, divided by the priors, is p(frame | state) up to a factor a frame."""
    model = HybridModel(create_encoder("bl_resnet22_half", time_stride=1, channels=(4, 4, 4, 4)), 3)
    joint = torch.tensor([[30.0, 5.0, 1.0], [10.0, 15.0, 4.0]])
    model.set_frequencies(joint.sum(0), balance)
    assert (model.loss_weights * joint.sum(0)).sum() / joint.sum() == pytest.approx(1.0)
    best = (joint * model.loss_weights).log().log_softmax(-1)
    expected = (joint / joint.sum(0)).log()
    torch.testing.assert_close(
        model.log_likelihoods(best).log_softmax(-1), expected.log_softmax(-1), rtol=1e-4, atol=1e-5
    )


def test_states_in_context_begin_with_what_the_network_knew_without() -> None:
    torch.manual_seed(0)
    encoder = create_encoder("bl_resnet22_half", input_size=8, time_stride=1, channels=(4, 4, 4, 4))
    coarse, fine = HybridModel(encoder, 2).eval(), HybridModel(encoder, 5).eval()
    origin, counts = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([10, 20, 30, 40, 50])
    coarse.set_frequencies(torch.tensor([50, 100]), 0.5)
    fine.set_frequencies(counts, 0.5)
    fine.refine(coarse, origin)
    features, frames = torch.randn(1, 20, 8), torch.tensor([20])
    whole, parts = coarse(features, frames)[0].exp(), fine(features, frames)[0].exp()
    torch.testing.assert_close(torch.zeros_like(whole).index_add(2, origin, parts), whole)
    likelihoods = fine.log_likelihoods(fine(features, frames)[0])
    for state in (0, 1):
        same = likelihoods[..., origin == state]
        torch.testing.assert_close(same, same[..., :1].expand_as(same))


@pytest.mark.parametrize("frames", [1, 7, 10, 13, 100])
def test_stretched_targets_keep_their_order_and_proportions(frames: int) -> None:
    states = np.repeat(np.arange(5), 2)
    result = stretched(states, frames)
    assert len(result) == frames and (np.diff(result) >= 0).all()
    if frames == len(states):
        assert (result == states).all()
    if frames == 100:
        assert np.bincount(result).tolist() == [20] * 5


def test_change_looks_at_phones_and_positions_only(tmp_path: Path) -> None:
    (tmp_path / "a.dic").write_text("A AH\nB B IY\n")
    lexicon = read_lexicon(tmp_path / "a.dic")
    aligner = Aligner(lexicon, monophones(lexicon.phones, 1, 1))
    first, second = (aligner.uniform(words, 8).states for words in (["A", "B"], ["B", "A"]))
    tying = aligner.tying
    assert change(tying, {"u": first}, {"u": first, "v": second}) == 0.0
    expected = np.mean(tying.outputs[first] != tying.outputs[second])
    assert change(tying, {"u": first}, {"u": second}) == pytest.approx(100 * expected)


# Recipe files


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("hparams/*/hybrid_*.yaml")), ids=lambda path: path.name)
def test_every_recipe_file_loads(path: Path, tmp_path: Path) -> None:
    arguments = [str(path), *placeholders(path), f"--output_folder={tmp_path}"]
    hparams, _ = load_recipe(arguments, HybridRecipe)
    assert hparams["model"](output_neurons=5).log_prior.shape == (5,)
    assert hparams["encoder"].config.input_size == hparams["compute_features"].output_size
    read_iterations(hparams["iterations"])
