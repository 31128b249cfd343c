"""Log-mel filterbank features, optionally with deltas, that do not depend on the batch."""

from typing import Any, cast

import torch
import torchaudio
from torch import Tensor, nn

from biglittle_asr.nnet.lengths import valid_mask

DELTA_SPAN = 2
"""Frames on each side of a delta's regression window, as in HTK and Kaldi (five frames in all)."""


class LogMel(nn.Module):
    """Natural logarithm of mel filterbank energies.

    A frame is centered on every `hop_length`; the waveform is extended by zeros on both sides. Zeros are also what
    pads a batch, so the frames of an utterance are the same alone and in a batch. Always float32, under autocast too:
    the energies span more than the 8 bits of bfloat16 can hold.

    Arguments
    ---------
    sample_rate : int
        Hz.
    n_mels : int
        Mel bins F.
    n_fft : int
        Points of the Fourier transform. 512 at 16 kHz: with 400, the lowest of 80 filters would fall between two bins.
    win_length, hop_length : float
        ms.
    f_min : float
        Lower edge of the lowest filter, in Hz; the upper edge of the highest is half the sample rate.
    floor : float
        Energies below it count as it, so that digital silence stays finite.
    deltas : bool
        Append first and second time derivatives: 3F features a frame, in the order static, delta, delta-delta.

    Attributes
    ----------
    config : dict
        The arguments, as plain data: `LogMel(**compute.config)` is its twin.
    output_size : int
        Features of a frame.

    Example
    -------
    >>> features, frames = LogMel()(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> features.shape, frames.tolist()
    (torch.Size([2, 101, 80]), [101, 51])
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 80,
        n_fft: int = 512,
        win_length: float = 25.0,
        hop_length: float = 10.0,
        f_min: float = 20.0,
        floor: float = 1e-8,
        deltas: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "sample_rate": sample_rate,
            "n_mels": n_mels,
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length,
            "f_min": f_min,
            "floor": floor,
            "deltas": deltas,
        }
        self.sample_rate = sample_rate
        self.hop_samples = round(sample_rate * hop_length / 1000)
        window_samples = round(sample_rate * win_length / 1000)
        if window_samples > n_fft:
            raise ValueError(
                f"n_fft={n_fft} is shorter than the window of {win_length} ms at {sample_rate} Hz: "
                f"set n_fft to at least {window_samples}."
            )
        self.floor = floor
        self.deltas = deltas
        self.output_size = n_mels * (3 if deltas else 1)
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=window_samples,
            hop_length=self.hop_samples,
            f_min=f_min,
            n_mels=n_mels,
            window_fn=torch.hamming_window,
            center=True,
            pad_mode="constant",
        )

    def forward(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a batch.

        Arguments
        ---------
        wavs : Tensor
            (B, S), zero behind each utterance's end, full scale 1.
        num_samples : Tensor
            (B,) integer samples of each utterance.

        Returns
        -------
        features : Tensor
            (B, T, F), or (B, T, 3F) with deltas; float32; zero behind each utterance's end.
        frames : Tensor
            (B,) integer frames of each utterance.
        """
        with torch.autocast(wavs.device.type, enabled=False):
            energies = self.mel(wavs.float()).transpose(1, 2)
            features = energies.clamp(min=self.floor).log()
        frames = cast(Tensor, self.output_lengths(num_samples))
        if self.deltas:
            first = delta(features, frames)
            features = torch.cat([features, first, delta(first, frames)], dim=-1)
        valid = valid_mask(frames, features.shape[1])
        return features.masked_fill(~valid.unsqueeze(-1), 0.0), frames

    def output_lengths(self, num_samples: Tensor | int) -> Tensor | int:
        """Frames of `num_samples` samples.

        Example
        -------
        >>> LogMel().output_lengths(1)
        1
        """
        return num_samples // self.hop_samples + 1


def delta(features: Tensor, frames: Tensor) -> Tensor:
    """Time derivative by linear regression over five frames, the first and last valid frames repeated at the ends.

    HTK book, equation 5.16, with a window of 2.

    Arguments
    ---------
    features : Tensor
        (B, T, F).
    frames : Tensor
        (B,) integer valid frames.

    Returns
    -------
    Tensor
        (B, T, F), change per frame; meaningless behind each utterance's end.

    Example
    -------
    >>> ramp = torch.arange(6.0).view(1, 6, 1)
    >>> delta(ramp, torch.tensor([6])).flatten().tolist()
    [0.5, 0.800000011920929, 1.0, 1.0, 0.800000011920929, 0.5]
    """
    times = torch.arange(features.shape[1], device=features.device)
    last = (frames - 1).clamp(min=0).unsqueeze(1)
    slopes = torch.zeros_like(features)
    for distance in range(1, DELTA_SPAN + 1):
        later = torch.minimum((times + distance).unsqueeze(0), last)
        earlier = (times - distance).clamp(min=0).expand_as(later)
        slopes = slopes + distance * (_frames_at(features, later) - _frames_at(features, earlier))
    return slopes / (2 * sum(distance**2 for distance in range(1, DELTA_SPAN + 1)))


def _frames_at(features: Tensor, times: Tensor) -> Tensor:
    return features.gather(1, times.unsqueeze(-1).expand_as(features))
