"""The register of extracted audio: one durable entry an audio, shared by all runs, DAGs, people and workers.

Its home is Airflow's asset state store (Airflow 3.3): keys and values of an Airflow asset in the metadata
database, which outlive runs, clears and workers. A task reaches it when the asset :data:`REGISTER` is among
its inlets, as it is for the operators.

The store has no compare-and-set, so a claim is made as Fischer's algorithm makes it from plain registers:
read that the entry is free, write the claim, wait longer than a write may take, and read it back. Whoever
finds his own claim has it. A write that took too long is no claim, and each submission looks at its entry
once more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk import Asset
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowRuntimeError

from vod.library.index import Index
from vod.locations import public_name
from vod.logs import get_logger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from vod.records import Record

    Made = Callable[[str, Mapping[str, Any]], Record | None]
    """What becomes of an asset of which a record is known that is not VOD's; ``None`` if it is of no use."""

log = get_logger(__name__)

REGISTER = Asset(name="vod_register", uri="vod://register")
"""The Airflow asset whose state holds the register. As an inlet it starts nothing and announces nothing."""

CLAIM_LEASE = 900.0
"""Seconds after its last sign of life at which a task's claims are free: longer than Airflow needs to notice
a dead worker and to start the next try, and longer than two clocks may differ for VOD (section 1.1)."""

SETTLING = 1.0
"""Seconds between the last write of a claim and reading it back."""
LONGEST_WRITE = SETTLING / 2
"""Seconds from reading that an entry is free to the end of the write: what takes longer is no claim."""
_SIGNS_PER_LEASE = 10
_FRESH = 0.2
"""Share of a lease for which a claim that was seen needs no second look: nobody takes it over so early, even
with a clock that is ten minutes ahead."""
_LONGEST_INTERVAL = 30.0
_MOST_WATCHED = 10


STATES = ("waiting", "extracting", "ready", "failed", "stopped")
"""Of an entry: claimed by a task, accepted by VOD, there, impossible, given back. With ffmpeg an entry waits
until its audio is there."""

_MOST_COPIES = 4
"""Of one audio that are remembered beside the newest record: a destination may have the date in its name."""
_MAX_FIND = 160
_MAX_LANGUAGE = 20
SECONDS_DIGITS = 7
"""Of the length of audio in what an entry begins with."""


class Store(Protocol):
    """``context["asset_state_store"][REGISTER]``: key and value, shared by all tasks."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or *default*."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value until it is overwritten or deleted."""

    def delete(self, key: str) -> None:
        """Remove a key."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the register knows of one audio.

    :param asset: The source, by the name that its records show.
    :param holder: The task that works on it; ``None`` when nobody does.
    :param ended_by: The task that finished it, or found that it cannot be had.
    :param intended: When a submission was about to be sent, seconds since the epoch, if its answer is not
        known.
    :param audio: VOD's audio asset, once VOD has accepted the extraction.
    :param accepted: When that was, seconds since the epoch.
    :param record: :class:`vod.records.ExtractedAudio` as JSON, once the audio is there.
    :param copies: As ``record``, of earlier runs that copied the same audio asset to other destinations.
    :param failure: :class:`vod.records.AssetFailure` as JSON, if there can be no audio.
    :param reason: Why the last task got no audio, as ``failure``, if another try may: nobody is kept from it.
    :param changed: When this was written, seconds since the epoch.
    """

    asset: str
    holder: str | None = None
    ended_by: str | None = None
    intended: float | None = None
    audio: str | None = None
    accepted: float | None = None
    record: dict[str, Any] | None = None
    copies: list[dict[str, Any]] | None = None
    failure: dict[str, Any] | None = None
    reason: dict[str, Any] | None = None
    changed: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The entry as it is stored: what is not known is left out."""
        return {name: value for name, value in self.__dict__.items() if value is not None}

    @property
    def records(self) -> list[dict[str, Any]]:
        """``record`` and ``copies``: one for each place where the audio is known to be, the newest first."""
        return [self.record, *(self.copies or ())] if self.record else []

    @property
    def state(self) -> str:
        """One of :data:`STATES`."""
        if self.record:
            return "ready"
        if self.failure or self.reason:
            return "failed"
        if self.audio:
            return "extracting"
        return "waiting" if self.holder else "stopped"

    @classmethod
    def parse(cls, value: Any) -> Entry | None:
        """Read an entry back; ``None`` for what is none, which is logged: it must not stop a batch."""
        if value is None:
            return None
        try:
            known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
            return cls(**known)
        except (TypeError, KeyError):
            log.warning("An entry of the register cannot be read; its audio counts as new.")
            return None


class Stopwatch:
    """Seconds since it was made, also those for which the machine was suspended: one clock stands still."""

    def __init__(self) -> None:
        self._started = (time.monotonic(), time.time())

    @property
    def seconds(self) -> float:
        """By the clock that went further."""
        monotonic, wall = self._started
        return max(time.monotonic() - monotonic, time.time() - wall)


@dataclass
class Claims:
    """The answer to a claim.

    :param granted: What this task may work on, with what was known of it.
    :param known: What VOD has accepted from somebody, or what is finished: nothing is to be submitted.
    :param elsewhere: What another task works on.
    :param failed: What the task that was waited for found to be impossible.
    :param made: What another engine has made: the record, or the failure to look whether it is there.
    """

    granted: dict[str, Entry | None] = field(default_factory=dict)
    known: dict[str, Entry] = field(default_factory=dict)
    elsewhere: dict[str, Entry] = field(default_factory=dict)
    failed: dict[str, Entry] = field(default_factory=dict)
    made: dict[str, Record] = field(default_factory=dict)


class Register:
    """The entries of the audio that has the same inputs but for its source.

    :param store: ``context["asset_state_store"][REGISTER]``.
    :param holder: Name of this task instance: the same for all its tries.
    :param inputs: What besides the source shapes the audio: engine, project, format and so on; a function if
        VOD has to be asked for it.
    :param lease: Seconds, see :data:`CLAIM_LEASE`.
    :param prefix: How its keys begin.
    """

    def __init__(
        self,
        store: Store,
        holder: str,
        inputs: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        *,
        lease: float = CLAIM_LEASE,
        prefix: str = "audio",
        settling: float = SETTLING,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.holder = holder
        self._store = store
        self._given_inputs = inputs
        self._lease = lease
        self._prefix = prefix
        self._settling = settling
        self._sleep = sleep
        self._index = Index(store)
        self._signed_at: float | None = None
        self._seen_at: dict[str, float] = {}

    @cached_property
    def _inputs(self) -> Mapping[str, Any]:
        return self._given_inputs() if callable(self._given_inputs) else self._given_inputs

    def key(self, asset: str) -> str:
        """The key of an entry in the store."""
        identity = "\n".join(
            [public_name(asset), *(f"{name}={self._inputs[name]}" for name in sorted(self._inputs))]
        )
        digest = hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()
        return f"{self._prefix}_{digest[:32]}"

    def get(self, asset: str) -> Entry | None:
        """What is known of the audio of an asset."""
        return Entry.parse(self._store.get(self.key(asset)))

    def find(self, assets: Iterable[str]) -> dict[str, Entry]:
        """The entries of those assets that have one."""
        return {asset: entry for asset in assets if (entry := self.get(asset))}

    def claim(
        self,
        assets: Iterable[str],
        *,
        superseded: Mapping[str, str | None] | None = None,
        waited_for: Mapping[str, str] | None = None,
        made: Made | None = None,
        force: bool = False,
    ) -> Claims:
        """Ask to work on assets: of any number of tasks that ask for the same, one is granted it.

        It takes two or three calls of the store an asset, and a second at the end.

        :param superseded: Audio assets that are of no use any more, by asset: an entry that names one counts
            as if it named none.
        :param waited_for: Which task was waited for: what that one found impossible is not tried again.
        :param made: Looks at what another engine has made.
        :param force: Extract again also what is known.
        """
        superseded, waited_for = superseded or {}, waited_for or {}
        claims = Claims()
        written: list[str] = []
        alive: dict[str, bool] = {}
        self.sign()
        for asset in assets:
            since_read = Stopwatch()
            entry = self.get(asset)
            useless = force or (asset in superseded and entry and superseded[asset] == entry.audio)
            if entry and entry.holder == self.holder:
                if entry.audio and not useless:
                    claims.known[asset] = entry
                else:
                    claims.granted[asset] = entry
                continue
            if entry and entry.failure and entry.ended_by == waited_for.get(asset):
                claims.failed[asset] = entry
                continue
            if entry and entry.audio and not useless:
                claims.known[asset] = entry
                continue
            if made and entry and entry.record and not entry.audio and (outcome := made(asset, entry.record)):
                claims.made[asset] = outcome
                continue
            if entry and entry.holder and not (force and entry.audio):
                if entry.holder not in alive:
                    alive[entry.holder] = self._is_alive(entry.holder)
                if alive[entry.holder]:
                    claims.elsewhere[asset] = entry
                    continue
            # A dead task's intent stays: what it may have submitted is looked for first.
            intended = entry.intended if entry and not entry.audio else None
            self._write(asset, Entry(asset=asset, holder=self.holder, intended=intended))
            if since_read.seconds > LONGEST_WRITE:
                log.info("Writing a claim took too long; asking again later.")
                claims.elsewhere[asset] = Entry(asset=asset, holder=self.holder)
            else:
                written.append(asset)
        if written:
            self._sleep(self._settling)
            for asset in written:
                entry = self.get(asset)
                if entry and entry.holder == self.holder:
                    claims.granted[asset] = entry
                    self._seen_at[asset] = time.time()
                elif entry and entry.audio:
                    claims.known[asset] = entry
                elif entry:
                    claims.elsewhere[asset] = entry
        return claims

    def intend(self, asset: str, at: float) -> bool:
        """Note that a submission is about to be sent.

        :returns: whether the claim still stands; if not, it must not be sent.
        """
        if not 0 <= time.time() - self._seen_at.get(asset, -math.inf) < self._lease * _FRESH:
            entry = self.get(asset)
            if entry is None or entry.holder != self.holder:
                return False
        self._write(asset, Entry(asset=asset, holder=self.holder, intended=round(at, 3)))
        self.sign()
        return True

    def accept(self, asset: str, audio: str, at: float) -> None:
        """VOD has accepted the extraction."""
        self._write(asset, Entry(asset=asset, holder=self.holder, audio=audio, accepted=round(at, 3)))
        self._store.set(_owner_key(audio), self.key(asset))

    def finish(
        self,
        records: Mapping[str, dict[str, Any]],
        accepted: Mapping[str, float],
        shared: Collection[str] = (),
    ) -> set[str]:
        """The audio of assets is there.

        :param records: :class:`vod.records.ExtractedAudio` as JSON, by asset.
        :param accepted: When VOD had accepted each, if it was VOD's.
        :param shared: Assets whose audio other tasks may have copied to other places, which are remembered.
        :returns: the assets whose audio is new: no task has finished it before.
        """
        for asset, record in records.items():
            self._write(
                asset,
                Entry(
                    asset=asset,
                    ended_by=self.holder,
                    audio=record.get("audio_asset_id"),
                    accepted=accepted.get(asset),
                    record=record,
                    copies=self._copies_beside(asset, record) if asset in shared else None,
                ),
            )
        new = self._index.add({self.key(asset): record for asset, record in records.items()})
        return {asset for asset in records if self.key(asset) in new}

    def _copies_beside(self, asset: str, record: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """What earlier runs copied of the same audio asset of VOD to other places."""
        entry = self.get(asset)
        if entry is None or entry.audio != record.get("audio_asset_id"):
            return None
        others = [
            each
            for each in entry.records
            if each["uri"] != record["uri"] and not each["uri"].startswith("vod://")
        ]
        return others[:_MOST_COPIES] or None

    def forget(self, asset: str) -> None:
        """Nothing was submitted, or it came to nothing; the claim stays."""
        entry = self.get(asset)
        if entry and entry.holder == self.holder:
            self._write(asset, Entry(asset=asset, holder=self.holder))

    def fail(self, asset: str, failure: dict[str, Any]) -> None:
        """There can be no audio: those who wait for this task need not try."""
        entry = self.get(asset)
        if entry and entry.holder == self.holder:
            self._write(asset, Entry(asset=asset, ended_by=self.holder, failure=failure))

    def tell(self, failures: Mapping[str, dict[str, Any]]) -> None:
        """Note why a task that ends has got no audio of assets; whoever wants it may try again.

        It is for people to read: when it cannot be noted, that is logged. It is noted only in entries that
        this task holds, or can claim because there were none: any other may be changed by its next holder
        meanwhile.

        :param failures: :class:`vod.records.AssetFailure` as JSON, by asset.
        """
        try:
            entries = {asset: self.get(asset) for asset in failures}
            unknown = [asset for asset, entry in entries.items() if entry is None]
            if unknown:
                entries |= self.claim(unknown).granted
            for asset, reason in failures.items():
                self._give_back(asset, entries[asset], reason)
        except Exception as error:  # noqa: BLE001 - what the batch has done is not lost for it
            log.info("The register cannot be changed here: %s", error)

    def release(self, reasons: Mapping[str, dict[str, Any] | None], *, cancelled: bool = False) -> None:
        """Give claims back: others may go on at once.

        :param reasons: Why there is no audio, :class:`vod.records.AssetFailure` as JSON, by asset; ``None``
            if nothing went wrong.
        :param cancelled: Whether what VOD had accepted is cancelled; otherwise others may wait for it.
        """
        for asset, reason in reasons.items():
            self._give_back(asset, self.get(asset), reason, cancelled=cancelled)

    def _give_back(
        self, asset: str, entry: Entry | None, reason: dict[str, Any] | None, *, cancelled: bool = False
    ) -> None:
        if entry and entry.holder == self.holder:
            # An intent stays for whoever goes on: the submission may have been accepted.
            given_back = replace(entry, holder=None, ended_by=self.holder, reason=reason)
            if cancelled:
                given_back = replace(given_back, audio=None, accepted=None)
            self._write(asset, given_back)

    def drop(self, assets: Iterable[str]) -> None:
        """Remove claims, and with them all that the register knows of the assets."""
        for asset in assets:
            entry = self.get(asset)
            if entry and entry.holder == self.holder:
                self._store.delete(self.key(asset))

    def is_owned(self, audio: str) -> bool:
        """Whether one of VOD's audio assets is known to be the audio of some asset."""
        return self._store.get(_owner_key(audio)) is not None

    def sign(self) -> None:
        """Give a sign of life when one is due, so that this task's claims stay its own."""
        now = time.time()
        if self._signed_at is None or now - self._signed_at >= self._lease / _SIGNS_PER_LEASE:
            self._store.set(sign_key(self.holder), round(now, 3))
            self._signed_at = now

    def leave(self) -> None:
        """Give no more signs of life: whatever this task has claimed is free."""
        self._store.delete(sign_key(self.holder))
        self._signed_at = None

    def is_held(self, entry: Entry) -> bool:
        """Whether a task works on it that gives signs of life."""
        return entry.holder is not None and self._is_alive(entry.holder)

    def _is_alive(self, holder: str) -> bool:
        signed_at = self._store.get(sign_key(holder))
        return isinstance(signed_at, (int, float)) and time.time() < signed_at + self._lease

    def _write(self, asset: str, entry: Entry) -> None:
        now, name = round(time.time(), 3), public_name(asset)
        record = entry.record or {}
        value = {
            **searchable(
                entry.state,
                "audio",
                f"{(record.get('title') or '')[:_MAX_FIND]} {name[-_MAX_FIND:]}",
                language=record.get("language"),
                seconds=record.get("duration"),
            ),
            **self._inputs,
            **entry.to_json(),
            "asset": name,
            "changed": now,
        }
        self._store.set(self.key(asset), value)


def searchable(
    state: str, kind: str, words: str, *, language: str | None = None, seconds: float | None = None
) -> dict[str, str]:
    """What an entry begins with, in this order: the page of all assets searches the stored text.

    :param state: One of :data:`STATES`, or of :data:`vod.library.texts.STATES`.
    :param kind: ``audio`` or ``text``.
    :param words: What can be found in it.
    :param language: Of the track, or of what is said.
    :param seconds: How long it is.
    """
    longest = 10**SECONDS_DIGITS - 1
    known = seconds is not None and 0 < seconds <= longest
    return {
        "state": state,
        # All of one length: the database adds them up without reading JSON.
        **({"seconds": f"{round(seconds or 0):0{SECONDS_DIGITS}}"} if known else {}),
        "find": words.strip().casefold(),
        "kind": kind,
        **({"language": language[:_MAX_LANGUAGE].casefold()} if language else {}),
    }


async def watch(holder: str, claims: Mapping[str, str], *, lease: float, interval: float = 5.0) -> None:
    """Wait in the triggerer until another task has done something about what is waited for.

    Meanwhile it gives the signs of life of the task that waits. It returns only if there is something to see.

    :param holder: The task that waits.
    :param claims: Which task is waited for, by key of the entry. Of many, some are looked at each time.
    :param lease: Seconds, see :data:`CLAIM_LEASE`.
    :param interval: Seconds to the first look; they grow to 30.
    """
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    store = AssetStateStoreAccessor(name=REGISTER.name)
    signed_at = time.time()  # when the task was deferred
    try:
        while True:
            await asyncio.sleep(min(interval, lease / _SIGNS_PER_LEASE))
            interval = min(interval * 1.5, _LONGEST_INTERVAL)
            if time.time() - signed_at >= lease / _SIGNS_PER_LEASE:
                signed_at = time.time()
                await store.aset(sign_key(holder), round(signed_at, 3))
            for key in random.sample(sorted(claims), min(len(claims), _MOST_WATCHED)):
                entry = Entry.parse(await store.aget(key))
                if entry is None or entry.holder != claims[key] or entry.audio:
                    return
    except Exception as error:  # noqa: BLE001 - the task is resumed by time as well
        log.info("The register cannot be watched here: %s", error)
        await asyncio.Event().wait()


async def leave(holder: str) -> None:
    """Give back, in the triggerer, what a task has claimed: a person has ended it."""
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    try:
        await AssetStateStoreAccessor(name=REGISTER.name).adelete(sign_key(holder))
    except Exception as error:  # noqa: BLE001 - its lease ends as well
        log.info("The register cannot be changed here: %s", error)


def sign_key(holder: str) -> str:
    """Where a task's signs of life are in the store: seconds since the epoch."""
    return f"alive_{hashlib.sha256(holder.encode()).hexdigest()[:32]}"


def _owner_key(audio: str) -> str:
    return f"owner_{audio[:200]}"


def vod_inputs(project: str, audio_format: str) -> dict[str, Any]:
    """What besides the source shapes audio that VOD extracts."""
    return {"engine": "vod", "project": project, "audio_format": audio_format}


def ffmpeg_inputs(audio_format: str, destination: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What besides the source shapes audio that ffmpeg extracts; the file's own tags say of which source.

    :param destination: URI of the folder.
    :param options: Those that are not at their default.
    """
    shape = json.dumps(options, sort_keys=True, default=str)
    return {"engine": "ffmpeg", "audio_format": audio_format, "destination": destination, "options": shape}


def with_register(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a task, with the register among its inlets."""
    inlets = arguments.get("inlets") or ()
    inlets = [inlets] if isinstance(inlets, Asset) else list(inlets)
    return {**arguments, "inlets": inlets if REGISTER in inlets else [*inlets, REGISTER]}


def store_of(asset_state_store: Any) -> Store | None:
    """The register's store; ``None``, and a line in the log, without one.

    Then a task knows what it did itself, and nothing of others.

    :param asset_state_store: What Airflow's context of a task has under that name.
    """
    try:
        store: Store = asset_state_store[REGISTER]
        store.get("probe")
    except (KeyError, TypeError, AirflowRuntimeError) as error:
        log.warning(
            "There is no register here, so what other runs extract is not known: %s. Airflow 3.3 keeps it "
            "for tasks that have the asset %s among their inlets.",
            error,
            REGISTER.uri,
        )
        return None
    return store


def holder_of(context: Context) -> str:
    """The name of a task instance in the register: the same for all its tries."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"


def lease() -> float:
    """Seconds from Airflow's configuration, ``[vod] claim_lease``; :data:`CLAIM_LEASE` when it is not set."""
    return float(conf.getfloat("vod", "claim_lease", fallback=CLAIM_LEASE))
