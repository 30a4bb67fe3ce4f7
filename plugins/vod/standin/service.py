"""The calls of VOD around an extraction: sections 3 to 7 of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from vod.media import EXTENSIONS
from vod.records import AUDIO_FORMATS
from vod.standin import records
from vod.standin.errors import RefusedError
from vod.standin.faults import ElementFault, Hiding
from vod.standin.gateway import Call
from vod.standin.library import QUEUED, RUNNING, SPLIT_STATUS
from vod.standin.parameters import AUDIO_TYPES, MAX_REACHABLE, VIDEO_TYPES

if TYPE_CHECKING:
    from vod.standin.extraction import Extractor
    from vod.standin.gateway import Received
    from vod.standin.library import Asset, Library
    from vod.standin.parameters import Query
    from vod.standin.quotas import Stats
    from vod.standin.settings import Behaviour

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
        )

    # Sections 3 and 4

    async def extract_audio(self, received: Received) -> Response:
        body = received.json()
        asset_id = body.text("asset_id")
        audio_format = body.section("parameter").choice("format", AUDIO_FORMATS, default="MP3")
        source = self._library.require(asset_id)
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
        asset = self._library.require(received.query.required("asset_id"))
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
            _, assets = self._library.search(asset_ids=asset_ids, statuses=statuses, limit=len(asset_ids))
            elements = [self._shown(records.asset_info(asset, received.links), asset) for asset in assets]
            if statuses is None:
                known = {asset.asset_id for asset in assets}
                elements += [self._shown(_no_asset(key), None) for key in asset_ids if key not in known]
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
        asset = self._library.require(received.query.required("asset_id"))
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
            listed_until=self._behaviour.now() - self._behaviour.list_lag,
        )
        shown = [self._shown(records.summary(asset, received.links), asset, "list") for asset in assets]
        return {
            "total": min(total, MAX_REACHABLE),
            "assets": [element for element in shown if element is not None],
        }

    def _shown(
        self, element: dict[str, Any], asset: Asset | None, call: str = "info"
    ) -> dict[str, Any] | None:
        """The element of an asset, as spoiled as the rules want it; ``None``: left out."""
        key = element["asset_id"]
        hidden = False
        for fault in self._behaviour.rules(ElementFault, call):
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
