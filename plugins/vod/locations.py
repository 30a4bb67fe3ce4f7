"""Asset ids, paths and URLs: what they name, and how they may be shown. Nothing here opens anything."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_ASSET_ID = re.compile(r"[0-9A-Za-z_-]+")
_LONGEST_STEM = 100  # bytes; a name takes 255, and suffixes are to come


def is_asset_id(asset: str) -> bool:
    """Whether this names a VOD asset: ids are opaque, but hold no dot, slash or colon as paths do."""
    return _ASSET_ID.fullmatch(asset) is not None


def asset_uri(conn_id: str, asset_id: str) -> str:
    """URI of an asset of VOD: ``vod://<connection>/<asset id>``. It holds no secret and does not expire."""
    return f"vod://{quote(conn_id, safe='')}/{asset_id}"


def is_web_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def public_name(asset: str) -> str:
    """*asset* as it may be shown: a web URL without user, password and query, of which a digest remains."""
    if not is_web_url(asset):
        return asset
    parts = urlsplit(asset)
    host = parts.netloc.rpartition("@")[2]
    digest = (
        f"?{hashlib.sha256(asset.encode()).hexdigest()[:8]}" if parts.query or "@" in parts.netloc else ""
    )
    return f"{parts.scheme}://{host}{parts.path}{digest}"


def local_path(location: str) -> Path | None:
    """The local path that a path or ``file://`` URL means; ``None`` for any other URL."""
    if location.startswith("file://"):
        return Path(unquote(urlsplit(location).path))
    return None if "://" in location else Path(location)


def file_stem(asset: str) -> str:
    """A file name for what is made of an asset: the same every time, and different for different assets.

    Asset ids are kept. Of a path or URL the name is kept where it is harmless, with a digest of the whole.
    """
    if is_asset_id(asset):
        return asset
    name = Path(unquote(urlsplit(asset).path) if "://" in asset else asset).stem
    harmless = re.sub(r"[^\w-]+", "_", name).strip("_-")
    stem = harmless.encode()[:_LONGEST_STEM].decode(errors="ignore") or "asset"
    return f"{stem}-{hashlib.sha256(asset.encode()).hexdigest()[:8]}"
