"""What engines share that hear an audio window by window, on a worker: each voice of a window by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vod.logs import get_logger
from vod.speech.audio import SAMPLE_RATE, voices
from vod.speech.engines import Watch
from vod.speech.passages import Passage, together

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vod.speech.options import SpeechOptions

_START = 600.0
_TIMES_ITS_LENGTH = 10.0
"""Without a time limit an audio may take :data:`_START` seconds and this times the length of its voices."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Window:
    """One voice of a window.

    :param start: Seconds of the audio at which it starts.
    :param end: Seconds of the audio.
    :param samples: Of 16 bits, mono, at :data:`vod.speech.audio.SAMPLE_RATE`.
    :param language: In which this voice spoke before; empty: nobody knows.
    :param limit: Seconds from the start of the work at which it has to be done.
    :param watch: The caller's, for this voice.
    """

    start: float
    end: float
    samples: NDArray[np.int16]
    language: str
    limit: float
    watch: Watch


def passages(
    audio: Path,
    options: SpeechOptions,
    watch: Watch,
    done: Sequence[Passage],
    hear: Callable[[Window], Passage],
) -> Iterator[Passage]:
    """What :meth:`vod.speech.engines.SpeechEngine.passages` gives, heard by *hear*."""
    behind = done[-1].end if done else 0.0
    known = {} if options.multilingual else _languages(done)
    for start, found in voices(audio, options.channels):
        end = start + len(found[0].samples) / SAMPLE_RATE
        if options.channels == "split" and not start and len(found) == 1 and found[0].speaker is None:
            log.info("%s: all channels carry the same sound, so nobody is told apart.", audio.name)
        if end <= behind + 1 / SAMPLE_RATE:
            continue
        heard: list[tuple[str | None, Passage]] = []
        for number, voice in enumerate(found):
            window = Window(
                start=start,
                end=end,
                samples=voice.samples,
                language=known.get(voice.speaker, ""),
                limit=options.time_limit or _START + _TIMES_ITS_LENGTH * end * len(found),
                watch=_part(watch, start, end, number, len(found)),
            )
            passage = hear(window)
            if passage.language and not options.multilingual:
                known[voice.speaker] = passage.language
            heard.append((voice.speaker, passage))
        del found, voice, window  # megabytes, while the next are decoded
        yield together(heard)


def _part(watch: Watch, start: float, end: float, number: int, count: int) -> Watch:
    """The watch of one voice of several, which are heard one after the other."""

    def heard(seconds: float) -> None:
        share = (number + (seconds - start) / (end - start)) / count
        watch.heard(start + share * (end - start))

    return Watch(heard=heard if count > 1 else watch.heard, cancelled=watch.cancelled)


def _languages(done: Sequence[Passage]) -> dict[str | None, str]:
    """In which language each voice spoke, as far as an earlier try heard."""
    known: dict[str | None, str] = {}
    for passage in done:
        for segment in passage.segments:
            known.setdefault(segment.speaker, segment.language or passage.language)
        if passage.language and not passage.segments:
            known.setdefault(None, passage.language)
    return known
