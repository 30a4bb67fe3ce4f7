"""Alerts reach a webhook, render no data, and no log has the address."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from tests.webhook import SECRET_PATH, Webhook, listening
from vod import notifications
from vod.notifications import VodNotifier

RUN = "manual__2026-11-24T10:00:00+00:00"
COUNTS = "| outcome | assets |\n|---|---:|\n| extracted | 58 |\n| not_found | 2 |"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notifications, "_unanswered_at", {})
    with listening() as server:
        monkeypatch.setenv("AIRFLOW_CONN_VOD_ALERTS", server.connection(**{"X-Team": "media"}))
        yield server


def sync(notifier: VodNotifier, context: dict[str, Any]) -> None:
    """As Airflow does it for the callback of a DAG or of a task."""
    notifier(context)


def in_an_event_loop(notifier: VodNotifier, context: dict[str, Any]) -> None:
    """As the triggerer does it for a deadline alert: the context is given with the arguments."""

    async def await_it() -> None:
        options = {"message": notifier.message, "timeout": notifier.timeout}
        await VodNotifier(http_conn_id=notifier.http_conn_id, context=context, **options)

    asyncio.run(await_it())


BOTH = pytest.mark.parametrize("send", [sync, in_an_event_loop])
Send = Callable[[VodNotifier, dict[str, Any]], None]


def context(report: str | None = None, **more: Any) -> dict[str, Any]:
    ti = SimpleNamespace(
        xcom_pull=lambda task_ids, key: report if (task_ids, key) == ("report", "report") else 0
    )
    known = {"dag": DAG("extract_new_assets", schedule=None), "run_id": RUN, "reason": "task_failure"}
    return {**known, "ti": ti, **more}


def texts(webhook: Webhook) -> list[str]:
    return [body["text"] for _, body, _ in webhook.posts]


def test_an_alert_names_the_run_its_counts_and_its_page(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    sync(VodNotifier(), context(f"{COUNTS}\n\n| asset | outcome | |\n|---|---|---|\n| a | extracted | |"))
    [(path, body, team)] = webhook.posts
    assert (path, team) == (SECRET_PATH, "media")
    assert body["text"].splitlines() == [
        f"extract_new_assets: run {RUN} failed (task_failure).",
        *COUNTS.splitlines(),
        "https://airflow.example/dags/extract_new_assets/runs/manual__2026-11-24T10%3A00%3A00%2B00%3A00",
    ]


def test_a_run_without_a_report_has_an_alert_as_well(webhook: Webhook) -> None:
    notifier = VodNotifier()
    sync(notifier, context(None, reason="timed_out"))
    without_task = context()
    del without_task["ti"]
    sync(notifier, without_task)
    of_a_task = context(exception=RuntimeError("2 of 60 assets failed:\n  one\n  two"))
    del of_a_task["reason"]
    sync(notifier, of_a_task)

    def unreadable(**_: Any) -> None:
        raise RuntimeError("no API server")

    sync(notifier, context(ti=SimpleNamespace(xcom_pull=unreadable)))
    said = [text.splitlines()[0].partition(" failed")[2] for text in texts(webhook)]
    assert said == [" (timed_out).", " (task_failure).", " (2 of 60 assets failed).", " (task_failure)."]


def test_a_missed_deadline_has_an_alert(webhook: Webhook) -> None:
    """The triggerer gives a context without DAG and task."""
    given = {"dag_run": {"dag_id": "extract_new_assets", "dag_run_id": RUN}, "deadline": {"id": "1"}}
    in_an_event_loop(VodNotifier(), given)
    [text] = texts(webhook)
    assert text.startswith(f"extract_new_assets: run {RUN} missed its deadline.\n")


@BOTH
def test_the_message_is_the_authors_template(webhook: Webhook, send: Send) -> None:
    message = "Call {{ dag.owner or 'us' }}: {{ alert.dag_id }} {{ alert.event }}"
    send(VodNotifier(message=message), context())
    assert texts(webhook) == ["Call us: extract_new_assets failed (task_failure)"]


def test_what_a_run_says_is_never_rendered(webhook: Webhook) -> None:
    """Airflow calls one notifier for several failed runs, and a report holds names from outside."""
    code = "{{ 7 * 191 }}"
    notifier = VodNotifier()
    for number in range(2):
        given = context(f"| {code} | 1 |", exception=RuntimeError(code), reason="", run_id=f"run {number}")
        sync(notifier, given)
    for number, text in enumerate(texts(webhook)):
        assert text.splitlines()[:2] == [
            f"extract_new_assets: run run {number} failed ({code}).",
            f"| {code} | 1 |",
        ]
    assert notifier.message == notifications.DEFAULT_MESSAGE


@BOTH
def test_without_the_connection_no_alert_is_sent(
    send: Send, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_VOD_ALERTS", raising=False)
    with caplog.at_level(logging.INFO, "vod.notifications"):
        send(VodNotifier(), context())
        send(VodNotifier(http_conn_id="of_another_team"), context())
    assert "No alert sent: connection vod_alerts is not set up." in caplog.text
    assert "No alert sent: connection of_another_team is not set up." in caplog.text


@BOTH
def test_a_webhook_that_does_not_answer_holds_nobody_up(
    webhook: Webhook, send: Send, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = VodNotifier(timeout=0.3)
    webhook.silent.set()
    began = time.monotonic()
    try:
        for _ in range(10):
            send(notifier, context())
        assert time.monotonic() - began < 2, "ten runs that failed together cost as much as one"
    finally:
        webhook.silent.clear()
    assert len(webhook.posts) == 1
    assert caplog.text.count("did not answer within 0.3 s") == 1
    assert caplog.text.count("did not answer less than 60 s ago") == 9

    monkeypatch.setattr(notifications, "_PAUSE", 0.0)
    send(notifier, context())
    assert len(webhook.posts) == 2, "tried again later"


@BOTH
@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (200, ""),
        (302, "answered HTTP 302"),
        (404, "answered HTTP 404"),
        (500, "answered HTTP 500"),
        (None, "could not be reached (ConnectionError)"),
    ],
)
def test_no_log_contains_the_address_whatever_happens(
    webhook: Webhook,
    send: Send,
    status: int | None,
    sentence: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if status:
        webhook.status = status
    else:
        nobody = webhook.connection(f"http://127.0.0.1:1{SECRET_PATH}")
        monkeypatch.setenv("AIRFLOW_CONN_VOD_ALERTS", nobody)
    with caplog.at_level(logging.DEBUG):
        send(VodNotifier(), context())
    assert sentence in caplog.text
    assert ("No alert sent: the webhook of connection vod_alerts" in caplog.text) == (status != 200)
    assert "very-secret" not in caplog.text


@BOTH
def test_a_wrong_template_costs_the_alert_alone(
    webhook: Webhook, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    send(VodNotifier(message="{{ alert.no.such.thing }}"), context())
    assert "No alert sent: the template of the message is wrong" in caplog.text
    assert not webhook.posts


def test_the_event_loop_goes_on_while_an_alert_is_sent(webhook: Webhook) -> None:
    webhook.silent.set()

    async def turns_while_sending() -> int:
        alert = asyncio.ensure_future(VodNotifier(timeout=0.3).async_notify(context()))  # type: ignore[arg-type]
        turns = 0
        while not alert.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    try:
        assert asyncio.run(turns_while_sending()) > 5
    finally:
        webhook.silent.clear()


@BOTH
@pytest.mark.parametrize("extra", ["[1]", "not JSON", '{"timeout": "soon"}'])
def test_an_odd_connection_costs_the_alert_alone_and_shows_no_address(
    webhook: Webhook,
    send: Send,
    extra: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = {**json.loads(webhook.connection()), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_ALERTS", json.dumps(odd))
    with caplog.at_level(logging.DEBUG):
        send(VodNotifier(), context())
    assert "very-secret" not in caplog.text
    assert bool(webhook.posts) != ("No alert sent: the webhook of connection vod_alerts" in caplog.text)
