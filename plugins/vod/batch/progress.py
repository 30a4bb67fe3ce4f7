"""How far a run is: what its tasks say of their batches, and the figures that this adds up to."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable

from vod.batch.ledger import Store
from vod.records import AssetFailure, PostponedExtraction, Record, SubmittedExtraction

log = logging.getLogger(__name__)

TOLD = "progress"
"""Key in the task state store of a task that works off a batch."""

PLANNED = "planned"
"""Key in the task state store of the task that made the batches."""

_SECONDS_BETWEEN_WORDS = 10.0


class BatchProgress:
    """What a task says while it works off a batch: in its log, and where the page of its run finds it.

    :param store: ``context["task_state_store"]``.
    :param assets: How many assets the batch has.
    """

    def __init__(self, store: Store, assets: int) -> None:
        self._store = store
        self._figures = {"assets": assets, "done": 0, "failed": 0}
        self._told_at = time.monotonic()

    def count(self, outcomes: Iterable[Record]) -> None:
        """Take over what became of the batch so far; told with the next words."""
        counts = Counter(
            "failed" if isinstance(outcome, AssetFailure) else "done"
            for outcome in outcomes
            if not isinstance(outcome, (SubmittedExtraction, PostponedExtraction))
        )
        self._figures |= {"done": counts["done"], "failed": counts["failed"]}

    def add(self, outcome: Record) -> None:
        """Count one more outcome; told now and then."""
        self._figures["failed" if isinstance(outcome, AssetFailure) else "done"] += 1
        if time.monotonic() - self._told_at >= _SECONDS_BETWEEN_WORDS:
            self.tell("{done} done, {failed} failed, of {assets}.".format_map(self._figures))

    def tell(self, words: str) -> None:
        """Say how far the batch is."""
        self._told_at = time.monotonic()
        log.info(words)
        self._store.set(TOLD, {**self._figures, "words": words})


def plan(store: Store, assets: int, before: int) -> None:
    """Note how many assets a run works off, and how many had been done before it."""
    store.set(PLANNED, {"assets": assets, "before": before})
