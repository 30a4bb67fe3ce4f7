"""The stand-in's controls beside the API, ``/admin/...``: counters and switches, not for everybody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vod.standin import faults
from vod.standin.virtual import VirtualAssets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from vod.standin.access import Warden
    from vod.standin.extraction import Extractor
    from vod.standin.library import Library
    from vod.standin.notifications import Topic
    from vod.standin.quotas import Stats
    from vod.standin.settings import Behaviour
    from vod.standin.uploads import Uploads


class BadRequestError(Exception):
    """The text says what is wrong with an admin request."""


class Admin:
    def __init__(
        self,
        behaviour: Behaviour,
        library: Library,
        extractor: Extractor,
        uploads: Uploads,
        topic: Topic,
        stats: Stats,
        warden: Warden,
    ) -> None:
        self._behaviour = behaviour
        self._library = library
        self._extractor = extractor
        self._uploads = uploads
        self._topic = topic
        self._stats = stats
        self._warden = warden

    def routes(self, description: dict[str, Any]) -> list[Route]:
        """:param description: What ``/admin/openapi.json`` is to say."""

        async def openapi(_: Request) -> dict[str, Any]:
            return description

        return [
            Route("/admin/openapi.json", self._guarded(openapi), methods=["GET"]),
            Route("/admin/stats", self._guarded(self.stats), methods=["GET"]),
            Route("/admin/faults", self._guarded(self.faults), methods=["GET", "PUT", "POST", "DELETE"]),
            Route("/admin/assets", self._guarded(self.assets), methods=["POST"]),
            Route(
                "/admin/subscriptions", self._guarded(self.subscriptions), methods=["GET", "POST", "DELETE"]
            ),
        ]

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if not self._warden.admit(request):
                return JSONResponse({"error": "only for callers on this machine, or with the token"}, 403)
            try:
                return JSONResponse(await endpoint(request))
            except BadRequestError as error:
                return JSONResponse({"error": str(error)}, 400)

        return guarded

    async def stats(self, _: Request) -> dict[str, Any]:
        """Calls, accepted extractions by source, assets by state."""
        return {
            **self._stats.to_json(),
            "submissions": self._library.submissions(),
            "assets_by_status": self._library.census(),
            "notifications": self._topic.to_json(),
            "peak_parallel_extractions": self._extractor.peak_parallel,
        }

    async def faults(self, request: Request) -> list[dict[str, Any]]:
        """The rules in force: asked for, replaced (PUT), added to (POST) or lifted (DELETE)."""
        if request.method == "DELETE":
            self._behaviour.faults = []
        elif request.method != "GET":
            try:
                rules = faults.read(await _json(request))
            except faults.FaultError as error:
                raise BadRequestError(str(error)) from None
            self._behaviour.faults = rules if request.method == "PUT" else [*self._behaviour.faults, *rules]
        return [rule.to_json() for rule in self._behaviour.faults]

    async def assets(self, request: Request) -> dict[str, list[str]]:
        """Makes up source assets without contents."""
        try:
            assets = VirtualAssets.model_validate(await _json(request))
        except ValidationError as error:
            raise BadRequestError(faults.sentence(error)) from None
        return {"asset_ids": self._uploads.add_virtual(assets)}

    async def subscriptions(self, request: Request) -> list[dict[str, Any]]:
        """Subscribers to notifications: asked for, invited (POST) or forgotten (DELETE)."""
        if request.method == "DELETE":
            self._topic.clear()
        elif request.method == "POST":
            body = await _json(request)
            try:
                self._topic.subscribe(body["url"])
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise BadRequestError(f'expected {{"url": "http://..."}}: {error}') from None
        return self._topic.subscriptions()


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON") from None
