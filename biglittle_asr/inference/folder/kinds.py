"""The kinds of models that a model folder can hold, and everything in which they differ.

A kind is an entry of `KINDS`. The rest of this room, and the recipes that write folders, treat all models alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from speechbrain.nnet.RNN import AttentionalRNNDecoder
from torch import Tensor, nn

from biglittle_asr.decoding import BeamSearch, DecodingSettings, Search
from biglittle_asr.decoding.aligned import AlignedAttentionSearch, AlignedTransducerSearch
from biglittle_asr.decoding.attention import AttentionSettings
from biglittle_asr.decoding.hmm.decoder import AlignedHybridSearch, HybridSettings, SearchGraph
from biglittle_asr.decoding.transducer import TransducerSettings
from biglittle_asr.models import AttentionModel, CTCModel, HybridModel, TransducerModel
from biglittle_asr.tokens.tokenizer import Tokenizer, WordTokenizer

Report = Callable[[str], None]


class ForeignPartError(ValueError):
    """A model folder cannot hold a part, because it is not of this package."""


@dataclass(frozen=True)
class GreedySettings:
    """Greedy decoding has none."""


class Kind(ABC):
    """What tells models of a kind from others."""

    name: ClassVar[str]
    """In config.json."""
    title: ClassVar[str]
    """For people, on the model card."""
    head: ClassVar[str]
    """What stands behind the encoder, for people."""
    model: ClassVar[type[nn.Module]]
    arguments: ClassVar[Mapping[str, Any]] = {}
    """What config.json says of the model, beside its encoder and tokens: an example of each value."""
    own_tokens: ClassVar[int] = 0
    """Of the output layer, beside the tokenizer's, and behind them."""
    token_layers: ClassVar[Sequence[str]] = ()
    """Modules whose tensors have a row for each token; none if outputs are not tokens."""
    search_settings: ClassVar[type] = GreedySettings
    """Dataclass of what config.json says of its search."""
    interface: ClassVar[str] = "EncoderDecoderASR"
    """SpeechBrain's class that opens its folders."""
    tokenizer: ClassVar[Any] = Tokenizer
    """Class of what knows its tokens."""
    recipe: ClassVar[Mapping[str, str]] = {}
    """Keys of a recipe's YAML file at which the arguments stand, and what must be there; none if checkpoints lack what
    a model folder needs."""
    recipe_search: ClassVar[Mapping[str, str]] = {}
    """Key of a recipe's YAML file -> field of `search_settings`."""
    streams: ClassVar[bool] = False
    """Whether words can be told before the utterance ends."""
    takes_language_models: ClassVar[bool] = False
    """Whether its search does, and lexicons and hotwords."""

    @abstractmethod
    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        """A model for an encoder and so many tokens of a tokenizer, blank included."""

    @abstractmethod
    def describe(self, model: Any) -> dict[str, Any]:
        """The arguments that :meth:`build` needs; raises ForeignPartError if data alone cannot say them."""

    def tokens(self, model: Any) -> int:
        """Tokens that its tokenizer must have, blank included."""
        return int(model.output.out_features) - self.own_tokens

    def check(self, search: Any) -> None:  # noqa: B027 (most have nothing to check)
        """Check of a search what weights alone can say, once they are loaded; raises ValueError."""

    def describe_output(self, tokenizer: Tokenizer, model: Any) -> str:
        """Its tokens, for people."""
        return f"{tokenizer.size} tokens ({tokenizer.kind}, blank included)"

    def outputs(self, model: Any, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What decoding goes by (B, T', D), and integer frames (B,), of features (B, T, F) and frames (B,)."""
        found: tuple[Tensor, Tensor] = model.encode(features, frames)
        return found

    def everything(self, model: Any, features: Tensor, frames: Tensor) -> Sequence[Tensor]:
        """All that the model computes of features (B, T, F), for transcripts of one token."""
        one = torch.ones(len(features), dtype=torch.long, device=features.device)
        found: Sequence[Tensor] = model(features, frames, torch.zeros_like(one).unsqueeze(1), one)
        return found

    @abstractmethod
    def search(
        self, model: Any, tokenizer: Tokenizer, decoding: DecodingSettings | None, own: Any, report: Report
    ) -> Search | None:
        """The search that a user asks for, or without such wishes its own, with settings of its own; None: greedy.

        Raises
        ------
        OSError, ValueError
            If what is asked for cannot be read or does not apply to this kind.
        """

    @abstractmethod
    def describe_search(self, own: Any) -> str:
        """How its folders transcribe, for people, with settings of their own."""

    def output_macs(self, model: Any) -> int | None:
        """Multiply-accumulates a frame behind the encoder; None if they depend on what is said."""
        return None


class FrameKind(Kind):
    """Log-probabilities of every frame, from one layer behind the encoder."""

    head = "output layer"

    def outputs(self, model: Any, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = model(features, frames)
        return found

    def everything(self, model: Any, features: Tensor, frames: Tensor) -> Sequence[Tensor]:
        return self.outputs(model, features, frames)

    def output_macs(self, model: Any) -> int | None:
        macs: int = model.output.in_features * model.output.out_features
        return macs


class CTC(FrameKind):
    """Log-probabilities of every frame; greedy decoding, or flashlight's beam search."""

    name = "ctc"
    title = "CTC"
    model = CTCModel
    interface = "EncoderASR"
    recipe: ClassVar[Mapping[str, str]] = {"model": "!name:biglittle_asr.models.CTCModel"}
    token_layers = ("output",)
    streams = True
    takes_language_models = True

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        return CTCModel(encoder, tokens, **arguments)

    def describe(self, model: Any) -> dict[str, Any]:
        return {}

    def search(
        self, model: Any, tokenizer: Tokenizer, decoding: DecodingSettings | None, own: Any, report: Report
    ) -> Search | None:
        return None if decoding is None else BeamSearch(tokenizer, decoding, report)

    def describe_search(self, own: Any) -> str:
        return "Greedy decoding, no language model."


class Attention(Kind):
    """An attentional decoder of SpeechBrain's, with a CTC layer beside it; joint beam search."""

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
    recipe: ClassVar[Mapping[str, str]] = {
        "model": "!name:biglittle_asr.models.AttentionModel",
        "decoder": "!new:speechbrain.nnet.RNN.AttentionalRNNDecoder",
    }
    recipe_search: ClassVar[Mapping[str, str]] = {"test_beam_size": "beam_size", "ctc_decoding_weight": "ctc_weight"}

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        return _attention_model(encoder, tokens, **arguments)

    def describe(self, model: Any) -> dict[str, Any]:
        if type(model.decoder) is not AttentionalRNNDecoder:
            raise ForeignPartError(
                f"a model folder can hold SpeechBrain's AttentionalRNNDecoder, but not {type(model.decoder).__name__}."
            )
        if model.decoder.attn_type not in ATTENTION_TYPES:
            raise ForeignPartError(_other_attention(model.decoder.attn_type))
        found = {name: getattr(model.decoder, name) for name in self.arguments if name != "embedding_size"}
        size = model.embedding.embedding_dim
        return {"embedding_size": size, **{name: value for name, value in found.items() if value is not None}}

    def search(
        self, model: Any, tokenizer: Tokenizer, decoding: DecodingSettings | None, own: Any, report: Report
    ) -> Search | None:
        return AlignedAttentionSearch(model, tokenizer, decoding or DecodingSettings(), own)

    def describe_search(self, own: Any) -> str:
        return f"Beam search of {own.beam_size} hypotheses, CTC's weight {own.ctc_weight:g}, no language model."


ATTENTION_TYPES = ("content", "location")
"""The third, keyvalue, holds a number that is no weight, and so is lost where weights are loaded into a network."""


def _other_attention(kind: str) -> str:
    return f"a model folder can hold attention of the types {' and '.join(ATTENTION_TYPES)}, but not {kind}."


def _attention_model(encoder: Any, tokens: int, embedding_size: int, **decoder: Any) -> AttentionModel:
    if decoder.get("attn_type") not in (None, *ATTENTION_TYPES):
        raise ValueError(_other_attention(decoder["attn_type"]))
    # Its weights will be loaded: none need be drawn the expensive way.
    network = AttentionalRNNDecoder(enc_dim=encoder.output_size, input_size=embedding_size, re_init=False, **decoder)
    return AttentionModel(encoder, network, tokens, embedding_size)


class Transducer(Kind):
    """A prediction and a joint network; greedy or beam search."""

    name = "transducer"
    title = "transducer"
    head = "prediction and joint network"
    model = TransducerModel
    arguments: ClassVar[Mapping[str, Any]] = {"prediction_size": 320, "joint_size": 320}
    token_layers = ("embedding", "output")
    search_settings = TransducerSettings
    recipe: ClassVar[Mapping[str, str]] = {"model": "!name:biglittle_asr.models.TransducerModel"}
    recipe_search: ClassVar[Mapping[str, str]] = {"test_beam_size": "beam_size"}

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        return TransducerModel(encoder, tokens, **arguments)

    def describe(self, model: Any) -> dict[str, Any]:
        return {
            "prediction_size": model.embedding.embedding_dim,
            "joint_size": model.project_encoded.out_features,
        }

    def search(
        self, model: Any, tokenizer: Tokenizer, decoding: DecodingSettings | None, own: Any, report: Report
    ) -> Search | None:
        return AlignedTransducerSearch(model, tokenizer, decoding or DecodingSettings(), own)

    def describe_search(self, own: Any) -> str:
        return f"Beam search of {own.beam_size} hypotheses (1: greedy), no language model."


class Hybrid(FrameKind):
    """Log-probabilities of tied states of hidden Markov models at every frame; search in a graph of words."""

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

    def build(self, encoder: Any, tokens: int, arguments: Mapping[str, Any]) -> nn.Module:
        sizes = dict(arguments)
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

    def check(self, search: Any) -> None:
        # The search keeps them.
        _ = search.parts

    def describe_output(self, tokenizer: Tokenizer, model: Any) -> str:
        return f"{model.num_states} tied states, searched for {tokenizer.size - 1} words"

    def search(
        self, model: Any, tokenizer: Any, decoding: DecodingSettings | None, own: Any, report: Report
    ) -> Search | None:
        return AlignedHybridSearch(model, tokenizer, decoding or DecodingSettings(), own)

    def describe_search(self, own: Any) -> str:
        return f"Search in its graph of lexicon and language model, whose weight is {own.lm_weight:g}."


KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (CTC(), Attention(), Transducer(), Hybrid())}
"""Kind by its name."""


def kind_of(model: nn.Module) -> Kind:
    """The kind of a model, or of the class that its own class derives from.

    Raises
    ------
    ForeignPartError
        If it is of none.

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
