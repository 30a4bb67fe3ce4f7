"""How often a process calls VOD: inside the tenant's quotas, less when others use them up (section 12)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

QUOTAS = {
    "extract": 100,
    "cancel": 100,
    "info": 1500,
    "list": 1500,
    "upload": 1500,
    "pull": 100,
    "manage": 100,
    "speech": 600,
}
"""Calls a minute and tenant, by the rows of section 12 that share one quota. ``cancel`` shares that of
``extract``, but is counted apart: cancels come rarely and all at once, and a task that is being killed has no
time to pace them. ``speech`` is that of SIS,
which documents none: other calls of it take some tens a second."""

# Of a quota this part may come at once; the rest is paced, so that no minute sees more than the quota.
_BURST_SHARE = 0.02
_BURST_SHARES = {"cancel": 0.5}
# A refusal cuts the pace to this part of it. The pace returns to where it was refused along a cubic curve,
# as in TCP CUBIC (RFC 9438): soon near it, long just below it, then beyond it ever faster, since others may
# have ended. How many refusals there are depends on the calls that this takes alone, not on how many share.
_KEPT = 0.75
_CALLS_TO_RETURN = 60.0
_BEYOND = 8.0
# The slower a process, the fewer calls: so that shares grow alike. Its power, and the share at which it is 1.
_CATCHING_UP, _USUAL_SHARE = 0.5, 0.18
_SECONDS_AS_ONE_CALL = 8.0  # for one that hardly calls at all
# Many refusals in a minute mean that the pace is far from what is left over: then what passed is the measure.
_MANY, _LEAST_KEPT, _MIN_SHARE = 4, 0.3, 0.01
_SAME_NEWS_SECONDS = 10.0
_FORGOTTEN_SECONDS = 300.0


class Budget:
    """Paces the calls of one quota.

    Other processes share the quota and cannot be seen; a 429 is all they show of themselves. Each one cuts
    the pace, which then returns slowly to where it was refused. So many processes together settle at the
    quota, with one call in twenty to fifty refused.

    :param quota: Calls a minute that this process may make at most.
    :param burst_share: Part of them that may come at once.
    """

    def __init__(
        self,
        quota: float,
        burst_share: float = _BURST_SHARE,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = max(1.0, quota * burst_share)
        self._full_rate = max(quota - self._burst, quota * 0.5) / 60.0
        self._rate = self._full_rate
        self._clock = clock
        self._tokens = self._burst
        self._updated = self._cut_at = clock()
        self._refused_rate: float | None = None  # the pace that was refused; none was lately
        self._returned = 0.0  # calls of the way back to it
        # When the calls of the last minute went out: those that passed, and those refused.
        self._passed: deque[float] = deque()
        self._refused: deque[float] = deque()
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take a place in the queue.

        :returns: seconds to wait before the call may be made.
        """
        with self._lock:
            self._return(self._advance())
            self._tokens -= 1.0
            delay = max(-self._tokens / self._rate, 0.0)
            self._passed.append(self._updated + delay)
            return delay

    def throttled(self) -> None:
        """The service said 429: go slower, at once and for a while.

        Its window is a minute: what follows soon is the same news, not worse.
        """
        with self._lock:
            self._advance()
            if self._passed:
                self._passed.pop()
            self._refused.append(self._updated)
            if self._refused_rate is None or self._updated - self._cut_at >= _SAME_NEWS_SECONDS:
                refused_rate = self._rate
                if len(self._refused) >= _MANY:
                    share = len(self._passed) / (len(self._passed) + len(self._refused))
                    refused_rate *= max(share, _LEAST_KEPT)
                self._refused_rate = max(refused_rate, self._full_rate * _MIN_SHARE)
                self._rate = self._refused_rate * _KEPT
                self._returned = 0.0
                self._cut_at = self._updated
            self._tokens = min(self._tokens, 0.0)

    @property
    def per_minute(self) -> float:
        """The pace at this moment."""
        return self._rate * 60.0

    def _return(self, elapsed: float) -> None:
        """Come nearer to the pace that was refused by one call, or go further beyond it."""
        if self._refused_rate is None:
            return
        by_call = (_USUAL_SHARE * self._full_rate / self._rate) ** _CATCHING_UP
        self._returned += max(by_call, elapsed / _SECONDS_AS_ONE_CALL)
        way = self._returned / _CALLS_TO_RETURN - 1.0
        change = (1.0 - _KEPT) * way**3 * (_BEYOND if way > 0 else 1.0)
        self._rate = self._refused_rate * (1.0 + change)
        if self._rate >= self._full_rate:
            self._forget()

    def _forget(self) -> None:
        self._rate, self._refused_rate = self._full_rate, None

    def _advance(self) -> float:
        """:returns: seconds since the last time."""
        now = self._clock()
        elapsed = now - self._updated
        self._updated = now
        if elapsed >= _FORGOTTEN_SECONDS:
            self._forget()
        self._tokens = min(self._tokens + elapsed * self._rate, self._burst)
        for moments in (self._passed, self._refused):
            while moments and moments[0] <= now - 60.0:
                moments.popleft()
        return elapsed


_budgets: dict[tuple[str, str, float], Budget] = {}
_budgets_lock = threading.Lock()


def budget_of(service: str, quota: str, per_minute: float) -> Budget:
    """The budget that all clients of this process share.

    :param service: Endpoint and project, whose tenant the quota belongs to.
    :param quota: A key of :data:`QUOTAS`.
    :param per_minute: Calls a minute that this process may make, above 0.
    """
    key = (service, quota, per_minute)
    with _budgets_lock:
        if key not in _budgets:
            _budgets[key] = Budget(per_minute, _BURST_SHARES.get(quota, _BURST_SHARE))
        return _budgets[key]
