"""Who may talk to the stand-in, under which names, and whom it calls itself."""

from __future__ import annotations

import ipaddress
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

from vod.locations import AllowedLocations, InvalidLocationError, LocationNotAllowedError, parse_location

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vod.standin.settings import StandinSettings


def is_loopback(host: str) -> bool:
    """Whether a host as in a URL, without brackets, is this machine by name or number."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Targets:
    """The web addresses that the stand-in may call on behalf of a caller.

    :param prefixes: What it was told; ``None``: this machine, if the stand-in serves only this machine.
    :param loopback: Whether it does.
    """

    def __init__(self, prefixes: Iterable[str] | None, *, loopback: bool) -> None:
        self._loopback = loopback and prefixes is None
        self._prefixes = AllowedLocations.from_locations(prefixes or ())

    def allow(self, url: str) -> bool:
        """Whether a URL may be called."""
        try:
            location = parse_location(url)
            self._prefixes.check(location)
        except LocationNotAllowedError:
            return self._loopback and location.scheme in ("http", "https") and is_loopback(location.host)
        except InvalidLocationError:
            return False
        return location.scheme in ("http", "https")


class KnownHosts:
    """Refuses requests that name another host: a web page whose name leads here (DNS rebinding) does.

    :param application: What gets the others.
    """

    def __init__(self, application: ASGIApp, settings: StandinSettings) -> None:
        self._application = application
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        application: ASGIApp = self._application
        if scope["type"] == "http" and not self._knows(scope):
            application = JSONResponse({"error": "unknown host; see the option --name"}, 421)
        await application(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"host"]
        try:
            host = urlsplit(f"//{given[0].decode('ascii')}").hostname or ""
        except (IndexError, ValueError):
            return False
        settings = self._settings
        known = {settings.host.lower(), *(name.lower() for name in settings.names)}
        if settings.public_url:
            known.add(urlsplit(settings.public_url).hostname or settings.host)
        return len(given) == 1 and (host in known or is_loopback(host))


class Warden:
    """Guards ``/admin``: for this machine as long as the stand-in serves only this machine, else by token.

    :param token: Made up when it is needed and not given.
    """

    def __init__(self, settings: StandinSettings) -> None:
        self.token = settings.admin_token
        if self.token is None and not is_loopback(settings.host):
            self.token = secrets.token_urlsafe(24)

    def admit(self, request: Request) -> bool:
        """Whether a caller may use the controls. A web page never may."""
        if "origin" in request.headers:
            return False
        if self.token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            return scheme.lower() == "bearer" and secrets.compare_digest(given.encode(), self.token.encode())
        return request.client is not None and is_loopback(request.client.host)
