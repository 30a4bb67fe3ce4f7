"""Audio to text, with speech recognition on the worker."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import unquote

from airflow.sdk.configuration import conf

from vod import metrics
from vod.batch.arguments import choices, time_limit
from vod.batch.ledger import MAX_BEGINNINGS, Ledger, LedgerPages
from vod.batch.outcomes import fail_at_once
from vod.batch.progress import BatchProgress, name_batch
from vod.errors import InvalidInputError, VodError
from vod.library.folders import check_shared, on_one_machine
from vod.library.register import store_of, with_register
from vod.library.texts import Texts
from vod.library.transcripts import TranscriptFiles, stem_of
from vod.links import TranscriptLink
from vod.logs import get_logger
from vod.operators.base import TRIGGER_DELAY, BatchOperator
from vod.operators.hearing import Hearing, SpeechSettings, fingerprint, hearings, reason
from vod.operators.orders import Order, Orders, Waiting, claims_of_orders
from vod.records import AssetFailure, ExtractedAudio, Record, Transcript, parse_record, shortened
from vod.speech import WRITERS, SpeechOptions, Transcription
from vod.speech.engines import OrderingEngine, Watch
from vod.speech.errors import CancelledError, RecogniserCrashedError
from vod.speech.passages import Passage
from vod.speech.transcribing import Teller, assemble, doubts, transcribe
from vod.storage.destination import Destination
from vod.storage.sources import local_copy

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

    Beside the captions, ``<audio>.<language>.json`` holds the transcript itself: words with times in the
    video and probabilities; ``<audio>`` is how the audio's own file is called, and the asset id for audio in
    VOD. Another transcript is not overwritten: the new one has in its name what tells the two apart. Each
    further track of an audio (``others`` of its record) gets transcripts of its own, in the language that is
    recognised in it.

    :param audio: What ``ExtractAudioOperator`` returned: one record or a list of them.
    :param options: How speech is recognised: :class:`vod.speech.SpeechOptions`, or some of them by name, also
        as JSON. What it leaves out, the connection's extra ``speech`` says, or else ``[vod] speech`` in
        Airflow's configuration; both are JSON. (templated)
    :param fallback: Another speech engine, for what the first does not recognise because its server does not
        answer, refuses or has no quota left, because it crashes, hangs or lacks memory, or because its model
        knows only English: its name, or options by name such as ``{"engine": "whisper", "model": "base"}``.
        Other options are those of the first. (templated)
    :param model: Short for the option ``model``. (templated)
    :param language: Short for the option ``language``. (templated)
    :param destination: Folder or object-storage URL for the transcripts; the connection's default when
        omitted. (templated)
    :param captions: Files to write: ``txt``, ``vtt``, ``srt``, ``ttml``, ``tsv``; a list, or a string with
        commas. ``json`` is written in any case. (templated)
    :param overwrite: Write under the plain name also where another transcript of the same track and channels
        is: its files go, also those in formats that are not written now. What the task has for another of
        its audios stays.
    :param vod_conn_id: Connection of type ``vod``, used for audio that lies in VOD. (templated)
    :param speech_conn_id: Connection of type ``http`` to the server of the speech engine ``http``: host (and
        port), and the key as password. (templated)
    :param deferrable: Wait for the speech engine ``sis`` in the triggerer instead of in a worker slot.
        Airflow's setting ``[operators] default_deferrable`` when omitted. Other engines do not wait.
    :param failed_assets: ``raise`` transcribes what can be transcribed, then fails the task with the bad
        audio in the message; ``return`` returns failures as records among the others and succeeds.
    :raises AssetsFailedError: audio could not be transcribed and may be on a retry.
    """

    template_fields = (
        "audio",
        "options",
        "fallback",
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
        options: SpeechOptions | Mapping[str, Any] | str | None = None,
        fallback: str | Mapping[str, Any] | None = None,
        model: str | None = None,
        language: str | None = None,
        destination: str | None = None,
        captions: str | Sequence[str] = ("json", "txt", "vtt", "srt"),
        overwrite: bool = False,
        speech_conn_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**with_register(kwargs))
        choices("captions", captions, tuple(WRITERS))
        self.audio = audio
        self.options = asdict(options) if isinstance(options, SpeechOptions) else options
        self.fallback = fallback
        self.model = model
        self.language = language
        self.destination = destination
        self.captions = captions
        self.overwrite = overwrite
        self.speech_conn_id = speech_conn_id
        self.deferrable = deferrable
        self._cancelled = threading.Event()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As Airflow's own; the register is among the inlets of the mapped task as well."""
        return super().partial(**with_register(kwargs))

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Transcribe each audio that has no transcript yet.

        :raises TaskDeferred: the task waits in the triggerer for what it has ordered.
        """
        return self._transcribe_all(context, may_defer=self.deferrable)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Go on after the trigger's wait: take the texts that were ordered."""
        return self._transcribe_all(context, may_defer=False, until=float(event["deadline"]))

    def _transcribe_all(
        self, context: Context, *, may_defer: bool, until: float = math.inf
    ) -> list[dict[str, Any]]:
        """:param until: Seconds since the epoch after which a service is not waited for."""
        with fail_at_once(self.event_key, lambda: len(_audio_records(self.audio))):
            records = _audio_records(self.audio)
            name_batch(context, [record.asset for record in records])
            destination = self._destination(self.destination)
            settings = self._speech_settings()
            captions = choices("captions", self.captions, tuple(WRITERS))
            progress = BatchProgress(context["task_state_store"], len(records))
            with hearings(settings) as engines:
                inputs = {"options": settings.options.fingerprint(), "captions": captions}
                attempt = int(getattr(context["ti"], "max_tries", 0))  # as for ExtractAudioOperator
                ledger = Ledger(LedgerPages(context["task_state_store"]), inputs, attempt)
                outcomes: dict[str, Record] = {}
                registered = any(isinstance(record, ExtractedAudio) and record.entry for record in records)
                wanted = registered or bool(engines[0].service) or not on_one_machine()
                store = store_of(context.get("asset_state_store")) if wanted else None
                if store:
                    check_shared(destination, store)
                texts = Texts(store) if store else None
                watch = Watch(cancelled=self.is_cancelled, until=until)
                orders = Orders(self.hook, watch, claims_of_orders(context, store))
                finished = [(ledger.get(_key(record)) or {}).get("record") for record in records]
                kept = {uris["json"] for each in finished if each for uris in _all_uris(each)}
                work = _Work(self, engines, destination, captions, progress, watch, orders, kept)
                try:
                    waiting = work.order([each for each in records if _is_open(each, ledger)])
                    if may_defer and waiting:
                        self._wait_elsewhere(progress, waiting, texts)
                    # What may have killed an earlier try comes last.
                    for record in sorted(records, key=lambda record: ledger.begun(_key(record))):
                        if isinstance(record, ExtractedAudio):
                            outcome = self._outcome(record, work, ledger, texts)
                        else:
                            outcome = record
                        outcomes[_key(record)] = outcome
                        progress.add(outcome)
                        done = sum(isinstance(each, Transcript) for each in outcomes.values())
                        more = f", {len(outcomes) - done} without text" if done < len(outcomes) else ""
                        self.log.info("Transcribed %d of %d%s.", done, len(records), more)
                finally:
                    ledger.save()
            return self._result(context, [outcomes[_key(record)] for record in records])

    def _wait_elsewhere(self, progress: BatchProgress, waiting: Waiting, texts: Texts | None) -> None:
        """:raises TaskDeferred: there is time left to wait."""
        from vod.triggers import SpeechOrdersTrigger  # loads an HTTP client: not to parse a DAG file

        left = time_limit(waiting.until - time.time(), self.execution_timeout)
        if left <= 0:
            return
        if texts:
            for record in waiting.records:
                texts.begin(record)
        progress.report(f"Waiting for SIS: {len(waiting.jobs)} audio files are ordered.")
        trigger = SpeechOrdersTrigger(
            vod_conn_id=self.vod_conn_id, jobs=[*waiting.jobs], deadline=time.time() + left
        )
        spare = timedelta(seconds=left) + TRIGGER_DELAY
        self.defer(trigger=trigger, method_name="execute_complete", timeout=spare)

    def on_kill(self) -> None:
        """End the recognition within two seconds. A signal handler may call this."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether somebody has ended the task."""
        return self._cancelled.is_set()

    def _speech_settings(self) -> SpeechSettings:
        short = {"model": self.model, "language": self.language}
        return SpeechSettings.read(
            self.options, self.hook, short=short, fallback=self.fallback, speech_conn_id=self.speech_conn_id
        )

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
            failed = (ledger.get(audio) or {}).get("failure")
            if failed:
                failure = parse_record(failed)
                assert isinstance(failure, AssetFailure)
                return failure
            ledger.check(audio)
        except VodError as error:
            return AssetFailure.from_error(record.asset, error)
        except Exception as error:  # noqa: BLE001 - it is logged
            return self._unexpected(record, error)
        if not work.only_waits:  # otherwise this process only waits, and may die of anything
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
            failure = AssetFailure.from_error(record.asset, error)
            if work.only_waits and not error.retryable:  # a retry for another audio would pay again
                ledger.fail(audio, failure.to_json())
            return failure
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
    """What all audio of a task have in common.

    :param kept: URIs of the transcripts that it has: two audios of an asset may want the same name.
    """

    operator: TranscribeAudioOperator
    engines: Sequence[Hearing]
    destination: Destination
    captions: list[str]
    progress: BatchProgress
    watch: Watch
    orders: Orders
    kept: set[str]

    @property
    def only_waits(self) -> bool:
        """Whether the first engine is a service that works elsewhere."""
        return self.engines[0].service is not None

    def order(self, records: Sequence[ExtractedAudio]) -> Waiting | None:
        """Order all audio of a service before the first is waited for; returns what it works on."""
        hearing, orders = self.engines[0], []
        if hearing.service is None:
            return None
        for record in records:
            with suppress(VodError):  # it is told when its turn comes
                fingerprint, files = self._place(hearing, record)
                if not record.silent:
                    orders.append(Order(record, fingerprint, files))
        self.orders.give(hearing.service, hearing.options, orders)
        return self.orders.waiting(hearing.service, hearing.options, orders)

    def transcribe(self, record: ExtractedAudio) -> Transcript:
        """Transcripts of an audio and of its other tracks."""
        transcript = self._by_any_engine(record, {})
        others = [self._other(record, other) for other in record.others]
        warnings = [*transcript.warnings, *(each.pop("warning") for each in others if "warning" in each)]
        return replace(
            transcript,
            others=others,
            warnings=warnings,
            outcome="doubtful" if warnings else transcript.outcome,
        )

    def _other(self, record: ExtractedAudio, other: Mapping[str, Any]) -> dict[str, Any]:
        """Another track, in short. What no retry can mend is a doubt about the whole, not its failure."""
        track = replace(
            record,
            uri=other["uri"],
            track=other["track"],
            language=other["language"],
            duration=other["duration"],
            size=other["size"],
            offset=other.get("offset", record.offset),
            speech_uri=None,
            others=[],
        )
        told = {"track": track.track, "language": track.language}
        name = f"Track {track.track}" + (f" ({track.language})" if track.language else "")
        try:
            # Its language is its own: what was asked for is that of the first.
            transcript = self._by_any_engine(track, {"language": ""})
        except RecogniserCrashedError:
            raise
        except VodError as error:
            if error.retryable:
                raise
            said = shortened(error.message)
            return told | {"outcome": error.outcome, "message": said, "warning": f"{name}: {said}"}
        found = {"language": transcript.language, "outcome": transcript.outcome, "uris": transcript.uris}
        if transcript.warnings:
            found["warning"] = f"{name}: {' '.join(transcript.warnings)}"
        return told | found | {"confidence": transcript.confidence}

    def _by_any_engine(self, record: ExtractedAudio, changed: dict[str, Any]) -> Transcript:
        """By the first engine that does it, as long as its failures say that another may."""
        before = [self.engines[0].instead_of] if self.engines[0].instead_of else []
        may_pass = bool(before)
        for hearing in self.engines:
            used = replace(hearing, options=replace(hearing.options, **changed))
            try:
                return replace(self._by(used, record), fell_back=shortened(" ".join(before)))
            except VodError as error:
                if not error.other_engine or hearing is self.engines[-1]:
                    if before:
                        error.retryable = error.retryable or may_pass
                        error.message = f"{error.message} Before that, {' '.join(before)}"
                    raise
                before.append(reason(used.options, error))
                may_pass = may_pass or error.retryable
                log.warning("%s: the fallback is tried. %s", record.asset, before[-1])
        raise AssertionError("there is an engine")

    def _by(self, hearing: Hearing, record: ExtractedAudio) -> Transcript:
        """Recognise an audio, or take the transcript that there is."""
        started = time.monotonic()
        fingerprint, files = self._place(hearing, record)
        found = files.find(fingerprint)
        transcription = found[1] if found else self._recognise(hearing, record, fingerprint, files)
        language, overwrite = hearing.options.language, self.operator.overwrite
        name = found[0] if found else files.name(transcription, language, overwrite=overwrite, kept=self.kept)
        uris = files.put(name, transcription, self.captions)
        self.kept.add(uris["json"])
        warnings = doubts(transcription)
        if hearing.service and files.note(fingerprint).read().get("lost"):
            warnings.append("The answer to an order was lost: the service may bill this audio twice.")
        files.forget(fingerprint)
        seconds = time.monotonic() - started
        made = self._record(record, transcription, uris, seconds, reused=bool(found), warnings=warnings)
        if not found:
            tags = {"engine": made.engine, "model": made.model}
            metrics.count("vod.transcriptions.finished", **tags, outcome=made.outcome)
            metrics.count("vod.transcriptions.audio_seconds", made.duration, **tags)
            metrics.gauge("vod.transcriptions.speed", made.duration / max(seconds, 0.001), **tags)
        return made

    def _place(self, hearing: Hearing, record: ExtractedAudio) -> tuple[str, TranscriptFiles]:
        """What stands for the transcript to be, and where its files are."""
        stands_for = fingerprint(record, hearing.options, hearing.engine.revision(hearing.options))
        return stands_for, TranscriptFiles(self.destination, stem_of(record))

    def _recognise(
        self, hearing: Hearing, record: ExtractedAudio, fingerprint: str, files: TranscriptFiles
    ) -> Transcription:
        if hearing.service:
            return self._ordered(hearing.service, hearing.options, Order(record, fingerprint, files))
        done = files.heard(fingerprint)
        if done:
            log.info("%s: going on after %.0f s that an earlier try heard.", record.asset, done[-1].end)
        teller = Teller(record.asset, record.duration, done[-1].end if done else 0.0, self.progress.report)

        def keep(passages: Sequence[Passage]) -> None:
            if record.duration is None or passages[-1].end < record.duration - 1:
                files.keep(fingerprint, passages)

        # The audio for speech recognition has one channel.
        mixed = record.speech_uri if hearing.options.channels == "mix" else None
        with local_copy(mixed or record.uri, self.operator.hook) as audio:
            return transcribe(
                audio,
                hearing.engine,
                hearing.options,
                offset=record.offset,
                track=record.track,
                fingerprint=fingerprint,
                done=done,
                keep=keep,
                watch=replace(self.watch, heard=teller.heard),
            )

    def _ordered(
        self,
        engine: OrderingEngine,
        options: SpeechOptions,
        order: Order,
    ) -> Transcription:
        """What a service recognised, or another task has of it meanwhile."""
        record, passage = order.record, None
        if record.silent:  # nothing to pay for
            passage = Passage(start=0.0, end=record.duration or 0.0, speech_seconds=0.0)
        else:
            passage = self.orders.result(engine, options, order)
        if passage is None:
            found = order.files.find(order.fingerprint)
            assert found  # it was, and transcripts stay
            return found[1]
        return assemble(
            [passage],
            options,
            engine.revision(options),
            offset=record.offset,
            track=record.track,
            fingerprint=order.fingerprint,
        )

    @staticmethod
    def _record(
        record: ExtractedAudio,
        spoken: Transcription,
        uris: dict[str, str],
        seconds: float,
        *,
        reused: bool,
        warnings: list[str],
    ) -> Transcript:
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
            track=record.track,
            warnings=warnings,
            entry=record.entry,
            outcome="doubtful" if warnings else "transcribed",
        )

    def is_whole(self, transcript: Mapping[str, Any]) -> bool:
        """Whether all files of a transcript, and of those of other tracks, are at the destination."""
        return all(map(self._are_there, _all_uris(transcript)))

    def _are_there(self, uris: Mapping[str, str]) -> bool:
        names = {kind: uri.rpartition("/")[2] for kind, uri in uris.items()}
        return set(uris) == {*self.captions, "json"} and all(
            uris[kind] == self.destination.uri(unquote(name))
            and self.destination.size(unquote(name)) is not None
            for kind, name in names.items()
        )


def _all_uris(transcript: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    """The files of a transcript, and of those of other tracks."""
    yield transcript["uris"]
    yield from (other["uris"] for other in transcript.get("others", ()) if "uris" in other)


def _key(record: ExtractedAudio | AssetFailure) -> str:
    """Under what a ledger knows an audio: another extraction of the same asset is another audio."""
    return json.dumps(record.to_json(), sort_keys=True)


def _is_open(record: ExtractedAudio | AssetFailure, ledger: Ledger) -> TypeGuard[ExtractedAudio]:
    """Whether there is still something to do for it."""
    return (
        isinstance(record, ExtractedAudio)
        and not {"record", "failure"} & (ledger.get(_key(record)) or {}).keys()
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
    return [*{_key(record): record for record in extracted}.values()]
