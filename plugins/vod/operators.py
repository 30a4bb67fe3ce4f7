"""The operators: videos to audio, audio to text. A task holds a batch of assets; each has its own outcome."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from vod import results
from vod.batches import OnFailure, asset_list, check_choice, conclude, fail_at_once
from vod.errors import InvalidInputError, VodError
from vod.extraction import VISIBILITY_GRACE, VodEngine, progress_logger
from vod.hooks import DEFAULT_CONNECTION, VodHook
from vod.ledger import Ledger
from vod.links import VodConsoleLink
from vod.local_extraction import LocalEngine
from vod.results import AUDIO_FORMATS, ENGINES, AssetFailure, ExtractedAudio, Record, SubmittedExtraction
from vod.results import Transcript as TranscriptRecord
from vod.speech import WRITERS, Transcriber
from vod.storage import Destination, check_source, file_stem, is_asset_id, local_copy
from vod.triggers import AudioAssetTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class _BatchOperator(BaseOperator):
    """What both operators share: the connection, and what becomes of failed assets.

    :param on_failure: ``fail`` finishes what can be finished, then fails naming the bad assets; ``report``
        succeeds and returns failures as records among the others.
    """

    def __init__(
        self, *, vod_conn_id: str = DEFAULT_CONNECTION, on_failure: OnFailure = "fail", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("on_failure", on_failure, ("fail", "report"))
        self.vod_conn_id = vod_conn_id
        self.on_failure = on_failure

    @cached_property
    def hook(self) -> VodHook:
        return VodHook(self.vod_conn_id)

    def _result(self, order: Iterable[str], outcomes: Mapping[str, Record]) -> list[dict[str, Any]]:
        return conclude([outcomes[asset] for asset in order], self.on_failure)

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

    :param assets: VOD asset ids; for the ffmpeg engine also absolute paths, ``file://`` and object-storage
        URLs. One, a list of up to 1,000, or a string with a JSON list or one asset a line. (templated)
    :param engine: ``vod`` or ``ffmpeg``; the connection's default engine when omitted. (templated)
    :param audio_format: ``MP3`` or ``AAC``. (templated)
    :param destination: Folder or object-storage URL for the audio. The ffmpeg engine needs one, here or in
        the connection; the vod engine copies the audio there only if it is given here. (templated)
    :param language: Which audio track the ffmpeg engine takes, ISO 639; its default track when omitted.
        (templated)
    :param vod_conn_id: Connection of type ``vod``. With files, ffmpeg and a destination none is needed.
        (templated)
    :param wait: Wait for the audio; otherwise return :class:`vod.results.SubmittedExtraction` records for
        ``AudioAssetSensor``. ffmpeg always waits.
    :param deferrable: Wait in the triggerer instead of in a worker slot.
    :param poll_interval: Seconds before the second look at an extraction; it grows to 30.
    :param timeout: Seconds that VOD may take for the batch; then what is queued is cancelled.
    :param cancel_on_kill: Cancel queued extractions when a person marks the task failed or clears it.
    :param on_failure: ``fail`` or ``report``, see there.
    :raises AirflowFailException: the input is wrong, or no failed asset can succeed on a retry.
    :raises AssetsFailedError: assets failed that may succeed on a retry.
    """

    template_fields = ("assets", "engine", "audio_format", "destination", "language", "vod_conn_id")
    operator_extra_links = (VodConsoleLink(),)
    ui_color = "#d8ecf3"

    def __init__(
        self,
        *,
        assets: str | Sequence[str],
        engine: str | None = None,
        audio_format: str = "MP3",
        destination: str | None = None,
        language: str | None = None,
        wait: bool = True,
        deferrable: bool = True,
        poll_interval: float = 5.0,
        timeout: float = 6 * 3600.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("engine", engine, ENGINES)
        check_choice("audio_format", audio_format, AUDIO_FORMATS)
        self.assets = assets
        self.engine = engine
        self.audio_format = audio_format
        self.destination = destination
        self.language = language
        self.wait = wait
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self._local: LocalEngine | None = None
        self._submitted: list[SubmittedExtraction] = []
        self._vod: VodEngine | None = None

    def execute(self, context: Context) -> Any:
        with fail_at_once():
            assets = asset_list(self.assets)
            check_choice("audio_format", self.audio_format, AUDIO_FORMATS)
            check_choice("engine", self.engine or None, ENGINES)
            engine = self.engine or self.hook.settings.engine
            ledger = Ledger(context["task_state_store"], self._inputs(engine))
            if engine == "ffmpeg":
                return self._result(assets, self._extract_here(assets, ledger))
            return self._extract_in_vod(assets, ledger)

    def resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Collect after the trigger's wait."""
        with fail_at_once():
            ledger = Ledger(context["task_state_store"], self._inputs("vod"))
            return self._collect([results.from_json(record) for record in event["records"]], ledger)

    def on_kill(self) -> None:
        if self._local:
            self._local.cancel()
        if self._vod and self.cancel_on_kill:
            self._vod.cancel(self._submitted)

    def _inputs(self, engine: str) -> dict[str, Any]:
        inputs: dict[str, Any] = {"engine": engine, "format": self.audio_format}
        if engine == "ffmpeg":
            inputs |= {"destination": self.destination, "language": self.language}
        else:
            inputs["connection"] = self.vod_conn_id
        return inputs

    def _extract_here(self, assets: list[str], ledger: Ledger) -> dict[str, Record]:
        for asset in assets:
            check_source(asset)
        self._local = LocalEngine(
            self.hook,
            ledger,
            self.audio_format,
            self._destination(self.destination),
            language=self.language or None,
        )
        return self._local.extract(assets)

    def _extract_in_vod(self, assets: list[str], ledger: Ledger) -> Any:
        for asset in assets:
            if not is_asset_id(asset):
                raise InvalidInputError(
                    "VOD extracts only from its own assets.",
                    asset=asset,
                    remedy="Give an asset id, or use engine='ffmpeg' for files and URLs.",
                )
        if self.destination:
            Destination(self.destination)
        self._vod = VodEngine(self.hook, ledger, self.audio_format)
        outcomes = list(self._vod.submit(assets).values())
        self._submitted = [outcome for outcome in outcomes if isinstance(outcome, SubmittedExtraction)]
        if not self.wait or not self._submitted:
            return self._result(assets, {outcome.asset: outcome for outcome in outcomes})
        deadline = time.time() + self.timeout
        if self.deferrable:
            self.defer(
                trigger=AudioAssetTrigger(
                    vod_conn_id=self.vod_conn_id,
                    records=[outcome.to_json() for outcome in outcomes],
                    deadline=deadline,
                    poll_interval=self.poll_interval,
                    cancel_on_kill=self.cancel_on_kill,
                ),
                method_name="resume",
            )
        self.hook.client.wait_until_settled(
            [extraction.audio_asset_id for extraction in self._submitted],
            deadline=deadline,
            interval=self.poll_interval,
            grace_until=max(extraction.accepted for extraction in self._submitted) + VISIBILITY_GRACE,
            on_poll=progress_logger(len(self._submitted)),
        )
        return self._collect(outcomes, ledger)

    def _collect(self, outcomes: list[Record], ledger: Ledger) -> list[dict[str, Any]]:
        submitted = [outcome for outcome in outcomes if isinstance(outcome, SubmittedExtraction)]
        destination = Destination(self.destination) if self.destination else None
        engine = VodEngine(self.hook, ledger, self.audio_format)
        collected = {outcome.asset: outcome for outcome in outcomes} | engine.collect(submitted, destination)
        return self._result([outcome.asset for outcome in outcomes], collected)


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
            return self._result(outcomes, outcomes)

    def _transcribe(
        self, record: ExtractedAudio, transcriber: Transcriber, destination: Destination
    ) -> TranscriptRecord:
        started = time.monotonic()
        with local_copy(record.uri, self.hook) as audio:
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
