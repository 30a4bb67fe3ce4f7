"""Cancels a task's work when a person ends the task or its ``execution_timeout`` is over."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowTaskTimeout

from vod.engines import SubmissionStoppedError
from vod.logs import get_logger

if TYPE_CHECKING:
    from vod.engines import Engine

log = get_logger(__name__)

_ENDED_BY_A_PERSON = ("failed", "success", "skipped", "restarting", "removed")
"""States that a running task gets only when a person marks, clears or deletes it."""


class Cancellation:
    """Cancels what the engines of a task are doing, if the task is not to go on.

    When a worker is shut down nothing is cancelled: the next try goes on with what is under way.

    :param ti: The task instance, for whose state Airflow is asked.
    :param engines: What is cancelled.
    """

    def __init__(self, ti: Any, engines: Sequence[Engine]) -> None:
        self._ti = ti
        self._engines = engines
        self._inquiry: threading.Thread | None = None

    def on_kill(self) -> None:
        """Cancel if a person ended the task. A signal handler may call this."""
        # The interrupted code may hold any lock, and goes on afterwards: ask from another thread.
        if self._inquiry is None:
            self._inquiry = threading.Thread(target=self._inquire, name="on_kill", daemon=True)
            self._inquiry.start()

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """Cancel if the task runs into its ``execution_timeout`` within the block, or is ended."""
        try:
            yield
        except AirflowTaskTimeout:
            self.cancel()
            raise
        except SubmissionStoppedError:
            if self._inquiry:
                self._inquiry.join()
            self.cancel()  # also what was accepted while the rest was being cancelled
            raise

    def cancel(self) -> None:
        """Stop the engines, and cancel what is queued."""
        for engine in self._engines:
            engine.cancel()

    def _inquire(self) -> None:
        try:
            state = _state_of(self._ti)
        except Exception as error:  # noqa: BLE001 - if Airflow cannot be asked, do not treat it as a cancel
            log.warning(
                "Could not ask Airflow whether a person ended the task; nothing is cancelled: %s", error
            )
            return
        if state in _ENDED_BY_A_PERSON:
            log.info("The task was ended from outside: its state is %s. Cancelling its work.", state)
            self.cancel()
        else:
            log.info("This worker is shut down while the task is %s: the next try goes on.", state)


def _state_of(ti: Any) -> str:
    """The state that Airflow has for a task instance now; ``removed`` when it no longer knows it."""
    states = ti.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index,
    )
    return next((str(state) for state in states.get(ti.run_id, {}).values()), "removed")
