"""The operators: videos to audio, audio to text. A task holds a batch of assets; each has its own outcome."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout

from vod import results
from vod.batches import OnFailure, asset_list, check_choice, conclude, fail_at_once, is_true
from vod.errors import InvalidInputError, VodError
from vod.ledger import Ledger
from vod.links import AudioLink, VodConsoleLink
from vod.provider_info import DEFAULT_CONNECTION
from vod.results import (
    AUDIO_FORMATS,
    ENGINES,
    LOCAL_AUDIO_FORMATS,
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
)
from vod.results import Transcript as TranscriptRecord
from vod.speech import WRITERS, Transcriber
from vod.storage import Destination, check_source, file_stem, is_asset_id, local_copy

# Engines, hook and trigger are imported by the methods that need them: the scheduler parses DAG files again
# and again, and would load HTTP clients and codecs each time.
if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from vod.extraction import VodEngine
    from vod.hooks import VodHook
    from vod.local_extraction import LocalEngine
    from vod.triggers import AudioAssetTrigger


_FINISHED = ("extracted", "transcribed")

_ENDED_BY_A_PERSON = ("failed", "success", "skipped", "restarting", "removed")
"""States that a running task gets only when somebody marks, clears or deletes it."""

_TRIGGER_DELAY = timedelta(hours=1)
"""Time that the triggerer may be away or late. The trigger itself ends in time."""


class _BatchOperator(BaseOperator):
    """What both operators share: the connection, and what becomes of failed assets.

    An event of each Airflow asset among its ``outlets`` carries the records of what was done in its extra.

    :param on_failure: ``fail`` finishes what can be finished, then fails naming the bad assets; ``report``
        returns failures as records among the others and succeeds. Both use the task's retries for what may
        succeed on a retry, and only for that.
    """

    event_key: ClassVar[str]
    """Under which key of an asset event's extra the records are."""

    def __init__(
        self, *, vod_conn_id: str = DEFAULT_CONNECTION, on_failure: OnFailure = "fail", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("on_failure", on_failure, ("fail", "report"))
        self.vod_conn_id = vod_conn_id
        self.on_failure = on_failure
        self.finished: list[dict[str, Any]] = []

    @cached_property
    def hook(self) -> VodHook:
        from vod.hooks import VodHook

        return VodHook(self.vod_conn_id)

    def _result(
        self, context: Context, order: Iterable[str], outcomes: Mapping[str, Record]
    ) -> list[dict[str, Any]]:
        ordered = [outcomes[asset] for asset in order]
        counts = Counter(
            "failed" if isinstance(record, AssetFailure) else record.outcome for record in ordered
        )
        self._tell(context, f"Of {len(ordered)}: {', '.join(f'{counts[word]} {word}' for word in counts)}.")
        records = conclude(ordered, self.on_failure, may_retry=_may_retry(context))
        self.finished[:] = [record for record in records if record["outcome"] in _FINISHED]
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = {self.event_key: [*self.finished]}
        return records

    def _tell(self, context: Context, words: str) -> None:
        """Say how far the batch is, in the log and on the page of the task instance (Storage)."""
        self.log.info(words)
        context["task_state_store"].set("progress", words)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Called by the provider openlineage, if that is installed."""
        from vod.lineage import lineage

        return lineage(self.finished, self.vod_conn_id)

    def _destination(self, destination: str | None) -> Destination:
        location = destination or self.hook.settings.destination
        if not location:
            raise InvalidInputError(
                "No destination for the files.",
                remedy="Give the task a destination, or set a default in the connection's extra.",
            )
        return Destination(location)


class ExtractAudioOperator(_BatchOperator):
    """Extract the audio of videos, with Huawei Cloud VOD or with ffmpeg on the worker.

    Returns one record an asset (:class:`vod.results.ExtractedAudio`) in input order, duplicates collapsed,
    the same from both engines: map over it with ``expand``, or hand it to :class:`TranscribeAudioOperator`.
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
        :class:`vod.local_extraction.Wishes`: ``{"track": "speech", "speech": True}``. (templated)
    :param fallback: ``ffmpeg`` extracts on the worker, from the original, what VOD refuses for quota,
        arrears, type or state, or ends without audio.
    :param force: Extract again what an earlier attempt of this task finished. Retries of the same attempt
        still do nothing twice. (templated)
    :param vod_conn_id: Connection of type ``vod``. With files, ffmpeg and a destination none is needed.
        (templated)
    :param wait: Wait for the audio; otherwise return :class:`vod.results.SubmittedExtraction` records for
        ``AudioAssetSensor``. ffmpeg always waits.
    :param deferrable: Wait in the triggerer instead of in a worker slot.
    :param poll_interval: Seconds before the second look at an extraction; it grows to 30.
    :param timeout: Seconds that VOD may take for the batch; then what is queued is cancelled.
    :param cancel_on_kill: Cancel queued extractions when a person ends or clears the task, or when it runs
        into its ``execution_timeout``. A crash or a restart cancels nothing.
    :param on_failure: ``fail`` or ``report``, see there.
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
        wait: bool = True,
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
        self.wait = wait
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self._local: LocalEngine | None = None
        self._vod: VodEngine | None = None
        self._killer: threading.Thread | None = None

    def execute(self, context: Context) -> Any:
        with fail_at_once(), self._cancelled_by_timeout():
            assets = asset_list(self.assets)
            check_choice("engine", self.engine or None, ENGINES)
            engine = self.engine or self.hook.settings.engine
            check_choice("audio_format", self.audio_format, _formats(engine))
            ledger = self._ledger(context, engine)
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
                self._destination(self.destination)
            self._vod = self._vod_engine(context, ledger)
            outcomes = self._submit(assets, ledger)
            return self._go_on(context, assets, outcomes, time.time() + self.timeout, ledger)

    def resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the trigger's wait: collect, and submit what was postponed."""
        with fail_at_once(), self._cancelled_by_timeout():
            ledger = self._ledger(context, "vod")
            self._vod = self._vod_engine(context, ledger)
            outcomes = {record["asset"]: results.from_json(record) for record in event["records"]}
            outcomes = self._advance(outcomes, event["deadline"], ledger)
            return self._go_on(context, list(outcomes), outcomes, event["deadline"], ledger)

    def on_kill(self) -> None:
        # This is a signal handler. The interrupted code may hold any lock, and goes on afterwards.
        if self._killer is None:
            self._killer = threading.Thread(target=self._end, name="on_kill", daemon=True)
            self._killer.start()

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

        while self.wait and time.time() < deadline and any(map(_is_open, outcomes.values())):
            trigger = AudioAssetTrigger(
                vod_conn_id=self.vod_conn_id,
                records=[outcomes[asset].to_json() for asset in order],
                deadline=deadline,
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
            )
            counts = Counter(outcome.outcome for outcome in outcomes.values() if _is_open(outcome))
            self._tell(
                context, f"Waiting for VOD: {counts['submitted']} running, {counts['postponed']} to come."
            )
            if self.deferrable:
                spare = timedelta(seconds=deadline - time.time()) + _TRIGGER_DELAY
                self.defer(trigger=trigger, method_name="resume", timeout=spare)
            asyncio.run(_first(trigger))
            outcomes = self._advance(outcomes, deadline, ledger)
        if self.wait and any(map(_is_open, outcomes.values())):
            outcomes = self._advance(outcomes, deadline, ledger)
        if not self.wait:
            outcomes = {
                asset: results.from_json(outcome.failure)
                if isinstance(outcome, PostponedExtraction)
                else outcome
                for asset, outcome in outcomes.items()
            }
        return self._result(context, order, outcomes)

    def _submit(
        self, assets: list[str], ledger: Ledger, postponed: dict[str, PostponedExtraction] | None = None
    ) -> dict[str, Record]:
        from vod.extraction import SubmissionStoppedError

        assert self._vod
        try:
            return self._fall_back(self._vod.submit(assets, postponed), ledger)
        except SubmissionStoppedError:
            if self._killer:
                self._killer.join()
            self._cancel()  # what was accepted while the others were being cancelled
            raise

    def _advance(self, outcomes: dict[str, Record], deadline: float, ledger: Ledger) -> dict[str, Record]:
        """Collect what is ready, and submit what was postponed; if the time is up, give up on the rest."""
        assert self._vod
        last = time.time() >= deadline
        submitted = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        self._vod.underway = list(submitted)
        outcomes |= self._fall_back(self._vod.collect(submitted, last=last), ledger)
        postponed = [outcome for outcome in outcomes.values() if isinstance(outcome, PostponedExtraction)]
        if last:
            return outcomes | {outcome.asset: results.from_json(outcome.failure) for outcome in postponed}
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
        return outcomes | self._extract_here(refused, ledger.beside(self._inputs("ffmpeg")))

    def _extract_here(self, assets: list[str], ledger: Ledger) -> dict[str, Record]:
        from vod.local_extraction import LocalEngine, Wishes

        for asset in assets:
            check_source(asset)
        force = is_true("force", self.force)
        asked = {"language": self.language or None, **(self.options or {}), "force": force}
        self._local = LocalEngine(
            self.hook,
            ledger,
            self.audio_format,
            self._destination(self.destination),
            wishes=Wishes.of(asked),
            ffmpeg=self._ffmpeg(),
        )
        entries = {asset: ledger.get(asset) or {} for asset in assets}
        final = {
            asset: results.from_json(entry["failure"])
            for asset, entry in entries.items()
            if "failure" in entry
        }
        outcomes = final | self._local.extract([asset for asset in assets if asset not in final])
        for asset, outcome in outcomes.items():
            if isinstance(outcome, AssetFailure) and not outcome.retryable:
                ledger.fail(asset, outcome.to_json(), refused=False)
        ledger.save()
        return outcomes

    def _ffmpeg(self) -> str | None:
        try:
            return self.hook.settings.ffmpeg
        except InvalidInputError:  # files with a destination need no connection
            return None

    def _vod_engine(self, context: Context, ledger: Ledger) -> VodEngine:
        from vod.extraction import VodEngine

        return VodEngine(
            self.hook,
            ledger,
            self.audio_format,
            destination=Destination(self.destination) if self.destination else None,
            patience=3 * self.poll_interval,
            impatient=self.fallback is not None,
            tell=partial(self._tell, context),
        )

    def _ledger(self, context: Context, engine: str) -> Ledger:
        # A clear raises max_tries, a retry does not: it tells attempts apart.
        self._attempt = int(getattr(context["ti"], "max_tries", 0))
        self._ti = context["ti"]
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

    @contextmanager
    def _cancelled_by_timeout(self) -> Iterator[None]:
        try:
            yield
        except AirflowTaskTimeout:
            self._cancel()
            raise

    def _end(self) -> None:
        """End the work if a person ended the task. A worker that is shut down leaves it to the next try."""
        try:
            state = _state_of(self._ti)
        except Exception as error:  # noqa: BLE001 - whatever keeps Airflow from answering, it is no order
            self.log.warning("Whether a person ended the task cannot be found out: %s", error)
            return
        if state in _ENDED_BY_A_PERSON:
            self.log.info("The task was ended from outside: it is %s now.", state)
            self._cancel()
        else:
            self.log.info("This worker is shut down while the task is %s: the next try goes on.", state)

    def _cancel(self) -> None:
        if self._local:
            self._local.cancel()
        if self._vod:
            self._vod.stopping.set()
            underway = [self._vod.underway.pop() for _ in range(len(self._vod.underway))]
            if self.cancel_on_kill:
                from vod.extraction import cancel

                cancel(self.hook.settings, underway)


def _formats(engine: str | None) -> tuple[str, ...]:
    """What an engine makes; what any does, as long as it is not known."""
    return AUDIO_FORMATS if engine == "vod" else LOCAL_AUDIO_FORMATS


class TranscribeAudioOperator(_BatchOperator):
    """Transcribe audio on the worker with faster-whisper.

    Returns one record an audio (:class:`vod.results.Transcript`) in input order. A record of a failed
    extraction passes through as it is, so that a batch with bad assets needs no special care.

    :param audio: What :class:`ExtractAudioOperator` returned: one record or a list of them.
    :param model: Whisper model: a name such as ``base`` or ``large-v3``, a folder with a CTranslate2 model,
        or a Python package that holds one. ``tiny.en`` is enough for a demo. (templated)
    :param language: Language spoken, ISO 639-1; recognised from the audio when omitted. (templated)
    :param destination: Folder or object-storage URL for the transcripts; the connection's default when
        omitted. (templated)
    :param captions: Files to write: ``txt``, ``srt``.
    :param vod_conn_id: Connection of type ``vod``, used for audio that lies in VOD. (templated)
    :param on_failure: ``fail`` or ``report``.
    :raises AssetsFailedError: audio could not be transcribed and may be on a retry.
    """

    template_fields = ("audio", "model", "language", "destination", "vod_conn_id")
    ui_color = "#e4e0f5"

    event_key = "transcripts"

    def __init__(
        self,
        *,
        audio: Any,
        model: str = "tiny.en",
        language: str | None = None,
        destination: str | None = None,
        captions: Sequence[str] = ("txt", "srt"),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for caption in captions:
            check_choice("captions", caption, tuple(WRITERS))
        self.audio = audio
        self.model = model
        self.language = language
        self.destination = destination
        self.captions = tuple(captions)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        with fail_at_once():
            records = _audio_records(self.audio)
            destination = self._destination(self.destination)
            transcriber = Transcriber(self.model)
            transcriber.prepare(self.language or None)
            outcomes: dict[str, Record] = {}
            for record in records:
                if isinstance(record, ExtractedAudio):
                    try:
                        outcomes[record.asset] = self._transcribe(record, transcriber, destination)
                    except VodError as error:
                        outcomes[record.asset] = AssetFailure.of(record.asset, error)
                else:
                    outcomes[record.asset] = record
                self.log.info("Transcribed %d/%d.", len(outcomes), len(records))
            return self._result(context, outcomes, outcomes)

    def _transcribe(
        self, record: ExtractedAudio, transcriber: Transcriber, destination: Destination
    ) -> TranscriptRecord:
        started = time.monotonic()
        with local_copy(record.speech_uri or record.uri, self.hook) as audio:
            transcription = transcriber.transcribe(audio, language=self.language or None)
        uris = {}
        for caption in self.captions:
            name = f"{file_stem(record.asset)}.{caption}"
            with destination.writing(name) as path:
                _write_text(path, WRITERS[caption](transcription))
            uris[caption] = destination.uri(name)
        return TranscriptRecord(
            asset=record.asset,
            audio=record.uri,
            text=transcription.text,
            language=transcription.language,
            duration=transcription.duration,
            model=transcription.model,
            uris=uris,
            seconds=round(time.monotonic() - started, 3),
        )


def _is_open(outcome: Record) -> bool:
    return isinstance(outcome, (SubmittedExtraction, PostponedExtraction))


async def _first(trigger: AudioAssetTrigger) -> None:
    async for _ in trigger.run():
        return


def _may_retry(context: Context) -> bool:
    """Whether Airflow runs the task again if this try fails."""
    ti = context["ti"]
    return bool(getattr(ti, "try_number", 1) <= getattr(ti, "max_tries", 0))


def _state_of(ti: Any) -> str:
    """What Airflow says of a task instance at this moment; ``removed`` when it knows it no longer."""
    states = ti.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if (ti.map_index or -1) >= 0 else None,
    )
    return next((str(state) for state in states.get(ti.run_id, {}).values()), "removed")


def _audio_records(audio: Any) -> list[ExtractedAudio | AssetFailure]:
    elements = [audio] if isinstance(audio, Mapping) else audio
    try:
        records = [results.from_json(dict(element)) for element in elements]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            "This is not what ExtractAudioOperator returns.", remedy="Use audio=extract.output."
        ) from error
    extracted: list[ExtractedAudio | AssetFailure] = []
    for record in records:
        if not isinstance(record, (ExtractedAudio, AssetFailure)):
            raise InvalidInputError(
                f"There is no audio yet, only a record that says {record.outcome!r}.",
                asset=record.asset,
                remedy="Let the extraction wait, or put an AudioAssetSensor before the transcription.",
            )
        extracted.append(record)
    return extracted


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
