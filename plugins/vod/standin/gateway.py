"""What stands before every call: authentication, throttling, project check, error envelopes, counting."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from vod.standin.errors import RefusedError, StorageError
from vod.standin.faults.rules import CallFault
from vod.standin.parameters import Body, Query
from vod.standin.quotas import Quotas, Stats
from vod.standin.signatures import KeyCheck, SignatureError, WireRequest, query_pairs
from vod.standin.storage import Links
from vod.standin.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from starlette.requests import Request

    from vod.standin.library import Library
    from vod.standin.settings import StandinSettings

MAX_BODY = 12 * 1024 * 1024


@dataclass(frozen=True)
class Received:
    """A call that passed the gateway."""

    query: Query
    body: bytes = field(repr=False)
    links: Links = field(repr=False)
    path: Mapping[str, str] = field(default_factory=dict)
    """What the path names, such as ``job_id``."""

    def json(self) -> Body:
        return Body.parse(self.body)

    def mentions(self) -> Iterator[str]:
        """Ids and titles in the query and in the body, whatever else may be wrong with it."""
        for name in ("asset_id", "title"):
            yield from (part for value in self.query.all(name) for part in value.split(","))
        try:
            body = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            return
        if not isinstance(body, dict):
            return
        for fields in [body, *_listed(body.get("upload_metadatas"))]:
            for name in ("asset_id", "title"):
                for text in _listed(fields.get(name) if isinstance(fields, dict) else None):
                    if isinstance(text, str):
                        yield text.encode(errors="replace").decode()


@dataclass(frozen=True)
class Call:
    """One call of the API.

    :param quota: Class of section 12; a call with ``query_string`` counts as ``search``.
    :param refusal_status: HTTP status that the documentation of this call shows for errors.
    """

    name: str
    method: str
    path: str
    quota: str
    refusal_status: int
    handler: Callable[[Received], Awaitable[Response | dict[str, Any]]]


class Gateway:
    def __init__(self, settings: StandinSettings, library: Library) -> None:
        self._settings = settings
        self._library = library
        self._keys = KeyCheck(settings.access_key, settings.secret_key, clock=settings.behaviour.now)
        self._quotas = Quotas(settings.behaviour)
        self.tokens = Tokens(settings)
        self.stats = Stats()
        self.calls: set[str] = set()
        """Names of all calls."""

    def counted(
        self, name: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint, seen by the counters and with a request id."""

        self.calls.add(name)

        async def count(request: Request) -> Response:
            self.stats.arrived(name)
            request_id = request.state.request_id = uuid.uuid4().hex
            try:
                response = await endpoint(request)
            except (RefusedError, StorageError) as refused:
                response = refused.response(request_id)
            except Exception:
                self.stats.answered(name, 500)
                raise
            self.stats.answered(name, response.status_code)
            response.headers["X-Request-Id"] = request_id
            return response

        return count

    def beside(
        self, name: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint of a neighbour of VOD: counted, and spoiled where a rule wants it."""

        async def spoiled(request: Request) -> Response:
            asset_id = request.path_params.get("asset_id")
            return await self._spoiled(
                name, request, lambda: self._names(filter(None, [asset_id])), lambda: endpoint(request)
            )

        return self.counted(name, spoiled)

    def guarded(self, call: Call) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a VOD call."""

        async def guard(request: Request) -> Response:
            try:
                return await self._handle(call, request)
            except RefusedError as refused:
                if refused.status is None:
                    refused.status = max(call.refusal_status, self._settings.behaviour.refusal_status)
                raise

        return self.counted(call.name, guard)

    async def authenticate(self, request: Request) -> tuple[WireRequest, str | None]:
        """The request as it came, and the project of its credentials.

        :raises RefusedError: 401, or 413 for a body that is too large to be signed.
        """
        wire = WireRequest(
            method=request.method,
            path=request.scope["raw_path"].decode("latin-1"),
            query=request.scope["query_string"].decode("latin-1"),
            headers={name: ",".join(request.headers.getlist(name)) for name in request.headers},
            body=await _body(request),
        )
        # Section 1.3: a token, when there is one, is all that counts.
        if "x-auth-token" in wire.headers:
            return wire, self.tokens.project(wire.headers["x-auth-token"])
        try:
            self._keys.verify(wire)
        except SignatureError as error:
            message = f"Incorrect IAM authentication information: {error}"
            raise RefusedError.gateway(401, "0301", message) from None
        return wire, self._settings.project_id

    async def _handle(self, call: Call, request: Request) -> Response:
        wire, project = await self.authenticate(request)
        query = Query(query_pairs(wire.query))
        searching = call.quota in ("info", "details and list") and query.one("query_string")
        self._quotas.take("search" if searching else call.quota)
        if not project == request.path_params["project_id"] == wire.headers.get("x-project-id", project):
            raise RefusedError("VOD.10057")
        if call.method == "POST" and not wire.headers.get("content-type", "").startswith("application/json"):
            raise RefusedError("VOD.10059")
        base_url = f"{request.url.scheme}://{request.url.netloc}"
        received = Received(query, wire.body, Links(self._settings, base_url), request.path_params)

        async def carried_out() -> Response:
            answer = await call.handler(received)
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return await self._spoiled(call.name, request, lambda: self._names(received.mentions()), carried_out)

    async def _spoiled(
        self,
        call: str,
        request: Request,
        names: Callable[[], list[str]],
        carry_out: Callable[[], Awaitable[Response]],
    ) -> Response:
        """The answer to a call, as the rules of :mod:`vod.standin.faults` leave it."""
        struck = []
        for fault in self._settings.behaviour.rules(CallFault, call):
            if fault.strikes(names):
                answer = await fault.before(request)
                if answer is not None:
                    return answer
                struck.append(fault)
        response = await carry_out()
        for fault in struck:
            response = await fault.after(request, response)
        return response

    def _names(self, mentions: Iterable[str]) -> list[str]:
        """What a caller mentions, and how else the assets among that are called."""
        names = list(mentions)
        known = [asset for asset in map(self._library.get, names) if asset is not None]
        return names + [name for asset in known for name in asset.names()]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise RefusedError.gateway(413, "0201", "The request body is too large.")
    except ClientDisconnect:
        raise RefusedError.gateway(400, "0201", "The request ended early.") from None
    return bytes(body)
