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
}
"""Calls a minute and tenant, by the rows of section 12 that share one quota. ``cancel`` shares that of
``extract``, but is counted apart: cancels come rarely and all at once, and a task that is being killed has no
time to pace them."""

# Of a quota this part may come at once; the rest is paced, so that no minute sees more than the quota.
_BURST_SHARE = 0.02
_BURST_SHARES = {"cancel": 0.5}
_CUT, _MIN_SHARE, _SAME_NEWS_SECONDS = 0.6, 0.01, 10.0
# Where the quota is used up, what all processes got in the last minute fills it, and what this one got is its
# share of it. A little less leaves room for a new process.
_KEPT = 0.9
# Recover by a factor: a fixed step that suits 2 processes would overload the quota with 32.
_REGAIN_PER_MINUTE = 1.3
# No refusal for so long, and in so many calls, means that others have ended and there is room.
_CALM_SECONDS, _CALM_CALLS, _REGAIN_PER_CALM_MINUTE = 10.0, 20, 10.0


class Budget:
    """Paces the calls of one quota.

    Other processes share the quota and cannot be seen; a 429 is all they show of themselves. Each one cuts
    the pace, though not far below what the last minute let through, and calm lets it grow again. So many
    processes together settle at the quota, each at a like share of it.

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
        self._updated = self._cut_at = self._refused_at = clock()
        self._calls_since = 0  # the last refusal
        self._sent: deque[float] = deque()  # when the calls of the last minute went out, less those refused
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take a place in the queue.

        :returns: seconds to wait before the call may be made.
        """
        with self._lock:
            self._advance()
            self._tokens -= 1.0
            self._calls_since += 1
            delay = max(-self._tokens / self._rate, 0.0)
            self._sent.append(self._updated + delay)
            return delay

    def throttled(self) -> None:
        """The service said 429: go slower, at once and for a while.

        Its window is a minute: what follows soon is the same news, not worse.
        """
        with self._lock:
            self._advance()
            self._refused_at, self._calls_since = self._updated, 0
            if self._sent:
                self._sent.pop()
            if self._updated - self._cut_at >= _SAME_NEWS_SECONDS or self._rate == self._full_rate:
                proven = _KEPT * len(self._sent) / 60.0
                cut = max(self._rate * _CUT, self._full_rate * _MIN_SHARE, proven)
                self._rate = min(self._rate, cut)
                self._cut_at = self._updated
            self._tokens = min(self._tokens, 0.0)

    @property
    def per_minute(self) -> float:
        """The pace at this moment."""
        return self._rate * 60.0

    def _advance(self) -> None:
        now = self._clock()
        elapsed = now - self._updated
        self._updated = now
        self._tokens = min(self._tokens + elapsed * self._rate, self._burst)
        calm = now - self._refused_at >= _CALM_SECONDS and self._calls_since >= _CALM_CALLS
        # Half an hour regains everything from the least share.
        regained = (_REGAIN_PER_CALM_MINUTE if calm else _REGAIN_PER_MINUTE) ** min(elapsed / 60.0, 30.0)
        self._rate = min(self._rate * regained, self._full_rate)
        while self._sent and self._sent[0] <= now - 60.0:
            self._sent.popleft()


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
