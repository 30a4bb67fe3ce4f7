"""Decoding audio for recognition, in the sandbox, with PyAV."""

from __future__ import annotations

import contextlib
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

SAMPLE_RATE = 16_000
"""Hz, what Whisper hears."""

WINDOW = 600.0
"""Seconds of audio that are decoded and recognised at a time: memory does not grow with the length."""

_SEARCH = 30.0
"""Seconds at the end of a window in which it is cut, at the quietest place."""

_FRAME = SAMPLE_RATE // 5

log = get_logger(__name__)


def windows(audio: Path) -> Iterator[tuple[float, NDArray[np.int16]]]:
    """The first audio track as mono samples of 16 bits at :data:`SAMPLE_RATE`, in windows.

    A window is cut at its quietest place towards the end, so that no word is. Damaged packets are skipped,
    and the log says how many.

    :returns: for each window the seconds at which it starts, and its samples.
    :raises NoAudioTrackError: the file is media without audio.
    :raises UnreadableAudioError: the file is missing, empty, damaged throughout, or no media.
    """
    import numpy as np

    start = 0
    pending = np.zeros(0, dtype=np.int16)
    for part in _read(audio):
        pending = np.concatenate([pending, part])
        while len(pending) >= (WINDOW + _SEARCH) * SAMPLE_RATE:
            cut = _quietest(pending)
            yield start / SAMPLE_RATE, pending[:cut]
            start, pending = start + cut, pending[cut:]
    if len(pending):
        yield start / SAMPLE_RATE, pending
        start += len(pending)
    if not start:
        raise UnreadableAudioError("The audio track holds no sound that can be decoded.", asset=str(audio))


def _quietest(samples: NDArray[np.int16]) -> int:
    """Where to cut: the middle of the quietest fifth of a second between the window's length and the end."""
    import numpy as np

    first = int(WINDOW * SAMPLE_RATE)
    frames = samples[first : first + int(_SEARCH * SAMPLE_RATE)].reshape(-1, _FRAME).astype(np.float32)
    return first + int((frames**2).mean(axis=1).argmin()) * _FRAME + _FRAME // 2


def _read(audio: Path) -> Iterator[NDArray[np.int16]]:
    """The samples, some seconds at a time, decoded in the sandbox."""
    import numpy as np

    name, damaged, odd = str(audio), 0, b""
    try:
        if not audio.exists():
            raise UnreadableAudioError("There is no such audio file.", asset=name)
        if not audio.is_file():
            raise UnreadableAudioError("This is not a regular file.", asset=name)
        options = allowed_formats.open_options()
        with contextlib.closing(
            sandbox.frames("vod.speech.sandboxed", "decode", audio, rate=SAMPLE_RATE, options=options)
        ) as frames:
            for frame in frames:
                if isinstance(frame, bytes):
                    data = odd + frame
                    whole = len(data) // 2 * 2
                    odd = data[whole:]
                    yield np.frombuffer(data[:whole], dtype=np.int16)
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


@dataclass(frozen=True)
class _Damage:
    damaged: int
