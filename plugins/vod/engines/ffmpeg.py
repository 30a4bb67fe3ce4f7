"""Extraction on this worker with ffmpeg."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from vod import media
from vod.batch.ledger import KillsItsProcessError, Ledger
from vod.cores import cores
from vod.engines import Outcomes, count_extracted
from vod.engines.claims import EngineClaims
from vod.engines.ffmpeg_asset import AssetExtraction
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import VodError
from vod.locations import AllowedLocations, is_asset_id, local_path, public_name
from vod.logs import get_logger
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    parse_record,
)
from vod.storage.destination import Destination
from vod.storage.sources import check_source

if TYPE_CHECKING:
    from vod.hooks import VodHook
    from vod.library.register import Register

log = get_logger(__name__)

_SIGN_EVERY = 20.0


class UnexpectedError(VodError):
    """The extraction of one asset failed in a way that nobody has foreseen."""

    retryable = True
    remedy = "Try again. If it stays, the log of this try has the details for whoever maintains this."


class FfmpegEngine:
    """Extraction on this worker with ffmpeg. It is done when :meth:`start` returns, but for what another task
    is extracting at the same time.

    :param hook: For assets of VOD only.
    :param ledger: What an earlier try finished is not done again.
    :param register: What all tasks know together: what another task is extracting is waited for.
    :param claimed: Whether the caller has claimed what it gives, and tells what has failed.
    :param options: What is asked of every asset, besides the format.
    :param force: Do again what an earlier run has left at the destination. What the ledger says is done, is
        done.
    :param ffmpeg: Path of the program, if the connection names one.
    :param allowed: What may be read; Airflow's configuration says it when omitted.
    :param on_record: Called with each outcome as it comes, in the calling thread.
    :param on_progress: Called with how far an asset is, in any thread.
    :raises InvalidInputError: what is asked for cannot be done.
    """

    def __init__(
        self,
        hook: VodHook | None,
        ledger: Ledger,
        audio_format: str,
        destination: Destination,
        *,
        register: Register | None = None,
        claimed: bool = False,
        options: FfmpegOptions | None = None,
        force: bool = False,
        ffmpeg: str | None = None,
        allowed: AllowedLocations | None = None,
        on_record: Callable[[Record], None] | None = None,
        on_progress: Callable[[str, media.Progress], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._destination = destination
        self._register = register
        self._claims = EngineClaims(register) if register and not claimed else None
        self._options = options = options or FfmpegOptions()
        self._force = force
        self._stopping = threading.Event()
        self._extraction = AssetExtraction(
            hook,
            destination,
            audio_format,
            options,
            force=force,
            allowed=allowed,
            on_progress=on_progress,
            stopping=self._stopping,
        )
        self._ffmpeg = ffmpeg
        self._allowed = allowed
        self._on_record = on_record

    def start(self, assets: Sequence[str]) -> Outcomes:
        """Extract each asset that no earlier try finished or found impossible, the smallest first."""
        outcomes: Outcomes = {}
        for asset in assets:
            try:
                check_source(asset, self._allowed)
                earlier = self._earlier_outcome(asset)
            except VodError as error:  # no source, or the destination does not say whether its audio is there
                outcomes[asset] = self._failed(asset, error)
                continue
            if earlier:
                outcomes[asset] = earlier
                if self._on_record:
                    self._on_record(earlier)
        outcomes |= self._begin([asset for asset in assets if asset not in outcomes], {})
        return {asset: outcomes[asset] for asset in assets}

    def advance(self, outcomes: Mapping[str, Record], *, time_is_up: bool) -> Outcomes:
        """Extract what another task was working on, unless it has its audio by now."""
        waiting = {
            asset: outcome for asset, outcome in outcomes.items() if isinstance(outcome, PostponedExtraction)
        }
        if time_is_up:
            return {asset: outcome.given_up for asset, outcome in waiting.items()}
        now = time.time()
        due = [asset for asset, outcome in waiting.items() if outcome.again <= now]
        return {**waiting, **self._begin(due, waiting)}

    def release(self, failures: Mapping[str, AssetFailure]) -> None:
        """Let other tasks go on with assets that this one has given up."""
        if self._register:
            self._register.release({asset: failure.to_json() for asset, failure in failures.items()})

    def has_finished(self, asset: str) -> bool:
        """Whether an earlier try of this task has extracted it."""
        return "record" in (self._ledger.get(asset) or {})

    def made(self, asset: str, known: Mapping[str, Any]) -> Record | None:
        """What a run has made, if it is what this engine would make and is still there.

        :param known: The run's :class:`ExtractedAudio` as JSON.
        :returns: the failure of the asset where the destination does not say; ``None`` for other audio.
        """
        record = parse_record(dict(known))
        if self._force or not isinstance(record, ExtractedAudio):
            return None
        try:
            if record.uri != self._destination.uri(self._extraction.name(asset)):
                return None
            if not self._is_whole(asset, record):
                return None
        except VodError as error:
            return self._failed(asset, error)
        record = replace(record, reused=True)
        if self._on_record:
            self._on_record(record)
        return record

    def cancel(self) -> None:
        """End the running ffmpeg processes; what they wrote is removed."""
        self._stopping.set()

    def _begin(self, assets: list[str], waiting: Mapping[str, PostponedExtraction]) -> Outcomes:
        """Extract those that no other task is extracting."""
        if self._claims is None or not assets:
            return self._noted(self._extract(assets))
        claims = self._claims.ask(assets, waiting)
        return {
            **self._claims.taken_by_others(claims, waiting),
            **self._noted(self._extract([*claims.granted, *claims.known])),
        }

    def _noted(self, outcomes: Outcomes) -> Outcomes:
        for asset, outcome in outcomes.items():
            if not isinstance(outcome, AssetFailure):
                continue
            if not outcome.retryable:
                self._ledger.fail(asset, outcome.to_json())
                if self._claims:
                    self._claims.fail(asset, outcome)
            elif self._claims:
                self._claims.register.release({asset: outcome.to_json()})
        self._ledger.save()
        return outcomes

    def _extract(self, assets: list[str]) -> Outcomes:
        if not assets:
            return {}
        began = time.monotonic()
        try:
            program = media.find_ffmpeg(self._ffmpeg)
        except media.FfmpegNotFoundError as error:
            return {asset: self._failed(asset, error) for asset in assets}
        # Beside the first extraction: it takes as long as a short copy.
        inspection = threading.Thread(target=self._inspect, args=(program,))
        inspection.start()
        processes = min(self._options.processes or cores(), len(assets))
        log.info("Extracting %d assets with ffmpeg, %d at a time.", len(assets), processes)
        outcomes: Outcomes = {}
        # What may have killed an earlier try is begun alone, when the rest is done.
        suspects = [asset for asset in assets if self._ledger.begun(asset)]
        rest = [asset for asset in assets if asset not in set(suspects)]
        for group, at_a_time in ((rest, processes), (suspects, 1)):
            self._extract_group(program, sorted(group, key=_bytes), at_a_time, outcomes, len(assets))
        inspection.join()
        log.info("%s", _summary([*outcomes.values()], time.monotonic() - began))
        return outcomes

    def _extract_group(
        self, program: str, assets: list[str], at_a_time: int, outcomes: Outcomes, total: int
    ) -> None:
        """Extract so many at a time into *outcomes*; each is noted as begun before it is."""
        waiting, running = deque(assets), dict[Future[ExtractedAudio], str]()
        # One more than there are threads is ready, so that none waits for the ledger.
        ready = at_a_time + 1 if at_a_time > 1 else 1
        try:
            with ThreadPoolExecutor(max_workers=at_a_time, thread_name_prefix="extract") as pool:
                try:
                    while waiting or running:
                        begun: list[str] = []
                        while waiting and len(running) + len(begun) < ready:
                            asset = waiting.popleft()
                            try:
                                self._ledger.check(asset)
                                begun.append(asset)
                            except KillsItsProcessError as error:
                                outcomes[asset] = self._failed(asset, error)
                        if begun:
                            self._ledger.begin(begun)
                        running |= {
                            pool.submit(self._extraction.run, program, asset): asset for asset in begun
                        }
                        done = wait(running, timeout=_SIGN_EVERY, return_when=FIRST_COMPLETED).done
                        if self._register:
                            self._register.sign()
                        for future in done:
                            asset = running.pop(future)
                            outcomes[asset] = record = self._outcome(asset, future)
                            name, count = public_name(asset), len(outcomes)
                            log.info("%s: %s (%d/%d).", name, record.outcome, count, total)
                except BaseException:
                    self.cancel()
                    raise
        finally:
            for asset in running.values():  # the task is ended, and not by these
                self._ledger.forget(asset)
            self._ledger.save()

    def _outcome(self, asset: str, future: Future[ExtractedAudio]) -> Record:
        try:
            record = future.result()
        except VodError as error:
            self._ledger.forget(asset)
            return self._failed(asset, error)
        except Exception as error:
            # The trouble of one asset must not be that of the others.
            log.exception("%s: the extraction itself failed.", public_name(asset))
            self._ledger.forget(asset)
            return self._failed(asset, UnexpectedError(f"{type(error).__name__} in the extraction."))
        self._ledger.finish(asset, record.to_json(), save=False)  # with the next that is begun, or at the end
        if self._register:
            self._register.finish({asset: record.to_json()}, {})
        if not record.reused:
            count_extracted(record)
        if self._on_record:
            self._on_record(record)
        return record

    def _inspect(self, program: str) -> None:
        try:
            ffmpeg = media.inspect(program)
            log.info("ffmpeg %s (%s)", ffmpeg.version, ffmpeg.path)
            ffmpeg.require(self._extraction.encoder)
        except media.FfmpegNotFoundError as error:
            log.warning("%s Only what can be copied will be extracted.", error)

    def _failed(self, asset: str, error: VodError) -> AssetFailure:
        failure = AssetFailure.from_error(public_name(asset), error)
        log.warning("%s", failure)
        if self._on_record:
            self._on_record(failure)
        return failure

    def _earlier_outcome(self, asset: str) -> Record | None:
        """What an earlier try has made of an asset, if that still holds."""
        entry = self._ledger.get(asset) or {}
        if "failure" in entry:
            return parse_record(entry["failure"])
        if "record" not in entry:
            return None
        record = parse_record(entry["record"])
        assert isinstance(record, ExtractedAudio)
        return record if self._is_whole(asset, record) else None

    def _is_whole(self, asset: str, record: ExtractedAudio) -> bool:
        """Whether all files of a record are at the destination, under the names that they get here."""
        sizes = {self._extraction.name(asset): record.size}
        sizes |= {unquote(other["uri"].rpartition("/")[2]): other["size"] for other in record.others}
        whole = all(self._destination.size(name) == size for name, size in sizes.items())
        if record.speech_uri:
            whole = whole and bool(self._destination.size(self._extraction.speech_name(asset)))
        return whole


def _bytes(asset: str) -> float:
    """Size of a local file. Sources whose size is not known come last."""
    path = None if is_asset_id(asset) else local_path(asset)
    try:
        return path.stat().st_size if path else float("inf")
    except (OSError, ValueError):
        return 0  # it fails at once


def _summary(records: list[Record], seconds: float) -> str:
    audio = [record for record in records if isinstance(record, ExtractedAudio)]
    hours = sum(record.duration or 0 for record in audio) / 3600
    megabytes = sum(record.size for record in audio) / 1e6
    rest = f", {len(records) - len(audio)} failed" if len(records) > len(audio) else ""
    reused = sum(record.reused for record in audio)
    return (
        f"Extracted {len(audio)} of {len(records)} assets in {seconds:.1f} s{rest}"
        f"{f', {reused} were there already' if reused else ''}: {hours:.2f} h of audio, {megabytes:.1f} MB."
    )
