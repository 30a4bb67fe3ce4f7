"""Calls are counted by quota and minute, and refused above it."""

from __future__ import annotations

import pytest

from vod.standin.errors import RefusedError
from vod.standin.quotas import QUOTAS, Quotas, Stats
from vod.standin.settings import Behaviour


def used_up(quotas: Quotas, quota: str) -> int:
    """How many calls pass before the first one is refused."""
    passed = 0
    while passed < 10_000 and not is_refused(quotas, quota):
        passed += 1
    return passed


def is_refused(quotas: Quotas, quota: str) -> bool:
    try:
        quotas.take(quota)
    except RefusedError:
        return True
    return False


@pytest.mark.parametrize(("quota", "calls"), QUOTAS.items())
def test_a_class_has_its_quota_in_any_sixty_seconds(quota, calls):
    now = 0.0
    quotas = Quotas(Behaviour(), clock=lambda: now)
    assert used_up(quotas, quota) == calls
    now = 59.9
    assert used_up(quotas, quota) == 0
    now = 60.0
    assert used_up(quotas, quota) == calls


def test_classes_do_not_share():
    quotas = Quotas(Behaviour(), clock=lambda: 0.0)
    used_up(quotas, "extract")
    assert used_up(quotas, "info") == 1500


def test_the_message_names_the_limit_in_force():
    quotas = Quotas(Behaviour(quota_scale=0.02), clock=lambda: 0.0)
    assert used_up(quotas, "extract") == 2
    with pytest.raises(RefusedError, match="policy user over ratelimit,limit:2,time:1 minute") as refused:
        quotas.take("extract")
    assert (refused.value.status, refused.value.code) == (429, "APIGW.0308")


def test_quotas_can_be_switched_off_while_running():
    behaviour = Behaviour()
    quotas = Quotas(behaviour, clock=lambda: 0.0)
    used_up(quotas, "extract")
    behaviour.quota_scale = 0
    quotas.take("extract")


def test_the_peak_is_the_busiest_minute():
    now = 0.0
    stats = Stats(clock=lambda: now)
    for moment in (0, 1, 59, 61, 200):
        now = float(moment)
        stats.arrived("info")
        stats.answered("info", 200)
    assert stats.to_json()["calls"]["info"] == {"total": 5, "by_status": {"200": 5}, "peak_per_minute": 3}
