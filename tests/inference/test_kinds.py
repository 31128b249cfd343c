"""What holds for models of every kind that a folder can hold, from recordings to words; alignments by brute force."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from biglittle_asr.cli import main
from biglittle_asr.decoding import DecodingSettings
from biglittle_asr.decoding.aligned import align_ctc, align_transducer
from biglittle_asr.inference import Recognizer, Recording, Transcript, load_model, save_model, transcribe
from biglittle_asr.inference.folder.kinds import KINDS
from support.corpora import SAMPLE_RATE
from support.model_folders import SEARCH, make
from support.recognizers import babble

SEARCHED = [kind for kind in KINDS if not KINDS[kind].searching.streams]
"""Kinds whose words are known at the end of an utterance."""

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def recognizers() -> dict[str, Recognizer]:
    return {kind: make(kind=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def folders(recognizers: dict[str, Recognizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("folders")
    return {kind: save_model(place / kind, recognizer) for kind, recognizer in recognizers.items()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    found = []
    for index, seconds in enumerate((0.01, 1.2, 0.7, 1.204)):
        path = tmp_path_factory.mktemp("recordings") / f"r{index}.wav"
        soundfile.write(path, babble(seconds, index), SAMPLE_RATE)
        found.append(Recording(path.stem, path))
    return found


def texts(recognizer: Recognizer, recordings: list[Recording], **options: Any) -> dict[str, str]:
    found = {}
    for result in transcribe(recognizer, recordings, **options):
        assert isinstance(result, Transcript), result
        found[result.recording.name] = result.text
    return found


@pytest.mark.slow
@every_kind
def test_no_batch_or_window_changes_a_word(
    recognizers: dict[str, Recognizer], recordings: list[Recording], kind: str
) -> None:
    alone = {name: text for each in recordings for name, text in texts(recognizers[kind], [each]).items()}
    assert len(set(alone.values())) > 2
    assert texts(recognizers[kind], recordings) == alone
    assert texts(recognizers[kind], recordings, window_seconds=0.5) == alone


@pytest.mark.slow
@every_kind
def test_words_are_those_of_the_tokens_and_their_times_are_in_order(
    recognizers: dict[str, Recognizer], recordings: list[Recording], kind: str
) -> None:
    recognizer = recognizers[kind]
    for result in transcribe(recognizer, recordings):
        assert isinstance(result, Transcript)
        samples = torch.from_numpy(result.recording.read(SAMPLE_RATE))
        with torch.inference_mode():
            outputs, _ = recognizer(samples[None], torch.tensor([len(samples)]))
            tokens = recognizer.tokens(outputs[0])
        assert result.text == " ".join(recognizer.tokenizer.decode(tokens).split())
        times = [time for word in result.words for time in (word.start, word.end)]
        assert times == sorted(times) and all(0 <= time <= result.duration for time in times)
        assert all(0 <= word.confidence <= 1 for word in result.words)


@pytest.mark.slow
@every_kind
def test_python_gives_the_words_of_the_command(
    folders: dict[str, Path], recordings: list[Recording], kind: str, capsys: Any
) -> None:
    paths = [str(each.path) for each in recordings]
    assert main(["transcribe", str(folders[kind]), *paths, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["transcripts"]
    recognizer = load_model(folders[kind])
    found = recognizer.transcribe(paths)
    assert [each.text for each in found] == [each["text"] for each in expected] and any(each.words for each in found)
    for one, other in zip(found, expected, strict=True):
        times = [time for word in one.words for time in (word.start, word.end)]
        assert times == pytest.approx([word[key] for word in other["words"] for key in ("start", "end")], abs=1e-3)
    read = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths]
    for alone in (recognizer.transcribe, lambda path: recognizer.transcribe(path, window_seconds=0.5)):
        assert [alone(path).text for path in paths] == [each.text for each in found]
    for samples in (read, [each.double().numpy() for each in read], [(each * 32768).short() for each in read]):
        given = recognizer.transcribe(samples, sample_rate=SAMPLE_RATE)
        assert [each.text for each in given] == [each.text for each in found]


@pytest.mark.parametrize("kind", SEARCHED)
def test_long_recordings_are_cut_at_pauses(
    recognizers: dict[str, Recognizer], recordings: list[Recording], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biglittle_asr.decoding.decoder.SEGMENT_SECONDS", 0.5)
    recognizer = recognizers[kind]
    pieces: list[int] = []
    search = recognizer.search
    assert search is not None

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(search, name)

        def __call__(self, outputs: Any) -> Any:
            pieces.append(len(outputs))
            return search(outputs)

    monkeypatch.setattr(recognizer, "search", Watched())
    whole = texts(recognizer, recordings[1:2])
    assert sum(pieces) == 31 and len(pieces) > 2 and max(pieces) <= 13
    assert texts(recognizer, recordings[1:2], window_seconds=0.4) == whole


@pytest.mark.parametrize("kind", SEARCHED)
def test_texts_are_different_and_the_best_is_the_first(
    recognizers: dict[str, Recognizer], recordings: list[Recording], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = recognizers[kind]
    expected = texts(recognizer, recordings[1:3])
    monkeypatch.setattr(recognizer, "search", None)
    recognizer.set_search(DecodingSettings(nbest=3))
    for result in transcribe(recognizer, recordings[1:3]):
        assert isinstance(result, Transcript)
        found = [each.text for each in result.alternatives]
        assert found[0] == result.text == expected[result.recording.name]
        assert 1 < len(found) == len(set(found)) <= 3
        scores = [each.score for each in result.alternatives]
        assert scores == sorted(scores, reverse=True)
        assert all(each.network_score < 0 for each in result.alternatives)
    if "beam_size" in SEARCH[kind]:
        with pytest.raises(ValueError, match="4 texts cannot be found with a beam of 3"):
            recognizer.set_search(DecodingSettings(nbest=4))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEARCHED)
def test_commands_take_every_kind_or_say_what_does_not_apply(
    folders: dict[str, Path], recordings: list[Recording], kind: str, tmp_path: Path, capsys: Any
) -> None:
    folder, audio = str(folders[kind]), str(recordings[1].path)
    manifest = tmp_path / "test.csv"
    manifest.write_text(f"ID,wav,wrd,spk_id\na,{audio},BAD AGE,x\n")
    assert main(["transcribe", folder, audio, "--nbest", "2", "--beam", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["nbest"]
    assert len(found) == 2 and found[0]["words"][0]["end"] > 0
    assert main(["transcribe", folder, audio, "--format", "ctm", "--profile"]) == 0
    assert capsys.readouterr().out.startswith("r1 1 ")
    assert main(["evaluate", folder, str(manifest), "--json", "--bootstrap", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["words"] == 2
    assert main(["profile", folder, "--runs", "0"]) == 0
    loaded = load_model(folder)
    assert ("without an output layer" in capsys.readouterr().out) == (loaded.kind.output_macs(loaded.model) is None)
    (tmp_path / "words.txt").write_text("BAD\nAGE\n")
    for arguments, message in (
        (["transcribe", folder, audio, "--stream"], "cannot stream"),
        (["transcribe", folder, audio, "--lexicon", str(tmp_path / "words.txt")], "need a CTC model"),
        (["evaluate", folder, str(manifest), "--hotwords", str(tmp_path / "words.txt")], "need a CTC model"),
        (["tune", folder, str(manifest), "--lm", "a.arpa", "--output", str(tmp_path / "a")], "are for CTC models"),
    ):
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and err.count("\n") == 1, err


# Alignments


@pytest.mark.parametrize("tokens", [[], [1], [2, 1], [1, 1], [1, 2, 2], [2, 1, 2]])
def test_ctc_alignment_is_the_most_probable_of_all(tokens: list[int]) -> None:
    log_probs = torch.randn(5, 3, generator=torch.Generator().manual_seed(len(tokens))).log_softmax(-1)
    best, spans = -torch.inf, None
    for path in itertools.product(range(3), repeat=5):
        runs = [(index, len(list(run))) for index, run in itertools.groupby(path)]
        score = log_probs[range(5), path].sum().item()
        if [index for index, _ in runs if index] == tokens and score > best:
            ends = list(itertools.accumulate(length for _, length in runs))
            spans = [(end - length, end) for (index, length), end in zip(runs, ends, strict=True) if index]
            best = score
    assert align_ctc(log_probs, tokens) == spans


@pytest.mark.parametrize("tokens", [[], [1], [1, 1], [3, 1, 2]])
@torch.no_grad()
def test_transducer_alignment_is_the_most_probable_of_all(
    recognizers: dict[str, Recognizer], tokens: list[int]
) -> None:
    model = recognizers["transducer"].model
    encoded = torch.randn(4, 32, generator=torch.Generator().manual_seed(len(tokens)))
    log_probs = model.join(encoded[:, None], model.predict(torch.tensor([tokens], dtype=torch.long))).log_softmax(-1)
    scores = {}
    for when in itertools.combinations_with_replacement(range(4), len(tokens)):
        said = [log_probs[frame, count, tokens[count]] for count, frame in enumerate(when)]
        blanks = [log_probs[frame, sum(each <= frame for each in when), 0] for frame in range(4)]
        scores[when] = float(torch.stack([*said, *blanks]).double().sum())
    frames, said, score = align_transducer(model, encoded, tokens)
    best = max(scores, key=lambda when: scores[when])
    assert tuple(frames) == best and score == pytest.approx(scores[best], rel=1e-5)
    for count, frame in enumerate(frames):
        assert said[count] == pytest.approx(float(log_probs[frame, count, tokens[count]]), rel=1e-5)
