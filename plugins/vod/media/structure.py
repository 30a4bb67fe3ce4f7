"""What the structure of a file says of its sound and ffmpeg does not: encryption, codecs without a decoder.

Reads bytes of strangers: runs in the sandbox only.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT_DECODER = {
    "apac": "Apple Positional Audio (APAC)",
    "mha1": "MPEG-H 3D Audio",
    "mha2": "MPEG-H 3D Audio",
    "mhm1": "MPEG-H 3D Audio",
    "mhm2": "MPEG-H 3D Audio",
    "ac-4": "AC-4",
    "dtsx": "DTS:X",
    "dtsy": "DTS:X",
}
"""Sound that ffmpeg has no decoder for, by its name in MP4."""

_MAX_MOOV = 64 << 20
_MAX_TRACKS = 256
_TS_BYTES = 8 << 20
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}


@dataclass
class Sound:
    """A track of sound as the structure has it.

    :param codec: A key of :data:`WITHOUT_DECODER`, or what the container calls it.
    :param pid: Of its packets in an MPEG transport stream.
    """

    codec: str = ""
    encrypted: bool = False
    pid: int | None = None


def sounds(file: IO[bytes], container: str) -> list[Sound]:
    """The tracks of sound, in the order of the file; none where the container is not known here.

    :param container: ffmpeg's name of it.
    """
    if "mp4" in container:
        return _of_mp4(file)
    if container == "mpegts":
        return _of_ts(file)
    return []


def _of_mp4(file: IO[bytes]) -> list[Sound]:
    size = os.fstat(file.fileno()).st_size
    position = 0
    for _ in range(10_000):
        head = _at(file, position, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if head[4:8] == b"moov":
            return _of_moov(_at(file, position, min(length or _MAX_MOOV, _MAX_MOOV)))
        if length < 8 or position + length >= size:
            break
        position += length
    return []


def _of_moov(moov: bytes) -> list[Sound]:
    found: list[Sound] = []
    for start, end, name in _boxes(moov, 8, len(moov)):
        if name == b"trak" and len(found) < _MAX_TRACKS:
            inner = dict(_inner(moov, start, end))
            handler, entries = inner.get(b"hdlr", b""), inner.get(b"stsd", b"")
            if handler[8:12] == b"soun":
                found.append(_of_stsd(entries))
    return found


def _of_stsd(stsd: bytes) -> Sound:
    sound = Sound()
    for start, end, name in _boxes(stsd, 8, len(stsd)):
        if name in (b"enca", b"drms"):
            sound.encrypted = True
            _, _, original = stsd[start:end].partition(b"frma")
            name = original[:4] if len(original) >= 4 else name
        if not sound.codec:
            sound.codec = name.decode("latin-1").lower()
    return sound


def _inner(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of a track at any depth, first ones last, so that a dict keeps those."""
    for inner_start, inner_end, name in reversed([*_boxes(data, start, end)]):
        if name in _PARENTS:
            yield from _inner(data, inner_start, inner_end)
        else:
            yield name, data[inner_start:inner_end]


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Where the contents of each box start and end, and its name."""
    while start + 8 <= end:
        length, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if length < 8:
            return
        yield start + 8, min(start + length, end), name
        start += length


def _of_ts(file: IO[bytes]) -> list[Sound]:
    data = _at(file, 0, _TS_BYTES)
    size, first = _packets(data)
    if not size:
        return []
    tables: set[int] = {0}
    sounds: dict[int, Sound] = {}
    payloads: Counter[int] = Counter()
    scrambled: Counter[int] = Counter()
    for at in range(first, len(data) - 187, size):
        packet = data[at : at + 188]
        if packet[0] != 0x47:
            continue
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[3] & 0x10:
            payloads[pid] += 1
            scrambled[pid] += packet[3] & 0xC0 != 0
        if pid in tables and packet[1] & 0x40:
            section = _section(packet)
            if section[:1] == b"\x00":
                tables |= {
                    int.from_bytes(section[i + 2 : i + 4], "big") & 0x1FFF
                    for i in range(8, len(section) - 7, 4)
                }
            elif section[:1] == b"\x02":
                for sound in _of_pmt(section):
                    if sound.pid is not None:
                        sounds.setdefault(sound.pid, sound)
    for pid, sound in sounds.items():
        sound.encrypted = scrambled[pid] * 2 > payloads[pid]  # single ones are damaged
    return list(sounds.values())


def _packets(data: bytes) -> tuple[int, int]:
    """Size of a packet with what is around it, and where the first one starts."""
    for size, first in ((188, 0), (192, 4), (204, 0)):
        if len(data) > first + 4 * size and all(data[first + i * size] == 0x47 for i in range(4)):
            return size, first
    return 0, 0


def _section(packet: bytes) -> bytes:
    start = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    if start >= 187:
        return b""
    start += 1 + packet[start]
    length = 3 + (int.from_bytes(packet[start + 1 : start + 3], "big") & 0xFFF)
    return packet[start : start + length]


def _of_pmt(section: bytes) -> Iterator[Sound]:
    position = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while position + 5 <= len(section) - 4:
        kind, pid = section[position], int.from_bytes(section[position + 1 : position + 3], "big") & 0x1FFF
        length = int.from_bytes(section[position + 3 : position + 5], "big") & 0xFFF
        described = section[position + 5 : position + 5 + length]
        if kind in (0x2D, 0x2E):
            yield Sound(codec="mha1", pid=pid)
        elif b"AC-4" in described or b"\x7f\x04\x15" in described:
            yield Sound(codec="ac-4", pid=pid)
        elif kind in (0x03, 0x04, 0x0F, 0x11, 0x81, 0x87) or kind == 0x06:
            yield Sound(pid=pid)
        position += 5 + length


def _at(file: IO[bytes], position: int, length: int) -> bytes:
    file.seek(position)
    parts, left = [], length
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
