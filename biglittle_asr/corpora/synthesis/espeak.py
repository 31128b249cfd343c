"""The espeak-ng speech synthesizer, called in this process through the library in the wheel espeakng-loader.

Constants and signatures are those of espeak-ng's `speak_lib.h`.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from math import gcd
from types import TracebackType

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from biglittle_asr.extras import missing_extra

AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POSITION_CHARACTER = 1
RANDOM_SEED = 1
PARAMETER_RATE, PARAMETER_PITCH = 1, 3

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """A synthesizer, for use in a `with` block.

    The jitter and breath of its voices continue from sentence to sentence, as a speaker's do, but start anew in every
    object: the same calls in the same order give the same samples.

    Attributes
    ----------
    sample_rate : int
        Sample rate in Hz of the result of `speak`.

    Raises
    ------
    ModuleNotFoundError
        If espeakng-loader is not installed.
    RuntimeError
        If espeak-ng does not start.

    Example
    -------
    >>> with Espeak() as espeak:
    ...     samples = espeak.speak("good morning", voice="en-us+f2", rate=175, pitch=50)
    >>> samples.dtype, len(samples) > 0.5 * espeak.sample_rate
    (dtype('int16'), True)
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(missing_extra("speech synthesis needs espeakng-loader", "demo", error)) from error
        self._data_path = espeakng_loader.get_data_path().encode()
        self._library = _load_copy(espeakng_loader.get_library_path())
        self._chunks: list[npt.NDArray[np.int16]] = []
        # The library keeps only the address: the object must live as long as the library is in use.
        self._callback = CALLBACK(self._collect)
        self.sample_rate = int(
            self._library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, self._data_path, INITIALIZE_DONT_EXIT)
        )
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng did not start (status {self.sample_rate}); reinstall espeakng-loader.")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))

    def speak(self, text: str, voice: str, rate: int, pitch: int) -> npt.NDArray[np.int16]:
        """Speak a text.

        Arguments
        ---------
        text : str
            Text to speak.
        voice : str
            Language and variant, such as `en-us+f2`.
        rate : int
            Words per minute, 80 to 450.
        pitch : int
            0 to 100; 50 is the voice's default.

        Returns
        -------
        numpy.ndarray
            Shape (S,), int16, at `sample_rate`.

        Raises
        ------
        ValueError
            If this espeak-ng has no such voice.
        RuntimeError
            If espeak-ng produces no sound.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"voice: espeak-ng has no '{voice}'; choose a language and variant it has, as en-us+f2.")
        self._library.espeak_SetParameter(PARAMETER_RATE, rate, 0)
        self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        self._chunks = []
        encoded = text.encode()
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None
        )
        if status != 0 or not self._chunks:
            raise RuntimeError(f"espeak-ng spoke nothing for '{text}' with the voice {voice} (status {status}).")
        return np.concatenate(self._chunks)

    def speak_at(self, sample_rate: int, text: str, voice: str, rate: int, pitch: int) -> npt.NDArray[np.float64]:
        """Speak a text, resampled to a sample rate in Hz: (S,), full scale 1."""
        common = gcd(sample_rate, self.sample_rate)
        samples = self.speak(text, voice, rate, pitch) / 32768
        resampled: npt.NDArray[np.float64] = resample_poly(samples, sample_rate // common, self.sample_rate // common)
        return resampled

    def __enter__(self) -> Espeak:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0


def _load_copy(path: str) -> ctypes.CDLL:
    """Load a library from a copy of its file, so that its global variables are fresh and not shared."""
    with tempfile.TemporaryDirectory(prefix="espeak-ng-", ignore_cleanup_errors=True) as folder:
        return ctypes.CDLL(shutil.copy(path, folder))
