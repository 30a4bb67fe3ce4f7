"""Typed records of the wire (contract, sections 3 to 8) and the meaning of a status (section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

TIME_FORMAT = "%Y%m%d%H%M%S"
"""Times of the service: UTC, 14 digits (section 7)."""

AUDIO_TYPES = frozenset(
    ("MP3", "AAC", "OGG", "WAV", "WMA", "APE", "FLAC", "AC3", "MMF", "AMR", "M4A", "M4R", "WV", "MP2")
)
"""``video_type`` values that are audio (section 5.2): VOD does not extract audio from these."""


class Readiness(Enum):
    """What a status means to one who waits for the asset."""

    READY = "ready"
    TRANSIENT = "transient"
    FAILED = "failed"
    GONE = "gone"
    """No such asset. Right after the 202 that is normal: final only after a grace period."""
    UNKNOWN = "unknown"


_READINESS = {
    "CREATING": Readiness.TRANSIENT,
    "WAITING_TRANSCODE": Readiness.TRANSIENT,
    "TRANSCODING": Readiness.TRANSIENT,
    "OBS_CREATING": Readiness.TRANSIENT,
    "CREATED": Readiness.READY,
    "TRANSCODE_SUCCEED": Readiness.READY,
    "PUBLISHED": Readiness.READY,
    "OBS_CREATE_SUCCESS": Readiness.READY,
    "TRANSCODE_FAILED": Readiness.FAILED,
    "UPLOAD_FAILED": Readiness.FAILED,
    "SERVER_ERROR": Readiness.FAILED,
    "CANCELLED": Readiness.FAILED,
    "DELETING": Readiness.FAILED,
    "DELETED": Readiness.FAILED,
    "DELETE_FAILED": Readiness.FAILED,
    "OBS_CREATE_FAILED": Readiness.FAILED,
    "UNCREATED": Readiness.GONE,
    "NO_ASSET": Readiness.GONE,
}


def _time(text: str) -> datetime:
    return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=timezone.utc)


def normalize_status(status: str) -> str:
    """Undo what the vendor's own samples do to a status: leading blanks, ``NOASSET``, odd casing."""
    name = status.strip().upper()
    return "NO_ASSET" if name == "NOASSET" else name


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Answer of extract_audio (section 3): accepted, not finished."""

    asset_id: str
    audio_asset_id: str

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Submission:
        return cls(asset_id=str(body["asset_id"]), audio_asset_id=str(body["audio_asset_id"]))


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """``meta_data`` of an asset: filled once the service parsed the file; any field may be missing."""

    codec: str | None = None
    duration: float | None = None
    """Seconds; exact to the millisecond where the newer ``duration_ms`` is given."""
    size: int | None = None
    """Bytes. VOD's own success sample says 0."""
    channels: int | None = None

    @classmethod
    def parse(cls, body: dict[str, Any] | None) -> Metadata:
        body = body or {}
        milliseconds, seconds = body.get("duration_ms"), body.get("duration")
        duration = milliseconds / 1000 if milliseconds else (float(seconds) if seconds else None)
        codec = body.get("audio_codec") or body.get("codec")
        return cls(
            codec=None if codec in (None, "", "UNKNOWN") else codec,
            duration=duration,
            size=body.get("video_size") or None,
            channels=body.get("audio_channels") or None,
        )


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One element of asset/info (section 5.2), or the answer of asset/details (section 6: no status).

    ``url`` may need publishing; ``signed_url`` is a secret that expires, therefore not in ``repr``.
    """

    asset_id: str
    status: str = ""
    description: str = ""
    title: str | None = None
    container: str | None = None
    url: str | None = None
    signed_url: str | None = field(default=None, repr=False)
    created: datetime | None = None
    modified: datetime | None = None
    metadata: Metadata = Metadata()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Asset:
        base = body.get("base_info") or {}
        return cls(
            asset_id=str(body["asset_id"]),
            status=normalize_status(body.get("status") or ""),
            description=body.get("description") or "",
            title=base.get("title"),
            container=(base.get("video_type") or "").upper() or None,
            url=base.get("video_url") or None,
            signed_url=base.get("sign_url") or None,
            created=_time(base["create_time"]) if base.get("create_time") else None,
            modified=_time(base["last_modified"]) if base.get("last_modified") else None,
            metadata=Metadata.parse(base.get("meta_data")),
        )

    @property
    def readiness(self) -> Readiness:
        """What the status means for an audio asset (section 5.3). CREATED without a file is not ready yet."""
        if self.status == "CREATED" and not self.url:
            return Readiness.TRANSIENT
        return _READINESS.get(self.status, Readiness.UNKNOWN)

    @property
    def is_audio(self) -> bool:
        return self.container in AUDIO_TYPES

    def settled(self, *, grace: bool) -> bool:
        """Whether waiting longer changes nothing.

        :param grace: Whether the extraction was accepted so recently that the asset may not be visible yet.
        """
        if self.readiness is Readiness.GONE:
            return not grace
        return self.readiness in (Readiness.READY, Readiness.FAILED)


@dataclass(frozen=True, kw_only=True)
class AssetSummary:
    """One element of asset/list (section 7)."""

    asset_id: str
    title: str
    created: datetime
    container: str | None
    description: str = ""
    asset_status: str = ""
    transcode_status: str = ""

    @classmethod
    def parse(cls, body: dict[str, Any]) -> AssetSummary:
        return cls(
            asset_id=str(body["asset_id"]),
            title=body.get("title") or "",
            created=_time(body["create_time"]),
            container=(body.get("media_type") or "").upper() or None,
            description=body.get("description") or "",
            asset_status=normalize_status(body.get("asset_status") or ""),
            transcode_status=normalize_status(body.get("transcode_status") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class UploadGrant:
    """Answer of "create by upload" (section 8). The URL is pre-signed and therefore a secret."""

    asset_id: str
    upload_url: str = field(repr=False)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> UploadGrant:
        return cls(asset_id=str(body["asset_id"]), upload_url=body["video_upload_url"])
