"""The triggers behind operator and sensor: waiting that holds no worker slot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from vod.errors import VodError
from vod.extraction import VISIBILITY_GRACE, progress_logger
from vod.hooks import VodHook


class AudioAssetTrigger(BaseTrigger):
    """Waits until audio assets are ready, have failed, or the deadline has passed.

    The event says only that the wait is over: whoever resumes reads the assets itself.

    :param vod_conn_id: Connection of type ``vod``; no credential is serialised.
    :param extractions: :class:`vod.results.SubmittedExtraction` records.
    :param deadline: Seconds since the epoch, so that a restarted triggerer keeps it.
    :param poll_interval: Seconds before the second look; it grows to 30.
    :param cancel_on_kill: Cancel what is queued when a person ends or clears the task.
    """

    def __init__(
        self,
        vod_conn_id: str,
        extractions: list[dict[str, Any]],
        deadline: float,
        poll_interval: float = 5.0,
        cancel_on_kill: bool = True,
    ) -> None:
        super().__init__()
        self.vod_conn_id = vod_conn_id
        self.extractions = extractions
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        # A literal path: __module__ differs when the plugins folder has run a file as a top-level module.
        return (
            "vod.triggers.AudioAssetTrigger",
            {
                "vod_conn_id": self.vod_conn_id,
                "extractions": self.extractions,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        pending: list[str] = []
        try:
            async with VodHook(self.vod_conn_id).async_client() as client:
                pending = await client.wait_until_settled(
                    [extraction["audio_asset_id"] for extraction in self.extractions],
                    deadline=self.deadline,
                    interval=self.poll_interval,
                    grace_until=max(extraction["accepted"] for extraction in self.extractions)
                    + VISIBILITY_GRACE,
                    on_poll=progress_logger(len(self.extractions)),
                )
        except VodError as error:
            # Whoever resumes makes the same call and fails with the same error, in the task's own terms.
            self.log.warning("Waiting ended: %s", error)
        yield TriggerEvent({"pending": len(pending)})

    async def on_kill(self) -> None:
        if not self.cancel_on_kill:
            return
        async with VodHook(self.vod_conn_id).async_client() as client:
            for extraction in self.extractions:
                try:
                    cancelled = await client.cancel_extraction(
                        extraction["asset"], extraction["audio_asset_id"]
                    )
                except VodError as error:
                    self.log.warning("Cancelling the extraction of %s failed: %s", extraction["asset"], error)
                else:
                    self.log.info(
                        "Extraction of %s: %s.",
                        extraction["asset"],
                        "cancelled" if cancelled else "already running or ended, VOD cannot cancel it",
                    )
