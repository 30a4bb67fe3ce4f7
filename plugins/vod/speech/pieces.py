"""Where somebody speaks in samples, and how that is cut into pieces that the model hears at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from vod.speech.audio import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LONGEST = 30.0
"""Seconds of a piece: what Whisper hears at once."""

_SEARCHED_AGAIN = 1.0
"""Seconds without speech from which on they are searched once more."""

_HALF_SECOND = SAMPLE_RATE // 2
_MUCH_QUIETER = 0.18
"""Share of the loudness before: 15 dB less."""

_APART = 4.0
"""Seconds of a pause at which another piece is begun in any case."""

_MISSED = 2.0
"""Seconds of speech without a word from which on they are heard once more. Whisper's own times are off by
some tenths, and the search for speech leaves 0.8 s of a pause."""

_WORD = 1.0
"""Seconds that a word covers at most: it is stretched where what follows was missed."""


_FRAME = SAMPLE_RATE // 50
_SILENT = 0.02
"""Share of a word's greatest loudness (34 dB less) below which there is silence."""
_LATE = 0.2
"""Seconds of silence at the start of a word from which on they do not belong to it: some begin softly."""


class Stretch(NamedTuple):
    """Speech without a pause: its first sample, and the one after its last."""

    start: int
    end: int


@dataclass(frozen=True)
class Piece:
    """Speech without its pauses.

    :param offset: Seconds of all speech, put together, before it.
    """

    offset: float
    samples: NDArray[np.float32]

    @property
    def end(self) -> float:
        """Seconds of all speech up to its end."""
        return self.offset + len(self.samples) / SAMPLE_RATE


def find_speech(samples: NDArray[np.float32], vad: Mapping[str, Any]) -> list[Stretch]:
    """Find where somebody speaks.

    The model that finds it has a memory. After something loud, a voice or applause, it passes over a quiet
    voice, however long that speaks. So what it takes for no speech is searched once more, by itself and anew
    wherever it becomes much quieter.

    :param vad: Options of faster-whisper's ``VadOptions``.
    """
    found, at = list[Stretch](), 0
    for stretch in [*_search(samples, vad), Stretch(len(samples), len(samples))]:
        if stretch.start - at >= _SEARCHED_AGAIN * SAMPLE_RATE:
            for part in _evenly_loud(samples, at, stretch.start):
                if part.start:  # from the beginning it would be the same search
                    again = _search(samples[part.start : part.end], vad)
                    found += [Stretch(part.start + each.start, part.start + each.end) for each in again]
        found.append(stretch)
        at = stretch.end
    return found[:-1]


def _evenly_loud(samples: NDArray[np.float32], start: int, end: int) -> Iterator[Stretch]:
    """Samples in parts, of which none becomes much quieter than it was before."""
    import numpy as np

    loudest = 0.0
    for frame in range(start, end, _HALF_SECOND):
        loudness = float(np.sqrt((samples[frame : min(frame + _HALF_SECOND, end)] ** 2).mean()))
        if frame - start >= _SEARCHED_AGAIN * SAMPLE_RATE and loudness < loudest * _MUCH_QUIETER:
            yield Stretch(start, frame)
            start, loudest = frame, 0.0
        loudest = max(loudest, loudness)
    yield Stretch(start, end)


def _search(samples: NDArray[np.float32], vad: Mapping[str, Any]) -> list[Stretch]:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    if not samples.any():  # digital silence
        return []
    options = VadOptions(**{"min_silence_duration_ms": 160, **vad, "max_speech_duration_s": _LONGEST})
    return [Stretch(each["start"], each["end"]) for each in get_speech_timestamps(samples, options)]


def cut(samples: NDArray[np.float32], stretches: Sequence[Stretch]) -> Iterator[Piece]:
    """Put stretches of speech together to pieces of up to 30 seconds.

    A piece costs the same whether it is full or not, so there should be few. But Whisper leaves out much of a
    piece in which one scene or voice follows another: the longer a pause, the rather it parts two pieces.
    """
    import numpy as np

    lengths = [(stretch.end - stretch.start) / SAMPLE_RATE for stretch in stretches]
    joints = [
        ((after.start - before.end) / SAMPLE_RATE / _APART) ** 2 for before, after in pairwise(stretches)
    ]
    cheapest = [(0.0, 0)]
    """For each number of stretches what its pieces cost at least, and where the last of them begins."""
    for end in range(1, len(stretches) + 1):
        first = end - 1
        best = (cheapest[first][0] + 1, first)
        length, joined = lengths[first], 0.0
        while first and (length := length + lengths[first - 1]) <= _LONGEST:
            first -= 1
            joined += joints[first]
            best = min(best, (cheapest[first][0] + 1 + joined, first))
        cheapest.append(best)
    ends = [len(stretches)]
    while ends[-1]:
        ends.append(cheapest[ends[-1]][1])
    offset = 0.0
    for first, end in pairwise(reversed(ends)):
        piece = Piece(
            offset, np.concatenate([samples[stretch.start : stretch.end] for stretch in stretches[first:end]])
        )
        yield piece
        offset = piece.end


def missed(piece: Piece, words: Iterable[Any]) -> Iterator[Piece]:
    """What of a piece no word covers: Whisper may leave out its beginning, its end, or something between.

    :param words: Those of the piece in their order, with ``start`` and ``end`` in seconds of all speech.
    """
    at, silent = piece.offset, True
    for word in words:
        yield from _between(piece, at, word.start)
        at, silent = max(at, min(word.end, word.start + _WORD)), False
    if not silent:  # else it was heard, and there was nothing
        yield from _between(piece, at, piece.end)


def _between(piece: Piece, start: float, end: float) -> Iterator[Piece]:
    if end - start >= _MISSED:
        first, last = (round((seconds - piece.offset) * SAMPLE_RATE) for seconds in (start, end))
        yield Piece(start, piece.samples[first:last])


def restored(seconds: float, stretches: Sequence[Stretch]) -> float:
    """Where in the samples a moment of all speech lies, in seconds."""
    before = 0
    for stretch in stretches:
        length = stretch.end - stretch.start
        if seconds * SAMPLE_RATE <= before + length:
            return seconds + (stretch.start - before) / SAMPLE_RATE
        before += length
    return stretches[-1].end / SAMPLE_RATE


def sounds_at(samples: NDArray[np.float32], start: float, end: float) -> float:
    """When the sound of a word begins, in seconds: Whisper lets it begin where the one before it ends.

    :param start: Of the word, in seconds of the samples; likewise *end*.
    """
    import numpy as np

    own = samples[max(0, round(start * SAMPLE_RATE)) : round(end * SAMPLE_RATE)]
    frames = own[: len(own) // _FRAME * _FRAME].reshape(-1, _FRAME)
    loudness = np.sqrt((frames**2).mean(axis=1)) if len(frames) else frames
    silent = (
        int(np.argmax(loudness > loudness.max() * _SILENT)) * _FRAME / SAMPLE_RATE if len(loudness) else 0.0
    )
    return start + silent if silent >= _LATE else start
