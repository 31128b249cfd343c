"""Augmentation for training: speed and spectrum of a waveform, and SpecAugment on a batch of features.

All draw from torch's global generator, so a seed makes them reproducible.
"""

from collections.abc import Sequence

import torch
import torchaudio
from torch import Tensor, nn


class SpeedPerturbation(nn.Module):
    """Play a waveform at a randomly chosen speed (Ko et al. 2015, "Audio augmentation for speech recognition").

    Arguments
    ---------
    orig_freq : int
        Sample rate of input and result in Hz.
    speeds : sequence of float
        Speeds to draw from with equal probability; 0.9 makes the waveform 1/0.9 times as long.

    Example
    -------
    >>> SpeedPerturbation(16000, speeds=[0.5])(torch.randn(100)).shape
    torch.Size([200])
    """

    def __init__(self, orig_freq: int, speeds: Sequence[float] = (0.9, 1.0, 1.1)) -> None:
        super().__init__()
        if not speeds or min(speeds) <= 0:
            raise ValueError(f"speeds must name at least one speed, all above 0, but is {list(speeds)}.")
        self.speeds = tuple(speeds)
        # One resampler per speed, so that each filter kernel is computed once.
        self.resamplers = nn.ModuleList(
            nn.Identity() if speed == 1.0 else torchaudio.transforms.Resample(round(speed * orig_freq), orig_freq)
            for speed in speeds
        )

    def forward(self, wav: Tensor) -> Tensor:
        """Perturb one waveform (S,) into (S',)."""
        choice = int(torch.randint(len(self.resamplers), ()))
        return self.resamplers[choice](wav)


class RandomFilter(nn.Module):
    """Filter a waveform at random, as another microphone, room or voice would.

    The gain in dB is linear between points at equal distances in mel, and uniform at each point: the "linear" kind of
    FilterAugment (Nam et al. 2022, "FilterAugment: an acoustic environmental data augmentation method"), here with
    fixed points, and on the waveform, so that it suits every form of features.

    Arguments
    ---------
    sample_rate : int
        Hz.
    gain : float
        Largest gain and attenuation in dB. The default is that of the paper.
    points : int
        Number of points, from 0 Hz to half the sample rate; at least 2.

    Example
    -------
    >>> RandomFilter(16000)(torch.randn(100)).shape
    torch.Size([100])
    """

    def __init__(self, sample_rate: int, gain: float = 6.0, points: int = 6) -> None:
        super().__init__()
        if points < 2 or gain < 0:
            raise ValueError(f"points must be at least 2 and gain at least 0, but are {points} and {gain}.")
        self.sample_rate = sample_rate
        self.gain = gain
        self.points = points

    def forward(self, wav: Tensor) -> Tensor:
        """Filter one waveform (S,) into (S,)."""
        # At least 0.1 s of zeros behind the waveform keeps its end out of its start, which would follow in a circular
        # convolution. A power of two is fast.
        size = 1 << (len(wav) + self.sample_rate // 10).bit_length()
        spectrum = torch.fft.rfft(wav, size)
        hertz = torch.linspace(0, self.sample_rate / 2, len(spectrum), device=wav.device)
        mel = torch.log1p(hertz / 700)
        position = mel / mel[-1] * (self.points - 1)
        left = position.floor().long().clamp(max=self.points - 2)
        gains = (2 * torch.rand(self.points, device=wav.device) - 1) * self.gain
        decibels = torch.lerp(gains[left], gains[left + 1], position - left)
        return torch.fft.irfft(spectrum * 10 ** (decibels / 20), size)[: len(wav)]


class SpecAugment(nn.Module):
    """Zero random bands of frequency and time, in training mode only (Park et al. 2019, "SpecAugment").

    Features must be normalized, so that zero is their mean. Time masks lie within the valid frames of each utterance;
    their number and width depend on its length ("adaptive" masks, Park et al. 2020).

    Arguments
    ---------
    freq_masks : int
        Number of frequency masks per utterance.
    freq_width : int
        Widest frequency mask, in bins; widths are uniform from 0.
    time_masks_per_frame : float
        Number of time masks per frame of an utterance, rounded down, but at least one mask.
    max_time_masks : int
        Largest number of time masks; 0 for none.
    time_width : int
        Widest time mask, in frames; widths are uniform from 0.
    max_time_fraction : float
        Largest fraction of an utterance's frames that its time masks cover together.
    channels : int
        Number of groups of bins that get the same frequency mask: 3 for features with deltas.

    Example
    -------
    >>> augment = SpecAugment()
    >>> features, frames = torch.ones(2, 50, 80), torch.tensor([50, 20])
    >>> augment(features, frames).shape
    torch.Size([2, 50, 80])
    >>> torch.equal(augment.eval()(features, frames), features)
    True
    """

    def __init__(
        self,
        freq_masks: int = 2,
        freq_width: int = 27,
        time_masks_per_frame: float = 0.02,
        max_time_masks: int = 10,
        time_width: int = 40,
        max_time_fraction: float = 0.25,
        channels: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= max_time_fraction <= 1:
            raise ValueError(f"max_time_fraction must lie between 0 and 1, but is {max_time_fraction}.")
        self.freq_masks = freq_masks
        self.freq_width = freq_width
        self.time_masks_per_frame = time_masks_per_frame
        self.max_time_masks = max_time_masks
        self.time_width = time_width
        self.max_time_fraction = max_time_fraction
        self.channels = channels

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Mask (B, T, channels * F) features with (B,) integer numbers of valid frames."""
        if not self.training:
            return features
        masked = self._frequency_mask(features).unsqueeze(1) | self._time_mask(features, frames).unsqueeze(2)
        return features.masked_fill(masked, 0.0)

    def _frequency_mask(self, features: Tensor) -> Tensor:
        bins = features.shape[2] // self.channels
        widest = features.new_full((features.shape[0], self.freq_masks), min(self.freq_width, bins))
        return draw_bands(widest, torch.full_like(widest, bins), bins).repeat(1, self.channels)

    def _time_mask(self, features: Tensor, frames: Tensor) -> Tensor:
        count = (frames * self.time_masks_per_frame).long().clamp(min=1, max=self.max_time_masks)
        widest = (frames * self.max_time_fraction / count.clamp(min=1)).floor().clamp(max=self.time_width)
        used = torch.arange(self.max_time_masks, device=frames.device) < count.unsqueeze(1)
        return draw_bands(widest.unsqueeze(1) * used, frames.unsqueeze(1).expand_as(used), features.shape[1])


def draw_bands(widest: Tensor, limits: Tensor, size: int) -> Tensor:
    """Draw M bands in each of B rows, and return their union.

    Arguments
    ---------
    widest : Tensor
        (B, M) largest width of each band; widths are uniform from 0 to this, inclusive.
    limits : Tensor
        (B, M) limits; a band lies within [0, limit).
    size : int
        Length of a row.

    Returns
    -------
    Tensor
        (B, size) bool, true inside a band.

    Example
    -------
    >>> bands = draw_bands(torch.tensor([[3]]), torch.tensor([[5]]), size=8)
    >>> bands[:, 5:].any().item()
    False
    """
    widths = (torch.rand(widest.shape, device=widest.device) * (widest + 1)).long()
    starts = (torch.rand(widest.shape, device=widest.device) * (limits - widths + 1)).long()
    positions = torch.arange(size, device=widest.device)
    inside = (positions >= starts.unsqueeze(-1)) & (positions < (starts + widths).unsqueeze(-1))
    return inside.any(dim=1)
