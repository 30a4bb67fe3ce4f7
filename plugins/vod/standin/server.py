"""The stand-in as one HTTP server, and a way to run it inside a test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vod.standin import openapi
from vod.standin.access import KnownHosts, Targets, Warden, is_loopback
from vod.standin.admin import Admin
from vod.standin.errors import RefusedError
from vod.standin.extraction import Extractor
from vod.standin.faults.connections import Dated, Protocol
from vod.standin.gateway import Gateway
from vod.standin.library import Library
from vod.standin.notifications import Topic
from vod.standin.service import Service
from vod.standin.speech import Speech
from vod.standin.storage import Storage
from vod.standin.uploads import Uploads
from vod.standin.virtual import VirtualAssets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from starlette.requests import Request

    from vod.standin.settings import Behaviour, StandinSettings

GRACE = 3
"""Seconds that open connections get to finish when the stand-in stops."""


class Standin:
    """A stand-in that is bound to its port and owns its library; :meth:`run` serves it.

    :raises LibraryInUseError: the folder belongs to a running stand-in.
    :raises OSError: the port is taken, or the folder cannot be written.
    """

    def __init__(self, settings: StandinSettings) -> None:
        self.settings = settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._socket = socket.create_server((settings.host, settings.port), family=family)
        try:
            self._library = Library(settings.data, clock=settings.behaviour.now)
        except BaseException:
            self._socket.close()
            raise
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._socket_port = self._socket.getsockname()[1]
        self.url = f"http://{host}:{self._socket_port}"
        self._gateway = Gateway(settings, self._library)
        behaviour = settings.behaviour
        here = is_loopback(settings.host)
        self._warden = Warden(settings)
        self._topic = Topic(
            settings, settings.public_url or self.url, targets=Targets(settings.notify, loopback=here)
        )
        self._extractor = Extractor(self._library, settings, ended=self._topic.ended)
        self._service = Service(self._library, self._extractor, behaviour, self._gateway.stats)
        self._uploads = Uploads(self._library, behaviour, Targets(settings.pull_from, loopback=here))
        self._storage = Storage(settings, self._library)
        self._speech = Speech(settings, self._library, self._storage, self._owns)
        self._admin = Admin(
            behaviour,
            self._library,
            self._extractor,
            self._uploads,
            self._topic,
            self._gateway.stats,
            self._warden,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = _Server(
            uvicorn.Config(
                Dated(KnownHosts(self._application(), settings), settings.behaviour.now),
                log_config=None,
                http=Protocol,
                lifespan="on",
                ws="none",
                proxy_headers=False,  # they would let anybody claim to be on the loopback
                server_header=False,
                date_header=False,  # Dated writes it
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE,
            )
        )

    @property
    def behaviour(self) -> Behaviour:
        """May be changed while the stand-in runs."""
        return self.settings.behaviour

    @property
    def admin_token(self) -> str | None:
        """What callers of ``/admin`` must show as ``Authorization: Bearer ...``, if they must."""
        return self._warden.token

    def run(self, *, ready: Callable[[], None]) -> None:
        """Serves until :meth:`stop`, SIGTERM or SIGINT. *ready* is called once connections are accepted."""
        self._server.ready = ready
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Makes :meth:`run` finish open connections, end ffmpeg processes and return. From any thread."""
        self._server.should_exit = True

    def add(
        self,
        file: Path,
        *,
        title: str | None = None,
        auto_publish: bool = True,
        created: datetime | None = None,
    ) -> str:
        """Puts a file into the running library as if it had been uploaded, and returns its asset id.

        :param created: When that was; now when omitted.
        """
        assert self._loop is not None, "the stand-in does not run"
        adding = self._uploads.add(file, title=title or file.stem, auto_publish=auto_publish, created=created)
        return asyncio.run_coroutine_threadsafe(adding, self._loop).result()

    def add_virtual(self, count: int, **fields: Any) -> list[str]:
        """Makes up source assets without contents, and returns their ids, oldest first.

        :param fields: Those of :class:`vod.standin.virtual.VirtualAssets`.
        """
        assert self._loop is not None, "the stand-in does not run"

        async def adding() -> list[str]:
            return self._uploads.add_virtual(VirtualAssets(count=count, **fields))

        return asyncio.run_coroutine_threadsafe(adding(), self._loop).result()

    def _owns(self, url: str) -> bool:
        """Whether a URL leads to this stand-in."""
        parts, own = urlsplit(url), urlsplit(self.settings.public_url or self.url)
        if parts.netloc == own.netloc:
            return True
        known = {self.settings.host, *self.settings.names}
        try:
            port = parts.port
        except ValueError:
            return False
        here = parts.hostname in known or is_loopback(parts.hostname or "")
        return here and port == self._socket_port

    def _application(self) -> Starlette:
        gateway, storage, topic = self._gateway, self._storage, self._topic
        calls = (*self._service.calls(), *self._uploads.calls(), *self._speech.calls())
        routes = [Route(call.path, gateway.guarded(call), methods=[call.method]) for call in calls]
        obs = "/obs/{bucket}/{project_id}/{asset_id}/{object}"
        cdn = "/cdn/asset/{asset_id}/{object}"
        routes += [
            Route(path, gateway.beside(name, endpoint), methods=[method])
            for name, method, path, endpoint in (
                ("cdn download", "GET", cdn, storage.cdn),
                ("smn certificate", "GET", "/smn/{name}", topic.certificate),
                ("smn confirm", "GET", "/smn/subscription/confirm", topic.confirm),
                ("smn unsubscribe", "GET", "/smn/subscription/unsubscribe", topic.unsubscribe),
                ("token", "POST", "/v3/auth/tokens", self._token),
                ("projects", "GET", "/v3/projects", self._projects),
            )
        ]
        operations = {name: gateway.beside(name, endpoint) for name, endpoint in storage.operations().items()}

        async def object_storage(request: Request) -> Response:
            return await operations[storage.operation(request)](request)

        routes.append(Route(obs, object_storage, methods=["GET", "PUT", "POST", "DELETE"]))
        routes += self._admin.routes(openapi.describe(calls, self.settings.project_id))
        application = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _not_routed, Exception: _broken},
        )
        application.router.redirect_slashes = False
        return application

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._extractor.start()
        self._uploads.puller.start()
        self._speech.start()
        self._topic.start()
        try:
            yield
        finally:
            await self._extractor.stop()
            await self._uploads.puller.stop()
            await self._speech.stop()
            await self._topic.stop()
            self._library.close()

    async def _token(self, request: Request) -> Response:
        """Section 1.2."""
        try:
            token, body = self._gateway.tokens.issue(json.loads(await request.body()))
        except PermissionError as error:
            return _identity_error(401, "Unauthorized", str(error))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            return _identity_error(400, "Bad Request", "The request body is invalid.")
        return JSONResponse(body, 201, headers={"X-Subject-Token": token})

    async def _projects(self, request: Request) -> Response:
        """Section 2."""
        await self._gateway.authenticate(request)
        name = request.query_params.get("name", self.settings.region)
        project = {
            "id": self.settings.project_id,
            "name": self.settings.region,
            "domain_id": "standin",
            "enabled": True,
        }
        projects = [project] if name == self.settings.region else []
        return JSONResponse(
            {"projects": projects, "links": {"self": str(request.url), "next": None, "previous": None}}
        )


@contextlib.contextmanager
def running(settings: StandinSettings) -> Iterator[Standin]:
    """A stand-in in a thread of this process, ready on entry, stopped on exit. For tests."""
    standin = Standin(settings)
    ready = threading.Event()

    def run() -> None:
        try:
            standin.run(ready=ready.set)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="vod-standin", daemon=True)
    thread.start()
    ready.wait()
    if not standin._server.started:
        raise RuntimeError("the stand-in did not start; its log says why")
    try:
        yield standin
    finally:
        standin.stop()
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn that says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


async def _not_routed(request: Request, error: Exception) -> Response:
    message = "The API does not exist or has not been published in the environment."
    request_id = uuid.uuid4().hex
    response = RefusedError.gateway(404, "0101", message).response(request_id)
    response.headers["X-Request-Id"] = request_id
    return response


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error_code": "VOD.10051", "error_msg": "Internal error."}, 500)


def _identity_error(status: int, title: str, message: str) -> Response:
    return JSONResponse({"error": {"code": status, "message": message, "title": title}}, status)
