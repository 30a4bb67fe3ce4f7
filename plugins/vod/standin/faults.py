"""Fault switches: rules that make the stand-in fail on purpose, the same way each time.

A rule says which call it spoils, for which asset, how often, and how. Rules are data: they come from the
command line (``--fault``), from ``/admin/faults``, or from a test that assigns ``standin.behaviour.faults``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from fnmatch import fnmatchcase
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError
from starlette.responses import HTMLResponse, Response

from vod.standin.refusals import RefusedError
from vod.standin.wire import Altered, Dropped, hang_up

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request
    from starlette.types import Message as Asgi
    from starlette.types import Send

    from vod.standin.library import Asset

ApiCall = Literal[
    "extract_audio",
    "cancel_extract_audio",
    "info",
    "details",
    "list",
    "create",
    "confirm",
    "authority",
    "upload_by_url",
    "reproduction",
    "publish",
    "unpublish",
    "delete",
]
Download = Literal["storage download", "cdn download"]
Upload = Literal[
    "storage upload",
    "multipart initiate",
    "multipart part",
    "multipart list",
    "multipart complete",
    "multipart abort",
]
Message = Literal["smn certificate", "smn confirm", "smn unsubscribe"]
Call = Literal[ApiCall, Download, Upload, Message, "token", "projects"]
"""Calls by the names that ``GET /admin/stats`` counts them under."""

CALLS: tuple[str, ...] = get_args(Call)
DOWNLOADS: tuple[str, ...] = get_args(Download)

ServerStatus = Annotated[
    Literal[500, 502, 503, 504],
    BeforeValidator(lambda value: int(value) if str(value).isdecimal() else value),
]

_GATEWAY = {
    500: ("0601", "Internal server error."),
    502: ("0201", "Backend unavailable."),
    503: ("0613", "IAM is unavailable."),
    504: ("0201", "Backend timeout."),
}
_PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n"
    "<center><h1>{0}</h1></center>\r\n<hr><center>proxy</center>\r\n</body>\r\n</html>\r\n"
)


class FaultError(ValueError):
    """A rule that cannot be understood; the text says why."""


class Fault(BaseModel):
    """One rule.

    :param call: Name of the call, as in ``/admin/stats``; ``*`` for all that this fault can spoil.
    :param asset: Only where this asset is concerned: its id, its source's id or its title; ``*`` and ``?``
        are wildcards.
    :param percent: Share of the cases that are spoiled, picked by a generator that starts with *seed*.
    :param count: Only the first cases; for faults of one asset (``by_asset``) the first of each asset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    everywhere: ClassVar[Collection[str]] = CALLS
    """What ``*`` stands for."""

    fault: str
    call: str = "*"
    asset: str | None = None
    percent: float | None = Field(default=None, gt=0, le=100)
    count: int | None = Field(default=None, ge=1)
    seed: int = 0

    _dice: Random = PrivateAttr()
    _struck: Counter[str] = PrivateAttr(default_factory=Counter)

    def model_post_init(self, _: Any) -> None:
        self._dice = Random(f"{self.seed} {self.fault} {self.call}")  # noqa: S311 - to be repeated, not guessed

    def at(self, call: str) -> bool:
        return call == self.call or (self.call == "*" and call in self.everywhere)

    def strikes(self, names: Callable[[], Collection[str]], key: str = "") -> bool:
        """Whether this case is spoiled; if so, it counts.

        :param names: What the concerned assets are called.
        :param key: What the *count* is for.
        """
        if self.count is not None and self._struck[key] >= self.count:
            return False
        if self.asset is not None and not any(
            name == self.asset or fnmatchcase(name, self.asset) for name in names()
        ):
            return False
        if self.percent is not None and self._dice.random() * 100 >= self.percent:
            return False
        self._struck[key] += 1
        return True

    def to_json(self) -> dict[str, Any]:
        """The rule, and how often it struck."""
        return {**self.model_dump(exclude_defaults=True), "fault": self.fault, "hits": self._struck.total()}


# Faults of calls


class CallFault(Fault):
    """Spoils a call, before it is carried out or after."""

    call: Literal["*", Call] = "*"

    async def before(self, request: Request) -> Response | None:
        """An answer in place of the call.

        :raises RefusedError: another one.
        """
        return None

    async def after(self, request: Request, response: Response) -> Response:
        """What becomes of the answer of a call that was carried out."""
        return response


class Latency(CallFault):
    """The answer comes *seconds* late; an ``extraction`` or a ``pull`` takes longer.

    A ``notification`` that is late is overtaken by others.
    """

    fault: Literal["latency"] = "latency"
    call: Literal["*", Call, "extraction", "pull", "notification"] = "*"  # type: ignore[assignment]
    seconds: float = Field(default=1, ge=0, le=3600)

    async def before(self, request: Request) -> None:
        await asyncio.sleep(self.seconds)


class Throttle(CallFault):
    """429 APIGW.0308, as when others use up the quota; with ``Retry-After`` if *retry_after* (s) is given."""

    fault: Literal["throttle"] = "throttle"
    retry_after: int | None = Field(default=None, ge=0)

    async def before(self, request: Request) -> None:
        raise RefusedError.throttled(100, retry_after=self.retry_after)


class Refuse(CallFault):
    """The service says no with *code*: VOD.10120 arrears, VOD.10099 blocked, VOD.10111 no permission, ..."""

    fault: Literal["refuse"] = "refuse"
    code: str = Field(pattern=r"^(VOD|VST|APIGW|APIG)\.[0-9]{4,9}$")
    status: int | None = Field(default=None, ge=400, le=599)

    async def before(self, request: Request) -> None:
        gateway = self.code.startswith("APIG")
        raise RefusedError(self.code, status=self.status or (401 if gateway else None))


class Instead(CallFault):
    """Something else comes in place of the answer. With *accepted* the call is carried out all the same."""

    accepted: bool = False

    async def answer(self, request: Request) -> Response:
        raise NotImplementedError

    async def before(self, request: Request) -> Response | None:
        return None if self.accepted else await self.answer(request)

    async def after(self, request: Request, response: Response) -> Response:
        return await self.answer(request) if self.accepted else response


class Error(Instead):
    """The gateway answers *status* with its envelope."""

    fault: Literal["error"] = "error"
    status: ServerStatus = 502

    async def answer(self, request: Request) -> Response:
        return RefusedError.gateway(self.status, *_GATEWAY[self.status]).response(request.state.request_id)


class Page(Instead):
    """A proxy answers *status* with an HTML page."""

    fault: Literal["page"] = "page"
    status: ServerStatus = 502

    async def answer(self, request: Request) -> Response:
        return HTMLResponse(_PAGE.format(f"{self.status} {HTTPStatus(self.status).phrase}"), self.status)


class Drop(Instead):
    """The connection is closed without an answer: with *accepted*, the lost 202.

    A ``notification`` is lost.
    """

    fault: Literal["drop"] = "drop"
    call: Literal["*", Call, "notification"] = "*"  # type: ignore[assignment]

    async def answer(self, request: Request) -> Response:
        await hang_up(request)
        return Dropped()


class Truncate(CallFault):
    """The answer stops in the middle, with a Content-Length that agrees: JSON that cannot be parsed."""

    fault: Literal["truncate"] = "truncate"

    async def after(self, request: Request, response: Response) -> Response:
        body = bytes(getattr(response, "body", b""))
        return Response(body[: len(body) // 2], response.status_code, media_type=response.media_type)


class RevokeTokens(Fault):
    """Tokens issued before this rule was set are no longer good (401 APIGW.0307); new ones are."""

    everywhere: ClassVar[Collection[str]] = ()

    fault: Literal["revoke_tokens"] = "revoke_tokens"
    call: Literal["token"] = "token"
    _since: float = PrivateAttr(default_factory=time.time)

    def revokes(self, issued: float) -> bool:
        return issued <= self._since and self.strikes(tuple)


# Faults of downloads


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

        async def slowly(message: Asgi) -> None:
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

        async def some(message: Asgi) -> None:
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

        async def part(message: Asgi) -> None:
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
        async def promising(message: Asgi) -> None:
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
        async def whole(message: Asgi) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != b"accept-ranges"]
                message = {**message, "headers": headers}
            await send(message)

        return whole


def _with_length(message: Asgi, change: Callable[[int], int]) -> Asgi:
    headers = [
        (name, str(change(int(value))).encode() if name == b"content-length" else value)
        for name, value in message["headers"]
    ]
    return {**message, "headers": headers}


# Faults of one asset


class ElementFault(Fault):
    """Spoils the element of an asset in asset/info. *count* is for each asset."""

    everywhere: ClassVar[Collection[str]] = ()

    call: Literal["info"] = "info"

    def concerns(self, asset: Asset | None) -> bool:
        """``None`` is an id that the library does not know."""
        return asset is not None and asset.source is not None

    def spoil(self, element: dict[str, Any]) -> dict[str, Any] | None:
        """The element, as it is shown; ``None`` leaves it out."""
        raise NotImplementedError


class Hiding(ElementFault):
    """A peculiarity of the first polls. Of several such rules, one strikes at a time."""


class NoAsset(Hiding):
    """A new audio asset is NO_ASSET at first."""

    fault: Literal["no_asset"] = "no_asset"

    def spoil(self, element: dict[str, Any]) -> dict[str, Any]:
        return {"asset_id": element["asset_id"], "status": "NO_ASSET", "description": "no asset"}


class Missing(Hiding):
    """A new audio asset is left out at first."""

    fault: Literal["missing"] = "missing"

    def spoil(self, element: dict[str, Any]) -> None:
        return None


class Urlless(Hiding):
    """A ready audio asset has no ``video_url`` at first."""

    fault: Literal["urlless"] = "urlless"

    def concerns(self, asset: Asset | None) -> bool:
        return asset is not None and super().concerns(asset) and asset.ready

    def spoil(self, element: dict[str, Any]) -> dict[str, Any]:
        base = {name: value for name, value in element["base_info"].items() if name != "video_url"}
        return {**element, "base_info": base}


class Spelling(ElementFault):
    """The status is spelled in another way, or is *shows*, whatever it is."""

    fault: Literal["spelling"] = "spelling"
    style: Literal["lower", "title", "blank", "noasset"] = "blank"
    shows: str | None = None

    def concerns(self, asset: Asset | None) -> bool:
        return True

    def spoil(self, element: dict[str, Any]) -> dict[str, Any]:
        status = element["status"]
        spelled = {
            "lower": status.lower(),
            "title": status.title(),
            "blank": f" {status}",
            "noasset": "NOASSET" if status == "NO_ASSET" else status,
        }
        return {**element, "status": self.shows or spelled[self.style]}


class Fail(Fault):
    """The extraction of a source, or a ``pull``, fails with *reason*. *count* is for each source or title."""

    everywhere: ClassVar[Collection[str]] = ()

    fault: Literal["fail"] = "fail"
    call: Literal["extraction", "pull"] = "extraction"
    reason: str = "VOD.100021010: the transcoding task failed"


# Faults of notifications


class NotificationFault(Fault):
    everywhere: ClassVar[Collection[str]] = ()

    call: Literal["notification"] = "notification"


class Duplicate(NotificationFault):
    """The same message comes twice."""

    fault: Literal["duplicate"] = "duplicate"


class Forge(NotificationFault):
    """The signature is of something else."""

    fault: Literal["forge"] = "forge"


class Prose(NotificationFault):
    """The message is a sentence instead of JSON, as when only the text template is ticked."""

    fault: Literal["prose"] = "prose"


AnyFault = Annotated[
    Latency
    | Throttle
    | Refuse
    | Error
    | Page
    | Drop
    | Truncate
    | RevokeTokens
    | Slow
    | Cut
    | Short
    | WrongLength
    | NoRange
    | NoAsset
    | Missing
    | Urlless
    | Spelling
    | Fail
    | Duplicate
    | Forge
    | Prose,
    Field(discriminator="fault"),
]

_RULE: TypeAdapter[Any] = TypeAdapter(AnyFault)
_RULES: TypeAdapter[Any] = TypeAdapter(list[AnyFault])


def read(rules: Any) -> list[Fault]:
    """Rules from a JSON list, or from one object.

    :raises FaultError: they are none.
    """
    try:
        found: list[Fault] = _RULES.validate_python(rules if isinstance(rules, list) else [rules])
    except ValidationError as error:
        raise FaultError(sentence(error)) from None
    return found


def parse(text: str) -> Fault:
    """A rule from the command line: ``drop,call=extract_audio,count=1``, or a JSON object.

    :raises FaultError: it is none.
    """
    if text.lstrip().startswith("{"):
        try:
            return read(json.loads(text))[0]
        except json.JSONDecodeError as error:
            raise FaultError(f"not a JSON object: {error}") from None
    kind, *pairs = text.split(",")
    if not all("=" in pair for pair in pairs):
        raise FaultError("after the fault come pairs like call=info,count=3")
    fields = dict(pair.split("=", 1) for pair in pairs)
    return read({**fields, "fault": kind})[0]


def sentence(error: ValidationError) -> str:
    """What is wrong, field by field."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        problems.append(f"{where}: {problem['msg']}")
    return "; ".join(problems)
