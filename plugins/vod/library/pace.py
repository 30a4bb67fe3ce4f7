"""How many submissions VOD takes now, counted by all tasks together (contract, section 12).

VOD allows so many extractions in any minute and tenant. Tasks on many workers share them by one value in the
register's store: who sent how many when. A task takes what is left of the minute, sends it at once, and
leaves its worker slot until there is room again. A task that finds no store paces itself
(:mod:`vod.cloud.budget`).
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from vod.library.register import Store

_WINDOW = 61.0
"""Seconds after which a submission counts no more: VOD's minute, and a second for what is on its way."""
_USED_SHARE = 0.98
"""Part of the quota that is used: two clocks, and people at the console."""
SETTLING = 1.0
"""Seconds before a reservation is read back: longer than a write takes."""
_TRIES = 3
PAUSE = 15.0
"""Seconds for which nothing is sent once VOD has refused."""


class Pace:
    """What one tenant's tasks have sent in the last minute.

    :param store: The store of the register.
    :param project: Gives the project whose quota it is.
    :param per_minute: Submissions that VOD takes in a minute.
    """

    def __init__(
        self,
        store: Store,
        project: Callable[[], str],
        per_minute: float,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._project = project
        self._limit = max(1, int(per_minute * _USED_SHARE))
        self._clock = clock
        self._sleep = sleep

    @cached_property
    def _key(self) -> str:
        return f"pace_{hashlib.sha256(self._project().encode()).hexdigest()[:32]}"

    def take(self, wanted: int) -> tuple[int, float]:
        """Reserve submissions, to be sent at once.

        :returns: how many, and in how many seconds there is room for more.
        """
        for _ in range(_TRIES):
            sent, taken_by = self._read()
            free = self._limit - sum(count for _, count in sent)
            count = min(wanted, free)
            if count <= 0:
                return 0, self._until_room(sent, wanted)
            token = uuid4().hex
            now = self._clock()
            self._write([*sent, (now, count)], token)
            self._sleep(SETTLING)
            sent, taken_by = self._read()
            if taken_by == token:
                return count, self._until_room(sent, wanted - count)
            # Another task has written at the same moment: whoever was last has it.
            self._sleep(random.uniform(0.0, SETTLING))  # noqa: S311 - no secret
        return 0, random.uniform(2.0, 10.0)  # noqa: S311 - no secret

    def refused(self, count: int) -> None:
        """VOD says that its quota is used up: others use it as well. All tasks leave it alone for a while.

        :param count: How many of a reservation were not taken.
        """
        self.give_back(count)
        sent, token = self._read()
        by_others = self._limit - sum(count for _, count in sent)
        if by_others > 0:
            until = self._clock() + PAUSE
            self._write([(until - _WINDOW, by_others), *sent], token or "")

    def give_back(self, count: int) -> None:
        """Return a part of a reservation that was not sent."""
        sent, token = self._read()
        for position in reversed(range(len(sent))):
            at, reserved = sent[position]
            part = min(reserved, count)
            sent[position] = (at, reserved - part)
            count -= part
        self._write([entry for entry in sent if entry[1]], token or "")

    def _until_room(self, sent: list[tuple[float, int]], wanted: int) -> float:
        """Seconds until there is room for *wanted*, or for a quarter of the quota if that is less."""
        if wanted <= 0:
            return 0.0
        needed = min(wanted, max(1, self._limit // 4)) - (self._limit - sum(count for _, count in sent))
        for at, count in sent:
            if needed <= 0:
                break
            needed -= count
            room_at = at + _WINDOW
            if needed <= 0:
                return max(room_at - self._clock(), 0.0)
        return 0.0 if needed <= 0 else _WINDOW

    def _read(self) -> tuple[list[tuple[float, int]], str | None]:
        value = self._store.get(self._key)
        now = self._clock()
        if not isinstance(value, dict):
            return [], None
        # A time that lies ahead is that of a clock that is fast.
        sent = [(min(float(at), now), int(count)) for at, count in value.get("sent", ())]
        return [(at, count) for at, count in sent if now - at < _WINDOW], value.get("by")

    def _write(self, sent: list[tuple[float, int]], token: str) -> None:
        self._store.set(self._key, {"sent": [[round(at, 3), count] for at, count in sent], "by": token})
