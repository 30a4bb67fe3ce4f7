"""What httpx needs to serve coroutines on a thread that may block, and to keep signed URLs to itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx

_CHUNK = 1024 * 1024


class BlockingTransport(httpx.AsyncBaseTransport):
    """Sends with httpx's blocking transport inside coroutines, which therefore never suspend."""

    def __init__(self) -> None:
        self._direct = httpx.HTTPTransport()
        # httpx reads the proxy variables only for a transport of its own making.
        self._proxied = {
            scheme: httpx.HTTPTransport(proxy=url)
            for scheme, url in getproxies().items()
            if scheme in ("http", "https")
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._direct
        if request.url.scheme in self._proxied and not proxy_bypass(request.url.host):
            transport = self._proxied[request.url.scheme]
        response = transport.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_BlockingStream(response.stream),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        for transport in (self._direct, *self._proxied.values()):
            transport.close()


class _BlockingStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        self._stream.close()


class FileStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A file as a request body, read in pieces."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with await anyio.open_file(self._path, "rb") as file:
            while chunk := await file.read(_CHUNK):
                yield chunk


class _SignedUrlFilter(logging.Filter):
    """httpx logs every URL at INFO; the query of a signed one is a secret (contract, section 6)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.copy_with(query=None) if isinstance(arg, httpx.URL) and arg.query else arg
                for arg in record.args
            )
        return True


def redact_signed_urls() -> None:
    """Cut the query from every URL that httpx logs, once per process."""
    logger = logging.getLogger("httpx")
    if not any(isinstance(entry, _SignedUrlFilter) for entry in logger.filters):
        logger.addFilter(_SignedUrlFilter())
