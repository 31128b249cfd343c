"""Log-mel filterbank features, optionally with deltas. The features of an utterance do not depend on its batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.nnet.streaming import StreamState

DELTA_SPAN = 2
"""Frames on each side of a delta's regression window, which has five frames in total, as in HTK and Kaldi."""


@dataclass(frozen=True)
class Form:
    """A variant of log-mel: how frames are cut from the waveform, and how filters weight energies."""

    window: Callable[..., Tensor]
    """Function that makes the window from its number of samples (periodic variant)."""
    mel_scale: str
    """Mel scale of the filters: "htk" or "slaney", as in torchaudio."""
    mel_norm: str | None
    """Normalization of the filters: "slaney" divides by half the width in Hz, so that all have the same area; None does
    not normalize."""
    preemphasis: float
    """Factor of the previous sample, which is subtracted from each sample."""
    reflect: bool
    """Whether an utterance is continued beyond its ends by mirroring, with the edge sample repeated; else by zeros."""
    first_center: float
    """Center of the first frame, in hops: 0 gives n // hop + 1 frames; 0.5 gives n / hop, rounded half up."""
    f_min: float
    """Default lower edge of the lowest filter in Hz."""
    floor: float


FORMS = {
    "hamming": Form(torch.hamming_window, "htk", None, 0.0, False, 0.0, 20.0, 1e-8),
    "sherpa_nemo": Form(torch.hann_window, "slaney", "slaney", 0.97, True, 0.5, 0.0, 2.0**-23),
}
"""Form by name.

- `hamming`: Hamming window, HTK's mel scale, no preemphasis, frames centered on every hop, zeros beyond the ends.
- `sherpa_nemo`: the features that sherpa-onnx computes for NeMo's CTC models, so that sherpa-onnx can run models
  trained on this form. They equal kaldi-native-fbank with a Hann window, Slaney's mel scale and area normalization
  (librosa's defaults), preemphasis, no dither, no removal of the mean, and `snip_edges=False`. kaldi-native-fbank
  rounds `n_fft` up to a power of two, so set `n_fft` to 256 at 8 kHz. For audio shorter than half a hop, it has no
  frame; this class has one.
"""


class LogMel(nn.Module):
    """Natural logarithm of mel filterbank energies.

    In every form, an utterance has the same frames alone and in a batch. Computation is in float32 even under autocast,
    as bfloat16's precision of 8 bits is too small for the range of energies.

    Arguments
    ---------
    sample_rate : int
        Hz.
    n_mels : int
        Number of mel bins F.
    n_fft : int
        Points of the Fourier transform. At 16 kHz, 512: with 400, the lowest of 80 filters would fall between two bins.
    win_length, hop_length : float
        Window and hop in ms.
    f_min : float, optional
        Lower edge of the lowest filter in Hz. Default: that of the form, 20 or 0. The upper edge of the highest filter
        is half the sample rate.
    floor : float, optional
        Smaller energies are raised to this, so that digital silence stays finite. Default: that of the form, 1e-8 or
        2^-23.
    deltas : bool
        Append first and second time derivatives: 3F features per frame, in the order static, delta, delta-delta.
    form : str
        Key of `FORMS`: "hamming", or "sherpa_nemo" for models that must run in other runtimes.

    Attributes
    ----------
    config : dict
        The arguments as plain data: `LogMel(**compute.config)` makes a copy.
    output_size : int
        Number of features per frame.
    center_samples : int
        Center of the first frame, 0 or half a hop: the center of frame t is sample `center_samples + t * hop_samples`.
    latency : float
        Audio after its center that a frame needs, in ms.

    Example
    -------
    >>> features, frames = LogMel()(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> features.shape, frames.tolist()
    (torch.Size([2, 101, 80]), [101, 51])
    >>> LogMel(form="sherpa_nemo")(torch.randn(2, 16000), torch.tensor([16000, 8000]))[1].tolist()
    [100, 50]
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 80,
        n_fft: int = 512,
        win_length: float = 25.0,
        hop_length: float = 10.0,
        f_min: float | None = None,
        floor: float | None = None,
        deltas: bool = False,
        form: str = "hamming",
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form is {form!r}, but must be one of {', '.join(FORMS)}.")
        self.form = FORMS[form]
        f_min = self.form.f_min if f_min is None else f_min
        floor = self.form.floor if floor is None else floor
        self.config: dict[str, Any] = {
            "sample_rate": sample_rate,
            "n_mels": n_mels,
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length,
            "f_min": f_min,
            "floor": floor,
            "deltas": deltas,
            "form": form,
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
        self.center_samples = int(self.form.first_center * self.hop_samples)
        # Samples of a window before and after its center, and its end relative to t * hop_samples of frame t.
        before_center = n_fft // 2 - (n_fft - window_samples) // 2
        after_center = window_samples - before_center
        self.window_end = self.center_samples + after_center
        # Samples that a stream keeps before t * hop_samples: all that the frame's window covers, also if mirrored at
        # the end. At least 1, which distinguishes a stream that has begun from a new one.
        self.left_samples = max(1, max(before_center, after_center) - self.center_samples)
        right_samples = max(self.window_end, self.hop_samples - self.left_samples) - self.center_samples
        right_frames = 2 * DELTA_SPAN if deltas else 0
        self.latency = 1000 * (right_samples + right_frames * self.hop_samples) / sample_rate
        self.floor = floor
        self.deltas = deltas
        self.output_size = n_mels * (3 if deltas else 1)
        self.mel: Any = MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=window_samples,
            hop_length=self.hop_samples,
            f_min=f_min,
            n_mels=n_mels,
            window_fn=self.form.window,
            mel_scale=self.form.mel_scale,
            norm=self.form.mel_norm,
            center=False,
        )

    def forward(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a batch.

        Arguments
        ---------
        wavs : Tensor
            (B, S) samples, zero after each utterance's end, full scale 1.
        num_samples : Tensor
            (B,) integer numbers of samples.

        Returns
        -------
        features : Tensor
            (B, T, F), or (B, T, 3F) with deltas; float32; zero after each utterance's end.
        frames : Tensor
            (B,) integer numbers of frames.
        """
        most = cast(int, self.output_lengths(wavs.shape[1]))
        if self.form.reflect:
            features = self._windowed(self._mirrored(wavs, num_samples), most, self.left_samples)
        else:
            features = self._windowed(wavs, most, 0)
        frames = cast(Tensor, self.output_lengths(num_samples))
        if self.deltas:
            first = delta(features, frames)
            features = torch.cat([features, first, delta(first, frames)], dim=-1)
        valid = valid_mask(frames, features.shape[1])
        return features.masked_fill(~valid.unsqueeze(-1), 0.0), frames

    def initial_state(self, batch: int = 1) -> StreamState:
        """Make the state before the first :meth:`step`, for `batch` parallel streams.

        Raises
        ------
        ValueError
            With deltas, which need future frames.
        """
        if self.deltas:
            raise ValueError("deltas look at the frames to come, so they cannot stream: set deltas to False")
        kept = cast(Tensor, self.mel.mel_scale.fb).new_zeros(batch, self.left_samples)
        # The state has samples from the next frame's first one on, and a placeholder for the samples before the stream,
        # which mirror samples that are still to come.
        return (kept[:, :0], kept) if self.form.reflect else (kept, kept[:, :0])

    def step(self, wavs: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Process the next samples of a stream, and return the frames whose windows they complete.

        A frame is returned `latency` ms after its center (default 12.5 ms), the last frames by :meth:`finish`. Together
        they equal the frames of the whole waveform.

        Arguments
        ---------
        wavs : Tensor
            (B, S) next samples of each stream; S may be 0.
        state : tuple of Tensor
            State of :meth:`initial_state` or of the last step. It is not modified.

        Returns
        -------
        features : Tensor
            (B, T, F).
        state : tuple of Tensor
            State after these samples.

        Example
        -------
        >>> compute = LogMel()
        >>> state = compute.initial_state()
        >>> first, state = compute.step(torch.randn(1, 1000), state)
        >>> second, state = compute.step(torch.randn(1, 600), state)
        >>> first.shape[1], second.shape[1], compute.finish(state).shape[1], compute.output_lengths(1600)
        (6, 3, 2, 11)
        """
        samples, unknown = torch.cat([state[0], wavs.float()], 1), state[1]
        needed = max(self.left_samples + self.window_end, self.hop_samples)
        if unknown.shape[1] + samples.shape[1] < needed:
            return self._windowed(samples, 0, 0), (samples, unknown)
        if unknown.shape[1]:
            places = torch.arange(-self.left_samples, 0, device=samples.device)
            samples = torch.cat([mirrored(samples, places, samples.shape[1]), samples], 1)
        frames = (samples.shape[1] - needed) // self.hop_samples + 1
        kept = samples[:, frames * self.hop_samples :].clone()
        return self._windowed(samples, frames, self.left_samples), (kept, unknown[:, :0])

    def finish(self, state: StreamState) -> Tensor:
        """End the stream, and return the frames (B, T, F) that still wait for samples."""
        samples, unknown = state
        count = samples.shape[1]
        if unknown.shape[1]:
            # The stream is shorter than a window, so no frame has been returned yet.
            return cast(Tensor, self(samples, torch.full((len(samples),), count, device=samples.device))[0])
        frames = cast(int, self._centers(count - self.left_samples))
        if self.form.reflect and frames:
            places = torch.arange(count, count + self.window_end, device=samples.device)
            samples = torch.cat([samples, mirrored(samples, places, count)], 1)
        return self._windowed(samples, frames, self.left_samples)

    def _mirrored(self, wavs: Tensor, num_samples: Tensor) -> Tensor:
        """Pad waveforms (B, S) by mirroring at each utterance's own ends, with `left_samples` at the beginning."""
        lengths = num_samples.unsqueeze(1)
        before = torch.arange(-self.left_samples, 0, device=wavs.device)
        behind = lengths + torch.arange(self.window_end, device=wavs.device)
        extended = functional.pad(wavs, (self.left_samples, self.window_end))
        if not wavs.shape[1]:
            return extended
        extended[:, : self.left_samples] = mirrored(wavs, before, lengths)
        return extended.scatter_(1, self.left_samples + behind, mirrored(wavs, behind, lengths))

    def _windowed(self, samples: Tensor, frames: int, left: int) -> Tensor:
        """Compute the first frames (B, T, F) of samples that begin `left` samples before the first frame's time."""
        if not frames:
            return samples.new_zeros(samples.shape[0], 0, self.mel.n_mels, dtype=torch.float32)
        # The window may be shorter than the Fourier transform; samples beside it are multiplied by zero. Preemphasis
        # needs one more sample before it.
        more = 1 if self.form.preemphasis else 0
        before = self.mel.n_fft // 2 - self.center_samples - left + more
        needed = (frames - 1) * self.hop_samples + self.mel.n_fft + more
        return self._log_mel(functional.pad(samples, (before, needed - before - samples.shape[1])))

    def _log_mel(self, samples: Tensor) -> Tensor:
        with torch.autocast(samples.device.type, enabled=False):
            samples = samples.float()
            if self.form.preemphasis:
                # Kaldi does this within each frame. The result is the same, as a Hann window begins with zero.
                samples = torch.sub(samples[:, 1:], samples[:, :-1], alpha=self.form.preemphasis)
            energies = self.mel(samples).transpose(1, 2)
            return energies.clamp(min=self.floor).log()

    def output_lengths(self, num_samples: Tensor | int) -> Tensor | int:
        """Number of frames of `num_samples` samples: all whose centers are within or just after them, at least one.

        Example
        -------
        >>> LogMel().output_lengths(1), LogMel(form="sherpa_nemo").output_lengths(240)
        (1, 2)
        """
        frames = self._centers(num_samples)
        return max(1, frames) if isinstance(frames, int) else frames.clamp(min=1)

    def _centers(self, num_samples: Tensor | int) -> Tensor | int:
        return (num_samples - self.center_samples) // self.hop_samples + 1


class MelSpectrogram(torchaudio.transforms.MelSpectrogram):
    """torchaudio's mel spectrogram of power, without centering, in a fourth of its time.

    torchaudio squares absolute values, which are square roots of the powers that are wanted.

    Example
    -------
    >>> options = {"n_fft": 512, "n_mels": 40, "center": False}
    >>> samples = torch.randn(1, 1000)
    >>> torchaudios = torchaudio.transforms.MelSpectrogram(**options)(samples)
    >>> torch.allclose(MelSpectrogram(**options)(samples), torchaudios, rtol=1e-5)
    True
    """

    def forward(self, waveform: Tensor) -> Tensor:
        """Map samples (B, S) to energies (B, n_mels, T)."""
        form = self.spectrogram
        spectrum = torch.stft(
            waveform, form.n_fft, form.hop_length, form.win_length, form.window, center=False, return_complex=True
        )
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        return cast(Tensor, self.mel_scale(torch.addcmul(real.square(), imaginary, imaginary)))


def mirrored(wavs: Tensor, places: Tensor, lengths: Tensor | int) -> Tensor:
    """Look up samples beyond the ends of waveforms, which are continued there by mirroring, many times if needed.

    Arguments
    ---------
    wavs : Tensor
        (B, S) samples; S is at least 1.
    places : Tensor
        (P,) or (B, P) integer positions. Position -1 mirrors the first sample, and a position equal to the length
        mirrors the last.
    lengths : Tensor or int
        (B, 1) integer numbers of samples. Results of empty utterances are undefined.

    Returns
    -------
    Tensor
        (B, P).

    Example
    -------
    >>> mirrored(torch.tensor([[1.0, 2.0, 3.0]]), torch.arange(-4, 7), 3).flatten().int().tolist()
    [3, 3, 2, 1, 1, 2, 3, 3, 2, 1, 1]
    """
    lengths = torch.as_tensor(lengths, device=wavs.device).clamp(min=1)
    places = places % (2 * lengths)
    return wavs.gather(1, torch.minimum(places, 2 * lengths - 1 - places).expand(len(wavs), -1))


def delta(features: Tensor, frames: Tensor) -> Tensor:
    """Compute time derivatives by linear regression over five frames; the first and last valid frames are repeated.

    HTK book, equation 5.16, with a window of 2.

    Arguments
    ---------
    features : Tensor
        (B, T, F).
    frames : Tensor
        (B,) integer numbers of valid frames.

    Returns
    -------
    Tensor
        (B, T, F) change per frame; undefined after each utterance's end.

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
