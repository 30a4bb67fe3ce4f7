"""Videos to audio, with Huawei Cloud VOD or with ffmpeg on the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from vod.batch.arguments import asset_list, check_choice, is_true, time_limit
from vod.batch.ledger import Ledger, LedgerPages
from vod.batch.outcomes import fail_at_once
from vod.batch.progress import BatchProgress, name_batch
from vod.batch.settled import SettledRecords
from vod.engines import Engine, Outcomes
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import InvalidInputError
from vod.library.folders import check_shared
from vod.library.pace import Pace
from vod.library.register import (
    Register,
    Store,
    ffmpeg_inputs,
    holder_of,
    lease,
    store_of,
    vod_inputs,
    with_register,
)
from vod.links import AudioLink, VodConsoleLink
from vod.locations import public_name
from vod.operators.base import TRIGGER_DELAY, BatchOperator
from vod.operators.cancellation import Cancellation
from vod.operators.extraction_batch import ExtractionBatch
from vod.records import AUDIO_FORMATS, ENGINES, LOCAL_AUDIO_FORMATS, parse_record

# Not imported while a DAG file is parsed: they load HTTP clients.
if TYPE_CHECKING:
    from airflow.sdk import Context

    from vod.engines.vod import VodEngine
    from vod.library.register import Made

_COLLECT_AFTER = 300.0
"""Seconds of waiting after which what is ready is collected, so that the progress of a long batch shows."""


class ExtractAudioOperator(BatchOperator):
    """Extract the audio of videos, with Huawei Cloud VOD or with ffmpeg on the worker.

    Returns one record for each asset (:class:`vod.records.ExtractedAudio`) in input order, without
    duplicates, the same from both engines: hand it to ``TranscribeAudioOperator``, or map a task
    group over it.
    A task that was killed or cleared goes on where it stopped: what was submitted is not submitted again.
    What VOD does not accept yet, because the video is still being processed, the quota is used up or VOD is
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
    :param options: What else is asked of the ffmpeg engine:
        :class:`vod.engines.ffmpeg_options.FfmpegOptions`, or its fields as a mapping, such as
        ``{"track": "speech", "speech": True}``. (templated)
    :param fallback: ``ffmpeg`` extracts on the worker, from the original, what VOD refuses for quota,
        arrears, type or state, or ends without audio. (templated)
    :param force: Extract again what this or another task has extracted; VOD bills each. Retries of the same
        attempt still do nothing twice. (templated)
    :param vod_conn_id: Connection of type ``vod``. With files, ffmpeg and a destination none is needed.
        (templated)
    :param wait_for_completion: Wait for the audio; otherwise return :class:`vod.records.SubmittedExtraction`
        records for ``AudioAssetSensor``. ffmpeg always waits. With a destination VOD must be waited for as
        well.
    :param deferrable: Wait in the triggerer instead of in a worker slot. Airflow's setting ``[operators]
        default_deferrable`` when omitted.
    :param poll_interval: Seconds from the last submission to the first look, and to the next; it grows to 30.
    :param timeout: Seconds that VOD may take for the batch; then what is queued is cancelled. An
        ``execution_timeout`` that is shorter counts instead, also while the task is deferred.
    :param cancel_on_kill: Cancel queued extractions when a person ends or clears the task, or when it runs
        into its ``execution_timeout``. A crash or a restart cancels nothing.
    :param failed_assets: ``raise`` extracts what can be extracted, then fails the task with the bad assets in
        the message; ``return`` returns failures as records among the others and succeeds.
    :raises AirflowFailException: the input is wrong, or no failed asset can succeed on a retry.
    :raises AssetsFailedError: assets failed that may succeed on a retry.
    """

    template_fields = (
        *("assets", "engine", "audio_format", "destination", "language", "options", "fallback", "force"),
        "vod_conn_id",
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
        options: FfmpegOptions | Mapping[str, Any] | None = None,
        fallback: str | None = None,
        force: bool | str = False,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 5.0,
        timeout: float = 6 * 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**with_register(kwargs))
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
        self._cancellation: Cancellation | None = None
        self._check_choices(engine)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's own; the register is among the inlets of the mapped task as well."""
        return super().partial(**with_register(kwargs))

    def execute(self, context: Context) -> Any:
        """Extract, or submit and wait.

        :raises TaskDeferred: the task waits in the triggerer.
        """
        with fail_at_once(self.event_key, lambda: len(asset_list(self.assets))):
            deadline = time.time() + time_limit(self.timeout, self.execution_timeout)
            self._check_choices(engine := self.engine or self.hook.settings.engine)
            self._check_copies(engine)
            batch = self._batch(context, engine, asset_list(self.assets), deadline)
            with batch.claiming(), self._cancelling(batch, context):
                batch.start()
                return self._wait(context, batch)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger's wait: collect, and submit what was postponed."""
        with fail_at_once(self.event_key, lambda: len(asset_list(self.assets))):
            by_name = {public_name(asset): asset for asset in asset_list(self.assets)}
            records, whole = self._settled(context, event["deadline"]).complete(
                [parse_record(record) for record in event["records"]]
            )
            outcomes: Outcomes = {by_name.get(record.asset, record.asset): record for record in records}
            engine = self.engine or self.hook.settings.engine
            batch = self._batch(context, engine, list(outcomes), event["deadline"], outcomes)
            with batch.claiming(), self._cancelling(batch, context):
                if not whole:  # what somebody has emptied out of the store is in VOD or a file all the same
                    batch.start_what_is_missing(list(by_name.values()))
                batch.advance()
                return self._wait(context, batch)

    def on_kill(self) -> None:
        """Cancel what is queued or running, if a person ended the task."""
        if self._cancellation:
            self._cancellation.on_kill()

    def _wait(self, context: Context, batch: ExtractionBatch) -> list[dict[str, Any]]:
        """Wait until no asset is worked on any more, then give the result."""
        from vod.triggers import AudioAssetTrigger

        while batch.is_open if self.wait_for_completion else batch.is_being_submitted:
            settled = self._settled(context, batch.deadline)
            trigger = AudioAssetTrigger(
                vod_conn_id=self.vod_conn_id,
                records=settled.keep(batch.records) if self.deferrable else batch.open_records,
                deadline=batch.deadline,
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
                collect_after=_COLLECT_AFTER,
                not_before=batch.not_before,
                holder=holder_of(context) if batch.register else "",
            )
            batch.report_waiting()
            if self.deferrable:
                spare = timedelta(seconds=max(batch.deadline - time.time(), 0.0)) + TRIGGER_DELAY
                self.defer(trigger=trigger, method_name="execute_complete", timeout=spare)
            event = asyncio.run(_first_event(trigger))
            batch.take_over(map(parse_record, event["records"]))
            batch.advance()
        batch.give_up_postponed()
        batch.tell_all()
        return self._result(context, batch.records)

    @staticmethod
    def _settled(context: Context, deadline: float) -> SettledRecords:
        return SettledRecords(context["task_state_store"], deadline)

    def _cancelling(self, batch: ExtractionBatch, context: Context) -> AbstractContextManager[None]:
        self._cancellation = Cancellation(context["ti"], batch.engines)
        return self._cancellation.while_running()

    def _batch(
        self,
        context: Context,
        engine: str,
        assets: list[str],
        deadline: float,
        outcomes: Outcomes | None = None,
    ) -> ExtractionBatch:
        name_batch(context, assets)
        pages = LedgerPages(context["task_state_store"])
        store = store_of(context.get("asset_state_store"))
        if store and (engine == "ffmpeg" or self.fallback or self.destination):
            check_shared(self._destination(self.destination), store)
        register = self._register(context, store, engine) if store else None
        progress = BatchProgress(context["task_state_store"], len(assets))
        by_engine: Engine
        fallback: FfmpegEngine | None = None
        if engine == "ffmpeg":
            by_engine = self._ffmpeg_engine(self._ledger(context, pages, engine), progress, register)
        else:
            if self.fallback:  # what it cannot do is said before anything is submitted
                ledger = self._ledger(context, pages, self.fallback)
                # What VOD refuses has been claimed for VOD.
                fallback = self._ffmpeg_engine(ledger, progress, register, claimed=True)
            made = fallback.made if fallback else None
            ledger = self._ledger(context, pages, engine)
            by_engine = self._vod_engine(ledger, progress, register, store, made)
        return ExtractionBatch(
            assets,
            by_engine,
            progress,
            deadline=deadline,
            fallback=fallback,
            register=register,
            outcomes=outcomes,
        )

    def _register(self, context: Context, store: Store, engine: str) -> Register:
        def inputs() -> dict[str, Any]:
            if engine == "vod":
                return vod_inputs(self.hook.client.project_id(), self.audio_format)
            destination = self._destination(self.destination).uri("")
            return ffmpeg_inputs(self.audio_format, destination, self._ffmpeg_options().changed)

        return Register(store, holder_of(context), inputs, lease=lease())

    def _ffmpeg_engine(
        self, ledger: Ledger, progress: BatchProgress, register: Register | None, *, claimed: bool = False
    ) -> FfmpegEngine:
        return FfmpegEngine(
            self.hook,
            ledger,
            self.audio_format,
            self._destination(self.destination),
            register=register,
            claimed=claimed,
            options=self._ffmpeg_options(),
            force=is_true("force", self.force),
            ffmpeg=self._ffmpeg_program(),
            on_record=progress.add,
        )

    def _ffmpeg_options(self) -> FfmpegOptions:
        if isinstance(self.options, FfmpegOptions):
            return replace(self.options, language=self.language or self.options.language)
        return FfmpegOptions.from_mapping({"language": self.language or None, **(self.options or {})})

    def _ffmpeg_program(self) -> str | None:
        try:
            return self.hook.settings.ffmpeg
        except InvalidInputError:  # files with a destination need no connection
            return None

    def _vod_engine(
        self,
        ledger: Ledger,
        progress: BatchProgress,
        register: Register | None,
        store: Store | None,
        made: Made | None,
    ) -> VodEngine:
        from vod.engines.lost_answers import RECOVERY_WINDOW
        from vod.engines.vod import VodEngine

        client = self.hook.client
        pace = Pace(store, client.project_id, client.extractions_per_minute) if store else None
        return VodEngine(
            self.hook,
            ledger,
            self.audio_format,
            register=register,
            pace=pace,
            force=is_true("force", self.force),
            destination=self._destination(self.destination) if self.destination else None,
            tries=1 if self.fallback else 2,
            retry_delay=3 * self.poll_interval,
            cancel_on_kill=self.cancel_on_kill,
            recovery_window=conf.getfloat("vod", "lost_answer_window", fallback=RECOVERY_WINDOW),
            made=made,
            report=progress.report,
        )

    def _ledger(self, context: Context, pages: LedgerPages, engine: str) -> Ledger:
        # A clear raises max_tries, a retry does not: it tells attempts apart.
        attempt = int(getattr(context["ti"], "max_tries", 0))
        inputs: dict[str, Any] = {"engine": engine, "format": self.audio_format}
        if engine == "ffmpeg":
            inputs |= {"destination": self.destination, "options": self._ffmpeg_options().changed}
        else:
            inputs["connection"] = self.vod_conn_id
        if is_true("force", self.force):
            inputs["forced"] = attempt
        return Ledger(pages, inputs, attempt)

    def _check_choices(self, engine: str | None) -> None:
        check_choice("engine", engine, ENGINES)
        check_choice("audio_format", self.audio_format, _formats(engine))
        check_choice("fallback", self.fallback or None, ("ffmpeg",))

    def _check_copies(self, engine: str) -> None:
        if engine == "vod" and self.destination and not self.wait_for_completion:
            raise InvalidInputError(
                "wait_for_completion=False returns before there is audio, so nothing can be copied to the "
                f"destination {self.destination}.",
                remedy="Let this task wait, or leave out the destination: the audio stays in VOD.",
            )


def _formats(engine: str | None) -> tuple[str, ...]:
    """The formats of an engine; those of all engines as long as it is not known."""
    return AUDIO_FORMATS if engine == "vod" else LOCAL_AUDIO_FORMATS


async def _first_event(trigger: Any) -> dict[str, Any]:
    event = await anext(trigger.run())
    payload: dict[str, Any] = event.payload
    return payload
