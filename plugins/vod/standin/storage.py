"""The object storage and the content network beside VOD: pre-signed upload and download, and CDN URLs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from vod.standin import multipart
from vod.standin.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from vod.standin.library import Asset, Library
    from vod.standin.settings import StandinSettings

CONTENT_TYPES = {
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "FLV": "video/flv",
    "AVI": "video/x-msvideo",
    "TS": "video/mp2t",
    "MKV": "video/x-matroska",
}
"""Content types of uploads that section 8 documents; uploads of other containers may send any."""

_AUDIO_TYPES = {".mp3": "audio/mpeg", ".m4a": "audio/mp4"}


@dataclass(frozen=True)
class Links:
    """URLs of contents, as seen by the caller at ``base_url``."""

    settings: StandinSettings
    base_url: str

    @property
    def bucket(self) -> str:
        return f"standin-{self.settings.project_id[:8]}"

    @property
    def region(self) -> str:
        return self.settings.region

    def key(self, asset: Asset) -> str:
        return f"{self.settings.project_id}/{asset.asset_id}/{asset.object}"

    def cdn(self, asset: Asset) -> str:
        return f"{self.base_url}/cdn/asset/{asset.asset_id}/{asset.object}"

    def upload(self, asset: Asset) -> str:
        return self._signed(asset, "PUT", "", CONTENT_TYPES.get(asset.video_type, ""))

    def download(self, asset: Asset) -> str:
        return self._signed(asset, "GET")

    def multipart(
        self,
        asset: Asset,
        method: str,
        *,
        upload_id: str | None,
        part: int | None,
        content_type: str,
        content_md5: str,
    ) -> str:
        """The URL of one request of a multipart upload; without an id, of its first."""
        if upload_id is None:
            resource = "uploads"
        else:
            resource = f"uploadId={quote(upload_id, safe='')}"
            if part is not None:
                resource = f"partNumber={part}&{resource}"
        return self._signed(asset, method, content_md5, content_type, resource)

    def signature(
        self, asset: Asset, method: str, content_md5: str, content_type: str, expires: str, resource: str
    ) -> str:
        """Signature of a storage URL: bound to method, content, end of life, object and sub-resource."""
        address = f"/{self.bucket}/{self.key(asset)}" + (f"?{resource}" if resource else "")
        text = f"{method}\n{content_md5}\n{content_type}\n{expires}\n{address}"
        key = f"storage {self.settings.secret_key}"
        return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()

    def _signed(
        self, asset: Asset, method: str, content_md5: str = "", content_type: str = "", resource: str = ""
    ) -> str:
        expires = str(int(time.time()) + self.settings.behaviour.link_seconds)
        signature = quote(
            self.signature(asset, method, content_md5, content_type, expires, resource), safe=""
        )
        query = f"AWSAccessKeyId={self.settings.access_key}&Expires={expires}&Signature={signature}"
        if resource:
            query = f"{resource}&{query}"
        return f"{self.base_url}/obs/{self.bucket}/{self.key(asset)}?{query}"


class Storage:
    """The endpoints that serve those URLs."""

    def __init__(self, settings: StandinSettings, library: Library) -> None:
        self._settings = settings
        self._library = library

    def operations(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """What can be done to an object, by the names that calls are counted under."""
        return {
            "storage upload": self.put,
            "storage download": self.get,
            "multipart initiate": self.initiate,
            "multipart part": self.part,
            "multipart list": self.parts,
            "multipart complete": self.complete,
            "multipart abort": self.abort,
        }

    @staticmethod
    def operation(request: Request) -> str:
        """The one of those that the request asks for."""
        many = "uploadId" in request.query_params
        return {
            "PUT": "multipart part" if many else "storage upload",
            "POST": "multipart complete" if many else "multipart initiate",
            "DELETE": "multipart abort",
        }.get(request.method, "multipart list" if many else "storage download")

    async def put(self, request: Request) -> Response:
        target = self._target(request)
        received, digest = await self._receive(request, target)
        received.replace(target)
        return Response(headers={"ETag": f'"{digest}"'})

    async def get(self, request: Request) -> Response:
        return self._contents(self._authorised(request))

    async def initiate(self, request: Request) -> Response:
        return multipart.initiate(self._target(request), *_address(request))

    async def part(self, request: Request) -> Response:
        parts = self._parts(request)
        received, digest = await self._receive(request, parts / "received")
        return multipart.keep(received, parts, int(request.query_params["partNumber"]), digest)

    async def parts(self, request: Request) -> Response:
        return multipart.listing(self._parts(request), *_address(request))

    async def complete(self, request: Request) -> Response:
        parts = self._parts(request)
        return await multipart.complete(request, parts, self._target(request), *_address(request))

    async def abort(self, request: Request) -> Response:
        return multipart.abort(self._parts(request))

    async def cdn(self, request: Request) -> Response:
        asset = self._library.get(request.path_params["asset_id"])
        if asset is None or asset.object != request.path_params["object"]:
            return PlainTextResponse("404 Not Found", 404)
        if asset.status != "PUBLISHED" and not self._settings.behaviour.cdn_serves_unpublished:
            return PlainTextResponse("403 Forbidden", 403)
        return self._contents(asset)

    def found(self, url: str) -> Asset:
        """The asset whose contents a URL leads to, for a neighbour that fetches them.

        :raises StorageError: it leads to none, or does not hold.
        """
        parts = urlsplit(url)
        path = unquote(parts.path)
        pieces = path.split("/")
        if pieces[:3] == ["", "cdn", "asset"] and len(pieces) == 5:
            asset = self._library.get(pieces[3])
            if asset is not None and asset.object == pieces[4] and asset.status == "PUBLISHED":
                return asset
        asset_id = pieces[4] if pieces[:2] == ["", "obs"] and len(pieces) == 6 else ""
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": parts.query.encode(errors="replace"),
            "headers": [(b"host", b"storage")],
            "path_params": {"asset_id": asset_id},
        }
        return self._authorised(Request(scope))

    def _authorised(self, request: Request) -> Asset:
        if "authorization" in request.headers or "x-auth-token" in request.headers:
            raise StorageError(400, "InvalidArgument", "Only one authentication mechanism is allowed.")
        asset = self._library.get(request.path_params["asset_id"])
        links = Links(self._settings, "")
        if asset is None or request.url.path != f"/obs/{links.bucket}/{links.key(asset)}":
            raise StorageError(404, "NoSuchKey", "The specified key does not exist.")
        query, headers = request.query_params, request.headers
        resource = "&".join(
            f"{name}={quote(query[name], safe='')}" if query[name] else name
            for name in ("partNumber", "uploadId", "uploads")
            if name in query
        )
        content_type = headers.get("content-type", "")
        if request.method == "GET" or (
            request.method == "PUT" and not resource and asset.video_type not in CONTENT_TYPES
        ):
            content_type = ""
        expires = query.get("Expires", "")
        expected = links.signature(
            asset, request.method, headers.get("content-md5", ""), content_type, expires, resource
        )
        if query.get("AWSAccessKeyId") != self._settings.access_key or not hmac.compare_digest(
            expected.encode(), query.get("Signature", "").encode()
        ):
            raise StorageError(
                403,
                "SignatureDoesNotMatch",
                "The signature does not match method, object, expiry, Content-Type or Content-MD5.",
            )
        if int(expires) <= time.time():
            raise StorageError(403, "AccessDenied", "Request has expired.")
        return asset

    def _target(self, request: Request) -> Path:
        """Where the object is to be written."""
        asset = self._authorised(request)
        if asset.status != "CREATING":
            raise StorageError(403, "AccessDenied", "The object was confirmed; it can no longer be written.")
        return self._library.place(asset)

    def _parts(self, request: Request) -> Path:
        return multipart.folder(self._target(request), request.query_params.get("uploadId", ""))

    async def _receive(self, request: Request, target: Path) -> tuple[Path, str]:
        """A file beside the *target* with the body, and its MD5 in hexadecimal digits."""
        if "content-length" not in request.headers:
            raise StorageError(411, "MissingContentLength", "You must provide the Content-Length header.")
        received = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
        try:
            digest = await _write(request, received)
        except BaseException:
            received.unlink(missing_ok=True)
            raise
        return received, digest

    def _contents(self, asset: Asset) -> Response:
        path = self._library.path(asset)
        if not path.is_file():
            raise StorageError(404, "NoSuchKey", "The specified key does not exist.")
        media_type = _AUDIO_TYPES.get(path.suffix) or CONTENT_TYPES.get(
            asset.video_type, "application/octet-stream"
        )
        return FileResponse(path, media_type=media_type)


def _address(request: Request) -> tuple[str, str]:
    """Bucket and key, as the path names them."""
    bucket, key = request.url.path.removeprefix("/obs/").split("/", 1)
    return bucket, key


async def _write(request: Request, file: Path) -> str:
    """Writes the body, and returns its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        async with await anyio.open_file(file, "xb") as opened:
            async for chunk in request.stream():
                digest.update(chunk)
                await opened.write(chunk)
    except ClientDisconnect:
        message = "The connection ended before the whole object came."
        raise StorageError(400, "IncompleteBody", message) from None
    promised = request.headers.get("content-md5")
    if promised and promised != base64.b64encode(digest.digest()).decode():
        raise StorageError(400, "BadDigest", "The Content-MD5 does not match what was received.")
    return digest.hexdigest()
