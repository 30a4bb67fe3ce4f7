from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from vod import alerts

SECRET_PATH = "/services/T0/B0/very-secret"


class Webhook(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.posts: list[tuple[str, dict[str, Any], str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{SECRET_PATH}"


class _Answer(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, json.loads(body), self.headers.get("X-Team")))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **extra: str) -> None:
    connection = {"conn_type": "http", "host": url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_ALERTS", json.dumps(connection))


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
    connect(monkeypatch, webhook.url, **{"X-Team": "media"})
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    counts = "| outcome | assets |\n|---|---:|\n| extracted | 58 |\n| not_found | 2 |"
    alerts.run_failed(context(f"{counts}\n\n| asset | outcome | |\n|---|---|---|\n| a | extracted | |"))
    [(path, body, team)] = webhook.posts
    assert (path, team) == (SECRET_PATH, "media")
    assert body["text"].splitlines() == [
        "extract_new_assets: run manual__2026-11-24T10:00:00+00:00 failed (task_failure).",
        *counts.splitlines(),
        "https://airflow.example/dags/extract_new_assets/runs/manual__2026-11-24T10%3A00%3A00%2B00%3A00",
    ]


def test_a_run_that_came_to_no_report_is_told_as_well(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, webhook.url)
    alerts.run_failed(context(None, reason="timed_out"))
    without_task = context()
    del without_task["ti"]
    alerts.run_failed(without_task)
    assert ["timed_out" in body["text"] for _, body, _ in webhook.posts] == [True, False]


def test_without_the_connection_nobody_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_VOD_ALERTS", raising=False)
    with caplog.at_level(logging.INFO, "vod.alerts"):
        alerts.run_failed(context())
    assert "no connection vod_alerts" in caplog.text


@pytest.mark.parametrize("status", [404, 500, None])
def test_an_alert_that_is_not_delivered_costs_nothing_and_tells_no_secret(
    webhook: Webhook, status: int | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, webhook.url if status else f"http://127.0.0.1:1{SECRET_PATH}")
    webhook.status = status or 200
    with caplog.at_level(logging.INFO):
        alerts.run_failed(context())
    assert f"not delivered ({f'HTTP {status}' if status else 'ConnectionError'})" in caplog.text
    assert "very-secret" not in caplog.text
