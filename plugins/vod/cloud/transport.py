"""What httpx needs to serve coroutines on a thread that may block, and not to read without end."""

from __future__ import annotations

import os
import secrets
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.request import getproxies, proxy_bypass

import anyio.to_thread
import httpx

_CHUNK = 1024 * 1024
MAX_ANSWER = 16 << 20
"""Bytes of an answer at most; a full page of asset/list has some hundred kilobytes."""

ANSWER_SECONDS = 120.0
"""Seconds from the first byte of an answer to its last, at most."""

ACCEPTED_PACKINGS = "gzip, deflate"
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""What zlib calls them."""


class BlockingTransport(httpx.AsyncBaseTransport):
    """Sends with httpx's blocking transport inside coroutines, which therefore never suspend."""

    def __init__(self) -> None:
        self._direct = httpx.HTTPTransport()
        # httpx reads the proxy variables only for a transport of its own making.
        self._proxied = {
            scheme: httpx.HTTPTransport(proxy=url if "://" in url else f"http://{url}")
            for scheme, url in getproxies().items()
            if scheme in ("http", "https", "all")
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for its answer."""
        transport = self._direct
        if not proxy_bypass(request.url.host):
            transport = self._proxied.get(request.url.scheme) or self._proxied.get("all") or transport
        response = transport.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_BlockingStream(response.stream),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
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


class AnswerTooLargeError(Exception):
    """An answer has more bytes than any that the contract knows, or takes longer to come."""


async def bounded(response: httpx.Response, request: httpx.Request) -> httpx.Response:
    """Read a streamed answer to its end, but not without end: a small packed answer may hold gigabytes.

    What is packed in a way that was not asked for, or twice, stays packed.

    :raises AnswerTooLargeError: it has more than :data:`MAX_ANSWER` bytes, unpacked, or takes longer than
        :data:`ANSWER_SECONDS`.
    :raises httpx.DecodingError: it is packed and damaged.
    """
    read = response.is_stream_consumed  # by a transport that had it in memory, and it is unpacked
    window = None if read else _WINDOWS.get(response.headers.get("Content-Encoding", "").strip().lower())
    unpacking = zlib.decompressobj(window) if window else None
    content = bytearray()
    until = time.monotonic() + ANSWER_SECONDS
    try:
        # httpx would unpack a piece as a whole, whatever comes out of it.
        pieces = _whole(response) if read else response.aiter_raw()
        async for chunk in pieces:
            content += unpacking.decompress(chunk, MAX_ANSWER + 1 - len(content)) if unpacking else chunk
            if len(content) > MAX_ANSWER:
                raise AnswerTooLargeError(f"The answer has more than {MAX_ANSWER >> 20} MB.")
            if time.monotonic() > until:
                raise AnswerTooLargeError(f"The answer took more than {ANSWER_SECONDS:.0f} s.")
    except zlib.error as error:
        raise httpx.DecodingError("The answer is packed and damaged.", request=request) from error
    finally:
        await response.aclose()
    of_packing = (b"content-encoding", b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in of_packing]
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=bytes(content),
        request=request,
        extensions=response.extensions,
    )


@contextmanager
def replacing(target: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Give a new file that takes the place of *target* when the block ends well.

    :param mode: Its permissions, less those that the process's umask takes away.
    :raises OSError: it cannot be created. Its name cannot be foreseen, and no file or link that is there
        already is opened.
    """
    part = target.with_name(f".download-{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


async def _whole(response: httpx.Response) -> AsyncIterator[bytes]:
    yield response.content


class FileStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A part of a file as a request body, read in pieces.

    :param offset: Where it begins, bytes.
    :param length: Bytes.
    """

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self._path, self._offset, self._length = path, offset, length

    def __iter__(self) -> Iterator[bytes]:
        left = self._length
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self)
        while chunk := await anyio.to_thread.run_sync(next, chunks, b""):
            yield chunk
