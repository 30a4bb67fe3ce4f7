"""Decoding audio for recognition, in this process, with PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vod.containers import OPEN_OPTIONS
from vod.errors import NoAudioTrackError
from vod.logs import get_logger
from vod.speech.errors import UnreadableAudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from av.container import InputContainer
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Hz, what Whisper hears."""

WINDOW = 600.0
"""Seconds of audio that are decoded and recognised at a time: memory does not grow with the length."""

_SEARCH = 30.0
"""Seconds at the end of a window in which it is cut, at the quietest place."""

_FRAME = SAMPLE_RATE // 5

log = get_logger(__name__)


def windows(audio: Path) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """The first audio track as mono samples between -1 and 1 at :data:`SAMPLE_RATE`, in windows.

    A window is cut at its quietest place towards the end, so that no word is. Damaged packets are skipped,
    and the log says how many.

    :returns: for each window the seconds at which it starts, and its samples.
    :raises NoAudioTrackError: the file is media without audio.
    :raises UnreadableAudioError: the file is missing, empty, damaged throughout, or no media.
    """
    import av
    import av.error
    import numpy as np

    start = 0
    try:
        if not audio.exists():
            raise UnreadableAudioError("There is no such audio file.", asset=str(audio))
        if not audio.is_file():
            raise UnreadableAudioError("This is not a regular file.", asset=str(audio))
        with av.open(f"file:{audio.resolve()}", options=OPEN_OPTIONS, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise NoAudioTrackError("The file has no audio track.", asset=str(audio))
            pending = np.zeros(0, dtype=np.int16)
            for part in _read(container, audio):
                pending = np.concatenate([pending, part])
                while len(pending) >= (WINDOW + _SEARCH) * SAMPLE_RATE:
                    cut = _quietest(pending)
                    yield start / SAMPLE_RATE, _scaled(pending[:cut])
                    start, pending = start + cut, pending[cut:]
            if len(pending):
                yield start / SAMPLE_RATE, _scaled(pending)
                start += len(pending)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UnreadableAudioError(f"The audio cannot be read ({reason}).", asset=str(audio)) from error
    if not start:
        raise UnreadableAudioError("The audio track holds no sound that can be decoded.", asset=str(audio))


def _scaled(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    import numpy as np

    scaled = samples.astype(np.float32)
    scaled /= 32768
    return scaled


def _quietest(samples: NDArray[np.int16]) -> int:
    """Where to cut: the middle of the quietest fifth of a second between the window's length and the end."""
    import numpy as np

    first = int(WINDOW * SAMPLE_RATE)
    frames = samples[first : first + int(_SEARCH * SAMPLE_RATE)].reshape(-1, _FRAME).astype(np.float32)
    return first + int((frames**2).mean(axis=1).argmin()) * _FRAME + _FRAME // 2


def _read(container: InputContainer, audio: Path) -> Iterator[NDArray[np.int16]]:
    """The samples, about a second at a time."""
    import av
    import numpy as np
    from av.error import FFmpegError

    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    samples = bytearray()
    damaged = 0
    for packet in container.demux(audio=0):
        try:
            frames = packet.decode()
        except FFmpegError:
            damaged += 1
            continue
        for frame in frames:
            frame.pts = None  # a gap in the time stamps would stop the resampler
            for resampled in resampler.resample(frame):
                samples += resampled.to_ndarray().tobytes()
        if len(samples) >= 2 * SAMPLE_RATE * 10:
            yield np.frombuffer(bytes(samples), dtype=np.int16)
            samples.clear()
    for resampled in resampler.resample(None):
        samples += resampled.to_ndarray().tobytes()
    if samples:
        yield np.frombuffer(bytes(samples), dtype=np.int16)
    if damaged:
        log.warning("%s: %d damaged packets of audio were skipped.", audio.name, damaged)
