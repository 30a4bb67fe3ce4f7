"""What the structure of a file says and ffmpeg does not: encryption, codecs without a decoder, its index.

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
_TS_BYTES, _TS_END = 8 << 20, 2 << 20
_PS_MOST = 256 << 20
"""Bytes in which the first sound of an MPEG program stream is looked for."""
_MOST = 0.5
"""Share of a track's packets above which it counts as encrypted."""
_SOME = 0.02
"""Share that can no longer be damage."""
_SYNC = 0x47
_START_CODE = b"\0\0\1"
_SAMPLE_AES = {0xC1, 0xC2, 0xCF}
"""Types of streams in HLS whose samples are encrypted: AC-3, E-AC-3, AAC. Their packets are not scrambled."""
_APPLE = (b"zac3", b"zec3", b"ac3d", b"ec3d")
_SEGMENT, _TRACKS, _TRACK, _TYPE = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\x83"
_ENCODINGS, _ENCODING, _KIND, _ENCRYPTION = b"\x6d\x80", b"\x62\x40", b"\x50\x33", b"\x50\x35"
_MAX_ELEMENTS = 10_000
_MXF_TRIPLET = bytes.fromhex("060e2b34020401070d010301027e0100")
"""Key of what holds an encrypted piece of picture or sound in MXF (SMPTE 429-6)."""
_MXF_ESSENCE, _MXF_SOUND = bytes.fromhex("060e2b34010201010d010301"), (0x06, 0x16)
"""How the key of a piece begins, and the next byte where it is sound."""
_ASF_ENCRYPTIONS = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
    bytes.fromhex("338505438169e6499b74ad12cb86d58c"),
)
"""Content Encryption Object, the extended and the advanced one."""
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


@dataclass
class Sound:
    """A track of sound as the structure has it.

    :param codec: A key of :data:`WITHOUT_DECODER`, or what the container calls it.
    :param encrypted: Nothing or little of it can be heard without a key.
    :param partly_encrypted: The same of a piece of it.
    :param pauses: Whether its edit list has silence after something else, where ffmpeg plays on.
    :param number: What ffmpeg calls its id: the PID in an MPEG transport stream, the track's id in MP4.
    """

    codec: str = ""
    encrypted: bool = False
    partly_encrypted: bool = False
    pauses: bool = False
    number: int | None = None


def sounds(file: IO[bytes], container: str) -> list[Sound]:
    """The tracks of sound, in the order of the file; none where the container is not known here.

    :param container: ffmpeg's name of it.
    """
    if "mp4" in container:
        return _of_mp4(file)
    if "matroska" in container:
        return _of_matroska(file)
    known = {"mpegts": _of_ts, "mpeg": _of_ps, "mxf": _of_mxf, "asf": _of_asf}
    return known[container](file) if container in known else []


def is_fragmented(file: IO[bytes]) -> bool:
    """Whether an MP4 has an index for each fragment."""
    return any(name == b"moof" for name, _, _ in _top_level(file))


def index_behind(file: IO[bytes]) -> dict[str, list[list[int]]]:
    """Where the index of an MP4 is, if it is behind the media data.

    :returns: ``places``: start and end of the index, start of the media data; ``tables``: those of the index
        that say where in the file the samples are: start in the index, entries, bytes of an entry. Both are
        empty where the index cannot be put in front.
    """
    nothing: dict[str, list[list[int]]] = {"places": [], "tables": []}
    boxes = [*_top_level(file)]
    names = [name for name, _, _ in boxes]
    indexes = [(start, end) for name, start, end in boxes if name == b"moov"]
    media = [start for name, start, _ in boxes if name == b"mdat"]
    if len(indexes) != 1 or not media or {b"moof", b"sidx", b"styp"} & {*names}:
        return nothing
    [(start, end)] = indexes
    if start < media[0] or end - start > _MAX_MOOV:
        return nothing
    moov = _at(file, start, end - start)
    try:
        tables = [*_sample_tables(moov, 0, len(moov))]
    except ValueError:
        return nothing
    if not tables or len(tables) != moov.count(b"trak"):
        return nothing
    return {"places": [[start, end, media[0]]], "tables": tables}


def _sample_tables(moov: bytes, start: int, end: int) -> Iterator[list[int]]:
    """:raises ValueError: a box is not as it has to be."""
    while start < end:
        length, name = int.from_bytes(moov[start : start + 4], "big"), moov[start + 4 : start + 8]
        if not 8 <= length <= end - start or name in (b"cmov", b"mvex"):
            raise ValueError
        if name in _PARENTS:
            yield from _sample_tables(moov, start + 8, start + length)
        elif name in (b"stco", b"co64"):
            count, width = int.from_bytes(moov[start + 12 : start + 16], "big"), 4 if name == b"stco" else 8
            if 16 + count * width > length:
                raise ValueError
            yield [start + 16, count, width]
        start += length


def _of_mp4(file: IO[bytes]) -> list[Sound]:
    for name, start, end in _top_level(file):
        if name == b"moov":
            return _of_moov(_at(file, start, min(end - start, _MAX_MOOV)))
    return []


def _top_level(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an MP4: name, start, and end before."""
    size = os.fstat(file.fileno()).st_size
    position = 0
    for _ in range(10_000):
        head = _at(file, position, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        length = length or size - position
        if length < 8:
            return
        yield head[4:8], position, min(position + length, size)
        position += length


def _of_moov(moov: bytes) -> list[Sound]:
    found: list[Sound] = []
    for start, end, name in _boxes(moov, 8, len(moov)):
        if name == b"trak" and len(found) < _MAX_TRACKS:
            inner = dict(_inner(moov, start, end))
            handler, entries = inner.get(b"hdlr", b""), inner.get(b"stsd", b"")
            if handler[8:12] == b"soun":
                found.append(_of_stsd(entries))
                found[-1].pauses = any(time < 0 for time in _edits(inner.get(b"elst", b""))[1:])
                header = inner.get(b"tkhd", b"")
                at = 20 if header[:1] == b"\x01" else 12
                found[-1].number = int.from_bytes(header[at : at + 4], "big")
    return found


def _edits(elst: bytes) -> list[int]:
    """From where in the track each edit plays; -1 is silence."""
    width = 8 if elst[:1] == b"\x01" else 4
    starts = range(8 + width, len(elst) - width + 1, 2 * width + 4)
    return [int.from_bytes(elst[at : at + width], "big", signed=True) for at in starts]


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


def _of_matroska(file: IO[bytes]) -> list[Sound]:
    position = 0
    for _ in range(_MAX_ELEMENTS):
        found = _element(_at(file, position, 12), 0)
        if found is None:
            break
        name, start, length = found
        if name == _TRACKS:
            data = _at(file, position + start, min(length or 0, _MAX_MOOV))
            tracks = [dict(_children(entry)) for name, entry in _children(data) if name == _TRACK]
            return [_of_track(track) for track in tracks if track.get(_TYPE, b"")[-1:] == b"\x02"][
                :_MAX_TRACKS
            ]
        if name == _SEGMENT:
            length = 0
        elif length is None:
            break
        position += start + length
    return []


def _of_track(track: dict[bytes, bytes]) -> Sound:
    encodings = [
        dict(_children(each)) for name, each in _children(track.get(_ENCODINGS, b"")) if name == _ENCODING
    ]
    return Sound(
        encrypted=any(each.get(_KIND, b"")[-1:] == b"\x01" or _ENCRYPTION in each for each in encodings)
    )


def _children(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each element of Matroska."""
    position = 0
    while (found := _element(data, position)) is not None:
        name, start, length = found
        position = len(data) if length is None else start + length
        yield name, data[start:position]


def _element(data: bytes, at: int) -> tuple[bytes, int, int | None] | None:
    """Name of an element of Matroska, where its contents start, and their length unless it is unknown."""
    widths = [1, 1]
    for number in (0, 1):
        first = data[at + sum(widths[:number]) :][:1]
        if not first or not first[0]:
            return None
        widths[number] = 9 - first[0].bit_length()
    start = at + sum(widths)
    unknown = (1 << 7 * widths[1]) - 1
    length = int.from_bytes(data[at + widths[0] : start], "big") & unknown
    return data[at : at + widths[0]], start, None if length == unknown else length


def _of_ts(file: IO[bytes]) -> list[Sound]:
    size = os.fstat(file.fileno()).st_size
    sounds: dict[int, Sound] = {}
    shares = [_read_ts(_at(file, 0, _TS_BYTES), sounds)]
    if size > _TS_BYTES:
        shares.append(_read_ts(_at(file, size - _TS_END, _TS_END), sounds))
    for pid, sound in sounds.items():
        parts = [share[pid] for share in shares if pid in share]
        if parts:
            sound.encrypted = sound.encrypted or min(parts) > _MOST
            sound.partly_encrypted = max(parts) > _SOME
    return list(sounds.values())


def _read_ts(data: bytes, sounds: dict[int, Sound]) -> dict[int, float]:
    """Share of each PID's packets that are scrambled; adds the sounds that tables name to *sounds*."""
    size, first = _packets(data)
    tables: set[int] = {0}
    payloads: Counter[int] = Counter()
    scrambled: Counter[int] = Counter()
    for at in range(first, len(data) - 187, size or 188):
        packet = data[at : at + 188]
        if packet[0] != _SYNC:
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
                    if sound.number is not None:
                        sounds.setdefault(sound.number, sound)
    return {pid: scrambled[pid] / payloads[pid] for pid in payloads}


def _packets(data: bytes) -> tuple[int, int]:
    """Size of a packet with what is around it, and where the first whole one starts; 0 when it is none."""
    for first in range(min(204, len(data))):
        for size in (188, 192, 204) if data[first] == _SYNC else ():
            if len(data) > first + 4 * size and all(data[first + i * size] == _SYNC for i in range(5)):
                return size, first
    return 0, len(data)


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
            yield Sound(codec="mha1", number=pid)
        elif b"AC-4" in described or b"\x7f\x04\x15" in described:
            yield Sound(codec="ac-4", number=pid)
        elif kind in _SAMPLE_AES and (kind == 0xCF or any(name in described for name in _APPLE)):
            yield Sound(encrypted=True, number=pid)
        elif kind in (0x03, 0x04, 0x06, 0x0F, 0x11, 0x81, 0x87):
            yield Sound(number=pid)
        position += 5 + length


def _of_ps(file: IO[bytes]) -> list[Sound]:
    size = os.fstat(file.fileno()).st_size
    packets: Counter[int] = Counter()
    scrambled: Counter[int] = Counter()
    for start in (*range(0, min(size, _PS_MOST), _TS_BYTES), max(size - _TS_END, 0)):
        if packets and start < size - _TS_END:
            continue
        for number, is_scrambled in _ps_packets(_at(file, start, _TS_BYTES)):
            packets[number] += 1
            scrambled[number] += is_scrambled
    # On a DVD only some sectors are; the noise that they become is heard all the same.
    return [Sound(encrypted=scrambled[each] > _SOME * packets[each], number=each) for each in packets]


def _ps_packets(data: bytes) -> Iterator[tuple[int, bool]]:
    """ffmpeg's id of the track of each packet of sound in an MPEG program stream; whether it is scrambled."""
    at = data.find(_START_CODE)
    while 0 <= at < len(data) - 9:
        kind, length = data[at + 3], int.from_bytes(data[at + 4 : at + 6], "big")
        payload = at + 9 + data[at + 8]
        is_private = kind == 0xBD and 0x80 <= int.from_bytes(data[payload : payload + 1], "big") < 0xD0
        if 0xC0 <= kind <= 0xDF or is_private:
            number = data[payload] if is_private else 0x100 + kind
            yield number, data[at + 6] & 0xC0 == 0x80 and data[at + 6] & 0x30 != 0
        has_length = kind >= 0xBB
        at = data.find(_START_CODE, at + (6 + length if has_length else 4))


def _of_mxf(file: IO[bytes]) -> list[Sound]:
    """Each kind of piece of sound among the first ones."""
    sounds: dict[bytes, Sound] = {}
    position = 0
    for _ in range(_MAX_ELEMENTS):
        head = _at(file, position, 128)
        key, (start, length) = head[:16], _ber(head, 16)
        if length is None:
            break
        is_encrypted = key == _MXF_TRIPLET
        if is_encrypted:  # the key of what it holds comes after a context and an offset
            begins = head.find(_MXF_ESSENCE, start)
            key = head[begins : begins + 16] if begins > 0 else b""
        if key.startswith(_MXF_ESSENCE) and key[12] in _MXF_SOUND:
            sounds.setdefault(key, Sound()).encrypted |= is_encrypted
        position += start + length
    return [*sounds.values()]


def _ber(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the contents of a KLV start, and their length; ``None`` where there is none."""
    first = data[at] if at < len(data) else 0x80
    width = first & 0x7F if first & 0x80 else 0
    start = at + 1 + width
    if first == 0x80 or start > len(data):
        return start, None
    return start, int.from_bytes(data[at + 1 : start], "big") if width else first


def _of_asf(file: IO[bytes]) -> list[Sound]:
    """One sound for all, as the whole file is encrypted or nothing."""
    end, position = int.from_bytes(_at(file, 16, 8), "little"), 30
    for _ in range(_MAX_ELEMENTS):
        head = _at(file, position, 24)
        length = int.from_bytes(head[16:], "little")
        if head[:16] in _ASF_ENCRYPTIONS:
            return [Sound(encrypted=True)]
        position += length
        if length < 24 or position >= end:
            break
    return []


def _at(file: IO[bytes], position: int, length: int) -> bytes:
    try:
        file.seek(position)
    except (OSError, OverflowError, ValueError):  # a damaged file points anywhere
        return b""
    parts, left = [], length
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
