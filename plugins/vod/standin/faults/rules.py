"""Rules: which call is to go wrong, for which asset, and how often. :mod:`vod.standin.faults` says how."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request
    from starlette.responses import Response

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
    "push_transcriber_jobs",
    "collect_transcriber_job",
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


class Fault(BaseModel):
    """One rule.

    :param call: Name of the call, as in ``/admin/stats``; ``*`` for all that this fault can spoil.
    :param asset: Only where this asset is concerned: its id, its source's id or its title; ``*`` and ``?``
        are wildcards.
    :param percent: Share of the cases that are spoiled, picked by a generator that starts with *seed*.
    :param count: Only the first cases; for a fault of an asset, the first of each asset.
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
