"""ffmpeg at work on a source that is still being fetched.

It does what the headers make likely. When the whole file is there, and all its packets say that nothing else
is to be done, what was written is taken; otherwise it is thrown away. So the result is always the same, and
the wait is that of the network alone.
"""

from __future__ import annotations

import array
import contextlib
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vod import sandbox
from vod.errors import VodError
from vod.media import command
from vod.media.command import Piece
from vod.media.info import PROBE_TIMEOUT, read_media
from vod.media.limits import Limits
from vod.media.partials import partial_beside
from vod.media.process import Complaints, run
from vod.media.source import open_source, unsuited
from vod.media.tracks import choose_tracks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vod.media.command import Tags
    from vod.media.formats import Output
    from vod.media.source import Source
    from vod.media.tracks import Selection

HEADERS = 4 << 20
"""Bytes that have to be there before the headers are read."""

_MAX_HEAD = 1 << 20
"""Bytes before the media data of an MP4 that are kept in memory; mostly it is a hundred."""
_MAX_INDEX = 64 << 20
_STDIN = "/dev/stdin"
_LOOK_EVERY = 0.05
_CHUNK = 1 << 20


class Ahead:
    """An extraction that starts before its source is whole.

    A context manager: nothing that it wrote, and no process, is left when it ends. The parameters are those
    of :func:`vod.media.extract_all`.

    :param timeout: Seconds that ffmpeg may take.
    """

    def __init__(
        self,
        outputs: Mapping[Path, Output],
        selection: Selection,
        *,
        tags: Tags,
        gaps: Literal["silence", "close"],
        strict: bool,
        program: str,
        timeout: float,
    ) -> None:
        self._outputs = outputs
        self._selection = selection
        self._tags = tags
        self._gaps = gaps
        self._strict = strict
        self._program = program
        self._timeout = timeout
        self._partials = contextlib.ExitStack()
        self._worker: threading.Thread | None = None
        self._forget()

    def _forget(self) -> None:
        self._stopped, self._planned, self._whole = (threading.Event() for _ in range(3))
        self._limits = Limits(self._timeout, self._stopped)
        self._pieces: list[Piece] = []
        self._line: list[str] = []
        self._front: Front | None = None
        self._done: Complaints | None = None
        self._worker = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()
        self._partials.close()

    def begin(
        self, growing: Path, boxes: Path | None = None, available: Callable[[], int] | None = None
    ) -> None:
        """Go to work on a file that is about to be fetched; on another one no more.

        :param boxes: A sparse file with what it has outside of the media data, when that is known. An MP4
            whose index is at its end can be read from its start then.
        :param available: Up to which byte all is there that is wanted; the file's size tells when omitted.
        """
        self.abandon()
        self._forget()
        self._available = available or (lambda: _size(growing))
        # What depends on all of the sound, or on a piece of it, has to wait for the whole file.
        one = self._selection.is_open or isinstance(self._selection.track, int)
        loud = any(output.loudness is not None for output in self._outputs.values())
        if one and not loud and not self._selection.trims:
            self._worker = threading.Thread(target=self._work, args=(growing, boxes), name="ahead")
            self._worker.start()

    def end(self) -> None:
        """Say that the file is whole."""
        self._whole.set()

    def abandon(self) -> None:
        """End the work. What it wrote will not be taken."""
        self._stopped.set()
        if self._worker:
            self._worker.join()
        self._done = None

    def take(self, line: Sequence[str], source: Source, pieces: Sequence[Piece]) -> Complaints | None:
        """Put in place what was written, if it is what *line* would write.

        :param line: The command that is about to be run, now that everything is known.
        :param source: The whole file.
        :returns: What ffmpeg said; ``None`` when the command has to be run.
        """
        if self._worker is None or not self._whole.is_set():
            return None
        while not self._planned.wait(_LOOK_EVERY):
            source.limits.check()
        same = _unnamed(line, source.path, pieces) == _unnamed(self._line, _STDIN, self._pieces)
        if not same or (self._front and self._front != front_of(source.path, source.limits)):
            self.abandon()
            return None
        while self._worker.is_alive():
            self._worker.join(_LOOK_EVERY)
            source.limits.check()
        # Whatever was odd shows again, and in its own words, when the file is read from its start.
        if self._done is None or self._done.count:
            return None
        for own, piece in zip(self._pieces, pieces, strict=True):
            own.partial.replace(piece.partial)
        return self._done

    def _work(self, growing: Path, boxes: Path | None) -> None:
        # Whatever goes wrong here goes wrong again, and is told, with the whole file.
        with contextlib.suppress(VodError, OSError):
            try:
                self._plan(growing, boxes)
            finally:
                self._planned.set()
            if self._line:
                self._done = self._encode(growing)

    def _plan(self, growing: Path, boxes: Path | None) -> None:
        while self._available() < HEADERS:
            if self._whole.is_set():
                return  # it is small
            self._limits.wait(_LOOK_EVERY)
        limits, readable = Limits(PROBE_TIMEOUT, self._stopped), growing
        if boxes and (front := front_of(boxes, limits)):
            self._front, readable = front, boxes
            if boxes != growing:
                with growing.open("rb") as file, boxes.open("r+b") as head:
                    head.write(file.read(HEADERS))
        source = open_source(readable, program=self._program, limits=limits)
        tracks = choose_tracks(source.info, self._selection.language, self._selection.track)
        track = next((track for track in tracks if not unsuited(track)), None)
        # What may be copied is done in no time once all packets have been seen.
        if track is None or any(
            output.keeps(track.codec, track.sample_rate, track.channels) for output in self._outputs.values()
        ):
            return
        self._pieces = [
            Piece(
                track=track,
                output=output,
                partial=self._partials.enter_context(partial_beside(target)),
                copy=False,
                gaps="silence" if self._gaps == "silence" else None,
            )
            for target, output in self._outputs.items()
        ]
        self._line = command.extraction(
            self._program,
            Path(_STDIN),
            source.info,
            self._pieces,
            self._selection,
            self._tags,
            check=self._strict,
        )

    def _encode(self, growing: Path) -> Complaints | None:
        reading, writing = os.pipe()
        feeder = threading.Thread(target=self._feed, args=(growing, writing), name="feed")
        feeder.start()
        try:
            code, complaints = run(self._line, limits=self._limits, stdin=reading)
        finally:
            os.close(reading)
            feeder.join()
        return complaints if code == 0 else None

    def _feed(self, growing: Path, pipe: int) -> None:
        with contextlib.suppress(BrokenPipeError), growing.open("rb") as file, open(pipe, "wb", 0) as sink:
            if self._front:
                sink.write(self._front.content)
                file.seek(self._front.instead_of)
            while not self._stopped.is_set():
                whole = self._whole.is_set()
                size = self._available() - file.tell()
                if size > 0 and (data := file.read(min(size, _CHUNK))):
                    sink.write(data)
                elif whole:
                    return
                else:
                    self._whole.wait(_LOOK_EVERY)


@dataclass(frozen=True)
class Front:
    """The start of an MP4 with its index in front of the media data instead of behind.

    :param instead_of: Bytes of the file in whose place it is.
    """

    content: bytes
    instead_of: int


@dataclass(frozen=True)
class _Index:
    places: tuple[tuple[int, ...], ...]
    tables: tuple[tuple[int, ...], ...]


def front_of(path: Path, limits: Limits) -> Front | None:
    """The start of an MP4 as it has to be to be read from its start.

    :returns: ``None`` when it already is as it has to be, or cannot be.
    :raises MediaError: it cannot be read.
    """
    found = sandbox.build(_Index, read_media("index_behind", path, limits))
    if [*map(len, found.places)] != [3] or any(len(table) != 3 for table in found.tables):
        return None
    start, end, media = found.places[0]
    if not (0 < media <= _MAX_HEAD and media < start < end <= start + _MAX_INDEX):
        return None
    with path.open("rb") as file:
        head = file.read(media)
        file.seek(start)
        index = bytearray(file.read(end - start))
    for at, count, width in found.tables:
        if width not in (4, 8) or not 0 <= at <= at + count * width <= len(index):
            return None
        places = array.array("I" if width == 4 else "Q", index[at : at + count * width])
        if sys.byteorder == "little":
            places.byteswap()
        try:
            moved = array.array(places.typecode, (place + len(index) for place in places))
        except OverflowError:
            return None
        if sys.byteorder == "little":
            moved.byteswap()
        index[at : at + count * width] = moved.tobytes()
    return Front(head + bytes(index), media)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unnamed(line: Sequence[str], source: Path | str, pieces: Sequence[Piece]) -> list[str]:
    """A command without the names of its files."""
    names = {f"file:{source}": "SOURCE"}
    names |= {f"file:{piece.partial}": f"PARTIAL{number}" for number, piece in enumerate(pieces)}
    return [names.get(argument, argument) for argument in line]
