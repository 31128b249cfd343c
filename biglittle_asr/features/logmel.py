"""Log-mel filterbank features, optionally with deltas, that do not depend on the batch."""

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
"""Frames on each side of a delta's regression window, as in HTK and Kaldi (five frames in all)."""


@dataclass(frozen=True)
class Form:
    """How frames are cut from the waveform, and how energies are weighed: what makes two kinds of log-mel differ."""

    window: Callable[..., Tensor]
    """Makes the window of so many samples, in its periodic variant."""
    mel_scale: str
    """Where filters lie: "htk" or "slaney", as in torchaudio."""
    mel_norm: str | None
    """What a filter is divided by: "slaney", half its width in Hz, so that all have the same area; None: nothing."""
    preemphasis: float
    """This share of the sample before is subtracted from each sample."""
    reflect: bool
    """Beyond its ends, an utterance goes on mirrored, its first or last sample repeated; else with zeros."""
    first_center: float
    """Center of the first frame, in hops: 0 gives n // hop + 1 frames; 0.5 gives n / hop, rounded half up."""
    f_min: float
    """Hz."""
    floor: float


FORMS = {
    "hamming": Form(torch.hamming_window, "htk", None, 0.0, False, 0.0, 20.0, 1e-8),
    "sherpa_nemo": Form(torch.hann_window, "slaney", "slaney", 0.97, True, 0.5, 0.0, 2.0**-23),
}
"""Name -> form.

- `hamming`: Hamming window, HTK's mel scale, no preemphasis, frames centered on every hop, zeros beyond the ends.
- `sherpa_nemo`: what sherpa-onnx feeds to NeMo's CTC models, so that it runs models trained on this form. These are the
  features of kaldi-native-fbank with a Hann window, Slaney's mel scale and area normalization (librosa's defaults),
  preemphasis, neither dither nor removal of the mean, and `snip_edges=False`. It takes the next power of two for
  `n_fft`: set that to 256 at 8 kHz. Audio shorter than half a hop has one frame here, and none there.
"""


class LogMel(nn.Module):
    """Natural logarithm of mel filterbank energies.

    The frames of an utterance are the same alone and in a batch, in every form. Always float32, under autocast too: the
    energies span more than the 8 bits of bfloat16 can hold.

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
    f_min : float, optional
        Lower edge of the lowest filter, in Hz; the upper edge of the highest is half the sample rate. Default: the
        form's, 20 or 0.
    floor : float, optional
        Energies below it count as it, so that digital silence stays finite. Default: the form's, 1e-8 or 2^-23.
    deltas : bool
        Append first and second time derivatives: 3F features a frame, in the order static, delta, delta-delta.
    form : str
        Key of `FORMS`: "hamming", or "sherpa_nemo" for models that other runtimes shall run.

    Attributes
    ----------
    config : dict
        The arguments, as plain data: `LogMel(**compute.config)` is its twin.
    output_size : int
        Features of a frame.
    center_samples : int
        The center of frame t is sample `center_samples + t * hop_samples`: 0, or half a hop.
    latency : float
        ms of audio behind its center that a frame waits for, in a stream or in any other way.

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
        # Samples of a window on either side of its center, and where it ends, relative to the frame's t * hop_samples.
        before_center = n_fft // 2 - (n_fft - window_samples) // 2
        after_center = window_samples - before_center
        self.window_end = self.center_samples + after_center
        # What a stream keeps in front of t * hop_samples: all that the frame's window sees, mirrored at the end or not;
        # and something in any case, which tells a stream that has begun from one that has not.
        self.left_samples = max(1, max(before_center, after_center) - self.center_samples)
        right_samples = max(self.window_end, self.hop_samples - self.left_samples) - self.center_samples
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
        """The state before the first :meth:`step`, for `batch` streams that run side by side.

        Raises
        ------
        ValueError
            With deltas, which look at the frames to come.
        """
        if self.deltas:
            raise ValueError("deltas look at the frames to come, so they cannot stream: set deltas to False")
        kept = cast(Tensor, self.mel.mel_scale.fb).new_zeros(batch, self.left_samples)
        # Samples, beginning with the first one that the next frame sees; and a place for those in front of the stream
        # that are not known yet, since what they mirror is still to come.
        return (kept[:, :0], kept) if self.form.reflect else (kept, kept[:, :0])

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
        """The frames (B, T, F) that still wait for samples: this is the end of the stream."""
        samples, unknown = state
        count = samples.shape[1]
        if unknown.shape[1]:
            # Shorter than a window: no frame is out yet.
            return cast(Tensor, self(samples, torch.full((len(samples),), count, device=samples.device))[0])
        frames = cast(int, self._centers(count - self.left_samples))
        if self.form.reflect and frames:
            places = torch.arange(count, count + self.window_end, device=samples.device)
            samples = torch.cat([samples, mirrored(samples, places, count)], 1)
        return self._windowed(samples, frames, self.left_samples)

    def _mirrored(self, wavs: Tensor, num_samples: Tensor) -> Tensor:
        """Waveforms (B, S) with `left_samples` in front and some behind, mirrored at each utterance's own ends."""
        lengths = num_samples.unsqueeze(1)
        before = torch.arange(-self.left_samples, 0, device=wavs.device)
        behind = lengths + torch.arange(self.window_end, device=wavs.device)
        extended = functional.pad(wavs, (self.left_samples, self.window_end))
        if not wavs.shape[1]:
            return extended
        extended[:, : self.left_samples] = mirrored(wavs, before, lengths)
        return extended.scatter_(1, self.left_samples + behind, mirrored(wavs, behind, lengths))

    def _windowed(self, samples: Tensor, frames: int, left: int) -> Tensor:
        """The first frames (B, T, F) of samples that begin `left` of them in front of the first frame's time."""
        if not frames:
            return samples.new_zeros(samples.shape[0], 0, self.mel.n_mels, dtype=torch.float32)
        # The window is shorter than the Fourier transform, so that what is beside it is multiplied by zero. Preemphasis
        # needs one sample more in front.
        more = 1 if self.form.preemphasis else 0
        before = self.mel.n_fft // 2 - self.center_samples - left + more
        needed = (frames - 1) * self.hop_samples + self.mel.n_fft + more
        return self._log_mel(functional.pad(samples, (before, needed - before - samples.shape[1])))

    def _log_mel(self, samples: Tensor) -> Tensor:
        with torch.autocast(samples.device.type, enabled=False):
            samples = samples.float()
            if self.form.preemphasis:
                # Kaldi does this within each frame. It is the same, for a Hann window begins with zero.
                samples = torch.sub(samples[:, 1:], samples[:, :-1], alpha=self.form.preemphasis)
            energies = self.mel(samples).transpose(1, 2)
            return energies.clamp(min=self.floor).log()

    def output_lengths(self, num_samples: Tensor | int) -> Tensor | int:
        """Frames of `num_samples` samples: as many as have their center in or just behind them, but at least one.

        Example
        -------
        >>> LogMel().output_lengths(1), LogMel(form="sherpa_nemo").output_lengths(240)
        (1, 2)
        """
        frames = self._centers(num_samples)
        return max(1, frames) if isinstance(frames, int) else frames.clamp(min=1)

    def _centers(self, num_samples: Tensor | int) -> Tensor | int:
        return (num_samples - self.center_samples) // self.hop_samples + 1


def mirrored(wavs: Tensor, places: Tensor, lengths: Tensor | int) -> Tensor:
    """Samples at places before the beginning or behind the end of waveforms, which are mirrored there, many times over.

    Arguments
    ---------
    wavs : Tensor
        (B, S), at least one sample.
    places : Tensor
        (P,) or (B, P) integers; -1 is the first sample, and the length of an utterance its last.
    lengths : Tensor or int
        (B, 1) integer samples of each utterance; of none, the value means nothing.

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
