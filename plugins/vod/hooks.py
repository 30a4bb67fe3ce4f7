"""An Airflow connection turned into a VOD client, blocking and asynchronous."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import httpx
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk.exceptions import AirflowNotFoundException
from requests import PreparedRequest, Response, Session
from requests.adapters import BaseAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from vod import metrics
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.poller import Poller
from vod.cloud.session import PROJECT, observers
from vod.connection import (
    DEFAULT_CONNECTION,
    ConnectionSettings,
    InvalidConnectionError,
    extra_of,
    is_true,
    require_encryption,
)
from vod.errors import VodError
from vod.logs import get_logger
from vod.speech.engines.http import Server

if TYPE_CHECKING:
    pass

log = get_logger(__name__)

_HOLDS_A_SECRET = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
"""In the name of a header."""
_WAITING_SHARE = 0.8
"""Share of the read quota for polling; the rest is for running tasks."""
_WAITING_RETRY_SECONDS = 30.0
"""Seconds for which a look that failed is repeated: no longer than until the next."""


@dataclass
class _SharedPoller:
    poller: Poller
    settings: ConnectionSettings
    """Those that it uses now: the credential may have been replaced since the first wait."""
    holders: int = 0


# Of the triggerer: one process, one loop, and one poller for each connection as it is at the moment.
_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ConnectionSettings, _SharedPoller]]
_pollers = WeakKeyDictionary()


def _count_call(service: str, call: str, answer: str, waited: float) -> None:
    metrics.count("vod.calls.made", service=service, call=call, answer=answer)
    if waited:
        metrics.timing("vod.calls.quota_wait", waited, service=service, call=call)


observers.append(_count_call)  # the client itself does not know Airflow


class VodHook(HttpHook):
    """Calls Huawei Cloud VOD with the keys of an Airflow connection.

    The calls that the operators need are methods of :attr:`client`. Any other call of the service goes
    through the inherited :meth:`run`, which fills in the project's id, and has the client's authentication,
    repeats and errors::

        VodHook(method="GET").run("/v1.0/{project_id}/asset/category").json()

    :param vod_conn_id: Connection of type ``vod``: login is the access key, password the secret key, host
        (optional) the endpoint; ``region`` and ``project_id`` are in the extra.
    :param method: HTTP method of :meth:`run`.
    """

    conn_name_attr = "vod_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "vod"
    hook_name = "Huawei Cloud VOD"

    def __init__(self, vod_conn_id: str = DEFAULT_CONNECTION, method: str = "GET") -> None:
        super().__init__(method=method, http_conn_id=vod_conn_id)
        self.vod_conn_id = vod_conn_id

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection, read.

        :raises InvalidConnectionError: it is not defined, or lacks something.
        """
        try:
            connection = self.get_connection(self.vod_conn_id)
        except AirflowNotFoundException as error:
            raise self._undefined() from error
        return ConnectionSettings.from_connection(connection, connection.extra_dejson)

    @cached_property
    def client(self) -> VodClient:
        """The client for a worker: its calls block."""
        return self.settings.client()

    @asynccontextmanager
    async def async_client(self) -> AsyncIterator[AsyncVodClient]:
        """The client for the triggerer: no call blocks its event loop."""
        client = (await self.async_settings()).async_client()
        try:
            yield client
        finally:
            await client.aclose()

    @asynccontextmanager
    async def poller(self) -> AsyncIterator[Poller]:
        """The poller that all who wait on this event loop with this connection share."""
        settings = await self.async_settings()
        pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
        if settings not in pollers:
            poller = Poller(_waiting_client(settings), lambda: self._renewed(shared))
            pollers[settings] = _SharedPoller(poller, settings)
        shared = pollers[settings]
        # Count holders: one may hold the poller before it waits.
        shared.holders += 1
        try:
            yield shared.poller
        finally:
            shared.holders -= 1
            if not shared.holders:
                del pollers[settings]
                await shared.poller.aclose()

    async def _renewed(self, shared: _SharedPoller) -> AsyncVodClient | None:
        """A client as the connection is now; ``None`` if that has not changed."""
        try:
            settings = await self.async_settings()
        except Exception as error:  # noqa: BLE001 - the one at hand may be accepted again
            log.warning("Could not read the connection %r anew: %s", self.vod_conn_id, error)
            return None
        if settings == shared.settings:
            return None
        shared.settings = settings
        return _waiting_client(settings)

    async def async_settings(self) -> ConnectionSettings:
        """:attr:`settings` without blocking the triggerer's event loop."""
        try:
            connection = await self.aget_connection(self.vod_conn_id)
        except AirflowNotFoundException as error:
            raise self._undefined() from error
        return ConnectionSettings.from_connection(connection, await extra_of(connection))

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> Session:
        """Give a requests session that sends with the client, to VOD's endpoint alone; :meth:`run` uses it.

        Nothing of the connection's extra becomes a header, as it does in :class:`HttpHook`.
        """
        endpoint = self.settings.service.endpoint.rstrip("/")
        self.base_url, self._base_url_initialized = endpoint, True
        self.merged_extra = dict(extra_options or {})
        session = Session()
        session.trust_env = False  # a password of ~/.netrc is not for VOD
        session.headers = CaseInsensitiveDict({"Content-Type": "application/json", **(headers or {})})
        session.adapters.clear()
        session.mount(f"{endpoint}/", _ClientAdapter(self.client, endpoint))
        return session

    def test_connection(self) -> tuple[bool, str]:
        """Ask for an asset that cannot exist: the cheapest call that needs keys, project and clock to fit."""
        try:
            with closing(self.settings.client(retry_seconds=0.0)) as client:
                client.asset_info(["0" * 32])
        except VodError as error:
            return False, str(error)
        return True, f"VOD at {self.settings.service.endpoint} accepts the keys."

    def _undefined(self) -> InvalidConnectionError:
        return InvalidConnectionError(
            f"The connection {self.vod_conn_id!r} is not defined.",
            remedy="Add it under Admin > Connections with the type Huawei Cloud VOD, or as the environment "
            f"variable AIRFLOW_CONN_{self.vod_conn_id.upper()}.",
        )


def _waiting_client(settings: ConnectionSettings) -> AsyncVodClient:
    service = settings.service
    waiting = replace(service, quota_share=service.quota_share * _WAITING_SHARE)
    return AsyncVodClient(waiting, retry_seconds=_WAITING_RETRY_SECONDS)


class _ClientAdapter(BaseAdapter):
    """Sends with the client what a session of requests prepared, as the inherited methods of HttpHook do."""

    def __init__(self, client: VodClient, endpoint: str) -> None:
        super().__init__()
        self._client = client
        self._endpoint = endpoint

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        """:raises CloudError: any refusal."""
        path, _query, query = (request.url or "")[len(self._endpoint) :].partition("?")
        answer = self._client.request(
            request.method or "GET",
            path.replace(quote(PROJECT), PROJECT),
            params=httpx.QueryParams(query),
            content=request.body.encode() if isinstance(request.body, str) else request.body,
            headers={name: text for name, text in request.headers.items() if name != "Content-Length"},
        )
        response = Response()
        response.status_code, response.reason = answer.status_code, answer.reason_phrase
        response.headers = CaseInsensitiveDict(answer.headers)
        response.encoding = answer.encoding
        response.raw = io.BytesIO(answer.content)
        response.request, response.url = request, request.url or ""
        return response

    def close(self) -> None:
        pass  # the client is the hook's


class _BearerKey(AuthBase):
    """Puts the key of a connection into each request; what is in ``.netrc`` cannot take its place."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def speech_server(http_conn_id: str) -> Server:
    """The server for the speech engine ``http``.

    :param http_conn_id: Connection of type ``http``: host, port and scheme as for Airflow's ``HttpHook``, the
        password is the key, and with a login both are sent as basic authentication.
    :raises InvalidConnectionError: it is not defined, or has no host.
    :raises InsecureEndpointError: a key would go to another machine by plain HTTP, and the extra
        ``allow_http`` does not say that it may.
    """
    hook = HttpHook(http_conn_id=http_conn_id)
    try:
        connection = hook.get_connection(http_conn_id)
    except AirflowNotFoundException as error:
        raise InvalidConnectionError(f"The connection {http_conn_id!r} is not defined.") from error
    if not connection.host:
        raise InvalidConnectionError(
            f"The connection {http_conn_id!r} has no host.", remedy="Give the address of the speech server."
        )
    session = hook.get_conn()
    session.headers.pop("allow_http", None)  # the hook makes headers of what is in the extra
    has_secret = connection.password or any(map(_HOLDS_A_SECRET.search, session.headers))
    if has_secret and not is_true(http_conn_id, "allow_http", connection.extra_dejson.get("allow_http")):
        require_encryption(http_conn_id, {"host": hook.base_url})
    if not connection.login:
        session.auth = _BearerKey(connection.password or "")
    return Server(hook.base_url, session)
