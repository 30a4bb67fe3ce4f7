"""What a file that was written here says about where it came from, in its comment tag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vod.media.errors import FfmpegError, MediaError
from vod.media.info import probe
from vod.media.sound import is_silent
from vod.media.verify import measure_written, playing_time

if TYPE_CHECKING:
    from pathlib import Path

    from vod.media.formats import Format
    from vod.media.limits import Limits

_COMMENT = re.compile(
    r"source=(.*); track=(\d+)(?:; language=(\w+))?; offset=(-?[\d.]+)(?:; fingerprint=(\w+))?", re.DOTALL
)
_MAX_LENGTH_SOURCE = 300

_CUT = 0.05
"""Seconds; our own files have at least what their headers say, but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where audio came from.

    :param source: The source's id, or its name without its folder.
    :param track: Place among the source's audio tracks, from 0.
    :param offset: Seconds after the start of the video at which the audio starts.
    :param language: ISO 639-2 code of the track. MP3 and WAV have no other place for it.
    :param fingerprint: Digest of the source and of all that was asked for.
    """

    source: str
    track: int
    offset: float
    language: str | None = None
    fingerprint: str | None = None

    def __str__(self) -> str:
        fingerprint = f"; fingerprint={self.fingerprint}" if self.fingerprint else ""
        source = self.source[:_MAX_LENGTH_SOURCE]
        language = f"; language={self.language}" if self.language else ""
        return f"source={source}; track={self.track}{language}; offset={self.offset:.3f}{fingerprint}"

    @classmethod
    def parse(cls, comment: str | None) -> Provenance | None:
        """Read a comment tag; ``None`` when it is not ours."""
        found = _COMMENT.fullmatch(comment or "")
        if not found:
            return None
        source, track, language, offset, fingerprint = found.groups()
        return cls(
            source=source,
            track=int(track),
            language=language,
            offset=float(offset),
            fingerprint=fingerprint,
        )


@dataclass(frozen=True, kw_only=True)
class Written:
    """An earlier extraction's file, verified anew; fields as in :class:`vod.media.writing.Extraction`."""

    provenance: Provenance
    codec: str
    duration: float
    size: int
    sample_rate: int
    channels: int
    title: str | None
    silent: bool


def recognise(program: str, path: Path, form: Format, fingerprint: str, *, limits: Limits) -> Written | None:
    """The whole and sound file with this *fingerprint* at *path*; ``None`` when there is another, or none.

    :param program: The ffmpeg to run where one is needed.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    if not path.is_file():
        return None
    try:
        info = probe(path, limits=limits)
        provenance = Provenance.parse(info.comment)
        if provenance is None or provenance.fingerprint != fingerprint:
            return None
        found = measure_written(path, form, limits=limits)
    except MediaError as error:
        if not isinstance(error, FfmpegError) and error.outcome in {"timeout", "cancelled"}:
            raise
        return None
    if found.stated is not None and found.stated - found.duration > _CUT:
        return None
    duration = playing_time(found)
    return Written(
        provenance=provenance,
        codec=found.codec,
        duration=round(duration, 3),
        size=info.size,
        sample_rate=found.sample_rate,
        channels=found.channels,
        title=info.title,
        silent=is_silent(program, path, duration, demuxer=form.demuxer, limits=limits),
    )
