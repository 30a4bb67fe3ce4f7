"""Asset ids, paths and URLs: parsed once, shown without secrets, allowed or refused. Nothing here opens one.

What people and files name is data. :func:`parse_location` decides by the parsed parts, so that a capital
letter or a leading blank changes nothing; :class:`AllowedLocations` says what may be read and written.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from vod.errors import InvalidInputError
from vod.text import printable

_ASSET_ID = re.compile(r"[0-9A-Za-z_-]+")
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
_CONNECTION = re.compile(r"[\w.-]+")
_MAX_STEM = 100  # bytes; a name takes 255, and suffixes are to come
_VARIANT = re.compile(r"(?:[a-z]{2,3}-)?[0-9a-f]{8}|ffmpeg")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_SECRET_NAMES = re.compile(
    r"sig|hmac|token|auth|key|secret|passw|pwd|credential|policy|jwt|session|^(mac|se|sp|sv)$", re.IGNORECASE
)
_LOOKS_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/=_.~-]{24,}")

SETTING = "[vod] allowed_locations"
"""The line of Airflow's configuration that says what may be read and written."""


class InvalidLocationError(InvalidInputError):
    """This is no asset id, path or URL that can be used."""

    outcome = "invalid_location"


class LocationNotAllowedError(InvalidInputError):
    """The place may not be read or written here."""

    outcome = "location_not_allowed"


class Kind(Enum):
    """What a location names."""

    ASSET = "asset of VOD"
    FILE = "file or folder"
    WEB = "web address"
    STORAGE = "object storage"


@dataclass(frozen=True)
class Location:
    """An asset id, a path or a URL, parsed.

    :param text: As it was given.
    :param kind: What it names.
    :param scheme: In lower case; empty for an asset id or a path.
    :param name: The asset id, the path, or the path of the URL as written.
    :param connection: Airflow connection that the URL names: ``obs://<connection>@<bucket>/<key>``.
    :param host: Host or bucket, in lower case for the web.
    :param port: Of a web address, also when the URL leaves it out.
    """

    text: str = field(repr=False)
    kind: Kind
    scheme: str = ""
    name: str = ""
    connection: str | None = None
    host: str = ""
    port: int | None = None

    @property
    def path(self) -> Path | None:
        """The local path, for a file or folder."""
        return Path(self.name) if self.kind is Kind.FILE else None

    @cached_property
    def shown(self) -> str:
        """The location as it may be shown: on one line, without password and query.

        A digest stands for what is left out, so that two locations never look the same.
        """
        if self.kind in (Kind.ASSET, Kind.FILE):
            text = printable(self.text)
            return text if text == self.text else f"{text}?{_digest(self.text)}"
        parts = urlsplit(self.text.strip())
        user, _, host = parts.netloc.rpartition("@")
        keep = user if self.kind is Kind.STORAGE and user == self.connection else ""
        secret = parts.query or parts.fragment or user != keep
        digest = f"?{_digest(self.text)}" if secret else ""
        return printable(f"{self.scheme}://{keep}{'@' if keep else ''}{host}{parts.path}{digest}")


def parse_location(text: str) -> Location:
    """Read an asset id, a path or a URL.

    :raises InvalidLocationError: it names nothing that can be read or written.
    """
    stripped = text.strip()
    found = _SCHEME.match(text)
    if found is None:
        if _ASSET_ID.fullmatch(stripped):
            return Location(text, Kind.ASSET, name=stripped)
        if "\0" in text or not stripped:
            raise InvalidLocationError("This is no path.", asset=printable(stripped), remedy="Give a path.")
        return Location(text, Kind.FILE, name=text)
    scheme = found[1].lower()
    hidden = f"{scheme}://…"
    if any(character.isspace() or not character.isprintable() for character in stripped) and scheme not in (
        "file",
        "local",
    ):
        raise InvalidLocationError(
            "The URL has blanks or control characters in it.",
            asset=hidden,
            remedy="Write them as %20 and so on.",
        )
    try:
        parts = urlsplit(stripped)
        port = parts.port
    except ValueError as error:
        raise InvalidLocationError(
            "This is not a valid URL.", asset=hidden, remedy="Check host and port."
        ) from error
    if scheme in ("file", "local"):  # fsspec knows both words
        return _file(text, parts)
    if scheme == "vod":
        return _asset(text, parts)
    if "::" in stripped.partition("?")[0].replace("[::", "[") and not parts.netloc.startswith("["):
        raise InvalidLocationError(
            "Chained URLs are not read.", asset=hidden, remedy="Give the address of the file itself."
        )
    if ".." in unquote(unquote(parts.path)).split("/"):
        raise InvalidLocationError(
            "The URL leads out of its folder with '..'.",
            asset=hidden,
            remedy="Write the address without '..'.",
        )
    if not parts.hostname:
        raise InvalidLocationError("The URL names no host or bucket.", asset=hidden, remedy="Check the URL.")
    if scheme in _DEFAULT_PORTS:
        host, port = parts.hostname.rstrip("."), port or _DEFAULT_PORTS[scheme]
        return Location(text, Kind.WEB, scheme, parts.path, None, host, port)
    user, _, bucket = parts.netloc.rpartition("@")
    connection = user if user and _CONNECTION.fullmatch(user) else None
    return Location(text, Kind.STORAGE, scheme, parts.path, connection, bucket)


def _file(text: str, parts: SplitResult) -> Location:
    path = unquote(parts.path, errors="surrogateescape")
    if parts.netloc.lower() not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidLocationError(
            "A file:// URL names an absolute path of this machine.",
            asset="file://…",
            remedy="Write file:///path.",
        )
    return Location(text, Kind.FILE, "file", path)


def _asset(text: str, parts: SplitResult) -> Location:
    asset_id, connection = parts.path.strip("/"), unquote(parts.netloc)
    if not _ASSET_ID.fullmatch(asset_id) or parts.query or parts.fragment or not connection:
        raise InvalidLocationError(
            "This is no address of an asset.",
            asset="vod://…",
            remedy="Write vod://<connection>/<asset id>.",
        )
    return Location(text, Kind.ASSET, "vod", asset_id, connection)


@dataclass(frozen=True)
class AllowedLocations:
    """Prefixes of what may be read and written.

    :param prefixes: Folders and URLs; ``None`` allows every location.
    :param private_networks: Whether also a web address that is not among the prefixes may lead to a private
        network.
    """

    prefixes: tuple[Location, ...] | None = None
    private_networks: bool = False

    @classmethod
    def from_text(cls, text: str | None) -> AllowedLocations:
        """Read a setting: folders and URLs, one a line or with commas between them; nothing allows all.

        :raises InvalidLocationError: one of them is neither an absolute path nor a URL.
        """
        text = (text or "").strip()
        entries = [entry.strip() for entry in text.split("\n" if "\n" in text else ",") if entry.strip()]
        return cls.from_locations(entries) if entries else cls()

    @classmethod
    def from_locations(cls, entries: Iterable[str]) -> AllowedLocations:
        """Allow these folders and URLs, and what is below them."""
        locations = tuple(parse_location(entry) for entry in entries)
        for location in locations:
            if location.kind is Kind.ASSET or (location.path and not location.path.is_absolute()):
                raise InvalidLocationError(
                    "An allowed location is an absolute path or a URL.",
                    asset=location.shown,
                    remedy=f"Correct the setting {SETTING} in Airflow's configuration.",
                )
        return cls(locations)

    def check(self, location: Location) -> None:
        """Refuse a location that is not below an allowed one. Links and ``..`` are followed first.

        Assets of VOD are always allowed: the connection decides what can be read of them.

        :raises LocationNotAllowedError: it is not.
        """
        if self.prefixes is None or location.kind is Kind.ASSET:
            return
        if not any(_is_below(location, prefix) for prefix in self.prefixes):
            raise LocationNotAllowedError(
                "This location is not allowed.",
                asset=location.shown,
                remedy="An administrator can add it, or a folder above it, to the setting "
                f"{SETTING} of Airflow's configuration (environment variable "
                "AIRFLOW__VOD__ALLOWED_LOCATIONS).",
            )

    def names_host(self, location: Location) -> bool:
        """Whether a web address is allowed by name, so that it may lead to a private network."""
        return self.private_networks or any(_is_below(location, prefix) for prefix in self.prefixes or ())


def _is_below(location: Location, prefix: Location) -> bool:
    if location.kind is not prefix.kind:
        return False
    if location.kind is Kind.FILE:
        return Path(os.path.realpath(location.name)).is_relative_to(os.path.realpath(prefix.name))
    here = (location.scheme, location.connection, location.host, location.port)
    there = (prefix.scheme, prefix.connection, prefix.host, prefix.port)
    folder = posixpath.normpath(f"/{unquote(prefix.name)}").rstrip("/")
    path = posixpath.normpath(f"/{unquote(location.name)}")
    return here == there and (path == folder or path.startswith(f"{folder}/"))


ANYWHERE = AllowedLocations(private_networks=True)
"""For people at their own shell."""


def is_asset_id(text: str) -> bool:
    """Whether this may be the id of a VOD asset: ids hold no dot, slash or colon as paths and URLs do."""
    return _ASSET_ID.fullmatch(text) is not None


def asset_uri(conn_id: str, asset_id: str) -> str:
    """URI of an asset of VOD: ``vod://<connection>/<asset id>``. It holds no secret and does not expire."""
    return f"vod://{quote(conn_id, safe='')}/{asset_id}"


def public_name(asset: str) -> str:
    """An asset as it may be shown and recorded; see :attr:`Location.shown`."""
    try:
        return parse_location(asset).shown
    except InvalidLocationError as error:
        return error.asset or "…"


def secrets_of(url: str) -> list[str]:
    """What of a URL looks like a secret: its password, and parts of its query by name or by looks.

    Each is given as it is written, and decoded.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return []
    found = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    for pair in re.split("[&;]", f"{parts.query}&{parts.fragment}"):
        name, _, value = pair.partition("=")
        secret = value or name
        if (value and _SECRET_NAMES.search(unquote(name))) or _LOOKS_RANDOM.fullmatch(unquote(secret)):
            found.append(secret)
    return list(dict.fromkeys(text for secret in found if secret for text in (secret, unquote(secret))))


def local_path(location: str) -> Path | None:
    """The local path that a path or ``file://`` URL means; ``None`` for anything else."""
    return parse_location(location).path if not is_asset_id(location) else Path(location)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def file_stem(asset: str) -> str:
    """A file name for what is made of an asset: the same every time, and different for different assets.

    Asset ids are kept. Of a path or URL the name is kept where it is harmless, with a digest of the whole.
    """
    if is_asset_id(asset):
        return asset
    name = Path(unquote(urlsplit(asset).path) if "://" in asset else asset).stem
    harmless = re.sub(r"[^\w-]+", "_", name).strip("_-")
    stem = harmless.encode("utf-8", "ignore")[:_MAX_STEM].decode(errors="ignore") or "asset"
    return f"{stem}-{_digest(asset)}"


BY_FFMPEG = "ffmpeg"
"""The variant of what ffmpeg makes of an asset of VOD by the defaults; what VOD makes has the plain name."""


def variant_of(wishes: Mapping[str, Any], language: str | None = None) -> str:
    """What tells audio by these wishes from other audio of its asset, in the names of files: ``de-1a2b3c4d``.

    :param wishes: What was asked for, where it is not the default, and shapes the audio: JSON.
    :param language: Code of the one that was asked for; it comes first, for people to read.
    :returns: the same for the same wishes in any order; empty without wishes.
    """
    if not wishes:
        return ""
    digest = _digest(json.dumps(wishes, sort_keys=True))
    named = f"{language}-{digest}"
    return named if language and _VARIANT.fullmatch(named) else digest


def audio_stem(asset: str, variant: str) -> str:
    """How the names of all files begin that are made of one audio of an asset.

    :param variant: As :func:`variant_of` or :func:`variant_in` say.
    """
    return f"{file_stem(asset)}.{variant}" if variant else file_stem(asset)


def variant_in(name: str) -> str:
    """The variant in the name of a file, which :func:`audio_stem` has put there; empty when there is none."""
    parts = name.split(".", 2)
    return parts[1] if len(parts) > 2 and _VARIANT.fullmatch(parts[1]) else ""
