"""What a task has done for each asset, kept where a crash, a retry or a clear does not reach it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Protocol

from vod.errors import VodError

MAX_BEGINNINGS = 2
"""How often an attempt begins with an asset whose process died each time."""

ENTRIES_PER_PAGE = 50
"""Some kilobytes: up to that size, a write takes 6 to 11 ms whatever its length."""


class KillsItsProcessError(VodError):
    """The worker process died each time that it worked on this asset."""

    outcome = "kills_its_process"
    remedy = (
        "Check the worker's memory limit and whether the file is damaged, then clear the task to try again, "
        "or leave the asset out."
    )


class Store(Protocol):
    """``context["task_state_store"]`` of Airflow 3.3: key and value, scoped to one task instance."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or *default*."""

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        """Keep a value; it ends with its DAG run, or after *retention*."""


class LedgerPages:
    """All ledger entries of a task instance, in pages: one key of the store holds many entries.

    Open them once in a task: a second instance would overwrite what the first has noted.

    :param store: ``context["task_state_store"]``; without one, the entries end with the process.
    :param size: Entries of a page, which are written together; the fewer, the larger they may be.
    """

    def __init__(self, store: Store | None, size: int = ENTRIES_PER_PAGE) -> None:
        self._store = store
        self._size = size
        self._pages: list[dict[str, Any]] = []
        while store and (page := store.get(self._name(len(self._pages)))):
            self._pages.append(page)
        self._places = {key: number for number, page in enumerate(self._pages) for key in page}
        self._changed: set[int] = set()

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key; ``None`` if there is none."""
        place = self._places.get(key)
        entry = None if place is None else self._pages[place].get(key)
        return entry if isinstance(entry, dict) else None

    def set(self, key: str, entry: dict[str, Any]) -> None:
        """Note an entry; :meth:`save` writes it."""
        place = self._places.get(key)
        if place is None:
            if not self._pages or len(self._pages[-1]) >= self._size:
                self._pages.append({})
            place = self._places[key] = len(self._pages) - 1
        self._pages[place][key] = entry
        self._changed.add(place)

    def values(self) -> list[dict[str, Any]]:
        """All entries, also of other inputs."""
        return [entry for page in self._pages for entry in page.values()]

    def save(self) -> None:
        """Write the pages that changed."""
        if self._store is None:
            return
        from airflow.sdk.execution_time.context import NEVER_EXPIRE  # slow to import: not for a DAG file

        for number in sorted(self._changed):
            # The ledger ends with its DAG run, not before: a task that is cleared late must find it.
            self._store.set(self._name(number), self._pages[number], retention=NEVER_EXPIRE)
        self._changed.clear()

    @staticmethod
    def _name(number: int) -> str:
        return f"vod_ledger_{number}"


class Ledger:
    """One entry an asset, written before and after each step that must not happen twice.

    An entry's key is a digest of the asset and of everything that shapes its audio, so that changed inputs
    start afresh while the other assets of a batch keep what they have. States of an entry:

    - absent or empty: nothing was done;
    - ``{"intended": t}``: a submission may have been sent at ``t`` (seconds since the epoch by VOD's clock),
      its answer is unknown;
    - ``{"intended": t, "search": {...}}``: and its audio asset is being looked for;
    - ``{"audio": id, "accepted": t}``: VOD accepted it and ``id`` is the audio asset;
    - the same with ``"copy": {...}``: the audio lies at its destination as well, as this record says;
    - ``{"record": {...}}``: the finished record of an extraction or transcription on this worker;
    - ``{"begun": k, "attempt": n}``: the process is at work on it on this worker, or has died doing so, for
      the ``k``-th time; attempt ``n`` was the last to begin;
    - ``{"failure": {...}, "attempt": n}``: a failure that no retry of attempt ``n`` can change.

    Besides, an entry has ``"second": n`` if in attempt ``n`` VOD has ended one extraction without audio, and
    ``"earlier": [id, ...]`` if the task has had other audio assets of the same source.

    :param pages: All entries of the task. Several ledgers of a task, each for other inputs, share them.
    :param inputs: What besides the asset shapes the audio: engine, format, connection and so on.
    :param attempt: The same for all tries of one attempt, another once a person cleared the task.
    """

    def __init__(self, pages: LedgerPages, inputs: dict[str, Any], attempt: int = 0) -> None:
        self._pages = pages
        self._inputs = inputs
        self._attempt = attempt

    def get(self, asset: str) -> dict[str, Any] | None:
        """What an earlier try did for the asset; ``None`` when it did nothing."""
        entry = self._pages.get(self._key(asset))
        if entry and "failure" in entry and entry["attempt"] != self._attempt:
            return None
        return entry or None

    def audio_assets(self) -> set[str]:
        """All audio assets that this task knows to be its own, also those of other inputs."""
        return {audio for entry in self._pages.values() for audio in _audio_assets(entry)}

    def intend(self, asset: str, at: float, *, save: bool = True) -> None:
        """A submission is about to be sent.

        :param save: Write it now, and with it what :meth:`accept` noted; otherwise it is kept with the next
            write, as where the register has it.
        """
        self._set(asset, {"intended": round(at, 3)})
        if save:
            self._pages.save()

    def looked(self, asset: str, search: dict[str, Any]) -> None:
        """Note how far the search for the audio of a lost answer is; kept with the next write.

        :param search: ``since`` says when the submission was about to be sent.
        """
        self._set(asset, {"intended": search["since"], "search": search})

    def accept(self, asset: str, audio_asset_id: str, at: float) -> None:
        """VOD accepted the submission. Kept with the next write: until then the intent stands for it."""
        self._set(asset, {"audio": audio_asset_id, "accepted": round(at, 3)})

    def copied(self, asset: str, record: dict[str, Any]) -> None:
        """What VOD made was also copied to its destination, and is whole there."""
        self._pages.set(self._key(asset), {**(self._pages.get(self._key(asset)) or {}), "copy": record})
        self._pages.save()

    def begun(self, asset: str) -> int:
        """How often the process has died at work on the asset, or may have.

        From an earlier attempt all but the last count: a person who clears the task gets another try.
        """
        entry = self._pages.get(self._key(asset)) or {}
        times = int(entry.get("begun", 0))
        return times if entry.get("attempt") == self._attempt else min(times, MAX_BEGINNINGS - 1)

    def check(self, asset: str) -> None:
        """Refuse to begin once more with an asset that kills its process.

        :raises KillsItsProcessError: this attempt has begun with it :data:`MAX_BEGINNINGS` times.
        """
        if self.begun(asset) >= MAX_BEGINNINGS:
            raise KillsItsProcessError(
                f"The worker process died {MAX_BEGINNINGS} times while it worked on this asset: for lack of "
                "memory, or in a codec."
            )

    def begin(self, assets: Iterable[str]) -> None:
        """This process is about to work on these. Also writes what was only noted: one write for both."""
        for asset in assets:
            self._set(asset, {"begun": self.begun(asset) + 1, "attempt": self._attempt})
        self._pages.save()

    def finish(self, asset: str, record: dict[str, Any], *, save: bool = True) -> None:
        """What was asked for lies at its destination.

        :param save: Write it now; otherwise it is kept with the next write.
        """
        self._set(asset, {"record": record})
        if save:
            self._pages.save()

    def fail(self, asset: str, failure: dict[str, Any]) -> None:
        """Note a failure that no retry can change; kept with the next write."""
        begun = self.begun(asset)
        self._set(
            asset,
            {"failure": failure, "attempt": self._attempt, **({"begun": begun} if begun else {})},
        )

    def forget(self, asset: str) -> None:
        """The asset has to be done again from the start; kept with the next write."""
        self._set(asset, {})

    def again(self, asset: str) -> None:
        """VOD ended an extraction without audio, and gets a second chance; kept with the next write."""
        self._set(asset, {"second": self._attempt})

    def is_second(self, asset: str) -> bool:
        """Whether the extraction at hand, or else the next, is the second chance."""
        entry = self._pages.get(self._key(asset)) or {}
        return bool(entry.get("second") == self._attempt)

    def save(self) -> None:
        """Write what was only noted."""
        self._pages.save()

    def _set(self, asset: str, entry: dict[str, Any]) -> None:
        before = self._pages.get(self._key(asset)) or {}
        kept: dict[str, Any] = {"second": self._attempt} if self.is_second(asset) else {}
        if earlier := _audio_assets(before):
            kept["earlier"] = earlier
        self._pages.set(self._key(asset), kept | entry)

    def _key(self, asset: str) -> str:
        identity = "\n".join([asset, *(f"{name}={self._inputs[name]}" for name in sorted(self._inputs))])
        return hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _audio_assets(entry: dict[str, Any]) -> list[str]:
    return [*entry.get("earlier", ()), *([entry["audio"]] if "audio" in entry else ())]
