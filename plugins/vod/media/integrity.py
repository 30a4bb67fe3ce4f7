"""Whether a file's end is missing, by the sizes that its own structure claims.

ffmpeg reads a cut file to where it ends and reports success; a header may also claim hours that were never
recorded. Only the structure tells the two apart.
"""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INDEXES = {b"mfra", b"free", b"skip"}
"""Boxes at the end of an MP4 that hold nothing to be heard."""

SLACK = 64
"""Bytes that a structure may claim too much: writers that count a header twice are common."""


def declared_size(source: Path) -> int | None:
    """Bytes that *source* should have at least, or ``None`` where its container does not say.

    Known: MP4 and QuickTime, Matroska and WebM, FLV, ASF, AVI, WAV with its kin and W64, AIFF, CAF, AU, MXF.
    """
    with source.open("rb") as file:
        head = file.read(16)
        if head[:4] == _EBML:
            return _matroska_size(file)
        if head[4:8] in _BOXES:
            return _mp4_size(file)
        for begins, size in _SIZES.items():
            if head.startswith(begins):
                return size(file)
    return None


def lost_bytes(source: Path, *, slack: int = SLACK) -> int:
    """Bytes that are missing at the end of *source*, as far as its container tells; 0 when none or unknown.

    :param slack: Bytes that do not count.
    """
    lost = (declared_size(source) or 0) - source.stat().st_size
    return lost if lost > slack else 0


def has_whole_index(source: Path) -> bool:
    """Whether the stated duration was written for the whole file, and is not derived from what is left of it.

    So it is in Matroska, and in MP4 that is not in fragments.
    """
    with source.open("rb") as file:
        if file.read(4) == _EBML:
            return True
        names = {name for name, _ in _boxes(file)}
        return b"moov" in names and b"moof" not in names


def seconds_of_pictures(source: Path) -> float | None:
    """Seconds that an AVI's main header says its pictures last, also when its end is missing.

    ``None`` for anything else.
    """
    with source.open("rb") as file:
        head = file.read(24 + 8 + 20)
    if head[:4] != b"RIFF" or head[8:12] != b"AVI " or head[24:28] != b"avih" or len(head) < 52:
        return None
    microseconds, frames = struct.unpack_from("<I", head, 32)[0], struct.unpack_from("<I", head, 48)[0]
    return microseconds * frames / 1e6 or None


def following_bytes(source: Path, read: int = 0) -> int:
    """Bytes of other recordings that follow the first one in the same file and that ffmpeg does not read.

    Known: MP4 and QuickTime, WAV with its kin, AVI and AIFF, FLV, ASF, Matroska. Other containers are read to
    their end.

    :param read: Where the last packet that was read ends: some readers go on into the next recording.
    """
    with source.open("rb") as file:
        head = file.read(16)
        size = os.fstat(file.fileno()).st_size
        if head[:4] == b"RIFF":
            second = _second_riff(file, head[8:12])
        elif head[:4] in _WIDE:
            second = _same_after(file, 8 + int.from_bytes(_at(file, 20, 8), "little"))
        elif head[:4] == b"FORM":
            second = _same_after(file, 8 + int.from_bytes(head[4:8], "big"))
        elif head == _ASF_HEADER:
            second = _second_asf(file)
        elif head[:3] == b"FLV":
            second = _second_flv(file)
        elif head[4:8] in _BOXES:
            second = _second_mp4(file)
        elif head[:4] == _EBML:
            second = next((at for at in _segments(file) if at >= max(read, 1)), None)
        else:
            second = None
        return size - second if second is not None and second >= read else 0


def playlist_kind(source: Path) -> str | None:
    """What kind of playlist a file is, by how it begins; ``None`` for anything else."""
    with source.open("rb") as file:
        head = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    for begins, kind in _PLAYLISTS.items():
        if head.startswith(begins):
            return kind
    return "DASH" if head.startswith(b"<") and b"<MPD" in head else None


def _second_riff(file: IO[bytes], kind: bytes) -> int | None:
    length = int.from_bytes(_at(file, 4, 4), "little")
    if length >= _UNKNOWN_LENGTH:
        return None
    position = 8 + length + length % 2
    while (head := _at(file, position, 12))[:4] == b"RIFF":
        if head[8:] == kind:  # AVI goes on as AVIX
            return position
        length = int.from_bytes(head[4:8], "little")
        position += 8 + length + length % 2
    return None


def _same_after(file: IO[bytes], position: int) -> int | None:
    """The *position*, or the even one after it, if something begins there as the file does."""
    position += position % 2
    return position if _at(file, position, 4) == _at(file, 0, 4) else None


def _second_asf(file: IO[bytes]) -> int | None:
    position, size = 0, os.fstat(file.fileno()).st_size
    for _ in range(_MAX_BOXES):
        head = _at(file, position, 24)
        length = int.from_bytes(head[16:], "little")
        if position and head[:16] == _ASF_HEADER:
            return position
        position += length
        if length < 24 or position >= size:
            break
    return None


def _second_flv(file: IO[bytes]) -> int | None:
    position = int.from_bytes(_at(file, 5, 4), "big") + 4
    while (head := _at(file, position, 11))[:1] in _FLV_TAGS:
        position += 11 + int.from_bytes(head[1:4], "big") + 4
    return position if head[:4] == b"FLV\x01" else None


def _second_mp4(file: IO[bytes]) -> int | None:
    indexed = False
    position = 0
    for name, end in _boxes(file):
        if name == b"ftyp" and indexed:
            return position
        indexed = indexed or name == b"moov"
        position = end
    return None


def _segments(file: IO[bytes]) -> Iterator[int]:
    """Where each recording of a Matroska file starts."""
    size = os.fstat(file.fileno()).st_size
    position = 0
    while position < size and _at(file, position, 4) == _EBML:
        yield position
        header = _matroska_length(file)
        if header is None:
            return
        position = file.tell() + header
        if _at(file, position, 4) != _SEGMENT or (length := _matroska_length(file)) is None:
            return
        position = file.tell() + length


def _at(file: IO[bytes], position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


_BOXES = {
    *(b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sidx", b"ssix"),
    *(b"mfra", b"meta", b"pnot", b"udta", b"emsg", b"prft", b"pdin"),
}
_PLAYLISTS = {
    b"#EXTM3U": "HLS or M3U",
    b"ffconcat": "ffmpeg's concat",
    b"[playlist]": "PLS",
    b"[Reference]": "ASX",
}
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18\x53\x80\x67"
_WIDE = (b"RF64", b"BW64")
_MAX_BOXES = 200_000
_UNKNOWN_LENGTH = 0x7FFF0000
"""What a writer to a pipe says, sox for example 0x7FFFF024: it cannot fill in the length later."""
_UNKNOWN_LONG = 1 << 62
"""The same where lengths have 64 bits."""
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_FIELDS = ((56, 8), (88, 4), (92, 4))
"""Place and width of the number of packets, the flags, and the size of a packet."""
_FLV_TAGS = (b"\x08", b"\x09", b"\x12")


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Name and claimed end of each box at the top level, up to the first that is not a box."""
    size = os.fstat(file.fileno()).st_size
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        head = file.read(16).ljust(16, b"\0")
        length, name, long_length = struct.unpack(">I4sQ", head)
        if name not in _BOXES:
            return
        if length == 1:
            length = long_length
        elif length == 0:
            length = size - position
        if length < 8:
            return
        position += length
        yield name, position
        if position >= size:
            return


def _mp4_size(file: IO[bytes]) -> int | None:
    return max((end for name, end in _boxes(file) if name not in _INDEXES), default=None)


def _matroska_size(file: IO[bytes]) -> int | None:
    file.seek(4)
    header = _matroska_length(file)
    if header is None or header > os.fstat(file.fileno()).st_size:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return None
    length = _matroska_length(file)
    return None if length is None else file.tell() + length


def _matroska_length(file: IO[bytes]) -> int | None:
    """Read an EBML length: the leading zero bits of its first byte say how many bytes follow."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    following = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(following), "big") & ((1 << 7 * (following + 1)) - 1)
    unknown = (1 << 7 * (following + 1)) - 1
    return None if value == unknown else value


def _riff_size(file: IO[bytes]) -> int | None:
    """To where the sound of a WAV, or sound and picture of an AVI, are said to go; not what follows them."""
    wanted = {b"WAVE": b"data", b"AVI ": b"LIST"}.get(_at(file, 8, 4))
    order: Literal["big", "little"] = "big" if _at(file, 0, 4) == b"RIFX" else "little"
    position, end, wide = 12, None, 0
    for _ in range(_MAX_BOXES):
        head = _at(file, position, 12)
        if len(head) < 12 or wanted is None:
            break
        name, length = head[:4], int.from_bytes(head[4:8], order)
        if name == b"RIFF":  # AVI goes on
            position += 12
            continue
        if name == b"ds64":  # RF64, whose other lengths are too short
            wide = int.from_bytes(_at(file, position + 16, 8), "little")
        if name == b"data" and wide:
            return _claimed(position + 8, wide, _UNKNOWN_LONG)
        if name == wanted and (name != b"LIST" or head[8:] == b"movi"):
            if length == 0 or length >= _UNKNOWN_LENGTH:
                return None
            end = position + 8 + length
            if name == b"data":
                break
        position += 8 + length + length % 2
    return end


def _flv_size(file: IO[bytes]) -> int | None:
    """To where the last tag goes. What the header says of the file's size is often wrong."""
    size = os.fstat(file.fileno()).st_size
    position = int.from_bytes(_at(file, 5, 4), "big") + 4
    if position < 13:
        return None
    while (head := _at(file, position, 11))[:1] in _FLV_TAGS and len(head) == 11:
        position += 11 + int.from_bytes(head[1:4], "big") + 4
    return position if position > size else None


def _w64_size(file: IO[bytes]) -> int | None:
    position = 40  # lengths include name and length, of 24 bytes, and contents are padded to 8 bytes
    for _ in range(_MAX_BOXES):
        head = _at(file, position, 24)
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            return _claimed(position, length, _UNKNOWN_LONG)
        if len(head) < 24 or length < 24:
            break
        position += length + -length % 8
    return None


def _aiff_size(file: IO[bytes]) -> int | None:
    position = 12
    for _ in range(_MAX_BOXES):
        head = _at(file, position, 8)
        length = int.from_bytes(head[4:], "big")
        if head[:4] == b"SSND":
            return _claimed(position + 8, length, _UNKNOWN_LENGTH)
        if len(head) < 8:
            break
        position += 8 + length + length % 2
    return None


def _caf_size(file: IO[bytes]) -> int | None:
    position = 8
    for _ in range(_MAX_BOXES):
        head = _at(file, position, 12)
        length = int.from_bytes(head[4:], "big")
        if head[:4] == b"data":
            return _claimed(position + 12, length, _UNKNOWN_LONG)
        if len(head) < 12 or length >= _UNKNOWN_LONG:
            break
        position += 12 + length
    return None


def _au_size(file: IO[bytes]) -> int | None:
    head = _at(file, 4, 8)
    return _claimed(int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big"), _UNKNOWN_LENGTH)


def _asf_size(file: IO[bytes]) -> int | None:
    """To where the last packet goes; an index may follow."""
    header = int.from_bytes(_at(file, 16, 8), "little")
    position = 30
    for _ in range(_MAX_BOXES):
        head = _at(file, position, 104)
        length = int.from_bytes(head[16:24], "little")
        if len(head) < 104 or length < 24 or position >= header:
            break
        if head[:16] == _ASF_PROPERTIES:
            packets, flags, size = (int.from_bytes(head[at : at + n], "little") for at, n in _ASF_FIELDS)
            is_live = flags & 1
            return None if is_live else _claimed(header + 50, packets * size, _UNKNOWN_LONG)
        position += length
    return None


def _mxf_size(file: IO[bytes]) -> int | None:
    """To where the footer starts, as the header has it when the file was closed; it is behind the sound."""
    first = _at(file, 16, 1)[0]
    start = 17 + (first & 0x7F if first & 0x80 else 0)
    return int.from_bytes(_at(file, start + 24, 8), "big") or None


def _claimed(start: int, length: int, unknown: int) -> int | None:
    """Where something ends whose *length* may be one that says nothing: 0, or *unknown* and more."""
    return start + length if 0 < length < unknown else None


_SIZES = {
    b"RIFF": _riff_size,
    b"RF64": _riff_size,
    b"BW64": _riff_size,
    b"RIFX": _riff_size,
    bytes.fromhex("060e2b34020501010d010201010204"): _mxf_size,
    b"riff\x2e\x91\xcf\x11": _w64_size,
    b"FORM": _aiff_size,
    b"caff": _caf_size,
    b".snd": _au_size,
    b"FLV": _flv_size,
    _ASF_HEADER: _asf_size,
}
"""What knows the size of files that begin like this."""
