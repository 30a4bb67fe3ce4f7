"""The object storage and the content network beside VOD: pre-signed upload and download, and CDN URLs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from vod.standin.refusals import StorageError

if TYPE_CHECKING:
    from vod.standin.library import Asset, Library
    from vod.standin.settings import Settings

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

    settings: Settings
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
        return self._signed(asset, "PUT", CONTENT_TYPES.get(asset.video_type, ""))

    def download(self, asset: Asset) -> str:
        return self._signed(asset, "GET", "")

    def signature(self, asset: Asset, method: str, content_type: str, expires: str) -> str:
        """Signature of a storage URL: bound to method, content type, object and end of life."""
        text = f"{method}\n\n{content_type}\n{expires}\n/{self.bucket}/{self.key(asset)}"
        key = f"storage {self.settings.secret_key}"
        return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()

    def _signed(self, asset: Asset, method: str, content_type: str) -> str:
        expires = str(int(time.time()) + self.settings.behaviour.link_seconds)
        signature = quote(self.signature(asset, method, content_type, expires), safe="")
        query = f"AWSAccessKeyId={self.settings.access_key}&Expires={expires}&Signature={signature}"
        return f"{self.base_url}/obs/{self.bucket}/{self.key(asset)}?{query}"


class Storage:
    """The endpoints that serve those URLs."""

    def __init__(self, settings: Settings, library: Library) -> None:
        self._settings = settings
        self._library = library

    async def put(self, request: Request) -> Response:
        asset = self._authorised(request)
        if asset.status != "CREATING":
            raise StorageError(403, "AccessDenied", "The object was confirmed; it can no longer be written.")
        if "content-length" not in request.headers:
            raise StorageError(411, "MissingContentLength", "You must provide the Content-Length header.")
        digest = await self._receive(request, asset)
        return Response(headers={"ETag": f'"{digest}"'})

    async def get(self, request: Request) -> Response:
        return self._contents(self._authorised(request))

    async def cdn(self, request: Request) -> Response:
        asset = self._library.get(request.path_params["asset_id"])
        if asset is None or asset.object != request.path_params["object"]:
            return PlainTextResponse("404 Not Found", 404)
        if asset.status != "PUBLISHED" and not self._settings.behaviour.cdn_serves_unpublished:
            return PlainTextResponse("403 Forbidden", 403)
        return self._contents(asset)

    def _authorised(self, request: Request) -> Asset:
        if "authorization" in request.headers or "x-auth-token" in request.headers:
            raise StorageError(400, "InvalidArgument", "Only one authentication mechanism is allowed.")
        asset = self._library.get(request.path_params["asset_id"])
        links = Links(self._settings, "")
        if asset is None or request.url.path != f"/obs/{links.bucket}/{links.key(asset)}":
            raise StorageError(404, "NoSuchKey", "The specified key does not exist.")
        query = request.query_params
        content_type = ""
        if request.method == "PUT" and asset.video_type in CONTENT_TYPES:
            content_type = request.headers.get("content-type", "")
        expires = query.get("Expires", "")
        expected = links.signature(asset, request.method, content_type, expires)
        if query.get("AWSAccessKeyId") != self._settings.access_key or not hmac.compare_digest(
            expected.encode(), query.get("Signature", "").encode()
        ):
            raise StorageError(
                403,
                "SignatureDoesNotMatch",
                "The signature does not match method, object, expiry or Content-Type of the request.",
            )
        if int(expires) <= time.time():
            raise StorageError(403, "AccessDenied", "Request has expired.")
        return asset

    async def _receive(self, request: Request, asset: Asset) -> str:
        target = self._library.path(asset)
        part = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            async with await anyio.open_file(part, "wb") as file:
                async for chunk in request.stream():
                    digest.update(chunk)
                    await file.write(chunk)
            part.replace(target)
        except ClientDisconnect:
            raise StorageError(
                400, "IncompleteBody", "The connection ended before the whole object came."
            ) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        return digest.hexdigest()

    def _contents(self, asset: Asset) -> Response:
        path = self._library.path(asset)
        if not path.is_file():
            raise StorageError(404, "NoSuchKey", "The specified key does not exist.")
        media_type = _AUDIO_TYPES.get(path.suffix) or CONTENT_TYPES.get(
            asset.video_type, "application/octet-stream"
        )
        return FileResponse(path, media_type=media_type)
