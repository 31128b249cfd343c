"""Audio of any length through a network in flat memory, by overlapping windows that change nothing.

The rule: a window begins at a multiple of the encoder's `alignment` and is read with the encoder's `context` on both
sides; only the frames whose context it holds are kept, and each frame is kept of one window. So the network's outputs
are those of one pass over the whole, and words do not depend on where windows end. Features are cut the same way, and
sentence normalization goes by the whole file, which is read twice for it.
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
"""Frames that are computed at once; the same for windows of every size, so that these cannot change a feature."""


def outputs_by_windows(
    recognizer: Recognizer, blocks: Callable[[], Iterable[Samples]], window_seconds: float = 60.0
) -> Iterator[Tensor]:
    """A recognizer's outputs for one utterance of any length, window by window.

    Arguments
    ---------
    recognizer : Recognizer
        Its encoder must have a finite context.
    blocks : function without arguments
        Gives the samples at the recognizer's sample rate, block by block, anew each time it is called.
    window_seconds : float
        What of a window is kept, rounded to whole steps of the encoder's alignment. Longer windows cost memory,
        shorter ones time, for the context is computed again in each.

    Yields
    ------
    Tensor
        (T', V) log-probabilities, or (T', D); joined, they equal those of one pass to 1e-5 in float32.

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
    """Features of samples that come in blocks.

    Arguments
    ---------
    compute_features : LogMel
    blocks : iterable of Tensor
        (S,) each.

    Yields
    ------
    Tensor
        (T, F); joined, they are what the joined samples give.

    Example
    -------
    >>> samples = torch.randn(40000)
    >>> features = torch.cat(list(feature_blocks(LogMel(), samples.split(999))))
    >>> features.shape, torch.allclose(features, LogMel()(samples[None], torch.tensor([40000]))[0][0], atol=1e-4)
    (torch.Size([251, 80]), True)
    """
    hop = compute_features.hop_samples
    # Frames on each side of a frame that see some of its samples, or that its deltas see.
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
        (T, F) features, joined one utterance.
    size : int
        Frames that a window adds, rounded to a multiple of the encoder's alignment, and at least one of it.

    Yields
    ------
    Tensor and (int, int or None)
        (T, F) features of a window, and which of its *output* frames to keep.

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
    """Cut a sequence, which comes in blocks, into pieces of `size` with as much before and after them as they need.

    Yields
    ------
    Tensor, int and bool
        A piece, how much of it lies before its own part, and whether it is the last, which goes on to the end.
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
