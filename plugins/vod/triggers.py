"""The triggers behind operator and sensor: waiting that holds no worker slot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from vod import results
from vod.errors import VodError
from vod.extraction import VISIBILITY_GRACE, cancel_words, progress_logger
from vod.hooks import VodHook
from vod.results import SubmittedExtraction


class AudioAssetTrigger(BaseTrigger):
    """Waits until audio assets are ready, have failed, or the deadline has passed.

    The event hands the records back as they are: whoever resumes reads the assets itself. They travel through
    the trigger because ``dag.test()`` drops the keyword arguments of ``defer`` (Airflow 3.3.2).

    :param vod_conn_id: Connection of type ``vod``; no credential is serialised.
    :param records: Records of the batch; those that say ``submitted`` are waited for.
    :param deadline: Seconds since the epoch, so that a restarted triggerer keeps it.
    :param poll_interval: Seconds before the second look; it grows to 30.
    :param cancel_on_kill: Cancel what is queued when a person ends or clears the task.
    """

    def __init__(
        self,
        vod_conn_id: str,
        records: list[dict[str, Any]],
        deadline: float,
        poll_interval: float = 5.0,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()
        self.vod_conn_id = vod_conn_id
        self.records = records
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        # A literal path: __module__ differs when the plugins folder has run a file as a top-level module.
        return (
            "vod.triggers.AudioAssetTrigger",
            {
                "vod_conn_id": self.vod_conn_id,
                "records": self.records,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        extractions = self._extractions()
        try:
            async with VodHook(self.vod_conn_id).poller() as poller:
                await poller.wait(
                    [extraction.audio_asset_id for extraction in extractions],
                    deadline=self.deadline,
                    interval=self.poll_interval,
                    grace_until=max(extraction.accepted for extraction in extractions) + VISIBILITY_GRACE,
                    on_poll=progress_logger(len(extractions)),
                )
        except VodError as error:
            # Whoever resumes makes the same call and fails with the same error, in the task's own terms.
            self.log.warning("Waiting ended: %s", error)
        yield TriggerEvent({"records": self.records})

    async def on_kill(self) -> None:
        if not self.cancel_on_kill:
            return
        async with VodHook(self.vod_conn_id).async_client() as client:
            for extraction in self._extractions():
                try:
                    cancelled = await client.cancel_extraction(extraction.asset, extraction.audio_asset_id)
                except VodError as error:
                    self.log.warning("Cancelling the extraction of %s failed: %s", extraction.asset, error)
                else:
                    self.log.info("Extraction of %s: %s.", extraction.asset, cancel_words(cancelled))

    def _extractions(self) -> list[SubmittedExtraction]:
        records = [results.from_json(record) for record in self.records]
        return [record for record in records if isinstance(record, SubmittedExtraction)]
