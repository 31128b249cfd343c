"""The kinds of files that this package reads, with their readers and small good files, for `fuzzing.py`."""

from __future__ import annotations

import asyncio
import csv
import functools
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import kaldi_native_io
import kaldifst
import numpy as np
import onnx
import safetensors.torch
import soundfile
import torch
from scipy.io import savemat

from biglittle_asr.audio import ffmpeg
from biglittle_asr.audio.files import AudioFile, Segment, read_audio
from biglittle_asr.commands import prepare as prepare_command
from biglittle_asr.commands import profile as profile_command
from biglittle_asr.corpora import an4, librispeech, speechocean762
from biglittle_asr.corpora.images import imagenet
from biglittle_asr.corpora.lists import read_list
from biglittle_asr.corpora.manifest import read_manifest, row_segment, write_manifests
from biglittle_asr.corpora.recordings import read_recordings
from biglittle_asr.corpora.sharding import write_shards
from biglittle_asr.corpora.telephone import fisher, hub5, switchboard
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.decoding import Word
from biglittle_asr.decoding.ctc.lexicon import read_words
from biglittle_asr.decoding.hmm import kaldi
from biglittle_asr.decoding.hmm.tying import monophones, read_tying
from biglittle_asr.decoding.lm.language_model import load_kenlm, open_language_model
from biglittle_asr.decoding.lm.sentences import read_sentences
from biglittle_asr.decoding.settings import read_hotwords, read_settings
from biglittle_asr.export.files import FLOAT, INT8, STREAMING, own_metadata
from biglittle_asr.features.images import read_image
from biglittle_asr.inference import Recognizer, load_model
from biglittle_asr.inference.archive import TranscriptArchive
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.exporting import ONNX, stream_facts, utterance_facts
from biglittle_asr.inference.folder.packing import from_checkpoint, started_from
from biglittle_asr.inference.folder.store import files_of, read_model
from biglittle_asr.inference.streaming import transcribe_stream
from biglittle_asr.inference.transcription import Transcript
from biglittle_asr.models.checkpoints import read_checkpoint
from biglittle_asr.recipe.listing import list_values
from biglittle_asr.report import build_page, read_experiments, with_manifest
from biglittle_asr.report.experiments import Audio
from biglittle_asr.report.recordings import embed, link
from biglittle_asr.scoring import (
    FORMATS,
    read_ctm,
    read_glm,
    read_pair,
    read_stm,
    read_utt2spk,
    score_nist,
    score_texts,
)
from biglittle_asr.serve import Server, ServerSettings, guard
from biglittle_asr.shards import read_index
from biglittle_asr.study import collect_utterances, decide, format_status, format_verdicts, queue, results, summarize
from biglittle_asr.study.plan import Run, StudyError, can_skip_test, read_study
from biglittle_asr.study.report import DRAWN, plan_plots, summary_table
from biglittle_asr.tasks.engine.checkpoints import Checkpointer
from biglittle_asr.tasks.engine.curves import EpochHistory
from biglittle_asr.tasks.hybrid import iterations
from biglittle_asr.tokens.lexicon import read_lexicon
from biglittle_asr.tokens.tokenizer import load_tokenizer
from support import experiments, verdicts
from support.corpora import SAMPLE_RATE, make_an4, make_librispeech, make_speechocean762, tone
from support.fuzzing import SAMPLE, Target
from support.golden import MODELS, TRAINING
from support.image_recipe import picture
from support.recipe_files import settings_of
from support.recognizers import sphere
from support.repository import REPOSITORY

Prepare = Callable[[Path], Sequence[bytes]]


def given(*contents: bytes | str) -> Prepare:
    """Good contents as they stand; the reader needs no other file."""
    return lambda folder: [each.encode() if isinstance(each, str) else each for each in contents]


def text(*contents: str, read: Callable[[Path], object], **options: Any) -> Target:
    """A text file."""
    return Target(given(*contents), read, "text", **options)


def drain(values: Iterable[object]) -> None:
    """Exhaust an iterator."""
    deque(values, maxlen=0)


# Audio


def encoded(file_format: str, *subtypes: str, channels: int = 1, **options: Any) -> Prepare:
    """A tone in a format of libsndfile's."""

    def prepare(folder: Path) -> list[bytes]:
        contents = []
        for subtype in subtypes:
            content = io.BytesIO()
            samples = np.stack([tone(400)] * channels, axis=1)
            soundfile.write(content, samples, SAMPLE_RATE, format=file_format, subtype=subtype, **options)
            contents.append(content.getvalue())
        return contents

    return prepare


def both(*several: Prepare) -> Prepare:
    """Good contents of several kinds."""
    return lambda folder: [content for prepare in several for content in prepare(folder)]


def compressed_sphere(folder: Path) -> list[bytes]:
    """A header that promises Shorten, and no samples that it could decode."""
    return [sphere(tone(200)).replace(b"sample_coding -s3 pcm\n", b"sample_coding -s26 pcm,embedded-shorten-v2.00\n")]


def hear(path: Path) -> None:
    """Read a recording as a whole, and a part of it."""
    with AudioFile(path) as file:
        drain(file.blocks())
    read_audio(path, Segment(channel=1, start=0.001, duration=0.01))


def hear_pipe(path: Path) -> None:
    """Read a recording from a pipe, which holds all of it."""
    reading, writing = os.pipe()
    try:
        os.write(writing, path.read_bytes()[:60000])
        os.close(writing)
        with AudioFile(f"/dev/fd/{reading}", label=str(path)) as file:
            drain(file.blocks())
    finally:
        os.close(reading)


def mpeg4(folder: Path) -> list[bytes]:
    """A tone that ffmpeg has encoded, or where it is not installed, the beginning of one."""
    if not ffmpeg.is_installed():
        return [b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42isom\0\0\0\x08free"]
    soundfile.write(folder / "a.wav", tone(400), SAMPLE_RATE)
    subprocess.run(["ffmpeg", "-v", "error", "-i", folder / "a.wav", folder / "a.m4a"], check=True)
    return [(folder / "a.m4a").read_bytes()]


AUDIO = {
    "SPHERE": Target(lambda folder: [sphere(tone(400))], hear),
    "SPHERE, compressed": Target(compressed_sphere, hear),
    "WAV": Target(encoded("WAV", "PCM_16", "FLOAT", "ULAW", "GSM610", "IMA_ADPCM"), hear),
    "WAV, extensible": Target(encoded("WAVEX", "PCM_24", channels=2), hear),
    "RF64": Target(encoded("RF64", "PCM_16"), hear),
    "W64": Target(encoded("W64", "PCM_16"), hear),
    "AIFF": Target(encoded("AIFF", "PCM_16", "FLOAT"), hear),
    "AU": Target(encoded("AU", "PCM_16", "ULAW"), hear),
    "CAF": Target(encoded("CAF", "PCM_16", "ALAC_16"), hear),
    "FLAC": Target(encoded("FLAC", "PCM_16"), hear),
    "Ogg": Target(encoded("OGG", "VORBIS", "OPUS"), hear),
    "MP3": Target(encoded("MP3", "MPEG_LAYER_III"), hear),
    "MPEG-4": Target(mpeg4, hear),
    "WAV, from a pipe": Target(encoded("WAV", "PCM_16", "ULAW"), hear_pipe),
    "AIFF and FLAC, from a pipe": Target(both(encoded("AIFF", "PCM_16"), encoded("FLAC", "PCM_16")), hear_pipe),
}

# Images


def drawn(*formats: str, modes: Sequence[str] = ("RGB", "L")) -> Prepare:
    """A picture in image formats."""

    def prepare(folder: Path) -> list[bytes]:
        contents = []
        for each in formats:
            for mode in modes:
                content = io.BytesIO()
                picture(1).convert(mode).save(content, format=each)
                contents.append(content.getvalue())
        return contents

    return prepare


IMAGES = {
    "JPEG": Target(drawn("JPEG"), read_image),
    "PNG": Target(drawn("PNG", modes=("RGB", "L", "P", "I;16", "1")), read_image),
    "other images": Target(drawn("GIF", "BMP", "TIFF", "WEBP", "PPM", modes=("RGB",)), read_image),
}

# Scoring

STM = """;; LABEL "O" "Overall" "All"
a A s 0.0 1.0 <O> yes { no / not at all / @ } (uh) th- a;tag
a A t 1.0 2.5 <O,x> IGNORE_TIME_SEGMENT_IN_SCORING
b A s 0.0 1.0 go
"""
CTM = """a A 0.0 0.1 yes 0.9
a A * * <ALT_BEGIN>
a A 0.1 0.1 no
a A * * <ALT>
a A * * <ALT_END>
b A 0.0 0.1 go 0.5
"""
GLM = """;; rules
* name "rules"
[I'VE] => [{I'VE / I HAVE}] / [ ] __ [ ]
" OK " => " OKAY "
;; INPUT_DEPENDENT_APPLICATION = "ctm|hyp"
[UM] => [(%HESITATION)] / [ ] __ [ ]
"""
TRANSCRIPTS = {
    "plain": "yes no\ngo on\n",
    "kaldi": "u1 yes no\nu2 go on\n",
    "trn": ";; comment\nyes { no / @ } (uh) (u-1)\ngo on;tag (u-2 -7.5)\n",
}


def beside(**files: str) -> Callable[[Path], None]:
    """Write files beside the one under test."""

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)

    return write


def scored(content: str, others: Callable[[Path], None]) -> Prepare:
    """A file of a score, and the others."""

    def prepare(folder: Path) -> list[bytes]:
        others(folder)
        return [content.encode()]

    return prepare


def score(folder: Path) -> None:
    """Score with the mapping rules and without them."""
    segments, words = read_stm(folder / "ref.stm").segments, read_ctm(folder / "hyp.ctm")
    for rules in (None, read_glm(folder / "rules.glm")):
        score_nist(segments, words, rules, bootstrap=0, missing_as_empty=True).table()


def score_transcripts(path: Path, name: str) -> None:
    """Score a file against itself."""
    pair = read_pair(path, path, name)
    try:
        score_texts(pair.references.texts, pair.hypotheses.texts, marks=name == "trn", bootstrap=0)
    except ValueError as error:
        # Texts need not come from files; the utterance is named.
        raise ValueError(f"{path}: {error}") from error


SCORING = {
    "STM": Target(
        scored(STM, beside(hyp_ctm=CTM, rules_glm=GLM)),
        lambda path: score(path.parent),
        "text",
        "ref.stm",
        ("IGNORE_TIME_SEGMENT_IN_SCORING", ";;", "<O", "{ a / b }", "{", "/", "}", "(a)", "-a"),
    ),
    "CTM": Target(
        scored(CTM, beside(ref_stm=STM, rules_glm=GLM)),
        lambda path: score(path.parent),
        "text",
        "hyp.ctm",
        ("<ALT_BEGIN>", "<ALT>", "<ALT_END>", "*", "@", "NA", ";;"),
    ),
    "GLM": Target(
        scored(GLM, beside(ref_stm=STM, hyp_ctm=CTM)),
        lambda path: score(path.parent),
        "text",
        "rules.glm",
        (
            "=>",
            "/",
            "__",
            "[ ]",
            "{",
            "}",
            "*",
            "case_sensitive = 'F'",
            "copy_no_hit = 'F'",
            ".*",
            "(a+)+$",
            "YES",
            "[A]",
        ),
    ),
    **{
        f"transcripts, {name}": text(TRANSCRIPTS[name], read=functools.partial(score_transcripts, name=name))
        for name in FORMATS
    },
    "transcripts, any": text(*TRANSCRIPTS.values(), read=functools.partial(score_transcripts, name="auto")),
    "utt2spk": text("u1 jane\nu2 joe\n", read=read_utt2spk),
}

# Words and language models

ARPA = "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-99\t<s>\t-0.3\n-0.3\t</s>\n-0.6\tYES\t-0.1\n-0.6\tNO\t0\n\n"
ARPA += "\\2-grams:\n-0.2\t<s> YES\n-0.3\tYES NO\n\n\\end\\\n"
LEXICON = ";;; letters\nA AH\nA(2) EY # rare\nTEA\tT IY\n", "A 0.7 AH\nA 0.3 EY\nTEA 1.0 T IY\n"


def model_language(path: Path) -> None:
    """Load a language model into KenLM."""
    load_kenlm(open_language_model(path), ["YES", "NO"])


def kenlm_files(folder: Path) -> list[bytes]:
    """Binary files of KenLM's."""
    return [path.read_bytes() for path in sorted((REPOSITORY / "tests" / "decoding" / "kenlm").glob("*.kenlm"))]


WORDS = {
    "ARPA": Target(
        given(ARPA), model_language, "text", words=("\\data\\", "\\1-grams:", "\\end\\", "ngram 3=1", "<unk>")
    ),
    "ARPA, compressed": Target(given(gzip.compress(ARPA.encode(), mtime=0)), model_language),
    "KenLM": Target(kenlm_files, model_language),
    "pronunciations": text(*LEXICON, read=read_lexicon, words=(";;;", "# ", "(2)", "0.5", "1")),
    "words": text("A\nTEA\n", read=read_words),
    "hotwords": text("A 2.5\nTEA\n", read=read_hotwords),
    "text of language models": text(
        "YES NO\nGO\n", read=lambda path: drain(read_sentences(path)), words=("<s>", "</s>")
    ),
    "decoding settings": Target(
        given('{"beam": 3, "lm": "a.arpa", "lm_weight": 0.5, "hotwords": {"A": 1.5}}'), read_settings, "json"
    ),
}

# Corpora

MANIFEST = 'ID,duration,wav,spk_id,wrd,channel,start\na,1.0,/x/a.wav,s,"YES, NO",1,0.5\nb,1.0,x.tar#0:9,s,NO,1,0\n'
LISTS = {
    "csv": 'ID, path, sentence\n7, a.wav, "Well, yes."\n8,b.wav,no\n',
    "tsv": 'client_id\tpath\tsentence\tup_votes\nx\ta.mp3\tYes.\t2\ny\tb.mp3\t"No."\t1\n',
    "jsonl": '{"audio_filepath": "a.wav", "duration": 1.5, "text": "yes", "offset": 0.5}\n'
    '{"audio_filepath": "b.wav", "text": "no"}\n',
}


def read_segments(path: Path) -> None:
    """Read a manifest and the segments in it."""
    for row in read_manifest(path, ("ID", "wav")):
        row_segment(row)


def corpus(make: Callable[[Path], object], name: str, read: Callable[[Path], object]) -> Target:
    """A text file of a corpus; `read` is called with the corpus's folder."""

    def prepare(folder: Path) -> list[bytes]:
        make(folder / "corpus")
        return [(folder / "corpus" / name).read_bytes()]

    return Target(prepare, lambda path: read(path.parents[len(Path(name).parts) - 1]), "text", f"corpus/{name}")


def make_part_of_librispeech(folder: Path) -> None:
    """A split, and the list of all chapters."""
    make_librispeech(folder)
    (folder / librispeech.CHAPTERS_NAME).write_text("; ID |READER|MINUTES|SUBSET\n77 | 11 | 8.1 | test-clean | 1\n")


def make_hub5(folder: Path) -> None:
    """Hub5'00 without samples, for they are not read."""
    folder.mkdir()
    (folder / "en_4156.sph").touch()
    (folder / "hub5e00.english.000405.stm").write_text(
        "en_4156 A en_4156_A 0.0 1.5 <O,en,F,en-F> YES { UH / @ } (%HESITATION)\n"
    )
    (folder / "en20000405_hub5.glm").write_text(GLM)


def make_switchboard_lexicon(folder: Path) -> None:
    """Switchboard's lexicon alone."""
    folder.mkdir()
    (folder / "sw-ms98-dict.text").write_text("# comment\nYES y eh s\nA. ey\n")


def made_folder(folder: Path) -> None:
    """A recording with a text beside it."""
    folder.mkdir()
    (folder / "a.wav").touch()
    (folder / "a.txt").write_text("yes\n")


def prepared(folder: Path) -> list[bytes]:
    """What a preparation writes about itself."""
    prepare_again(folder / "prepared.json")
    return [(folder / "prepared.json").read_bytes()]


def prepare_again(path: Path) -> None:
    """Prepare a corpus of one utterance, unless that is recorded."""
    recording = path.parent / "a.wav"
    if not recording.is_file():
        soundfile.write(recording, tone(SAMPLE_RATE), SAMPLE_RATE)
    write_manifests("none", {"test": [Utterance("a", recording, "s", "YES", "a:1")]}, path.parent)
    prepare_command._describe(path.with_name("test.csv"))


def images_described(folder: Path) -> None:
    """ImageNet's devkit for two validation images, unpacked."""
    folder.mkdir()
    kind = [("ILSVRC2012_ID", int), ("WNID", object), ("num_children", int)]
    savemat(folder / "meta.mat", {"synsets": np.array([(1, "n01440764", 0), (2, "n01443537", 0)], dtype=kind)})
    (folder / imagenet.GROUND_TRUTH).write_text("2\n1\n")


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


def training_tar(folder: Path) -> list[bytes]:
    """A class's tar file."""
    return [tar_of({f"n01440764_{number}.JPEG": b"picture" for number in (1, 2)})]


def devkit(folder: Path) -> list[bytes]:
    """ImageNet's devkit, packed; the validation images beside it."""
    images_described(folder / "data")
    names = ("meta.mat", imagenet.GROUND_TRUTH)
    content = tar_of({f"devkit/data/{name}": (folder / "data" / name).read_bytes() for name in names}, "w:gz")
    shutil.rmtree(folder / "data")
    (folder / imagenet.VALIDATION_TAR).write_bytes(
        tar_of({f"ILSVRC2012_val_0000000{n}.JPEG": b"picture" for n in (1, 2)})
    )
    return [content]


def arrange(path: Path) -> None:
    """Unpack ImageNet anew."""
    shutil.rmtree(path.parent / "out", ignore_errors=True)
    imagenet.arrange(path.parent, path.parent / "out")


CORPORA = {
    "manifest": text(MANIFEST.replace("x.tar#0:9", "b.wav"), read=read_segments),
    "manifest, shards": text(
        MANIFEST, read=read_segments, words=("x.tar#0:9", "#", "x.tar#-1:9", "memory://x.tar#0:1")
    ),
    **{
        f"list, {suffix}": text(content, read=read_list, name=f"list.{suffix}", words=("speaker", "split", "duration"))
        for suffix, content in LISTS.items()
    },
    "list, its recordings": text(LISTS["jsonl"], read=read_recordings, name="list.jsonl"),
    "text of a recording": corpus(made_folder, "a.txt", read_recordings),
    "record of a preparation": Target(prepared, prepare_again, "json", "prepared.json"),
    "AN4, transcripts": corpus(make_an4, "etc/an4_test.transcription", lambda folder: an4.read(folder, 7)),
    "AN4, files": corpus(make_an4, "etc/an4_test.fileids", lambda folder: an4.read(folder, 7)),
    "LibriSpeech": corpus(make_librispeech, "test-clean/11/77/11-77.trans.txt", librispeech.read),
    "LibriSpeech, chapters": corpus(make_part_of_librispeech, librispeech.CHAPTERS_NAME, librispeech.read),
    "speechocean762": corpus(make_speechocean762, "train/text", lambda folder: speechocean762.read(folder, 4)),
    "speechocean762, ages": corpus(make_speechocean762, "train/spk2age", lambda folder: speechocean762.read(folder, 4)),
    "speechocean762, lexicon": corpus(make_speechocean762, "resource/lexicon.txt", speechocean762.extra_files),
    "Fisher": text(
        "# fe_03_00001.sph\n0.5 1.5 A: yes ((no))\n\n1.5 2.0 B: [laugh] it's\n",
        read=lambda path: drain(fisher._read_turns(path, "fe_03_00001")),
        name="fe_03_00001.txt",
    ),
    "Switchboard": text(
        "sw2001A-ms98-a-0001 0.0 1.5 [silence]\nsw2001A-ms98-a-0002 1.5 2.0 th[at]- [it'n/isn't] {a}\n",
        read=lambda path: drain(switchboard._read_turns(path, "A", {})),
        name="sw2001A-ms98-a-trans.text",
    ),
    "Switchboard, lexicon": corpus(make_switchboard_lexicon, "sw-ms98-dict.text", switchboard.extra_files),
    "Hub5'00": corpus(
        make_hub5, "hub5e00.english.000405.stm", lambda folder: (hub5.read(folder), hub5.extra_files(folder))
    ),
    "ImageNet, class": Target(training_tar, arrange, name="n01440764.tar"),
    "ImageNet, devkit": Target(devkit, arrange, name=f"{imagenet.DEVKIT}.tar.gz"),
}

# Shards


def shards(folder: Path) -> Path:
    """A set of two utterances in shards: its index."""
    folder.mkdir()
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", tone(400), SAMPLE_RATE)
    rows = [
        ("ID", "duration", "wav", "spk_id", "wrd"),
        *((name, 0.025, folder / f"{name}.wav", "s", "YES") for name in "ab"),
    ]
    with (folder / "set.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return write_shards(folder / "set.csv", folder / "shards").index


def index_of_shards(folder: Path) -> list[bytes]:
    """The index; the shard is beside it."""
    index = shards(folder / "made")
    shutil.copytree(index.parent, folder, dirs_exist_ok=True)
    return [index.read_bytes()]


def shard(folder: Path) -> list[bytes]:
    """The shard; the index is beside it."""
    index = shards(folder / "made")
    shutil.copy(index, folder / "set.csv")
    (path,) = index.parent.glob("*.tar")
    text = (folder / "set.csv").read_text()
    (folder / "set.csv").write_text(text.replace(path.name, SAMPLE + ".tar"))
    return [path.read_bytes()]


def hear_shards(path: Path) -> None:
    """Read every utterance of a set."""
    for row in read_index(path.parent, "set", "wav"):
        hear(Path(row["wav"]))


SHARDS = {
    "index of shards": Target(
        index_of_shards, hear_shards, "text", "set.csv", ("#", "#0:9", "a.tar#0:9", "memory://a.tar#0:1")
    ),
    "shard": Target(shard, hear_shards, name=f"{SAMPLE}.tar"),
}

# Models


def golden(kind: str, name: str) -> Prepare:
    """A small model folder's file; the others are beside it."""

    def prepare(folder: Path) -> list[bytes]:
        shutil.copytree(MODELS / kind, folder, dirs_exist_ok=True)
        return [(folder / name).read_bytes()]

    return prepare


def model_folder(kind: str, name: str, form: str) -> Target:
    """A file of a model folder."""
    return Target(golden(kind, name), lambda path: read_model(path.parent), form, name)


def cached(folder: Path) -> list[bytes]:
    """The file in a cache of Hugging Face's hub that says which of two revisions is in force."""
    for revision in ("a1", "b2"):
        shutil.copytree(MODELS / "images", folder / "snapshots" / revision)
    (folder / "refs").mkdir()
    return [b"a1"]


def saved(*contents: object) -> Prepare:
    """What torch.save writes."""

    def prepare(folder: Path) -> list[bytes]:
        files = []
        for content in contents:
            file = io.BytesIO()
            torch.save(content, file)
            files.append(file.getvalue())
        return files

    return prepare


EXPERIMENT = """number_of_epochs: 24
compute_features: !new:biglittle_asr.features.LogMel
    n_mels: 20
    form: hamming
normalize: !new:biglittle_asr.features.SentenceNormalization
encoder: !apply:biglittle_asr.models.create_encoder
    name: bl_resnet22
    input_size: 20
    channels: [4, 8, 8, 16]
    blocks: [2, 1, 1, 1]
    big_little_stages: 1
    pool_frequency: False
    output_size: 24
model: !name:biglittle_asr.models.CTCModel
    dropout: 0.0
search_options: {}
"""


def experiment(name: str) -> Prepare:
    """A file of an unfinished training's folder."""

    def prepare(folder: Path) -> list[bytes]:
        shutil.copytree(TRAINING / "ctc", folder, dirs_exist_ok=True)
        (folder / "hyperparams.yaml").write_text(EXPERIMENT)
        content = (folder / name).read_bytes()
        if not name.endswith("CKPT.yaml"):
            return [content]
        checksums = [
            f"  {path.name}: {zlib.crc32(path.read_bytes())}\n" for path in (folder / name).parent.glob("*.ckpt")
        ]
        return [
            content,
            content + f"checksums:\n{''.join(checksums)}inputs:\n  features: {{n_mels: 20}}\nWER: 50.5\n".encode(),
        ]

    return prepare


CHECKPOINT = "save/CKPT+epoch-0024-step-000004"


def resume(path: Path) -> None:
    """Find the checkpoint that a training goes on from, and its progress."""
    checkpointer = Checkpointer(path.parents[1], {})
    checkpointer.inputs = {"features": {"n_mels": 20}}
    checkpointer.check_inputs()
    checkpointer.find_checkpoints(min_key="WER")


WEIGHTS = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
MODEL_FILES = {
    **{
        f"config.json, {kind}": model_folder(kind, "config.json", "json")
        for kind in ("ctc", "attention", "transducer", "hybrid", "images")
    },
    **{
        f"tokenizer.json, {kind}": model_folder(kind, "tokenizer.json", "json")
        for kind in ("ctc", "ctc_bpe", "ctc_unigram", "hybrid")
    },
    "tokenizer.json, alone": Target(golden("ctc_bpe", "tokenizer.json"), load_tokenizer, "json", "tokenizer.json"),
    **{
        f"model.safetensors, {kind}": model_folder(kind, "model.safetensors", "safetensors")
        for kind in ("ctc", "images")
    },
    "checkpoint, .safetensors": Target(
        given(safetensors.torch.save(WEIGHTS)), read_checkpoint, "safetensors", "net.safetensors"
    ),
    "checkpoint, .pt": Target(saved(WEIGHTS, {"epoch": 1, "state_dict": WEIGHTS}), read_checkpoint, name="net.pt"),
    "experiment, YAML": Target(
        experiment("hyperparams.yaml"), lambda path: from_checkpoint(path.parent), "values", "hyperparams.yaml"
    ),
    "experiment, weights": Target(
        experiment(f"{CHECKPOINT}/model.ckpt"),
        lambda path: from_checkpoint(path.parents[2]),
        name=f"{CHECKPOINT}/model.ckpt",
    ),
    "experiment, CKPT.yaml": Target(
        experiment(f"{CHECKPOINT}/CKPT.yaml"),
        lambda path: (resume(path), from_checkpoint(path.parents[2])),
        "values",
        f"{CHECKPOINT}/CKPT.yaml",
    ),
    "hub cache": Target(
        cached, lambda path: read_model(path.parents[1]), "text", "refs/main", ("a1", "../snapshots/b2")
    ),
    "init_from.json": Target(
        given('{"folder": "model"}'), lambda path: started_from(path.parent), "json", "init_from.json"
    ),
}

# Recipes and studies

RECIPE = REPOSITORY / "hparams" / "AN4" / "ctc_bl_resnet22.yaml"


def recipe(folder: Path) -> list[bytes]:
    """A recipe in short; what it includes is beside it."""
    shutil.copytree(REPOSITORY / "hparams" / "encoders", folder / "encoders")
    return [RECIPE.read_bytes().replace(b"../encoders", b"encoders")]


def list_recipe(path: Path) -> None:
    """List every value, and build nothing."""
    list_values(path, {}, settings_of(RECIPE))
    can_skip_test(path)


STUDY = """name: widths
defaults: {recipe: train.py, hparams: small.yaml, seeds: [1, 2], overrides: {lr: 0.1}}
runs:
- {name: small, data: an4}
- {name: wide, overrides: {channels: 64, encoder: {alpha: 2}}, seeds: 1, test: true}
"""
RESULTS = "name,seed,recipe,hparams,overrides,data,test,dev_wer\nsmall,1,train.py,small.yaml,{},an4,false,12.5\n"
COSTS = '{"parameters": 5, "macs": 7, "latency_ms": {"median": 1.5, "low": 1.0, "high": 2}}'
SCORES = json.dumps({"dev": {"all": dict.fromkeys(results.COUNTS, 1)}})
EPOCHS = "epoch,lr,train_loss,dev_loss,dev_wer,seconds\n1,0.1,2.5,2.4,90.0,3.5\n2,0.1,1.5,1.4,50.0,3.5\n"
ITERATIONS = "iteration,states,failed,changed,score,epochs,train_accuracy,dev_accuracy,dev_wer,seconds\n"
ITERATIONS += "1,6,0,nan,-5.5,2,50.0,45.0,90.0,12.5\n"


def read_study_of(path: Path) -> None:
    """Read a study, and make its command lines."""
    for run in read_study(path).runs:
        run.settings(), run.arguments({str(run.data): "data"}, Path("out"))


def claimed(name: str) -> Prepare:
    """A file of a study that compares two networks; the others are beside it."""

    def prepare(folder: Path) -> list[bytes]:
        verdicts.write(folder, verdicts.invent(random.Random(0), seeds=(1, 2), speakers=2))
        return [(folder / name).read_bytes()]

    return prepare


def judge(folder: Path) -> None:
    """Everything that a study's files are read for: verdict, tables, pictures and progress."""
    study, table = read_study(folder / "claim.yaml"), results.Results(folder / "claim.csv")
    try:
        format_status(study, folder, table, 2)
        summaries = summarize(study, table)
        summary_table(summaries)
        drain(plan_plots(study, summaries, error, lambda message: None) for error in DRAWN)
        format_verdicts(decide(study, table))
    except StudyError as error:
        # The study and its runs are named.
        raise ValueError(f"{folder}: {error}") from error


def begun(name: str) -> Target:
    """A file in the folder of a run that is not finished."""
    path = f"runs/bl/1/{name}"

    def prepare(folder: Path) -> list[bytes]:
        study, _ = verdicts.write(folder, {("bl", 1): [], ("twin", 1): []})
        places = queue.find_places(folder, study.runs[0])
        experiments.write_epochs(places.out, 3)
        (places.out / "hyperparams.yaml").write_text("iterations: [{epochs: 2}, {epochs: 3}]\n")
        places.failure.write_text('{"reason": "memory"}')
        return [(folder / path).read_bytes()]

    return Target(prepare, lambda file: watch(file.parents[len(Path(name).parts) + 2]), "text", path)


def watch(folder: Path) -> None:
    """Show the progress of a study."""
    format_status(read_study(folder / "claim.yaml"), folder, results.Results(folder / "claim.csv"), 2)


def scored_run(folder: Path) -> list[bytes]:
    """Alignments of a run of a study, with its other files."""
    score = score_texts(*experiments.texts(1, utterances=8))
    experiments.write_recipe(folder, score)
    return [(folder / "wer_test.txt").read_bytes()]


def collect(path: Path) -> None:
    """Write the utterances of a run beside the table of results."""
    run = Run("small", 1, "train.py", "small.yaml", "an4", test=True)
    collect_utterances(results.Results(path.parent / "results.csv"), run, path.parent)


STUDIES = {
    "recipe": Target(recipe, list_recipe, "values", "recipe.yaml"),
    "study": text(STUDY, read=read_study_of, name="study.yaml"),
    "results of studies": text(
        RESULTS,
        read=lambda path: results.Results(path).has(Run("small", 1, "train.py", "small.yaml", "an4")),
        name="results.csv",
    ),
    "scores.json": Target(given(SCORES), lambda path: results.read_scores(path.parent), "json", "scores.json"),
    "score.json": Target(
        given('{"top1": 60.5, "top5": 90, "images": 100}'),
        lambda path: results.read_scores(path.parent),
        "json",
        "score.json",
    ),
    "costs of a network": Target(given(COSTS), results.read_costs, "json", "costs.json"),
    "record of a run": Target(given('{"reason": "memory", "lines": []}'), queue.read_record, "json", "failure.json"),
    "epochs of a training": text(
        EPOCHS, read=lambda path: (results.read_times(path.parent), EpochHistory(path, ())), name="epochs.csv"
    ),
    "iterations of a training": text(
        ITERATIONS, read=lambda path: (results.read_times(path.parent), iterations.Table(path)), name="iterations.csv"
    ),
    "errors of models": text(
        "name,error\na,23.5\nb,22\n",
        read=lambda path: profile_command._errors(str(path), ["a", "b"]),
        name="errors.csv",
    ),
    "study, comparisons": Target(claimed("claim.yaml"), lambda path: judge(path.parent), "json", "claim.yaml"),
    "study, results": Target(claimed("claim.csv"), lambda path: judge(path.parent), "text", "claim.csv"),
    "study, utterances": Target(
        claimed("claim_utterances/bl_1.csv"), lambda path: judge(path.parents[1]), "text", "claim_utterances/bl_1.csv"
    ),
    "study, alignments": Target(scored_run, collect, "text", "wer_test.txt"),
    "study, YAML of a run": begun("out/hyperparams.yaml"),
    "study, epochs of a run": begun("out/epochs.csv"),
    "study, failure of a run": begun("failed.json"),
}


# Hybrid systems

TRANSITIONS = """Transition-state 1: phone = SIL hmm-state = 0 pdf = 4
 Transition-id = 1 p = 0.75 [self-loop]
 Transition-id = 2 p = 0.25 [0 -> 1]
"""


def tying(folder: Path) -> list[bytes]:
    """Tied states."""
    monophones(("SIL", "A", "B"), 2, 2).write(folder / SAMPLE)
    return [(folder / SAMPLE).read_bytes()]


def alignments(folder: Path) -> list[bytes]:
    """States of the frames of two utterances."""
    iterations.write_alignments(folder / SAMPLE, {"a": np.arange(3, dtype=np.int32), "b": np.arange(2, dtype=np.int32)})
    return [(folder / SAMPLE).read_bytes()]


def graph(name: str, form: str) -> Target:
    """A file of a decoding graph of Kaldi's."""

    def prepare(folder: Path) -> list[bytes]:
        (folder / "words.txt").write_text("<eps> 0\nYES 1\nNO 2\n")
        for kind in ("vector", "const"):
            fst = kaldifst.compile("0 1 1 1 0.5\n0 1 2 2\n1 1 1 0\n1 2.5", fst_type=kind)
            fst.write(str(folder / kind))
        shutil.copy(folder / "vector", folder / "HCLG.fst")
        return [(folder / each).read_bytes() for each in (("vector", "const") if form == "bytes" else (name,))]

    def read(path: Path) -> object:
        return kaldi.read_graph(path.parent / "HCLG.fst", path.parent / "words.txt", np.array([-1, 0, 1], np.int32))

    return Target(prepare, read, form, name)


def kaldi_alignments(folder: Path) -> list[bytes]:
    """Kaldi's archive of two utterances' transition-ids, as text."""
    for form in ("ark", "ark,t"):
        with kaldi_native_io.Int32VectorWriter(f"{form}:{folder / form}") as writer:
            writer.write("a", [1, 2, 2])
            writer.write("b", [2])
    return [(folder / form).read_bytes() for form in ("ark", "ark,t")]


HYBRID = {
    "transitions": text(TRANSITIONS, read=kaldi.read_transitions),
    "graph": graph("HCLG.fst", "bytes"),
    "graph, words": graph("words.txt", "text"),
    "tied states": Target(tying, read_tying),
    "alignments": Target(alignments, iterations.read_alignments),
    "alignments, Kaldi's": Target(
        kaldi_alignments, lambda path: drain(kaldi.read_alignments(f"ark:{path}", np.array([-1, 0, 0], np.int32)))
    ),
}


def archive_of(path: Path) -> TranscriptArchive:
    """The archive that a file is in."""
    return TranscriptArchive(path.parent, "text", {"model": "0a1b"})


def part(folder: Path) -> list[bytes]:
    """JSON lines of an archive."""
    with archive_of(folder / "part") as archive:
        for name in ("a", "b"):
            archive.add(Transcript(Recording(name, Path(f"{name}.wav")), 1.0, (Word("YES", 0.1, 0.5, 0.9),)))
    return [(folder / "part-000000.jsonl").read_bytes()]


def archive_settings(folder: Path) -> list[bytes]:
    """Settings of an archive."""
    part(folder)
    return [(folder / "settings.json").read_bytes()]


ARCHIVES = {
    "part of an archive": Target(part, archive_of, "text", "part-000000.jsonl"),
    "settings of an archive": Target(archive_settings, archive_of, "json", "settings.json"),
}

# Reports


def made(kind: str, name: str) -> Prepare:
    """A file of what `biglittle report` reads, in an experiment of a kind; the other files are beside it."""

    def prepare(folder: Path) -> list[bytes]:
        experiments.MAKERS[kind](folder, 1)
        shutil.copytree(MODELS / "ctc", folder / "out" / "model", dirs_exist_ok=True)
        (folder / "costs.json").write_text(COSTS_OF_SPEECH)
        (folder / "out" / "iterations" / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "out" / "epochs.csv", folder / "out" / "iterations" / "1")
        return [(folder / name).read_bytes()]

    return prepare


def report_of(folder: Path) -> None:
    """Report an experiment."""
    build_page(read_experiments([folder / "out"], bootstrap=10), folder, bootstrap=10)


def reported(name: str, form: str = "text", kind: str = "output folder of a recipe", **options: Any) -> Target:
    """A file in or beside the output folder of a recipe."""
    above = len(Path(name).parts) - 1
    return Target(made(kind, name), lambda path: report_of(path.parents[above]), form, name, **options)


def counted(folder: Path) -> list[bytes]:
    """A model's config.json; its network was not measured."""
    contents = made("output folder of a recipe", "out/model/config.json")(folder)
    (folder / "costs.json").unlink()
    return contents


def alignments_of_scores(folder: Path) -> list[bytes]:
    """Files of `biglittle evaluate --output`."""
    contents = []
    for number, kind in enumerate(("file of evaluate --output", "file of evaluate --output as NIST scores")):
        (folder / str(number)).mkdir()
        ((file, *_), _) = experiments.MAKERS[kind](folder / str(number), 1)
        contents.append(Path(file).read_bytes())
    return contents


def report_with(path: Path) -> None:
    """Report a score with a manifest."""
    (experiment,) = read_experiments([path.with_name("wer.txt")], bootstrap=0)
    build_page([with_manifest(experiment, path)], path.parent, bootstrap=0)


def manifest_of_score(folder: Path) -> list[bytes]:
    """A manifest; the score of its utterances is beside it."""
    experiments.MAKERS["output folder of a recipe"](folder, 1)
    shutil.copy(folder / "out" / "wer_test.txt", folder / "wer.txt")
    return [(folder / "out" / "save" / "manifests" / "test.csv").read_bytes()]


def listen(path: Path) -> None:
    """Put audio into a report."""
    for segment in (Segment(), Segment(channel=2, start=0.01, duration=0.01)):
        audio = Audio(0.025, str(path), segment)
        embed([audio], 10**6), link(audio, path.parent)


COSTS_OF_SPEECH = (
    '{"parameters": 5, "encoder_macs": 7, "head_macs": 1, "machine": "CPU",'
    '"latency_ms": {"median": 1.5, "low": 1.0, "high": 2, "threads": 1, "batch": 1, "dtype": "float32"}}'
)
HUB5_EXPERIMENT = "output folder of a recipe scored as NIST does"
REPORTS = {
    "report, scores": reported("out/scores.json", "json"),
    "report, alignments of a recipe": reported("out/wer_test.txt"),
    "report, alignments": Target(
        alignments_of_scores, lambda path: build_page(read_experiments([path], bootstrap=10), path.parent), "text"
    ),
    "report, epochs": reported("out/epochs.csv"),
    "report, epochs of an iteration": reported("out/iterations/1/epochs.csv"),
    "report, settings": reported("out/hyperparams.yaml"),
    "report, versions": reported("out/env.log"),
    "report, config of a model": Target(
        counted, lambda path: report_of(path.parents[2]), "json", "out/model/config.json"
    ),
    "report, costs": reported("costs.json", "json"),
    "report, manifest of a recipe": reported("out/save/manifests/test.csv"),
    "report, manifest": Target(manifest_of_score, report_with, "text", "list.csv"),
    "report, STM": reported("out/save/manifests/test.stm", kind=HUB5_EXPERIMENT),
    "report, CTM": reported("out/test.ctm", kind=HUB5_EXPERIMENT),
    "report, audio": Target(both(encoded("WAV", "PCM_16", channels=2), encoded("FLAC", "PCM_16")), listen),
}

# Networks in other runtimes


def onnx_file(recognizer: Recognizer, facts: dict[str, Any], streaming: bool = False, integers: bool = False) -> bytes:
    """An ONNX file with the inputs and outputs of an exported network, and a single layer inside."""
    make, info, float32, int64 = onnx.helper.make_node, onnx.helper.make_tensor_value_info, 1, 7
    encoder = recognizer.model.encoder
    size, stride, outputs = encoder.config.input_size, encoder.time_stride, recognizer.tokenizer.size
    weights = np.random.default_rng(0).normal(size=(size, outputs)).astype(np.float32)
    layer = [make("MatMul", ["rows", "weights"], ["outputs"])]
    constants = {"zero": [0], "end": [1 << 40], "axis": [1], "stride": [stride], "stride_less_one": [stride - 1]}
    initializers = [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    if integers:
        initializers += [
            onnx.numpy_helper.from_array((20 * weights).astype(np.int8), "integers"),
            onnx.numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
        ]
        layer.insert(0, make("DequantizeLinear", ["integers", "scale"], ["weights"]))
    else:
        initializers.append(onnx.numpy_helper.from_array(weights, "weights"))
    caches = {"state": (float32, ["batch", 1, 1, facts.get("state_size")]), "time": (float32, ["batch", 1, 1, 1])}
    caches = {**caches, "count": (int64, ["batch"])} if streaming else {}
    graph = onnx.helper.make_graph(
        [
            make("Transpose", ["features"], ["turned"], perm=[0, 2, 1]),
            make("Slice", ["turned", "zero", "end", "axis", "stride"], ["rows"]),
            *layer,
            make("Add", ["lengths", "stride_less_one"], ["raised"]),
            make("Div", ["raised", "stride"], ["frames"]),
            *(make("Identity", [name], [f"next_{name}"]) for name in caches),
        ],
        "network",
        [
            info("features", float32, ["batch", size, "time"]),
            info("lengths", int64, ["batch"]),
            *(info(name, *each) for name, each in caches.items()),
        ],
        [
            info("outputs", float32, ["batch", "frames", outputs]),
            info("frames", int64, ["batch"]),
            *(info(f"next_{name}", *each) for name, each in caches.items()),
        ],
        initializers,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(model, own_metadata(**facts))
    content: bytes = model.SerializeToString()
    return content


def elsewhere(kind: str, name: str) -> Prepare:
    """An ONNX file of a model folder; the others are beside it."""

    def prepare(folder: Path) -> list[bytes]:
        shutil.copytree(MODELS / kind, folder, dirs_exist_ok=True)
        (folder / ONNX).mkdir()
        recognizer = load_model(folder)
        content = onnx_file(recognizer, utterance_facts(recognizer, "features"), integers=name == INT8)
        (folder / ONNX / FLOAT).write_bytes(content)
        if name == STREAMING:
            facts = stream_facts(recognizer, recognizer.model.encoder.alignment)
            content = onnx_file(recognizer, facts, streaming=True)
        return [content]

    return prepare


def hear_elsewhere(path: Path, runtime: str, precision: str = "fp32") -> None:
    """Transcribe with a network in another runtime."""
    recognizer = load_model(path.parents[1], runtime=runtime, precision=precision)
    recognizer.transcribe(tone(SAMPLE_RATE), sample_rate=SAMPLE_RATE)


def stream_elsewhere(path: Path) -> None:
    """Stream through a network in another runtime."""
    recording = path.parent / "a.wav"
    if not recording.is_file():
        soundfile.write(recording, tone(SAMPLE_RATE), SAMPLE_RATE)
    drain(transcribe_stream(load_model(path.parents[1], runtime="onnxruntime"), Recording("a", recording)))


def halved(folder: Path) -> list[bytes]:
    """Weights in float16; the other files are beside them."""
    shutil.copytree(MODELS / "ctc", folder, dirs_exist_ok=True)
    return [files_of(load_model(folder), "card", float16=True)["model.safetensors"]]


ELSEWHERE = {
    "model.onnx": Target(
        elsewhere("ctc", FLOAT), lambda path: hear_elsewhere(path, "onnxruntime"), name=f"{ONNX}/{FLOAT}"
    ),
    "model.onnx, OpenVINO": Target(
        elsewhere("ctc", FLOAT), lambda path: hear_elsewhere(path, "openvino"), name=f"{ONNX}/{FLOAT}"
    ),
    "model.int8.onnx": Target(
        elsewhere("ctc", INT8), lambda path: hear_elsewhere(path, "onnxruntime", "int8"), name=f"{ONNX}/{INT8}"
    ),
    "model.streaming.onnx": Target(elsewhere("ctc_causal", STREAMING), stream_elsewhere, name=f"{ONNX}/{STREAMING}"),
    "model.safetensors, float16": Target(
        halved, lambda path: read_model(path.parent), "safetensors", "model.safetensors"
    ),
}

# Requests to a server


async def ask(app: Any, scope: dict[str, Any], messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send a request to an ASGI application: what it sends back."""
    waiting, sent = deque(messages), []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.popleft()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"headers": [], "query_string": b"", "client": None, "server": None, **scope}, receive, send)
    return sent


def served(kind: str, scope: dict[str, Any], messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send a request to a server; raises what the server would log as a failure."""
    failures: list[BaseException | None] = []
    server = Server(load_model(MODELS / kind), "small", ServerSettings(port=0))
    try:
        with mock.patch.object(guard.logger, "exception", lambda *_: failures.append(sys.exc_info()[1])):
            sent = asyncio.run(ask(server.config.app, scope, messages))
    finally:
        server.close()
    for failure in failures:
        assert failure is not None
        raise RuntimeError(str(failure)) from failure
    return sent


def upload(path: Path) -> None:
    """Send a form, whose first line is its type."""
    kind, _, body = path.read_bytes().partition(b"\n")
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/audio/transcriptions",
        "headers": [(b"content-type", kind), (b"host", b"localhost")],
    }
    start, *parts = served("ctc", scope, [{"type": "http.request", "body": body}])
    if start["status"] != 200:
        answer = json.loads(b"".join(part.get("body", b"") for part in parts))
        raise ValueError(f"{path}: {answer['error']['message']}")


def forms(folder: Path) -> list[bytes]:
    """Forms as clients send them."""
    soundfile.write(folder / "a.wav", tone(400), SAMPLE_RATE)
    end, audio = "\r\n", (folder / "a.wav").read_bytes()
    contents = []
    for fields in ({"model": "small"}, {"response_format": "verbose_json", "timestamp_granularities[]": "word"}):
        text = "".join(
            f'--x{end}Content-Disposition: form-data; name="{name}"{end}{end}{value}{end}'
            for name, value in fields.items()
        )
        head = f'--x{end}Content-Disposition: form-data; name="file"; filename="a.wav"{end}Content-Type: audio/wav'
        begin = f"multipart/form-data; boundary=x\n{text}{head}{end}{end}"
        contents.append(begin.encode() + audio + f"{end}--x--{end}".encode())
    return [*contents, b"application/x-www-form-urlencoded\nfile=a&model=small", b"application/json\n{}"]


def talk(path: Path) -> None:
    """Open a stream: a JSON list of the query, and of messages, which are texts, or lists of bytes."""
    try:
        query, *rest = json.loads(path.read_bytes())
    except (ValueError, RecursionError, TypeError):
        query, rest = "sample_rate=16000", [path.read_bytes().decode("latin-1")]
    messages: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    for each in rest:
        if isinstance(each, list):
            content = bytes(value % 256 if type(value) is int else 0 for value in each)
            messages.append({"type": "websocket.receive", "bytes": content})
        else:
            messages.append({"type": "websocket.receive", "text": each if isinstance(each, str) else json.dumps(each)})
    scope = {"type": "websocket", "path": "/v1/stream", "query_string": ascii(query).strip("'").encode()}
    scope["extensions"] = {"websocket.http.response": {}}
    for each in served("ctc_causal", scope, [*messages, {"type": "websocket.disconnect", "code": 1000}]):
        for text in (each.get("text"), each.get("body")):
            if text and b"error" in (text if isinstance(text, bytes) else text.encode()):
                raise ValueError(f"{path}: {json.loads(text)['error']['message']}")


MESSAGES = [[0, 1] * 800, [5] * 333, {"type": "end"}]
SERVED = {
    "form of a request": Target(
        forms,
        upload,
        "text",
        words=("boundary=x", "--x", "--x--", "\r\n\r\n", 'name="file"', "srt", "stream", "charset=utf-16"),
    ),
    "messages of a stream": Target(
        given(json.dumps(["sample_rate=16000", *MESSAGES]), json.dumps(["sample_rate=8000", *MESSAGES])), talk, "json"
    ),
}

TARGETS: dict[str, Target] = {
    **ARCHIVES,
    **AUDIO,
    **IMAGES,
    **SCORING,
    **WORDS,
    **CORPORA,
    **SHARDS,
    **MODEL_FILES,
    **STUDIES,
    **HYBRID,
    **REPORTS,
    **ELSEWHERE,
    **SERVED,
}
"""Kinds of files by name."""
