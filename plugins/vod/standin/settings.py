"""The settings of a start, and the behaviour that can be changed while the stand-in runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from vod.standin.faults import Missing, NoAsset, Urlless
from vod.standin.faults.rules import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    Kind = TypeVar("Kind", bound=Fault)

FinalStatus = Literal["CREATED", "TRANSCODE_SUCCEED", "PUBLISHED"]


def _polls(kind: type[NoAsset | Missing | Urlless]) -> property:
    """The count of the one rule of this *kind*; setting it sets the rule."""

    def get(behaviour: Behaviour) -> int:
        return next((rule.count or 0 for rule in behaviour.faults if type(rule) is kind), 0)

    def set_(behaviour: Behaviour, polls: int) -> None:
        others = [rule for rule in behaviour.faults if type(rule) is not kind]
        behaviour.faults = [*others, kind(count=polls)] if polls else others

    return property(get, set_)


@dataclass(kw_only=True)
class Behaviour:
    """What the contract leaves open or the real service does now and then. May change at run time.

    :param final_status: What a finished audio asset shows (section 5.3 documents none).
    :param refusal_status: 403 gives the codes that the documentation lists with both (VOD.10053, 10062,
        10083) their other status. Calls whose page says 403 answer 403 either way.
    :param queue_seconds: Least time in WAITING_TRANSCODE, where an extraction can be cancelled. Seconds.
    :param running_seconds: Least time in TRANSCODING. Seconds.
    :param notification_retry_seconds: Wait before the second attempt to deliver a notification; later waits
        grow to 32 times that. Seconds.
    :param quota_scale: Factor on the quotas per minute of section 12; 0 switches them off.
    :param clock_ahead: Seconds by which its clock is ahead of this machine's; negative if it is behind.
    :param list_lag: Seconds until asset/list shows a new asset.
    :param link_seconds: Lifetime of pre-signed storage URLs. Seconds.
    :param cdn_serves_unpublished: Section 6 says that the CDN refuses unpublished assets; ``True`` serves
        them all the same.
    :param faults: Rules of :mod:`vod.standin.faults`. ``no_asset_polls``, ``missing_polls`` and
        ``urlless_polls`` are short for a rule that spoils so many polls of each new audio asset.
    """

    final_status: FinalStatus = "CREATED"
    refusal_status: Literal[400, 403] = 400
    queue_seconds: float = 0
    running_seconds: float = 0
    notification_retry_seconds: float = 1
    quota_scale: float = 1
    clock_ahead: float = 0
    list_lag: float = 0
    link_seconds: int = 3600
    cdn_serves_unpublished: bool = False
    faults: list[Fault] = field(default_factory=list)

    no_asset_polls = _polls(NoAsset)
    missing_polls = _polls(Missing)
    urlless_polls = _polls(Urlless)

    def now(self) -> float:
        """What its clock shows, seconds since the epoch."""
        return time.time() + self.clock_ahead

    def rules(self, kind: type[Kind], call: str) -> Iterator[Kind]:
        """Rules of this *kind* that may strike in a *call*, in their order."""
        return (rule for rule in self.faults if isinstance(rule, kind) and rule.at(call))


@dataclass(kw_only=True)
class StandinSettings:
    """Where the stand-in listens and keeps its library, and whom it knows.

    :param data: Folder of the library; made when it is missing.
    :param port: 0 takes a free port.
    :param workers: Extractions at a time.
    :param virtual: Extractions do no work and write no file; they take ``Behaviour.running_seconds``. Those
        of virtual assets are like that in any case.
    :param speech_model: Whisper model that recognises speech for the calls of SIS; it has to be installed.
    :param subscribers: URLs that are invited to subscribe to notifications.
    :param public_url: Under which subscribers reach the stand-in, where that is not host and port.
    :param names: Hosts under which callers reach it, besides those of this machine and ``host``.
    :param admin_token: What callers of ``/admin`` must show. When ``None``, nothing if ``host`` is this
        machine, else one that is made up (:attr:`vod.standin.server.Standin.admin_token`).
    :param pull_from: Prefixes of URLs that it may pull from. When ``None``, from this machine if ``host`` is
        this machine, else from nowhere.
    :param notify: Prefixes of URLs that it may send notifications to besides ``subscribers``, likewise.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    access_key: str = "STANDINDEMOACCESSKEY"
    secret_key: str = field(default="standin-demo-secret-key", repr=False)
    project_id: str = "0123456789abcdef0123456789abcdef"
    region: str = "cn-north-4"
    account: str = "standin"
    user: str = "demo"
    password: str = field(default="standin-demo-password", repr=False)
    workers: int = 2
    virtual: bool = False
    speech_model: str = "base"
    subscribers: list[str] = field(default_factory=list)
    public_url: str | None = None
    names: list[str] = field(default_factory=list)
    admin_token: str | None = field(default=None, repr=False)
    pull_from: list[str] | None = None
    notify: list[str] | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
