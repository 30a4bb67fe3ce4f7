"""Only the bytes of a remote MP4 that hold sound, in a sparse file of the same size.

In MP4 and QuickTime an index says where each sample is: one for the file, or one for each fragment. Where
sound and picture alternate in pieces of half a second or so, as cameras, phones and editors write them, the
sound is a few per cent of the file. What else than the sound is needed to open the file is fetched as well:
everything outside of the media data, and the first samples of the picture.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vod.logs import get_logger

if TYPE_CHECKING:
    from pathlib import Path

log = get_logger(__name__)

FIRST_PIECE = 1 << 16
"""Bytes of the first read."""
PARALLEL = 32
"""Pieces that are fetched at a time."""

_LEAST_SIZE = 8 << 20
"""Bytes; of smaller files all is fetched."""
_MAX_INDEX = 256 << 20
_MAX_BOXES = 200_000
_AHEAD = 1 << 14
"""Bytes that are read with the head of a box: mostly the index of a fragment, and the next head."""
_FRAGMENTS = 8
"""After that many it is known how large they are."""
_BANDWIDTH = 50e6
"""Bytes a second, as long as nothing was measured."""
_REQUEST = 0.0015
"""Seconds of computing that a request costs here, whatever the network does."""
_GAPS = (0, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
"""Bytes between two pieces that are fetched along, if that saves time."""
_WORTH = 0.7
"""Of the time for the whole file: what takes longer is not begun."""

Range = tuple[int, int]
"""From a byte to before another."""


class RangesError(Exception):
    """The file cannot be read in pieces: all of it has to be fetched."""


class Ranges(Protocol):
    """A file that can be read in pieces, by several threads at once.

    :param size: Bytes.
    :param first: Its first bytes, :data:`FIRST_PIECE` of them or less.
    """

    size: int
    first: bytes

    def read(self, start: int, end: int) -> bytes:
        """The bytes from *start* to before *end*.

        :raises RangesError: it cannot be read in pieces, or has changed.
        """

    def check(self) -> None:
        """See that all pieces are of the same file.

        :raises RangesError: it has changed meanwhile.
        """


@dataclass(kw_only=True)
class Fetched:
    """What was fetched of a source.

    :param bytes: All bytes that came.
    :param size: Bytes of the source.
    :param restarts: How often it was begun anew, because the source had changed.
    """

    bytes: int = 0
    size: int = 0
    restarts: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return self.bytes >= self.size


def fetch_sound(
    source: Ranges,
    target: Path,
    find_sound: Callable[[Path], list[Range]],
    fetched: Fetched,
    *,
    max_bytes: int,
    on_fetch: Callable[[Callable[[], int]], None] | None = None,
) -> None:
    """Write to *target* what holds sound, and what is needed to read it.

    :param find_sound: Where the sound is that is wanted, and what else is needed besides the boxes, by a file
        with the boxes.
    :param max_bytes: Bytes to fetch at most.
    :param on_fetch: Called when it is known what to fetch, with a function that tells up to which byte all
        is there.
    :raises RangesError: that cannot be done, or would not be quicker than to fetch it whole.
    """
    network = _Network(source)
    if source.size < _LEAST_SIZE:
        raise RangesError("It is small.")
    with target.open("wb") as file:
        file.truncate(source.size)
        for start, piece in _outside_of_media(source, network):
            os.pwrite(file.fileno(), piece, start)
        wanted = find_sound(target)
        pieces = network.plan(wanted, source.size)
        if sum(end - start for start, end in pieces) + network.received > max_bytes:
            raise RangesError("The sound alone is too large.")
        log.info(
            "Fetching %d pieces, %.1f MB, of %.0f MB: what holds sound.",
            len(pieces),
            sum(end - start for start, end in pieces) / 1e6,
            source.size / 1e6,
        )

        def fetch(piece: Range) -> int:
            data = source.read(*piece)
            os.pwrite(file.fileno(), data, piece[0])
            return len(data)

        complete = 0
        if on_fetch:
            on_fetch(lambda: complete)
        ends = [start for start, _ in pieces[1:]] + [source.size]
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="ranges") as pool:
            try:
                for received, end in zip(pool.map(fetch, pieces), ends, strict=True):
                    network.received += received
                    complete = end
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    source.check()
    fetched.bytes, fetched.size = network.received, source.size


class _Network:
    """How quick the way to a source is, measured on what is needed anyway."""

    def __init__(self, source: Ranges) -> None:
        self._source = source
        self.received = len(source.first)
        self._latency = 10.0
        self._bandwidth: float | None = None
        self._seen = (0, source.first)

    def read(self, start: int, end: int) -> bytes:
        if end <= len(self._source.first):
            return self._source.first[start:end]
        began = time.monotonic()
        data = self._source.read(start, end)
        took = time.monotonic() - began
        self.received += len(data)
        if len(data) <= FIRST_PIECE:
            self._latency = min(self._latency, took)
        elif len(data) >= 8 * FIRST_PIECE:
            self._bandwidth = len(data) / max(took - min(self._latency, took / 2), 1e-4)
        return data

    def look(self, start: int, length: int) -> bytes:
        """Bytes at a place, and a few more for the next look."""
        begin, data = self._seen
        if not begin <= start <= start + length <= begin + len(data):
            begin, data = start, self.read(start, min(start + max(length, _AHEAD), self._source.size))
            self._seen = (begin, data)
        return data[start - begin : start - begin + length]

    def require_worth_in(self, looks: int, size: int) -> None:
        """See that so many looks, one after the other, are quicker than all of the file.

        :raises RangesError: they are not.
        """
        seconds = looks * (self._latency if self._latency < 10 else 0.05)
        if seconds > _WORTH * size / (self._bandwidth or _BANDWIDTH):
            raise RangesError("It has too many fragments.")

    def plan(self, wanted: list[Range], size: int) -> list[Range]:
        """The pieces to fetch.

        :raises RangesError: it would not be worth it.
        """
        latency = self._latency if self._latency < 10 else 0.05
        bandwidth = self._bandwidth or _BANDWIDTH

        def seconds(pieces: list[Range]) -> float:
            of_requests = max(len(pieces) * _REQUEST, -(-len(pieces) // PARALLEL) * latency)
            return of_requests + sum(end - start for start, end in pieces) / bandwidth

        best = min((_merged(wanted, gap) for gap in _GAPS), key=seconds)
        if seconds(best) > _WORTH * (size / bandwidth + latency):
            raise RangesError("Sound and picture alternate too finely.")
        return best


def _merged(wanted: list[Range], gap: int) -> list[Range]:
    """The ranges in order, as one where no more than *gap* bytes are between them."""
    merged: list[Range] = []
    for start, end in sorted(wanted):
        if merged and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _outside_of_media(source: Ranges, network: _Network) -> Iterator[tuple[int, bytes]]:
    """Every box at the top level but the media data, of which the head; with where it starts.

    :raises RangesError: it is no MP4, or has so many fragments that to find them takes too long.
    """
    position = index = fragments = 0
    names: set[bytes] = set()
    for _ in range(_MAX_BOXES):
        if position >= source.size:
            break
        head = network.look(position, 16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        length = length or source.size - position
        if not name.isalnum() or length < 8 or position + length > source.size:
            raise RangesError("It is no whole MP4.")
        names.add(name)
        if name == b"mdat":
            yield position, head
        else:
            index += length
            if index > _MAX_INDEX:
                raise RangesError("Its index is too large.")
            yield position, network.look(position, length)
        position += length
        fragments += name == b"moof"
        if name == b"mdat" and fragments >= _FRAGMENTS:
            network.require_worth_in(fragments * source.size // position, source.size)
    else:
        raise RangesError("It has too many boxes.")
    if not names >= {b"moov", b"mdat"}:
        raise RangesError("It is no MP4.")
