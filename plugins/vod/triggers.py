"""The triggers behind operators and sensor: waiting that holds no worker slot."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from airflow.utils.net import get_hostname

from vod import metrics
from vod.cloud.assets import Asset, Readiness
from vod.cloud.poller import Poller
from vod.engines.audio_assets import VISIBILITY_GRACE, ReadyCount
from vod.engines.cancel import cancel_queued_async
from vod.errors import VodError
from vod.hooks import VodHook
from vod.library.register import lease, leave, watch
from vod.records import PostponedExtraction, SubmittedExtraction, parse_record
from vod.speech.engines.sis import await_orders

R = TypeVar("R", SubmittedExtraction, PostponedExtraction)

_COLLECT_SHARE = 0.25
"""Part of a batch that is worth collecting before all of it is ready: each time, a worker starts."""

SHORTEST_WAIT = 5.0
"""Seconds before a trigger gives its event. Airflow's scheduler (3.3.2) takes a task for failed that is
resumed before it has seen that the worker that deferred it is done: a second or two, more under load."""

_waiting: dict[int, tuple[int, float]] = {}
"""For how many audio assets each trigger of this process waits, and when the first of them was accepted."""

_cancelling: set[asyncio.Future[list[str]]] = set()


class AudioEvent(TriggerEvent):
    """What :class:`AudioAssetTrigger` gives, its records and its deadline as the payload.

    Airflow's triggerer logs the event itself, so it says how much it holds, not what.
    """

    def __repr__(self) -> str:
        return f"<audio of {len(self.payload['records'])} assets>"

    __str__ = __repr__


class AudioAssetTrigger(BaseTrigger):
    """Waits until there is something to do for a batch: its audio assets are ready or have failed, VOD may
    take an extraction that was postponed, or the deadline has passed.

    The event hands the records back: the resumed task reads the assets itself. Only what is open travels
    through the trigger (:mod:`vod.batch.settled` keeps the rest), and it does because ``dag.test()`` drops
    the keyword arguments of ``defer`` (Airflow 3.3.2).

    :param vod_conn_id: Connection of type ``vod``; no credential is serialised.
    :param records: Records of the batch that say ``submitted`` or ``postponed``; text as :meth:`serialize`
        makes it, because MySQL keeps no more than 64 kB of a trigger.
    :param deadline: Seconds since the epoch, so that a restarted triggerer keeps it.
    :param poll_interval: Seconds from the last acceptance to the first look, and to the next; it grows to 30.
    :param cancel_on_kill: Cancel what is queued when a person ends or clears the task.
    :param collect_after: Seconds after which a quarter of the audio assets is enough; all are needed when
        omitted.
    :param not_before: Seconds since the epoch before which nothing is worth a call.
    :param holder: The task's name in the register, whose signs of life it gives meanwhile; empty without a
        register.
    """

    def __init__(
        self,
        vod_conn_id: str,
        records: list[dict[str, Any]] | str,
        deadline: float,
        poll_interval: float = 5.0,
        cancel_on_kill: bool = True,
        collect_after: float | None = None,
        not_before: float = 0.0,
        holder: str = "",
    ) -> None:
        super().__init__()
        self.vod_conn_id = vod_conn_id
        self.records = _unpacked(records) if isinstance(records, str) else records
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.collect_after = collect_after
        self.not_before = not_before
        self.holder = holder
        self._gone_since: dict[str, float] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        # A literal path: __module__ differs when the plugins folder has run a file as a top-level module.
        """Class path and arguments, from which a restarted triggerer makes the trigger again."""
        return (
            "vod.triggers.AudioAssetTrigger",
            {
                "vod_conn_id": self.vod_conn_id,
                "records": _packed(self.records),
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
                "collect_after": self.collect_after,
                "not_before": self.not_before,
                "holder": self.holder,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then give one event: the records, and the deadline."""
        began = time.monotonic()
        if self.trigger_id is not None:  # otherwise a task runs it, whose metrics Airflow has set up
            metrics.start_in_triggerer()
        extractions, postponed = self._of(SubmittedExtraction), self._of(PostponedExtraction)
        self._gone_since = {
            extraction.audio_asset_id: extraction.gone_since
            for extraction in extractions
            if extraction.gone_since is not None
        }
        ready = ReadyCount(len(extractions))
        if extractions:
            _waiting[id(self)] = len(extractions), min(each.accepted for each in extractions)
        try:
            async with AsyncExitStack() as stack:
                poller = None  # files need no connection
                if extractions or any(extraction.watch or extraction.refused for extraction in postponed):
                    poller = await stack.enter_async_context(VodHook(self.vod_conn_id).poller())
                audio = [self._audio(poller, extractions, ready)] if poller and extractions else []
                turn = [self._turn(poller, postponed)] if postponed else []
                waits = [asyncio.ensure_future(wait) for wait in (*audio, *turn)]
                claims = {extraction.key: extraction.holder for extraction in postponed if extraction.key}
                if self.holder:
                    # It ends only when there is something to see.
                    waits.append(asyncio.ensure_future(watch(self.holder, claims, lease=lease())))
                try:
                    # Audio need not be collected before all of it is there, but a turn is to be taken.
                    wanted = waits[len(audio) :] if turn else waits
                    while not (
                        await asyncio.wait(
                            wanted, timeout=self.collect_after, return_when=asyncio.FIRST_COMPLETED
                        )
                    )[0]:
                        if extractions and ready.share >= _COLLECT_SHARE:
                            break
                    for wait in wanted:
                        if wait.done():
                            wait.result()
                finally:
                    for wait in waits:
                        wait.cancel()
                    await asyncio.gather(*waits, return_exceptions=True)
        except VodError as error:
            # The resumed task makes the same call and fails with the same error, in its own terms.
            self.log.warning("Waiting ended: %s", error)
        finally:
            _waiting.pop(id(self), None)
            _count_waiting(self)
        await _until_noticed(self, began)
        yield AudioEvent(payload={"records": self._handed_back(), "deadline": self.deadline})

    async def on_kill(self) -> None:
        """Cancel what VOD has queued, when a person ends or clears the task."""
        if self.holder:
            await leave(self.holder)
        extractions = [
            extraction for extraction in self._of(SubmittedExtraction) if not extraction.submitted_by
        ]
        if self.cancel_on_kill and extractions:
            settings = await VodHook(self.vod_conn_id).async_settings()
            task = asyncio.ensure_future(cancel_queued_async(settings, extractions))
            # The triggerer gives up on this method after 30 s; the task that it began goes on.
            _cancelling.add(task)
            task.add_done_callback(_cancelling.discard)
            await asyncio.shield(task)

    async def _audio(self, poller: Poller, extractions: list[SubmittedExtraction], ready: ReadyCount) -> None:
        def on_poll(read: Mapping[str, Asset], pause: float) -> None:
            ready(read, pause)
            _count_waiting(self)

        accepted = max(extraction.accepted for extraction in extractions)
        await poller.wait(
            [extraction.audio_asset_id for extraction in extractions],
            deadline=self.deadline,
            # Sooner there is nothing to be seen.
            first_look=max(accepted + self.poll_interval, self.not_before),
            interval=self.poll_interval,
            grace_until=accepted + VISIBILITY_GRACE,
            on_poll=on_poll,
            gone_since=self._gone_since,
        )

    def _handed_back(self) -> list[dict[str, Any]]:
        """The records, each with the time since when VOD says that its audio asset is gone."""
        return [
            replace(record, gone_since=self._gone_since.get(record.audio_asset_id)).to_json()
            if isinstance(record, SubmittedExtraction)
            else record.to_json()
            for record in map(parse_record, self.records)
        ]

    async def _turn(self, poller: Poller | None, postponed: list[PostponedExtraction]) -> None:
        """Wait until it is worth submitting again: a source is ready, or some time has passed."""
        soonest = min(extraction.again for extraction in postponed)
        again = min(self.deadline, max(soonest, self.not_before))
        watched = [extraction.asset for extraction in postponed if extraction.watch]
        self.log.info(
            "%d assets are left for later, next try in %.0f s at the latest; the first says: %s",
            len(postponed),
            max(again - time.time(), 0.0),
            postponed[0].given_up,
        )
        # What VOD refused although nothing is being done with it is not worth a look, but its time comes.
        if poller and watched:
            await poller.wait(
                watched,
                deadline=again,
                interval=self.poll_interval,
                settled=_is_idle,
                any_will_do=True,
            )
        else:
            await asyncio.sleep(max(again - time.time(), 0.0))
        refused = [extraction.asset for extraction in postponed if extraction.refused]
        if poller and refused:
            # One call for all that wait, instead of one of each task.
            await poller.wait(refused[:1], deadline=self.deadline, settled=lambda _: True)

    def _of(self, kind: type[R]) -> list[R]:
        records = [parse_record(record) for record in self.records]
        return [record for record in records if isinstance(record, kind)]


async def _until_noticed(trigger: BaseTrigger, began: float) -> None:
    """Wait until the scheduler has seen that the task was deferred, if it was: see :data:`SHORTEST_WAIT`."""
    if trigger.trigger_id is not None:  # otherwise a task runs the trigger itself
        await asyncio.sleep(max(began + SHORTEST_WAIT - time.monotonic(), 0.0))


def _packed(records: list[dict[str, Any]]) -> str:
    return base64.b64encode(zlib.compress(json.dumps(records).encode(), 9)).decode()


def _unpacked(text: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(zlib.decompress(base64.b64decode(text)))
    return records


def _count_waiting(trigger: BaseTrigger) -> None:
    """Tell how much the process of *trigger* waits for. StatsD keeps one value of a name with its tags."""
    place = {"hostname": _hostname(), "process": "task" if trigger.trigger_id is None else "triggerer"}
    metrics.gauge("vod.waiting.assets", sum(count for count, _ in _waiting.values()), **place)
    oldest = min((accepted for _, accepted in _waiting.values()), default=time.time())
    metrics.gauge("vod.waiting.oldest", time.time() - oldest, **place)


@cache
def _hostname() -> str:
    """As Airflow tags its own metrics of a triggerer; asked once, for it may ask a name server."""
    return get_hostname()


class SpeechOrdersTrigger(BaseTrigger):
    """Waits until Huawei Cloud SIS has ended all orders of a task, or the deadline has passed.

    The resumed task asks for the texts itself: the event holds the deadline alone.

    :param vod_conn_id: Connection of type ``vod``, whose keys SIS takes; no credential is serialised.
    :param jobs: What SIS calls the orders.
    :param deadline: Seconds since the epoch, so that a restarted triggerer keeps it.
    """

    def __init__(self, vod_conn_id: str, jobs: list[str], deadline: float) -> None:
        super().__init__()
        self.vod_conn_id = vod_conn_id
        self.jobs = jobs
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which a restarted triggerer makes the trigger again."""
        arguments = {"vod_conn_id": self.vod_conn_id, "jobs": self.jobs, "deadline": self.deadline}
        return "vod.triggers.SpeechOrdersTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then give one event: the deadline."""
        began = time.monotonic()
        if self.trigger_id is not None:
            metrics.start_in_triggerer()
        try:
            settings = await VodHook(self.vod_conn_id).async_settings()
            await await_orders(settings.service, settings.sis_endpoint, self.jobs, until=self.deadline)
        except VodError as error:
            # The resumed task makes the same call and fails with the same error, in its own terms.
            self.log.warning("Waiting ended: %s", error)
        await _until_noticed(self, began)
        yield TriggerEvent({"deadline": self.deadline})


def _is_idle(source: Asset) -> bool:
    return source.readiness is not Readiness.TRANSIENT
