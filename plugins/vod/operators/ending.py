"""How a task ends before its work is done: who ended it, and what has to be cancelled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowTaskTimeout

if TYPE_CHECKING:
    from vod.engines.vod import VodEngine
    from vod.hooks import VodHook

log = logging.getLogger(__name__)

_ENDED_BY_A_PERSON = ("failed", "success", "skipped", "restarting", "removed")
"""States that a running task gets only when somebody marks, clears or deletes it."""


class Ending:
    """Ends the work of this process, once a person ended the task or its time is up.

    A worker that is shut down ends nothing: the next try goes on.

    :param ti: The task's instance, for whose state Airflow is asked.
    :param cancel_queued: Whether to cancel what VOD has queued. ffmpeg ends in any case.
    """

    def __init__(self, ti: Any, hook: VodHook, *, cancel_queued: bool) -> None:
        self._ti = ti
        self._hook = hook
        self._cancel_queued = cancel_queued
        self._inquiry: threading.Thread | None = None
        self.begun = threading.Event()
        """Set once the work is to end: both engines heed it."""
        self.vod: VodEngine | None = None
        """Knows what VOD is doing for this task."""

    def inquire(self) -> None:
        """End the work if a person ended the task. May be called by a signal handler."""
        # The interrupted code may hold any lock, and goes on afterwards.
        if self._inquiry is None:
            self._inquiry = threading.Thread(target=self._inquire, name="on_kill", daemon=True)
            self._inquiry.start()

    @contextmanager
    def at_timeout(self) -> Iterator[None]:
        """End the work if the task runs into its ``execution_timeout`` within the block."""
        try:
            yield
        except AirflowTaskTimeout:
            self.cancel()
            raise

    def complete(self) -> None:
        """Cancel also what VOD accepted while the rest was being cancelled."""
        if self._inquiry:
            self._inquiry.join()
        self.cancel()

    def cancel(self) -> None:
        """Let both engines stop, and cancel what VOD has queued."""
        self.begun.set()
        if self.vod:
            taken, underway = [], self.vod.underway
            with suppress(IndexError):  # the task goes on beside this, and may end it as well
                while True:
                    taken.append(underway.pop())
            if self._cancel_queued:
                from vod.engines.cancel import cancel

                cancel(self._hook.settings, taken)

    def _inquire(self) -> None:
        try:
            state = _state_of(self._ti)
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from answering, it is no order
            log.warning("Whether a person ended the task cannot be found out: %s", error)
            return
        if state in _ENDED_BY_A_PERSON:
            log.info("The task was ended from outside: it is %s now.", state)
            self.cancel()
        else:
            log.info("This worker is shut down while the task is %s: the next try goes on.", state)


def _state_of(ti: Any) -> str:
    """What Airflow says of a task instance at this moment; ``removed`` when it knows it no longer."""
    states = ti.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index,
    )
    return next((str(state) for state in states.get(ti.run_id, {}).values()), "removed")
