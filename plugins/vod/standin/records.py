"""Assets as the service shows them on the wire: sections 5.2, 6 and 7."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vod.standin.library import SPLIT_STATUS

if TYPE_CHECKING:
    from vod.media import Extraction, MediaInfo
    from vod.standin.library import Asset
    from vod.standin.storage import Links

DEFAULT_CATEGORY = "其他"

_CODECS = {"h264": "H.264", "hevc": "H.265", "mpeg2video": "MPEG-2", "mpeg4": "MPEG-4", "ac3": "AC-3"}
_QUALITIES = ((2160, "4K"), (1440, "2K"), (1080, "FULL_HD"), (720, "HD"), (480, "SD"), (1, "FLUENT"))


def describe_video(info: MediaInfo, video_type: str) -> dict[str, Any]:
    """The facts of an uploaded file, as the library keeps them."""
    audio = info.audio[0] if info.audio else None
    height = info.video.height if info.video else 0
    audio_codec = _codec(audio.codec) if audio else None
    return {
        "pack_type": video_type,
        "codec": _codec(info.video.codec) if info.video else audio_codec,
        "audio_codec": audio_codec,
        "duration": info.duration,
        "size": info.size,
        "width": info.video.width if info.video else 0,
        "height": height,
        "bit_rate": info.bit_rate,
        "quality": next((name for lines, name in _QUALITIES if height >= lines), None),
        "audio_channels": audio.channels if audio else None,
    }


def describe_audio(extraction: Extraction) -> dict[str, Any]:
    """The facts of an extracted file, as the library keeps them."""
    codec = _codec(extraction.codec)
    return {
        "pack_type": extraction.audio_format,
        "codec": codec,
        "audio_codec": codec,
        "duration": extraction.duration,
        "size": extraction.size,
        "width": 0,
        "height": 0,
        "bit_rate": extraction.bit_rate,
        "quality": None,
        "audio_channels": extraction.channels,
    }


def asset_info(asset: Asset, links: Links) -> dict[str, Any]:
    """Element of ``asset_info_array``."""
    return {
        "asset_id": asset.asset_id,
        "status": asset.status,
        "description": asset.reason,
        "is_multi_transcode": False,
        "base_info": base_info(asset, links),
        "play_info_array": [],
    }


def base_info(asset: Asset, links: Links, *, signed: bool = False) -> dict[str, Any]:
    """BaseInfo; ``sign_url`` is filled only in asset/details."""
    address = {"bucket": links.bucket, "location": links.region, "object": links.key(asset)}
    info: dict[str, Any] = {
        "title": asset.title,
        "video_name": asset.video_name,
        "description": asset.description,
        "category_id": asset.category_id,
        "category_name": DEFAULT_CATEGORY,
        "create_time": timestamp(asset.created),
        "last_modified": timestamp(asset.modified),
        "video_type": asset.video_type,
        "tags": asset.tags,
        "sign_url": links.download(asset) if signed and asset.ready else "",
        "cover_info_array": [],
        "subtitle_info": [],
    }
    if asset.ready:
        info["meta_data"] = _meta_data(asset.meta_data) if asset.meta_data else None
        info["sourch_path"] = info["source_path"] = address  # the first is spelt so by the service
        info["output_path"] = {**address, "object": address["object"].rpartition("/")[0] + "/"}
        info["video_url"] = links.cdn(asset)
    return info


def summary(asset: Asset, links: Links) -> dict[str, Any]:
    """AssetSummary of asset/list."""
    meta = _meta_data(asset.meta_data) if asset.meta_data else {}
    asset_status, transcode_status = SPLIT_STATUS[asset.status]
    return {
        "asset_id": asset.asset_id,
        "title": asset.title,
        "description": asset.description or "",
        "duration": meta.get("duration", 0),
        "duration_ms": meta.get("duration_ms", 0),
        "size": meta.get("video_size", 0),
        "original_url": links.cdn(asset) if asset.ready else None,
        "category": DEFAULT_CATEGORY,
        "covers": [],
        "create_time": timestamp(asset.created),
        "asset_status": asset_status,
        "transcode_status": transcode_status,
        "thumbnail_status": "UN_THUMBNAIL",
        "review_status": "UN_REVIEW",
        "exec_desc": f"transcode_exec_desc:{asset.reason};"
        if asset.reason
        else "asset_exec_desc:upload success;",
        "media_type": asset.video_type,
    }


def extraction_event(asset: Asset, links: Links) -> dict[str, Any]:
    """The message of section 10.1 about the end of an extraction."""
    info: dict[str, Any] = {"asset_id": asset.asset_id}
    if asset.ready and asset.meta_data:
        info["status"] = "SUCCEED"
        info["title"] = asset.title
        info["url"] = links.cdn(asset)
        info["meta_data"] = _meta_data(asset.meta_data)
    else:
        info["status"] = "FAILED"
        info["error_code"] = "VOD.10092"
        info["error_msg"] = asset.reason
    return {"event_type": "audioExtractComplete", "audio_extract_info": info}


def timestamp(seconds: float) -> str:
    """``yyyymmddhhmmss``, UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y%m%d%H%M%S")


def _meta_data(facts: dict[str, Any]) -> dict[str, Any]:
    duration = facts["duration"] or 0
    return {
        "play_type": 0,
        "pack_type": facts["pack_type"],
        "codec": facts["codec"],
        "audio_codec": facts["audio_codec"],
        # Section 5.2: the newer edition rounds down, with a minimum of one second.
        "duration": max(1, int(duration)),
        "duration_ms": round(duration * 1000),
        "video_size": facts["size"],
        "width": facts["width"],
        "hight": facts["height"],  # spelt so by the service
        "height": facts["height"],
        "bit_rate": round((facts["bit_rate"] or 0) / 1000),
        "frame_rate": 0,
        "quality": facts["quality"],
        "audio_channels": facts["audio_channels"],
    }


def _codec(name: str) -> str:
    return _CODECS.get(name, name.upper())
