"""The calls of VOD around a video: section 8 of the contract."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vod.errors import VodError
from vod.media import probe
from vod.standin import records
from vod.standin.errors import RefusedError
from vod.standin.gateway import Call
from vod.standin.library import GONE, QUEUED, READY, RUNNING
from vod.standin.parameters import AUDIO_TYPES, MAX_PULLS, VIDEO_TYPES, Body
from vod.standin.uploads_by_url import Puller

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from vod.standin.access import Targets
    from vod.standin.gateway import Received
    from vod.standin.library import Asset, Library
    from vod.standin.settings import Behaviour
    from vod.standin.storage import Links
    from vod.standin.virtual import VirtualAssets


class Uploads:
    def __init__(self, library: Library, behaviour: Behaviour, sources: Targets) -> None:
        self._library = library
        self.puller = Puller(library, behaviour, sources, arrived=self._parse)

    def calls(self) -> tuple[Call, ...]:
        asset = "/v1.0/{project_id}/asset"
        return (
            Call("create", "POST", asset, "upload", 403, self.create),
            Call("confirm", "POST", f"{asset}/status/uploaded", "upload", 403, self.confirm),
            Call("authority", "GET", "/v1.1/{project_id}/asset/authority", "upload", 403, self.authority),
            Call("upload_by_url", "POST", f"{asset}/upload_by_url", "pull", 400, self.upload_by_url),
            Call("reproduction", "POST", f"{asset}/reproduction", "upload", 400, self.reproduction),
            Call("publish", "POST", f"{asset}/status/publish", "change", 403, self.publish),
            Call("unpublish", "POST", f"{asset}/status/unpublish", "change", 403, self.unpublish),
            Call("delete", "DELETE", asset, "change", 403, self.delete),
        )

    async def create(self, received: Received) -> dict[str, Any]:
        body = received.json()
        asset = self._new(body, video_name=body.text("video_name"))
        links = received.links
        return {
            "asset_id": asset.asset_id,
            "video_upload_url": links.upload(asset),
            "cover_upload_url": None,
            "subtitle_upload_urls": [],
            "target": {"bucket": links.bucket, "location": links.region, "object": links.key(asset)},
        }

    async def confirm(self, received: Received) -> dict[str, Any]:
        body = received.json()
        asset = self._library.require(body.text("asset_id"))
        status = body.choice("status", ("CREATED", "FAILED", "CANCELLED"))
        if not self._uploading(asset):
            raise RefusedError("VOD.10126")
        if status != "CREATED":
            self._library.discard(asset, "CANCELLED" if status == "CANCELLED" else "UPLOAD_FAILED")
        elif self._library.path(asset).is_file():
            await self._parse(asset)
        else:
            raise RefusedError("VOD.10126", "Nothing was uploaded to the media asset.")
        return {"asset_id": asset.asset_id}

    async def authority(self, received: Received) -> dict[str, Any]:
        """The URL of one request of a multipart upload."""
        query, links = received.query, received.links
        method = query.required("http_verb")
        upload_id = query.one("upload_id") or None
        part = query.integer("part_number")
        if method not in ("GET", "PUT", "POST", "DELETE"):
            raise RefusedError.illegal("http_verb")
        if upload_id is None and method != "POST":
            raise RefusedError.illegal("upload_id")
        if (part is not None) != (method == "PUT") or (part is not None and not 1 <= part <= 10_000):
            raise RefusedError.illegal("part_number")
        asset = self._object(query.required("bucket"), query.required("object_key"), links)
        if asset is None:
            raise RefusedError("VOD.10062")
        if not self._uploading(asset):
            raise RefusedError("VOD.10135")
        url = links.multipart(
            asset,
            method,
            upload_id=upload_id,
            part=part,
            content_type=query.one("content_type") or "",
            content_md5=query.one("content_md5") or "",
        )
        return {"sign_str": url}

    async def upload_by_url(self, received: Received) -> dict[str, Any]:
        results = []
        for body in received.json().sections("upload_metadatas", at_most=MAX_PULLS):
            asset_id, code, message = None, None, None
            try:
                asset_id = self._pull(body).asset_id
            except RefusedError as refused:
                code, message = refused.code, str(refused)
            results.append(
                {"url": body.echo("url"), "asset_id": asset_id, "error_code": code, "error_msg": message}
            )
        return {"upload_assets": results}

    async def reproduction(self, received: Received) -> dict[str, Any]:
        """Copies an object of the stand-in's own bucket; it has no other."""
        body = received.json()
        origin = body.section("input")
        bucket, key = origin.text("bucket"), origin.text("object", max_bytes=1024)
        if bucket != received.links.bucket:
            raise RefusedError("VOD.10114")
        source = self._object(bucket, key, received.links)
        if source is None or not self._library.path(source).is_file():
            raise RefusedError("VOD.10076")
        asset = self._new(body, video_name=PurePosixPath(key).name)
        await self._fill(asset, self._library.path(source))
        return {"asset_id": asset.asset_id}

    async def publish(self, received: Received) -> dict[str, Any]:
        return self._change(received, READY, "PUBLISHED", "Asset meta is published")

    async def unpublish(self, received: Received) -> dict[str, Any]:
        return self._change(received, ("PUBLISHED",), "CREATED", "Asset meta is unpublished")

    async def delete(self, received: Received) -> dict[str, Any]:
        asset_ids = received.query.many("asset_id")
        if not asset_ids:
            raise RefusedError.illegal("asset_id")
        if received.query.one("delete_type") not in (None, "origin"):
            raise RefusedError.illegal("delete_type")
        results = []
        for asset_id in asset_ids:
            asset = self._library.get(asset_id)
            deletable = asset is not None and asset.status != "DELETED" and not self._busy(asset)
            if asset and deletable:
                self._library.discard(asset, "DELETED")
            results.append({"asset_id": asset_id, "status": "DELETED" if deletable else "FAILED"})
        return {"delete_result_array": results}

    async def add(
        self, file: Path, *, title: str, auto_publish: bool, created: datetime | None = None
    ) -> str:
        """See :meth:`vod.standin.server.Standin.add`."""
        asset = self._library.create(
            status="CREATING",
            extension=file.suffix,
            title=title,
            video_name=file.name,
            video_type=file.suffix.removeprefix(".").upper(),
            auto_publish=int(auto_publish),
            **({"created": int(created.timestamp())} if created else {}),
        )
        await self._fill(asset, file)
        return asset.asset_id

    def add_virtual(self, assets: VirtualAssets) -> list[str]:
        """See :meth:`vod.standin.server.Standin.add_virtual`."""
        return self._library.create_all(assets.rows(self._library.clock()), f".{assets.video_type.lower()}")

    def _new(self, body: Body, *, video_name: str) -> Asset:
        """A new asset in CREATING, as the caller describes it."""
        video_type = body.choice("video_type", VIDEO_TYPES | AUDIO_TYPES)
        return self._library.create(
            status="CREATING",
            extension=f".{video_type.lower()}",
            title=body.text("title"),
            video_name=video_name,
            video_type=video_type,
            description=body.optional_text("description", max_bytes=1024),
            category_id=body.integer("category_id", -1),
            tags=body.tags("tags"),
            auto_publish=body.integer("auto_publish", 1, (0, 1)),
        )

    def _pull(self, body: Body) -> Asset:
        url = body.text("url", max_bytes=2048)
        try:
            parts = urlsplit(url)
            name = PurePosixPath(parts.path).name
            well_formed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            raise RefusedError.illegal("url") from None
        if not (well_formed and PurePosixPath(name).suffix and url.isprintable()):
            raise RefusedError.illegal("url")
        asset = self._new(body, video_name=name)
        self.puller.submit(asset, url)
        return asset

    def _object(self, bucket: str, key: str, links: Links) -> Asset | None:
        """The asset whose contents have this address."""
        asset = self._library.get(PurePosixPath(key).parent.name)
        known = asset and asset.status != "DELETED" and bucket == links.bucket and key == links.key(asset)
        return asset if known else None

    def _uploading(self, asset: Asset) -> bool:
        return asset.status == "CREATING" and not self._library.pulling(asset)

    def _busy(self, asset: Asset) -> bool:
        """Assets in processing cannot be deleted, and an extraction processes its source too."""
        if asset.status in (QUEUED, RUNNING) or self._library.pulling(asset):
            return True
        return bool(self._library.extractions(QUEUED, RUNNING, source=asset.asset_id))

    async def _fill(self, asset: Asset, file: Path) -> None:
        await asyncio.to_thread(shutil.copyfile, file, self._library.place(asset))
        await self._parse(asset)

    async def _parse(self, asset: Asset) -> None:
        """An upload is an asset whatever is in it; contents that cannot be read leave it without metadata."""
        try:
            info = await asyncio.to_thread(probe, self._library.path(asset))
        except VodError:
            facts = None
        else:
            facts = records.describe_video(info, asset.video_type)
        current = self._library.get(asset.asset_id)
        if current is None or current.status != "CREATING":
            raise RefusedError("VOD.10126")
        self._library.update(asset, status="PUBLISHED" if asset.auto_publish else "CREATED", meta_data=facts)

    def _change(self, received: Received, allowed: tuple[str, ...], status: str, done: str) -> dict[str, Any]:
        elements = []
        for asset_id in received.json().texts("asset_id"):
            asset = self._library.get(asset_id)
            if asset is None or asset.status in GONE:
                # Section 8: a 200 with this element, leading blank included.
                elements.append({"asset_id": asset_id, "status": " UNCREATED", "description": "no asset"})
            elif asset.status not in allowed:
                refused = str(RefusedError("VOD.10083"))
                elements.append({"asset_id": asset_id, "status": asset.status, "description": refused})
            else:
                self._library.update(asset, status=status)
                elements.append({"asset_id": asset_id, "status": status, "description": done})
        return {"asset_info_array": elements}
