"""Extraction on this worker with ffmpeg: one of the two engines behind ExtractAudioOperator."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed

from vod import media
from vod.errors import VodError
from vod.hooks import VodHook
from vod.ledger import Ledger
from vod.results import AssetFailure, ExtractedAudio, Record
from vod.storage import Destination, file_stem, is_asset_id, local_copy, local_path

log = logging.getLogger(__name__)


class LocalEngine:
    """Extraction on this worker with ffmpeg, one process a core."""

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        audio_format: str,
        destination: Destination,
        *,
        language: str | None = None,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._destination = destination
        self._language = language
        self._cancelled = threading.Event()

    def extract(self, assets: Iterable[str]) -> dict[str, Record]:
        """Extract each asset that an earlier try did not finish."""
        outcomes: dict[str, Record] = {}
        todo = []
        for asset in assets:
            finished = self._finished(asset)
            if finished:
                outcomes[asset] = finished
            else:
                todo.append(asset)
        with ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="extract") as pool:
            futures = {pool.submit(self._extract_one, asset): asset for asset in todo}
            try:
                for future in as_completed(futures):
                    asset = futures[future]
                    try:
                        record = future.result()
                    except VodError as error:
                        outcomes[asset] = AssetFailure.of(asset, error)
                        log.warning("%s", outcomes[asset])
                    else:
                        outcomes[asset] = record
                        self._ledger.finish(asset, record.to_json())
                    log.info("Extracted %d/%d assets with ffmpeg.", len(outcomes), len(todo))
            except BaseException:
                self.cancel()
                raise
        return outcomes

    def cancel(self) -> None:
        """End the running ffmpeg processes; what they wrote is removed."""
        self._cancelled.set()

    def _finished(self, asset: str) -> ExtractedAudio | None:
        entry = self._ledger.get(asset)
        if not entry or "record" not in entry:
            return None
        record = ExtractedAudio(**entry["record"])
        return record if self._destination.size(self._name(asset)) == record.size else None

    def _name(self, asset: str) -> str:
        return file_stem(asset) + media.EXTENSIONS[self._audio_format]

    def _extract_one(self, asset: str) -> ExtractedAudio:
        started = time.monotonic()
        title = self._hook.client.asset_details(asset).title if is_asset_id(asset) else None
        with (
            local_copy(asset, self._hook) as source,
            self._destination.writing(self._name(asset)) as target,
        ):
            extraction = media.extract(
                source,
                target,
                audio_format=self._audio_format,
                language=self._language,
                cancelled=self._cancelled,
            )
        path = local_path(asset)
        return ExtractedAudio(
            asset=asset,
            uri=self._destination.uri(self._name(asset)),
            audio_format=self._audio_format,
            codec=extraction.codec,
            duration=extraction.duration,
            size=extraction.size,
            sample_rate=extraction.sample_rate,
            channels=extraction.channels,
            title=title or (path.stem if path else None),
            engine="ffmpeg",
            seconds=round(time.monotonic() - started, 3),
        )
