"""Decoding audio for recognition, in this process, with PyAV."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from vod.errors import NoAudioTrackError
from vod.speech.errors import UnreadableAudioError

if TYPE_CHECKING:
    import numpy as np
    from av.audio.resampler import AudioResampler
    from av.container import InputContainer
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Hz, what Whisper hears."""

# A playlist or script in disguise would make the decoder open other files: only real containers are read.
_OPTIONS = {
    "format_whitelist": "mov,matroska,mpegts,mpeg,avi,flv,asf,mp3,aac,flac,ogg,wav,w64,aiff,caf",
    "protocol_whitelist": "file",
}

log = logging.getLogger(__name__)


def decode(audio: Path) -> NDArray[np.float32]:
    """The first audio track as mono samples between -1 and 1 at :data:`SAMPLE_RATE`.

    Damaged packets are skipped, and the log says how many.

    :raises NoAudioTrackError: the file is media without audio.
    :raises UnreadableAudioError: the file is missing, empty, damaged throughout, or no media.
    """
    import av
    import av.error
    import numpy as np

    try:
        if not audio.exists():
            raise UnreadableAudioError("There is no such audio file.", asset=str(audio))
        if not audio.is_file():
            raise UnreadableAudioError("This is not a regular file.", asset=str(audio))
        with av.open(f"file:{audio.resolve()}", options=_OPTIONS, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise NoAudioTrackError("The file has no audio track.", asset=str(audio))
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            samples, damaged = _read(container, resampler)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UnreadableAudioError(f"The audio cannot be read ({reason}).", asset=str(audio)) from error
    if not samples:
        raise UnreadableAudioError("The audio track holds no sound that can be decoded.", asset=str(audio))
    if damaged:
        log.warning("%s: %d damaged packets of audio were skipped.", audio.name, damaged)
    scaled = np.frombuffer(samples, dtype=np.int16).astype(np.float32)
    scaled /= 32768
    return scaled


def _read(container: InputContainer, resampler: AudioResampler) -> tuple[bytearray, int]:
    from av.error import FFmpegError

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
    for resampled in resampler.resample(None):
        samples += resampled.to_ndarray().tobytes()
    return samples, damaged
