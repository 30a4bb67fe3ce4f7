"""Audio that VOD has made, copied to a destination: several files at a time, and each once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vod import media
from vod.batch.ledger import Ledger
from vod.cloud.errors import ExtractionFailedError
from vod.engines import Outcomes, SubmissionStoppedError
from vod.errors import VodError
from vod.locations import file_stem
from vod.logs import get_logger
from vod.records import AssetFailure, ExtractedAudio, Record, parse_record
from vod.storage.destination import Destination, replacing
from vod.storage.sources import DOWNLOAD_LIMIT, BoundedFile

if TYPE_CHECKING:
    from vod.cloud.client import VodClient
    from vod.hooks import VodHook

log = get_logger(__name__)

AT_ONCE = 8
"""Files that are copied at a time. Most of the time they wait for the network."""

_LONGEST = 6 * 3600.0
"""Seconds that one copy may take."""
_SECONDS_BETWEEN_MESSAGES = 10.0


class CopyFailedError(VodError):
    """Copying one file failed with an unexpected error."""

    outcome = "copy_failed"
    retryable = True
    remedy = "Try again: only what is missing is copied. The log of this try has the details."


class Copies:
    """Copies audio assets to a destination.

    :param ledger: Remembers each copy once it is whole. It is used in the calling thread only.
    :param stopping: Ends what is under way when it is set, from any thread.
    :param report: Gets messages about how far the batch is.
    """

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        destination: Destination,
        *,
        stopping: threading.Event,
        report: Callable[[str], None] = log.info,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._destination = destination
        self._stopping = stopping
        self._report = report

    def earlier(self, assets: Iterable[str]) -> Outcomes:
        """What an earlier try copied and is still whole; a failure where the destination does not say."""
        noted = [(self._ledger.get(asset) or {}).get("copy") for asset in assets]
        return self.whole(filter(None, noted))

    def whole(self, copies: Iterable[Mapping[str, Any]]) -> Outcomes:
        """Those that lie at this destination and have the size noted; a failure where it does not say.

        :param copies: :class:`vod.records.ExtractedAudio` as JSON.
        """
        records = [parse_record(dict(record)) for record in copies]
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="look") as pool:
            found = pool.map(self._whole, records)
        return {record.asset: outcome for record, outcome in zip(records, found, strict=True) if outcome}

    def copy(self, records: Sequence[ExtractedAudio]) -> Outcomes:
        """Copy audio; what fails is the failure of its asset.

        :raises SubmissionStoppedError: the task was ended meanwhile. What was whole by then is noted.
        """
        if not records:
            return {}
        outcomes: Outcomes = {}
        client = self._hook.client
        reported_at = time.monotonic()
        with ThreadPoolExecutor(min(AT_ONCE, len(records)), thread_name_prefix="copy") as pool:
            futures = {pool.submit(self._copy, client, record): record.asset for record in records}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    asset = futures[future]
                    outcomes[asset] = outcome = self._outcome(asset, future)
                    if isinstance(outcome, ExtractedAudio):
                        self._ledger.copied(asset, outcome.to_json())
                    if time.monotonic() - reported_at >= _SECONDS_BETWEEN_MESSAGES:
                        reported_at = time.monotonic()
                        self._report(f"Copied {done}/{len(records)} audio files.")
            except BaseException:
                self._stopping.set()
                raise
        if self._stopping.is_set():
            raise SubmissionStoppedError("The task was ended while it copied audio.")
        self._report(f"Copied {len(records)}/{len(records)} audio files.")
        return outcomes

    def _outcome(self, asset: str, future: Future[ExtractedAudio]) -> Record:
        try:
            return future.result()
        except VodError as error:
            return AssetFailure.from_error(asset, error)
        except OSError as error:
            uri = self._destination.uri(file_stem(asset))
            return AssetFailure.from_error(asset, media.not_done(uri, "written", error))
        except Exception as error:
            # The trouble of one asset must not be that of the others.
            log.exception("%s: copying its audio failed.", asset)
            return AssetFailure.from_error(asset, CopyFailedError(f"{type(error).__name__} in copying."))

    def _copy(self, client: VodClient, record: ExtractedAudio) -> ExtractedAudio:
        limits = media.Limits(_LONGEST, self._stopping)
        limits.check()
        name = self._name(record)
        with self._destination.writing(name) as path, replacing(path) as part:
            with part.open("wb") as file:
                client.download(record.audio_asset_id or "", BoundedFile(file, DOWNLOAD_LIMIT, limits))
            info = media.probe(part)
            if not info.audio:
                raise ExtractionFailedError("VOD's audio asset has no audio track.", asset=record.asset)
            limits.check()
        track = info.audio[0]
        return replace(
            record,
            uri=self._destination.uri(name),
            codec=track.codec,
            duration=info.duration,
            size=info.size,
            sample_rate=track.sample_rate,
            channels=track.channels,
        )

    def _whole(self, record: Record) -> Record | None:
        assert isinstance(record, ExtractedAudio)
        name = self._name(record)
        try:
            here = record.uri == self._destination.uri(name)
            return record if here and self._destination.size(name) == record.size else None
        except VodError as error:
            return AssetFailure.from_error(record.asset, error)

    @staticmethod
    def _name(record: ExtractedAudio) -> str:
        return file_stem(record.asset) + media.EXTENSIONS[record.audio_format]
