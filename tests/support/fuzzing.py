"""Gives readers damaged files, and says which of them end otherwise than in a value or in one sentence.

`make fuzz` calls this module's command. `fuzz_targets.py` lists the kinds of files and their readers.
tests/test_fuzz.py gives each reader a few files, the same each time.

Readers run in a forked process with limits on memory and time, since libraries that they use may crash.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import hashlib
import itertools
import json
import logging
import math
import os
import random
import re
import resource
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from speechbrain.utils.importutils import LazyModule

from biglittle_asr.messages import LONGEST_SENTENCE, FatalError, explain_failure

SECONDS = 10
"""CPU time that a reader may take for a file."""
SILENCE = 300
"""Seconds after which a process that reports nothing is killed: the machine may be busy, or wait for a program."""
MEMORY = 4 << 30
"""Bytes that readers may allocate beyond what the process has at its start."""
ROUND = 100
"""Files between two looks at the clock."""
SAMPLE = "file"
"""Name of the file under test, where the kind of file asks for no other."""


@dataclass(frozen=True)
class Target:
    """A kind of file, and what reads it."""

    prepare: Callable[[Path], Sequence[bytes]]
    """Makes a folder ready for the reader, and returns good contents of the file under test, which need not exist."""
    read: Callable[[Path], object]
    """Reads the file under test, all of it: iterators are exhausted."""
    form: str = "bytes"
    """How files are damaged: a key of FORMS."""
    name: str = SAMPLE
    """Name of the file under test within the folder."""
    words: Sequence[str] = ()
    """Words that mean something in such files, to be put in wrong places."""


@dataclass(frozen=True)
class Finding:
    """A file that a reader does not read as it should."""

    what: str
    """What happened, in a sentence."""
    key: str
    """The same for all files that show the same fault."""
    content: bytes = field(repr=False)
    trace: str = field(repr=False, default="")


class TooSlow(BaseException):
    """The reader has used up its time; not an Exception, lest the reader handles it."""


# Damaged files

WORDS = (
    *("", "0", "-1", "1", "2", "1.5", "-0.0", "1e999", "1e-999", "nan", "inf", "-inf", "NaN", "Infinity"),
    *("9" * 20, "9" * 5000, "0x10", "1_0", "0b", "0o9", "1:99", "\u0661", "\u00b2", "2001-99-99", "12:61:61"),
    *("a", "A", "\u00e4", "\u0130", "\ufb01", "a" * 5000, "\U0001f600", "e\u0301", "\ufeff", "\u00a0", "\u2028"),
    *("\0", "\x0b", "\x1b[31m", "\x85", "\t", " ", "\r", "\n", "\r\n", "\n\n", "\ufffe"),
    *(".", "..", "/", "../..", "~", "C:\\", "http://localhost:1/a", "s3://a/b", "|", "a |"),
    *("null", "true", "yes", "~", "[]", "{}", "[", "]", "{", "}", "(", ")", "<", ">", "'", '"', "`", "\\", "\\n"),
    *("*", "*a", "&a", "&a [*a]", "%", "@", "#", ";", ";;", ",", ":", ": ", "- ", "? ", "=", "<<: ", "---", "..."),
    *("$", "${a}", "{0}", "%s", "-", "--help", "[" * 2000, '{"a":' * 2000, "- " * 1000, "{ " * 1000),
)
"""Words that are special somewhere. None begins a tag of YAML, which might execute something."""
VALUES = (
    *(None, True, False, 0, -1, 1, 2, 255, 2**31, 2**63, 10**30, 10**400, 0.5, -0.5, 1e-300, 1e300, math.nan, math.inf),
    *("", "a", " ", "0", "\0", "\n", "\ud800", "\x1b[31m", "a" * 5000, "null", "\u2028"),
    *([], [0], [[]], ["a", "a"], [None], {}, {"": 0}, {"a": {}}, [0] * 5000),
)
"""Values that are special somewhere in JSON."""
NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 1000, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
NUMBERS = (*NUMBERS, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Sizes that are special somewhere in binary files."""
WORD = re.compile(rb"[^\s,:;=|\"'{}()\[\]<>/]+")

places = st.one_of(st.integers(0, 127), st.integers(0, 4095), st.integers(0, 2**20))


@st.composite
def number_bytes(draw: st.DrawFn) -> bytes:
    """A special number as 1 to 8 bytes of either order."""
    size, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
    return (draw(st.sampled_from(NUMBERS)) % 256**size).to_bytes(size, order)


@st.composite
def change_bytes(draw: st.DrawFn, content: bytes, words: Sequence[str]) -> bytes:
    """Change a place of a binary file."""
    place = draw(places) % (len(content) + 1)
    kind = draw(st.sampled_from(("set", "cut off", "remove", "insert", "repeat", "move")))
    if kind == "cut off":
        return content[:place]
    if kind in ("set", "insert"):
        new = draw(st.one_of(number_bytes(), st.binary(min_size=1, max_size=8)))
        return content[:place] + new + content[place + len(new) * (kind == "set") :]
    count = draw(st.one_of(st.integers(1, 16), st.integers(1, 2**16)))
    piece, rest = content[place : place + count], content[place + count :]
    if kind == "remove":
        return content[:place] + rest
    if kind == "repeat":
        return content[:place] + piece * draw(st.integers(2, 5)) + rest
    there = draw(places) % (len(content) + 1)
    return content[:there] + piece + content[there:]


@st.composite
def change_words(draw: st.DrawFn, content: bytes, words: Sequence[str]) -> bytes:
    """Change a word of a text file."""
    found = list(WORD.finditer(content))
    if not found:
        return content + draw(st.sampled_from((*WORDS, *words))).encode()
    start, stop = found[draw(st.integers(0, len(found) - 1))].span()
    kind = draw(st.sampled_from(("replace", "replace", "insert", "remove", "swap")))
    if kind == "remove":
        return content[:start] + content[stop:]
    if kind == "swap":
        other = found[draw(st.integers(0, len(found) - 1))].group()
        return content[:start] + other + content[stop:]
    new = draw(st.one_of(st.sampled_from((*WORDS, *words)), st.text(st.characters(exclude_characters="!"), max_size=3)))
    return content[:start] + new.encode("utf-8", "replace") + content[start if kind == "insert" else stop :]


@st.composite
def change_lines(draw: st.DrawFn, content: bytes, words: Sequence[str]) -> bytes:
    """Remove, repeat, move or cut a line of a text file."""
    lines = content.splitlines(keepends=True) or [b""]
    place, there = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    kind = draw(st.sampled_from(("remove", "repeat", "move", "cut", "join")))
    line = lines[place]
    if kind in ("remove", "move"):
        del lines[place]
    if kind in ("repeat", "move"):
        lines.insert(there, line)
    if kind == "cut":
        lines[place] = line[: draw(st.integers(0, len(line)))]
    if kind == "join":
        lines[place] = line.rstrip(b"\r\n")
    return b"".join(lines)


@st.composite
def change_json(draw: st.DrawFn, content: bytes, words: Sequence[str]) -> bytes:
    """Change a value or a key of JSON; text that is none any more stays as it is."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return content
    holders = [
        (holder, key)
        for holder in _holders(tree)
        for key in (holder if isinstance(holder, dict) else range(len(holder)))
    ]
    new = draw(
        st.one_of(
            st.sampled_from(VALUES), st.sampled_from((*words, "a")), st.integers(), st.floats(), st.text(max_size=3)
        )
    )
    new = json.loads(json.dumps(new))
    if not holders:
        return json.dumps(new).encode()
    holder, key = holders[draw(st.integers(0, len(holders) - 1))]
    kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "wrap", "rename", "add")))
    if kind == "remove":
        del holder[key]
    elif kind == "wrap":
        holder[key] = draw(st.sampled_from(([holder[key]], {"a": holder[key]})))
    elif kind in ("rename", "add") and isinstance(holder, dict):
        name = new if isinstance(new, str) else draw(st.sampled_from([*holder, "kind", "a"]))
        holder[name] = holder.pop(key) if kind == "rename" else new
    else:
        holder[key] = new
    return json.dumps(tree, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


def _keys(holder: Any) -> Sequence[Any]:
    return list(holder) if isinstance(holder, dict) else range(len(holder))


def _holders(tree: Any) -> Iterator[Any]:
    """Every list and object of a tree that is not empty."""
    if isinstance(tree, (list, dict)) and tree:
        yield tree
        for each in tree.values() if isinstance(tree, dict) else tree[:50]:
            yield from _holders(each)


@st.composite
def change_header(draw: st.DrawFn, content: bytes, words: Sequence[str]) -> bytes:
    """Change the JSON header of a safetensors file, which begins with its length."""
    size = int.from_bytes(content[:8], "little")
    header = draw(change_json(content[8 : 8 + size], words))
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


Change = Callable[[bytes, Sequence[str]], st.SearchStrategy[bytes]]
FORMS: Mapping[str, Sequence[Change]] = {
    "bytes": (change_bytes,),
    "text": (change_words, change_words, change_lines, change_bytes),
    # Tags of YAML may execute something: nothing is put in that may become one.
    "values": (change_words, change_words, change_lines),
    "json": (change_json, change_json, change_json, change_words, change_bytes),
    "safetensors": (change_header, change_header, change_bytes),
}
"""Form of a file -> its changes; more likely ones occur more often."""


@st.composite
def damaged(draw: st.DrawFn, contents: Sequence[bytes], form: str, words: Sequence[str]) -> bytes:
    """One of the good contents with one to four changes."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 4))):
        content = draw(draw(st.sampled_from(FORMS[form]))(content, words))
    return content


# Reading them


def fault(target: Target, folder: Path, content: bytes) -> Finding | None:
    """Read a file of some content: None if it ends in a value or in one sentence about a file of the folder."""
    path = folder / target.name
    path.write_bytes(content)
    signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        what = complaint(error, path.name, folder)
        if what is None:
            return None
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/biglittle_asr/" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "outside"
        kind = type(error).__name__ if not isinstance(error, ValueError | OSError) else what.partition(":")[0]
        return Finding(what, f"{kind} in {place}", content, "".join(traceback.format_exception(error)))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def complaint(error: BaseException, name: str, folder: Path) -> str | None:
    """What is wrong with the exception that a reader has raised; None if it is a sentence about the file."""
    if isinstance(error, TooSlow):
        return f"takes more than {SECONDS} s"
    if not isinstance(error, ValueError | OSError | FatalError):
        return f"raises {type(error).__name__}: {error}"
    text = explain_failure(error) or ""
    if name not in text and str(folder) not in text:
        return f"does not name the file: {type(error).__name__}: {text}"
    if not text.isprintable():
        return f"is not of visible characters: {ascii(text)}"
    if not text.endswith((".", "?")):
        return f"is not a sentence: {text}"
    if len(text) > LONGEST_SENTENCE:
        return f"is too long: {text}"
    return None


def _too_slow(number: int, frame: object) -> None:
    raise TooSlow


class Faulty(Exception):
    """Tells hypothesis of a fault."""


def explore(
    target: Target,
    folder: Path,
    contents: Sequence[bytes],
    number: int,
    examples: int,
    known: Set[str],
    tell: Callable[[], object],
) -> Finding | None:
    """Read some damaged files, which the number determines: the first fault beside known ones, in a small file.

    Arguments
    ---------
    tell : callable
        Called before each file.
    """
    found: list[Finding] = []

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(damaged(contents, target.form, target.words))
    def check(content: bytes) -> None:
        tell()
        finding = fault(target, folder, content)
        # While a file is made smaller, it must not become an example of another fault.
        if finding is not None and finding.key not in known and (not found or finding.key == found[0].key):
            found.append(finding)
            raise Faulty

    with contextlib.suppress(Faulty):
        check()
    return min(found, key=lambda finding: len(finding.content)) if found else None


# Processes


@dataclass
class Report:
    """What came of reading damaged files of a kind."""

    files: int = 0
    findings: list[Finding] = field(default_factory=list)


def fuzz(target: Target, number: int = 0, examples: int = ROUND, seconds: float = 0) -> Report:
    """Read damaged files of a kind in a process of its own.

    Arguments
    ---------
    target : Target
    number : int
        The same number of examples for the same number are the same files.
    examples : int
        Files of a round.
    seconds : float
        Another round begins until this time is over.
    """
    warm_up()
    report, end = Report(), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz") as temporary:
        folder = Path(temporary)
        contents = target.prepare(folder)

        def rounds(tell: Callable[[object], None]) -> None:
            known = {finding.key for finding in report.findings}
            for current in itertools.count(number):
                finding = explore(target, folder, contents, current, examples, known, functools.partial(tell, current))
                if finding is not None:
                    known.add(finding.key)
                    tell({**asdict(finding), "content": base64.b64encode(finding.content).decode()})
                if time.monotonic() >= end:
                    return

        while True:
            process, messages = start(rounds)
            for message in messages:
                if isinstance(message, str):
                    raise RuntimeError(message)
                if isinstance(message, dict):
                    message["content"] = base64.b64decode(message["content"])
                    report.findings.append(Finding(**message))
                else:
                    report.files += 1
                    number = message
            death = finish(process)
            if death is not None:
                report.findings.append(
                    Finding(f"kills the process: {death}", death, (folder / target.name).read_bytes())
                )
                number += 1
            if death is None or time.monotonic() >= end:
                return report


def read_in_process(target: Target, change: Callable[[bytes], bytes]) -> list[Finding]:
    """Read the good contents with a change in a process of its own: the faults."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as temporary:
        folder = Path(temporary)
        contents = [change(content) for content in target.prepare(folder)]

        def work(tell: Callable[[object], None]) -> None:
            for content in contents:
                finding = fault(target, folder, content)
                tell(None if finding is None else [finding.what, finding.key, finding.trace])

        process, messages = start(work)
        findings = [Finding(*message[:2], b"", message[2]) for message in messages if message]
        death = finish(process)
        return findings if death is None else [*findings, Finding(f"kills the process: {death}", death, b"")]


def start(work: Callable[[Callable[[object], None]], None]) -> tuple[int, Iterator[Any]]:
    """Fork a process with limits that does some work and sends messages: its number, and the messages as they come."""
    reading, writing = os.pipe()
    sys.stdout.flush(), sys.stderr.flush()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.close(reading)
            limit()
            with without_lazy_modules():
                work(lambda message: os.write(writing, json.dumps(message).encode() + b"\n"))
            status = 0
        except BaseException:
            os.write(writing, json.dumps(traceback.format_exc()).encode() + b"\n")
        finally:
            # Whatever failed, in the report of a failure too: a second pytest must not run on.
            os._exit(status)
    os.close(writing)
    return process, receive(process, reading)


def limit() -> None:
    """Limit memory, and keep what libraries print out of the report."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


@contextlib.contextmanager
def without_lazy_modules() -> Iterator[None]:
    """Hypothesis looks at all modules, and some of SpeechBrain's import other packages when they are looked at."""
    lazy = {name: module for name, module in sys.modules.items() if isinstance(module, LazyModule)}
    for name in lazy:
        del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(lazy)


@functools.cache
def warm_up() -> None:
    """Have hypothesis read the source of all modules once, and not in every process."""

    @settings(max_examples=100, database=None)
    @given(st.integers())
    def nothing(number: int) -> None:
        pass

    with without_lazy_modules():
        nothing()


def receive(process: int, reading: int) -> Iterator[Any]:
    """Messages of a process up to its end; one that is silent for long is killed."""
    rest = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while True:
            if not select.select([pipe], [], [], SILENCE)[0]:
                os.kill(process, signal.SIGKILL)
            block = pipe.read(1 << 16)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            yield from map(json.loads, lines)


def finish(process: int) -> str | None:
    """Wait for a process: None if it ended well, otherwise how it ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status == 0:
        return None
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz some or all targets."""
    from support.fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(prog="make fuzz", description="Give every reader of files damaged ones.")
    parser.add_argument("targets", metavar="KIND", nargs="*", help="kinds of files (default: all)")
    parser.add_argument("--seconds", type=float, default=300, help="time for all kinds together (default: 300)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed begins with the same files")
    parser.add_argument("--output", type=Path, default=Path("results/fuzz"), help="folder for what was found")
    options = parser.parse_args(argv)
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no kind is called '{unknown[0]}'; known are {', '.join(TARGETS)}.")
    names = options.targets or list(TARGETS)
    number = random.randrange(2**40) if options.seed is None else options.seed
    print(f"seed {number}")
    faults = 0
    for name in names:
        report = fuzz(TARGETS[name], number, seconds=options.seconds / len(names))
        print(f"{name}: {report.files} files, {len(report.findings)} faults", flush=True)
        faults += len(report.findings)
        for finding in report.findings:
            options.output.mkdir(parents=True, exist_ok=True)
            place = options.output / re.sub(r"\W+", "-", f"{name} {hashlib.sha1(finding.key.encode()).hexdigest()[:8]}")
            place.write_bytes(finding.content)
            place.with_suffix(".txt").write_text(f"{finding.what}\n{finding.key}\n{finding.trace}", errors="replace")
            print(f"  {finding.key}: {finding.what[:300]} ({place})", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
