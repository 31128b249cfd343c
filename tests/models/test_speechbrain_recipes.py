"""The lines of docs/swapping.md behind the commands of SpeechBrain's own recipes, on the recipes' real files.

They are skipped without a checkout of SpeechBrain beside the repository, or where BIGLITTLE_SPEECHBRAIN says.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from torch import Tensor, nn
from torchaudio.functional import rnnt_loss

from biglittle_asr.models import BigLittleEncoder
from support.networks import assert_near, randomize_batchnorm
from support.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "swapping.md").read_text()
ROWS = re.findall(r"^\| `(\w+/ASR/\w+)` \| `(\w+\.yaml)` \| `(--.*)` \|$", PAGE, re.MULTILINE)
RECIPES = Path(os.environ.get("BIGLITTLE_SPEECHBRAIN", REPOSITORY.parent / "speechbrain")) / "recipes"

every_row = pytest.mark.parametrize("recipe, settings, lines", ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
pytestmark = pytest.mark.skipif(not RECIPES.is_dir(), reason="no SpeechBrain checkout; set BIGLITTLE_SPEECHBRAIN")


class Batch:
    """Two utterances, and what any recipe reads of a batch."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.id = ["a", "b"]
        self.sig = 0.1 * torch.randn(2, 24000, generator=generator), torch.tensor([1.0, 0.5])
        self.tokens = torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.tensor([1.0, 2 / 3])
        self.tokens_bos = torch.tensor([[1, 3, 4, 5], [1, 6, 7, 0]]), torch.tensor([1.0, 0.75])
        self.tokens_eos = torch.tensor([[3, 4, 5, 2], [6, 7, 2, 0]]), torch.tensor([1.0, 0.75])
        self.phn_encoded, self.phn_encoded_bos, self.phn_encoded_eos = self.tokens, self.tokens_bos, self.tokens_eos

    def to(self, device: Any) -> Batch:
        """As a batch of SpeechBrain's."""
        return self


def included_files(folder: Path) -> dict[str, Path]:
    """The page's own YAML files, by name, written to a folder."""
    found = {}
    for name, text in re.findall(r"`(\w+\.yaml)`[^`]*?(?:`[^`]*`)?:?,?\n\n((?:    .*\n)+)", PAGE):
        found[name] = folder / name
        found[name].write_text(re.sub(r"^    ", "", text, flags=re.MULTILINE))
    return found


def load(recipe: str, settings: str, lines: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Run options and hyperparameters of a recipe's command with these lines behind it."""
    for name, path in included_files(folder).items():
        lines = lines.replace(f"/path/to/{name}", str(path))
    file = RECIPES / recipe / "hparams" / settings
    paths = [f"--{key}={folder}" for key in re.findall(r"^(\w+): *!PLACEHOLDER", file.read_text(), re.MULTILINE)]
    arguments = [*shlex.split(lines.replace("/path/to", str(REPOSITORY))), *paths, f"--output_folder={folder}"]
    precision = ["--device=cpu", "--precision=fp32", "--eval_precision=fp32"]
    _, options, overrides = sb.parse_arguments([str(file), *arguments, *precision])
    with file.open() as stream:
        return options, load_hyperpyyaml(stream, overrides)


def brain(recipe: str, options: Any, hparams: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Brain of a recipe's train.py."""
    hparams.pop("wav_augment", None)  # reads files of noise
    script = RECIPES / recipe / "train.py"
    monkeypatch.syspath_prepend(str(script.parent))
    spec = importlib.util.spec_from_file_location(f"their_{recipe.replace('/', '_')}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, sb.Brain)]
    (made,) = (each for each in classes if each is not sb.Brain)
    return made(hparams["modules"], functools.partial(torch.optim.SGD, lr=0.01), hparams, options)


def transducer_loss(
    logits: Tensor, targets: Tensor, input_lens: Tensor, target_lens: Tensor, blank_index: int, reduction: str = "mean"
) -> Tensor:
    """SpeechBrain's, which needs a GPU, by torchaudio."""
    frames, tokens = (
        (lengths * size).round().int()
        for lengths, size in ((input_lens, logits.shape[1]), (target_lens, targets.shape[1]))
    )
    return rnnt_loss(logits, targets.int(), frames, tokens, blank_index, reduction=reduction)


def test_the_page_has_rows_and_files(tmp_path: Path) -> None:
    assert len(ROWS) >= 12 and set(included_files(tmp_path)) >= {"timit.yaml", "commonvoice.yaml"}


@every_row
def test_recipe_trains_this_encoder(
    recipe: str, settings: str, lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechbrain.nnet.losses.transducer_loss", transducer_loss)
    trained = brain(recipe, *load(recipe, settings, lines, tmp_path), monkeypatch)
    (ours,) = (each for each in trained.modules.modules() if isinstance(each, BigLittleEncoder))
    trained.modules.train()
    trained.on_stage_start(sb.Stage.TRAIN, 1)
    batch = Batch()
    outputs = trained.compute_forward(batch, sb.Stage.TRAIN)
    trained.compute_objectives(outputs, batch, sb.Stage.TRAIN).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in ours.parameters())


def first(name: str, hparams: dict[str, Any], feats: Tensor, wav_lens: Tensor) -> Tensor:
    """What the recipe's encoder makes of features, with the page's lines."""
    if not isinstance(hparams[name], BigLittleEncoder):
        return hparams["enc"](hparams["CNN"](feats), wav_lens, pad_idx=0)
    encoded = hparams[name](feats, wav_lens)
    return hparams["Transformer"].encode(encoded, wav_lens) if name == "CNN" else encoded


@every_row
def test_what_the_page_says_of_batches(recipe: str, settings: str, lines: str, tmp_path: Path) -> None:
    _, hparams = load(recipe, settings, lines, tmp_path)
    (name,) = (each for each in ("model", "enc", "CNN") if isinstance(hparams.get(each), BigLittleEncoder))
    for each in hparams["modules"].values():
        if isinstance(each, nn.Module):
            randomize_batchnorm(each.eval(), torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    feats = torch.randn(2, 200, hparams[name].config.input_size)
    feats[1, 80:] = 0
    with torch.no_grad():
        together = first(name, hparams, feats, torch.tensor([1.0, 0.4]))[1:]
        alone = first(name, hparams, feats[1:, :80], torch.ones(1))
    if name == "CNN" and "conformer" in settings:
        assert (together[:, : alone.shape[1]] - alone).abs().max() > 0.01
    else:
        assert_near(together[:, : alone.shape[1]], alone)


@pytest.mark.parametrize("override", ["{input_size: 40}", "!include:PRESET {input_size: 40}"])
def test_mappings_on_the_command_line_train_speechbrains_encoder(override: str, tmp_path: Path) -> None:
    """What the page warns of: should HyperPyYAML change, so should the page."""
    override = override.replace("PRESET", f"{REPOSITORY}/hparams/encoders/bl_resnet22.yaml")
    lines = f"--n_mels 80 --enc {shlex.quote(override)}"
    _, hparams = load("LibriSpeech/ASR/seq2seq", "train_BPE_1000.yaml", lines, tmp_path)
    assert type(hparams["enc"]).__name__ == "CRDNN"
