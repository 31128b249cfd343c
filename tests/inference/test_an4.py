"""Real AN4, where it is at hand: the whole path from its files to words does not depend on the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from speechbrain.dataio.dataio import load_data_csv
from torch.nn.utils.rnn import pad_sequence

from biglittle_asr.audio.files import read_audio
from biglittle_asr.corpora import prepare
from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.models import CTCModel, create_encoder
from support.networks import randomize_batchnorm

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("preset", ["bl_resnet22", "resnet22"])
def test_every_test_utterance_has_one_transcript(preset: str, an4_folder: Path, tmp_path: Path) -> None:
    """Features, normalization, network and decoding at batch sizes 1, 4 and 16, with random statistics and weights."""
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(7)
    model = CTCModel(create_encoder(preset, channels=(8, 16, 32, 64)), output_neurons=29).eval()
    randomize_batchnorm(model, generator)
    rows = load_data_csv(prepare("an4", an4_folder, tmp_path)["test"])
    wavs = [torch.from_numpy(read_audio(row["wav"])[0]) for row in rows.values()]
    compute_features, normalize = LogMel(), SentenceNormalization()

    def transcribe(batch_size: int) -> list[list[int]]:
        tokens: list[list[int]] = []
        for start in range(0, len(wavs), batch_size):
            batch = wavs[start : start + batch_size]
            padded = pad_sequence(batch, batch_first=True)
            features, frames = compute_features(padded, torch.tensor([len(wav) for wav in batch]))
            with torch.no_grad():
                tokens += ctc_greedy(*model(normalize(features, frames), frames))
        return tokens

    alone = transcribe(1)
    assert sum(map(len, alone)) > len(wavs)
    assert transcribe(4) == alone
    assert transcribe(16) == alone
