"""Beam search for attention models: SpeechBrain's, made independent of the batch."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from speechbrain.decoders import CTCScorer, S2SRNNBeamSearcher, ScorerBuilder
from torch import Tensor

from biglittle_asr.tokens.tokenizer import BLANK


@dataclass(frozen=True)
class AttentionSettings:
    """Settings of the search in an attention model.

    Raises
    ------
    ValueError
        If beam_size, ctc_weight, max_decode_ratio or temperature is out of range.
    """

    beam_size: int = 10
    """Hypotheses kept behind each token; 1 searches greedily."""
    ctc_weight: float = 0.0
    """Weight of CTC's prefix scores, from 0 to below 1; 1 minus it is that of the decoder's."""
    max_decode_ratio: float = 1.0
    """Most tokens a frame of the encoder."""
    temperature: float = 1.0
    """Of the decoder's softmax."""
    length_normalization: bool = True
    """Rank hypotheses by their score a token."""
    using_eos_threshold: bool = True
    """Let a hypothesis end only where its end is likely enough; see `eos_threshold`."""
    eos_threshold: float = 1.5
    """The end's log-probability, times this, must exceed the best other token's."""
    using_max_attn_shift: bool = False
    """Drop hypotheses whose attention jumps; see `max_attn_shift`."""
    max_attn_shift: int = 60
    """Frames by which the peak of attention may move from a token to the next."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.beam_size < 1 or not 0 <= self.ctc_weight < 1:
            raise ValueError(
                "a search needs a beam of at least 1 and a ctc_weight from 0 to below 1: not "
                f"{self.beam_size}, {self.ctc_weight}"
            )
        if self.max_decode_ratio <= 0 or self.temperature <= 0:
            raise ValueError(
                "a search needs a max_decode_ratio and a temperature above 0: not "
                f"{self.max_decode_ratio}, {self.temperature}"
            )


class AttentionSearcher(S2SRNNBeamSearcher):
    """Joint CTC and attention beam search (Watanabe et al. 2017, "Hybrid CTC/attention architecture").

    SpeechBrain's search lets an utterance have as many tokens as the longest of its batch has frames. Here each has a
    limit of its own, `max_decode_ratio` times its own frames, so that it comes out the same in any batch. Neither the
    blank nor the beginning of a transcript is ever put out.

    Arguments
    ---------
    model : AttentionModel
        Its decoder is SpeechBrain's `AttentionalRNNDecoder`.
    **settings
        Fields of :class:`AttentionSettings`; all but the first three are SpeechBrain's.

    Example
    -------
    >>> from speechbrain.nnet.RNN import AttentionalRNNDecoder
    >>> from biglittle_asr.models import AttentionModel, create_encoder
    >>> encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64))
    >>> decoder = AttentionalRNNDecoder("gru", "content", 32, 32, 1, enc_dim=encoder.output_size, input_size=16)
    >>> model = AttentionModel(encoder, decoder, output_neurons=5, embedding_size=16).eval()
    >>> searcher = AttentionSearcher(model, beam_size=2, ctc_weight=0.3)
    >>> encoded, frames = encoder.encode(torch.randn(2, 24, 80), torch.tensor([24, 12]))
    >>> len(searcher.search(encoded, frames))
    2
    """

    def __init__(self, model: Any, **settings: Any) -> None:
        chosen = AttentionSettings(**settings)
        options = asdict(chosen)
        ctc_weight = options.pop("ctc_weight")
        scorer = None
        if ctc_weight > 0:
            ctc = CTCScorer(ctc_fc=model.ctc_output, blank_index=BLANK, eos_index=model.eos)
            scorer = ScorerBuilder(partial_scorers=[ctc], weights={"ctc": ctc_weight})
        super().__init__(
            embedding=model.embedding,
            decoder=model.decoder,
            linear=model.output,
            bos_index=model.bos,
            eos_index=model.eos,
            min_decode_ratio=0.0,
            scorer=scorer,
            return_topk=True,
            topk=chosen.beam_size,
            **options,
        )
        self.settings = chosen

    def search(self, encoded: Tensor, frames: Tensor) -> list[list[int]]:
        """Tokens of each utterance, out of encoded frames (B, T', D) and (B,) integer frames."""
        return [found[0][0] for found in self.candidates(encoded, frames)]

    @torch.no_grad()
    def candidates(self, encoded: Tensor, frames: Tensor) -> list[list[tuple[list[int], float]]]:
        """What the beam holds at the end: tokens and scores of each utterance's hypotheses, the best first."""
        tokens, lengths, scores, _ = self(encoded, frames / encoded.shape[1])
        counts = (lengths * tokens.shape[2]).round().int()
        return [
            [
                (row[:count], score)
                for rank, (row, count, score) in enumerate(zip(*utterance, strict=True))
                # A beam wider than what there is to choose from is filled up with the impossible.
                if rank == 0 or score > self.minus_inf / 2
            ]
            for utterance in zip(tokens.tolist(), counts.tolist(), scores.tolist(), strict=True)
        ]

    def init_beam_search_data(self, *arguments: Any) -> Any:
        """SpeechBrain's preparation; of a single frame, too, something is said."""
        prepared = super().init_beam_search_data(*arguments)
        self.max_decode_steps: int = max(1, self.max_decode_steps)
        return prepared

    def set_n_out(self) -> int:
        """Size of the output layer."""
        size: int = self.fc.out_features
        return size

    def forward_step(self, inp_tokens: Tensor, memory: Any, enc_states: Tensor, enc_lens: Tensor) -> Any:
        """SpeechBrain's step; what no transcript holds is impossible."""
        log_probs, memory, attention = super().forward_step(inp_tokens, memory, enc_states, enc_lens)
        log_probs[:, [BLANK, self.bos_index]] = self.minus_inf
        return log_probs, memory, attention

    def search_step(self, *arguments: Any) -> Any:
        """SpeechBrain's step; utterances that are at their limit then end as its search does at the longest's."""
        *_, enc_lens, step = arguments
        result = super().search_step(*arguments)
        alive, ended, scores = result[0], result[3], result[8]
        at_limit = step + 1 >= (enc_lens * self.max_decode_ratio).int()
        tokens = torch.where(at_limit, self.eos_index, self.bos_index)
        self._update_hyps_and_scores_if_eos_token(tokens, alive, ended, scores)
        return result
