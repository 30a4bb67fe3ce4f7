"""All tasks together use VOD's quota and stay inside it, however many there are."""

from __future__ import annotations

import heapq
import random
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from tests.conftest import DictStore
from vod.library import pace as pace_module
from vod.library.pace import Pace

QUOTA = 100


class Vod:
    """Takes so many submissions in any 60 seconds."""

    def __init__(self) -> None:
        self.taken: deque[float] = deque()
        self.accepted: list[float] = []
        self.refused = 0

    def submit(self, now: float) -> bool:
        while self.taken and self.taken[0] <= now - 60:
            self.taken.popleft()
        if len(self.taken) >= QUOTA:
            self.refused += 1
            return False
        self.taken.append(now)
        self.accepted.append(now)
        return True


@pytest.mark.parametrize("tasks", [1, 2, 8, 32])
def test_tasks_together_use_the_quota_and_are_hardly_ever_refused(tasks: int) -> None:
    store, vod, dice = DictStore(), Vod(), random.Random(tasks)
    now = 0.0
    pace = Pace(store, lambda: "project", QUOTA, clock=lambda: now, sleep=lambda _: None)
    order = count()
    # A task is resumed some seconds late: that is what starting it takes.
    queue = [(dice.uniform(0, 5), next(order), 2000 // tasks) for _ in range(tasks)]
    heapq.heapify(queue)
    while queue:
        now, _, left = heapq.heappop(queue)
        taken, seconds = pace.take(left)
        sent_at = now + 1.0
        for _ in range(taken):
            sent_at += 0.07
            left -= vod.submit(sent_at)
        if left:
            late = dice.uniform(0.0, 3.0)
            heapq.heappush(queue, (max(now + seconds + late, sent_at + late), next(order), left))
    total = len(vod.accepted) + vod.refused
    steady = [at for at in vod.accepted if at > 60]
    assert len(vod.accepted) == 2000 // tasks * tasks
    assert vod.refused / total < 0.05
    assert len(steady) / (steady[-1] - steady[0]) * 60 >= 0.9 * QUOTA


def test_two_that_take_at_the_same_moment_do_not_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "SETTLING", 0.2)
    store = DictStore()

    def take(_: int) -> int:
        return Pace(store, lambda: "project", QUOTA).take(60)[0]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, range(4)))
    assert max(taken) > 0
    assert sum(taken) <= QUOTA


def test_what_was_not_sent_is_given_back() -> None:
    pace = Pace(DictStore(), lambda: "project", QUOTA, sleep=lambda _: None)
    assert pace.take(98) == (98, 0.0)
    assert pace.take(1)[0] == 0
    pace.give_back(40)
    assert pace.take(50)[0] == 40


def test_once_vod_refuses_all_pause_and_what_was_not_taken_is_free_again() -> None:
    now, store = 1000.0, DictStore()

    def pace() -> Pace:
        return Pace(store, lambda: "project", QUOTA, clock=lambda: now, sleep=lambda _: None)

    pace().take(98)
    pace().refused(90)  # somebody else has used it up
    assert pace().take(50) == (0, pytest.approx(15.0))
    now += 15.5
    assert pace().take(98)[0] == 90


def test_room_is_expected_when_what_was_sent_first_is_a_minute_old() -> None:
    now = 1000.0
    pace = Pace(DictStore(), lambda: "project", QUOTA, clock=lambda: now, sleep=lambda _: None)
    pace.take(98)
    now += 20
    assert pace.take(5) == (0, pytest.approx(41.0))


def test_a_clock_that_is_fast_blocks_nobody_for_longer_than_a_minute() -> None:
    now, store = 1000.0, DictStore()
    Pace(store, lambda: "project", QUOTA, clock=lambda: now + 600, sleep=lambda _: None).take(98)
    assert 0 < Pace(store, lambda: "project", QUOTA, clock=lambda: now).take(98)[1] <= 61
