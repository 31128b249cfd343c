"""Layouts of audio files of which libsndfile alone would silently read only a part.

libsndfile trusts lengths that are guessed (MP3), that describe the first of several recordings (chained Ogg), or that a
recorder never filled in (WAV). If a file is shorter than promised, it reports no error. :func:`examine` measures what a
file really holds. It returns how to read all of it, or raises :class:`DamageError`.

This costs a few small reads for WAV, AIFF, FLAC and most MP3; other files are scanned frame by frame or page by page.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple, Protocol

MAGIC_BYTES = 16
"""Number of bytes that identify a container."""
BLOCK_BYTES = 2**20
UNKNOWN_BYTES = 2**62
"""Size of a stream without a known end. Headers with at least this size do not know it either."""


class DamageError(ValueError):
    """A file holds less audio than its header promises.

    Arguments
    ---------
    message : str
        Problem and advice, without the file's name.
    fault : str
        A key of `biglittle_asr.corpora.checks.FAULTS`.
    """

    def __init__(self, message: str, fault: str = "truncated") -> None:
        super().__init__(message)
        self.fault = fault


class Part(NamedTuple):
    """The position of a recording in a file."""

    prefix: bytes
    """Bytes to read instead of everything before `start`."""
    start: int
    stop: int
    """End of the bytes to read, exclusive."""


class Bytes(Protocol):
    """Random access to the bytes of a file."""

    size: int

    def at(self, place: int, count: int) -> bytes:
        """Up to `count` bytes from `place` on; fewer at the end."""
        ...


class FileBytes:
    """Bytes of an open file. The position of its descriptor does not change.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> _ = path.write_bytes(b"abcdef")
    >>> with path.open("rb") as file:
    ...     FileBytes(file.fileno()).at(2, 3)
    b'cde'
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def at(self, place: int, count: int) -> bytes:
        """Up to `count` bytes from `place` on; fewer at the end."""
        # Places and sizes come from headers, which may say anything.
        count = min(count, self.size - place)
        return os.pread(self.descriptor, count, place) if place >= 0 and count > 0 else b""


def examine(file: Bytes) -> list[Part]:
    r"""Compare a file's header with its content.

    Arguments
    ---------
    file : Bytes

    Returns
    -------
    list of Part
        Empty if libsndfile reads the whole file correctly; otherwise the recordings in the file.

    Raises
    ------
    DamageError
        If the file is truncated, or cannot be read completely.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.zeros(100), 8000)
    >>> content = path.read_bytes()
    >>> _ = path.write_bytes(content[:40] + b"\0\0\0\0" + content[44:])  # as a killed recorder leaves it
    >>> with path.open("rb") as opened:
    ...     [(part.prefix[40:], part.start, part.stop) for part in examine(FileBytes(opened.fileno()))]
    [(b'\xc8\x00\x00\x00', 44, 244)]
    """
    magic = file.at(0, MAGIC_BYTES)
    if magic[:4] in IFF_BYTE_ORDERS:
        return _examine_iff(file, IFF_BYTE_ORDERS[magic[:4]])
    if magic[:4] == b".snd":
        return _examine_au(file)
    if magic[:4] == b"RF64":
        return _examine_long(file, RF64)
    if magic[:4] == b"caff":
        return _examine_long(file, CAF)
    if magic == W64_RIFF:
        return _examine_long(file, W64)
    if magic[:4] == b"OggS":
        return _examine_ogg(file)
    if magic[:3] == b"ID3" or _frame(magic[:4]) is not None:
        return _examine_mpeg(file)
    return []


def _refuse_cut_off(file: Bytes, place: int, promised: int) -> None:
    if file.size - place < promised:
        raise DamageError(f"holds {file.size - place} of the {promised} bytes its header promises; replace the file.")


# WAV and AIFF

IFF_BYTE_ORDERS = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}
"""Byte order of numbers, by the first four bytes of WAV (either byte order) and AIFF."""
IFF_AUDIO_CHUNKS = (b"data", b"SSND")
IFF_MAX_CHUNKS = 1000
"""Largest number of chunks searched for the samples."""
IFF_PLACEHOLDERS = (
    range(1),
    range(0x7F000000, 0x7F000400),
    range(0x7FFF0000, 0x80000400),
    range(0xFFFF0000, 0x100000000),
)
"""Sizes that programs write before they know the length. arecord, ffmpeg, GStreamer and SoX use different ones."""
HEADER_COUNTED = (8, 16, 36, 44)
"""Excess in bytes of sizes from programs that count (parts of) the header as samples."""
RF64_CODECS = (1, 3, 6, 7, 0xFFFE)
"""WAV format tags that libsndfile also reads in RF64: PCM, floating point, A-law, mu-law, extensible."""


def _examine_iff(file: Bytes, byte_order: str) -> list[Part]:
    place = data_place(file, byte_order)
    if place is None:
        return []
    name, promised = struct.unpack(f"{byte_order}4sI", file.at(place - 8, 8))
    held = file.size - place
    if promised <= held and promised != 0 and not _is_placeholder(promised):
        return []
    if promised == 0 and (held == 0 or _are_chunks(file, place, byte_order)):
        return []
    if _is_placeholder(promised):
        # libsndfile reads to the end of the file if it is shorter than the placeholder, or AIFF without a size.
        if held <= promised or (name == b"SSND" and promised == 0):
            return []
        if name == b"SSND":
            raise DamageError("is longer than its header can say; convert it to FLAC.")
        return [Part(wav_header(file.at(0, place), byte_order, held), place, file.size)]
    if promised - held not in (*HEADER_COUNTED, place - 8, place):
        _refuse_cut_off(file, place, promised)
    return []


def data_place(file: Bytes, byte_order: str) -> int | None:
    """Find where the samples of a WAV or AIFF file begin; None if its header does not say."""
    place = 12
    for _ in range(IFF_MAX_CHUNKS):
        header = file.at(place, 8)
        if len(header) < 8:
            return None
        name, size = struct.unpack(f"{byte_order}4sI", header)
        if name in IFF_AUDIO_CHUNKS:
            return place + 8
        if not _is_placeholder(size):
            _refuse_cut_off(file, place + 8, size)
        # Chunks begin at even offsets.
        place += 8 + size + size % 2
    return None


def wav_header(header: bytes, byte_order: str, size: int) -> bytes:
    """Write a size in bytes into a WAV header, which becomes RF64 if the size is too large for WAV."""
    if size < 2**32:
        return header[:-4] + struct.pack(f"{byte_order}I", size)
    place = header.find(b"fmt ", 12)
    codec = header[place + 8 : place + 10]
    if header[:4] != b"RIFF" or place < 0 or int.from_bytes(codec, "little") not in RF64_CODECS:
        raise DamageError("is longer than a WAV file of its kind can be; convert it to FLAC.")
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, len(header) + 36 + size - 8, size, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + header[12:-4] + b"\xff\xff\xff\xff"


def _is_placeholder(size: int) -> bool:
    return any(size in sizes for sizes in IFF_PLACEHOLDERS)


def _are_chunks(file: Bytes, place: int, byte_order: str) -> bool:
    """Whether the rest of the file, from a given place on, consists of chunks rather than samples."""
    for _ in range(IFF_MAX_CHUNKS):
        header = file.at(place, 8)
        if len(header) < 8:
            return len(header) == 0
        name, size = struct.unpack(f"{byte_order}4sI", header)
        if not name.isascii() or not name.decode("ascii").isprintable():
            return False
        place += 8 + size + size % 2
    return False


# Other containers of samples

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
AU_UNKNOWN = 0xFFFFFFFF


def _examine_au(file: Bytes) -> list[Part]:
    header = file.at(0, 12)
    if len(header) < 12:
        return []
    place, promised = struct.unpack(">II", header[4:])
    held = file.size - place
    if promised == 0 < held:
        return [Part(header[:8] + struct.pack(">I", AU_UNKNOWN) + file.at(12, place - 12), place, file.size)]
    if promised != AU_UNKNOWN and not _is_placeholder(promised):
        _refuse_cut_off(file, place, promised)
    return []


class _LongChunks(NamedTuple):
    """Layout of the chunks of a container with 64-bit sizes."""

    first: int
    """Offset of the first chunk."""
    header: str
    """Name and size, in the notation of `struct`."""
    counted: int
    """Number of header bytes that the size includes."""
    step: int
    """Alignment of chunks in bytes."""


RF64 = _LongChunks(12, "<4sI", 0, 2)
CAF = _LongChunks(8, ">4sq", 0, 1)
W64 = _LongChunks(40, "<16sQ", 24, 8)


def _examine_long(file: Bytes, chunks: _LongChunks) -> list[Part]:
    place, length, long_size = chunks.first, struct.calcsize(chunks.header), 0
    for _ in range(IFF_MAX_CHUNKS):
        header = file.at(place, length)
        if len(header) < length:
            break
        name, size = struct.unpack(chunks.header, header)
        size -= chunks.counted
        place += length
        if name == b"ds64" and len(sizes := file.at(place, 16)) == 16:
            long_size = struct.unpack("<Q", sizes[8:])[0]
        if name[:4] == b"data":
            if chunks is CAF and size < 0:
                prefix = file.at(0, place - 8) + struct.pack(">q", file.size - place)
                return [Part(prefix, place, file.size)]
            size = long_size if chunks is RF64 else size
            if 0 < size < UNKNOWN_BYTES:
                _refuse_cut_off(file, place, size)
            break
        if size < 0:
            break
        place += size
        place += -place % chunks.step
    return []


# FLAC

FLAC_MARK = b"fLaC\0\0\0\x22"
"""First bytes of a file: the marker, and the header of a block of constant size."""


def has_another_flac(file: Bytes, place: int) -> bool:
    """Whether a FLAC file begins at or after a place."""
    overlap = len(FLAC_MARK) - 1
    while content := file.at(place, BLOCK_BYTES):
        if FLAC_MARK in content:
            return True
        place += max(1, len(content) - overlap)
    return False


# Ogg

OGG_HEADER = struct.Struct("<4sBBqIIIB")
OGG_FIRST = 2


def _examine_ogg(file: Bytes) -> list[Part]:
    """Find the links of a chained Ogg file, which are separate recordings."""
    starts: list[int] = []
    place, in_headers = 0, False
    while place < file.size:
        header = file.at(place, OGG_HEADER.size + 255)
        if len(header) < OGG_HEADER.size:
            raise DamageError("ends in the middle of a page, like an incomplete download; replace the file.")
        magic, _, kind, _, _, _, _, segments = OGG_HEADER.unpack_from(header)
        if magic != b"OggS":
            raise DamageError(
                f"has no Ogg page at byte {place}, where one should begin; replace the file.", "unreadable"
            )
        is_first = bool(kind & OGG_FIRST)
        # Streams that play simultaneously begin together.
        if is_first and not in_headers:
            starts.append(place)
        in_headers = is_first
        place += OGG_HEADER.size + segments + sum(header[OGG_HEADER.size : OGG_HEADER.size + segments])
    if place > file.size:
        raise DamageError("ends in the middle of a page, like an incomplete download; replace the file.")
    if len(starts) < 2:
        return []
    return [Part(b"", start, stop) for start, stop in zip(starts, [*starts[1:], file.size], strict=True)]


# MPEG audio (MP3)

MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sample rates in Hz, by the two bits of the version (MPEG 1, 2 and 2.5)."""
MPEG_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by index from 1, by (MPEG 1, layer)."""
MPEG_ALIKE = 0xFFFE0C00
"""Header bits that are constant throughout a recording: sync, version, layer, sample rate."""


class _Frame(NamedTuple):
    """Fields from the header of an MPEG audio frame."""

    layer: int
    rate: int
    samples: int
    bytes: int
    tag_place: int
    """Offset in the frame at which a Xing header would begin."""


def _frame(header: bytes) -> _Frame | None:
    """Parse the four bytes of a header; None if they are not a header, or have a free bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    kbps_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or kbps_index in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    rate, kbps = MPEG_RATES[version][rate_index], MPEG_KBPS[first, layer][kbps_index - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    slot = 4 if layer == 1 else 1
    size = (samples // 8 * 1000 * kbps // (rate * slot) + padding) * slot
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(layer, rate, samples, size, 4 + side)


def _examine_mpeg(file: Bytes) -> list[Part]:
    start = _first_frame(file)
    if start is None:
        return []
    head = file.at(start, 4)
    first = _frame(head)
    assert first is not None
    content = file.at(start, first.bytes)
    tag = content[first.tag_place : first.tag_place + 16]
    promised = None
    if first.layer == 3 and len(tag) == 16 and tag[:4] in (b"Xing", b"Info"):
        flags, frames, size = struct.unpack(">III", tag[4:])
        promised = frames if flags & 1 else None
        if flags & 3 == 3 and _is_tail(file, start + size):
            return []
    counted, complete = _count_frames(file, start)
    if promised is not None:
        # The frame that gives the number has no sound.
        start, counted = start + first.bytes, counted - 1
        if counted < promised - 1 or (counted < promised and not complete):
            raise DamageError(f"holds {counted} of the {promised} frames its header promises; replace the file.")
    if not complete:
        raise DamageError("ends in the middle of a frame, like an incomplete download; replace the file.")
    if promised is not None and promised <= counted <= promised + 1:
        return []
    if first.layer != 3:
        # libsndfile assumes that all frames have the bit rate of the first.
        if abs((file.size - start) / first.bytes - counted) > 1:
            raise DamageError("has a variable bit rate, for which its length is not known; convert it to FLAC.")
        return []
    return [Part(_xing_frame(head, counted), start, file.size)]


def _is_tail(file: Bytes, place: int) -> bool:
    """Whether a file ends at a place, or only a tag of known size follows."""
    return place == file.size or (place + 128 == file.size and file.at(place, 3) == b"TAG")


def _first_frame(file: Bytes) -> int | None:
    """Find the first frame, after tags and after the partial frame at the start of a recorded radio stream."""
    place = 0
    while (header := file.at(place, 10))[:3] == b"ID3" and len(header) == 10:
        place += 10 + _tag_size(header)
    content = file.at(place, 2**16)
    for offset in range(len(content) - 4):
        frame = _frame(content[offset : offset + 4]) if content[offset] == 0xFF else None
        if frame is not None:
            following = file.at(place + offset + frame.bytes, 4)
            if not following or _alike(content[offset : offset + 4], following):
                return place + offset
    return None


def _tag_size(header: bytes) -> int:
    """Size in bytes of an ID3v2 tag after its first ten bytes; each byte of the size field has seven bits."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(header[6:10], (21, 14, 7, 0), strict=True))


def _alike(one: bytes, other: bytes) -> bool:
    if len(other) < 4:
        return False
    return not (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")) & MPEG_ALIKE


def _count_frames(file: Bytes, start: int) -> tuple[int, bool]:
    """Count the frames from the first on, skipping data between them; also return whether the last is complete."""
    alike = file.at(start, 4)
    frames, place, complete = 0, start, True
    block, begin = b"", 0
    # A recording has few different headers, so they are cached.
    sizes: dict[bytes, int | None] = {}
    while place < file.size - 3:
        if not begin <= place <= begin + len(block) - 10:
            block, begin = file.at(place, BLOCK_BYTES), place
        header = block[place - begin : place - begin + 4]
        if header not in sizes:
            found = _frame(header) if _alike(alike, header) else None
            sizes[header] = None if found is None else found.bytes
        size = sizes[header]
        if size is None:
            place = _resume(file, place, alike)
            continue
        complete = place + size <= file.size
        frames += complete
        place += size
    return frames, complete


def _resume(file: Bytes, place: int, alike: bytes) -> int:
    """Find the next frame after a place without one. Two frames in a row are needed, to rule out chance."""
    header = file.at(place, 10)
    if header[:3] == b"ID3" and len(header) == 10:
        return place + 10 + _tag_size(header)
    if header[:3] == b"TAG" and place + 128 == file.size:
        return file.size
    while place < file.size:
        content = file.at(place, BLOCK_BYTES)
        offset = content.find(b"\xff", 1)
        while 0 <= offset <= len(content) - 4:
            candidate = content[offset : offset + 4]
            frame = _frame(candidate) if _alike(alike, candidate) else None
            if frame is not None and _alike(alike, file.at(place + offset + frame.bytes, 4)):
                return place + offset
            offset = content.find(b"\xff", offset + 1)
        place += max(1, len(content) - 4) if len(content) == BLOCK_BYTES else len(content)
    return file.size


def _xing_frame(header: bytes, frames: int) -> bytes:
    """Make a frame that gives the number of frames after it. Decoders read the number and play no sound for it."""
    # Use the largest bit rate, which has room for the tag, and no checksum.
    header = bytes([header[0], header[1] | 1, 0xE0 | header[2] & 0x0C, header[3]])
    frame = _frame(header)
    assert frame is not None
    tag = struct.pack(">4sII", b"Xing", 1, frames)
    return (header + bytes(frame.tag_place - 4) + tag).ljust(frame.bytes, b"\0")


# Streams


class StreamBytes:
    """Bytes of a pipe, of which the first are kept. `size` is unknown, hence very large.

    Arguments
    ---------
    descriptor : int
        Descriptor of a pipe or socket that nothing else reads from.
    """

    KEPT = 2**16

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = UNKNOWN_BYTES
        self._kept = b""
        self._place = 0

    def at(self, place: int, count: int) -> bytes:
        """Up to `count` bytes from `place` on; fewer at the end, and none that have been discarded."""
        while self._place < min(place + count, self.KEPT):
            block = os.read(self.descriptor, min(place + count, self.KEPT) - self._place)
            if not block:
                break
            self._kept += block
            self._place += len(block)
        found = [self._kept[place : place + count]]
        left = count - len(found[0])
        if place + len(found[0]) != self._place or place + count <= self.KEPT:
            return found[0]
        while left and (block := os.read(self.descriptor, min(left, BLOCK_BYTES))):
            found.append(block)
            self._place += len(block)
            left -= len(block)
        return b"".join(found)


class View:
    """A part of a file that libsndfile reads through Python callbacks.

    Exceptions in C callbacks are lost. So they are kept in `problem`, to be raised afterwards.
    """

    def __init__(self, file: Bytes, part: Part) -> None:
        self.file = file
        self.part = part
        self.problem: BaseException | None = None
        self._place = 0
        self._size = len(part.prefix) + part.stop - part.start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, even beyond the end."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        """Return the current place."""
        return self._place

    def read(self, count: int) -> bytes:
        """Read the next bytes; none at the end or after an error."""
        try:
            return self._read(count)
        except BaseException as error:
            self.problem = error
            return b""

    def _read(self, count: int) -> bytes:
        prefix = self.part.prefix
        found = prefix[self._place : self._place + count]
        place = self.part.start + max(0, self._place - len(prefix))
        left = min(count - len(found), self.part.stop - place)
        if left > 0:
            found += self.file.at(place, left)
        self._place += len(found)
        return found


def stream_part(file: StreamBytes) -> Part:
    """Choose the part of a pipe to read. WAV and AIFF end with their samples, if the header gives their size.

    Without an end, libsndfile would wait for the data after the samples before it reads the first sample.
    """
    byte_order = IFF_BYTE_ORDERS.get(file.at(0, 4))
    place = None if byte_order is None else data_place(file, byte_order)
    if byte_order is None or place is None:
        return Part(b"", 0, file.size)
    header = file.at(0, place)
    (promised,) = struct.unpack(f"{byte_order}I", header[-4:])
    if not _is_placeholder(promised):
        return Part(header, place, place + promised)
    if header[:4] == b"FORM":
        return Part(header, place, file.size)
    return Part(wav_header(header, byte_order, file.size - place), place, file.size)


# What ffmpeg is needed for

OTHER_MAGIC_BYTES = 48
"""Enough to tell :data:`OTHER_FORMATS`."""


class Format(NamedTuple):
    """A format that libsndfile does not read, for ffmpeg to decode."""

    name: str
    """In messages."""
    demuxer: str
    """As `ffmpeg -f` has it."""
    place: int
    """Where its mark begins."""
    mark: bytes
    """The bytes that tell it."""
    needed: bool = True
    """False where libsndfile reads some such files; ffmpeg is asked for the others."""


OTHER_FORMATS = (
    Format("MPEG-4 audio", "mov", 4, b"ftyp"),
    Format("Matroska or WebM audio", "matroska", 0, b"\x1a\x45\xdf\xa3"),
    Format("Windows Media audio", "asf", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    Format("AMR audio", "amr", 0, b"#!AMR"),
    Format("AC-3 audio", "ac3", 0, b"\x0b\x77"),
    Format("AAC audio", "aac", 0, b"\xff\xf1"),
    Format("AAC audio", "aac", 0, b"\xff\xf9"),
    Format("Speex audio", "ogg", 28, b"Speex   "),
    Format("FLAC in Ogg", "ogg", 28, b"\x7fFLAC", needed=False),
    Format("CAF audio", "caf", 0, b"caff", needed=False),
)


def recognize(magic: bytes) -> Format | None:
    r"""The format of a file that begins with these bytes; None if ffmpeg is of no help.

    Example
    -------
    >>> recognize(b"\0\0\0\x1cftypM4A ").name
    'MPEG-4 audio'
    >>> recognize(b"RIFF")
    """
    return next((each for each in OTHER_FORMATS if magic.startswith(each.mark, each.place)), None)
