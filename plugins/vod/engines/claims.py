"""What an engine asks of the register: which assets it may work on, and what becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vod.engines import ClaimedElsewhereError, Outcomes, QuotaUsedUpError
from vod.locations import public_name
from vod.logs import get_logger
from vod.records import AssetFailure, PostponedExtraction, SubmittedExtraction, parse_record

if TYPE_CHECKING:
    from vod.library.register import Claims, Entry, Made, Register

log = get_logger(__name__)

_LONGEST_PAUSE = 300.0


class EngineClaims:
    """The claims of one task, in the terms of an engine.

    :param register: What all tasks know together.
    :param force: Extract again what is known.
    :param pause: Seconds until what another task works on is looked at again, unless the trigger sees a
        change before; doubled each time, up to 300.
    :param made: Looks at what another engine has made; ``None`` if this task has no other.
    :param report: Gets messages about how far the batch is.
    """

    def __init__(
        self,
        register: Register,
        *,
        force: bool = False,
        made: Made | None = None,
        pause: float = 15.0,
        report: Callable[[str], None] = log.info,
    ) -> None:
        self.register = register
        self.force = force
        self._made = made
        self._pause = pause
        self._report = report

    def ask(
        self,
        assets: Sequence[str],
        postponed: Mapping[str, PostponedExtraction],
        *,
        superseded: Mapping[str, str | None] | None = None,
    ) -> Claims:
        """Ask to work on assets.

        :param postponed: What became of assets before.
        :param superseded: Audio assets that are of no use any more, by asset.
        """
        # What waits for the quota was claimed before it was left: its claim is looked at when it is sent.
        held = {asset for asset in assets if asset in postponed and waits_for_quota(postponed[asset])}
        claims = self.register.claim(
            [asset for asset in assets if asset not in held],
            superseded=superseded,
            waited_for={asset: outcome.holder for asset, outcome in postponed.items() if outcome.holder},
            made=self._made,
            force=self.force,
        )
        claims.granted |= dict.fromkeys(held)
        return claims

    def shared(self, extraction: SubmittedExtraction, entry: Entry) -> SubmittedExtraction:
        """An extraction that the register knows, with the task that has submitted it if it was another."""
        by = entry.holder or entry.ended_by or "another task"
        return extraction if by == self.register.holder else replace(extraction, submitted_by=by)

    def fail(self, asset: str, failure: AssetFailure) -> None:
        """There can be no audio. Where another engine tries next, the claim stays until that has ended."""
        if self._made is None or not failure.other_engine:
            self.register.fail(asset, failure.to_json())

    def taken_by_others(self, claims: Claims, postponed: Mapping[str, PostponedExtraction]) -> Outcomes:
        """What becomes of assets that another task works on, or that are not for this engine any more."""
        outcomes: Outcomes = {
            asset: parse_record(entry.failure or {}) for asset, entry in claims.failed.items()
        } | claims.made
        if claims.elsewhere:
            holders = sorted({entry.holder or "" for entry in claims.elsewhere.values()})
            self._report(f"{len(claims.elsewhere)} assets are being extracted by {', '.join(holders)}.")
        for asset, entry in claims.elsewhere.items():
            outcomes[asset] = self.waiting_for(asset, entry.holder or "", postponed)
        return outcomes

    def waiting_for(
        self, asset: str, holder: str, postponed: Mapping[str, PostponedExtraction]
    ) -> PostponedExtraction:
        """The outcome of an asset that another task works on.

        :param holder: That task.
        """
        tries = postponed[asset].tries if asset in postponed else 0
        failure = AssetFailure.from_error(public_name(asset), ClaimedElsewhereError(holder))
        return PostponedExtraction(
            asset=public_name(asset),
            again=time.time() + min(self._pause * 2**tries, _LONGEST_PAUSE),
            tries=tries + 1,
            watch=False,
            failure=failure.to_json(),
            holder=holder,
            key=self.register.key(asset),
        )


def waits_for_quota(outcome: PostponedExtraction) -> bool:
    """Whether an asset only waits for its turn in the quota."""
    return bool(outcome.failure["outcome"] == QuotaUsedUpError.outcome)
