"""Calls per minute: the quotas of section 12, and the counters of ``GET /admin/stats``."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any

from vod.standin.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vod.standin.settings import Behaviour

QUOTAS = {
    "extract": 100,
    "info": 1500,
    "details and list": 1500,
    "search": 1500,
    "upload": 1500,
    "pull": 100,
    "change": 100,
    "speech": 600,
}
"""Calls per minute and tenant, one entry for each row of the table of section 12; ``speech`` is that of SIS,
which documents none."""


class Quotas:
    """Lets through at most the quota of each class in any 60 seconds."""

    def __init__(self, behaviour: Behaviour, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._behaviour = behaviour
        self._clock = clock
        self._passed: dict[str, deque[float]] = defaultdict(deque)

    def take(self, quota: str) -> None:
        """:raises RefusedError: the class is used up (429)."""
        passed = self._passed[quota]
        now = self._clock()
        _forget(passed, now)
        scale = self._behaviour.quota_scale
        limit = max(1, round(QUOTAS[quota] * scale))
        if scale and len(passed) >= limit:
            raise RefusedError.throttled(limit)
        passed.append(now)


class Stats:
    """What the stand-in was asked since it started."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self._peaks: Counter[str] = Counter()
        self.cancels: Counter[str] = Counter(source=0, audio=0)

    def arrived(self, call: str) -> None:
        recent = self._recent[call]
        now = self._clock()
        recent.append(now)
        _forget(recent, now)
        self._peaks[call] = max(self._peaks[call], len(recent))

    def answered(self, call: str, status: int) -> None:
        self._statuses[call][status] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": {
                call: {
                    "total": statuses.total(),
                    "by_status": {str(status): count for status, count in sorted(statuses.items())},
                    "peak_per_minute": self._peaks[call],
                }
                for call, statuses in sorted(self._statuses.items())
            },
            "cancels_by_id": dict(self.cancels),
        }


def _forget(moments: deque[float], now: float) -> None:
    while moments and moments[0] <= now - 60:
        moments.popleft()
