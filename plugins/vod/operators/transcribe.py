"""Audio to text, with speech recognition on the worker."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vod.batch.arguments import choices
from vod.batch.ledger import Ledger, LedgerPages
from vod.batch.outcomes import fail_at_once
from vod.batch.progress import BatchProgress, name_batch
from vod.errors import InvalidInputError, VodError
from vod.locations import transcript_name
from vod.logs import get_logger
from vod.operators.base import BatchOperator
from vod.records import AssetFailure, ExtractedAudio, Record, Transcript, parse_record, shortened
from vod.speech import WRITERS, Transcriber, write
from vod.storage.files import Destination, local_copy, not_written, replacing

if TYPE_CHECKING:
    from airflow.sdk import Context

log = get_logger(__name__)


class TranscriptionError(VodError):
    """Recognising the speech of one audio failed with an unexpected error."""

    outcome = "transcription_failed"
    retryable = True
    remedy = "The log of this try has the details."


class TranscribeAudioOperator(BatchOperator):
    """Transcribe audio on the worker with faster-whisper.

    Returns one record an audio (:class:`vod.records.Transcript`) in input order. A record of a failed
    extraction passes through as it is, so that a batch with bad assets needs no special care. A task that was
    killed or cleared goes on where it stopped: what has its transcript, of the same audio and by the same
    model, is not transcribed again.

    :param audio: What ``ExtractAudioOperator`` returned: one record or a list of them.
    :param model: Whisper model: a name such as ``base`` or ``large-v3``, a folder with a CTranslate2 model,
        or a Python package that holds one. ``tiny.en`` is enough for a demo. (templated)
    :param language: Language spoken, ISO 639-1; recognised from the audio when omitted. (templated)
    :param destination: Folder or object-storage URL for the transcripts; the connection's default when
        omitted. (templated)
    :param captions: Files to write: ``json``, ``txt``, ``vtt``, ``srt``, ``ttml``, ``tsv``; a list, or a
        string with commas. (templated)
    :param vod_conn_id: Connection of type ``vod``, used for audio that lies in VOD. (templated)
    :param failed_assets: ``raise`` transcribes what can be transcribed, then fails the task with the bad
        audio in the message; ``return`` returns failures as records among the others and succeeds.
    :raises AssetsFailedError: audio could not be transcribed and may be on a retry.
    """

    template_fields = ("audio", "model", "language", "destination", "captions", "vod_conn_id")
    ui_color = "#e4e0f5"

    event_key = "transcripts"

    def __init__(
        self,
        *,
        audio: Any,
        model: str = "tiny.en",
        language: str | None = None,
        destination: str | None = None,
        captions: str | Sequence[str] = ("json", "txt", "vtt", "srt"),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        choices("captions", captions, tuple(WRITERS))
        self.audio = audio
        self.model = model
        self.language = language
        self.destination = destination
        self.captions = captions

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Transcribe each audio that has no transcript yet."""
        with fail_at_once():
            records = _audio_records(self.audio)
            name_batch(context, [record.asset for record in records])
            destination = self._destination(self.destination)
            transcriber = Transcriber(self.model)
            transcriber.prepare(self.language or None)
            progress = BatchProgress(context["task_state_store"], len(records))
            captions = choices("captions", self.captions, tuple(WRITERS))
            inputs = {"model": self.model, "language": self.language, "captions": captions}
            attempt = int(getattr(context["ti"], "max_tries", 0))  # as for ExtractAudioOperator
            ledger = Ledger(LedgerPages(context["task_state_store"]), inputs, attempt)
            outcomes: dict[str, Record] = {}
            try:
                # What may have killed an earlier try comes last.
                for record in sorted(records, key=lambda record: ledger.begun(_key(record))):
                    if isinstance(record, ExtractedAudio):
                        outcome = self._outcome(record, transcriber, destination, captions, ledger)
                    else:
                        outcome = record
                    outcomes[record.asset] = outcome
                    progress.add(outcome)
                    self.log.info("Transcribed %d/%d.", len(outcomes), len(records))
            finally:
                ledger.save()
            return self._result(
                context, [outcomes[asset] for asset in dict.fromkeys(record.asset for record in records)]
            )

    def _outcome(
        self,
        record: ExtractedAudio,
        transcriber: Transcriber,
        destination: Destination,
        captions: list[str],
        ledger: Ledger,
    ) -> Record:
        audio = _key(record)
        try:
            finished = (ledger.get(audio) or {}).get("record")
            if finished and _is_whole(finished, destination, captions):
                return parse_record(finished)
            ledger.check(audio)
        except VodError as error:
            return AssetFailure.from_error(record.asset, error)
        except Exception as error:  # noqa: BLE001 - it is logged
            return self._unexpected(record, error)
        ledger.begin([audio])
        try:
            transcript = self._transcribe(record, transcriber, destination, captions)
        except VodError as error:
            ledger.forget(audio)
            return AssetFailure.from_error(record.asset, error)
        except Exception as error:  # noqa: BLE001 - it is logged
            ledger.forget(audio)
            return self._unexpected(record, error)
        except BaseException:  # the task is ended, and not by this audio
            ledger.forget(audio)
            raise
        ledger.finish(audio, transcript.to_json(), save=False)  # with the next that is begun, or at the end
        return transcript

    @staticmethod
    def _unexpected(record: ExtractedAudio, error: Exception) -> AssetFailure:
        """The trouble of one audio must not be that of the others."""
        log.error("%s: the transcription itself failed.", record.asset, exc_info=error)
        failure = TranscriptionError(f"{type(error).__name__} in the transcription.")
        return AssetFailure.from_error(record.asset, failure)

    def _transcribe(
        self,
        record: ExtractedAudio,
        transcriber: Transcriber,
        destination: Destination,
        captions: list[str],
    ) -> Transcript:
        started = time.monotonic()
        with local_copy(record.speech_uri or record.uri, self.hook) as audio:
            transcription = transcriber.transcribe(audio, language=self.language or None)
        language = "en" if transcription.task == "translate" else transcription.language
        transcription = transcription.shifted(record.offset)  # captions are for the video
        uris = {}
        for caption in captions:
            name = transcript_name(record.asset, language, caption)
            uris[caption] = destination.uri(name)
            try:
                with destination.writing(name) as path, replacing(path) as part:
                    part.write_text(write(transcription, caption), encoding="utf-8")
            except OSError as error:
                raise not_written(uris[caption], error) from error
        return Transcript(
            asset=record.asset,
            audio=record.uri,
            text=shortened(transcription.text),
            language=language,
            duration=transcription.duration,
            offset=record.offset,
            model=transcription.model,
            uris=uris,
            seconds=round(time.monotonic() - started, 3),
        )


def _key(record: ExtractedAudio | AssetFailure) -> str:
    """Under what a ledger knows an audio: another extraction of the same asset is another audio."""
    return json.dumps(record.to_json(), sort_keys=True)


def _is_whole(transcript: Mapping[str, Any], destination: Destination, captions: Sequence[str]) -> bool:
    """Whether all files of a transcript are at the destination."""
    names = {
        caption: transcript_name(transcript["asset"], transcript["language"], caption) for caption in captions
    }
    return transcript["uris"] == {caption: destination.uri(name) for caption, name in names.items()} and all(
        destination.size(name) is not None for name in names.values()
    )


def _audio_records(audio: Any) -> list[ExtractedAudio | AssetFailure]:
    elements = [audio] if isinstance(audio, Mapping) else audio
    try:
        records = [parse_record(dict(element)) for element in elements]
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
