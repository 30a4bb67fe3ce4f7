"""Waits for audio assets that another task has asked VOD for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSensorTimeout

from vod.batch.arguments import check_choice, time_limit
from vod.batch.outcomes import FailedAssets, conclude, fail_at_once
from vod.batch.progress import name_batch
from vod.batch.rendering import DataIsNotRendered
from vod.connection import DEFAULT_CONNECTION
from vod.engines import is_open
from vod.errors import InvalidInputError
from vod.records import Record, SubmittedExtraction, parse_record

# Not imported while a DAG file is parsed: they load HTTP clients.
if TYPE_CHECKING:
    from airflow.sdk import Context

    from vod.hooks import VodHook


class AudioAssetSensor(DataIsNotRendered, BaseSensorOperator):
    """Wait until audio assets of VOD are ready; return :class:`vod.records.ExtractedAudio` records.

    :param audio_assets: What ``ExtractAudioOperator(wait_for_completion=False)`` returned, or ids of audio
        assets. Failures among the records pass through. (templated)
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
        self._settled: dict[str, Record] = {}

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
            return super().execute(context)
        with fail_at_once():
            deadline = time.time() + time_limit(self.timeout, self.execution_timeout)
            return self._wait(context, self._records(context), deadline)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Look again after the trigger's wait, and wait on while there is time."""
        with fail_at_once():
            records = [parse_record(record) for record in event["records"]]
            return self._wait(context, records, event["deadline"])

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once at all that are not ready yet."""
        with fail_at_once():
            records = self._look(context, self._records(context))
            if any(map(is_open, records)):
                return PokeReturnValue(False)
            return PokeReturnValue(True, conclude(records, self.failed_assets))

    def _wait(self, context: Context, records: Sequence[Record], deadline: float) -> list[dict[str, Any]]:
        from vod.triggers import AudioAssetTrigger

        time_is_up = time.time() >= deadline
        found = self._look(context, records, time_is_up=time_is_up)
        if not any(map(is_open, found)):
            return conclude(found, self.failed_assets)
        if time_is_up:
            waiting = sum(map(is_open, found))
            raise AirflowSensorTimeout(
                f"{waiting} of {len(found)} audio assets are not ready, and the time is up."
            )
        return self.defer(
            trigger=AudioAssetTrigger(
                vod_conn_id=self.vod_conn_id,
                records=[record.to_json() for record in found],
                deadline=deadline,
                poll_interval=self.poke_interval,
                cancel_on_kill=False,  # the extractions are not this task's
            ),
            method_name="execute_complete",
        )

    def _look(self, context: Context, records: Sequence[Record], *, time_is_up: bool = False) -> list[Record]:
        """The records, with a result for each audio asset that is ready or has failed."""
        from vod.engines.audio_assets import collect

        name_batch(context, [record.asset for record in records])
        known = [self._settled.get(record.asset, record) for record in records]
        waiting = [record for record in known if isinstance(record, SubmittedExtraction)]
        outcomes = collect(self.hook.client, waiting, self.vod_conn_id, time_is_up=time_is_up)
        self._settled |= {asset: outcome for asset, outcome in outcomes.items() if not is_open(outcome)}
        ready = len(waiting) - sum(map(is_open, outcomes.values()))
        self.log.info("%d of %d audio assets are ready.", len(records) - len(waiting) + ready, len(records))
        return [outcomes.get(record.asset, record) for record in known]

    def _records(self, context: Context) -> list[Record]:
        given = [self.audio_assets] if isinstance(self.audio_assets, (str, Mapping)) else self.audio_assets
        if not isinstance(given, Sequence) or not any(given):
            raise InvalidInputError(
                "No audio assets were given.",
                remedy="Give ids, or what ExtractAudioOperator(wait_for_completion=False) returned.",
            )
        # When VOD accepted a bare id is not known: its grace period starts with this task.
        ti = context["ti"]
        started = (ti.get_first_reschedule_date(context) if self.reschedule else None) or ti.start_date
        accepted = started.timestamp() if started else time.time()
        return [
            SubmittedExtraction(asset=element, audio_asset_id=element, audio_format="", accepted=accepted)
            if isinstance(element, str)
            else parse_record(dict(element))
            for element in given
        ]
