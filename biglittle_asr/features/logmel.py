"""Log-mel filterbank features, optionally with deltas, that do not depend on the batch."""

from typing import Any, cast

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.nnet.streaming import StreamState

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
    latency : float
        ms of audio behind its center that a frame waits for, in a stream or in any other way.

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
        self.window_samples = window_samples
        self.left_samples = n_fft // 2 - (n_fft - window_samples) // 2
        right_samples = max(window_samples, self.hop_samples) - self.left_samples
        right_frames = 2 * DELTA_SPAN if deltas else 0
        self.latency = 1000 * (right_samples + right_frames * self.hop_samples) / sample_rate
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
            center=False,
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
        features = self._log_mel(functional.pad(wavs, (self.mel.n_fft // 2, self.mel.n_fft // 2)))
        frames = cast(Tensor, self.output_lengths(num_samples))
        if self.deltas:
            first = delta(features, frames)
            features = torch.cat([features, first, delta(first, frames)], dim=-1)
        valid = valid_mask(frames, features.shape[1])
        return features.masked_fill(~valid.unsqueeze(-1), 0.0), frames

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first :meth:`step`, for `batch` streams that run side by side.

        Raises
        ------
        ValueError
            With deltas, which look at the frames to come.
        """
        if self.deltas:
            raise ValueError("deltas look at the frames to come, so they cannot stream: set deltas to False")
        return (cast(Tensor, self.mel.mel_scale.fb).new_zeros(batch, self.left_samples),)

    def step(self, wavs: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """The features of a stream: the next samples in, the frames out whose window they complete.

        A frame comes out `latency` ms after its center, 12.5 ms by default; the last ones come out of :meth:`finish`.
        Put together, they are the frames of the whole waveform.

        Arguments
        ---------
        wavs : Tensor
            (B, S) the next samples of each stream; 0 or more.
        state : tuple of Tensor
            From :meth:`initial_state` or the last step. It is left as it was.

        Returns
        -------
        features : Tensor
            (B, T, F).
        state : tuple of Tensor
            Behind these samples.

        Example
        -------
        >>> compute = LogMel()
        >>> state = compute.initial_state()
        >>> first, state = compute.step(torch.randn(1, 1000), state)
        >>> second, state = compute.step(torch.randn(1, 600), state)
        >>> first.shape[1], second.shape[1], compute.finish(state).shape[1], compute.output_lengths(1600)
        (6, 3, 2, 11)
        """
        # What is kept begins with the first sample under the next frame's window.
        samples = torch.cat([state[0], wavs.float()], 1)
        frames = max(0, (samples.shape[1] - max(self.window_samples, self.hop_samples)) // self.hop_samples + 1)
        return self._windowed(samples, frames), (samples[:, frames * self.hop_samples :].clone(),)

    def finish(self, state: StreamState) -> Tensor:
        """The frames (B, T, F) that still wait for samples, which now are zeros: the end of the stream."""
        (samples,) = state
        return self._windowed(samples, (samples.shape[1] - self.left_samples) // self.hop_samples + 1)

    def _windowed(self, samples: Tensor, frames: int) -> Tensor:
        """The first frames (B, T, F) of samples that begin with the first one under a window."""
        if not frames:
            return samples.new_zeros(samples.shape[0], 0, self.output_size)
        # The window is shorter than the Fourier transform, so that what is beside it is multiplied by zero.
        before = self.mel.n_fft // 2 - self.left_samples
        needed = (frames - 1) * self.hop_samples + self.mel.n_fft
        return self._log_mel(functional.pad(samples, (before, needed - before - samples.shape[1])))

    def _log_mel(self, samples: Tensor) -> Tensor:
        with torch.autocast(samples.device.type, enabled=False):
            energies = self.mel(samples.float()).transpose(1, 2)
            return energies.clamp(min=self.floor).log()

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
