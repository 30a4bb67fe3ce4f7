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
    """What a status means for waiting."""

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


def _text(value: Any) -> str:
    """A string of the wire; ids may come as numbers, and any field may be null."""
    if isinstance(value, (dict, list)):
        raise TypeError("a text is expected")
    return "" if value is None else str(value)


def _required(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError("an id is expected")
    return text


def _amount(value: Any) -> float | None:
    """A positive number of the wire; 0, null and what is no number mean that it is not known."""
    try:
        amount = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return amount if 0 < amount < float("inf") else None


def _count(value: Any) -> int | None:
    amount = _amount(value)
    return int(amount) if amount else None


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
        """Read the answer of extract_audio."""
        return cls(asset_id=_text(body["asset_id"]), audio_asset_id=_required(body["audio_asset_id"]))


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
        """Read the technical metadata; what is missing or 0 is ``None``."""
        body = body or {}
        milliseconds = _amount(body.get("duration_ms"))
        codec = _text(body.get("audio_codec") or body.get("codec"))
        return cls(
            codec=codec if codec != "UNKNOWN" and codec else None,
            duration=milliseconds / 1000 if milliseconds else _amount(body.get("duration")),
            size=_count(body.get("video_size")),
            channels=_count(body.get("audio_channels")),
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
        """Read one element of asset/info or the answer of asset/details."""
        base = body.get("base_info") or {}
        return cls(
            asset_id=_text(body["asset_id"]),
            status=normalize_status(_text(body.get("status"))),
            description=_text(body.get("description")),
            title=_text(base.get("title")) or None,
            container=_text(base.get("video_type")).upper() or None,
            url=_text(base.get("video_url")) or None,
            signed_url=_text(base.get("sign_url")) or None,
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
    def is_missing(self) -> bool:
        """Whether VOD's answer says nothing about it."""
        return self.status == "MISSING"

    @property
    def is_gone(self) -> bool:
        """Whether VOD's answer has no such asset, or says that it was deleted. One answer is no proof."""
        return self.readiness is Readiness.GONE or self.is_missing or self.status in ("DELETING", "DELETED")

    @property
    def is_audio(self) -> bool:
        """Whether the asset is audio, from which VOD extracts nothing."""
        return self.container in AUDIO_TYPES

    def settled(self, *, grace: bool) -> bool:
        """Whether waiting longer changes nothing.

        :param grace: Whether the extraction was accepted so recently that the asset may not be visible yet.
        """
        if self.readiness is Readiness.GONE or self.is_missing:
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
        """Read one element of asset/list."""
        return cls(
            asset_id=_text(body["asset_id"]),
            title=_text(body.get("title")),
            created=_time(body["create_time"]),
            container=_text(body.get("media_type")).upper() or None,
            description=_text(body.get("description")),
            asset_status=normalize_status(_text(body.get("asset_status"))),
            transcode_status=normalize_status(_text(body.get("transcode_status"))),
        )


@dataclass(frozen=True, kw_only=True)
class AssetPage:
    """Answer of asset/list. ``total`` counts at most 20,000."""

    assets: tuple[AssetSummary, ...]
    total: int

    @classmethod
    def parse(cls, body: dict[str, Any]) -> AssetPage:
        """Read one page of asset/list."""
        assets = tuple(AssetSummary.parse(element) for element in body.get("assets") or ())
        return cls(assets=assets, total=int(body.get("total") or len(assets)))


@dataclass(frozen=True, kw_only=True)
class UploadGrant:
    """Answer of "create by upload" (section 8). The URL is pre-signed and therefore a secret."""

    asset_id: str
    bucket: str
    object_key: str
    upload_url: str = field(repr=False)

    @classmethod
    def parse(cls, body: dict[str, Any]) -> UploadGrant:
        """Read the answer that grants an upload."""
        target = body.get("target") or {}
        return cls(
            asset_id=_text(body["asset_id"]),
            upload_url=_text(body["video_upload_url"]),
            bucket=_text(target.get("bucket")),
            object_key=_text(target.get("object")),
        )


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A video that VOD is to fetch (section 8).

    :param url: http or https, ending with the file's extension. It may be signed: not in ``repr``.
    :param container: ``video_type``; taken from the URL's extension when omitted.
    """

    url: str = field(repr=False)
    title: str
    container: str | None = None
    auto_publish: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The request as the contract has it."""
        extension = self.url.partition("?")[0].rpartition(".")[2].upper()
        return {
            "url": self.url,
            "title": self.title,
            "video_type": self.container or extension,
            "auto_publish": int(self.auto_publish),
        }


@dataclass(frozen=True, kw_only=True)
class PullResult:
    """What VOD made of one :class:`PullRequest`: an asset id, or an error."""

    url: str = field(repr=False)
    asset_id: str | None
    error_code: str | None = None
    error_message: str | None = None

    @classmethod
    def parse_all(cls, body: dict[str, Any], *, expected: int) -> list[PullResult]:
        """:param expected: How many were asked for: results and requests belong together by their order."""
        results = [
            cls(
                url=_text(element.get("url")),
                asset_id=_text(element.get("asset_id")) or None,
                error_code=_text(element.get("error_code")) or None,
                error_message=_text(element.get("error_msg")) or None,
            )
            for element in body["upload_assets"]
        ]
        if len(results) != expected:
            raise ValueError("one result for each request is expected")
        return results
