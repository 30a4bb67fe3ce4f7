"""Fault switches: rules that make the stand-in fail on purpose, the same way each time.

A rule says which call it spoils, for which asset, how often, and how. Rules are data: they come from the
command line (``--fault``), from ``/admin/faults``, or from a test that assigns ``standin.behaviour.faults``.
"""

from __future__ import annotations

import asyncio
import json
import time
import unicodedata
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, TypeAdapter, ValidationError
from starlette.responses import HTMLResponse, Response

from vod.standin.errors import RefusedError
from vod.standin.faults.connections import Dropped, hang_up
from vod.standin.faults.downloads import Cut, NoRange, Short, Slow, WrongLength
from vod.standin.faults.rules import Call, CallFault, Fault

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from vod.standin.library import Asset

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


MAX_TITLE = 128
"""Bytes of a title (section 12)."""


class FaultError(ValueError):
    """A rule that cannot be understood; the text says why."""


# Faults of calls


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
        if not body:
            return response  # a file
        return Response(body[: len(body) // 2], response.status_code, media_type=response.media_type)


class RevokeTokens(Fault):
    """Tokens issued before this rule was set are no longer good (401 APIGW.0307); new ones are."""

    everywhere: ClassVar[Collection[str]] = ()

    fault: Literal["revoke_tokens"] = "revoke_tokens"
    call: Literal["token"] = "token"
    _since: float = PrivateAttr(default_factory=time.time)

    def revokes(self, issued: float) -> bool:
        return issued <= self._since and self.strikes(tuple)


# Faults of one asset


class ElementFault(Fault):
    """Spoils the element of an asset in asset/info or asset/list. *count* is for each asset."""

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
    call: Literal["info", "list"] = "info"  # type: ignore[assignment]

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


class Malformed(ElementFault):
    """A *field* of the element, or of its ``base_info``, has another *value* than the contract allows."""

    fault: Literal["malformed"] = "malformed"
    call: Literal["info", "list"] = "info"  # type: ignore[assignment]
    field: str = "create_time"
    value: Any = "yesterday"

    def concerns(self, asset: Asset | None) -> bool:
        return asset is not None

    def spoil(self, element: dict[str, Any]) -> dict[str, Any]:
        base = element.get("base_info", {})
        if self.field in base:
            return {**element, "base_info": {**base, self.field: self.value}}
        return {**element, self.field: self.value}


class Retitled(ElementFault):
    """The title is shown as a service may keep it: without blanks around it, cut at 128 bytes, normalised."""

    fault: Literal["retitled"] = "retitled"
    call: Literal["info", "list"] = "list"  # type: ignore[assignment]
    style: Literal["trimmed", "cut", "NFC", "NFD"] = "trimmed"

    def concerns(self, asset: Asset | None) -> bool:
        return asset is not None

    def spoil(self, element: dict[str, Any]) -> dict[str, Any]:
        shown = element.get("base_info", element)
        if self.style == "trimmed":
            title = " ".join(shown["title"].split())
        elif self.style == "cut":
            title = shown["title"].encode()[:MAX_TITLE].decode(errors="replace")
        else:
            title = unicodedata.normalize(self.style, shown["title"])
        if shown is element:
            return {**element, "title": title}
        return {**element, "base_info": {**shown, "title": title}}


class Fail(Fault):
    """The extraction of a source, a ``pull`` or the recognition of ``speech`` fails with *reason*.

    *count* is for each source, title or audio.
    """

    everywhere: ClassVar[Collection[str]] = ()

    fault: Literal["fail"] = "fail"
    call: Literal["extraction", "pull", "speech"] = "extraction"
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
    | Malformed
    | Retitled
    | Fail
    | Duplicate
    | Forge
    | Prose,
    Field(discriminator="fault"),
]

_RULES: TypeAdapter[Any] = TypeAdapter(list[AnyFault])


def read(rules: Any) -> list[Fault]:
    """Rules from a JSON list, or from one object.

    :raises FaultError: they cannot be read.
    """
    try:
        found: list[Fault] = _RULES.validate_python(rules if isinstance(rules, list) else [rules])
    except ValidationError as error:
        raise FaultError(sentence(error)) from None
    return found


def parse(text: str) -> Fault:
    """A rule from the command line: ``drop,call=extract_audio,count=1``, or a JSON object.

    :raises FaultError: it cannot be read.
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
