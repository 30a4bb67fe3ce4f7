"""Videos to audio, with Huawei Cloud VOD or with ffmpeg on the worker."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from vod.batch.arguments import asset_list, check_choice, is_true
from vod.batch.ledger import Ledger
from vod.batch.outcomes import fail_at_once
from vod.batch.progress import BatchProgress
from vod.errors import InvalidInputError
from vod.links import AudioLink, VodConsoleLink
from vod.locations import is_asset_id
from vod.operators.base import BatchOperator
from vod.operators.ending import Ending
from vod.records import (
    AUDIO_FORMATS,
    ENGINES,
    LOCAL_AUDIO_FORMATS,
    AssetFailure,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
    parse_record,
)
from vod.storage.files import Destination, check_source

if TYPE_CHECKING:
    from airflow.sdk import Context

    from vod.engines.ffmpeg import LocalEngine
    from vod.engines.vod import VodEngine
    from vod.triggers import AudioAssetTrigger

_COLLECT_AFTER = 300.0
"""Seconds of waiting after which what is ready is collected, so that the progress of a long batch shows."""

_TRIGGER_DELAY = timedelta(hours=1)
"""Time that the triggerer may be away or late. The trigger itself ends in time."""


class ExtractAudioOperator(BatchOperator):
    """Extract the audio of videos, with Huawei Cloud VOD or with ffmpeg on the worker.

    Returns one record an asset (:class:`vod.records.ExtractedAudio`) in input order, duplicates collapsed,
    the same from both engines: map over it with ``expand``, or hand it to ``TranscribeAudioOperator``.
    A task that was killed or cleared goes on where it stopped: what was submitted is not submitted again.
    What VOD does not take yet, because the video is still being processed, the quota is used up or VOD is
    out of order, is submitted later, within ``timeout``. What VOD ends without audio is extracted a second
    time, not a third.

    :param assets: VOD asset ids; for the ffmpeg engine also absolute paths, ``file://`` and object-storage
        URLs. One, a list of up to 1,000, or a string with a JSON list or one asset a line. (templated)
    :param engine: ``vod`` or ``ffmpeg``; the connection's default engine when omitted. (templated)
    :param audio_format: ``MP3`` or ``AAC``; from the ffmpeg engine also ``WAV``, ``FLAC`` or ``OPUS``.
        (templated)
    :param destination: Folder or object-storage URL for the audio. The ffmpeg engine needs one, here or in
        the connection; the vod engine copies the audio there only if it is given here. (templated)
    :param language: Which audio track the ffmpeg engine takes, ISO 639; its default track when omitted.
        (templated)
    :param options: What else is asked of the ffmpeg engine, fields of
        :class:`vod.engines.ffmpeg.Wishes`: ``{"track": "speech", "speech": True}``. (templated)
    :param fallback: ``ffmpeg`` extracts on the worker, from the original, what VOD refuses for quota,
        arrears, type or state, or ends without audio.
    :param force: Extract again what an earlier attempt of this task finished. Retries of the same attempt
        still do nothing twice. (templated)
    :param vod_conn_id: Connection of type ``vod``. With files, ffmpeg and a destination none is needed.
        (templated)
    :param wait_for_completion: Wait for the audio; otherwise return :class:`vod.records.SubmittedExtraction`
        records for ``AudioAssetSensor``. ffmpeg always waits.
    :param deferrable: Wait in the triggerer instead of in a worker slot.
    :param poll_interval: Seconds from the last submission to the first look, and to the next; it grows to 30.
    :param timeout: Seconds that VOD may take for the batch; then what is queued is cancelled.
    :param cancel_on_kill: Cancel queued extractions when a person ends or clears the task, or when it runs
        into its ``execution_timeout``. A crash or a restart cancels nothing.
    :param failed_assets: ``raise`` extracts what can be extracted, then fails the task with the bad assets in
        the message; ``return`` returns failures as records among the others and succeeds.
    :raises AirflowFailException: the input is wrong, or no failed asset can succeed on a retry.
    :raises AssetsFailedError: assets failed that may succeed on a retry.
    """

    template_fields = (
        *("assets", "engine", "audio_format", "destination", "language", "options", "force", "vod_conn_id"),
    )
    operator_extra_links = (VodConsoleLink(), AudioLink())
    ui_color = "#d8ecf3"

    event_key = "audio"

    def __init__(
        self,
        *,
        assets: str | Sequence[str],
        engine: str | None = None,
        audio_format: str = "MP3",
        destination: str | None = None,
        language: str | None = None,
        options: Mapping[str, Any] | None = None,
        fallback: str | None = None,
        force: bool | str = False,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float = 5.0,
        timeout: float = 6 * 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("engine", engine, ENGINES)
        check_choice("audio_format", audio_format, _formats(engine))
        check_choice("fallback", fallback, ("ffmpeg",))
        self.assets = assets
        self.engine = engine
        self.audio_format = audio_format
        self.destination = destination
        self.language = language
        self.options = options
        self.fallback = fallback
        self.force = force
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self._ending: Ending | None = None
        self._vod: VodEngine | None = None

    def execute(self, context: Context) -> Any:
        with fail_at_once(), self._begin(context).at_timeout():
            assets = asset_list(self.assets)
            check_choice("engine", self.engine or None, ENGINES)
            engine = self.engine or self.hook.settings.engine
            check_choice("audio_format", self.audio_format, _formats(engine))
            ledger = self._ledger(context, engine)
            self._progress = BatchProgress(context["task_state_store"], len(assets))
            if engine == "ffmpeg":
                return self._result(context, assets, self._extract_here(assets, ledger))
            for asset in assets:
                if not is_asset_id(asset):
                    raise InvalidInputError(
                        "VOD extracts only from its own assets.",
                        asset=asset,
                        remedy="Give an asset id, or use engine='ffmpeg' for files and URLs.",
                    )
            if self.fallback:
                self._local_engine(ledger)  # what it cannot do is said before anything is submitted
            self._vod = self._vod_engine(ledger)
            outcomes = self._submit(assets, ledger)
            return self._go_on(context, assets, outcomes, time.time() + self.timeout, ledger)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger's wait: collect, and submit what was postponed."""
        with fail_at_once(), self._begin(context).at_timeout():
            ledger = self._ledger(context, "vod")
            outcomes = {record["asset"]: parse_record(record) for record in event["records"]}
            self._progress = BatchProgress(context["task_state_store"], len(outcomes))
            self._progress.count(outcomes.values())
            self._vod = self._vod_engine(ledger)
            outcomes = self._advance(outcomes, event["deadline"], ledger)
            return self._go_on(context, list(outcomes), outcomes, event["deadline"], ledger)

    def on_kill(self) -> None:
        if self._ending:
            self._ending.inquire()

    def _begin(self, context: Context) -> Ending:
        self._ending = Ending(context["ti"], self.hook, cancel_queued=self.cancel_on_kill)
        return self._ending

    def _go_on(
        self,
        context: Context,
        order: list[str],
        outcomes: dict[str, Record],
        deadline: float,
        ledger: Ledger,
    ) -> list[dict[str, Any]]:
        """Wait as long as there is something to wait for and time to do so, then give the result."""
        from vod.triggers import AudioAssetTrigger

        while self.wait_for_completion and time.time() < deadline and any(map(_is_open, outcomes.values())):
            trigger = AudioAssetTrigger(
                vod_conn_id=self.vod_conn_id,
                records=[outcomes[asset].to_json() for asset in order],
                deadline=deadline,
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
                collect_after=_COLLECT_AFTER,
            )
            counts = Counter(outcome.outcome for outcome in outcomes.values() if _is_open(outcome))
            self._progress.count(outcomes.values())
            self._progress.tell(
                f"Waiting for VOD: {counts['submitted']} running, {counts['postponed']} to come."
            )
            if self.deferrable:
                spare = timedelta(seconds=deadline - time.time()) + _TRIGGER_DELAY
                self.defer(trigger=trigger, method_name="execute_complete", timeout=spare)
            asyncio.run(_first(trigger))
            outcomes = self._advance(outcomes, deadline, ledger)
        if self.wait_for_completion and any(map(_is_open, outcomes.values())):
            outcomes = self._advance(outcomes, deadline, ledger)
        if not self.wait_for_completion:
            outcomes = {
                asset: parse_record(outcome.failure) if isinstance(outcome, PostponedExtraction) else outcome
                for asset, outcome in outcomes.items()
            }
        return self._result(context, order, outcomes)

    def _submit(
        self, assets: list[str], ledger: Ledger, postponed: dict[str, PostponedExtraction] | None = None
    ) -> dict[str, Record]:
        from vod.engines.vod import SubmissionStoppedError

        assert self._vod
        assert self._ending
        here = self._finished_here(assets, ledger)
        try:
            outcomes = self._vod.submit([asset for asset in assets if asset not in here], postponed)
        except SubmissionStoppedError:
            self._ending.complete()
            raise
        return self._fall_back(outcomes, ledger) | (self._extract_here(here, ledger) if here else {})

    def _advance(self, outcomes: dict[str, Record], deadline: float, ledger: Ledger) -> dict[str, Record]:
        """Collect what is ready, and submit what was postponed; if the time is up, give up on the rest."""
        assert self._vod
        last = time.time() >= deadline
        submitted = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        outcomes |= self._fall_back(self._vod.collect(submitted, last=last), ledger)
        postponed = [outcome for outcome in outcomes.values() if isinstance(outcome, PostponedExtraction)]
        if last:
            return outcomes | {outcome.asset: parse_record(outcome.failure) for outcome in postponed}
        due = {
            outcome.asset: outcome for outcome in postponed if outcome.watch or outcome.again <= time.time()
        }
        return outcomes | (self._submit(list(due), ledger, due) if due else {})

    def _fall_back(self, outcomes: dict[str, Record], ledger: Ledger) -> dict[str, Record]:
        assert self._vod
        refused = [
            asset
            for asset, outcome in outcomes.items()
            if isinstance(outcome, AssetFailure) and asset in self._vod.refused
        ]
        if not self.fallback or not refused:
            return outcomes
        self.log.info("VOD does not extract %d assets; ffmpeg does it here.", len(refused))
        return outcomes | self._extract_here(refused, ledger)

    def _finished_here(self, assets: list[str], ledger: Ledger) -> list[str]:
        """Assets that VOD refused at an earlier try, and that it might take by now, but ffmpeg has done."""
        if not self.fallback:
            return []
        local = ledger.beside(self._inputs("ffmpeg"))
        return [asset for asset in assets if "record" in (local.get(asset) or {})]

    def _extract_here(self, assets: list[str], ledger: Ledger) -> dict[str, Record]:
        ledger = ledger.beside(self._inputs("ffmpeg"))
        for asset in assets:
            check_source(asset)
        engine = self._local_engine(ledger)
        entries = {asset: ledger.get(asset) or {} for asset in assets}
        final = {
            asset: parse_record(entry["failure"]) for asset, entry in entries.items() if "failure" in entry
        }
        outcomes = final | engine.extract([asset for asset in assets if asset not in final])
        for asset, outcome in outcomes.items():
            if isinstance(outcome, AssetFailure) and not outcome.retryable:
                ledger.fail(asset, outcome.to_json(), refused=False)
        ledger.save()
        return outcomes

    def _local_engine(self, ledger: Ledger) -> LocalEngine:
        from vod.engines.ffmpeg import LocalEngine, Wishes

        assert self._ending
        force = is_true("force", self.force)
        asked = {"language": self.language or None, **(self.options or {}), "force": force}
        return LocalEngine(
            self.hook,
            ledger,
            self.audio_format,
            self._destination(self.destination),
            wishes=Wishes.of(asked),
            ffmpeg=self._ffmpeg(),
            on_record=self._progress.add,
            stopping=self._ending.begun,
        )

    def _ffmpeg(self) -> str | None:
        try:
            return self.hook.settings.ffmpeg
        except InvalidInputError:  # files with a destination need no connection
            return None

    def _vod_engine(self, ledger: Ledger) -> VodEngine:
        from vod.engines.vod import VodEngine

        assert self._ending
        engine = VodEngine(
            self.hook,
            ledger,
            self.audio_format,
            destination=Destination(self.destination) if self.destination else None,
            patience=3 * self.poll_interval,
            impatient=self.fallback is not None,
            tell=self._progress.tell,
            stopping=self._ending.begun,
        )
        self._ending.vod = engine
        return engine

    def _ledger(self, context: Context, engine: str) -> Ledger:
        # A clear raises max_tries, a retry does not: it tells attempts apart.
        self._attempt = int(getattr(context["ti"], "max_tries", 0))
        return Ledger(context["task_state_store"], self._inputs(engine), self._attempt)

    def _inputs(self, engine: str) -> dict[str, Any]:
        inputs: dict[str, Any] = {"engine": engine, "format": self.audio_format}
        if engine == "ffmpeg":
            inputs |= {"destination": self.destination, "language": self.language}
            if self.options:
                inputs["options"] = sorted(self.options.items())
        else:
            inputs["connection"] = self.vod_conn_id
        return inputs | ({"forced": self._attempt} if is_true("force", self.force) else {})


def _formats(engine: str | None) -> tuple[str, ...]:
    """What an engine makes; what any does, as long as it is not known."""
    return AUDIO_FORMATS if engine == "vod" else LOCAL_AUDIO_FORMATS


def _is_open(outcome: Record) -> bool:
    return isinstance(outcome, (SubmittedExtraction, PostponedExtraction))


async def _first(trigger: AudioAssetTrigger) -> None:
    async for _ in trigger.run():
        return
