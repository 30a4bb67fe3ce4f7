"""Pace: inside the quotas alone, near them together (contract, section 12). In virtual time."""

from __future__ import annotations

import pytest

from benchmarks.pace import simulate, together
from tests.conftest import client_of
from vod.cloud.budget import QUOTAS, Budget, budget_of
from vod.cloud.errors import ThrottledError
from vod.standin import Standin
from vod.standin.faults import parse


def test_one_process_is_never_refused_and_uses_the_quota() -> None:
    passed, refused = simulate(1, 30)
    assert sum(refused) == 0
    assert min(passed[0]) >= 95


@pytest.mark.parametrize(
    ("processes", "most_refused"), [(2, 0.05), (4, 0.05), (8, 0.05), (16, 0.05), (32, 0.08)]
)
def test_many_processes_settle_near_the_quota_and_few_calls_are_refused(
    processes: int, most_refused: float
) -> None:
    passed, refused = simulate(processes, 60)
    settled = slice(10, None)
    used = sum(together(passed)[settled])
    assert used >= 0.95 * 50 * QUOTAS["extract"], "the quota is used"
    assert sum(refused[settled]) <= most_refused * (used + sum(refused[settled]))


def test_who_comes_late_gets_a_share_of_a_quota_that_is_used_up() -> None:
    passed, _ = simulate(4, 30, begin=(0, 0, 0, 10))
    assert sum(passed[3][12:22]) >= 0.5 * 10 * QUOTAS["extract"] / 4
    assert sum(together(passed)[12:]) >= 0.95 * 18 * QUOTAS["extract"]


def test_what_others_leave_is_taken_within_minutes() -> None:
    passed, refused = simulate(4, 25, end=(10, 10, 10, 25))
    assert sum(passed[3][18:]) >= 0.95 * 7 * QUOTAS["extract"]
    assert sum(refused[11:]) == 0


def test_shares_that_fit_are_never_refused() -> None:
    passed, refused = simulate(4, 30, share=0.25)
    assert sum(refused) == 0
    assert min(together(passed)) >= 80


@pytest.mark.parametrize(("refusals", "minutes"), [(1, 2), (5, 20), (1000, 45)])
def test_calls_that_pass_regain_the_whole_pace(refusals: int, minutes: int) -> None:
    now = 0.0
    budget = Budget(100, clock=lambda: now)
    full = budget.per_minute
    for _ in range(refusals):
        now += max(budget.reserve(), 10)
        budget.throttled()
    assert 0.0074 * full <= budget.per_minute <= 0.76 * full
    began = now
    while budget.per_minute < full:
        now += budget.reserve()
        assert now - began < minutes * 60


def test_what_was_learnt_long_ago_is_forgotten() -> None:
    now = 0.0
    budget = Budget(100, clock=lambda: now)
    full = budget.per_minute
    budget.reserve()
    budget.throttled()
    now += 299
    budget.reserve()
    assert budget.per_minute < full
    now += 301
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
