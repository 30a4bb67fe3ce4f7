"""Audio to text, with speech recognition on the worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vod import results
from vod.batches import check_choice, fail_at_once
from vod.errors import InvalidInputError, VodError
from vod.operators.base import BatchOperator
from vod.progress import BatchProgress
from vod.results import AssetFailure, ExtractedAudio, Record, Transcript
from vod.speech import WRITERS, Transcriber
from vod.storage import Destination, file_stem, local_copy

if TYPE_CHECKING:
    from airflow.sdk import Context


class TranscribeAudioOperator(BatchOperator):
    """Transcribe audio on the worker with faster-whisper.

    Returns one record an audio (:class:`vod.results.Transcript`) in input order. A record of a failed
    extraction passes through as it is, so that a batch with bad assets needs no special care.

    :param audio: What ``ExtractAudioOperator`` returned: one record or a list of them.
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
            progress = BatchProgress(context["task_state_store"], len(records))
            outcomes: dict[str, Record] = {}
            for record in records:
                if isinstance(record, ExtractedAudio):
                    try:
                        outcomes[record.asset] = self._transcribe(record, transcriber, destination)
                    except VodError as error:
                        outcomes[record.asset] = AssetFailure.of(record.asset, error)
                else:
                    outcomes[record.asset] = record
                progress.add(outcomes[record.asset])
            return self._result(context, outcomes, outcomes)

    def _transcribe(
        self, record: ExtractedAudio, transcriber: Transcriber, destination: Destination
    ) -> Transcript:
        started = time.monotonic()
        with local_copy(record.speech_uri or record.uri, self.hook) as audio:
            transcription = transcriber.transcribe(audio, language=self.language or None)
        uris = {}
        for caption in self.captions:
            name = f"{file_stem(record.asset)}.{caption}"
            with destination.writing(name) as path:
                _write_text(path, WRITERS[caption](transcription))
            uris[caption] = destination.uri(name)
        return Transcript(
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
