"""Decoding audio for recognition, in the sandbox, with PyAV."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vod import allowed_formats, sandbox
from vod.errors import NoAudioTrackError
from vod.logs import get_logger
from vod.speech.errors import UnreadableAudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from vod.speech.options import Channels

SAMPLE_RATE = 16_000
"""Hz, what Whisper hears."""

WINDOW = 600.0
"""Seconds of audio that are decoded and recognised at a time: memory does not grow with the length."""

_SEARCH = 30.0
"""Seconds at the end of a window in which it is cut, at the quietest place."""

_FRAME = SAMPLE_RATE // 5

_SAME = 0.01
"""Share of the sound by which channels may differ that carry the same: 20 dB."""

_MOST_CHANNELS = 64

log = get_logger(__name__)


def windows(audio: Path) -> Iterator[tuple[float, NDArray[np.int16]]]:
    """All channels of :func:`voices` as one.

    :returns: for each window the seconds at which it starts, and its samples.
    """
    for start, [voice] in voices(audio):
        yield start, voice.samples


def voices(audio: Path, channels: Channels = "mix") -> Iterator[tuple[float, list[Voice]]]:
    """The first audio track as samples of 16 bits at :data:`SAMPLE_RATE`, in windows.

    A window is cut at its quietest place towards the end, so that no word is; all channels at the same place.
    Damaged packets are skipped, and the log says how many.

    :param channels: ``mix``: all as one. ``left``, ``right``: this one alone. ``split``: each by itself;
        those that sound the same in a window are one voice without a name. A single channel is taken as it
        is, whatever is asked for.
    :returns: for each window the seconds at which it starts, and who is to be heard in it.
    :raises NoAudioTrackError: the file is media without audio.
    :raises UnreadableAudioError: the file is missing, empty, damaged throughout, or no media.
    """
    import numpy as np

    start = length = 0
    names: list[str] = []
    parts: list[NDArray[np.int16]] = []
    for names, part in _read(audio, mix=channels == "mix"):
        parts.append(part)
        length += len(part)
        while length >= (WINDOW + _SEARCH) * SAMPLE_RATE:
            window = np.concatenate(parts)
            cut = _quietest(window)
            # Copied, so that nothing holds the window when it has been heard.
            parts, window = [window[cut:].copy()], window[:cut]
            length -= cut
            yield start / SAMPLE_RATE, _chosen(window, names, channels)
            del window
            start += cut
    if length:
        yield start / SAMPLE_RATE, _chosen(np.concatenate(parts), names, channels)
    elif not start:
        raise UnreadableAudioError("The audio track holds no sound that can be decoded.", asset=str(audio))


def _chosen(samples: NDArray[np.int16], names: list[str], channels: Channels) -> list[Voice]:
    """The voices of a window, whose samples have a column for each channel."""
    if len(names) == 1:
        return [Voice(None, samples[:, 0])]
    if channels in ("left", "right"):
        return [Voice(channels, samples[:, _side(names, channels)].copy())]
    heard = [(name, samples[:, number].copy()) for number, name in enumerate(names)]
    heard = [(name, column) for name, column in heard if column.any()] or heard[:1]
    found: list[Voice] = []
    for name, column in heard:
        if not any(_is_same(column, other.samples) for other in found):
            found.append(Voice(name, column))
    # The same on all channels tells nobody apart.
    return [Voice(None, found[0].samples)] if len(found) == 1 and len(heard) == len(names) else found


def _side(names: list[str], side: str) -> int:
    """Which channel is on that side: the first and the second where their names do not say."""
    for name in (side, f"front {side}"):
        if name in names:
            return names.index(name)
    return 0 if side == "left" else 1


def _is_same(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two channels carry the same sound: what differs is a hundredth of it, as codecs make it."""
    import numpy as np

    first, second = one.astype(np.float32), other.astype(np.float32)
    return bool(
        np.square(first - second).sum() <= _SAME * max(np.square(first).sum(), np.square(second).sum())
    )


def _quietest(samples: NDArray[np.int16]) -> int:
    """Where to cut: the middle of the quietest fifth of a second between the window's length and the end."""
    import numpy as np

    first = int(WINDOW * SAMPLE_RATE)
    searched = samples[first : first + int(_SEARCH * SAMPLE_RATE)]
    frames = searched.reshape(-1, _FRAME * samples.shape[1]).astype(np.float32)
    return first + int((frames**2).mean(axis=1).argmin()) * _FRAME + _FRAME // 2


def _read(audio: Path, *, mix: bool) -> Iterator[tuple[list[str], NDArray[np.int16]]]:
    """The channels' names, and some seconds of samples at a time, decoded in the sandbox."""
    name, damaged = str(audio), 0
    try:
        if not audio.exists():
            raise UnreadableAudioError(
                "There is no such file.", asset=name, remedy="Check its name and folder."
            )
        if not audio.is_file():
            raise UnreadableAudioError("This is not a regular file.", asset=name)
        options = allowed_formats.open_options()
        with contextlib.closing(
            sandbox.frames(
                "vod.speech.sandboxed", "decode", audio, rate=SAMPLE_RATE, options=options, mix=mix
            )
        ) as frames:
            decoded = _Decoded()
            for frame in frames:
                if isinstance(frame, bytes):
                    if (samples := decoded.add(frame)) is not None:
                        yield decoded.names, samples
                else:
                    damaged = sandbox.build(_Damage, frame).damaged
    except sandbox.RefusedError as error:
        if error.kind == "no_audio":
            raise NoAudioTrackError("The file has no audio track.", asset=name) from error
        raise UnreadableAudioError(f"The audio cannot be read ({error}).", asset=name) from error
    except sandbox.NotStartedError as error:
        raise UnreadableAudioError(f"The audio cannot be read. {error}", asset=name) from error
    except sandbox.SandboxError as error:
        raise UnreadableAudioError(
            f"The decoder failed while it read this audio. {error}", asset=name
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UnreadableAudioError(f"The audio cannot be read ({reason}).", asset=name) from error
    if damaged:
        log.warning("%s: %d damaged packets of audio were skipped.", audio.name, damaged)


class _Decoded:
    """What comes out of the sandbox, where anybody may be at work: names of channels, then samples."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._odd = b""

    def add(self, frame: bytes) -> NDArray[np.int16] | None:
        import numpy as np

        if not self.names:
            names = json.loads(frame)
            if not (isinstance(names, list) and 1 <= len(names) <= _MOST_CHANNELS):
                raise ValueError("these are no channels")
            self.names = [sandbox.plain(str(name))[:40] for name in names]
            return None
        data = self._odd + frame
        width = 2 * len(self.names)
        whole = len(data) // width * width
        self._odd = data[whole:]
        return np.frombuffer(data[:whole], dtype=np.int16).reshape(-1, len(self.names))


@dataclass(frozen=True)
class Voice:
    """What is recognised by itself.

    :param speaker: Name of the channel; ``None`` when nobody tells speakers apart.
    :param samples: Of 16 bits, mono.
    """

    speaker: str | None
    samples: NDArray[np.int16]


@dataclass(frozen=True)
class _Damage:
    damaged: int
