"""Reading what callers send. Whatever does not fit is VOD.10053 and names the field."""

from __future__ import annotations

import calendar
import json
import re
import time
from typing import TYPE_CHECKING, Any

from vod.standin.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection

VIDEO_TYPES = frozenset(
    ("MP4", "TS", "MOV", "MXF", "MPG", "FLV", "WMV", "AVI", "M4V", "F4V", "MPEG", "3GP", "ASF", "MKV", "HLS")
)
AUDIO_TYPES = frozenset(
    ("MP3", "OGG", "WAV", "WMA", "APE", "FLAC", "AAC", "AC3", "MMF", "AMR", "M4A", "M4R", "WV", "MP2")
)

MAX_REACHABLE = 20_000
MAX_PULLS = 16
_TIME = re.compile(r"\d{14}")
_LARGEST = 2**63 - 1


class Query:
    """Query parameters; unknown ones are ignored."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def all(self, name: str) -> list[str]:
        """Values as they came."""
        return [value for key, value in self._pairs if key == name]

    def many(self, name: str, *, commas: bool = True, at_most: int | None = None) -> list[str]:
        """Values of a list, repeated or (where the contract says so) with commas, without duplicates."""
        values = self.all(name)
        if commas:
            values = [part for value in values for part in value.split(",")]
        values = list(dict.fromkeys(values))
        if "" in values or (at_most is not None and len(values) > at_most):
            raise RefusedError.illegal(name)
        return values

    def chosen(self, name: str, allowed: Collection[str], *, at_most: int | None = None) -> list[str]:
        values = self.many(name, at_most=at_most)
        if not set(values) <= set(allowed):
            raise RefusedError.illegal(name)
        return values

    def one(self, name: str) -> str | None:
        values = self.all(name)
        if len(values) > 1:
            raise RefusedError.illegal(name)
        return values[0] if values else None

    def required(self, name: str) -> str:
        value = self.one(name)
        if not value:
            raise RefusedError.illegal(name)
        return value

    def integer(self, name: str) -> int | None:
        value = self.one(name)
        if value is None:
            return None
        if not re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            raise RefusedError.illegal(name)
        return int(value)

    def moment(self, name: str) -> int | None:
        """A time ``yyyymmddhhmmss`` in UTC, as seconds since the epoch."""
        value = self.one(name)
        if value is None:
            return None
        try:
            if _TIME.fullmatch(value):
                return calendar.timegm(time.strptime(value, "%Y%m%d%H%M%S"))
        except ValueError:
            pass
        raise RefusedError.illegal(name)

    def page(self) -> tuple[int, int]:
        """Page and size."""
        page = self.integer("page")
        size = self.integer("size")
        page = 0 if page is None else page
        size = 10 if size is None else size
        if not 1 <= size <= 100:
            raise RefusedError.illegal("size")
        if page < 0 or (page + 1) * size > MAX_REACHABLE:
            raise RefusedError.illegal("page")
        return page, size


class Body:
    """A JSON object; unknown fields are ignored, ``null`` is not an absent field."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise RefusedError.illegal("body")
        self._fields: dict[str, Any] = fields

    @classmethod
    def parse(cls, body: bytes) -> Body:
        try:
            return cls(json.loads(body))
        except (ValueError, RecursionError):
            raise RefusedError.illegal("body") from None

    def text(self, name: str, *, max_bytes: int = 128) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or not 0 < _length(value) <= max_bytes:
            raise RefusedError.illegal(name)
        return value

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._fields

    def optional_text(self, name: str, *, max_bytes: int) -> str | None:
        return self.text(name, max_bytes=max_bytes) if self._fields.get(name) not in (None, "") else None

    def choice(self, name: str, allowed: Collection[str], default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise RefusedError.illegal(name)
        return value

    def integer(self, name: str, default: int, allowed: Collection[int] | None = None) -> int:
        """A number; the contract shows some of them as strings as well."""
        value = self._fields.get(name, default)
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
            raise RefusedError.illegal(name)
        if allowed is not None and value not in allowed:
            raise RefusedError.illegal(name)
        return value

    def texts(self, name: str) -> list[str]:
        values = self._fields.get(name)
        if not isinstance(values, list) or not values:
            raise RefusedError.illegal(name)
        if not all(isinstance(value, str) and _length(value) > 0 for value in values):
            raise RefusedError.illegal(name)
        return list(dict.fromkeys(values))

    def tags(self, name: str) -> str | None:
        """A comma list of at most 16 tags of at most 24 bytes."""
        given = self.optional_text(name, max_bytes=16 * 25)
        tags = given.split(",") if given else []
        if len(tags) > 16 or any(_length(tag) > 24 for tag in tags):
            raise RefusedError.illegal(name)
        return given

    def echo(self, name: str) -> str | None:
        """The field for an answer that quotes it; ``None`` where it is no text."""
        value = self._fields.get(name)
        return value if isinstance(value, str) and _length(value) >= 0 else None

    def sections(self, name: str, *, at_most: int) -> list[Body]:
        values = self._fields.get(name)
        if not isinstance(values, list) or not 1 <= len(values) <= at_most:
            raise RefusedError.illegal(name)
        if not all(isinstance(value, dict) for value in values):
            raise RefusedError.illegal(name)
        return [Body(value) for value in values]

    def section(self, name: str) -> Body:
        try:
            return Body(self._fields.get(name, {}))
        except RefusedError:
            raise RefusedError.illegal(name) from None


def _length(text: str) -> int:
    """Bytes in UTF-8; -1 for invalid text (a lone surrogate in a JSON escape)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1
