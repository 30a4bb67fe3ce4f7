"""The one line of ffmpeg that writes every output of a source in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ffmpeg

from vod.media.formats import Output
from vod.media.info import open_options
from vod.media.process import QUIET
from vod.media.provenance import Provenance
from vod.media.timeline import GAP, LONGEST_GAP, NO_OFFSET
from vod.media.tracks import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vod.media.info import AudioTrack, MediaInfo

_MAX_LENGTH_TAG = 500
"""Characters; one argument of a command has a limit."""

_SEEKABLE = {"mov", "mp4", "m4a", "3gp", "3g2", "mj2", "mkv", "webm", "wav"}
"""Containers in which a position is found through an index. In others it is guessed from the bit rate."""
DECODED = "decoded"
"""The container of sound that was decoded before, which keeps the time at which it starts to itself."""
_FIRST_IS_ZERO = {"mpegts", "mpeg", "ogg", DECODED}
"""Containers in which ffmpeg counts from the start of the tracks that it reads, not of the file."""
_FILLED = f"aresample=async=1000:min_comp={GAP / 2}:min_hard_comp={GAP}"
"""Drift is evened out softly, gaps are filled and overlaps cut."""
_FROM_ZERO = f"aresample=async=1:min_hard_comp={GAP / 2}:first_pts=0"
"""Silence before a late start. Beside soft compensation ffmpeg 5 would forget how far it is."""
_RUN_UP = 2.0
"""Seconds that are decoded before the start that was asked for: decoders need what came before."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One file to be written.

    :param gain: dB.
    :param gaps: What becomes of gaps and overlaps: ``silence`` keeps the video's time, ``close`` joins what
        there is. ``None`` where the track has none.
    :param take: The one channel to take where a mix of all would be silent.
    :param has_long_gap: Whether one is longer than ffmpeg believes of MPEG streams.
    """

    track: AudioTrack
    output: Output
    partial: Path
    copy: bool
    gain: float = 0.0
    gaps: Literal["silence", "close"] | None = None
    take: int | None = None
    has_long_gap: bool = False


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What is written into the files besides the sound.

    :param title: The source's own when ``None``.
    :param source: The source's id or name, without a secret. With it go the track and when it starts.
    :param fingerprint: Of the source and of what was asked for, to recognise the file by.
    :param keep: Take over all that the source has; they may name a person or a place.
    :param track: The source's track; the one that is read when ``None``.
    """

    title: str | None = None
    source: str | None = None
    fingerprint: str | None = None
    keep: bool = False
    track: int | None = None


def start_offset(info: MediaInfo, track: AudioTrack, selection: Selection) -> float:
    """Seconds after the start of the video at which what is written of *track* starts."""
    video = info.video.start if info.video else 0.0
    offset = max(track.start, selection.start) - video
    return round(offset, 3) if abs(offset) > NO_OFFSET else 0.0


def extraction(
    program: str,
    source: Path,
    info: MediaInfo,
    pieces: Sequence[Piece],
    selection: Selection,
    tags: Tags,
    *,
    check: bool,
) -> list[str]:
    """The command that writes all *pieces*.

    :param program: The ffmpeg to run.
    :param check: Decode also what is only copied, so that damaged frames are counted.
    """
    base = _base(info, selection, [piece.track for piece in pieces])
    media = _input(info, base, has_long_gap=any(piece.has_long_gap for piece in pieces))
    outputs, names = [], {"SOURCE": f"file:{source}"}
    for number, piece in enumerate(pieces):
        names[f"PARTIAL{number}"] = f"file:{piece.partial}"
        options = _options(piece, info, selection, tags, base)
        outputs.append(media[f"a:{piece.track.index}"].output(f"PARTIAL{number}", **options))
    if check:
        decoded = {piece.track.index for piece in pieces if not piece.copy}
        copied = {piece.track.index for piece in pieces} - decoded
        outputs += [media[f"a:{index}"].output("-", f="null") for index in sorted(copied)]
    quiet = ("-v", "repeat+level+warning", "-progress", "pipe:1")
    return _compile(program, ffmpeg.merge_outputs(*outputs), names, *quiet)


def loudness(program: str, source: Path, info: MediaInfo, piece: Piece, selection: Selection) -> list[str]:
    """The command that measures by EBU R128 what *piece* would sound like without its gain."""
    base = _base(info, selection, [piece.track])
    media = _input(info, base, has_long_gap=piece.has_long_gap)
    channels = piece.output.mixes_to(len(piece.track.places))
    mix = {1: ["aformat=channel_layouts=mono"], 2: ["aformat=channel_layouts=stereo"]}
    filters = [
        *_timing(piece, selection, base),
        *piece.output.filters(piece.track.places, 0.0, piece.take),
        *mix.get(channels, []),
        "ebur128=peak=true:framelog=verbose",
    ]
    options = {"f": "null", "af": ",".join(filters), **_length(piece.track, selection)}
    measuring = media[f"a:{piece.track.index}"].output("-", **options)
    return _compile(program, measuring, {"SOURCE": f"file:{source}"}, "-v", "info")


def decoding(
    program: str,
    source: Path,
    tracks: Sequence[AudioTrack],
    target: Path,
    *,
    timed: bool,
    has_long_gap: bool,
) -> list[str]:
    """The command that decodes *tracks* and nothing else: a filter would begin again with each change.

    :param timed: Each sound keeps its time, in Matroska; else what there is of one track is joined, in WAV.
    :param has_long_gap: As in :class:`Piece`.
    """
    maps = [part for track in tracks for part in ("-map", f"0:a:{track.index}")]
    fine = max(track.bits or 0 for track in tracks) > 16
    opening = _opening(has_long_gap)
    if not timed:
        return _whole(program, source, opening, [*maps, "-c:a", "pcm_s32le" if fine else "pcm_s16le"], target)
    # PCM would lose the places of the channels. A gap within a frame moves to its end, so they are short.
    options = ("-c:a", "flac", "-frame_size", "256", "-sample_fmt", "s32" if fine else "s16")
    return _whole(program, source, opening, [*maps, *options], target, "matroska")


def mix(
    program: str,
    source: Path,
    info: MediaInfo,
    tracks: Sequence[AudioTrack],
    target: Path,
    *,
    has_long_gap: bool,
) -> list[str]:
    """The command that mixes *tracks* into one WAV, which starts where the file does.

    :param has_long_gap: As in :class:`Piece`.
    """
    base = _base(info, Selection(), tracks)
    late = f"adelay={base * 1000:.0f}:all=1," if base else ""
    chains = [f"[0:a:{track.index}]{_FILLED},{_FROM_ZERO}[t{number}]" for number, track in enumerate(tracks)]
    inputs = "".join(f"[t{number}]" for number in range(len(tracks)))
    # Each keeps its loudness; where they are too loud together, the peaks are brought down.
    mixed = f"{inputs}amix=inputs={len(tracks)}:normalize=0,{late}alimiter=limit=0.97:level=0[mix]"
    options = ("-filter_complex", ";".join([*chains, mixed]), "-map", "[mix]", "-c:a", "pcm_s16le")
    return _whole(program, source, _opening(has_long_gap), options, target)


def _whole(
    program: str,
    source: Path,
    opening: Mapping[str, str],
    options: Sequence[str],
    target: Path,
    muxer: str | None = None,
) -> list[str]:
    limits = [part for key, value in opening.items() for part in (f"-{key}", value)]
    form = ("-f", muxer) if muxer else ("-rf64", "auto", "-f", "wav")
    quiet = (*QUIET, "-y", "-v", "repeat+level+warning", "-progress", "pipe:1")
    return [program, *quiet, *limits, "-i", f"file:{source}", *options, *form, f"file:{target}"]


def _compile(program: str, graph: Any, names: dict[str, str], *quiet: str) -> list[str]:
    command: list[str] = graph.global_args(*QUIET, *quiet).compile(cmd=program, overwrite_output=True)
    # "file:" keeps a name from being taken for an option, a protocol or a list. The names come in last,
    # because ffmpeg-python takes only UTF-8.
    return [names.get(argument, argument) for argument in command]


def _options(piece: Piece, info: MediaInfo, selection: Selection, tags: Tags, base: float) -> dict[str, Any]:
    track, output = piece.track, piece.output
    options: dict[str, Any] = {
        "f": output.form.muxer,
        "map_metadata": 0 if tags.keep else -1,
        "map_chapters": -1,
        **output.form.muxer_options,
    }
    if piece.copy:
        options["c:a"] = "copy"
        if track.start - base > NO_OFFSET:
            options["output_ts_offset"] = base - track.start
    else:
        options |= output.options(track.bits) | _length(track, selection)
        filters = [*_timing(piece, selection, base), *output.filters(track.places, piece.gain, piece.take)]
        if filters:
            options["af"] = ",".join(filters)
    comment = tags.source and Provenance(
        source=tags.source,
        track=track.index if tags.track is None else tags.track,
        language=track.language,
        offset=start_offset(info, track, selection),
        fingerprint=tags.fingerprint,
    )
    # ":g" means the whole file too; ffmpeg-python takes an option's name only once.
    for option, name, text in (
        ("metadata", "title", tags.title or info.title),
        ("metadata:g", "comment", comment),
    ):
        if text:
            options[option] = f"{name}={str(text)[:_MAX_LENGTH_TAG]}"
    if track.language:
        options["metadata:s:a:0"] = f"language={track.language}"
    return options


def _base(info: MediaInfo, selection: Selection, tracks: Sequence[AudioTrack]) -> float:
    """Where on the file's clock ffmpeg's zero is."""
    if info.container in _FIRST_IS_ZERO:  # by what the headers say, which the packets may belie
        return max(min(info.audio[track.index].start for track in tracks), 0.0)
    return max(selection.start - _RUN_UP, 0.0) if info.container in _SEEKABLE else 0.0


def _opening(has_long_gap: bool) -> dict[str, str]:
    return open_options() | ({"dts_delta_threshold": f"{LONGEST_GAP:g}"} if has_long_gap else {})


def _input(info: MediaInfo, base: float, *, has_long_gap: bool) -> Any:
    seek = {"ss": base} if base and info.container in _SEEKABLE else {}
    return ffmpeg.input("SOURCE", threads=1, **_opening(has_long_gap), **seek)


def _timing(piece: Piece, selection: Selection, base: float) -> list[str]:
    """Filters for when the sound is to be heard."""
    track, rebase = piece.track, "asetpts=PTS-STARTPTS"
    inside = selection.start > track.start
    filters = []
    if piece.gaps == "silence":
        filters.append(_FILLED)
    if selection.start > 0:
        start = f"{max(selection.start - base, 0.0):.6f}"
        filters.append(f"atrim=start={start}")
        # The piece may start in a gap.
        filters += [f"asetpts=PTS-{start}/TB", _FROM_ZERO] if inside and piece.gaps == "silence" else [rebase]
    elif track.start > NO_OFFSET:
        # The sound starts at the start of its file, and the result says when that is in the video.
        filters.append(rebase)
    if piece.gaps == "close":
        filters.append("asetpts=N/SR/TB")
    return filters


def _length(track: AudioTrack, selection: Selection) -> dict[str, float]:
    if selection.duration is None:
        return {}
    return {"t": selection.duration - max(track.start - selection.start, 0.0)}
