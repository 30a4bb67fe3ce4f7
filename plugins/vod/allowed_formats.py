"""What may be opened of a stranger's file: containers, decoders and protocols, for ffmpeg and PyAV alike.

Playlists and scripts (hls, dash, concat, …) are not among the containers, because they make ffmpeg open
files that they name; nor are formats that take any bytes for sound (amr, raw PCM). Containers and codecs that
are rare, and whose parsers few people test, are read only where Airflow's setting ``[vod] rare_formats`` or,
outside of Airflow, the environment variable ``VOD_RARE_FORMATS`` says so.
"""

from __future__ import annotations

import os

RARE_VARIABLE = "VOD_RARE_FORMATS"

_rare = os.environ.get(RARE_VARIABLE, "").lower() in {"1", "true", "yes"}


def read_rare_formats(wanted: bool = True) -> None:
    """Read the rare ones too, in this process."""
    global _rare
    _rare = wanted


def reads_rare_formats() -> bool:
    """Whether the rare ones are read."""
    return _rare


CONTAINERS = (
    *("mov", "matroska", "mpegts", "mpeg", "avi", "flv", "asf", "mxf", "ogg", "wav", "w64", "aiff", "caf"),
    *("mp3", "aac", "flac", "ac3", "eac3", "amr", "au"),
)
"""Names of ffmpeg's demuxers."""

RARE_CONTAINERS = ("gxf", "dv", "rm", "nut")

DECODERS = (
    *("aac", "aac_latm", "ac3", "eac3", "dca", "truehd", "mlp", "alac", "flac", "ape", "tta", "wavpack"),
    *("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "libvorbis"),
    *("wmav1", "wmav2", "wmapro", "wmalossless", "amrnb", "libopencore_amrnb", "amrwb", "libopencore_amrwb"),
    *("speex", "libspeex", "nellymoser", "gsm", "gsm_ms", "g722", "g726", "qdm2", "s302m"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "adpcm_yamaha"),
    *("pcm_s8", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_u16le", "pcm_u16be", "pcm_s24le", "pcm_s24be"),
    *("pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw"),
    *("pcm_s64le", "pcm_s64be", "pcm_u24le", "pcm_u24be", "pcm_u32le", "pcm_u32be", "pcm_s8_planar"),
    *("pcm_s16le_planar", "pcm_s16be_planar", "pcm_s24le_planar", "pcm_s32le_planar"),
    *("pcm_bluray", "pcm_dvd"),
    # Pictures: without a look at the first one, ffmpeg does not know when a video starts.
    *(
        "h264",
        "hevc",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4",
        "h263",
        "flv",
    ),
    *("vp8", "vp9", "av1", "libdav1d", "libaom-av1", "theora", "mjpeg", "png", "prores", "dnxhd", "dvvideo"),
    *("wmv1", "wmv2", "wmv3", "vc1", "rawvideo"),
)
"""Names of ffmpeg's decoders."""

RARE_DECODERS = ("dvaudio", "cook", "real_144", "real_288", "ralf", "sipr")


def decoders() -> tuple[str, ...]:
    """Those that may run."""
    return DECODERS + (RARE_DECODERS if _rare else ())


def open_options() -> dict[str, str]:
    """Options for opening a file."""
    return {
        "format_whitelist": ",".join(CONTAINERS + (RARE_CONTAINERS if _rare else ())),
        "codec_whitelist": ",".join(decoders()),
        "protocol_whitelist": "file",
    }
