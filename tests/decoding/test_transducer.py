"""The transducer's loss and searches against their definitions."""

import itertools
import math

import pytest
import torch
from speechbrain.decoders.transducer import TransducerBeamSearcher

from biglittle_asr.decoding.transducer import TransducerBeamSearch, TransducerGreedySearcher
from biglittle_asr.models import TransducerModel, create_encoder
from biglittle_asr.tasks.speech.transducer import transducer_loss

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


@pytest.mark.slow
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
