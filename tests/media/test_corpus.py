"""Each container, codec and trap that this project knows of, and exactly what comes of it."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import pytest

from vod.errors import VodError
from vod.media import Output, Selection, extract_all

from .conftest import ENGINES, ffmpeg

SECONDS = 2.0

_PICTURE = ("-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={SECONDS}")
_TONE = ("-f", "lavfi", "-i", f"sine=f=440:r=44100:d={SECONDS}")
_SECOND = ("-f", "lavfi", "-i", f"sine=f=880:r=44100:d={SECONDS}")
_VIDEO_CODECS = {
    "webm": ("libvpx", "-deadline", "realtime", "-cpu-used", "8"),
    "avi": ("mpeg4",),
    "wmv": ("wmv2",),
    "mpg": ("mpeg2video",),
    "mxf": ("mpeg2video",),
}
_H264 = ("libx264", "-preset", "ultrafast", "-g", "5")
_SOUND_ONLY = {"ogg", "wav", "aiff", "caf", "w64", "mp3", "aac", "flac", "ac3", "eac3", "m4a", "mka", "opus"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file and what extracting MP3 from it gives.

    :param make: Writes the file.
    :param outcome: ``extracted``, or the error's.
    :param expected: Attributes of the extraction.
    :param warning: What its only warning contains; ``None`` when there must be none.
    """

    make: Callable[[Path], None]
    name: str
    outcome: str = "extracted"
    seconds: float = SECONDS
    within: float = 0.1
    expected: dict[str, Any] = field(default_factory=dict)
    warning: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    selection: Selection | None = None


CASES: dict[str, Case] = {}


def clip(path: Path, *options: str, tone: tuple[str, ...] = _TONE, sound_only: bool = False) -> None:
    """A picture and a tone, in what the extension and the *options* say."""
    kind = path.suffix[1:]
    if sound_only or kind in _SOUND_ONLY:
        ffmpeg(*tone, *options, path)
    else:
        video = _VIDEO_CODECS.get(kind, _H264)
        ffmpeg(*_PICTURE, *tone, "-map", "0:v", "-map", "1:a", "-c:v", *video, *options, path)


def case(trap: str, name: str, make: Callable[[Path], None], **details: Any) -> None:
    label = f"{trap}-{name}"
    assert label not in CASES
    CASES[label] = Case(make=make, name=name, **details)


# Containers and codecs, without a trap. MP3 is copied where it is there.
for container, codecs in {
    "mp4": "aac libmp3lame ac3 eac3 alac flac libopus",
    "mov": "aac pcm_s16le alac libmp3lame",
    "3gp": "aac",
    "mkv": "aac libmp3lame ac3 eac3 flac libopus libvorbis pcm_s16le mp2 dca wavpack tta",
    "webm": "libopus libvorbis",
    "ts": "aac libmp3lame ac3 mp2 libopus",
    "mpg": "mp2 ac3",
    "avi": "libmp3lame pcm_s16le ac3",
    "flv": "aac libmp3lame",
    "wmv": "wmav2 libmp3lame",
    "mxf": "pcm_s16le",
    "ogg": "libvorbis libopus flac",
    "wav": "pcm_s16le pcm_s24le pcm_f32le pcm_mulaw adpcm_ms",
    "aiff": "pcm_s16be",
    "caf": "alac",
    "w64": "pcm_s16le",
    "mp3": "libmp3lame",
    "aac": "aac",
    "flac": "flac",
    "ac3": "ac3",
    "eac3": "eac3",
    "m4a": "alac",
}.items():
    for codec in codecs.split():
        rate = ("-ar", "48000") if container in {"mxf"} or codec == "dca" else ()
        options = ("-c:a", codec, *rate, "-strict", "-2")
        # What holds MP3 well enough to be copied; ffmpeg 5 does not copy it well out of Matroska.
        copies = {"copied": True} if codec == "libmp3lame" and container not in {"mkv"} else {}
        case(
            "plain",
            f"{codec}.{container}",
            functools.partial(lambda path, options: clip(path, *options), options=options),
            # The frames of some codecs are long, and their last is filled up.
            within=0.15 if codec in {"wmav2", "adpcm_ms", "libvorbis"} else 0.1,
            expected={"channels": 1, "silent": False, "offset": 0.0, **copies},
        )


def no_audio(path: Path) -> None:
    ffmpeg(*_PICTURE, "-c:v", *_VIDEO_CODECS.get(path.suffix[1:], _H264), path)


def empty_track(path: Path) -> None:
    sound = path.with_name(f"{path.name}.m4a")
    clip(sound)
    ffmpeg("-ss", "100", "-i", sound, "-map", "0:a", "-c", "copy", path)


def silent(path: Path) -> None:
    clip(path, tone=("-f", "lavfi", "-i", f"anullsrc=r=44100:cl=mono:d={SECONDS}"))


def cut(path: Path, *options: str, share: float = 0.6) -> None:
    clip(path, *options)
    os.truncate(path, int(path.stat().st_size * share))


def late(path: Path) -> None:
    sound = path.with_name(f"{path.name}.m4a")
    clip(sound)
    picture = path.with_name(f"{path.name}.picture.mp4")
    no_audio(picture)
    ffmpeg("-i", picture, "-itsoffset", "1", "-i", sound, "-map", "0", "-map", "1", "-c", "copy", path)


def damaged(path: Path) -> None:
    clip(path, "-c:a", "aac", *(("-movflags", "+faststart") if path.suffix == ".mp4" else ()))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        frames = [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size > 60]
    for frame in frames[10:60:10]:
        start = content.find(frame[8:30])
        content[start : start + 12] = bytes(range(255, 243, -1))
    path.write_bytes(content)


def lying(path: Path) -> None:
    clip(path, "-c:a", "libmp3lame")
    path.write_bytes(path.read_bytes().replace(b"00:00:02.", b"00:09:02."))


def unknown_codec(path: Path) -> None:
    clip(path, "-c:a", "libmp3lame")
    path.write_bytes(path.read_bytes().replace(b"A_MPEG/L3", b"A_ZZZZ/L9"))


def two_tracks(path: Path) -> None:
    marks = ("-disposition:a:0", "0", "-disposition:a:1", "default", "-metadata:s:a:1", "language=ger")
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:a")
    ffmpeg(*_PICTURE, *_TONE, *_SECOND, *maps, "-c:v", *_H264, "-c:a", "aac", *marks, path)


def covered(path: Path) -> None:
    sound, cover = path.with_name(f"{path.name}{path.suffix}"), path.with_name(f"{path.name}.png")
    clip(sound)
    ffmpeg("-f", "lavfi", "-i", "color=s=16x16", "-frames:v", "1", cover)
    ffmpeg(
        *("-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:v", "attached_pic", path),
    )


def gapped(path: Path) -> None:
    clip(path, "-af", "aselect='lt(t,0.5)+gt(t,1.5)'", "-c:a", "flac", sound_only=True)


def tone_of(source: str) -> Callable[[Path], None]:
    return lambda path: clip(path, tone=("-f", "lavfi", "-i", source))


def content_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def garbage_first(path: Path) -> None:
    clip(path)
    path.write_bytes(random.Random(1).randbytes(200_000) + path.read_bytes())


for kind in ("mp4", "mkv", "ts", "webm"):
    case("no_audio", f"a.{kind}", no_audio, outcome="no_audio_track")
for kind in ("mp4", "mkv", "mov"):
    case("empty_track", f"a.{kind}", empty_track, outcome="empty_track")
for kind in ("mp4", "wav", "webm", "ts", "flac"):
    case("silent", f"a.{kind}", silent, expected={"silent": True})
for kind in ("mkv", "webm", "avi", "flv", "wav", "flac"):
    case("cut", f"a.{kind}", cut, outcome="truncated")
case("cut", "faststart.mp4", lambda path: cut(path, "-movflags", "+faststart"), outcome="truncated")
case("cut", "index-last.mp4", cut, outcome="truncated")
case("cut", "fragments.mp4", lambda p: cut(p, "-movflags", "frag_keyframe+empty_moov"), outcome="truncated")
case("cut", "unexpected.ts", cut, seconds=SECONDS * 0.6, within=0.5)
case("cut", "expected.ts", cut, outcome="truncated", options={"expected_duration": SECONDS})
for kind in ("mp4", "mkv", "ts", "mov"):
    case("late", f"a.{kind}", late, expected={"offset": pytest.approx(1.0, abs=0.06)})
for kind in ("mp4", "ts", "mkv"):
    case("damaged", f"a.{kind}", damaged, within=0.3, expected={"corrupt_frames": 5}, warning="complained")
    case("damaged-strict", f"a.{kind}", damaged, outcome="corrupt", options={"strict": True})
case("lying", "a.mkv", lying, warning="The header claims 542.0 s")
case("unknown_codec", "a.mkv", unknown_codec, outcome="unsupported")
case("default-second", "a.mkv", two_tracks, expected={"track.index": 1, "track.language": "ger"})
case("no-language", "a.mkv", two_tracks, outcome="language_not_found", selection=Selection(language="fr"))
case("no-track", "a.mkv", two_tracks, outcome="track_not_found", selection=Selection(track=5))
for kind in ("mp3", "m4a", "flac"):
    case("cover", f"a.{kind}", covered)
case("gap", "a.mka", gapped, seconds=2.0, within=0.15, warning="one gap of 1.0 s, which is silent")
case("short", "a.wav", tone_of("sine=d=0.1"), seconds=0.1)
case("almost-nothing", "a.wav", tone_of("sine=d=0.01"), outcome="empty_track")
case("8-khz", "a.wav", tone_of("sine=r=8000:d=2"), expected={"sample_rate": 8000})
case("96-khz", "a.flac", tone_of("sine=r=96000:d=2"), expected={"sample_rate": 48000})
case("7.1", "a.flac", tone_of("aevalsrc=0.1*sin(2764*t):c=7.1:d=2"), expected={"channels": 2})
case("text", "a.mp4", content_of(b"Hello, I am no video.\n" * 500), outcome="unreadable")
case("zeros", "a.mp4", content_of(bytes(100_000)), outcome="unreadable")
case("noise", "a.mkv", content_of(random.Random(1).randbytes(100_000)), outcome="unreadable")
case("nothing", "a.mp4", content_of(b""), outcome="unreadable")
hls = b"#EXTM3U\n#EXTINF:4,\n/etc/passwd\n#EXT-X-ENDLIST\n"
case("playlist", "a.mp4", content_of(hls), outcome="unreadable")
case("script", "a.mp4", content_of(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), outcome="unreadable")
case("page", "a.webm", content_of(b"<!DOCTYPE html><html><body>404</body></html>"), outcome="unreadable")
case("garbage-first", "a.mp3", garbage_first, outcome="unreadable")
case(
    "piece", "a.mp4", clip, seconds=0.5, selection=Selection(start=1, duration=0.5), expected={"offset": 1.0}
)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the file of a case, once."""
    folder = tmp_path_factory.mktemp("cases")

    def make(label: str) -> Path:
        path = folder / label / CASES[label].name
        if not path.parent.exists():
            path.parent.mkdir()
            CASES[label].make(path)
        return path

    return make


@pytest.mark.parametrize("program", ["wheel", pytest.param("path", marks=pytest.mark.slow)])
@pytest.mark.parametrize("label", CASES)
def test_what_comes_of_it(
    label: str,
    program: str,
    corpus: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = ENGINES[program]
    if path is None:
        pytest.skip("no ffmpeg on the PATH")
    monkeypatch.setenv("VOD_FFMPEG", path)
    expected, target = CASES[label], tmp_path / "out.mp3"
    outputs = {target: Output()}
    if expected.outcome != "extracted":
        with pytest.raises(VodError) as caught:
            extract_all(corpus(label), outputs, expected.selection, **expected.options)
        assert caught.value.outcome == expected.outcome
        assert caught.value.message
        assert caught.value.remedy
        assert list(tmp_path.iterdir()) == []
        return
    found = extract_all(corpus(label), outputs, expected.selection, **expected.options)[0]
    assert found.duration == pytest.approx(expected.seconds, abs=expected.within)
    for name, value in expected.expected.items():
        assert functools.reduce(getattr, name.split("."), found) == value, name
    if expected.warning is None:
        assert found.warnings == ()
    else:
        assert expected.warning in " ".join(found.warnings)
    assert list(tmp_path.iterdir()) == [target]
