"""Damaged files that readers once did not take as they should, as small as they could be made.

Kind of file in `fuzz_targets.py`, and a change of its good contents, or a content in their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Change = Callable[[bytes], bytes]


def instead(content: bytes) -> Change:
    """The same content whatever the good one is."""
    return lambda good: content


def replace(old: bytes, new: bytes) -> Change:
    """Something else in one place."""

    def change(good: bytes) -> bytes:
        assert old in good
        return good.replace(old, new, 1)

    return change


MANY_DIGITS = b"9" * 5000
REGRESSIONS: dict[str, tuple[str, Change]] = {
    # Audio: sizes and places in headers.
    "W64, size of a chunk": ("W64", lambda good: good[:56] + b"\xff" * 7 + b"\x7f" + good[64:]),
    "AU, samples within the header": ("AU", lambda good: good[:4] + bytes(8) + good[12:]),
    "MP3, cut off in its first frame": ("MP3", instead(b"\xff\xf3\x88\xc4" + bytes(9) + b"Xing")),
    # Language models.
    "ARPA, count": ("ARPA", replace(b"ngram 1=4", b"ngram 1=" + MANY_DIGITS)),
    "ARPA, n-gram in another encoding": ("ARPA", replace(b"YES NO", b"\xebU")),
    "ARPA, compressed, cut off": ("ARPA, compressed", lambda good: good[:-30]),
    "ARPA, compressed, checksum": ("ARPA, compressed", lambda good: good[:-8] + bytes(4) + good[-4:]),
    "ARPA, compressed, block": ("ARPA, compressed", lambda good: good[:-10] + b"\0" + good[-9:]),
    "ARPA, compressed, something behind it": ("ARPA, compressed", lambda good: good + b"more"),
    # Values of other types, and texts that are not to be printed.
    "decoding settings, line feed in a key": ("decoding settings", instead(b'{"\\n": 3}')),
    "decoding settings, long key": ("decoding settings", instead(b'{"%s": 3}' % (b"a" * 5000))),
    "study, number as a key": ("study", replace(b"{lr: 0.1}", b"{lr: 0.1, 1: 2}")),
    "study, control character": ("study", replace(b"widths", b"wid\xc2\x94ths")),
    "STM, unusual line end": ("STM", replace(b"1.0 2.5", b"\xe2\x80\xa8 2.5")),
    "config.json, missing size": ("config.json, hybrid", replace(b'"tied_states": 21,', b"")),
    "config.json, large number": ("config.json, ctc", replace(b"25.0", b"1%s" % (b"0" * 400))),
    "decoding settings, large number": ("decoding settings", instead(b'{"lm_weight": 1%s}' % (b"0" * 400))),
    "checkpoint, number as a name": ("experiment, CKPT.yaml", lambda good: good + b"checksums: {1: 2}\n"),
    "checkpoint, no inputs": ("experiment, CKPT.yaml", lambda good: good + b"inputs:\n"),
    "checkpoint, tab": ("experiment, CKPT.yaml", replace(b": false", b": \t")),
    "recipe, no key": ("recipe", replace(b"cache_audio", b"null")),
    "recipe, includes itself": ("recipe", instead(b"!include:recipe.yaml\nseed: 1\n")),
    # Depth and size.
    "trn, nested alternatives": ("transcripts, trn", instead(b"%s a %s (u-1)\n" % (b"{ " * 1000, b" }" * 1000))),
    "CTM, nested alternatives": (
        "CTM",
        instead(b"a A * * <ALT_BEGIN>\n" * 1000 + b"a A 0 1 a\n" + b"a A * * <ALT_END>\n" * 1000),
    ),
    # Manifests and lists.
    "manifest, duration": ("manifest", replace(b"a,1.0", b"a,one")),
    "manifest, no duration": ("manifest", replace(b"ID,duration", b"ID,")),
    "manifest, long path": ("manifest, shards", replace(b"x.tar#0:9", b"x.tar#" + MANY_DIGITS)),
    "list, home of nobody": ("list, its recordings", replace(b"a.wav", b"~nobody at all/a.wav")),
    "speechocean762, age": ("speechocean762, ages", replace(b"\t6", b"\t" + MANY_DIGITS)),
    "transitions, number": ("transitions", replace(b"pdf = 4", b"pdf = 99999999999")),
    # Libraries that crash, or raise errors of their own.
    "graph, first state": ("graph", replace(bytes(8) + b"\2" + bytes(7), b"\2" + bytes(7) + b"\2" + bytes(7))),
    "tied states, no archive": ("tied states", instead(b"PK\3\4")),
    "alignments, cut off": ("alignments", lambda good: good[:60]),
    "alignments, empty": ("alignments", instead(b"")),
    "alignments, Kaldi's, encoding": ("alignments, Kaldi's", instead(b"\xff 1 2\n")),
    "alignments, Kaldi's, no numbers": ("alignments, Kaldi's", instead(b"a b\n")),
    "weights of an experiment": ("experiment, weights", lambda good: good[:4097]),
    # Files that this project writes itself.
    "hub cache, encoding": ("hub cache", instead(b"\xff")),
    "hybrid model, phones": ("tokenizer.json, hybrid", replace(b'"A"', b'"Z"')),
    "scores, nothing of a set": ("scores.json", instead(b'{"dev": null}')),
    "scores, no words": ("scores.json", instead(b'{"dev": {"all": {}}}')),
    "scores of images": ("score.json", instead(b'{"top1": null}')),
    "costs, latency": ("costs of a network", instead(b'{"latency_ms": "1"}')),
    "epochs, no number": ("epochs of a training", replace(b"3.5\n", b"\n")),
    "epochs, no seconds": ("epochs of a training", replace(b"seconds", b"minutes")),
    "iterations, no number": ("iterations of a training", replace(b"1,6,0", b"1,nan,0")),
    "iterations, no column": ("iterations of a training", replace(b"iteration,", b",")),
    "recipe, control character": ("recipe", replace(b"seed: 1234", b"seed: \x01")),
    "recipe, date": ("recipe", replace(b"seed: 1234", b"seed: 2001-99-99")),
    "FLAC from a pipe, nothing but its header": ("AIFF and FLAC, from a pipe", lambda good: good[:42]),
    "graph, number of a word": ("graph, words", replace(b"YES 1", b"YES " + MANY_DIGITS)),
    # Tables and studies.
    "study, long seed": ("study, comparisons", replace(b"[1, 2]", b"[1, %s]" % MANY_DIGITS[:300])),
    "study, long name": ("study, comparisons", replace(b'"twin"}', b'"%s"}' % (b"a" * 300))),
    "results, cost": ("study, results", replace(b"150000000", b"yes")),
    "results, number of epochs": ("study, results", replace(b",5,10,", b",%,10,")),
    "results, infinite": ("study, results", replace(b",5,10,", b",5,inf,")),
    "results, no count of errors": (
        "study, results",
        lambda good: re.sub(rb"(?m)^(.*,bl,.*?,[\d.]+,\d+),\d+,(\d+,\d+,,.*)$", rb"\1,,\2", good),
    ),
    "epochs, endless": ("study, epochs of a run", replace(b"61.5", b"inf")),
    "report, long path of audio": ("report, manifest of a recipe", replace(b"/nowhere/", b"/" + b"a" * 5000)),
    # Networks in other runtimes.
    "ONNX, unknown operator": ("model.onnx", replace(b"MatMul", b"MatMux")),
    "ONNX, other axis": ("model.onnx", replace(b"perm", b"pern")),
    "ONNX, other inputs": ("model.onnx", replace(b'"features"', b'"feature_"')),
    "ONNX, encoding": ("model.onnx", replace(b'{"content"', b'\xff"content"')),
    "ONNX, not finite": (
        "model.onnx",
        lambda good: re.sub(rb"(weightsJ..)....", lambda found: found[1] + b"\0\0\xc0\x7f", good, flags=re.S),
    ),
    "ONNX, stream without frames": ("model.streaming.onnx", lambda good: re.sub(rb'"window": .', b'"window": 0', good)),
    "ONNX, large state": ("model.streaming.onnx", lambda good: re.sub(rb'"state_size": ..', b'"state_size": 1e', good)),
}
