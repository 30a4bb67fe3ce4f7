"""Tells people when a run has failed: the callbacks of the sample DAGs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Thread
from typing import Any
from urllib.parse import quote

log = logging.getLogger(__name__)

CONNECTION = "vod_alerts"
"""Airflow connection of type ``http`` to an incoming webhook; without it nobody is told."""

_TIMEOUT = 10.0
"""Seconds for an alert. While callbacks run, Airflow does not parse the file of their DAG, and a DAG that was
not parsed for 50 s is taken off (``[dag_processor] stale_dag_threshold``)."""

_PAUSE = 60.0
"""Seconds in which a webhook that did not answer is not tried again: Airflow calls back for one failed run
after the other."""

_unanswered_at = float("-inf")


def run_failed(context: Any) -> None:
    """Post what failed to the webhook: an ``on_failure_callback``, of a DAG or of its last task.

    The body is ``{"text": ...}``, as Slack, Mattermost, Google Chat and others take it. As a DAG's it is also
    called for a run that took longer than its ``dagrun_timeout``; as a task's also by ``airflow dags test``,
    which ends in an error of its own if the DAG has a callback and a param without default (Airflow 3.3.2).
    An alert that cannot be delivered is logged and costs nothing else.

    :param context: What Airflow gives to callbacks.
    """
    from airflow.providers.http.hooks.http import HttpHook  # slow to import, and DAG files import this
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        hook = HttpHook(http_conn_id=CONNECTION)
        # Not HttpHook.run: it logs the address, which is the secret of a webhook.
        session = hook.get_conn()
        url, text = hook.base_url, _text(context)
        _in_time(lambda: session.post(url, json={"text": text}, timeout=_TIMEOUT).raise_for_status())
    except AirflowNotFoundException:
        log.info("There is no connection %s: nobody is told.", CONNECTION)
    except Exception as error:  # noqa: BLE001 - its words have the address, too
        answer = getattr(error, "response", None)
        cause = type(error).__name__ if answer is None else f"HTTP {answer.status_code}"
        log.warning("The alert was not delivered (%s): check the connection %s.", cause, CONNECTION)


def _in_time(send: Callable[[], None]) -> None:
    """Send, or give up. The limit of requests begins anew with each byte, and looking up a host has none.

    :raises TimeoutError: there is no answer, or was none a moment ago.
    """
    global _unanswered_at
    from requests import Timeout  # slow to import

    if time.monotonic() - _unanswered_at < _PAUSE:
        raise TimeoutError
    sent: Future[None] = Future()

    def run() -> None:
        try:
            send()
            sent.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised again by result()
            sent.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        sent.result(_TIMEOUT)
    except (FutureTimeout, Timeout):
        _unanswered_at = time.monotonic()
        raise TimeoutError from None


def _text(context: Any) -> str:
    from airflow.sdk.configuration import conf

    dag, run = context["dag"].dag_id, context["run_id"]
    reason = context.get("reason") or str(context.get("exception", "")).partition("\n")[0].rstrip(":.")
    lines = [f"{dag}: run {run} failed ({reason})."]
    if ti := context.get("ti"):  # Airflow leaves it out if it knows no task that explains the failure
        report = ti.xcom_pull(task_ids="report", key="report")
        lines += [report.partition("\n\n")[0]] if report else []
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return "\n".join([*lines, f"{base}/dags/{quote(dag)}/runs/{quote(run)}"])
