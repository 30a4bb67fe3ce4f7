"""Where another service of the cloud can fetch a file. The URLs are secrets: made, sent and forgotten."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vod.locations import Kind, Location
from vod.speech.errors import UnreachableAudioError
from vod.storage.errors import store_errors
from vod.storage.sources import check_source, remote_path

if TYPE_CHECKING:
    from vod.hooks import VodHook

SIGNED_SECONDS = 8 * 3600
"""How long a URL of OBS holds: SIS may take six hours until it fetches the audio."""


def outside_url(source: str, hook: VodHook) -> str:
    """A URL at which a service of the same region can fetch a file.

    :param hook: Used for VOD assets.
    :raises InvalidInputError: it belongs to another connection, or is not allowed.
    :raises UnreachableAudioError: it lies where no service can fetch it.
    :raises vod.cloud.errors.CloudError: VOD does not give the URL of its asset.
    :raises vod.storage.errors.StorageError: the URL cannot be signed.
    """
    location = check_source(source, vod_conn_id=hook.vod_conn_id)
    if location.kind is Kind.ASSET:
        details = hook.client.asset_details(location.name)
        if url := details.signed_url or details.url:
            return url
        raise UnreachableAudioError("VOD gives no URL for the audio.", remedy="Try again, or publish it.")
    if location.scheme == "obs":
        path = remote_path(location)
        with store_errors(location.shown):
            return str(path.fs.sign(path.path, expiration=SIGNED_SECONDS))
    if location.kind is Kind.WEB and _is_public(location):
        return location.text.strip()
    raise UnreachableAudioError(f"A service cannot fetch {location.shown}.")


def _is_public(location: Location) -> bool:
    """Whether it names a host that is not an address and not this machine."""
    host = (urlsplit(location.text.strip()).hostname or "").rstrip(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host
    return False
