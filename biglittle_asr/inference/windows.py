"""Runs audio of any length through a network in constant memory, by overlapping windows that change no output.

The rule: a window begins at a multiple of the encoder's `alignment` and is read with the encoder's `context` on both
sides. Only frames with their full context are kept, each from one window. So the outputs equal those of one pass over
the whole, and words do not depend on where windows end. Features are cut in the same way. Sentence normalization uses
the statistics of the whole file, which is read twice for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from biglittle_asr.audio.resample import Samples
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.features.logmel import DELTA_SPAN

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer
    from biglittle_asr.models import BigLittleEncoder

FEATURE_BLOCK = 1000
"""Frames of features computed at once; the same for every window size, so that windows cannot change a feature."""


def outputs_by_windows(
    recognizer: Recognizer, blocks: Callable[[], Iterable[Samples]], window_seconds: float = 60.0
) -> Iterator[Tensor]:
    """Compute a recognizer's outputs for one utterance of any length, window by window.

    Arguments
    ---------
    recognizer : Recognizer
        Its encoder must have a finite context.
    blocks : function without arguments
        Returns a new iterable over the samples at the recognizer's sample rate, in blocks, at each call.
    window_seconds : float
        Kept part of a window, rounded to a multiple of the encoder's alignment. Longer windows cost memory; shorter
        ones cost time, since each computes its context again.

    Yields
    ------
    Tensor
        (T', V) log-probabilities, or (T', D). Concatenated, they equal those of one pass to 1e-5 in float32.

    Raises
    ------
    ValueError
        If the encoder's context is not finite (squeeze-excite).

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.inference import Recognizer
    >>> from biglittle_asr.models import CTCModel, create_encoder
    >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=4)
    >>> recognizer = Recognizer(LogMel(), SentenceNormalization(), model, CharacterTokenizer(" AB"))
    >>> samples = torch.randn(50000)
    >>> with torch.inference_mode():
    ...     windows = list(outputs_by_windows(recognizer, lambda: samples.numpy()[None], window_seconds=1))
    ...     whole, _ = recognizer(samples[None], torch.tensor([50000]))
    >>> [len(window) for window in windows]
    [24, 24, 31]
    >>> torch.allclose(torch.cat(windows), whole[0], atol=1e-4)
    True
    """
    compute, normalize, model = recognizer.compute_features, recognizer.normalize, recognizer.model
    watch, device = recognizer.stopwatch, model.output.weight.device

    def features() -> Iterator[Tensor]:
        read = (torch.from_numpy(block).to(device) for block in watch.each("reading", blocks()))
        return watch.each("features", feature_blocks(compute, read))

    if isinstance(normalize, SentenceNormalization):
        normalize_block = normalize.fitted(features())
    else:

        def normalize_block(block: Tensor) -> Tensor:
            return cast(Tensor, normalize(block[None], _length(block))[0])

    window_frames = round(window_seconds * compute.sample_rate / compute.hop_samples)
    for window, first, last in encoder_windows(model.encoder, map(normalize_block, features()), window_frames):
        outputs, _ = recognizer.outputs(window[None], _length(window))
        yield outputs[0, first:last]


def feature_blocks(compute_features: LogMel, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Compute features from samples in blocks.

    Arguments
    ---------
    compute_features : LogMel
    blocks : iterable of Tensor
        (S,) each.

    Yields
    ------
    Tensor
        (T, F). Concatenated, they are the features of the concatenated samples.

    Example
    -------
    >>> samples = torch.randn(40000)
    >>> features = torch.cat(list(feature_blocks(LogMel(), samples.split(999))))
    >>> features.shape, torch.allclose(features, LogMel()(samples[None], torch.tensor([40000]))[0][0], atol=1e-4)
    (torch.Size([251, 80]), True)
    """
    hop = compute_features.hop_samples
    # Frames on each side of a frame that share samples with it or enter its deltas.
    reach = -(-compute_features.mel.n_fft // (2 * hop)) + (2 * DELTA_SPAN if compute_features.deltas else 0)
    for samples, before, is_last in _overlapping(blocks, FEATURE_BLOCK * hop, reach * hop, reach * hop):
        first = before // hop
        last = None if is_last else first + FEATURE_BLOCK
        yield compute_features(samples[None], _length(samples))[0][0, first:last]


def encoder_windows(
    encoder: BigLittleEncoder, blocks: Iterable[Tensor], size: int
) -> Iterator[tuple[Tensor, int, int | None]]:
    """Cut features into windows for an encoder.

    Arguments
    ---------
    encoder : BigLittleEncoder
    blocks : iterable of Tensor
        (T, F) features of one utterance.
    size : int
        New frames per window, rounded to a positive multiple of the encoder's alignment.

    Yields
    ------
    Tensor and (int, int or None)
        (T, F) features of a window, and the range of its *output* frames to keep.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64), input_size=40)
    >>> [(len(window), first, last) for window, first, last in encoder_windows(encoder, torch.zeros(1, 999, 40), 500)]
    [(584, 0, 124), (615, 28, None)]
    """
    before, after = encoder.context
    step = encoder.alignment
    size = max(1, round(size / step)) * step
    for features, skipped, is_last in _overlapping(blocks, size, -(-before // step) * step, after):
        if len(features) > skipped:
            first = skipped // encoder.time_stride
            yield features, first, None if is_last else first + size // encoder.time_stride


def _overlapping(blocks: Iterable[Tensor], size: int, before: int, after: int) -> Iterator[tuple[Tensor, int, bool]]:
    """Cut a sequence, given in blocks, into pieces of `size` with context of `before` and `after` around each.

    Yields
    ------
    Tensor, int and bool
        A piece, the length of its context before, and whether it is the last piece, which reaches to the end.
    """
    buffer: list[Tensor] = []
    held = first = start = 0
    for block in blocks:
        buffer.append(block)
        held += len(block)
        while first + held >= start + size + after:
            joined = torch.cat(buffer)
            yield joined[: start + size + after - first], start - first, False
            start += size
            kept = joined[max(0, start - before) - first :]
            first += len(joined) - len(kept)
            buffer, held = [kept], len(kept)
    if buffer:
        yield torch.cat(buffer), start - first, True


def _length(sequence: Tensor) -> Tensor:
    return torch.tensor([len(sequence)], device=sequence.device)
