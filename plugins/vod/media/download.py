"""Sources behind https URLs: fetched in pieces where a connection breaks, and never more than was allowed."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from vod.media.errors import DownloadError, NoSpaceError, TooLargeError

if TYPE_CHECKING:
    from pathlib import Path

    from vod.media.limits import Limits

_MOST_FRUITLESS_TRIES = 5
_TIMEOUT = httpx.Timeout(30.0)
_LATER = {408, 425, 429}
"""Answers below 500 that may be others the next time."""


def head(url: str, *, limits: Limits) -> tuple[int | None, str | None]:
    """Bytes behind *url*, and what changes when they do; ``None`` where the server does not say.

    :raises DownloadError: the server refuses it, or is not there.
    """
    limits.check()
    try:
        with _client() as client:
            response = client.head(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"The server cannot be reached ({type(error).__name__}).") from None
    if not response.is_success:
        return None, None  # not every server answers to HEAD, and signed URLs are for GET only
    return _length(response), _validator(response)


def download(url: str, target: Path, *, most: int, limits: Limits) -> int:
    """Fetch *url* to *target*; a connection that breaks is taken up where it broke.

    :param most: Bytes.
    :returns: Bytes received.
    :raises DownloadError: it is not there, may not be had, or did not arrive whole.
    :raises TooLargeError: it has more than *most* bytes.
    :raises NoSpaceError: it does not fit on the disk.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    transfer = _Transfer(url, most, limits)
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
    return transfer.received


class _Transfer:
    def __init__(self, url: str, most: int, limits: Limits) -> None:
        self._url = url
        self._most = most
        self._limits = limits
        self.received = 0
        self._validator: str | None = None
        self._fruitless = 0

    def go_on(self, client: httpx.Client, file: IO[bytes]) -> None:
        """One connection, from where the last one broke to the end."""
        before = self.received
        headers = {"Range": f"bytes={before}-"} if before else {}
        if before and self._validator:
            headers["If-Range"] = self._validator  # a file that has changed is sent from its beginning
        try:
            with client.stream("GET", self._url, headers=headers) as response:
                size = self._extent(response)
                file.seek(self.received)
                file.truncate()
                for chunk in response.iter_raw():
                    self._limits.check()
                    self.received += len(chunk)
                    self._allow(self.received)
                    file.write(chunk)
            if size is not None and self.received < size:
                raise httpx.RemoteProtocolError("The connection ended early.")
        finally:
            self._fruitless = 0 if self.received > before else self._fruitless + 1

    def tries(self) -> Retrying:
        def stop(_: RetryCallState) -> bool:
            return self._fruitless >= _MOST_FRUITLESS_TRIES

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
        self.received = 0
        self._validator = _validator(response)
        size = _length(response)
        return None if size is None else self._allow(size)

    def _allow(self, size: int) -> int:
        if size > self._most:
            raise TooLargeError(f"The file has more than {self._most / 1e9:.3g} GB, the limit for downloads.")
        return size


def _client() -> httpx.Client:
    # Packed bytes could not be taken up in the middle.
    return httpx.Client(follow_redirects=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"})


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, httpx.TransportError) or (isinstance(error, DownloadError) and error.retryable)


def _length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(response: httpx.Response) -> str | None:
    tag: str | None = response.headers.get("ETag")
    changed: str | None = response.headers.get("Last-Modified")
    return changed if tag is None or tag.startswith("W/") else tag
