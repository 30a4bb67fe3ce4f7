"""Tells people when a run has failed: a notifier that posts to the incoming webhook of a chat."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Connection, Context
    from requests import Session

log = logging.getLogger(__name__)

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
"""Name of the threads that post."""

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
        run as a Markdown table, if its task ``report`` has made one; empty in :meth:`async_notify`, which
        cannot ask for it) and ``url`` (of the run). What they contain is not rendered again.
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
        if _is_paused(self.http_conn_id):
            return
        with _failures_logged(self.http_conn_id, self.timeout):
            from airflow.sdk import BaseHook

            text = self._text(context, _counts(context))
            connection = BaseHook.get_connection(self.http_conn_id)
            self._post(connection, connection.extra_dejson, text).result(self.timeout)

    async def async_notify(self, context: Context) -> None:
        """Send the alert, for deadline alerts in the triggerer; no call blocks its event loop."""
        if _is_paused(self.http_conn_id):
            return
        with _failures_logged(self.http_conn_id, self.timeout):
            from airflow.sdk import BaseHook

            from vod.connection import extra_of

            text = self._text(context)
            connection = await BaseHook.aget_connection(self.http_conn_id)
            sent = self._post(connection, await extra_of(connection), text)
            await asyncio.wait_for(asyncio.wrap_future(sent), self.timeout)

    def _text(self, context: Any, counts: str = "") -> str:
        dag = context.get("dag")
        environment = dag.get_template_env(force_sandboxed=True) if dag else self.get_template_env()
        variables = {**context, "alert": _alert(context, counts)}
        return str(environment.from_string(self.message).render(variables))

    def _post(self, connection: Connection, extra: dict[str, Any], text: str) -> Future[None]:
        session, url = _session(connection, extra)

        def post() -> None:
            from requests import Timeout

            try:
                # A redirected POST becomes a GET, which delivers nothing.
                answer = session.post(url, json={"text": text}, timeout=self.timeout, allow_redirects=False)
            except Timeout:
                raise TimeoutError from None
            if not 200 <= answer.status_code < 300:
                raise _RefusedError(answer.status_code)

        return _in_thread(post)


class _RefusedError(Exception):
    """The webhook answered with something else than success."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _alert(context: Any, counts: str) -> dict[str, str]:
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
        "counts": counts,
        "url": f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}",
    }


def _counts(context: Any) -> str:
    """The first table of the run's report. Airflow gives no task if it knows none that explains the
    failure.
    """
    ti = context.get("ti")
    try:
        report = ti.xcom_pull(task_ids="report", key="report") if ti else None
    except Exception as error:  # noqa: BLE001 - an alert without counts is better than none
        log.warning("The counts of the run could not be read (%s).", type(error).__name__)
        return ""
    return str(report).partition("\n\n")[0] if report else ""


def _session(connection: Connection, extra: dict[str, Any]) -> tuple[Session, str]:
    """A session with what the connection says: login, headers, proxy, certificates; and the webhook's
    address.

    Not ``HttpHook.run``, which logs the address.
    """
    from airflow.providers.http.hooks.http import HttpHook  # slow to import, and DAG files import this

    read = SimpleNamespace(
        conn_id=connection.conn_id,
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        login=connection.login,
        password=connection.password,
        extra=bool(extra),
        extra_dejson=extra,
    )

    class Webhook(HttpHook):
        """A hook for the connection that was read already: reading it again could block the triggerer."""

        @classmethod
        def get_connection(cls, conn_id: str) -> Any:
            return read

    hook = Webhook(http_conn_id=connection.conn_id)
    return hook.get_conn(), hook.base_url


def _is_paused(conn_id: str) -> bool:
    paused = time.monotonic() - _unanswered_at.get(conn_id, float("-inf")) < _PAUSE
    if paused:
        log.warning(
            "No alert sent: the webhook of connection %s did not answer less than %.0f s ago.",
            conn_id,
            _PAUSE,
        )
    return paused


@contextmanager
def _failures_logged(conn_id: str, timeout: float) -> Iterator[None]:
    """Log why an alert was not sent, without the words of other libraries: they contain the address."""
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
    except _RefusedError as error:
        log.warning("%s answered HTTP %d. Check its address.", webhook, error.status)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run has failed for another reason
        log.warning("%s could not be reached (%s). Check its address.", webhook, type(error).__name__)


def _in_thread(post: Callable[[], None]) -> Future[None]:
    """Post in a thread of its own, which may be left behind.

    The time limit of requests begins anew with each byte, and looking up a host has none.
    """
    _hide_address()
    sent: Future[None] = Future()

    def run() -> None:
        sent.set_running_or_notify_cancel()
        try:
            post()
            sent.set_result(None)
        except Exception as error:  # noqa: BLE001 - raised again by result()
            sent.set_exception(error)

    Thread(target=run, name=_THREAD, daemon=True).start()
    return sent


class _AlertFilter(logging.Filter):
    """Drops what an HTTP library says of an alert: at DEBUG it logs the address."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.threadName != _THREAD


def _hide_address() -> None:
    """Put the filter on the HTTP libraries' loggers, once each; a filter does not hold for child loggers."""
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("urllib3", "requests", "charset_normalizer"):
            logger = logging.getLogger(name)
            if not any(isinstance(entry, _AlertFilter) for entry in logger.filters):
                logger.addFilter(_AlertFilter())
