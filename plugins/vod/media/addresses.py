"""Which machines a web address may lead to: a private network is refused unless it is allowed by name.

A name is looked up once, and the connection goes to the address that was checked: a second look-up could give
another one.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

import httpx

from vod.locations import AllowedLocations, Kind, Location, parse_location
from vod.media.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_REDIRECTS = 10
_TRANSLATION = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_TRANSLATION = ipaddress.ip_network("64:ff9b:1::/48")
"""IPv4 addresses inside IPv6 ones (RFC 6052, 8215), which Python tells apart only since 3.13."""

REDIRECTS = {301, 302, 303, 307, 308}


class AddressNotAllowedError(DownloadError):
    """The address leads to a private network."""

    outcome = "address_not_allowed"
    retryable = False
    remedy = (
        "Give a public address. An administrator can allow this one by name in the setting "
        "[vod] allowed_locations of Airflow's configuration."
    )

    def __init__(self, message: str, *, asset: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, asset=asset, remedy=remedy, retryable=False)


def requests_for(
    client: httpx.Client, method: str, location: Location, allowed: AllowedLocations, headers: dict[str, str]
) -> Iterator[httpx.Response]:
    """Send a request and follow its redirects; each response is open until the next is asked for.

    The last one is the answer. Each redirect is checked like the first address, and none changes the scheme.

    :raises AddressNotAllowedError: it leads to a private network.
    :raises DownloadError: the host is unknown, or a redirect leads nowhere.
    :raises vod.locations.LocationNotAllowedError: it is below no allowed location.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        allowed.check(location)
        request = _request(client, method, location, allowed, headers)
        response = client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()
        if response.status_code not in REDIRECTS or "Location" not in response.headers:
            return
        location = _redirected(location, response.headers["Location"])
    raise DownloadError("The server redirects too often.", retryable=False)


def _request(
    client: httpx.Client, method: str, location: Location, allowed: AllowedLocations, headers: dict[str, str]
) -> httpx.Request:
    url = httpx.URL(location.text.strip())
    address = _address(location, may_be_private=allowed.names_host(location))
    return client.build_request(
        method,
        url.copy_with(host=address),
        headers={**headers, "Host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": url.host},
    )


def _address(location: Location, *, may_be_private: bool) -> str:
    try:
        found = socket.getaddrinfo(location.host, location.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DownloadError("The host of the URL is not known.") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not may_be_private and not all(_is_public(address) for address in addresses):
        raise AddressNotAllowedError("The URL leads to a private network.")
    return addresses[0]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _LOCAL_TRANSLATION:
            return False
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _TRANSLATION:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner:
            return inner.is_global and not inner.is_multicast
    return parsed.is_global and not parsed.is_multicast


def _redirected(location: Location, target: str) -> Location:
    try:
        joined = str(httpx.URL(location.text.strip()).join(target))
    except (httpx.InvalidURL, ValueError) as error:
        raise DownloadError("The server redirects to an invalid URL.", retryable=False) from error
    there = parse_location(joined)
    if there.kind is not Kind.WEB or there.scheme != location.scheme:
        raise DownloadError("The server redirects to another kind of URL.", retryable=False)
    return there
