"""Tells people when a run has failed: a notifier that posts to the incoming webhook of a chat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier

from vod.logs import get_logger

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

log = get_logger(__name__)

DEFAULT_CONNECTION = "vod_alerts"
"""The connection of notifiers that name none. Without it no alert is sent."""

DEFAULT_MESSAGE = (
    "{{ alert.dag_id }}: run {{ alert.run_id }} {{ alert.event }}."
    "{% if alert.counts %}\n{{ alert.counts }}{% endif %}\n{{ alert.url }}"
)

_PAUSE = 60.0
"""Seconds in which a webhook that did not answer is not tried again: Airflow calls back for one failed run
after the other."""

_THREAD = "vod-alert"
"""Name of the threads that send."""

_unanswered_at: dict[str, float] = {}
"""When the webhook of a connection last failed to answer, on the monotonic clock."""


class VodNotifier(BaseNotifier):
    """Post an alert to an incoming webhook, as Slack, Mattermost, Google Chat and others take it.

    Use it as ``on_failure_callback`` of a DAG or of its last task. Only the callback of a DAG is also called
    for a run that takes longer than its ``dagrun_timeout``. Beware of the DAG's callback with ``airflow dags
    test``: it ends with an error of its own if the DAG has a callback and a param without default (Airflow
    3.3.2), so give DAGs with such a form the callback of a task.

    The body is ``{"text": <message>}``. An alert that cannot be delivered is logged and has no other effect:
    neither method raises anything. The address of the webhook is a secret, and no log contains it.

    :param http_conn_id: Airflow connection of type ``http`` whose host is the webhook's whole address. Its
        login and extra count as for Airflow's ``HttpHook``: other keys of the extra become headers.
    :param message: Jinja template of the text, with the variables of Airflow's context and with ``alert``:
        ``dag_id``, ``run_id``, ``event`` (such as ``failed (task_failure)``), ``counts`` (the outcomes of the
        run as a Markdown table, if its task ``report`` has made one; the triggerer cannot ask for it) and
        ``url`` (of the run). What they contain is not rendered again.
    :param timeout: Seconds that an alert may take in all. While callbacks run, Airflow does not parse the
        file of their DAG, and deactivates a DAG that was not parsed for 50 s (``[dag_processor]
        stale_dag_threshold``).
    :param context: Airflow's context, given by Airflow when it awaits the notifier.
    """

    template_fields = ("message",)

    def __init__(
        self,
        *,
        http_conn_id: str = DEFAULT_CONNECTION,
        message: str = DEFAULT_MESSAGE,
        timeout: float = 10.0,
        context: Context | None = None,
    ) -> None:
        super().__init__(context)
        self.http_conn_id = http_conn_id
        self.message = message
        self.timeout = timeout

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Leave the template as it is: :meth:`notify` renders it.

        Airflow would put the text in the place of the template, and call the same notifier for the next
        failed run: that would get the text of the first, with what its errors say rendered as a template.
        """

    def notify(self, context: Context) -> None:
        """Send the alert, for callbacks in the DAG processor or in a task."""
        with _failures_logged(self.http_conn_id, self.timeout):
            self._start(context).result(self.timeout)

    async def async_notify(self, context: Context) -> None:
        """Send the alert, for deadline alerts in the triggerer; no call blocks its event loop."""
        with _failures_logged(self.http_conn_id, self.timeout):
            await asyncio.wait_for(asyncio.wrap_future(self._start(context)), self.timeout)

    def _start(self, context: Any) -> Future[None]:
        """Send in a thread of its own, which may be left behind.

        The time limit of requests begins anew with each byte, and looking up a host has none. The triggerer
        lets threads other than that of its event loop read connections.
        """
        sent: Future[None] = Future()
        if time.monotonic() - _unanswered_at.get(self.http_conn_id, float("-inf")) < _PAUSE:
            sent.set_exception(_NotSentError(f"did not answer less than {_PAUSE:.0f} s ago."))
            return sent

        def run() -> None:
            sent.set_running_or_notify_cancel()
            try:
                self._send(context)
                sent.set_result(None)
            except Exception as error:  # noqa: BLE001 - raised again by result()
                sent.set_exception(error)

        Thread(target=run, name=_THREAD, daemon=True).start()
        return sent

    def _send(self, context: Any) -> None:
        from airflow.providers.http.hooks.http import HttpHook  # slow to import, and DAG files import this
        from requests import Timeout

        _hide_address()
        hook = HttpHook(http_conn_id=self.http_conn_id)
        session = hook.get_conn()  # not HttpHook.run, which logs the address
        text = self._text(context)
        try:
            # A redirected POST becomes a GET, which delivers nothing.
            answer = session.post(
                hook.base_url, json={"text": text}, timeout=self.timeout, allow_redirects=False
            )
        except Timeout:
            raise TimeoutError from None
        if not 200 <= answer.status_code < 300:
            raise _NotSentError(f"answered HTTP {answer.status_code}. Check its address.")

    def _text(self, context: Any) -> str:
        dag = context.get("dag")
        environment = dag.get_template_env(force_sandboxed=True) if dag else self.get_template_env()
        return str(environment.from_string(self.message).render({**context, "alert": _alert(context)}))


class _NotSentError(Exception):
    """Why the webhook did not take an alert: the rest of a sentence."""


def _alert(context: Any) -> dict[str, str]:
    """What the message may say of a run. The triggerer gives no DAG, only the run as the REST API has it."""
    from airflow.sdk.configuration import conf

    run = context.get("dag_run") or {}
    of_run = run if isinstance(run, dict) else {}
    dag_id = context["dag"].dag_id if "dag" in context else str(of_run.get("dag_id", ""))
    run_id = str(context.get("run_id") or of_run.get("dag_run_id", ""))
    reason = context.get("reason") or str(context.get("exception") or "").partition("\n")[0].rstrip(":.")
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return {
        "dag_id": dag_id,
        "run_id": run_id,
        "event": "missed its deadline" if "deadline" in context else f"failed ({reason})",
        "counts": _counts(context),
        "url": f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}",
    }


def _counts(context: Any) -> str:
    """The first table of the run's report. Airflow gives no task if none explains the failure."""
    ti = context.get("ti")
    try:
        report = ti.xcom_pull(task_ids="report", key="report") if ti else None
    except Exception as error:  # noqa: BLE001 - an alert without counts is better than none
        log.warning("The counts of the run could not be read (%s).", type(error).__name__)
        return ""
    return str(report).partition("\n\n")[0] if report else ""


@contextmanager
def _failures_logged(conn_id: str, timeout: float) -> Iterator[None]:
    """Log why an alert was not sent, without the messages of other libraries: they contain the address."""
    from airflow.sdk.exceptions import AirflowNotFoundException
    from jinja2 import TemplateError

    webhook = f"No alert sent: the webhook of connection {conn_id}"
    try:
        yield
    except AirflowNotFoundException:
        log.info("No alert sent: connection %s is not set up.", conn_id)
    except TemplateError as error:
        log.warning("No alert sent: the template of the message is wrong (%s).", error)
    except (TimeoutError, FutureTimeout, asyncio.TimeoutError):
        _unanswered_at[conn_id] = time.monotonic()
        log.warning("%s did not answer within %g s.", webhook, timeout)
    except _NotSentError as error:
        log.warning("%s %s", webhook, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run has failed for another reason
        log.warning("%s could not be reached (%s). Check the connection.", webhook, type(error).__name__)


def _hide_address() -> None:
    """Keep the HTTP libraries from logging the address at DEBUG. A filter does not hold for child loggers."""
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("urllib3", "requests", "charset_normalizer"):
            logging.getLogger(name).addFilter(_is_not_of_an_alert)


def _is_not_of_an_alert(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD
