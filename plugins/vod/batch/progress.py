"""How far a batch is, as its task reports it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from vod.batch.ledger import Store
from vod.locations import public_name
from vod.logs import get_logger
from vod.records import AssetFailure, PostponedExtraction, Record, SubmittedExtraction

log = get_logger(__name__)

PROGRESS_KEY = "progress"
"""Key in the task state store of a task that works on a batch."""

PLAN_KEY = "planned"
"""Key in the task state store of the task that made the batches."""

_SECONDS_BETWEEN_MESSAGES = 10.0


class BatchProgress:
    """Reports how far a batch is: in the task's log, and in its state store, which the page of the run reads.

    :param store: ``context["task_state_store"]``.
    :param assets: How many assets the batch has.
    """

    def __init__(self, store: Store, assets: int) -> None:
        self._store = store
        self._counts = {"assets": assets, "done": 0, "failed": 0}
        self._reported_at = time.monotonic()

    def count(self, outcomes: Iterable[Record]) -> None:
        """Set the counters to these outcomes; reported with the next message."""
        counts = Counter(
            "failed" if isinstance(outcome, AssetFailure) else "done"
            for outcome in outcomes
            if not isinstance(outcome, (SubmittedExtraction, PostponedExtraction))
        )
        self._counts |= {"done": counts["done"], "failed": counts["failed"]}

    def add(self, outcome: Record) -> None:
        """Count one more outcome; reported every ten seconds."""
        self._counts["failed" if isinstance(outcome, AssetFailure) else "done"] += 1
        if time.monotonic() - self._reported_at >= _SECONDS_BETWEEN_MESSAGES:
            self.report("{done} done, {failed} failed, of {assets}.".format_map(self._counts))

    def report(self, message: str) -> None:
        """Log a message, and note it with the counters."""
        self._reported_at = time.monotonic()
        log.info(message)
        self._store.set(PROGRESS_KEY, {**self._counts, "message": message})


def note_plan(store: Store, assets: int, before: int) -> None:
    """Note how many assets a run works on, and how many had been done before it."""
    store.set(PLAN_KEY, {"assets": assets, "before": before})


def name_batch(context: Any, assets: Sequence[str]) -> None:
    """Let ``map_index_template="{{ batch }}"`` show in Airflow's pages what a mapped task works on.

    :param context: Airflow's context of the task, which gets the key ``batch``.
    """
    first = public_name(assets[0]) if assets else "nothing"
    context["batch"] = f"{len(assets)} assets: {first} …" if len(assets) > 1 else first
