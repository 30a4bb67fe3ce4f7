"""Faults of downloads: what can happen to a file on its way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vod.standin.faults.connections import Altered, hang_up
from vod.standin.faults.rules import DOWNLOADS, CallFault, Download

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Message, Send


class DownloadFault(CallFault):
    """Spoils what storage or the content network sends."""

    everywhere: ClassVar[Collection[str]] = DOWNLOADS

    call: Literal["*", Download] = "*"

    async def after(self, request: Request, response: Response) -> Response:
        return Altered(response, lambda send: self.through(request, send))

    def through(self, request: Request, send: Send) -> Send:
        """A way to send that spoils what passes."""
        raise NotImplementedError


class Slow(DownloadFault):
    """The content comes slowly."""

    fault: Literal["slow"] = "slow"
    bytes_per_second: int = Field(default=10_000, ge=1)

    def through(self, request: Request, send: Send) -> Send:
        step = max(1, self.bytes_per_second // 10)

        async def slowly(message: Message) -> None:
            body = message.get("body", b"")
            while len(body) > step:
                await send({"type": message["type"], "body": body[:step], "more_body": True})
                body = body[step:]
                await asyncio.sleep(step / self.bytes_per_second)
            await send({**message, "body": body} if body else message)

        return slowly


class Cut(DownloadFault):
    """The connection is closed after *after_bytes* of the content."""

    fault: Literal["cut"] = "cut"
    after_bytes: int = Field(default=1000, ge=0)

    def through(self, request: Request, send: Send) -> Send:
        left = self.after_bytes

        async def some(message: Message) -> None:
            nonlocal left
            if message["type"] != "http.response.body":
                return await send(message)
            body = message.get("body", b"")
            await send({"type": message["type"], "body": body[:left], "more_body": True})
            left -= min(left, len(body))
            if left == 0:
                await hang_up(request)
            elif not message.get("more_body"):
                await send({"type": message["type"], "more_body": False})
            return None

        return some


class Short(DownloadFault):
    """Only *only_bytes* are served, with a Content-Length that agrees: nothing but the size betrays it."""

    fault: Literal["short"] = "short"
    only_bytes: int = Field(default=1000, ge=0)

    def through(self, request: Request, send: Send) -> Send:
        left = self.only_bytes

        async def part(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                await send(_with_length(message, lambda length: min(length, self.only_bytes)))
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")[:left]
                left -= len(body)
                await send({**message, "body": body})

        return part


class WrongLength(DownloadFault):
    """Content-Length promises *extra_bytes* more than come."""

    fault: Literal["wrong_length"] = "wrong_length"
    extra_bytes: int = Field(default=1000, ge=1)

    def through(self, request: Request, send: Send) -> Send:
        async def promising(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(_with_length(message, lambda length: length + self.extra_bytes))
            elif message["type"] == "http.response.body":
                await send({**message, "more_body": True})
                if not message.get("more_body"):
                    await hang_up(request)

        return promising


class NoRange(DownloadFault):
    """``Range`` is ignored: the whole content comes with status 200."""

    fault: Literal["no_range"] = "no_range"

    async def before(self, request: Request) -> None:
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]

    def through(self, request: Request, send: Send) -> Send:
        async def whole(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != b"accept-ranges"]
                message = {**message, "headers": headers}
            await send(message)

        return whole


def _with_length(message: Message, change: Callable[[int], int]) -> Message:
    headers = [
        (name, str(change(int(value))).encode() if name == b"content-length" else value)
        for name, value in message["headers"]
    ]
    return {**message, "headers": headers}
