"""Below HTTP: closing connections, and answers that are altered while they are sent."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vod.standin.settings import Behaviour


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP, which lets the application close its connection and never writes access lines.

    Those would hold signed URLs, and uvicorn's own switch changes a logger of the whole process, which
    whoever configures logging turns back.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.access_log = False
        self.app_state: dict[str, Any] = {**self.app_state, "connection": self}


class Dated:
    """Says in the header ``Date`` what the stand-in's clock shows, this machine's or another."""

    def __init__(self, application: ASGIApp, behaviour: Behaviour) -> None:
        self._application = application
        self._behaviour = behaviour

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and date what is answered."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._behaviour.now(), usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        await self._application(scope, receive, dated)


async def hang_up(request: Request) -> None:
    """Closes the connection once what was written is sent, and returns when it is closed."""
    request.state.connection.transport.close()
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Dropped(Response):
    """What there is to say once the connection is closed: nothing. Counted under status 0."""

    def __init__(self) -> None:
        super().__init__()
        self.status_code = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends nothing."""


class Altered(Response):
    """Another answer, altered on its way out."""

    def __init__(self, response: Response, through: Callable[[Send], Send]) -> None:
        self._response = response
        self._through = through
        self.status_code = response.status_code
        self.raw_headers = response.raw_headers
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope, receive, self._through(send))
