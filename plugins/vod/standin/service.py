"""The calls of VOD: sections 3 to 8 of the contract."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from vod.media import EXTENSIONS, MediaError, probe
from vod.standin import records
from vod.standin.faults import ElementFault, Hiding
from vod.standin.gateway import Call
from vod.standin.library import GONE, QUEUED, READY, RUNNING, SPLIT_STATUS
from vod.standin.parameters import MAX_REACHABLE
from vod.standin.refusals import RefusedError

if TYPE_CHECKING:
    from vod.standin.extraction import Extractor
    from vod.standin.gateway import Received
    from vod.standin.library import Asset, Library
    from vod.standin.meters import Stats
    from vod.standin.parameters import Query
    from vod.standin.settings import Behaviour

VIDEO_TYPES = frozenset(
    ("MP4", "TS", "MOV", "MXF", "MPG", "FLV", "WMV", "AVI", "M4V", "F4V", "MPEG", "3GP", "ASF", "MKV", "HLS")
)
AUDIO_TYPES = frozenset(
    ("MP3", "OGG", "WAV", "WMA", "APE", "FLAC", "AAC", "AC3", "MMF", "AMR", "M4A", "M4R", "WV", "MP2")
)

EXTRACTABLE = ("CREATED", "PUBLISHED", "TRANSCODE_SUCCEED", "TRANSCODE_FAILED")
EXTRACTED_DESCRIPTION = "Audio extracted from a video"

_TRANSCODE_STATUSES = {"UN_TRANSCODE", QUEUED, RUNNING, "TRANSCODE_SUCCEED", "TRANSCODE_FAILED"}
_INFO_STATUSES = {"UNCREATED", *SPLIT_STATUS}
_LIST_STATUSES = {
    *("CREATING", "FAILED", "CREATED", "PUBLISHED", RUNNING, "TRANSCODE_SUCCEED", "TRANSCODE_FAILED"),
    *("THUMBNAILING", "THUMBNAIL_SUCCEED", "THUMBNAIL_FAILED"),
    *("UN_REVIEW", "REVIEWING", "REVIEW_SUSPICIOUS", "REVIEW_PASSED", "REVIEW_FAILED", "REVIEW_BLOCKED"),
}
_CATEGORIES = {"base_info", "transcode_info", "thumbnail_info", "review_info"}


class Service:
    def __init__(self, library: Library, extractor: Extractor, behaviour: Behaviour, stats: Stats) -> None:
        self._library = library
        self._extractor = extractor
        self._behaviour = behaviour
        self._stats = stats

    def calls(self) -> tuple[Call, ...]:
        asset = "/v1.0/{project_id}/asset"
        return (
            Call("extract_audio", "POST", f"{asset}/extract_audio", "extract", 400, self.extract_audio),
            Call("cancel_extract_audio", "DELETE", f"{asset}/extract_audio", "extract", 400, self.cancel),
            Call("info", "GET", f"{asset}/info", "info", 400, self.info),
            Call("details", "GET", f"{asset}/details", "details and list", 403, self.details),
            Call("list", "GET", f"{asset}/list", "details and list", 400, self.list),
            Call("create", "POST", asset, "upload", 403, self.create),
            Call("confirm", "POST", f"{asset}/status/uploaded", "upload", 403, self.confirm),
            Call("publish", "POST", f"{asset}/status/publish", "change", 403, self.publish),
            Call("unpublish", "POST", f"{asset}/status/unpublish", "change", 403, self.unpublish),
            Call("delete", "DELETE", asset, "change", 403, self.delete),
        )

    # Sections 3 and 4

    async def extract_audio(self, received: Received) -> Response:
        body = received.json()
        asset_id = body.text("asset_id")
        audio_format = body.section("parameter").choice("format", tuple(EXTENSIONS), default="MP3")
        source = self._existing(asset_id)
        if source.video_type in AUDIO_TYPES:
            raise RefusedError("VOD.10063")
        if source.status not in EXTRACTABLE:
            raise RefusedError("VOD.10083")
        extension = EXTENSIONS[audio_format]
        audio = self._library.create(
            status=QUEUED,
            extension=extension,
            title=source.title,
            video_name=f"{Path(source.video_name).stem}{extension}",
            video_type=audio_format,
            description=EXTRACTED_DESCRIPTION,
            category_id=source.category_id,
            tags=source.tags,
            source=source.asset_id,
        )
        self._extractor.submit(audio)
        return JSONResponse({"asset_id": asset_id, "audio_asset_id": audio.asset_id}, 202)

    async def cancel(self, received: Received) -> Response:
        asset = self._existing(received.query.required("asset_id"))
        if asset.source is None:
            queued = self._library.extractions(QUEUED, source=asset.asset_id)
        else:
            queued = [asset] if asset.status == QUEUED else []
        if not queued:
            raise RefusedError("VOD.10083")
        self._stats.cancels["source" if asset.source is None else "audio"] += 1
        for audio in queued:
            self._library.discard(audio, "CANCELLED")
        return Response(status_code=204)

    # Sections 5 to 7

    async def info(self, received: Received) -> dict[str, Any]:
        query = received.query
        asset_ids = query.many("asset_id", commas=False, at_most=10)
        chosen = (
            query.chosen("status", _INFO_STATUSES),
            query.chosen("transcodeStatus", _TRANSCODE_STATUSES),
            query.chosen("assetStatus", ("PUBLISHED", "CREATED")),
        )
        statuses = None
        if any(chosen):
            merged, transcode, publication = chosen
            statuses = [
                status
                for status, split in SPLIT_STATUS.items()
                if (not merged or status in merged)
                and (not transcode or split[1] in transcode)
                and (not publication or split[0] in publication)
            ]
        if asset_ids:
            total, assets = self._library.search(asset_ids=asset_ids, statuses=statuses, limit=len(asset_ids))
            elements = [self._shown(records.asset_info(asset, received.links), asset) for asset in assets]
            unknown = (
                [] if statuses is not None else [key for key in asset_ids if self._library.get(key) is None]
            )
            elements += [self._shown(_no_asset(asset_id), None) for asset_id in unknown]
            found = [element for element in elements if element is not None]
            return {"asset_info_array": found, "is_truncated": 0, "total": len(found)}
        page, size = query.page()
        total, assets = self._library.search(
            **_filters(query), statuses=statuses, offset=page * size, limit=size
        )
        return {
            "asset_info_array": [records.asset_info(asset, received.links) for asset in assets],
            "is_truncated": int(total > page * size + len(assets)),
            "total": min(total, MAX_REACHABLE),
        }

    async def details(self, received: Received) -> dict[str, Any]:
        asset = self._existing(received.query.required("asset_id"))
        categories = received.query.chosen("categories", _CATEGORIES)
        answer: dict[str, Any] = {"asset_id": asset.asset_id}
        if not categories or "base_info" in categories:
            answer["base_info"] = records.base_info(asset, received.links, signed=True)
        return answer

    async def list(self, received: Received) -> dict[str, Any]:
        query = received.query
        chosen = query.chosen("status", _LIST_STATUSES)
        page, size = query.page()
        order = query.one("order") or "desc"
        if order.lower() not in ("asc", "desc"):
            raise RefusedError.illegal("order")
        statuses = None
        if chosen and "UN_REVIEW" not in chosen:
            statuses = [status for status, split in SPLIT_STATUS.items() if not set(split).isdisjoint(chosen)]
        total, assets = self._library.search(
            **_filters(query),
            asset_ids=query.many("asset_id", at_most=10),
            statuses=statuses,
            media_types=query.chosen("media_type", VIDEO_TYPES | AUDIO_TYPES, at_most=20),
            oldest_first=order.lower() == "asc",
            offset=page * size,
            limit=size,
        )
        return {
            "total": min(total, MAX_REACHABLE),
            "assets": [records.summary(asset, received.links) for asset in assets],
        }

    # Section 8

    async def create(self, received: Received) -> dict[str, Any]:
        body = received.json()
        video_type = body.choice("video_type", VIDEO_TYPES | AUDIO_TYPES)
        tags = body.optional_text("tags", max_bytes=16 * 25)
        if tags and (len(tags.split(",")) > 16 or any(len(tag.encode()) > 24 for tag in tags.split(","))):
            raise RefusedError.illegal("tags")
        asset = self._library.create(
            status="CREATING",
            extension=f".{video_type.lower()}",
            title=body.text("title"),
            video_name=body.text("video_name"),
            video_type=video_type,
            description=body.optional_text("description", max_bytes=1024),
            category_id=body.integer("category_id", -1),
            tags=tags,
            auto_publish=body.integer("auto_publish", 1, (0, 1)),
        )
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
        asset = self._existing(body.text("asset_id"))
        status = body.choice("status", ("CREATED", "FAILED", "CANCELLED"))
        if asset.status != "CREATING":
            raise RefusedError("VOD.10126")
        if status != "CREATED":
            self._library.discard(asset, "CANCELLED" if status == "CANCELLED" else "UPLOAD_FAILED")
        elif self._library.path(asset).is_file():
            await self._parse(asset)
        else:
            raise RefusedError("VOD.10126", "Nothing was uploaded to the media asset.")
        return {"asset_id": asset.asset_id}

    async def publish(self, received: Received) -> dict[str, Any]:
        return self._change(received, READY, "PUBLISHED", "Asset meta is published")

    async def unpublish(self, received: Received) -> dict[str, Any]:
        return self._change(received, ("PUBLISHED",), "CREATED", "Asset meta is unpublished")

    async def delete(self, received: Received) -> dict[str, Any]:
        asset_ids = received.query.many("asset_id")
        if not asset_ids:
            raise RefusedError.illegal("asset_id")
        results = []
        for asset_id in asset_ids:
            asset = self._library.get(asset_id)
            # An asset in processing cannot be deleted, and an extraction processes its source too.
            busy = asset and self._library.extractions(QUEUED, RUNNING, source=asset_id)
            deletable = asset and asset.status not in (QUEUED, RUNNING, "DELETED") and not busy
            if asset and deletable:
                self._library.discard(asset, "DELETED")
            results.append({"asset_id": asset_id, "status": "DELETED" if deletable else "FAILED"})
        return {"delete_result_array": results}

    async def add(self, file: Path, *, title: str, auto_publish: bool) -> str:
        """See :meth:`vod.standin.server.Standin.add`."""
        asset = self._library.create(
            status="CREATING",
            extension=file.suffix,
            title=title,
            video_name=file.name,
            video_type=file.suffix.removeprefix(".").upper(),
            auto_publish=int(auto_publish),
        )
        await asyncio.to_thread(shutil.copyfile, file, self._library.path(asset))
        await self._parse(asset)
        return asset.asset_id

    def _existing(self, asset_id: str) -> Asset:
        asset = self._library.get(asset_id)
        if asset is None or asset.status == "DELETED":
            raise RefusedError("VOD.10062")
        return asset

    async def _parse(self, asset: Asset) -> None:
        """An upload is an asset whatever is in it; contents that cannot be read leave it without metadata."""
        try:
            info = await asyncio.to_thread(probe, self._library.path(asset))
        except MediaError:
            facts = None
        else:
            facts = records.describe_video(info, asset.video_type)
        current = self._library.get(asset.asset_id)
        if current is None or current.status != "CREATING":
            raise RefusedError("VOD.10126")
        self._library.update(asset, status="PUBLISHED" if asset.auto_publish else "CREATED", meta_data=facts)

    def _shown(self, element: dict[str, Any], asset: Asset | None) -> dict[str, Any] | None:
        """The element of a poll, as spoiled as the rules want it; ``None``: left out."""
        key = element["asset_id"]
        hidden = False
        for fault in self._behaviour.rules(ElementFault, "info"):
            hiding = isinstance(fault, Hiding)
            if (hidden and hiding) or not fault.concerns(asset):
                continue
            if fault.strikes(asset.names if asset else lambda: (key,), key):
                hidden = hidden or hiding
                spoiled = fault.spoil(element)
                if spoiled is None:
                    return None
                element = spoiled
        return element

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


def _filters(query: Query) -> dict[str, Any]:
    return {
        "created_from": query.moment("start_time"),
        "created_to": query.moment("end_time"),
        "category_id": query.integer("category_id"),
        "tags": query.many("tags"),
        "text": query.one("query_string"),
    }


def _no_asset(asset_id: str) -> dict[str, Any]:
    return {"asset_id": asset_id, "status": "NO_ASSET", "description": "no asset"}
