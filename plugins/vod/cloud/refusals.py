"""When to call again after VOD refused a credential: rarely, so that its lock can end (section 1.1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vod.cloud.errors import AccountError, AuthenticationError, ForbiddenError
from vod.cloud.identity import Login
from vod.cloud.signing import Credentials

CONCERNS_THE_ACCOUNT = (AuthenticationError, ForbiddenError, AccountError)
"""Refusals that concern the account, not the asset: the next call would be refused as well."""

FIRST_PAUSE = 60.0
"""Seconds after the first refusal; doubled with each further one. Five failures in a row lock a key."""
LONGEST_PAUSE = 300.0
"""As long as the lock lasts."""


class Refusals:
    """What this process knows about one credential: whether VOD refuses it, and when to ask again.

    Waiting tasks heed it. A call that is made all the same, such as the first of a task, is not held up.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pause = 0.0
        self._until = 0.0

    def refused(self) -> None:
        """VOD refused the credential. What was sent before the pause began is the same news."""
        with self._lock:
            now = self._clock()
            if now >= self._until:
                self._pause = longer(self._pause)
                self._until = now + self._pause

    def accepted(self) -> None:
        """VOD accepted the credential."""
        self._pause = self._until = 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds until a call is worth making; 0 if VOD does not refuse the credential."""
        return max(self._until - self._clock(), 0.0)


def longer(pause: float) -> float:
    """The pause after *pause*, in seconds."""
    return min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)


_refusals: dict[tuple[str, Credentials | Login], Refusals] = {}
_refusals_lock = threading.Lock()


def refusals_of(endpoint: str, credentials: Credentials | Login) -> Refusals:
    """What all clients of this process share. A credential that was replaced starts afresh."""
    with _refusals_lock:
        return _refusals.setdefault((endpoint, credentials), Refusals())
