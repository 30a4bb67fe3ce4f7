"""From the passages that an engine gives to one transcription: kept as they come, counted, told."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vod.logs import get_logger
from vod.speech.engines import SpeechEngine, Watch
from vod.speech.languages import base_code
from vod.speech.options import SpeechOptions
from vod.speech.passages import Passage
from vod.speech.script import convert
from vod.speech.transcription import Dropped, Transcription

CONFIDENT = 0.5
"""Mean probability of the words below which a transcript is doubtful. Clear clips have 0.59 to 0.96."""

SURE_OF_LANGUAGE = 0.5
"""Probability of the language below which a transcript is doubtful."""

CONFIDENT_OF_ENGLISH = 0.75
"""The same where an English-only model heard, and nobody could tell the language. Foreign clips had 0.20 to
0.67, English ones 0.89 to 0.97."""

_BETWEEN_MESSAGES = 30.0
"""Seconds between two lines in the log about one audio."""

log = get_logger(__name__)


def transcribe(
    audio: Path,
    engine: SpeechEngine,
    options: SpeechOptions,
    *,
    offset: float | None = 0.0,
    track: int = 0,
    fingerprint: str = "",
    done: Sequence[Passage] = (),
    keep: Callable[[Sequence[Passage]], None] = lambda _: None,
    watch: Watch | None = None,
) -> Transcription:
    """What is said in an audio.

    :param offset: Seconds after the start of the video at which the audio starts; ``None``: nobody knows.
    :param track: Which audio track of the video it is.
    :param fingerprint: See :func:`fingerprint_of`.
    :param done: What an earlier try heard and kept.
    :param keep: Called with all passages whenever there is one more.
    :raises vod.speech.errors.SpeechError: see :class:`vod.speech.engines.SpeechEngine`.
    """
    passages = list(done)
    for passage in engine.passages(audio, options, watch=watch or Watch(), done=done):
        passages.append(passage)
        keep(passages)
    revision = engine.revision(options)
    return assemble(passages, options, revision, offset=offset, track=track, fingerprint=fingerprint)


def assemble(
    passages: Sequence[Passage],
    options: SpeechOptions,
    revision: str = "",
    *,
    offset: float | None = 0.0,
    track: int = 0,
    fingerprint: str = "",
) -> Transcription:
    """Passages as one transcription, in the time of the video."""
    spoken: dict[str, float] = {}
    for each in passages:
        if each.language:
            seconds = each.end - each.start if each.speech_seconds is None else each.speech_seconds
            spoken[each.language] = spoken.get(each.language, 0.0) + seconds
    language = max(spoken, key=lambda code: spoken[code]) if spoken else base_code(options.language)
    known = [
        passage.language_probability
        for passage in passages
        if passage.language == language and passage.language_probability is not None
    ]
    segments = tuple(segment for passage in passages for segment in passage.segments)
    segments = convert(segments, options.language, language)
    told = [passage.speech_seconds for passage in passages if passage.speech_seconds is not None]
    whole = Transcription(
        language="en" if options.task == "translate" else language,
        duration=round(passages[-1].end, 3) if passages else 0.0,
        model=options.model,
        segments=segments,
        engine=options.engine,
        revision=revision,
        language_probability=round(sum(known) / len(known), 4) if known else None,
        speech_seconds=round(sum(told), 3) if told else None,
        task=options.task,
        track=track,
        channels=options.channels,
        fingerprint=fingerprint,
        dropped=Dropped(
            loops=sum(passage.dropped.loops for passage in passages),
            improbable=sum(passage.dropped.improbable for passage in passages),
        ),
    )
    return replace(whole, offset=None) if offset is None else whole.shifted(offset)


def doubts(transcription: Transcription) -> list[str]:
    """Why a person should look at a transcript, one sentence each; empty when nothing speaks against it."""
    found = []
    confidence = transcription.confidence
    is_told = transcription.language_probability is not None or transcription.engine != "whisper"
    if confidence is not None and confidence < (CONFIDENT if is_told else CONFIDENT_OF_ENGLISH):
        found.append(f"The mean probability of its words is {confidence:.2f}.")
    probability = transcription.language_probability
    if probability is not None and probability < SURE_OF_LANGUAGE:
        found.append(
            f"It may be in another language than {transcription.language!r} (probability {probability:.2f})."
        )
    if transcription.dropped.improbable and not transcription.segments:
        found.append("Everything that was recognised was too improbable, and was dropped.")
    return found


def fingerprint_of(audio: str, options: SpeechOptions, revision: str, offset: float | None = 0.0) -> str:
    """Stands for all that can change a transcript.

    :param audio: Stands for the audio: its URI and a change marker.
    """
    text = "\n".join([audio, options.fingerprint(), revision, str(offset)])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


class Teller:
    """Says in the log how far an audio is: percent, speed, time left.

    :param duration: Seconds of audio, if they are known.
    :param before: Seconds that an earlier try heard.
    :param report: Takes each message.
    """

    def __init__(
        self, name: str, duration: float | None, before: float, report: Callable[[str], None]
    ) -> None:
        self._name = name
        self._duration = duration
        self._before = before
        self._report = report
        self._started = self._told = time.monotonic()

    def heard(self, seconds: float) -> None:
        """The audio is heard up to there."""
        now = time.monotonic()
        if now - self._told < _BETWEEN_MESSAGES:
            return
        self._told = now
        speed = (seconds - self._before) / (now - self._started)
        message = f"{self._name}: heard {_clock(seconds)}"
        if self._duration and speed > 0:
            left = max(0.0, self._duration - seconds) / speed
            share = min(100, int(100 * seconds / self._duration))
            message += f" of {_clock(self._duration)} ({share} %), {speed:.1f}x, {_clock(left)} left"
        self._report(f"{message}.")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
