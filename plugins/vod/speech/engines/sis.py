"""Speech recognition by Huawei Cloud SIS: long audio in Mandarin, no GPU, and no work for the worker.

Source: the reference of SIS, "Long audio recognition". SIS fetches the audio itself, from a URL. An order
cannot be repeated freely: each is paid for, and no call lists them. So what was ordered is noted before
anything else happens.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from vod.cloud.errors import (
    AccountError,
    AnswerLostError,
    AssetNotFoundError,
    AuthenticationError,
    CloudError,
    ForbiddenError,
    InvalidRequestError,
    NotSentError,
    ServiceError,
    ThrottledError,
)
from vod.cloud.runtime import BlockingRuntime, LoopRuntime, run
from vod.cloud.session import Session
from vod.errors import InvalidInputError
from vod.locations import secrets_of
from vod.logs import get_logger
from vod.speech.engines import Watch
from vod.speech.engines.answers import passage_of
from vod.speech.errors import (
    LanguageMismatchError,
    OrderFailedError,
    OrderLostError,
    RecognitionTimeoutError,
    ServerAnswerError,
    ServerBusyError,
    ServerRefusedError,
    SpeechError,
    UnreachableAudioError,
    UnreachableServerError,
    UnsuitableAudioError,
    UnsupportedLanguageError,
)
from vod.speech.languages import base_code

if TYPE_CHECKING:
    from vod.cloud.settings import ServiceSettings
    from vod.speech.engines import Note, RemoteAudio
    from vod.speech.options import SpeechOptions
    from vod.speech.passages import Passage

T = TypeVar("T")

MODELS = (
    "chinese_16k_media",
    "chinese_16k_conversation",
    "chinese_8k_general",
    "chinese_8k_common",
    "chinese_8k_bank",
    "chinese_8k_insurance",
    "sichuan_8k_common",
)
MEDIA_REGIONS = ("cn-north-4", "cn-east-3")
"""Where SIS has ``chinese_16k_media``."""

ENDINGS = (".wav", ".mp3", ".m4a", ".ogg", ".amr", ".wma")
LONGEST, SHORTEST = 5 * 3600.0, 0.01
"""Seconds of an audio."""
LARGEST = 300 * 1024 * 1024
"""Bytes of an audio."""

_CHINESE = ("zh", "cmn", "zho", "chi")
_JOBS = "/asr/transcriber/jobs"
_NO_JOB = "00000000-0000-0000-0000-000000000000"
_TIMEOUT = 20.0
"""Seconds for an answer: both calls are small."""
_RETRY_SECONDS = 60.0
_PATIENCE = 7 * 3600.0
"""Seconds for one audio without a time limit: at peak times SIS takes up to six hours."""
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 2.0, 60.0, 1.5
"""Seconds between two looks at an order, and how that grows."""
_KEPT = 72 * 3600.0
"""Seconds for which SIS keeps a result."""

_ACCOUNT = (AuthenticationError, ForbiddenError, AccountError)
"""The next call would be refused as well, and five refusals lock a key."""

_PASSING = (ServiceError, NotSentError, ThrottledError, AnswerLostError)
_UNKNOWN_JOB = (InvalidRequestError, AssetNotFoundError)

log = get_logger(__name__)


class _Runtime(BlockingRuntime):
    """Waits on the thread, until the caller no longer wants it."""

    watch = Watch()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds.

        :raises CancelledError: the caller no longer wants it.
        """
        self.watch.wait(seconds)


class SisEngine:
    """Orders recognition, and waits for it without work: it asks now and then.

    A task that defers waits with :func:`await_orders` in the triggerer instead.

    :param service: Keys, project and region: those of the connection of type ``vod``.
    :param endpoint: URL of SIS; the region's when empty.
    """

    def __init__(self, service: ServiceSettings | None = None, endpoint: str | None = None) -> None:
        if service is None:
            raise InvalidInputError(
                "The speech engine 'sis' needs keys of Huawei Cloud.",
                remedy="Give vod_conn_id, a connection of type vod: SIS uses its keys, project and region.",
            )
        self._region = service.region
        self._service = _of_sis(service, endpoint)
        self._runtime = _Runtime()
        self._session: Session | None = None
        self._refused: CloudError | None = None

    def check(self, options: SpeechOptions) -> None:
        """See that SIS has what is asked for, and takes the keys: it is asked for an order that there is not.

        :raises InvalidInputError: an option, model or region that SIS does not have.
        :raises UnsupportedLanguageError: another language than Chinese.
        :raises ServerRefusedError: it does not take the keys.
        :raises UnreachableServerError: nobody answers.
        :raises ServerBusyError: it has no time.
        """
        _check_options(options, self._region)
        try:
            self._ask("GET", f"{_JOBS}/{_NO_JOB}", lambda _: None)
        except (InvalidRequestError, AssetNotFoundError) as error:
            if (error.code or "").startswith(("APIG", "HTTP.404")):  # there is no such call at this address
                raise self._failure(error) from error
        except CloudError as error:
            raise self._failure(error) from error

    def revision(self, options: SpeechOptions) -> str:
        """The region: SIS knows no versions of a model."""
        return self._region

    def passages(
        self, audio: Path, options: SpeechOptions, *, watch: Watch, done: Sequence[Passage] = ()
    ) -> Iterator[Passage]:
        """Refuse a file: SIS fetches what it recognises.

        :raises UnreachableAudioError: always.
        """
        raise UnreachableAudioError(f"SIS cannot fetch {audio.name} from this machine.")

    def order(self, audio: RemoteAudio, options: SpeechOptions, note: Note, watch: Watch) -> None:
        """See :class:`vod.speech.engines.OrderingEngine`.

        An order whose answer is lost cannot be found: it is given once more, and the note counts it.

        :raises UnsuitableAudioError: SIS does not take the audio.
        :raises LanguageMismatchError: nobody says that it is in Chinese.
        :raises UnreachableAudioError: SIS cannot fetch it.
        :raises OrderLostError: two answers were lost.
        :raises ServerRefusedError: SIS refuses the keys or the audio.
        """
        self._runtime.watch = watch
        known = note.read()
        if known.get("job"):
            return
        _check_audio(audio, options)
        lost = int(known.get("lost", 0)) + ("intended" in known)
        while lost < 2:
            if lost:
                log.warning("%s: SIS may have accepted an order before, and may bill it twice.", audio.name)
            url = audio.url()

            def intend(lost: int = lost) -> None:
                note.write({"intended": round(time.time(), 3), "lost": lost})

            try:
                job = self._ask("POST", _JOBS, _job_id, body=_order(options, url), before=intend)
            except (AnswerLostError, ServiceError) as error:
                lost += 1
                log.warning("%s: SIS did not say whether it accepted the order (%s).", audio.name, error.code)
            except CloudError as error:
                note.write({"lost": lost})  # surely not accepted
                raise self._failure(error, url) from None
            else:
                note.write({"job": job, "accepted": round(time.time(), 3), "lost": lost})
                log.info("%s: SIS accepted the order as %s.", audio.name, job)
                return
        note.write({})
        raise OrderLostError("SIS was asked twice, and did not say whether it accepted the audio.")

    def waits_until(self, options: SpeechOptions, known: Mapping[str, Any]) -> float:
        """See :class:`vod.speech.engines.OrderingEngine`."""
        return max(float(known["accepted"]), time.time() - _KEPT) + (options.time_limit or _PATIENCE)

    def result(self, audio: RemoteAudio, options: SpeechOptions, note: Note, watch: Watch) -> Passage:
        """See :class:`vod.speech.engines.OrderingEngine`.

        :raises OrderFailedError: SIS ended without text, or no longer has it.
        :raises RecognitionTimeoutError: it is not ready in time; the next try waits on.
        :raises ServerAnswerError: it does not keep to its contract.
        :raises CancelledError: the caller no longer wants it; the order stays.
        """
        self._runtime.watch = watch
        known = note.read()
        until = min(self.waits_until(options, known), watch.until)
        pause = _FIRST_PAUSE
        while True:
            answer = self._look(audio, known, note)
            if answer and answer["status"] == "FINISHED":
                return _passage(answer, audio)
            if answer and answer["status"] == "ERROR":
                note.write({})
                reason = answer.get("error_msg") or answer.get("error_code") or "it gives no reason"
                raise OrderFailedError(f"SIS could not recognise the audio: {str(reason)[:300]}.")
            if time.time() >= until:
                late = RecognitionTimeoutError(
                    "SIS has not recognised the audio in time.",
                    remedy="The order stays: the next try waits on. Raise time_limit to wait longer.",
                )
                late.retryable = True
                raise late
            watch.wait(pause)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            run(self._session.http.aclose())
            self._session = None

    def _look(self, audio: RemoteAudio, known: Mapping[str, Any], note: Note) -> dict[str, Any] | None:
        """What SIS says of an order; ``None`` when it does not answer this time."""
        try:
            return self._ask("GET", _job_path(known["job"]), _status)
        except _PASSING as error:
            log.warning("%s: SIS does not say how far it is (%s).", audio.name, error.code or error.outcome)
            return None
        except _UNKNOWN_JOB as error:
            note.write({})
            raise OrderFailedError(
                f"SIS no longer knows the order of this audio: {error.message}",
                remedy="It keeps results for 72 hours. Clear the task to order, and pay, once more.",
            ) from error
        except CloudError as error:
            raise self._failure(error) from error

    def _ask(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], T],
        *,
        body: Mapping[str, Any] | None = None,
        before: Callable[[], None] | None = None,
    ) -> T:
        if self._refused is not None:
            raise self._refused
        if self._session is None:
            self._session = _session(self._service, self._runtime)
        try:
            return run(
                self._session.call(
                    method, path, parse, quota="speech", body=body, version="v1", before=before
                )
            )
        except _ACCOUNT as error:
            self._refused = error
            raise

    def _failure(self, error: CloudError, url: str = "") -> SpeechError:
        """A refusal in the words of speech recognition, without the secret URL that it may repeat."""
        said = error.message
        for secret in filter(None, [url, *(secrets_of(url) if url else ())]):
            said = said.replace(secret, "***")
        told = f"{said} [{error.code or error.outcome}]"
        if isinstance(error, NotSentError):
            return UnreachableServerError(f"SIS cannot be reached: {told}")
        if isinstance(error, (ThrottledError, ServiceError, AnswerLostError)):
            return ServerBusyError(f"SIS has no time: {told}")
        if isinstance(error, _ACCOUNT):
            remedy = "Check keys, region and project of the connection, and that the account has SIS."
            return ServerRefusedError(f"SIS refuses the account: {told}", remedy=remedy)
        return ServerRefusedError(f"SIS refuses the request: {told}")


async def await_orders(
    service: ServiceSettings, endpoint: str | None, jobs: Iterable[str], *, until: float
) -> None:
    """Wait on an event loop until SIS has ended all of these orders, with text or without.

    :param service: As for :class:`SisEngine`.
    :param endpoint: As for :class:`SisEngine`.
    :param jobs: What SIS calls the orders.
    :param until: Seconds since the epoch at which it ends in any case.
    :raises vod.cloud.errors.CloudError: SIS refuses the account.
    """
    session = _session(_of_sis(service, endpoint), LoopRuntime())
    running, pause = list(jobs), _FIRST_PAUSE
    try:
        while running and (left := until - time.time()) > 0:
            await asyncio.sleep(min(pause, left))
            running = await _still_running(session, running)
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)
    finally:
        await session.http.aclose()


async def _still_running(session: Session, jobs: Sequence[str]) -> list[str]:
    """Those of the orders that SIS has not ended, or of which it did not say so."""
    running: list[str] = []
    for number, job in enumerate(jobs):
        try:
            answer = await session.call("GET", _job_path(job), _status, quota="speech", version="v1")
        except _PASSING as error:  # the call has repeated itself, and the next would do so as well
            log.warning("SIS does not say how far the order %s is (%s).", job, error.code or error.outcome)
            return [*running, *jobs[number:]]
        except _UNKNOWN_JOB:  # the task asks again, and says so
            continue
        if answer["status"] not in ("FINISHED", "ERROR"):
            running.append(job)
    return running


def _session(service: ServiceSettings, runtime: LoopRuntime) -> Session:
    return Session(service, retry_seconds=_RETRY_SECONDS, runtime=runtime, name="SIS")


def _of_sis(service: ServiceSettings, endpoint: str | None) -> ServiceSettings:
    """How SIS is called, by how VOD is."""
    endpoint = endpoint or f"https://sis-ext.{service.region}.myhuaweicloud.com"
    return replace(service, endpoint=endpoint, timeout=min(service.timeout, _TIMEOUT))


def _job_path(job: Any) -> str:
    return f"{_JOBS}/{quote(str(job), safe='')}"


def _check_options(options: SpeechOptions, region: str) -> None:
    if options.model not in MODELS:
        raise InvalidInputError(
            f"SIS has no model {options.model!r}.", remedy=f"Choose one of: {', '.join(MODELS)}."
        )
    if options.model == "chinese_16k_media" and region not in MEDIA_REGIONS:
        raise InvalidInputError(
            f"SIS has the model 'chinese_16k_media' only in {' and '.join(MEDIA_REGIONS)}, not in {region}.",
            remedy="Choose the model 'chinese_16k_conversation'.",
        )
    if options.language and base_code(options.language) not in _CHINESE:
        raise UnsupportedLanguageError(
            f"SIS knows only Chinese, not {options.language!r}.", remedy="Choose another engine."
        )
    given = {
        "task": options.task != "transcribe",
        "vad": bool(options.vad),
        "multilingual": options.multilingual,
        "hotwords": bool(options.hotwords),
        "initial_prompt": bool(options.initial_prompt),
        "channels": options.channels != "mix",
    }
    for name, asked in given.items():
        if asked:
            raise InvalidInputError(
                f"The speech engine 'sis' does not have this for the option {name!r}.",
                remedy="Leave it out, or choose the engine 'whisper'.",
            )


def _check_audio(audio: RemoteAudio, options: SpeechOptions) -> None:
    """What SIS would refuse, or would turn into invented words, before it is paid for."""
    language = options.language or audio.language
    if base_code(language) not in _CHINESE:
        said = f"The audio is in {language!r}" if language else "Nobody says in which language the audio is"
        raise LanguageMismatchError(
            f"{said}, and SIS knows only Chinese.", remedy="Set language to 'zh' if that is spoken in it."
        )
    if audio.ending.lower() not in ENDINGS:
        raise UnsuitableAudioError(f"SIS does not take audio of the form {audio.ending or 'unknown'!r}.")
    if audio.duration is not None and not SHORTEST <= audio.duration <= LONGEST:
        raise UnsuitableAudioError(
            f"The audio has {audio.duration:.2f} s; SIS takes {SHORTEST} s to five hours.",
            remedy="Choose the engine 'whisper', which takes any length.",
        )
    if audio.size > LARGEST:
        raise UnsuitableAudioError(
            f"The audio has {audio.size / 1024**2:.0f} MB; SIS takes at most 300 MB.",
            remedy="Extract it as MP3, or choose the engine 'whisper'.",
        )
    narrow = "_8k_" in options.model
    if audio.sample_rate is not None and narrow != (audio.sample_rate < 16_000):
        raise UnsuitableAudioError(
            f"The audio has {audio.sample_rate} Hz, and the model {options.model!r} is for another rate.",
            remedy=f"Choose a model of SIS for {'16' if narrow else '8'} kHz.",
        )


def _order(options: SpeechOptions, url: str) -> dict[str, Any]:
    config = {
        "audio_format": "auto",
        "property": options.model,
        "add_punc": "yes",
        "digit_norm": "yes",
        "need_word_info": "yes",
    }
    return {"config": config, "data_url": url}


def _job_id(answer: Any) -> str:
    job = answer["job_id"]
    if not isinstance(job, str) or not job:
        raise TypeError("the id of the order is no text")
    return job


def _status(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict) or not isinstance(answer["status"], str):
        raise TypeError("the status is no text")
    return answer


def _passage(answer: Mapping[str, Any], audio: RemoteAudio) -> Passage:
    try:
        segments = [segment for segment in answer.get("segments") or () if _text(segment)]
        ends = [_seconds(segment["end_time"]) for segment in segments]
        known = answer.get("audio_duration")
        end = _seconds(known) if known else max([audio.duration or 0.0, *ends])
        told = {
            "segments": [
                {
                    "start": _seconds(segment["start_time"]),
                    "end": _seconds(segment["end_time"]),
                    "text": _text(segment),
                }
                for segment in segments
            ],
            "words": [
                {
                    "start": _seconds(word["start_time"]),
                    "end": _seconds(word["end_time"]),
                    "word": word["word"],
                }
                for segment in segments
                for word in segment["result"].get("word_info") or ()
            ],
        }
        passage = passage_of(told if segments else {"text": ""}, 0.0, end, "zh")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServerAnswerError(
            f"What SIS recognised is not as documented ({error}).", remedy="Tell the makers of this package."
        ) from error
    spoken = sum(segment.end - segment.start for segment in passage.segments)
    return replace(passage, speech_seconds=round(spoken, 3))


def _text(segment: Mapping[str, Any]) -> str:
    text = segment["result"]["text"]
    if not isinstance(text, str):
        raise TypeError("a text is none")
    return text.strip()


def _seconds(milliseconds: Any) -> float:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
        raise TypeError("a time is no number")
    if not math.isfinite(milliseconds):
        raise ValueError("a time is not finite")
    return float(milliseconds) / 1000
