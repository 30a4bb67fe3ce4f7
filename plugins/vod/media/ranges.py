"""Of a remote MP4 or QuickTime file only what its sound needs, where that is quicker than all of it.

The boxes outside ``mdat`` say where each sample is. What is fetched goes to its place in a sparse file of the
same size: all samples but those of the picture. Fragmented files and other containers are fetched whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Protocol

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from vod.errors import VodError
from vod.media.addresses import REDIRECTS, requests_for
from vod.media.download import LATER, Pace, may_pass, validator
from vod.media.errors import (
    DestinationError,
    DownloadError,
    ExtractionCancelledError,
    ExtractionTimeoutError,
    MediaError,
    NoSpaceError,
)
from vod.media.info import read_media

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from vod.locations import AllowedLocations, Location
    from vod.media.limits import Limits

AT_ONCE = 32
"""Requests on their way at the same time."""
HEAD = 1 << 20
"""Bytes of the beginning, fetched first: ffmpeg looks at the first pictures too, and they show the pace."""
MIN_SIZE = 8 * HEAD
"""Bytes below which a file is fetched whole."""

_GAPS = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
"""Bytes of picture that may be fetched in order to save a request; the quickest is taken."""
_OWN_TIME = 0.002
"""Seconds of this process for each request, whatever the server."""
_WORTH = 0.8
"""Part of the time for the whole file from which on that one is fetched: estimates err."""
_MAX_BOXES = 64
_MAX_INDEX = 256 << 20
_MAX_TRIES = 5
_LONGEST_WAIT = 60.0


class Span(NamedTuple):
    """Bytes from *start* up to *end*."""

    start: int
    end: int


class ChangedError(DownloadError):
    """The source is no longer what it was when its index was read, or its server sends no parts of it."""


class _LaterError(DownloadError):
    """:param pause: Seconds that the server asks to wait."""

    def __init__(self, status: int, pause: float | None) -> None:
        super().__init__(f"The server answered with HTTP {status}.", retryable=True)
        self.pause = pause


class Remote(Protocol):
    """A file that can be read in parts.

    :ivar size: Bytes of all of it.
    """

    size: int

    def read(self, spans: Iterable[Span]) -> Iterator[tuple[Span, bytes]]:
        """The bytes of all *spans*, several at once, in their order.

        :raises ChangedError: they are not all of the same file.
        """


def fetch_sound(remote: Remote, target: Path, limits: Limits) -> int | None:
    """Write what the sound of *remote* needs to *target*, at its places in a sparse file.

    :returns: Bytes fetched, or ``None`` when the whole file is quicker or the container has no index.
    :raises DownloadError: the server refuses a part, or the file has changed.
    :raises NoSpaceError: it does not fit on the disk.
    :raises MediaError: the index cannot be read.
    """
    if remote.size < MIN_SIZE:
        return None
    with target.open("wb") as file:
        sparse = _Sparse(remote, file)
        try:
            file.truncate(remote.size)
            began = time.monotonic()
            head = sparse.fetch(Span(0, HEAD))
            pace = (time.monotonic() - began) / HEAD
            if not _fetch_index(sparse, head):
                return None
            file.flush()
            found = read_media("sound_spans", target, limits, joined=_GAPS[0])
            # The beginning is there.
            spans = [Span(max(start, HEAD), end) for start, end in _checked(found, remote.size) if end > HEAD]
            began = time.monotonic()
            sparse.fetch(Span(0, 1))
            latency = time.monotonic() - began
            # The first answer waited for its connection too; what is left over is the pace of bytes.
            chosen = _quickest(spans, remote.size, latency, max(pace - latency / HEAD, 1e-10))
            if chosen is None:
                return None
            sparse.fetch_all(chosen)
        except OSError as error:
            raise NoSpaceError(f"The download cannot be kept: {error.strerror}.") from error
        return sparse.fetched


class _Sparse:
    def __init__(self, remote: Remote, file: IO[bytes]) -> None:
        self.remote = remote
        self._file = file
        self.fetched = 0

    def fetch(self, span: Span) -> bytes:
        return self.fetch_all([span])

    def fetch_all(self, spans: Sequence[Span]) -> bytes:
        """Put them in their places; the last one is returned."""
        data = b""
        for span, data in self.remote.read(spans):
            self._file.seek(span.start)
            self._file.write(data)
            self.fetched += len(data)
        return data


def _fetch_index(sparse: _Sparse, head: bytes) -> bool:
    """Fetch all boxes but ``mdat``; whether that is an index without fragments."""
    size, position, known, offset = sparse.remote.size, 0, head, 0
    names: set[bytes] = set()
    for _ in range(_MAX_BOXES):
        if position + 16 > size:
            break
        if not offset <= position <= offset + len(known) - 16:
            known, offset = sparse.fetch(Span(position, min(position + HEAD, size))), position
        box = known[position - offset :][:16]
        length, name = int.from_bytes(box[:4], "big"), box[4:8]
        if length == 1:
            length = int.from_bytes(box[8:], "big")
        end = position + length if length else size
        if name in (b"moof", b"styp", b"sidx") or (not names and name not in _FIRST) or end < position + 8:
            return False
        names.add(name)
        if name != b"mdat":
            if end > size or end - position > _MAX_INDEX:
                return False
            if end > offset + len(known):
                sparse.fetch(Span(offset + len(known), end))
        position = end
    # What follows, or is cut off, is for the whole file to say.
    return position == size and names >= {b"moov", b"mdat"}


_FIRST = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


def _checked(found: object, size: int) -> list[Span]:
    """The spans that the sandbox found; it may have sent anything."""
    if not isinstance(found, list):
        raise MediaError("The file's index cannot be read.")
    spans, before = [], 0
    for each in found:
        if not (isinstance(each, list) and len(each) == 2 and all(type(part) is int for part in each)):
            raise MediaError("The file's index cannot be read.")
        span = Span(*each)
        if not before <= span.start < span.end <= size:
            raise MediaError("The file's index points outside of it.")
        spans.append(span)
        before = span.end
    return spans


def _quickest(spans: list[Span], size: int, latency: float, pace: float) -> list[Span] | None:
    """*spans*, joined where that is quicker; ``None`` when the whole file is.

    :param latency: Seconds for a request.
    :param pace: Seconds for a byte.
    """
    if not spans:
        return None
    best, least = None, size * pace * _WORTH + latency
    for gap in _GAPS:
        joined = join(spans, gap)
        turns = -(-len(joined) // AT_ONCE)
        bytes_ = sum(span.end - span.start for span in joined)
        took = max(turns * latency, len(joined) * _OWN_TIME) + bytes_ * pace
        if took < least:
            best, least = joined, took
    return best


def join(spans: Iterable[Span], gap: int) -> list[Span]:
    """Sorted *spans*, as one where no more than *gap* bytes are between them."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.start - joined[-1].end <= gap:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


class HttpRemote:
    """A file behind a web address, read in parts.

    :param tag: What changes when the file does; each part has to be of that file.
    """

    def __init__(
        self,
        client: httpx.Client,
        location: Location,
        size: int,
        tag: str,
        *,
        limits: Limits,
        allowed: AllowedLocations,
    ) -> None:
        self._client = client
        self.size = size
        self._tag = tag
        self._location = location
        self._limits = limits
        self._allowed = allowed

    @classmethod
    def find(
        cls, client: httpx.Client, location: Location, *, limits: Limits, allowed: AllowedLocations
    ) -> HttpRemote | None:
        """``None`` where the server sends no parts, or does not say when the file changes.

        :raises DownloadError: the server is not there, or refuses.
        """
        try:
            for response in requests_for(client, "GET", location, allowed, {"Range": "bytes=0-0"}):
                last = response
                if response.status_code == 206 and response.headers.get("Content-Length") == "1":
                    response.read()  # the connection is used again
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"The server cannot be reached ({type(error).__name__}).") from None
        _, _, size = last.headers.get("Content-Range", "").partition("/")
        tag = validator(last)
        if last.status_code != 206 or not size.isdecimal() or tag is None:
            return None
        return cls(client, location, int(size), tag, limits=limits, allowed=allowed)

    def read(self, spans: Iterable[Span]) -> Iterator[tuple[Span, bytes]]:
        """See :class:`Remote`."""
        yield from in_order(self._part, spans)

    def _part(self, span: Span) -> bytes:
        tries = Retrying(
            retry=retry_if_exception(may_pass),
            wait=_wait,
            stop=lambda state: state.attempt_number >= _MAX_TRIES,
            sleep=self._limits.wait,
            reraise=True,
        )
        try:
            return tries(self._once, span)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"The download broke off ({type(error).__name__}).") from None

    def _once(self, span: Span) -> bytes:
        # If-Range: a file that has changed comes whole, with status 200.
        headers = {"Range": f"bytes={span.start}-{span.end - 1}", "If-Range": self._tag}
        data = bytearray()
        for response in requests_for(self._client, "GET", self._location, self._allowed, headers):
            if response.status_code in REDIRECTS:
                continue
            self._require_part(response, span)
            pace = Pace()
            for chunk in response.iter_raw():
                self._limits.check()
                pace.check(len(chunk))
                data += chunk
                if len(data) > span.end - span.start:
                    raise ChangedError("The server sent more than was asked for.")
        if len(data) < span.end - span.start:
            raise httpx.RemoteProtocolError("The connection ended early.")
        return bytes(data)

    def _require_part(self, response: httpx.Response, span: Span) -> None:
        status = response.status_code
        if status in LATER or status >= 500:
            raise _LaterError(status, _seconds(response.headers.get("Retry-After", "")))
        if status not in (200, 206):
            raise DownloadError(f"The server answered with HTTP {status}.", retryable=False)
        stated = response.headers.get("Content-Range", "")
        if status == 200 or stated != f"bytes {span.start}-{span.end - 1}/{self.size}":
            raise ChangedError("The file has changed, or the server sends no parts of it.", retryable=False)
        if validator(response) not in (None, self._tag):
            raise ChangedError("The file has changed.", retryable=False)


def in_order(
    part: Callable[[Span], bytes], spans: Iterable[Span], at_once: int = AT_ONCE
) -> Iterator[tuple[Span, bytes]]:
    """Each span with what *part* gives for it; some are ready before they are asked for, never all."""
    waiting = list(spans)
    with ThreadPoolExecutor(max_workers=min(at_once, max(len(waiting), 1))) as pool:
        try:
            for first in range(0, len(waiting), 8 * at_once):
                group = waiting[first : first + 8 * at_once]
                yield from zip(group, pool.map(part, group), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.pause if isinstance(error, _LaterError) else None
    return min(asked, _LONGEST_WAIT) if asked else wait_random_exponential(multiplier=0.2, max=10)(state)


def _seconds(retry_after: str) -> float | None:
    """A date instead of seconds is not read: the usual pauses do."""
    return float(retry_after) if retry_after.isdecimal() else None


def is_of_source(error: VodError) -> bool:
    """Whether the whole file could still give what its parts did not."""
    return not isinstance(
        error, (DestinationError, ExtractionCancelledError, ExtractionTimeoutError, NoSpaceError)
    )
