"""Files to and from the storage behind VOD (contract, section 8): pre-signed URLs, no VOD authentication."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from xml.sax.saxutils import escape

import defusedxml.ElementTree
import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from vod.cloud.assets import Asset, UploadGrant
from vod.cloud.errors import CloudError, TransferError
from vod.cloud.session import Session
from vod.cloud.transport import AnswerTooLargeError, FileStream, bounded, replacing

PUT_LIMIT = 20 * 1024 * 1024
"""Bytes that one PUT may carry; above, parts (section 8)."""
PART_SIZE = 16 * 1024 * 1024
MAX_PARTS = 10_000

_MAX_FRUITLESS_TRIES = 5


class Writable(Protocol):
    """What a download is written to."""

    def write(self, data: bytes, /) -> Any:
        """Take the next bytes."""


class Transfers:
    """Moves files, in pieces, and goes on after a broken connection."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def download(
        self, details: Callable[[], Awaitable[Asset]], target: Path | Writable, *, asset: str
    ) -> int:
        """Download a file; a connection that breaks is taken up where it broke.

        :param details: Reads the asset anew each time it is called: signed URLs expire.
        :param target: A path, under which the file appears only when it is complete, or an open binary file.
        :returns: bytes received.
        :raises TransferError: there is no file, or it did not arrive whole.
        """
        if not isinstance(target, Path):
            return await self._stream(details, target, asset)
        with replacing(target) as file:
            return await self._stream(details, file, asset)

    async def upload(self, grant: UploadGrant, source: Path, content_type: str) -> None:
        """Upload a file to where a grant allows it: one PUT up to 20 MB, parts above.

        :raises TransferError: the storage did not take it.
        """
        size = source.stat().st_size  # noqa: ASYNC240 - one stat does not hold up the loop
        if size <= PUT_LIMIT:
            await self._put(grant.upload_url, source, 0, size, {"Content-Type": content_type})
            return
        await self._upload_parts(grant, source, size, content_type)

    async def _stream(self, details: Callable[[], Awaitable[Asset]], sink: Writable, asset: str) -> int:
        received = 0

        async def attempt() -> None:
            nonlocal received
            found = await details()
            if not (found.signed_url or found.url):
                raise _final("The asset has no file to download.", asset=asset)
            if received and received == found.metadata.size:
                return  # it broke off behind the last byte
            url = _url(found.signed_url or found.url or "")
            before = received
            try:
                headers = {"Range": f"bytes={received}-"} if received else {}
                async with self._session.http.stream("GET", url, headers=headers) as response:
                    skip, size = _extent(response, received, asset)
                    # As they come: a larger piece would be lost as a whole when the connection breaks.
                    async for chunk in response.aiter_raw():
                        fresh = chunk[skip:]
                        skip -= min(skip, len(chunk))
                        await self._session.runtime.call(sink.write, fresh)
                        received += len(fresh)
                # A file cut short in the storage agrees with its own length, but not with VOD's record of it.
                whole = max(size or received, found.metadata.size or 0)
                if received != whole:
                    raise TransferError(f"Got {received} of {whole} bytes.", asset=asset)
            except httpx.HTTPError as error:
                raise TransferError(
                    f"The download broke off after {received} bytes ({type(error).__name__}).", asset=asset
                ) from None  # httpx's text may hold the signed URL
            finally:
                progress.append(received > before)

        progress: list[bool] = []
        await self._repeating(lambda: progress)(attempt)
        return received

    async def _upload_parts(self, grant: UploadGrant, source: Path, size: int, content_type: str) -> None:
        part_size = max(PART_SIZE, -(-size // MAX_PARTS))
        upload_id = await self._initiate(grant, content_type)
        try:
            tags = []
            for number, offset in enumerate(range(0, size, part_size), 1):
                length = min(part_size, size - offset)
                tags.append(await self._upload_part(grant, source, upload_id, number, offset, length))
            await self._complete(grant, upload_id, tags)
        except BaseException:
            with suppress(CloudError, httpx.HTTPError):
                url = await self._authority(grant, "DELETE", upload_id=upload_id)
                await self._storage("DELETE", url, headers={})
            raise

    async def _initiate(self, grant: UploadGrant, content_type: str) -> str:
        async def attempt() -> str:
            url = await self._authority(grant, "POST", content_type=content_type)
            answer = await self._storage("POST", url, headers={"Content-Type": content_type})
            return _xml_text(answer, "UploadId")

        return await self._repeating()(attempt)

    async def _upload_part(
        self, grant: UploadGrant, source: Path, upload_id: str, number: int, offset: int, length: int
    ) -> str:
        digest = await self._session.runtime.call(_md5, source, offset, length)

        async def attempt() -> str:
            url = await self._authority(
                grant, "PUT", upload_id=upload_id, part_number=number, content_md5=digest
            )
            return await self._put(url, source, offset, length, {"Content-MD5": digest})

        return await self._repeating()(attempt)

    async def _complete(self, grant: UploadGrant, upload_id: str, tags: list[str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        kind = "application/xml"
        url = await self._authority(grant, "POST", upload_id=upload_id, content_type=kind)
        # Not repeated: whether a second completion finds the upload is undocumented.
        await self._storage("POST", url, headers={"Content-Type": kind}, content=body)

    async def _authority(self, grant: UploadGrant, verb: str, **details: Any) -> str:
        """The pre-signed URL of one request to the storage."""
        params = {"http_verb": verb, "bucket": grant.bucket, "object_key": grant.object_key, **details}
        return await self._session.call(
            "GET",
            "/asset/authority",
            lambda answer: str(answer["sign_str"]),
            quota="upload",
            params=params,
            asset=grant.asset_id,
            version="v1.1",
        )

    async def _put(self, url: str, source: Path, offset: int, length: int, headers: dict[str, str]) -> str:
        stream = FileStream(source, offset, length)
        answer = await self._storage(
            "PUT", url, headers={**headers, "Content-Length": str(length)}, stream=stream
        )
        return str(answer.headers.get("ETag", ""))

    async def _storage(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        content: bytes | None = None,
        stream: FileStream | None = None,
    ) -> httpx.Response:
        request = self._session.http.build_request(method, _url(url), content=content, headers=headers)
        if stream:
            request.stream = stream
        try:
            response = await bounded(await self._session.http.send(request, stream=True), request)
        except (httpx.HTTPError, AnswerTooLargeError) as error:  # its text may hold the signed URL
            raise TransferError(f"The upload broke off ({type(error).__name__}).") from None
        if not response.is_success:
            raise _storage_error("The storage refused the file.", response)
        return response

    def _repeating(self, progress: Callable[[], list[bool]] = list) -> AsyncRetrying:
        def stop(state: RetryCallState) -> bool:
            fruitful = progress()
            last = max((index for index, moved in enumerate(fruitful, 1) if moved), default=0)
            return state.attempt_number - last >= _MAX_FRUITLESS_TRIES

        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, TransferError) and error.retryable),
            wait=wait_random_exponential(multiplier=0.5, max=15),
            stop=stop,
            sleep=self._session.runtime.sleep,
            reraise=True,
        )


def _url(text: str) -> httpx.URL:
    with suppress(httpx.InvalidURL, ValueError):
        url = httpx.URL(text)
        if url.scheme in ("http", "https") and url.host:
            return url
    raise _final("VOD returned an invalid URL.")  # which may be a secret all the same


def _extent(response: httpx.Response, received: int, asset: str) -> tuple[int, int | None]:
    """How many bytes of an answer are known already, and how long the whole file is, if that is said."""
    if response.status_code == 206 and received:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != received:
            raise TransferError("The storage sent another part of the file than was asked for.", asset=asset)
        return 0, None if found[2] == "*" else int(found[2])
    if response.status_code == 200:  # also from a storage that does not know Range: it begins anew
        length = response.headers.get("Content-Length", "")
        return received, int(length) if length.isdecimal() else None
    raise _storage_error("The storage refused the download.", response, asset=asset)


def _storage_error(message: str, response: httpx.Response, asset: str | None = None) -> TransferError:
    error = TransferError(
        message, code=f"HTTP.{response.status_code}", status=response.status_code, asset=asset
    )
    # A signed URL that has expired is refused with 403, and the next try gets a fresh one.
    error.retryable = response.status_code >= 500 or response.status_code in (403, 408, 429)
    return error


def _final(message: str, *, asset: str | None = None) -> TransferError:
    error = TransferError(message, asset=asset)
    error.retryable = False
    return error


def _xml_text(response: httpx.Response, name: str) -> str:
    try:
        root = defusedxml.ElementTree.fromstring(response.content)
    except (ValueError, SyntaxError) as error:
        raise TransferError("The storage's answer is not XML.") from error
    for element in root.iter():
        if str(element.tag).rpartition("}")[2] == name and element.text:
            return str(element.text)
    raise TransferError(f"The storage's answer lacks {name}.")


def _md5(source: Path, offset: int, length: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in FileStream(source, offset, length):
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()
