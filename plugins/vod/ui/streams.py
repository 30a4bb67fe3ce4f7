"""Audio and texts, passed through from where they lie: folders of this machine, object storage, VOD.

The browser never sees where that is. A file of this machine is opened only below an allowed location, after
links have been followed; an asset of VOD is read by a signed URL that stays in this process.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

import httpx
from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from vod import media
from vod.connection import DEFAULT_CONNECTION
from vod.errors import InvalidInputError, VodError
from vod.hooks import VodHook
from vod.locations import Kind, Location, parse_location
from vod.logs import get_logger
from vod.media.sparse import RangesError
from vod.pipeline.planning import form_locations
from vod.storage.sources import ranges

log = get_logger(__name__)

TYPES = {
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "mp4": "audio/mp4",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "ogg": "audio/ogg",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "ttml": "application/octet-stream",
    "tsv": "text/plain; charset=utf-8",
}
"""What is passed through, by the ending of its name. None of it is a page or a script to a browser."""

_PIECE = 1 << 18
_TIMEOUT = 3600.0
"""Seconds that one answer may take: a person may listen slowly."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class _Source(Protocol):
    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from *start* to before *end*."""


@dataclass(frozen=True)
class _File:
    """A file of this machine, opened."""

    descriptor: int
    size: int

    def read(self, start: int, end: int) -> bytes:
        return os.pread(self.descriptor, end - start, start)


class Opened:
    """Something that can be read in pieces, until it is closed.

    :param uri: As a record names it.
    :param ending: Of its name, if the URI has none.
    :raises HTTPException: it may not be passed through, or cannot be read; the detail says why in words.
    """

    def __init__(self, uri: str, ending: str = "") -> None:
        self._stack = ExitStack()
        try:
            location = parse_location(uri)
            self.name = unquote(location.name.rpartition("/")[2])
            self.content_type = _type_of(self.name, ending)
            self._source = self._open(location)
        except (VodError, RangesError, OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            self._stack.close()
            said = f"{error.message} {error.remedy}" if isinstance(error, VodError) else ""
            raise HTTPException(404, said.strip() or "It cannot be read from the API server.") from error
        except BaseException:
            self._stack.close()
            raise

    @property
    def size(self) -> int:
        """Bytes."""
        return self._source.size

    def read(self, limit: int) -> bytes:
        """All of it.

        :raises HTTPException: it has more bytes than *limit*.
        """
        try:
            if self.size > limit:
                raise HTTPException(413, "This is too large to be shown; download it.")
            return self._source.read(0, self.size)
        finally:
            self.close()

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from *start* to before *end*, and closes it."""
        try:
            while start < end:
                piece = self._source.read(start, min(start + _PIECE, end))
                if not piece:
                    return
                start += len(piece)
                yield piece
        except (VodError, RangesError, OSError, httpx.HTTPError) as error:
            # Its text may hold a signed URL. The browser sees that less came than was announced.
            log.warning("%s broke off (%s).", self.name, type(error).__name__)
        finally:
            self.close()

    def close(self) -> None:
        """Give back what it holds."""
        self._stack.close()

    def _open(self, location: Location) -> _Source:
        limits = media.Limits(_TIMEOUT)
        if location.kind is Kind.WEB or not location.scheme:
            raise InvalidInputError("This is no file, object or asset of VOD.")
        vod_conn_id = location.connection if location.kind is Kind.ASSET else None
        allowed = form_locations(vod_conn_id or DEFAULT_CONNECTION)
        allowed.check(location)
        if location.path is not None:
            return self._open_file(location.path, location)
        hook = VodHook(vod_conn_id) if vod_conn_id else None
        return self._stack.enter_context(ranges(location, hook, limits, allowed))

    def _open_file(self, path: Path, location: Location) -> _File:
        real = os.path.realpath(path)
        form_locations(DEFAULT_CONNECTION).check(parse_location(Path(real).as_uri()))
        # What was checked is what is opened: no link since then, no pipe that would block.
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise media.UnreadableMediaError(
                "The file is not on the machine of the API server.",
                remedy="It was removed, or only workers see this folder: mount it here as well, or use "
                "object storage.",
                asset=location.shown,
            ) from error
        self._stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise media.UnreadableMediaError("This is no regular file.", asset=location.shown)
        return _File(descriptor, status.st_size)


def _type_of(name: str, ending: str) -> str:
    """:raises InvalidInputError: nothing of that name is passed through."""
    found = name.rpartition(".")[2].lower() if "." in name else ending
    if found not in TYPES:
        raise InvalidInputError("This is neither audio nor a text of this package.")
    return TYPES[found]


def stream(opened: Opened, wanted: str | None, *, download: bool = False) -> StreamingResponse:
    """An answer with all of it, or with the range that the browser wants.

    :param wanted: The header ``Range``.
    :param download: Let the browser save it under its name.
    """
    headers = {"Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    if download:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(opened.name, safe='')}"
    start, end, status = 0, opened.size, 200
    if wanted and (found := _RANGE.fullmatch(wanted.strip())) and any(found.groups()):
        first, last = found.groups()
        if first:
            start = int(first)
            end = min(int(last) + 1, opened.size) if last else opened.size
        else:
            start = max(opened.size - int(last), 0)
        if start >= end:
            opened.close()
            raise HTTPException(416, "Not that long.", headers={"Content-Range": f"bytes */{opened.size}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{opened.size}"
        status = 206
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(
        opened.pieces(start, end), status_code=status, headers=headers, media_type=opened.content_type
    )
