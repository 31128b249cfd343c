"""Pages that recognize speech: their JavaScript computes what Python computes, in a browser and without one."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from biglittle_asr.audio.resample import Resampler
from biglittle_asr.cli import main
from biglittle_asr.decoding import GreedyWords
from biglittle_asr.export import onnxruntime_web
from biglittle_asr.export.files import FLOAT, INT8, STREAMING, cache_folder
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.features.logmel import FORMS
from biglittle_asr.inference import load_model, save_model
from biglittle_asr.inference.exporting import ONNX
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.web import FACTS, describe_features, describe_model
from biglittle_asr.tokens.tokenizer import CharacterTokenizer, SentencePieceTokenizer
from support.browser import CHROMIUM, Browser, served
from support.corpora import SAMPLE_RATE
from support.model_folders import make
from support.pages import parse
from support.recognizers import babble, make_recognizer
from support.repository import REPOSITORY

SOURCES = Path(onnxruntime_web.__file__).parent / "page"
NODE = shutil.which("node")
RUNTIME = os.environ.get("BIGLITTLE_ONNXRUNTIME_WEB", cache_folder() / f"onnxruntime-web-{onnxruntime_web.VERSION}")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or not all((Path(RUNTIME) / name).is_file() for name in onnxruntime_web.FILES),
    reason="needs Chromium, and onnxruntime-web where biglittle export --format web leaves it",
)

# Without a browser


def in_node(folder: Path, code: str, *inputs: Any) -> list[Any]:
    """What JavaScript finds for each input; the page's modules are beside it."""
    shutil.copytree(SOURCES, folder / "page")
    (folder / "page" / "package.json").write_text('{"type": "module"}')
    program = f'import {{ readFileSync }} from "fs";\n{code}\nconst inputs = JSON.parse(readFileSync(0, "utf-8"));\n'
    program += "console.log(JSON.stringify(inputs.map((input) => find(input))));\n"
    (folder / "page" / "program.js").write_text(program)
    done = subprocess.run(
        [str(NODE), "page/program.js"], cwd=folder, input=json.dumps(inputs), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def cut(samples: np.ndarray, size: int) -> list[list[float]]:
    return [samples[start : start + size].tolist() for start in range(0, len(samples), size)]


@needs_node
def test_the_page_resamples_as_python_does(tmp_path: Path) -> None:
    code = """
        import { Resampler, joined } from "./resample.js";
        const find = ({ old, rate, facts, blocks }) => {
          const resampler = new Resampler(old, rate, facts);
          const found = blocks.map((block) => resampler.add(Float32Array.from(block)));
          return Array.from(joined(...found, resampler.finish()));
        };
    """
    facts = describe_model(make(), "")["resampling"]
    cases = [
        (old, rate, count, size)
        for old, rate in ((48000, 16000), (44100, 16000), (8000, 16000), (16000, 16000), (22050, 8000))
        for count, size in ((1, 1), (999, 128), (5000, 2048))
    ]
    audio = [babble(count / SAMPLE_RATE, count) for _, _, count, _ in cases]
    inputs = [
        {"old": old, "rate": rate, "facts": facts, "blocks": cut(samples, size)}
        for (old, rate, _, size), samples in zip(cases, audio, strict=True)
    ]
    for (old, rate, _, _), samples, found in zip(cases, audio, in_node(tmp_path, code, *inputs), strict=True):
        expected = np.concatenate(list(Resampler(old, rate)([samples])))
        np.testing.assert_allclose(found, expected, atol=1e-6)


@needs_node
def test_the_page_has_the_features_of_python(tmp_path: Path) -> None:
    code = """
        import { LogMel, normalizeSentence } from "./features.js";
        import { joined } from "./resample.js";
        const find = ({ facts, normalization, blocks }) => {
          const logMel = new LogMel(facts);
          const features = joined(...blocks.map((block) => logMel.add(Float32Array.from(block))), logMel.finish());
          return [features, normalizeSentence(features, logMel.size, normalization)].map((each) => Array.from(each));
        };
    """
    normalize = SentenceNormalization(min_std=0.1, epsilon=1e-5)
    cases = []
    for form in FORMS:
        for rate, n_mels, n_fft in ((16000, 80, 512), (16000, 20, 400), (8000, 40, 256)):
            compute = LogMel(rate, n_mels=n_mels, n_fft=n_fft, form=form)
            cases += [
                (compute, count, size) for count, size in ((1, 1), (150, 70), (280, 280), (4321, 999), (9999, 64))
            ]
    inputs, expected = [], []
    for compute, count, size in cases:
        samples = babble(count / SAMPLE_RATE, count)
        found, frames = compute(torch.from_numpy(samples)[None], torch.tensor([count]))
        expected.append((found.flatten().numpy(), normalize(found, frames).flatten().numpy()))
        inputs.append(
            {"facts": describe_features(compute), "normalization": normalize.config, "blocks": cut(samples, size)}
        )
    for (features, normalized), own in zip(expected, in_node(tmp_path, code, *inputs), strict=True):
        np.testing.assert_allclose(own[0], features, atol=2e-3)
        np.testing.assert_allclose(own[1], normalized, atol=5e-3)


@needs_node
@pytest.mark.parametrize("kind", ["characters", "word pieces"])
def test_the_page_finds_the_words_of_python(kind: str, tmp_path: Path) -> None:
    code = """
        import { Decoder } from "./words.js";
        const find = ({ facts, pieces, duration }) => {
          const decoder = new Decoder(facts);
          return [...pieces.flatMap((piece) => decoder.add(piece)), ...decoder.finish(duration)];
        };
    """
    tokenizer: Any = CharacterTokenizer(" ABCD")
    if kind == "word pieces":
        tokenizer = SentencePieceTokenizer.train(["A BAD CAB", "DAB A CAB"] * 9, kind="bpe", vocab_size=12)
    recognizer = make(tokenizer=tokenizer)
    facts, generator = describe_model(recognizer, ""), torch.Generator().manual_seed(0)
    inputs, expected = [], []
    for frames, blank in ((0, 0.0), (1, 0.0), (200, 0.0), (200, 2.0), (400, 3.5)):
        logits = torch.randn(frames, tokenizer.size, generator=generator) * 2
        logits[:, 0] += blank
        log_probs, decoder = logits.log_softmax(-1), GreedyWords(tokenizer, recognizer.frame_seconds)
        duration = frames * recognizer.frame_seconds
        expected.append([word.__dict__ for word in (*decoder.decode(log_probs), *decoder.finish(duration))])
        pieces = [piece.flatten().tolist() for piece in log_probs.split(7)]
        inputs.append({"facts": facts, "pieces": pieces, "duration": duration})
    assert sum(map(len, expected)) > 50
    for words, own in zip(expected, in_node(tmp_path, code, *inputs), strict=True):
        assert [{**word, "confidence": pytest.approx(word["confidence"], abs=1e-6)} for word in words] == own


# The folder


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder in place of onnxruntime-web."""
    folder = tmp_path / "runtime"
    (folder / "dist").mkdir(parents=True)
    for name in onnxruntime_web.FILES:
        (folder / "dist" / name).write_text(name)
        monkeypatch.setitem(onnxruntime_web.FILES, name, sha256(name))
    return folder


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models with all their networks: of whole utterances, and causal."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "sentence", make_recognizer().eval())
    save_model(folder / "global", make_recognizer(normalization="GlobalNormalization", form="sherpa_nemo").eval())
    causal = make_recognizer(normalization="GlobalNormalization", form="sherpa_nemo", time_padding="causal")
    save_model(folder / "causal", causal.eval())
    return folder


def export(model: Path, page: Path, *options: object) -> int:
    return main(["export", str(model), str(page), "--format", "web", *map(str, options)])


NETWORKS = {"sentence": FLOAT, "global": FLOAT, "causal": STREAMING}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_page_is_whole_and_its_network_is_kept(name: str, models: Path, runtime: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    assert export(models / name, page, "--onnxruntime-web", runtime) == 0
    names = {path.name for path in page.iterdir()}
    assert names == {path.name for path in SOURCES.iterdir()} | {NETWORKS[name], FACTS, *onnxruntime_web.FILES}
    facts = json.loads((page / FACTS).read_text())
    assert (page / facts["network"]["file"]).stat().st_size == facts["network"]["bytes"]
    assert (page / NETWORKS[name]).read_bytes() == (models / name / ONNX / NETWORKS[name]).read_bytes()
    # An earlier page is replaced, with all that is in it.
    (page / "old").write_text("")
    assert export(models / name, page, "--onnxruntime-web", runtime) == 0
    assert {path.name for path in page.iterdir()} == names


@pytest.mark.slow
def test_integers_are_taken_where_there_are_some(models: Path, runtime: Path, tmp_path: Path) -> None:
    model = shutil.copytree(models / "sentence", tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", babble(2, 1), SAMPLE_RATE)
    calibration = ["--int8", "--calibrate", tmp_path / "a.wav"]
    for options in (calibration, []):
        assert export(model, tmp_path / "page", "--onnxruntime-web", runtime, *options) == 0
        assert json.loads((tmp_path / "page" / FACTS).read_text())["network"]["file"] == INT8


def test_sources_name_only_what_is_beside_them() -> None:
    for path in SOURCES.iterdir():
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"""(?:src|href)="([^"]*)"|from "([^"]*)"|(?:addModule|new URL)\("([^"]*)\"""", text)
        for place in filter(None, (name for names in named for name in names)):
            assert (SOURCES / place).is_file() or place.removeprefix("./") in (*onnxruntime_web.FILES, FACTS), place
        assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}
    page = parse((SOURCES / "index.html").read_text(encoding="utf-8"))
    (policy,) = page.all("meta", http_equiv="Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.attributes["content"].split("; "))
    allowed = {"'none'", "'self'", "'wasm-unsafe-eval'"}
    assert rules.pop("default-src") == "'none'" and rules.pop("worker-src") == "'self' blob:"
    assert {source for sources in rules.values() for source in sources.split()} <= allowed


# What is refused


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"ctc"}))
def test_other_kinds_of_models_are_refused(kind: str, tmp_path: Path, capsys: Any) -> None:
    assert_told(save_model(tmp_path / "model", make(kind=kind)), tmp_path / "page", f"holds a {kind} model", capsys)


def assert_told(model: Path, page: Path, message: str, capsys: Any, *options: object) -> None:
    """One sentence, and no new file beside or in the page."""
    before = sorted(page.parent.rglob("*"))
    assert export(model, page, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and line.startswith("biglittle: ") and line.endswith(".")
    assert sorted(page.parent.rglob("*")) == before


def test_what_is_no_page_is_not_replaced(model_folder: Path, runtime: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "letters.txt").write_text("dear")
    assert_told(model_folder, tmp_path / "page", "holds something other than a page", capsys)


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_another_onnxruntime_web_is_refused(
    damage: str, model_folder: Path, runtime: Path, tmp_path: Path, capsys: Any
) -> None:
    path = runtime / "dist" / next(iter(onnxruntime_web.FILES))
    path.unlink() if damage == "missing" else path.write_text("other")
    message = "no such file; unpack onnxruntime-web" if damage == "missing" else "is not the file of onnxruntime-web"
    assert_told(model_folder, tmp_path / "page", message, capsys, "--onnxruntime-web", runtime)


NPM = {
    "none": (None, "there is no npm: install it, or name an unpacked copy with --onnxruntime-web FOLDER"),
    "failing": ("echo 'npm error offline' >&2; exit 1", "npm cannot get it (npm error offline); mend that, or name"),
    "damaged": ("echo no archive > onnxruntime-web.tgz", "npm got a damaged archive"),
    "other files": ("mkdir -p a && tar czf a.tgz a", "npm got a damaged archive"),
}


@pytest.mark.parametrize("kind", NPM)
def test_without_npm_a_sentence_says_what_to_do(
    kind: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    script, message = NPM[kind]
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin" if script else str(program.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert_told(model_folder, tmp_path / "page", message, capsys)


def test_npm_is_asked_once(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its archive is unpacked into the cache, and checked again whenever it is read."""
    shutil.copytree(runtime, tmp_path / "archive" / "package")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ntar czf a.tgz -C {tmp_path}/archive package\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        found = onnxruntime_web.runtime_files()
        assert found == {name: name.encode() for name in onnxruntime_web.FILES}
    (line,) = (tmp_path / "asked").read_text().splitlines()
    assert line.startswith(f"pack onnxruntime-web@{onnxruntime_web.VERSION}")
    name = next(iter(onnxruntime_web.FILES))
    (tmp_path / "cache" / "biglittle_asr" / f"onnxruntime-web-{onnxruntime_web.VERSION}" / name).write_text("other")
    with pytest.raises(ValueError, match="is not the file of onnxruntime-web"):
        onnxruntime_web.runtime_files()


# In a browser


@pytest.fixture(scope="module", params=NETWORKS)
def page(request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model folder of each way to run a network, and its page."""
    page = tmp_path_factory.mktemp("page") / "page"
    assert export(models / request.param, page, "--onnxruntime-web", RUNTIME) == 0
    return models / request.param, page


@pytest.fixture
def browser(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile", getattr(request, "param", ()))
    yield browser
    browser.close()


READY = "document.querySelector('#status').textContent === 'Ready'"
ARTICLES = """[...document.querySelectorAll("article")].reverse().map((each) => ({
    name: each.querySelector("h2").textContent,
    words: [...each.querySelectorAll(".word")].map((word) => [
        word.querySelector(".text").textContent, word.title, word.querySelector("small").textContent
    ])
}))"""


def shown(recognizer: Any, path: Path) -> dict[str, Any]:
    """What the page should show of a recording."""
    words = recognizer.transcribe(path).words
    return {
        "name": path.name,
        "words": [
            [each.text, f"{each.start:.2f} to {each.end:.2f} s", f"{100 * each.confidence:.0f} %"] for each in words
        ],
    }


def write_recordings(folder: Path) -> list[Path]:
    """Recordings of several rates, formats and lengths."""
    kinds = [("wav", 16000, 0.02), ("wav", 48000, 3.1), ("flac", 8000, 2.5), ("wav", 44100, 1.7), ("flac", 16000, 40.3)]
    paths = []
    for number, (suffix, rate, seconds) in enumerate(kinds):
        paths.append(folder / f"{number}.{suffix}")
        samples = babble(seconds, number, rate)
        # Browsers read 16 bits a little differently (32767 in place of 32768), but not floats.
        soundfile.write(paths[-1], samples, rate, subtype="FLOAT" if suffix == "wav" else "PCM_24")
    return paths


@needs_browser
@pytest.mark.slow
def test_files_have_the_words_that_transcribe_prints(page: tuple[Path, Path], browser: Browser, tmp_path: Path) -> None:
    model, folder = page
    paths = write_recordings(tmp_path)
    with served(folder) as (address, asked):
        browser.open(address)
        browser.wait_for(READY)
        browser.choose_files("#files", *paths)
        browser.wait_for(f"document.querySelectorAll('article').length === {len(paths)} && {READY}")
        found = browser.evaluate(ARTICLES)
    recognizer = load_model(model)
    expected = [shown(recognizer, path) for path in paths]
    assert sum(len(each["words"]) for each in expected) > 20
    for own, each in zip(found, expected, strict=True):
        assert [word[0] for word in own["words"]] == [word[0] for word in each["words"]], own["name"]
        differing = [pair for pair in zip(own["words"], each["words"], strict=True) if pair[0] != pair[1]]
        # A percentage may be rounded the other way.
        assert own["name"] == each["name"] and len(differing) <= 0.1 * len(each["words"]), differing
    assert browser.console == []
    assert {name.lstrip("/") or "index.html" for name in asked} <= {path.name for path in folder.iterdir()}


@needs_browser
@pytest.mark.slow
def test_a_file_that_is_no_audio_is_told_and_the_next_one_read(
    page: tuple[Path, Path], browser: Browser, tmp_path: Path
) -> None:
    model, folder = page
    (tmp_path / "letter.txt").write_text("dear")
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "speech.wav", babble(1, 1), SAMPLE_RATE, subtype="FLOAT")
    paths = [tmp_path / name for name in ("letter.txt", "silence.wav", "speech.wav")]
    with served(folder) as (address, _):
        browser.open(address)
        browser.wait_for(READY)
        browser.choose_files("#files", *paths)
        browser.wait_for(f"document.querySelectorAll('article').length === 3 && {READY}")
        told = browser.evaluate("[...document.querySelectorAll('.problem')].map((each) => each.textContent)")
        (*_, last) = browser.evaluate(ARTICLES)
    assert told == [
        "silence.wav: holds nothing but zeros; check the recording.",
        "letter.txt: this browser cannot decode it; convert it to WAV or FLAC.",
    ]
    assert [word[0] for word in last["words"]] == load_model(model).transcribe(paths[-1]).text.split()


DAMAGE = ("", "{", "[]", "{}", '{"network": null}', '{"network": {}, "runtime": {}}')
"""Contents in place of what describes the model to the page."""


@needs_browser
@pytest.mark.slow
def test_a_damaged_page_says_so(page: tuple[Path, Path], browser: Browser, tmp_path: Path) -> None:
    folder = shutil.copytree(page[1], tmp_path / "page")
    with served(folder) as (address, _):
        for content in DAMAGE:
            (folder / "model.json").write_text(content)
            browser.open(address)
            browser.wait_for("document.querySelector('#status').textContent.startsWith('Loading failed. ')")
            assert browser.evaluate("document.querySelector('#status').textContent").endswith("export it again.")


@needs_browser
@pytest.mark.slow
def test_the_policy_holds_in_the_page_and_in_its_worker(page: tuple[Path, Path], browser: Browser) -> None:
    with served(page[1]) as (address, _), served(page[1]) as (other, asked):
        browser.open(address)
        browser.wait_for(READY)
        socket = f"const socket = new WebSocket('{other.replace('http', 'ws')}')"
        requests = {
            "data": f"fetch('{other}model.json')",
            "a script": f"import('{other}words.js')",
            "a socket": f"new Promise((kept, lost) => {{ {socket}; socket.onopen = kept; socket.onerror = lost; }})",
        }
        for session in (browser.page, browser.worker()):
            for what, request in requests.items():
                assert browser.evaluate(f"{request}.then(() => 'came', () => 'refused')", session) == "refused", what
            assert browser.evaluate(f"fetch('{address}model.json').then((found) => found.ok)", session)
    assert asked == []


@needs_browser
@pytest.mark.slow
def test_the_keyboard_is_enough(page: tuple[Path, Path], browser: Browser) -> None:
    with served(page[1]) as (address, _):
        browser.open(address)
        browser.wait_for(READY)
        reached = []
        for _ in range(2):
            browser.press("Tab", 9)
            reached.append(browser.evaluate("document.activeElement.id"))
    assert reached == ["microphone", "files"]


@needs_browser
@pytest.mark.slow
def test_files_can_be_dropped_and_cancelled(page: tuple[Path, Path], browser: Browser, tmp_path: Path) -> None:
    model, folder = page
    soundfile.write(tmp_path / "long.wav", babble(400, 1), SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", babble(1, 2), SAMPLE_RATE, subtype="FLOAT")
    content = base64.b64encode((tmp_path / "short.wav").read_bytes()).decode()
    drop = f"""
        const content = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([content], "short.wav"));
        document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer, bubbles: true, cancelable: true }}));
    """
    with served(folder) as (address, _):
        browser.open(address)
        browser.wait_for(READY)
        browser.choose_files("#files", tmp_path / "long.wav")
        # The key may arrive while the file is decoded, or while its words come.
        browser.wait_for("document.querySelector('#cancel').focus() ?? document.activeElement.id === 'cancel'")
        browser.press("Enter", 13, "\r")
        browser.wait_for(READY)
        assert browser.evaluate("document.querySelector('article .problem').textContent") == "Cancelled"
        assert browser.evaluate("document.activeElement.id") == "files"
        browser.evaluate(drop)
        browser.wait_for(f"document.querySelectorAll('article').length === 2 && {READY}")
        (_, found) = browser.evaluate(ARTICLES)
        assert browser.console == []
    expected = load_model(model).transcribe(tmp_path / "short.wav").text
    assert [word[0] for word in found["words"]] == expected.split() and expected


@needs_browser
@pytest.mark.slow
def test_a_page_is_measured(page: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", babble(3, 1), SAMPLE_RATE)
    capsys.readouterr()
    measure = runpy.run_path(str(REPOSITORY / "benchmarks" / "browser.py"))["main"]
    measure([str(page[1]), str(tmp_path / "a.wav"), "--rounds", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"ready", "first_words", "computing"} and min(found.values()) > 0


FAKE_MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
LISTEN = """
    const post = Worker.prototype.postMessage, heard = [];
    Worker.prototype.postMessage = function (message, moved) {
        if (message.type === "begin") window.rate = message.rate;
        if (message.type === "samples") heard.push(message.samples.slice());
        post.call(this, message, moved);
    };
    window.all = () => new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(new Blob(heard));
    });
"""
"""Keeps what the page sends to its worker: Chromium resamples the file, and drops audio where the machine is busy."""


@needs_browser
@pytest.mark.slow
def test_the_microphone_gives_words_while_it_listens(page: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = page
    spoken = tmp_path / "spoken.wav"
    soundfile.write(spoken, babble(5, 5), SAMPLE_RATE)
    fake = [*FAKE_MICROPHONE, f"--use-file-for-fake-audio-capture={spoken}%noloop"]
    with contextlib.closing(Browser(tmp_path / "profile", fake)) as browser, served(folder) as (address, _):
        browser.open(address)
        browser.wait_for(READY)
        browser.evaluate(LISTEN)
        for key in (("Tab", 9, ""), ("Enter", 13, "\r")):
            browser.press(*key)
        browser.wait_for("document.querySelectorAll('.word').length > 3")
        assert browser.evaluate("document.activeElement.textContent") == "Stop microphone"
        browser.press("Enter", 13, "\r")
        browser.wait_for(READY)
        (found,) = browser.evaluate(ARTICLES)
        rate, heard = browser.evaluate("rate"), browser.evaluate("all()")
        assert browser.console == []
    samples = np.frombuffer(base64.b64decode(heard.partition(",")[2]), np.float32)
    assert np.abs(samples).max() > 0.05
    expected = load_model(model).transcribe(samples, sample_rate=rate).text
    assert [word[0] for word in found["words"]] == expected.split()
