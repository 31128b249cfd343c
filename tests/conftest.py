"""Shared fixtures: small corpora that the tests make themselves, and real AN4 where it is at hand."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile

from support.corpora import SAMPLE_RATE, make_an4, make_librispeech, make_speechocean762
from support.image_recipe import make_folder
from support.repository import AN4

if TYPE_CHECKING:
    from biglittle_asr.inference import Recognizer

with contextlib.suppress(ImportError):
    # OpenVINO imports it. When logging is set up anew, its handler closes the stream that it began with, unless that is
    # standard error at that moment; pytest puts others in its place.
    import absl.logging

    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests run side by side, and their networks are too small for several threads, in programs that they start too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Scoring and corpora are tested without it.
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def an4_folder() -> Path:
    """The real AN4 corpus, from the environment variable BIGLITTLE_AN4 or from beside the repository."""
    if not (AN4 / "etc").is_dir():
        pytest.skip(f"no AN4 corpus in {AN4}; set BIGLITTLE_AN4")
    return AN4


@pytest.fixture
def tiny_an4(tmp_path: Path) -> Path:
    """AN4's layout with 12 training speakers and 2 test speakers, 3 utterances each."""
    return make_an4(tmp_path / "data" / "an4")


@pytest.fixture
def tiny_librispeech(tmp_path: Path) -> Path:
    """LibriSpeech's layout with 3 splits of 2 readers, 3 utterances each."""
    return make_librispeech(tmp_path / "data" / "LibriSpeech")


@pytest.fixture
def tiny_speechocean762(tmp_path: Path) -> Path:
    """speechocean762's layout with 8 training speakers and 4 test speakers, 3 utterances each."""
    return make_speechocean762(tmp_path / "data" / "speechocean762")


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    """A small network that hears words in noise."""
    # Imported here, for torch takes seconds, and most tests that need none are fast.
    from support.recognizers import make_recognizer

    return make_recognizer()


@pytest.fixture(scope="session")
def model_folder(recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a model folder."""
    from biglittle_asr.inference import save_model

    return save_model(tmp_path_factory.mktemp("model") / "model", recognizer)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Noise of several lengths, from 10 ms."""
    from support.recognizers import babble

    paths = []
    for index, seconds in enumerate((0.01, 3.2, 1.0, 2.04, 1.999)):
        paths.append(tmp_path / f"r{index}.wav")
        soundfile.write(paths[-1], babble(seconds, index), SAMPLE_RATE)
    return paths


@pytest.fixture(autouse=True)
def no_log_handler_outlives_its_stream() -> Iterator[None]:
    """SpeechBrain's handlers write to the standard error of the test that set them up, which is closed after it."""
    yield
    for handler in list(logging.root.handlers):
        if type(handler).__module__.startswith("speechbrain"):
            logging.root.removeHandler(handler)


@pytest.fixture
def image_sets(tmp_path: Path) -> Path:
    """A folder with train/ and val/."""
    make_folder(tmp_path / "data" / "train")
    make_folder(tmp_path / "data" / "val", images=2)
    return tmp_path / "data"
