"""SpeechBrain's beam search for attention models, with results that do not depend on the batch."""

from dataclasses import asdict
from typing import Any

import torch
from speechbrain.decoders import CTCScorer, S2SRNNBeamSearcher, ScorerBuilder
from torch import Tensor

from biglittle_asr.decoding.settings import AttentionSettings
from biglittle_asr.tokens.tokenizer import BLANK


class AttentionSearcher(S2SRNNBeamSearcher):
    """Joint CTC and attention beam search (Watanabe et al. 2017, "Hybrid CTC/attention architecture").

    SpeechBrain's search limits the tokens of every utterance by the frames of the longest one in the batch. Here each
    utterance is limited to `max_decode_ratio` times its own frames, so that results do not depend on the batch. The
    blank and the start token are never output.

    Arguments
    ---------
    model : AttentionModel
        Its decoder is SpeechBrain's `AttentionalRNNDecoder`.
    **settings
        Fields of :class:`AttentionSettings`; all but the first three are SpeechBrain's own.

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
        """Find each utterance's tokens from encoded frames (B, T', D) and (B,) integer numbers of frames."""
        return [found[0][0] for found in self.candidates(encoded, frames)]

    @torch.no_grad()
    def candidates(self, encoded: Tensor, frames: Tensor) -> list[list[tuple[list[int], float]]]:
        """Return the final beam: tokens and scores of each utterance's hypotheses, best first."""
        tokens, lengths, scores, _ = self(encoded, frames / encoded.shape[1])
        counts = (lengths * tokens.shape[2]).round().int()
        return [
            [
                (row[:count], score)
                for rank, (row, count, score) in enumerate(zip(*utterance, strict=True))
                # A beam wider than the number of choices is filled up with impossible hypotheses.
                if rank == 0 or score > self.minus_inf / 2
            ]
            for utterance in zip(tokens.tolist(), counts.tolist(), scores.tolist(), strict=True)
        ]

    def init_beam_search_data(self, *arguments: Any) -> Any:
        """Prepare as SpeechBrain does, but decode a single frame too."""
        prepared = super().init_beam_search_data(*arguments)
        self.max_decode_steps: int = max(1, self.max_decode_steps)
        return prepared

    def set_n_out(self) -> int:
        """Size of the output layer."""
        size: int = self.fc.out_features
        return size

    def forward_step(self, inp_tokens: Tensor, memory: Any, enc_states: Tensor, enc_lens: Tensor) -> Any:
        """Do SpeechBrain's step, but make the blank and the start token impossible."""
        log_probs, memory, attention = super().forward_step(inp_tokens, memory, enc_states, enc_lens)
        log_probs[:, [BLANK, self.bos_index]] = self.minus_inf
        return log_probs, memory, attention

    def search_step(self, *arguments: Any) -> Any:
        """Do SpeechBrain's step, but end each utterance at its own limit of tokens, not at the batch's."""
        *_, enc_lens, step = arguments
        result = super().search_step(*arguments)
        alive, ended, scores = result[0], result[3], result[8]
        at_limit = step + 1 >= (enc_lens * self.max_decode_ratio).int()
        tokens = torch.where(at_limit, self.eos_index, self.bos_index)
        self._update_hyps_and_scores_if_eos_token(tokens, alive, ended, scores)
        return result
