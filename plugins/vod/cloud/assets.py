"""Typed records of the wire (contract, sections 3 to 8) and the meaning of a status (section 5.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, TypeVar

from vod.cloud.errors import MISSHAPEN, AnswerLostError
from vod.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

TIME_FORMAT = "%Y%m%d%H%M%S"
"""Times of the service: UTC, 14 digits (section 7)."""

AUDIO_TYPES = frozenset(
    ("MP3", "AAC", "OGG", "WAV", "WMA", "APE", "FLAC", "AC3", "MMF", "AMR", "M4A", "M4R", "WV", "MP2")
)
"""``video_type`` values that are audio (section 5.2): VOD does not extract audio from these."""


MISSING = "MISSING"
"""Status of an asset that VOD's answer leaves out: not VOD's word that there is none (NO_ASSET)."""
MALFORMED = "MALFORMED"
"""Status of an asset whose element in VOD's answer cannot be read."""

_MAX_LENGTH_SHOWN = 100
_MAX_COMPLAINTS = 1000
_complaints: set[str] = set()


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


def _time(value: Any) -> datetime | None:
    """A time of the wire; ``None`` if there is none. One that cannot be read is logged."""
    if value is None or value == "":
        return None
    try:
        if re.fullmatch(r"[0-9]{14}", str(value)):
            return datetime.strptime(str(value), TIME_FORMAT).replace(tzinfo=timezone.utc)
    except ValueError:
        pass
    _complain(f"VOD gives the time {str(value)[:_MAX_LENGTH_SHOWN]!r}, which is none; it is ignored.")
    return None


def _complain(message: str) -> None:
    """Log a warning, once in the life of this process."""
    if message not in _complaints and len(_complaints) < _MAX_COMPLAINTS:
        _complaints.add(message)
        log.warning("%s", message)


def parse_each(elements: Any, parse: Callable[[Any], T]) -> list[T]:
    """Read the elements of an answer. One that cannot be read is logged and left out.

    :raises TypeError: it is no list.
    """
    if not isinstance(elements, list):
        raise TypeError("a list is expected")
    read = []
    for element in elements:
        try:
            read.append(parse(element))
        except MISSHAPEN as error:
            known = element.get("asset_id") if isinstance(element, dict) else None
            which = str(known)[:_MAX_LENGTH_SHOWN] if known else "that names no asset"
            kind = type(error).__name__
            _complain(f"An element of VOD's answer is not as documented ({kind}) and is ignored: {which}.")
    return read


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
    rounded: bool = field(default=True, compare=False)
    """Whether the duration may be a whole second too long or too short: up or down, by edition."""
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
            rounded=milliseconds is None,
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
    """What VOD says; :data:`MISSING` or :data:`MALFORMED` where it says nothing."""
    description: str = ""
    """Why it failed, or how far it is."""
    caption: str = ""
    """The description that whoever made the asset gave it."""
    title: str | None = None
    container: str | None = None
    url: str | None = field(default=None, repr=False)
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
            caption=_text(base.get("description")),
            title=_text(base.get("title")) or None,
            container=_text(base.get("video_type")).upper() or None,
            url=_text(base.get("video_url")) or None,
            signed_url=_text(base.get("sign_url")) or None,
            created=_time(base.get("create_time")),
            modified=_time(base.get("last_modified")),
            metadata=Metadata.parse(base.get("meta_data")),
        )

    @classmethod
    def parse_each(cls, elements: Any) -> list[Asset]:
        """Read the elements of asset/info. One that cannot be read has the status :data:`MALFORMED`."""

        def parse(element: dict[str, Any]) -> Asset:
            _required(element["asset_id"])
            try:
                return cls.parse(element)
            except MISSHAPEN as error:
                asset_id = _text(element["asset_id"])
                _complain(f"VOD describes {asset_id} not as documented ({type(error).__name__}).")
                return cls(asset_id=asset_id, status=MALFORMED)

        return parse_each(elements, parse)

    @property
    def is_missing(self) -> bool:
        """Whether VOD's answer says nothing about it: to be asked again, not to be taken for gone."""
        return self.status == MISSING

    @property
    def readiness(self) -> Readiness:
        """What the status means for an audio asset (section 5.3). CREATED without a file is not ready yet."""
        if self.status == "CREATED" and not self.url:
            return Readiness.TRANSIENT
        return _READINESS.get(self.status, Readiness.UNKNOWN)

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
        if self.readiness is Readiness.GONE:
            return not grace
        return self.readiness in (Readiness.READY, Readiness.FAILED)


@dataclass(frozen=True, kw_only=True)
class AssetSummary:
    """One element of asset/list (section 7)."""

    asset_id: str
    title: str
    created: datetime | None
    """``None`` if the time cannot be read."""
    container: str | None
    description: str = ""
    """The description that whoever made the asset gave it."""
    asset_status: str = ""
    transcode_status: str = ""
    metadata: Metadata = Metadata()
    """Duration and size only."""

    @classmethod
    def parse(cls, body: dict[str, Any]) -> AssetSummary:
        """Read one element of asset/list."""
        return cls(
            asset_id=_text(body["asset_id"]),
            title=_text(body.get("title")),
            created=_time(body.get("create_time")),
            container=_text(body.get("media_type")).upper() or None,
            description=_text(body.get("description")),
            asset_status=normalize_status(_text(body.get("asset_status"))),
            transcode_status=normalize_status(_text(body.get("transcode_status"))),
            metadata=Metadata.parse({**body, "video_size": body.get("size")}),
        )

    @property
    def is_audio(self) -> bool:
        """Whether the asset is audio."""
        return self.container in AUDIO_TYPES


@dataclass(frozen=True, kw_only=True)
class AssetPage:
    """Answer of asset/list. ``total`` counts at most 20,000, ``count`` this page, readable or not."""

    assets: tuple[AssetSummary, ...]
    total: int
    count: int

    @classmethod
    def parse(cls, body: dict[str, Any]) -> AssetPage:
        """Read one page of asset/list."""
        elements = body.get("assets") or []
        assets = tuple(parse_each(elements, AssetSummary.parse))
        return cls(assets=assets, total=int(body.get("total") or len(elements)), count=len(elements))


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
    def parse(cls, element: dict[str, Any]) -> PullResult:
        """Read the result of one URL."""
        return cls(
            url=_text(element.get("url")),
            asset_id=_text(element.get("asset_id")) or None,
            error_code=_text(element.get("error_code")) or None,
            error_message=_text(element.get("error_msg")) or None,
        )

    @classmethod
    def parse_all(cls, body: dict[str, Any], requests: Sequence[PullRequest]) -> list[PullResult]:
        """Read one result a request: they belong together by their order, or by URL if some are missing.

        Of a request whose result is missing or cannot be read it is not known whether VOD accepted it: its
        error is ``answer_lost``.
        """
        elements = body["upload_assets"]
        if not isinstance(elements, list) or len(elements) > len(requests):
            raise ValueError("one result for each request is expected")
        if len(elements) == len(requests):
            pairs = zip(requests, elements, strict=True)
        else:
            urls = [request.url for request in requests]
            named = {
                element["url"]: element
                for element in elements
                if isinstance(element, dict) and urls.count(element.get("url") or "") == 1
            }
            pairs = zip(requests, map(named.get, urls), strict=True)
        return [
            next(iter(parse_each([element], cls.parse)), None) or cls.lost(request.url)
            for request, element in pairs
        ]

    @classmethod
    def lost(cls, url: str) -> PullResult:
        """The result of a URL of which VOD's answer does not say what became."""
        return cls(
            url=url,
            asset_id=None,
            error_code=AnswerLostError.outcome,
            error_message="VOD did not say whether it accepted the URL.",
        )
