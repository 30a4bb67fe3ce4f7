"""The settled records of a batch, kept while its task is deferred: its trigger carries only the open ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vod.batch.ledger import Store
from vod.records import PostponedExtraction, Record, SubmittedExtraction, parse_record

_BYTES_PER_PAGE = 48_000
"""Airflow warns about a value above 65,535."""


class SettledRecords:
    """Pages of settled records in the task's state store, for one try of a task.

    They are of use until the try ends, so it does not matter what becomes of them afterwards: they live as
    long as Airflow keeps a task's state.

    :param store: ``context["task_state_store"]``.
    :param deadline: That of the try, seconds since the epoch: it tells what an earlier try has left.
    """

    def __init__(self, store: Store, deadline: float) -> None:
        self._store = store
        self._of = f"{deadline:.3f}"
        self._pages: list[dict[str, Any]] = []

    def keep(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        """Keep what is settled, each record at its place in the batch.

        :param records: Those of the whole batch, in its order.
        :returns: what is open, as JSON, for the trigger.
        """
        kept = {place for page in self._read() for place, _ in page["records"]}
        changed: set[int] = set()
        if not self._pages:
            self._pages.append({"of": self._of, "total": len(records), "records": []})
            changed.add(0)
        size = len(json.dumps(self._pages[-1]))
        for place, record in enumerate(records):
            if _is_open(record) or place in kept:
                continue
            entry = [place, record.to_json()]
            added = len(json.dumps(entry)) + 2
            if size + added > _BYTES_PER_PAGE:
                self._pages.append({"of": self._of, "total": len(records), "records": []})
                size = len(json.dumps(self._pages[-1]))
            self._pages[-1]["records"].append(entry)
            size += added
            changed.add(len(self._pages) - 1)
        for number in sorted(changed):
            self._store.set(self._name(number), self._pages[number])
        return [record.to_json() for record in records if _is_open(record)]

    def complete(self, records: Sequence[Record]) -> tuple[list[Record], bool]:
        """Put what the trigger hands back and what was kept together, in the order of the batch.

        :param records: The open ones, in the order in which :meth:`keep` returned them.
        :returns: the records, and whether that is all of them: somebody may have emptied the store.
        """
        pages = self._read()
        places = {place: parse_record(record) for page in pages for place, record in page["records"]}
        others = iter(records)
        total = pages[0]["total"] if pages else len(records)
        together = [places[place] if place in places else next(others, None) for place in range(total)]
        together += others
        found = [record for record in together if record is not None]
        return found, bool(pages) and len(found) == total

    def _read(self) -> list[dict[str, Any]]:
        if not self._pages:
            while (page := self._store.get(self._name(len(self._pages)))) and page["of"] == self._of:
                self._pages.append(page)
        return self._pages

    @staticmethod
    def _name(number: int) -> str:
        return f"vod_settled_{number}"


def _is_open(record: Record) -> bool:
    return isinstance(record, (SubmittedExtraction, PostponedExtraction))
