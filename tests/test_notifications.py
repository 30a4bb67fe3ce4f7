from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.webhook import SECRET_PATH, Webhook, listening
from vod import notifications


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notifications, "_unanswered_at", float("-inf"))
    with listening() as server:
        monkeypatch.setenv("AIRFLOW_CONN_VOD_ALERTS", server.connection(**{"X-Team": "media"}))
        yield server


def context(report: str | None = None, **more: Any) -> dict[str, Any]:
    ti = SimpleNamespace(
        xcom_pull=lambda task_ids, key: report if (task_ids, key) == ("report", "report") else 0
    )
    run = "manual__2026-11-24T10:00:00+00:00"
    known = {"dag": SimpleNamespace(dag_id="extract_new_assets"), "run_id": run, "reason": "task_failure"}
    return {**known, "ti": ti, **more}


def test_a_failed_run_is_told_with_its_counts_and_where_to_look(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    counts = "| outcome | assets |\n|---|---:|\n| extracted | 58 |\n| not_found | 2 |"
    notifications.run_failed(
        context(f"{counts}\n\n| asset | outcome | |\n|---|---|---|\n| a | extracted | |")
    )
    [(path, body, team)] = webhook.posts
    assert (path, team) == (SECRET_PATH, "media")
    assert body["text"].splitlines() == [
        "extract_new_assets: run manual__2026-11-24T10:00:00+00:00 failed (task_failure).",
        *counts.splitlines(),
        "https://airflow.example/dags/extract_new_assets/runs/manual__2026-11-24T10%3A00%3A00%2B00%3A00",
    ]


def test_a_run_that_came_to_no_report_is_told_as_well(webhook: Webhook) -> None:
    notifications.run_failed(context(None, reason="timed_out"))
    without_task = context()
    del without_task["ti"]
    notifications.run_failed(without_task)
    of_a_task = context(exception=RuntimeError("2 of 60 assets failed:\n  one\n  two"))
    del of_a_task["reason"]
    notifications.run_failed(of_a_task)
    said = [body["text"].splitlines()[0].partition(" failed")[2] for _, body, _ in webhook.posts]
    assert said == [" (timed_out).", " (task_failure).", " (2 of 60 assets failed)."]


def test_without_the_connection_nobody_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_VOD_ALERTS", raising=False)
    with caplog.at_level(logging.INFO, "vod.notifications"):
        notifications.run_failed(context())
    assert "no connection vod_alerts" in caplog.text


def test_a_webhook_that_does_not_answer_holds_nobody_up(
    webhook: Webhook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "_TIMEOUT", 0.3)
    webhook.silent.set()
    began = time.monotonic()
    try:
        for _ in range(10):
            notifications.run_failed(context())
        assert time.monotonic() - began < 2, "ten runs that failed together cost as much as one"
    finally:
        webhook.silent.clear()
    assert len(webhook.posts) == 1
    assert caplog.text.count("not delivered (TimeoutError)") == 10
    assert "very-secret" not in caplog.text

    monkeypatch.setattr(notifications, "_PAUSE", 0.0)
    notifications.run_failed(context())
    assert len(webhook.posts) == 2, "tried again later"


@pytest.mark.parametrize("status", [404, 500, None])
def test_an_alert_that_is_not_delivered_costs_nothing_and_tells_no_secret(
    webhook: Webhook, status: int | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if status:
        webhook.status = status
    else:
        nobody = webhook.connection(f"http://127.0.0.1:1{SECRET_PATH}")
        monkeypatch.setenv("AIRFLOW_CONN_VOD_ALERTS", nobody)
    with caplog.at_level(logging.INFO):
        notifications.run_failed(context())
    assert f"not delivered ({f'HTTP {status}' if status else 'ConnectionError'})" in caplog.text
    assert "very-secret" not in caplog.text
