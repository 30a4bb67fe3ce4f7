"""Waits for audio assets that somebody else asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout

from vod.batch.arguments import check_choice
from vod.batch.outcomes import FailedAssets, conclude, fail_at_once
from vod.cloud.assets import Asset
from vod.cloud.errors import CloudError, ExtractionFailedError
from vod.connection import DEFAULT_CONNECTION
from vod.engines.vod import extracted, within_grace
from vod.errors import InvalidInputError
from vod.hooks import VodHook
from vod.records import AssetFailure, Record, SubmittedExtraction, parse_record
from vod.triggers import AudioAssetTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class AudioAssetSensor(BaseSensorOperator):
    """Wait until audio assets of VOD are ready, and return them as :class:`vod.records.ExtractedAudio`
    records.

    :param audio_assets: What ``ExtractAudioOperator(wait_for_completion=False)`` returned, or ids of audio
        assets. Failures among the records pass through. (templated)
    :param vod_conn_id: Connection of type ``vod``. (templated)
    :param deferrable: Wait in the triggerer. Otherwise ``mode`` is ``poke`` or ``reschedule``, as in any
        sensor.
    :param poke_interval: Seconds between two looks; in the triggerer they grow to 30.
    :param failed_assets: ``raise`` fails if an extraction failed, once all are settled; ``return`` returns
        failures among the others.
    :raises AirflowSensorTimeout: not all were settled within ``timeout`` seconds.
    """

    template_fields = ("audio_assets", "vod_conn_id")
    ui_color = "#d8ecf3"

    def __init__(
        self,
        *,
        audio_assets: Any,
        vod_conn_id: str = DEFAULT_CONNECTION,
        deferrable: bool = True,
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

    @cached_property
    def hook(self) -> VodHook:
        return VodHook(self.vod_conn_id)

    @cached_property
    def _settled(self) -> dict[str, Asset]:
        """Audio assets that need no other look."""
        return {}

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        with fail_at_once():
            records = self._records(context)
            found = self._look(records)
        if found.is_done:
            return found.xcom_value
        return self.defer(
            trigger=AudioAssetTrigger(
                vod_conn_id=self.vod_conn_id,
                records=[record.to_json() for record in records],
                deadline=time.time() + self.timeout,
                poll_interval=self.poke_interval,
                cancel_on_kill=False,  # the extractions are not this task's
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Collect after the trigger's wait."""
        with fail_at_once():
            found = self._look([parse_record(record) for record in event["records"]], last=True)
        if not found.is_done:
            raise AirflowSensorTimeout(f"Audio assets were not ready within {self.timeout:.0f} s.")
        return found.xcom_value

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once at all of them."""
        with fail_at_once():
            return self._look(self._records(context))

    def _look(self, records: Sequence[Record], *, last: bool = False) -> PokeReturnValue:
        extractions = _extractions(records)
        waiting = [entry for entry in extractions if entry.audio_asset_id not in self._settled]
        try:
            read = self.hook.client.asset_info(extraction.audio_asset_id for extraction in waiting)
        except CloudError as error:
            if last or not error.retryable:
                raise
            self.log.warning("VOD cannot be read, waiting on: %s", error)
            return PokeReturnValue(False)
        for extraction in waiting:
            audio = read[extraction.audio_asset_id]
            if audio.settled(grace=within_grace(extraction.accepted)):
                self._settled[audio.asset_id] = audio
        ready = sum(extraction.audio_asset_id in self._settled for extraction in extractions)
        self.log.info("Ready %d/%d audio assets.", ready, len(extractions))
        if ready < len(extractions):
            return PokeReturnValue(False)
        outcomes: dict[str, Record] = {}
        for extraction in extractions:
            try:
                audio = self._settled[extraction.audio_asset_id]
                outcomes[extraction.asset] = extracted(extraction, audio, self.vod_conn_id)
            except ExtractionFailedError as error:
                outcomes[extraction.asset] = AssetFailure.of(extraction.asset, error)
        return PokeReturnValue(
            True, conclude([outcomes.get(record.asset, record) for record in records], self.failed_assets)
        )

    def _records(self, context: Context) -> list[Record]:
        given = [self.audio_assets] if isinstance(self.audio_assets, (str, Mapping)) else self.audio_assets
        if not isinstance(given, Sequence) or not any(given):
            raise InvalidInputError(
                "No audio assets were given.",
                remedy="Give ids, or what ExtractAudioOperator(wait_for_completion=False) returned.",
            )
        # When a bare id was accepted is not known: its grace period starts with this task.
        ti = context["ti"]
        started = (ti.get_first_reschedule_date(context) if self.reschedule else None) or ti.start_date
        accepted = started.timestamp() if started else time.time()
        return [
            SubmittedExtraction(asset=element, audio_asset_id=element, audio_format="", accepted=accepted)
            if isinstance(element, str)
            else parse_record(dict(element))
            for element in given
        ]


def _extractions(records: Sequence[Record]) -> list[SubmittedExtraction]:
    return [record for record in records if isinstance(record, SubmittedExtraction)]
