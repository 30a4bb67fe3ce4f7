"""What recognises speech. A new engine is one module and one line in :data:`ENGINES`."""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vod.errors import InvalidInputError
from vod.speech.errors import CancelledError
from vod.speech.options import SpeechOptions
from vod.speech.passages import Passage

ENGINES = {
    "whisper": "vod.speech.engines.whisper:WhisperEngine",
    "http": "vod.speech.engines.http:HttpEngine",
    "sis": "vod.speech.engines.sis:SisEngine",
}
"""Module and class of each engine that hears a file, by its name."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What the caller of an engine wants to know and to say while it works.

    :param heard: Called with the seconds of the audio that are heard, several times a passage where it can.
    :param cancelled: Asked at least twice a second; when it is true the engine ends within two seconds.
    :param until: Seconds since the epoch after which a service is not waited for.
    """

    heard: Callable[[float], None] = lambda _: None
    cancelled: Callable[[], bool] = lambda: False
    until: float = math.inf

    def wait(self, seconds: float, finished: threading.Event | None = None) -> bool:
        """Wait for so many seconds, or until something has finished; returns whether it has.

        :raises CancelledError: the caller no longer wants it.
        """
        finished = finished or threading.Event()
        end = time.monotonic() + seconds
        while True:
            if self.cancelled():
                raise CancelledError("The recognition was cancelled.")
            left = end - time.monotonic()
            if finished.wait(min(0.25, max(0.0, left))):
                return True
            if left <= 0:
                return False


class SpeechEngine(Protocol):
    """Hears one audio file after another. What it holds (a model, a process) is kept between them."""

    def check(self, options: SpeechOptions) -> None:
        """Find out whether it can do what is asked for, before anything is paid for: model, language, keys.

        :raises vod.speech.errors.SpeechError: it cannot.
        """

    def revision(self, options: SpeechOptions) -> str:
        """Which version of the model would be used; empty when nobody says. Part of the fingerprint."""

    def passages(
        self, audio: Path, options: SpeechOptions, *, watch: Watch, done: Sequence[Passage] = ()
    ) -> Iterator[Passage]:
        """Recognise an audio, passage by passage, in the order of time and without holes.

        :param done: What an earlier try heard: begin behind it, and do not give it again.
        :raises vod.speech.errors.SpeechError: recognition failed; what was given before holds.
        :raises vod.speech.errors.CancelledError: the caller no longer wants it.
        """

    def close(self) -> None:
        """Give back what it holds. It may be used again."""


class Note(Protocol):
    """What is known of the order of one audio, kept where the next try finds it."""

    def read(self) -> dict[str, Any]:
        """What was written last; empty when nothing was."""

    def write(self, values: dict[str, Any]) -> None:
        """Keep it, whole, before this returns."""


@dataclass(frozen=True, kw_only=True)
class RemoteAudio:
    """An audio that a service fetches itself.

    :param name: What it is called in messages.
    :param url: Gives a URL at which the service can fetch it; a secret, made directly before it is sent.
    :param ending: Of its file, such as ``.mp3``.
    :param duration: Seconds; ``None`` when nobody knows.
    :param size: Bytes; 0 when nobody knows.
    :param sample_rate: Hz; ``None`` when nobody knows.
    :param language: Code of the language spoken; empty when nobody knows.
    """

    name: str
    url: Callable[[], str] = field(repr=False)
    ending: str
    duration: float | None = None
    size: int = 0
    sample_rate: int | None = None
    language: str = ""


@runtime_checkable
class OrderingEngine(SpeechEngine, Protocol):
    """A service that recognises an audio somewhere else, and is paid for each order."""

    def order(self, audio: RemoteAudio, options: SpeechOptions, note: Note, watch: Watch) -> None:
        """Order an audio, unless the note says that it is ordered.

        :raises vod.speech.errors.SpeechError: it was not ordered.
        """

    def waits_until(self, options: SpeechOptions, known: Mapping[str, Any]) -> float:
        """Until when what was ordered is waited for, seconds since the epoch.

        :param known: What the note says.
        """

    def result(self, audio: RemoteAudio, options: SpeechOptions, note: Note, watch: Watch) -> Passage:
        """Wait for what was ordered.

        :raises vod.speech.errors.SpeechError: there is none, or not yet.
        """


def engine(name: str, **means: Any) -> SpeechEngine:
    """The engine of that name.

    :param means: What only this engine needs, for example the connection to a server.
    :raises InvalidInputError: there is none.
    """
    try:
        module, _, kind = ENGINES[name].partition(":")
    except KeyError:
        raise InvalidInputError(
            f"There is no engine {name!r} for speech.", remedy=f"Choose one of: {', '.join(ENGINES)}."
        ) from None
    made: SpeechEngine = getattr(importlib.import_module(module), kind)(**means)
    return made
