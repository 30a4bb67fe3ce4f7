"""What VOD's clock shows is known, with its error, from the dates of its answers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import client_of
from vod.cloud import clock
from vod.cloud.clock import TOLERANCE, ServiceClock
from vod.standin import Standin


def observe(service: ServiceClock, ahead: float, sent: float, took: float, *, stale: float = 0.0) -> None:
    """An answer of a service whose clock is so far ahead; it was written half-way."""
    written = sent + took / 2 + ahead - stale
    service.observe(float(int(written)), sent=sent, received=sent + took)


def test_without_an_answer_the_clocks_are_equal_within_what_vod_puts_up_with() -> None:
    service = ServiceClock()
    assert (service.offset, service.error) == (0.0, TOLERANCE)


@given(
    ahead=st.floats(-1e6, 1e6),
    answers=st.lists(
        st.tuples(st.floats(0, 100), st.floats(0.001, 30), st.floats(0, 0.99)), min_size=1, max_size=30
    ),
)
def test_the_true_offset_is_within_the_error(ahead: float, answers: list[tuple[float, float, float]]) -> None:
    service, now = ServiceClock(), 1_700_000_000.0
    for pause, took, stale in answers:
        observe(service, ahead, now, took, stale=stale)
        now += pause + took
        assert abs(service.offset - ahead) <= service.error + 1e-6
    assert service.error <= 1 + max(took for _, took, _ in answers)


def test_many_answers_tell_more_than_one() -> None:
    service = ServiceClock()
    observe(service, 600.5, 1000.0, 0.01)
    first = service.error
    for number in range(100):
        observe(service, 600.5, 1001.0 + number * 0.37, 0.01)
    assert service.error < first * 0.6


@pytest.mark.parametrize("jump", [-3600.0, 40.0])
def test_a_clock_that_is_set_is_noticed(jump: float) -> None:
    service = ServiceClock()
    for number in range(5):
        observe(service, 0.0, 1000.0 + number, 0.01)
    observe(service, jump, 1010.0, 0.01)
    assert service.offset == pytest.approx(jump, abs=2)


def test_a_clock_that_is_set_back_while_an_answer_is_waited_for_says_nothing() -> None:
    service = ServiceClock()
    service.observe(1000.0, sent=1000.0, received=900.0)
    assert service.error == TOLERANCE


@pytest.mark.parametrize("ahead", [-600, 0, 600])
def test_the_clients_of_an_endpoint_learn_it_from_any_answer(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(clock, "_clocks", {})
    standin.behaviour.clock_ahead = ahead
    first, second = client_of(standin), client_of(standin)
    first.asset_info(["f" * 32])
    assert second.clock.offset == pytest.approx(ahead, abs=2)
    assert second.clock.error < 5
    assert second.clock.of(1000.0) == pytest.approx(1000 + ahead, abs=2)
    assert second.clock.time() == pytest.approx(time.time() + ahead, abs=2)
