"""The kinds of speech models that a model folder can hold: their parts and their outputs.

A kind is an entry of `KINDS`. Its search is defined in `searches.py`, and `packing.py` makes it of a recipe's
checkpoint; all other code treats all models alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from biglittle_asr.decoding.hmm.decoder import HybridSettings, SearchGraph
from biglittle_asr.decoding.settings import AttentionSettings, TransducerSettings
from biglittle_asr.inference.folder.searches import ATTENTION, CTC_SEARCH, HYBRID, TRANSDUCER, GreedySettings, Searching
from biglittle_asr.models import AttentionModel, CTCModel, HybridModel, TransducerModel
from biglittle_asr.tokens.tokenizer import Tokenizer, WordTokenizer


class ForeignPartError(ValueError):
    """A model folder cannot hold a part that is not of this package."""


class Kind:
    """The properties in which speech models differ."""

    name: ClassVar[str]
    """Name in config.json."""
    title: ClassVar[str]
    """Name on the model card."""
    head: ClassVar[str]
    """The part after the encoder, for display."""
    model: ClassVar[type[nn.Module]]
    arguments: ClassVar[Mapping[str, Any]] = {}
    """The model's keys in config.json, beside its encoder and tokens, with an example of each value."""
    own_tokens: ClassVar[int] = 0
    """Number of tokens of the output layer that follow those of the tokenizer."""
    token_layers: ClassVar[Sequence[str]] = ()
    """Modules whose tensors have one row per token; empty if outputs are not tokens."""
    search_settings: ClassVar[type] = GreedySettings
    """Dataclass of the search settings in config.json."""
    interface: ClassVar[str] = "EncoderDecoderASR"
    """SpeechBrain class that opens its folders."""
    tokenizer: ClassVar[Any] = Tokenizer
    """Class of its tokenizer."""
    searching: ClassVar[Searching]

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        """Build a model from an encoder and the number of the tokenizer's tokens, blank included."""
        return self.model(encoder, tokens, **arguments)

    def describe(self, model: Any) -> dict[str, Any]:
        """The arguments that :meth:`build` needs; raises ForeignPartError if they cannot be written as data."""
        return {}

    def tokens(self, model: Any) -> int:
        """Number of tokens that the tokenizer must have, blank included."""
        return int(model.output.out_features) - self.own_tokens

    def describe_output(self, tokenizer: Tokenizer, model: Any) -> str:
        """Describe the model's tokens for display."""
        return f"{tokenizer.size} tokens ({tokenizer.kind}, blank included)"

    def outputs(self, model: Any, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs for decoding (B, T', D) and frames (B,) from features (B, T, F) and frames (B,)."""
        found: tuple[Tensor, Tensor] = model.encode(features, frames)
        return found

    def outputs_of(self, model: Any, encoded: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The part of :meth:`outputs` after the encoder: takes its frames (B, T', D) and their numbers (B,)."""
        return encoded.float(), frames

    def everything(self, model: Any, features: Tensor, frames: Tensor) -> Sequence[Tensor]:
        """Compute all outputs of the model from features (B, T, F), with transcripts of one token."""
        one = torch.ones(len(features), dtype=torch.long, device=features.device)
        found: Sequence[Tensor] = model(features, frames, torch.zeros_like(one).unsqueeze(1), one)
        return found

    def output_macs(self, model: Any) -> int | None:
        """Multiply-accumulates per frame after the encoder; None if they depend on the words."""
        return None


class FrameKind(Kind):
    """Models that give log-probabilities for every frame, from one layer after the encoder."""

    head = "output layer"

    def outputs(self, model: Any, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = model(features, frames)
        return found

    def outputs_of(self, model: Any, encoded: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        return model.log_probs(encoded), frames

    def everything(self, model: Any, features: Tensor, frames: Tensor) -> Sequence[Tensor]:
        return self.outputs(model, features, frames)

    def output_macs(self, model: Any) -> int | None:
        macs: int = model.output.in_features * model.output.out_features
        return macs


class CTC(FrameKind):
    """Log-probabilities of tokens for every frame, with greedy decoding or flashlight's beam search."""

    name = "ctc"
    title = "CTC"
    model = CTCModel
    interface = "EncoderASR"
    token_layers = ("output",)
    searching = CTC_SEARCH


class Attention(Kind):
    """SpeechBrain's attentional decoder with a CTC layer beside it, and joint beam search."""

    name = "attention"
    title = "attention encoder-decoder with CTC"
    head = "decoder"
    model = AttentionModel
    arguments: ClassVar[Mapping[str, Any]] = {
        "embedding_size": 128,
        "rnn_type": "gru",
        "attn_type": "location",
        "hidden_size": 512,
        "attn_dim": 512,
        "num_layers": 1,
        "nonlinearity": "relu",
        "scaling": 1.0,
        "channels": 10,
        "kernel_size": 100,
        "bias": True,
    }
    own_tokens = 2
    token_layers = ("embedding", "ctc_output", "output")
    search_settings = AttentionSettings
    searching = ATTENTION

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        from speechbrain.nnet.RNN import AttentionalRNNDecoder

        decoder = dict(arguments)
        size = decoder.pop("embedding_size", self.arguments["embedding_size"])
        if decoder.get("attn_type") not in (None, *ATTENTION_TYPES):
            raise ValueError(_other_attention(decoder["attn_type"]))
        # Weights will be loaded, so re_init's slow initialization is not needed.
        network = AttentionalRNNDecoder(enc_dim=encoder.output_size, input_size=size, re_init=False, **decoder)
        return AttentionModel(encoder, network, tokens, size)

    def describe(self, model: Any) -> dict[str, Any]:
        from speechbrain.nnet.RNN import AttentionalRNNDecoder

        if type(model.decoder) is not AttentionalRNNDecoder:
            raise ForeignPartError(
                f"a model folder can hold SpeechBrain's AttentionalRNNDecoder, but not {type(model.decoder).__name__}."
            )
        if model.decoder.attn_type not in ATTENTION_TYPES:
            raise ForeignPartError(_other_attention(model.decoder.attn_type))
        found = {name: getattr(model.decoder, name) for name in self.arguments if name != "embedding_size"}
        size = model.embedding.embedding_dim
        return {"embedding_size": size, **{name: value for name, value in found.items() if value is not None}}


ATTENTION_TYPES = ("content", "location")
"""The third type, keyvalue, has a number that is not in its state dict, and would be lost in a model folder."""


def _other_attention(kind: str) -> str:
    return f"a model folder can hold attention of the types {' and '.join(ATTENTION_TYPES)}, but not {kind}."


class Transducer(Kind):
    """A prediction network and a joint network, with greedy or beam search."""

    name = "transducer"
    title = "transducer"
    head = "prediction and joint network"
    model = TransducerModel
    arguments: ClassVar[Mapping[str, Any]] = {"prediction_size": 320, "joint_size": 320}
    token_layers = ("embedding", "output")
    search_settings = TransducerSettings
    searching = TRANSDUCER

    def outputs_of(self, model: Any, encoded: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = model.project(encoded, frames)
        return found

    def describe(self, model: Any) -> dict[str, Any]:
        return {
            "prediction_size": model.embedding.embedding_dim,
            "joint_size": model.project_encoded.out_features,
        }


class Hybrid(FrameKind):
    """Log-probabilities of tied HMM states for every frame, with search in a word graph."""

    name = "hybrid"
    title = "hybrid HMM system"
    model = HybridModel
    arguments: ClassVar[Mapping[str, Any]] = {
        "tied_states": 400,
        "phones": 40,
        "positions": 3,
        "arcs": 1000,
        "final_states": 10,
    }
    tokenizer = WordTokenizer
    search_settings = HybridSettings
    searching = HYBRID

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        sizes = {**self.arguments, **arguments}
        return HybridModel(encoder, sizes.pop("tied_states"), search_graph=SearchGraph(tokens - 1, **sizes))

    def describe(self, model: Any) -> dict[str, Any]:
        if model.search_graph is None:
            raise ForeignPartError(
                "a model folder can hold hybrid models with their own graph and its lexicon, but not one that is "
                "searched in another program's graph, whose lexicon is not known."
            )
        return {"tied_states": model.num_states, **model.search_graph.sizes}

    def tokens(self, model: Any) -> int:
        if model.search_graph is None:
            raise ValueError("the hybrid model has no search_graph; make one by SearchGraph.of(graph, tying)")
        return int(model.search_graph.words) + 1

    def describe_output(self, tokenizer: Tokenizer, model: Any) -> str:
        return f"{model.num_states} tied states, searched for {tokenizer.size - 1} words"


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (CTC(), Attention(), Transducer(), Hybrid())}
"""Kinds by name."""


def kind_of(model: nn.Module) -> Kind:
    """The kind of a model, or of the class that its own class derives from.

    Raises
    ------
    ForeignPartError
        If it is of no kind.

    Example
    -------
    >>> kind_of(nn.Linear(1, 1))
    Traceback (most recent call last):
    biglittle_asr.inference.folder.kinds.ForeignPartError: a model folder can hold CTCModel, AttentionModel, \
TransducerModel, HybridModel, but not Linear.
    """
    by_class = {kind.model: kind for kind in KINDS.values()}
    for each in type(model).__mro__:
        if each in by_class:
            return by_class[each]
    names = ", ".join(kind.model.__name__ for kind in KINDS.values())
    raise ForeignPartError(f"a model folder can hold {names}, but not {type(model).__name__}.")
