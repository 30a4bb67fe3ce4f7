"""Audio to text, with speech recognition on the worker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.sdk.configuration import conf

from vod import media
from vod.batch.arguments import choices
from vod.batch.ledger import MAX_BEGINNINGS, Ledger, LedgerPages
from vod.batch.outcomes import fail_at_once
from vod.batch.progress import BatchProgress, name_batch
from vod.connection import InvalidConnectionError
from vod.errors import InvalidInputError, VodError
from vod.library.register import store_of, with_register
from vod.library.texts import Texts
from vod.library.transcripts import TranscriptFiles
from vod.links import TranscriptLink
from vod.logs import get_logger
from vod.operators.base import BatchOperator
from vod.records import AssetFailure, ExtractedAudio, Record, Transcript, parse_record, shortened
from vod.speech import WRITERS, SpeechOptions, Transcription, script, write
from vod.speech.engines import SpeechEngine, Watch, engine
from vod.speech.errors import CancelledError, RecogniserCrashedError
from vod.speech.passages import Passage
from vod.speech.transcribing import Teller, doubts, fingerprint_of, transcribe
from vod.storage.files import Destination, local_copy
from vod.storage.files import version as storage_version

if TYPE_CHECKING:
    from airflow.sdk import Context

log = get_logger(__name__)


class TranscriptionError(VodError):
    """Recognising the speech of one audio failed with an unexpected error."""

    outcome = "transcription_failed"
    retryable = True
    remedy = "The log of this try has the details."


class TranscribeAudioOperator(BatchOperator):
    """Transcribe audio, with faster-whisper on the worker or another engine.

    Returns one record an audio (:class:`vod.records.Transcript`) in input order. A record of a failed
    extraction passes through as it is, so that a batch with bad assets needs no special care. What has its
    transcript at the destination already, of the same audio with the same model and options, is not
    recognised again, whoever made it. A task that was killed goes on within an audio, some ten minutes back
    at most.

    Beside the captions, ``<asset>.<language>.json`` holds the transcript itself: words with times in the
    video and probabilities. What another model made is not overwritten: the new transcript has the
    model in its name.

    :param audio: What ``ExtractAudioOperator`` returned: one record or a list of them.
    :param options: How speech is recognised: :class:`vod.speech.SpeechOptions`, or some of them by name. What
        it leaves out, the connection's extra ``speech`` says, or else ``[vod] speech`` in Airflow's
        configuration; both are JSON. (templated)
    :param model: Short for the option ``model``. (templated)
    :param language: Short for the option ``language``. (templated)
    :param destination: Folder or object-storage URL for the transcripts; the connection's default when
        omitted. (templated)
    :param captions: Files to write: ``txt``, ``vtt``, ``srt``, ``ttml``, ``tsv``; a list, or a string with
        commas. ``json`` is written in any case. (templated)
    :param overwrite: Write under the plain name also where another model's transcript is.
    :param vod_conn_id: Connection of type ``vod``, used for audio that lies in VOD. (templated)
    :param speech_conn_id: Connection of type ``http`` to the server of the speech engine ``http``: host (and
        port), and the key as password. (templated)
    :param failed_assets: ``raise`` transcribes what can be transcribed, then fails the task with the bad
        audio in the message; ``return`` returns failures as records among the others and succeeds.
    :raises AssetsFailedError: audio could not be transcribed and may be on a retry.
    """

    template_fields = (
        "audio",
        "options",
        "model",
        "language",
        "destination",
        "captions",
        "vod_conn_id",
        "speech_conn_id",
    )
    operator_extra_links = (TranscriptLink(),)
    ui_color = "#e4e0f5"

    event_key = "transcripts"

    def __init__(
        self,
        *,
        audio: Any,
        options: SpeechOptions | Mapping[str, Any] | None = None,
        model: str | None = None,
        language: str | None = None,
        destination: str | None = None,
        captions: str | Sequence[str] = ("json", "txt", "vtt", "srt"),
        overwrite: bool = False,
        speech_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**with_register(kwargs))
        choices("captions", captions, tuple(WRITERS))
        self.audio = audio
        self.options = asdict(options) if isinstance(options, SpeechOptions) else options
        self.model = model
        self.language = language
        self.destination = destination
        self.captions = captions
        self.overwrite = overwrite
        self.speech_conn_id = speech_conn_id
        self._cancelled = threading.Event()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's own; the register is among the inlets of the mapped task as well."""
        return super().partial(**with_register(kwargs))

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Transcribe each audio that has no transcript yet."""
        with fail_at_once():
            records = _audio_records(self.audio)
            name_batch(context, [record.asset for record in records])
            destination = self._destination(self.destination)
            options = self._speech_options()
            captions = choices("captions", self.captions, tuple(WRITERS))
            progress = BatchProgress(context["task_state_store"], len(records))
            with closing(engine(options.engine, **self._means())) as hearing:
                script.check(options.language)
                hearing.check(options)
                work = _Work(self, hearing, options, destination, captions, progress)
                inputs = {"options": options.fingerprint(), "captions": captions}
                attempt = int(getattr(context["ti"], "max_tries", 0))  # as for ExtractAudioOperator
                ledger = Ledger(LedgerPages(context["task_state_store"]), inputs, attempt)
                outcomes: dict[str, Record] = {}
                registered = any(isinstance(record, ExtractedAudio) and record.entry for record in records)
                store = store_of(context.get("asset_state_store")) if registered else None
                texts = Texts(store) if store else None
                try:
                    # What may have killed an earlier try comes last.
                    for record in sorted(records, key=lambda record: ledger.begun(_key(record))):
                        if isinstance(record, ExtractedAudio):
                            outcome = self._outcome(record, work, ledger, texts)
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

    def on_kill(self) -> None:
        """End the recognition within two seconds. A signal handler may call this."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether somebody has ended the task."""
        return self._cancelled.is_set()

    def _speech_options(self) -> SpeechOptions:
        """The task's options, then the connection's, then those of Airflow's configuration."""
        try:
            site = json.loads(conf.get("vod", "speech", fallback="") or "{}")
        except ValueError as error:
            raise InvalidInputError(
                "[vod] speech is not JSON.", remedy="Write it as a JSON object."
            ) from error
        try:
            own = self.hook.settings.speech
        except InvalidConnectionError:  # files need no connection
            own = {}
        short = {"model": self.model, "language": self.language}
        return SpeechOptions.from_json(
            {**site, **own, **(self.options or {}), **{name: text for name, text in short.items() if text}}
        )

    def _means(self) -> dict[str, Any]:
        """What an engine needs beside the options."""
        if not self.speech_conn_id:
            return {}
        from vod.hooks import speech_server  # loads an HTTP client: not to parse a DAG file

        return {"server": speech_server(self.speech_conn_id)}

    def _outcome(
        self, record: ExtractedAudio, work: _Work, ledger: Ledger, texts: Texts | None
    ) -> Transcript | AssetFailure:
        """What became of an audio, noted in the register as well."""
        if texts is None:
            return self._transcribed(record, work, ledger)
        texts.begin(record)
        outcome = self._transcribed(record, work, ledger)
        texts.end(record, outcome)
        return outcome

    def _transcribed(self, record: ExtractedAudio, work: _Work, ledger: Ledger) -> Transcript | AssetFailure:
        audio = _key(record)
        try:
            finished = (ledger.get(audio) or {}).get("record")
            if finished and work.is_whole(finished):
                transcript = parse_record(finished)
                assert isinstance(transcript, Transcript)
                return transcript
            ledger.check(audio)
        except VodError as error:
            return AssetFailure.from_error(record.asset, error)
        except Exception as error:  # noqa: BLE001 - it is logged
            return self._unexpected(record, error)
        ledger.begin([audio])
        try:
            transcript = work.transcribe(record)
        except CancelledError:
            ledger.forget(audio)
            raise
        except RecogniserCrashedError as error:  # counts as begun
            error.retryable = ledger.begun(audio) < MAX_BEGINNINGS
            return AssetFailure.from_error(record.asset, error)
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


@dataclass(frozen=True)
class _Work:
    """What all audio of a task have in common."""

    operator: TranscribeAudioOperator
    hearing: SpeechEngine
    options: SpeechOptions
    destination: Destination
    captions: list[str]
    progress: BatchProgress

    def transcribe(self, record: ExtractedAudio) -> Transcript:
        """Recognise an audio, or take the transcript that there is."""
        started = time.monotonic()
        version = storage_version(record.uri, limits=media.Limits(60.0)) or f"{record.size} {record.duration}"
        revision = self.hearing.revision(self.options)
        fingerprint = fingerprint_of(f"{record.uri} {version}", self.options, revision, record.offset)
        files = TranscriptFiles(self.destination, record.asset)
        found = files.find(fingerprint)
        transcription = found[1] if found else self._recognise(record, fingerprint, files)
        name = found[0] if found else files.name(transcription, overwrite=self.operator.overwrite)
        uris = {}
        for caption in self.captions:
            if caption == "json":
                continue
            uris[caption] = files.write(f"{name}.{caption}", write(transcription, caption))
        # The transcript comes last: where it is, all is.
        transcript = f"{name}.json"
        uris["json"] = (
            self.destination.uri(transcript) if found else files.write(transcript, transcription.to_json())
        )
        files.forget(fingerprint)
        return self._record(record, transcription, uris, time.monotonic() - started, reused=bool(found))

    def _recognise(self, record: ExtractedAudio, fingerprint: str, files: TranscriptFiles) -> Transcription:
        done = files.heard(fingerprint)
        if done:
            log.info("%s: going on after %.0f s that an earlier try heard.", record.asset, done[-1].end)
        teller = Teller(record.asset, record.duration, done[-1].end if done else 0.0, self.progress.report)

        def keep(passages: Sequence[Passage]) -> None:
            if record.duration is None or passages[-1].end < record.duration - 1:
                files.keep(fingerprint, passages)

        with local_copy(record.speech_uri or record.uri, self.operator.hook) as audio:
            return transcribe(
                audio,
                self.hearing,
                self.options,
                offset=record.offset,
                fingerprint=fingerprint,
                done=done,
                keep=keep,
                watch=Watch(heard=teller.heard, cancelled=self.operator.is_cancelled),
            )

    @staticmethod
    def _record(
        record: ExtractedAudio, spoken: Transcription, uris: dict[str, str], seconds: float, *, reused: bool
    ) -> Transcript:
        warnings = doubts(spoken)
        return Transcript(
            asset=record.asset,
            audio=record.uri,
            text=shortened(spoken.text),
            language=spoken.language,
            duration=spoken.duration,
            model=spoken.model,
            uris=uris,
            seconds=round(seconds, 3),
            engine=spoken.engine,
            confidence=None if spoken.confidence is None else round(spoken.confidence, 4),
            language_probability=spoken.language_probability,
            speech_seconds=spoken.speech_seconds,
            dropped=asdict(spoken.dropped),
            offset=spoken.offset,
            reused=reused,
            warnings=warnings,
            entry=record.entry,
            outcome="doubtful" if warnings else "transcribed",
        )

    def is_whole(self, transcript: Mapping[str, Any]) -> bool:
        """Whether all files of a transcript are at the destination."""
        uris = transcript["uris"]
        names = {kind: uri.rpartition("/")[2] for kind, uri in uris.items()}
        return set(uris) == {*self.captions, "json"} and all(
            uris[kind] == self.destination.uri(unquote(name))
            and self.destination.size(unquote(name)) is not None
            for kind, name in names.items()
        )


def _key(record: ExtractedAudio | AssetFailure) -> str:
    """Under what a ledger knows an audio: another extraction of the same asset is another audio."""
    return json.dumps(record.to_json(), sort_keys=True)


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
