"""Sources behind https URLs: fetched in pieces where a connection breaks, and never more than was allowed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from vod.logs import redact_http_libraries
from vod.media.addresses import REDIRECTS, requests_for
from vod.media.errors import DownloadError, NoSpaceError, SlowDownloadError, TooLargeError
from vod.media.sparse import FIRST_PIECE, PARALLEL, Fetched, RangesError

if TYPE_CHECKING:
    from pathlib import Path

    from vod.locations import AllowedLocations, Location
    from vod.media.limits import Limits

redact_http_libraries()

_MAX_FRUITLESS_TRIES = 5
_TIMEOUT = httpx.Timeout(30.0)
_PACE_SECONDS, _MIN_BYTES_PER_SECOND = 60.0, 1000
_LATER = {408, 425, 429}
"""Answers below 500 that may be others the next time."""


def head(location: Location, *, limits: Limits, allowed: AllowedLocations) -> tuple[int | None, str | None]:
    """Bytes behind a web address, and what changes when they do; ``None`` where the server does not say.

    :raises DownloadError: the server refuses it, or is not there.
    """
    limits.check()
    try:
        with _client() as client:
            response = _last(requests_for(client, "HEAD", location, allowed, {}))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"The server cannot be reached ({type(error).__name__}).") from None
    if not response.is_success:
        return None, None  # not every server answers to HEAD, and signed URLs are for GET only
    return _length(response), _validator(response)


def download(
    location: Location,
    target: Path,
    *,
    max_bytes: int,
    limits: Limits,
    allowed: AllowedLocations,
) -> Fetched:
    """Fetch a web address to *target*; a connection that breaks is taken up where it broke.

    :param max_bytes: Bytes at most.
    :param allowed: What may be read, also after a redirect.
    :raises DownloadError: it does not exist, is refused, comes too slowly, or did not arrive whole.
    :raises TooLargeError: it has more than *max_bytes* bytes.
    :raises NoSpaceError: it does not fit on the disk.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    transfer = _Transfer(location, max_bytes, limits, allowed)
    try:
        with target.open("wb") as file, _client() as client:
            for attempt in transfer.tries():
                with attempt:
                    transfer.go_on(client, file)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # httpx's text may hold the URL with its secrets.
        raise DownloadError(
            f"The download broke off after {transfer.received} bytes ({type(error).__name__})."
        ) from None
    except OSError as error:
        raise NoSpaceError(f"The download cannot be kept: {error.strerror}.") from error
    return Fetched(bytes=transfer.received, size=transfer.received, restarts=transfer.restarts)


class HttpRanges:
    """A file behind HTTP that is read in pieces, by several threads at once.

    :param ask: Sends a GET with these headers and gives the responses, redirects too, the answer last.
    :raises RangesError: the server does not send pieces, or the file has changed.
    """

    def __init__(self, ask: Callable[[dict[str, str]], Iterator[httpx.Response]], *, limits: Limits) -> None:
        self._ask = ask
        self._limits = limits
        self._validator: str | None = None
        self.size = 0
        self.first = self._read(0, FIRST_PIECE)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from *start* to before *end*."""
        for attempt in Retrying(
            retry=retry_if_exception(_may_pass),
            wait=_as_the_server_says,
            stop=stop_after_attempt(_MAX_FRUITLESS_TRIES),
            sleep=self._limits.wait,
            reraise=True,
        ):
            with attempt:
                return self._read(start, end)
        raise AssertionError("unreachable")

    def check(self) -> None:
        """Nothing to do: each piece was sent with the file's validator."""

    def _read(self, start: int, end: int) -> bytes:
        self._limits.check()
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if self._validator:
            headers["If-Range"] = self._validator
        for response in self._ask(headers):
            if response.status_code in REDIRECTS:
                continue
            self._check(response, start)
            received = bytearray()
            for chunk in response.iter_raw():
                received += chunk
                if len(received) > end - start:
                    break
            expected = min(end, self.size) - start
            if len(received) != expected:
                raise httpx.RemoteProtocolError("A piece of another length came.")
            return bytes(received)
        raise RangesError("The server redirects to nothing.")

    def _check(self, response: httpx.Response, start: int) -> None:
        if response.status_code != 206:
            later = response.status_code >= 500 or response.status_code in _LATER
            error = DownloadError(f"The server answered with HTTP {response.status_code}.", retryable=later)
            error.retry_after = response.headers.get("Retry-After")
            raise error if later else RangesError(str(error))
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != start or (self.size and int(found[2]) != self.size):
            raise RangesError("The server sent another part of the file than was asked for.")
        validator = _validator(response)
        if self.size and validator != self._validator:
            raise RangesError("The file has changed.")
        if validator is None:
            raise RangesError("The server does not tell whether the file changes.")
        self.size, self._validator = int(found[2]), validator


@contextmanager
def web_ranges(location: Location, *, limits: Limits, allowed: AllowedLocations) -> Iterator[HttpRanges]:
    """A web address, to be read in pieces.

    :param allowed: What may be read, also after a redirect.
    :raises RangesError, DownloadError: it cannot be.
    """
    with _client() as client:
        yield HttpRanges(
            lambda headers: requests_for(client, "GET", location, allowed, headers), limits=limits
        )


@contextmanager
def signed_ranges(sign: Callable[[], str], *, limits: Limits) -> Iterator[HttpRanges]:
    """A file behind a pre-signed URL, to be read in pieces.

    :param sign: Gives a URL that is valid now.
    :raises RangesError, DownloadError: it cannot be read so.
    """
    url, lock = sign(), threading.Lock()

    def ask(headers: dict[str, str]) -> Iterator[httpx.Response]:
        nonlocal url
        used = url
        with client.stream("GET", used, headers=headers) as response:
            if response.status_code != 403:
                yield response
                return
        with lock:
            if url == used:  # it has expired
                url = sign()
        with client.stream("GET", url, headers=headers) as response:
            yield response

    with _client() as client:
        yield HttpRanges(ask, limits=limits)


def _as_the_server_says(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    said = getattr(error, "retry_after", None) or ""
    return (
        min(float(said), 60.0) if said.isdecimal() else wait_random_exponential(multiplier=0.2, max=10)(state)
    )


class _Transfer:
    def __init__(self, location: Location, max_bytes: int, limits: Limits, allowed: AllowedLocations) -> None:
        self._location = location
        self._max_bytes = max_bytes
        self._limits = limits
        self._allowed = allowed
        self.received = self.restarts = 0
        self._validator: str | None = None
        self._fruitless = 0

    def go_on(self, client: httpx.Client, file: IO[bytes]) -> None:
        """One connection, from where the last one broke to the end."""
        before = self.received
        headers = {"Range": f"bytes={before}-"} if before else {}
        if before and self._validator:
            headers["If-Range"] = self._validator  # a file that has changed is sent from its beginning
        try:
            size = None
            for response in requests_for(client, "GET", self._location, self._allowed, headers):
                if response.status_code in REDIRECTS:
                    continue
                size = self._extent(response)
                file.seek(self.received)
                file.truncate()
                pace = _Pace()
                for chunk in response.iter_raw():
                    self._limits.check()
                    pace.check(len(chunk))
                    self.received += len(chunk)
                    self._allow(self.received)
                    file.write(chunk)
            if size is not None and self.received < size:
                raise httpx.RemoteProtocolError("The connection ended early.")
        finally:
            self._fruitless = 0 if self.received > before else self._fruitless + 1

    def tries(self) -> Retrying:
        def stop(_: RetryCallState) -> bool:
            return self._fruitless >= _MAX_FRUITLESS_TRIES

        return Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            stop=stop,
            sleep=self._sleep,
            reraise=True,
        )

    def _sleep(self, seconds: float) -> None:
        self._limits.wait(seconds)

    def _extent(self, response: httpx.Response) -> int | None:
        """Bytes of the whole file. Sets how many of them are known already."""
        if response.status_code == 206 and self.received:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if found and int(found[1]) == self.received:
                return None if found[2] == "*" else self._allow(int(found[2]))
            raise DownloadError("The server sent another part of the file than was asked for.")
        if response.status_code != 200:
            later = response.status_code >= 500 or response.status_code in _LATER
            raise DownloadError(f"The server answered with HTTP {response.status_code}.", retryable=later)
        self.restarts += self.received > 0
        self.received = 0
        self._validator = _validator(response)
        size = _length(response)
        return None if size is None else self._allow(size)

    def _allow(self, size: int) -> int:
        if size > self._max_bytes:
            raise TooLargeError(
                f"The file has more than {self._max_bytes / 1e9:.3g} GB, the limit for downloads."
            )
        return size


class _Pace:
    """Ends a download that comes in drops: it could go on for weeks."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._bytes = 0

    def check(self, received: int) -> None:
        """:raises SlowDownloadError: the last minute brought too little."""
        self._bytes += received
        elapsed = time.monotonic() - self._since
        if elapsed < _PACE_SECONDS:
            return
        if self._bytes < _MIN_BYTES_PER_SECOND * elapsed:
            raise SlowDownloadError(f"The server sends less than {_MIN_BYTES_PER_SECOND} bytes a second.")
        self._since, self._bytes = time.monotonic(), 0


def _last(responses: Iterator[httpx.Response]) -> httpx.Response:
    *_, last = responses
    return last


def _client() -> httpx.Client:
    # Packed bytes could not be taken up in the middle. Redirects are followed by requests_for, which checks
    # them. A proxy of the environment would look names up itself, and lead where it likes.
    return httpx.Client(
        follow_redirects=False,
        timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"},
        trust_env=False,
        limits=httpx.Limits(max_connections=PARALLEL, max_keepalive_connections=PARALLEL),
    )


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, SlowDownloadError):
        return False  # each connection would bring a little
    return isinstance(error, httpx.TransportError) or (isinstance(error, DownloadError) and error.retryable)


def _length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(response: httpx.Response) -> str | None:
    tag: str | None = response.headers.get("ETag")
    changed: str | None = response.headers.get("Last-Modified")
    return changed if tag is None or tag.startswith("W/") else tag
