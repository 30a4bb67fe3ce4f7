"""Waits for audio assets that another task has asked VOD for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSensorTimeout

from vod import metrics
from vod.batch.arguments import check_choice, time_limit
from vod.batch.ledger import LedgerPages
from vod.batch.outcomes import FailedAssets, conclude, fail_at_once
from vod.batch.progress import name_batch
from vod.batch.rendering import DataIsNotRendered
from vod.batch.settled import SettledRecords
from vod.connection import DEFAULT_CONNECTION
from vod.engines import STANDSTILL_PAUSE, count_extracted, is_open
from vod.errors import InvalidInputError
from vod.records import AssetFailure, ExtractedAudio, Record, SubmittedExtraction, parse_record
from vod.text import printable

# Not imported while a DAG file is parsed: they load HTTP clients.
if TYPE_CHECKING:
    from airflow.sdk import Context

    from vod.hooks import VodHook


class AudioAssetSensor(DataIsNotRendered, BaseSensorOperator):
    """Wait until audio assets of VOD are ready; return :class:`vod.records.ExtractedAudio` records.

    A fault of VOD, or a credential that it refuses for a while, postpones; so does a first word that an audio
    asset is gone. What is wrong with one element costs that one.

    :param audio_assets: What ``ExtractAudioOperator(wait_for_completion=False)`` returned, or ids of audio
        assets; lists may lie in lists, as a mapped task returns them. Failures among the records pass
        through. (templated)
    :param vod_conn_id: Connection of type ``vod``. (templated)
    :param deferrable: Wait in the triggerer. Otherwise ``mode`` is ``poke`` or ``reschedule``, as in any
        sensor. Airflow's setting ``[operators] default_deferrable`` when omitted.
    :param poke_interval: Seconds between two looks; in the triggerer they grow to 30.
    :param failed_assets: ``raise`` fails if an extraction failed, once all are settled; ``return`` returns
        failures among the others.
    :raises AirflowSensorTimeout: not all were settled within ``timeout`` seconds. In the triggerer, an
        ``execution_timeout`` that is shorter counts instead.
    """

    template_fields = ("audio_assets", "vod_conn_id")
    ui_color = "#d8ecf3"

    def __init__(
        self,
        *,
        audio_assets: Any,
        vod_conn_id: str = DEFAULT_CONNECTION,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float = 5.0,
        failed_assets: FailedAssets = "raise",
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        check_choice("failed_assets", failed_assets, ("raise", "return"))
        self.audio_assets = audio_assets
        self.vod_conn_id = vod_conn_id
        self.deferrable = deferrable
        self.failed_assets = failed_assets
        self._looked: list[Record] | None = None  # what the last look of this process has found
        self._worked = self._resumed = False

    @cached_property
    def hook(self) -> VodHook:
        """The connection."""
        from vod.hooks import VodHook

        return VodHook(self.vod_conn_id)

    def execute(self, context: Context) -> Any:
        """Look once, and wait in the triggerer if that is not enough; or look again and again.

        :raises TaskDeferred: the task waits in the triggerer.
        """
        if not self.deferrable:
            try:
                return super().execute(context)
            except AirflowSensorTimeout:
                with self._failing_at_once():
                    raise
        with self._failing_at_once():
            deadline = time.time() + time_limit(self.timeout, self.execution_timeout)
            return self._wait(context, self._records(context), deadline)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look again after the trigger's wait, and wait on while there is time."""
        with self._failing_at_once():
            self._worked = self._resumed = True
            handed_back = [parse_record(record) for record in event["records"]]
            records, whole = SettledRecords(context["task_state_store"], event["deadline"]).complete(
                handed_back
            )
            if not whole:  # somebody has emptied the store: look at all once more
                known = set(map(_identity, records))
                records += [record for record in self._records(context) if _identity(record) not in known]
            return self._wait(context, records, event["deadline"])

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once at all that are not ready yet."""
        with self._failing_at_once():
            if self._looked is None:
                self._looked = self._records(context)
                self._worked |= bool(self.reschedule and context["ti"].get_first_reschedule_date(context))
            self._looked = records = self._look(context, self._looked)
            if self.reschedule and (pause := min(self.hook.client.refused_for, self._time_left(context))) > 0:
                # In a process of its own, each look would be one more call that keeps a key locked.
                raise AirflowRescheduleException(datetime.now(timezone.utc) + timedelta(seconds=pause))
            if any(map(is_open, records)):
                return PokeReturnValue(False)
            return PokeReturnValue(True, self._result(context, records))

    def _wait(self, context: Context, records: Sequence[Record], deadline: float) -> list[dict[str, Any]]:
        from vod.triggers import AudioAssetTrigger

        time_is_up = time.time() >= deadline
        found = self._look(context, records, time_is_up=time_is_up)
        if not any(map(is_open, found)):
            return self._result(context, found)
        if time_is_up:
            waiting = sum(map(is_open, found))
            raise AirflowSensorTimeout(
                f"{waiting} of {len(found)} audio assets are not ready, and the time is up."
            )
        return self.defer(
            trigger=AudioAssetTrigger(
                vod_conn_id=self.vod_conn_id,
                records=SettledRecords(context["task_state_store"], deadline).keep(found),
                deadline=deadline,
                poll_interval=self.poke_interval,
                not_before=time.time() + STANDSTILL_PAUSE
                if self._resumed and found == list(records)
                else 0.0,
                cancel_on_kill=False,  # the extractions are not this task's
            ),
            method_name="execute_complete",
        )

    def _result(self, context: Context, records: Sequence[Record]) -> list[dict[str, Any]]:
        """What the task returns. Counts what has become of the extractions: the audio once, also if the task
        runs again, and failures at each try.

        What came here as a failure, or waits for another task's extraction, counts there.
        """
        own = {
            record.asset
            for record in self._records(context)
            if isinstance(record, SubmittedExtraction) and not record.submitted_by
        }
        counted = LedgerPages(context["task_state_store"], size=1000)
        new: list[ExtractedAudio] = []
        for record in records:
            if isinstance(record, AssetFailure) and record.asset in own:
                metrics.count("vod.assets.failed", task="audio", outcome=record.outcome)
            if isinstance(record, ExtractedAudio) and record.asset in own:
                key = _identity(record)
                if not counted.get(key):
                    counted.set(key, {"counted": True})
                    new.append(record)
        counted.save()
        for record in new:
            count_extracted(record)
        return conclude(records, self.failed_assets)

    def _failing_at_once(self) -> AbstractContextManager[None]:
        return fail_at_once("audio", lambda: len(list(_flat(self.audio_assets))))

    def _look(self, context: Context, records: Sequence[Record], *, time_is_up: bool = False) -> list[Record]:
        """The records, with a result for each audio asset that is ready or has failed."""
        from vod.engines.audio_assets import collect

        name_batch(context, [record.asset for record in records])
        waiting = [record for record in records if isinstance(record, SubmittedExtraction)]
        # Who submitted them has used the connection.
        worked = self._worked or any(record.audio_format for record in waiting)
        outcomes = collect(self.hook.client, waiting, self.vod_conn_id, time_is_up=time_is_up, patient=worked)
        self._worked = True
        ready = len(waiting) - sum(map(is_open, outcomes.values()))
        self.log.info("%d of %d audio assets are ready.", len(records) - len(waiting) + ready, len(records))
        return [
            self._of(record, outcomes[record.audio_asset_id])
            if isinstance(record, SubmittedExtraction)
            else record
            for record in records
        ]

    def _time_left(self, context: Context) -> float:
        """Seconds, in the mode ``reschedule``."""
        began = context["ti"].get_first_reschedule_date(context) or datetime.now(timezone.utc)
        return began.timestamp() + self.timeout - time.time()

    @staticmethod
    def _of(record: SubmittedExtraction, outcome: Record) -> Record:
        """The outcome of an audio asset under the name that this record has for its source."""
        return outcome if outcome.asset == record.asset else replace(outcome, asset=record.asset)

    def _records(self, context: Context) -> list[Record]:
        given = list(_flat(self.audio_assets))
        if not given:
            raise InvalidInputError(
                "No audio assets were given.",
                remedy="Give ids, or what ExtractAudioOperator(wait_for_completion=False) returned.",
            )
        # When VOD accepted a bare id is not known: its grace period starts with this task.
        ti = context["ti"]
        started = (ti.get_first_reschedule_date(context) if self.reschedule else None) or ti.start_date
        accepted = started.timestamp() if started else time.time()
        return [_record(element, accepted) for element in given]


def _flat(given: Any) -> Iterator[Any]:
    """The elements of a list of lists, without what is empty."""
    if isinstance(given, str):
        if given.strip():
            yield given.strip()
    elif isinstance(given, Iterable) and not isinstance(given, Mapping):
        for element in given:
            yield from _flat(element)
    elif given is not None and given != {}:
        yield given


def _identity(record: Record) -> str:
    return getattr(record, "audio_asset_id", None) or record.asset


def _record(element: Any, accepted: float) -> Record:
    if isinstance(element, str):
        return SubmittedExtraction(asset=element, audio_asset_id=element, audio_format="", accepted=accepted)
    try:
        return parse_record(dict(element))
    except (KeyError, TypeError, ValueError):
        error = InvalidInputError(
            "This is neither the id of an audio asset nor a record of ExtractAudioOperator.",
            remedy="Give ids, or what ExtractAudioOperator(wait_for_completion=False) returned.",
        )
        return AssetFailure.from_error(printable(str(element))[:100], error)
