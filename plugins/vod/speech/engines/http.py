"""Speech recognition by a server with OpenAI's ``/v1/audio/transcriptions``.

Source of the protocol: https://platform.openai.com/docs/api-reference/audio. What the server answers is data
from a stranger: its size is limited, and each value is looked at before it is used.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from vod.errors import InvalidInputError
from vod.logs import get_logger
from vod.speech.audio import SAMPLE_RATE
from vod.speech.engines import Watch
from vod.speech.engines.answers import passage_of
from vod.speech.engines.in_windows import Window, passages
from vod.speech.errors import (
    ModelNotFoundError,
    RecognitionTimeoutError,
    ServerAnswerError,
    ServerBusyError,
    ServerRefusedError,
    UnreachableServerError,
)
from vod.speech.languages import base_code
from vod.speech.passages import Passage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vod.speech.options import SpeechOptions

_CONNECT = 10.0
_CHECK = 30.0
"""Seconds that the server may take to say which models it has."""

_TRIES = 5
_LONGEST_PAUSE = 60.0
"""Seconds. A server that asks for a longer pause gets it from the task's retry."""

_LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes: ten minutes of words are a hundredth of it."""

log = get_logger(__name__)


@dataclass(frozen=True)
class Server:
    """Where the server is, and how it is talked to.

    :param address: Its URL, with or without ``/v1`` at the end.
    :param session: Has the key, the headers and what it takes for TLS.
    """

    address: str = field(repr=False)
    session: requests.Session

    def url(self, path: str) -> str:
        """The URL of a call, for example ``models``."""
        return f"{self.address.rstrip('/').removesuffix('/v1').rstrip('/')}/v1/{path}"

    @property
    def host(self) -> str:
        """Host and port, without a password that the address may hold."""
        return urlsplit(self.address).netloc.rpartition("@")[2]


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str


class HttpEngine:
    """Sends windows of about ten minutes, each cut at a pause, as WAV of 16 kHz.

    That is at most 20.2 MB; OpenAI's limit is 25 MB.

    A worker waits for the answer of each. How long that can be is bounded: by the option ``time_limit``,
    without it by ten minutes and ten times what was heard. It ends within a second when it is cancelled.

    :param server: The server.
    """

    def __init__(self, server: Server | None = None) -> None:
        if server is None:
            raise InvalidInputError(
                "The speech engine 'http' needs a server.",
                remedy="Give speech_conn_id, a connection of type http: host, and the key as password.",
            )
        self._server = server

    def check(self, options: SpeechOptions) -> None:
        """Ask the server whether the key is right and the model is there.

        A server without ``/v1/models`` cannot tell; then the first audio does.

        :raises InvalidInputError: an option that this protocol does not have.
        :raises ServerRefusedError: the key is wrong.
        :raises ModelNotFoundError: the server does not have the model.
        :raises UnreachableServerError: nobody answers.
        """
        _check_options(options)
        answer = self._ask("GET", "models", None, Watch(), time.monotonic() + _CHECK, options)
        if answer is None:
            log.info("%s does not tell which models it has.", self._server.host)
            return
        entries = answer.get("data")
        names = {
            entry["id"]
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        }
        if names and options.model not in names:
            known = ", ".join(sorted(names)[:20])
            raise ModelNotFoundError(
                f"{self._server.host} does not have the speech model {options.model!r}.",
                remedy=f"It has: {known}.",
            )

    def revision(self, options: SpeechOptions) -> str:
        """The server: the protocol knows no versions of a model, and two servers may differ."""
        return self._server.host

    def passages(
        self, audio: Path, options: SpeechOptions, *, watch: Watch, done: Sequence[Passage] = ()
    ) -> Iterator[Passage]:
        """See :class:`vod.speech.engines.SpeechEngine`.

        :raises ServerBusyError: the server still has no time after some tries.
        :raises ServerAnswerError: it does not keep to the protocol.
        """
        started = time.monotonic()
        yield from passages(
            audio, options, watch, done, lambda window: self._hear(window, options, started + window.limit)
        )

    def _hear(self, window: Window, options: SpeechOptions, deadline: float) -> Passage:
        language = base_code(options.language) or window.language
        form = _form(options, language)
        call = "audio/translations" if options.task == "translate" else "audio/transcriptions"
        answer = self._ask("POST", call, (form, _wav(window.samples)), window.watch, deadline, options)
        if answer is None:
            raise ServerAnswerError(f"{self._server.host} has no /v1/{call}.")
        try:
            passage = passage_of(answer, window.start, window.end, language)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ServerAnswerError(
                f"{self._server.host} answered what is no transcript with times ({error})."
            ) from error
        window.watch.heard(window.end)
        return passage

    def close(self) -> None:
        """End the connections."""
        self._server.session.close()

    def _ask(
        self,
        method: str,
        path: str,
        upload: tuple[list[tuple[str, str]], bytes] | None,
        watch: Watch,
        deadline: float,
        options: SpeechOptions,
    ) -> dict[str, Any] | None:
        """The server's answer; ``None`` when it has no such call. Asks again after what may pass."""
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._send(method, path, upload, watch, deadline)
            except UnreachableServerError:
                if attempt == _TRIES:
                    raise
                pause = 2.0**attempt / 2
            else:
                if 200 <= answer.status < 300:
                    return _object(answer.body, self._server.host)
                detail = _detail(answer.body)
                if not _may_pass(answer.status, detail):
                    # Of the model only a call says something that names one.
                    if answer.status in (404, 405) and not (upload and _is_of_model(detail)):
                        return None
                    raise _refusal(answer.status, detail, self._server.host, options)
                pause = _pause(answer.retry_after, 2.0**attempt / 2)
                if attempt == _TRIES or pause > _LONGEST_PAUSE:
                    raise ServerBusyError(f"{self._server.host} answers HTTP {answer.status}: {detail}")
            if time.monotonic() + pause >= deadline:
                raise RecognitionTimeoutError(f"{self._server.host} did not answer in time.")
            log.info("%s: trying again in %.1f s.", self._server.host, pause)
            watch.wait(pause)
        raise AssertionError("the last try returns or raises")

    def _send(
        self,
        method: str,
        path: str,
        upload: tuple[list[tuple[str, str]], bytes] | None,
        watch: Watch,
        deadline: float,
    ) -> _Answer:
        """One request, in a thread: the caller can be cancelled while the server is busy."""
        results: list[_Answer | Exception] = []
        finished = threading.Event()

        def run() -> None:
            try:
                results.append(self._exchange(method, path, upload, deadline))
            except Exception as error:  # noqa: BLE001 - raised again below
                results.append(error)
            finished.set()

        threading.Thread(target=run, name="speech-server", daemon=True).start()
        if not watch.wait(deadline - time.monotonic(), finished):
            raise RecognitionTimeoutError(f"{self._server.host} did not answer in time.")
        result = results[0]
        if isinstance(result, requests.Timeout) and not isinstance(result, requests.ConnectTimeout):
            raise RecognitionTimeoutError(f"{self._server.host} did not answer in time.")
        if isinstance(result, requests.exceptions.SSLError):
            raise ServerRefusedError(
                f"The certificate of {self._server.host} is not trusted.",
                remedy="Put the path of its authority's certificate into 'verify' of the connection's extra.",
            )
        if isinstance(result, requests.RequestException):
            raise UnreachableServerError(f"{self._server.host} cannot be reached ({type(result).__name__}).")
        if isinstance(result, Exception):
            raise result
        return result

    def _exchange(
        self, method: str, path: str, upload: tuple[list[tuple[str, str]], bytes] | None, deadline: float
    ) -> _Answer:
        left = max(1.0, deadline - time.monotonic())
        with self._server.session.request(
            method,
            self._server.url(path),
            data=upload[0] if upload else None,
            files={"file": ("audio.wav", upload[1], "audio/wav")} if upload else None,
            timeout=(_CONNECT, left),
            allow_redirects=False,  # the key and the audio are for this server only
            stream=True,
        ) as response:
            body = bytearray()
            for block in response.iter_content(65_536):
                body += block
                if len(body) > _LARGEST_ANSWER:
                    raise ServerAnswerError(f"{self._server.host} answers more than 32 MB.")
                if time.monotonic() > deadline:
                    raise RecognitionTimeoutError(f"{self._server.host} did not answer in time.")
            return _Answer(response.status_code, bytes(body), response.headers.get("Retry-After", ""))


def _form(options: SpeechOptions, language: str) -> list[tuple[str, str]]:
    form = [("model", options.model), ("response_format", "verbose_json")]
    if options.task == "transcribe":
        form += [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")]
        if language:
            form.append(("language", language))
    if options.initial_prompt:
        form.append(("prompt", options.initial_prompt))
    return form


def _wav(samples: NDArray[Any]) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return target.getvalue()


def _object(body: bytes, host: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ServerAnswerError(f"{host} answered what is no JSON object.")
    return value


def _detail(body: bytes) -> str:
    """What an error says of itself, shortened."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "no reason given"
    for name in ("error", "detail", "message"):
        while isinstance(value, dict) and name in value:
            inner = value[name]
            if isinstance(inner, dict) and inner.get("code") == "insufficient_quota":
                return f"insufficient_quota: {str(inner.get('message', ''))[:200]}"
            value = inner
    return str(value)[:200] if isinstance(value, str) else "no reason given"


def _may_pass(status: int, detail: str) -> bool:
    return status >= 500 or (status in (408, 409, 425, 429) and not detail.startswith("insufficient_quota"))


def _is_of_model(detail: str) -> bool:
    return bool(re.search(r"\bmodel\b", detail, re.IGNORECASE))


def _refusal(status: int, detail: str, host: str, options: SpeechOptions) -> Exception:
    said = f"{host} answers HTTP {status}: {detail}"
    if status in (401, 403):
        return ServerRefusedError(
            f"{host} does not accept the key (HTTP {status}).",
            remedy="Put the right one into the connection's password.",
        )
    if status == 413:
        return ServerRefusedError(said, remedy="Raise the server's limit for uploads to 25 MB.")
    if status in (400, 404, 422) and _is_of_model(detail):
        return ModelNotFoundError(
            f"{host} refuses the speech model {options.model!r}: {detail}",
            remedy="Choose one that the server has and that answers verbose_json.",
        )
    return ServerRefusedError(said)


def _pause(retry_after: str, otherwise: float) -> float:
    """Seconds, from a header Retry-After: a number or a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return otherwise


def _check_options(options: SpeechOptions) -> None:
    given = {
        "vad": bool(options.vad),
        "multilingual": options.multilingual,
        "hotwords": bool(options.hotwords),
    }
    for name, asked in given.items():
        if asked:
            raise InvalidInputError(
                f"The speech engine 'http' has no option {name!r}.",
                remedy="Words to expect can stand in initial_prompt."
                if name == "hotwords"
                else "Leave it out, or choose the engine 'whisper'.",
            )
