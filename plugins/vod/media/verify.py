"""Whether the audio that was written is the audio that the source has, by evidence instead of exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vod.media.errors import FfmpegError, TruncatedMediaError, UnreadableMediaError
from vod.media.integrity import has_whole_index, lost_bytes, seconds_of_pictures
from vod.media.measure import Measurement, measure

if TYPE_CHECKING:
    from pathlib import Path

    from vod.media.formats import Format
    from vod.media.info import AudioTrack, MediaInfo
    from vod.media.limits import Limits
    from vod.media.tracks import Selection

TOLERANCE = 0.25
"""Seconds that audio may be shorter than expected: more than the longest frame of any codec."""

MIN_SOUND = 0.05
"""Seconds; less is a packet left over from cutting, in a track that is empty for all purposes."""

_MAX_PADDING = 3456
"""Samples that an MP3 encoder puts around the sound at most: a delay of 1105 and two frames of 1152. ffmpeg 5
announces 4096 when it copies MP3 out of Matroska, and players then skip 0.07 s of sound."""


def measure_written(written: Path, form: Format, *, limits: Limits) -> Measurement:
    """Measure what ffmpeg wrote.

    :raises FfmpegError: it is not readable, not decodable, not what *form* may hold, or has no sound in it.
    """
    try:
        found = measure(written, demuxer=form.demuxer, limits=limits)
    except UnreadableMediaError as error:
        raise FfmpegError("ffmpeg wrote nothing that can be read.") from error
    if playing_time(found) < MIN_SOUND:
        raise FfmpegError("ffmpeg wrote a file without sound.")
    if not found.decodable or found.codec not in form.codecs:
        raise FfmpegError(f"ffmpeg wrote {found.codec} that cannot be decoded.")
    padding = (found.primed + found.duration - found.stated) * found.sample_rate if found.stated else 0
    if found.codec == "mp3" and padding > _MAX_PADDING:
        raise FfmpegError("ffmpeg wrote a header that makes players skip the beginning.")
    return found


def playing_time(written: Measurement) -> float:
    """Seconds that a player shows: what the header says, as long as the packets bear it out."""
    stated = written.stated
    return stated if stated is not None and abs(stated - written.duration) <= TOLERANCE else written.duration


def compare_piece(
    source: Path, info: MediaInfo, track: AudioTrack, duration: float, selection: Selection
) -> list[str]:
    """Compare the *duration* that was written, in seconds, with the piece of *source* that was asked for.

    :returns: Warnings, one sentence each.
    :raises TruncatedMediaError: the piece is not there because the source's end is missing.
    """
    stated = track.start + track.duration if track.duration else info.duration
    wanted = stated - selection.start if stated else duration
    if selection.duration is not None:
        wanted = min(wanted, selection.duration) if stated else selection.duration
    missing = wanted - max(track.start - selection.start, 0.0) - duration
    if missing <= TOLERANCE:
        return []
    if lost_bytes(source):
        raise TruncatedMediaError(
            f"The file is cut off: {missing:.1f} s of the piece are missing.", missing=missing
        )
    return [f"The audio ends {missing:.1f} s before the end of the piece that was asked for."]


def compare(
    source: Path,
    info: MediaInfo,
    track: AudioTrack,
    duration: float,
    survey: Measurement,
    *,
    filled: bool,
    expected: float | None,
    complaints: int,
) -> list[str]:
    """Compare the *duration* that was written, in seconds, with what *source* should have given.

    A header that claims more than there is, is a warning as long as the packets end cleanly where the file
    ends: such files exist and play. When the file itself is cut, it is an error.

    :param survey: The packets of the track.
    :param filled: Whether silence was put where there was no sound.
    :param expected: Seconds that something outside the file says it lasts, picture and sound.
    :param complaints: How often ffmpeg complained on the way.
    :returns: Warnings, one sentence each.
    :raises TruncatedMediaError: the end of the source is missing.
    :raises FfmpegError: the source has more sound than was written, and nothing says why.
    """
    shown = duration if filled else duration + survey.gap_seconds
    # The picture may well last longer than the sound.
    whole = max(track.start + shown, info.duration or 0.0)
    if expected is not None and expected - whole > TOLERANCE:
        missing = expected - whole
        raise TruncatedMediaError(
            f"The file ends after {whole:.1f} s: {missing:.1f} s of {expected:.1f} s are missing.",
            missing=missing,
        )
    stated = track.duration or max((info.duration or 0.0) - max(track.start, 0.0), 0.0)
    missing = max(stated - shown, 0.0) if stated else 0.0
    lost = lost_bytes(source)
    if lost:
        return [_cut_off(source, lost, info.size, shown, missing if stated else None)]
    absent = stated - survey.duration - survey.primed if stated else 0.0
    if absent > TOLERANCE and not survey.ends_cleanly:
        raise TruncatedMediaError(
            f"The file ends inside a packet: {absent:.1f} s of {stated:.1f} s of audio are missing.",
            missing=absent,
        )
    warnings = []
    there = survey.duration if filled else survey.sound
    if there - duration > TOLERANCE:
        shortage = f"{there - duration:.1f} s of {there:.1f} s of audio were lost on the way"
        if not complaints:
            raise FfmpegError(f"{shortage}, and ffmpeg gave no reason.")
        warnings.append(f"{shortage}: packets are damaged.")
    # What only the container claims may as well be the length of the picture.
    if absent > TOLERANCE and track.duration:
        ends = f"the audio ends cleanly after {survey.duration:.1f} s"
        warnings.append(f"The header claims {stated:.1f} s, {ends}.")
    return warnings


def compare_copy(written: Measurement, survey: Measurement) -> None:
    """See that a copy holds what was copied, and that its header says so.

    :raises FfmpegError: it does not, so that the track has to be encoded.
    """
    stated = written.duration if written.stated is None else written.stated
    if max(abs(written.sound - survey.sound), abs(stated - survey.duration)) > TOLERANCE:
        raise FfmpegError("The copy does not last as long as its source.")
    # Ogg has no edit list: what an edit had cut out is before its time 0, and is heard.
    if written.begins - written.start > TOLERANCE:
        raise FfmpegError("The copy begins with sound that its source leaves out.")


def _cut_off(source: Path, lost: int, size: int, duration: float, missing: float | None) -> str:
    """What *lost* bytes mean for the audio: nothing, a warning, if the index says that it is all there."""
    cut_off = f"The file is cut off: its last {lost} bytes are missing"
    if missing is not None and has_whole_index(source):
        if missing <= TOLERANCE:
            return f"{cut_off}, but its audio is complete."
    else:
        # The duration is itself derived from what is left; the bytes say more.
        whole = seconds_of_pictures(source) or 0.0
        by_bytes = max(missing or 0.0, duration * lost / size)
        missing = whole - duration if whole > duration else by_bytes
    raise TruncatedMediaError(f"{cut_off}, about {missing:.1f} s of audio.", missing=missing)
