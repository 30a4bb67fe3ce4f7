"""Assets without contents, for load tests: everything but the file is there."""

from __future__ import annotations

import zlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from vod.standin.parameters import AUDIO_TYPES, VIDEO_TYPES

if TYPE_CHECKING:
    from vod.standin.library import Asset

_VIDEO_BIT_RATE = 2_000_000
_AUDIO_BIT_RATE = 128_000


def _read(given: Any) -> Any:
    """``yyyymmddhhmmss`` as the API writes it; anything else is left to pydantic."""
    if isinstance(given, str) and len(given) == 14 and given.isdecimal():
        return datetime.strptime(given, "%Y%m%d%H%M%S")  # noqa: DTZ007 - _utc follows
    return given


def _utc(moment: datetime) -> datetime:
    if not 1970 < moment.year < 2200:
        raise ValueError("years from 1971 to 2199")
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


Moment = Annotated[datetime, BeforeValidator(_read), AfterValidator(_utc)]


class VirtualAssets(BaseModel):
    """Source assets to make up.

    :param title: ``{number}`` stands for 1, 2, 3, ...
    :param created_from: Creation of the first; the others follow evenly up to *created_to*. Both are now by
        default.
    :param duration: Seconds.
    """

    model_config = ConfigDict(extra="forbid")

    count: int = Field(ge=1, le=100_000)
    title: str = Field(default="virtual {number}", min_length=1, max_length=100)
    created_from: Moment | None = None
    created_to: Moment | None = None
    duration: float = Field(default=60, gt=0, le=1_000_000)
    status: Literal["CREATED", "PUBLISHED"] = "PUBLISHED"
    video_type: str = Field(default="MP4", pattern=f"^({'|'.join(sorted(VIDEO_TYPES | AUDIO_TYPES))})$")
    category_id: int = Field(default=-1, ge=-(2**63), lt=2**63)
    tags: str | None = None
    description: str | None = None

    def rows(self, now: float) -> list[dict[str, Any]]:
        """Columns of the assets, oldest first."""
        first = self.created_from.timestamp() if self.created_from else now
        last = self.created_to.timestamp() if self.created_to else max(now, first)
        step = (last - first) / max(1, self.count - 1)
        meta_data = _video(self.duration, self.video_type)
        return [
            {
                "status": self.status,
                "title": self.title.replace("{number}", str(number + 1)),
                "video_name": f"virtual-{number + 1}.{self.video_type.lower()}",
                "video_type": self.video_type,
                "category_id": self.category_id,
                "tags": self.tags,
                "description": self.description,
                "meta_data": meta_data,
                "created": int(first + number * step),
            }
            for number in range(self.count)
        ]


def _video(duration: float, video_type: str) -> dict[str, Any]:
    return {
        "virtual": True,
        "pack_type": video_type,
        "codec": "H.264",
        "audio_codec": "AAC",
        "duration": duration,
        "size": round(duration * _VIDEO_BIT_RATE / 8),
        "width": 1280,
        "height": 720,
        "bit_rate": _VIDEO_BIT_RATE,
        "quality": "HD",
        "audio_channels": 2,
    }


def audio(source: Asset, audio_format: str) -> dict[str, Any]:
    """Facts of the audio that *source* might give. Where its duration is unknown, the title gives one."""
    known = source.meta_data and source.meta_data["duration"]
    duration = known or 60 + zlib.crc32(source.title.encode()) % 3600
    return {
        "virtual": True,
        "pack_type": audio_format,
        "codec": audio_format,
        "audio_codec": audio_format,
        "duration": duration,
        "size": round(duration * _AUDIO_BIT_RATE / 8),
        "width": 0,
        "height": 0,
        "bit_rate": _AUDIO_BIT_RATE,
        "quality": None,
        "audio_channels": 2,
    }
