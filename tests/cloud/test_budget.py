"""Pace: inside the quotas alone, near them together (contract, section 12). In virtual time."""

from __future__ import annotations

import heapq
import random

import pytest

from tests.conftest import client_of
from vod.cloud.budget import QUOTAS, Budget, budget_of
from vod.cloud.errors import ThrottledError
from vod.standin import Standin
from vod.standin.errors import RefusedError
from vod.standin.faults import parse
from vod.standin.quotas import Quotas
from vod.standin.settings import Behaviour


def simulate(
    processes: int,
    minutes: int,
    *,
    share: float = 1.0,
    begin: tuple[int, ...] = (),
    end: tuple[int, ...] = (),
) -> tuple[list[list[int]], list[int]]:
    """Processes that call as often as they may.

    :param begin: Minute in which each process begins; otherwise all begin at once.
    :param end: Minute in which each process ends; otherwise none does.
    :returns: calls of each process that the stand-in passed in each minute, and all that it refused.
    """
    now, dice = 0.0, random.Random(1)
    gateway = Quotas(Behaviour(), clock=lambda: now)
    budgets = [Budget(QUOTAS["extract"] * share, clock=lambda: now) for _ in range(processes)]
    passed, refused = [[0] * minutes for _ in budgets], [0] * minutes
    starts = begin or [0] * processes
    arrivals = [(starts[number] * 60.0, number, 0) for number in range(processes)]
    heapq.heapify(arrivals)
    for budget in budgets:
        budget.reserve()
    while arrivals[0][0] < minutes * 60:
        now, number, tries = heapq.heappop(arrivals)
        if end and now >= end[number] * 60:
            continue
        pause, tries = 0.0, tries + 1
        try:
            gateway.take("extract")
        except RefusedError:
            refused[int(now // 60)] += 1
            budgets[number].throttled()
            pause = dice.uniform(0.0, min(2.0 ** (tries - 1), 30.0))  # as the client repeats itself
        else:
            passed[number][int(now // 60)] += 1
            tries = 0
        arrival = now + pause
        before, now = now, arrival
        heapq.heappush(arrivals, (arrival + budgets[number].reserve(), number, tries))
        now = before
    return passed, refused


def together(passed: list[list[int]]) -> list[int]:
    return [sum(minute) for minute in zip(*passed, strict=True)]


def test_one_process_is_never_refused_and_uses_the_quota() -> None:
    passed, refused = simulate(1, 30)
    assert sum(refused) == 0
    assert min(passed[0]) >= 95


@pytest.mark.parametrize("processes", [2, 4, 8, 32])
def test_many_processes_settle_near_the_quota(processes: int) -> None:
    passed, refused = simulate(processes, 30)
    settled = slice(10, None)
    used = sum(together(passed)[settled])
    assert used >= 0.95 * 20 * QUOTAS["extract"], "the quota is used"
    assert sum(refused[settled]) <= 0.25 * used, "and not stormed"


def test_who_comes_late_gets_a_share_of_a_quota_that_is_used_up() -> None:
    passed, _ = simulate(4, 30, begin=(0, 0, 0, 10))
    assert sum(passed[3][12:22]) >= 0.5 * 10 * QUOTAS["extract"] / 4
    assert sum(together(passed)[12:]) >= 0.95 * 18 * QUOTAS["extract"]


def test_what_others_leave_is_soon_taken() -> None:
    passed, _ = simulate(4, 20, end=(10, 10, 10, 20))
    assert sum(passed[3][12:]) >= 0.9 * 8 * QUOTAS["extract"]


def test_shares_that_fit_are_never_refused() -> None:
    passed, refused = simulate(4, 30, share=0.25)
    assert sum(refused) == 0
    assert min(together(passed)) >= 80


@pytest.mark.parametrize(("refusals", "minutes"), [(1, 2), (5, 10), (1000, 18)])
def test_calm_regains_the_whole_pace(refusals: int, minutes: int) -> None:
    now = 0.0
    budget = Budget(100, clock=lambda: now)
    full = budget.per_minute
    for _ in range(refusals):
        now += 10
        budget.throttled()
    assert 0.0099 * full <= budget.per_minute <= 0.61 * full
    now += minutes * 60
    budget.reserve()
    assert budget.per_minute == full


def test_a_storm_of_refusals_counts_once() -> None:
    now = 100.0
    budget = Budget(100, clock=lambda: now)
    budget.throttled()
    once = budget.per_minute
    for _ in range(9):
        now += 1
        budget.throttled()
    assert once <= budget.per_minute < 1.05 * once


def test_calls_that_share_a_quota_share_a_budget(standin: Standin) -> None:
    assert budget_of("a", "info", 50) is budget_of("a", "info", 50)
    others = [("b", "info", 50), ("a", "list", 50), ("a", "info", 25)]
    assert len({id(budget_of(*other)) for other in [*others, ("a", "info", 50)]}) == 4


def test_a_client_that_is_refused_slows_down(standin: Standin) -> None:
    standin.behaviour.faults = [parse("throttle,call=info,count=1")]
    budget = budget_of(f"{standin.url}/{standin.settings.project_id}", "info", 1500.0)
    full = budget.per_minute
    with pytest.raises(ThrottledError):
        client_of(standin, quota_share=1.0, retry_seconds=0.0).asset_info(["a"])
    assert budget.per_minute < full
