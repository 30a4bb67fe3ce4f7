"""A corpus that the wheel's own ffmpeg makes, and every test run with each ffmpeg that this machine has.

Tones tell the tracks apart: the first is 440 Hz, the second 880 Hz.
"""

from __future__ import annotations

import itertools
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

WHEEL = imageio_ffmpeg.get_ffmpeg_exe()
ENGINES = {"wheel": WHEEL, "path": shutil.which("ffmpeg")}

SECONDS = 4.0
_PICTURE = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r=5:d={SECONDS}"]
_TONES = [
    part
    for frequency in (440, 880)
    for part in ("-f", "lavfi", "-i", f"sine=f={frequency}:r=44100:d={SECONDS}")
]
_H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "5"]
_ONE = ["-map", "0:v", "-map", "1:a"]
_TWO = [*_ONE, "-map", "2:a"]
_SOUND = ["-map", "1:a"]

RECIPES: dict[str, list[str]] = {
    "faststart.mp4": [*_ONE, *_H264, "-c:a", "aac", "-movflags", "+faststart"],
    "index-last.mp4": [*_ONE, *_H264, "-c:a", "aac"],
    "fragments.mp4": [
        *_ONE,
        *_H264,
        "-c:a",
        "aac",
        "-movflags",
        "frag_keyframe+empty_moov+default_base_moof",
    ],
    "mp3.mov": [*_ONE, *_H264, "-c:a", "libmp3lame"],
    "mp3.mkv": [*_ONE, *_H264, "-c:a", "libmp3lame"],
    "opus.webm": [*_ONE, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"],
    "mp3.avi": [*_ONE, "-c:v", "mpeg4", "-c:a", "libmp3lame"],
    "aac.flv": [*_ONE, *_H264, "-c:a", "aac"],
    "aac.ts": [*_ONE, *_H264, "-c:a", "aac"],
    "mp2.mpg": [*_ONE, "-c:v", "mpeg2video", "-r", "25", "-c:a", "mp2"],
    "wma.wmv": [*_ONE, "-c:v", "wmv2", "-c:a", "wmav2"],
    "pcm.wav": _SOUND,
    "sound.flac": _SOUND,
    "sound.mp3": _SOUND,
    "sound.m4a": _SOUND,
    "no-audio.mp4": ["-map", "0:v", *_H264],
    "two.mkv": [
        *(*_TWO, *_H264, "-c:a", "aac"),
        *("-metadata:s:a:0", "language=eng", "-disposition:a:0", "0"),
        *(
            "-metadata:s:a:1",
            "language=ger",
            "-disposition:a:1",
            "default",
            "-metadata:s:a:1",
            "title=Zweitton",
        ),
    ],
    "untagged.mkv": [*_TWO, *_H264, "-c:a", "aac", "-disposition:a", "0"],
    "short-sound.mp4": [*_ONE, *_H264, "-c:a", "aac", "-movflags", "+faststart", "-af", "atrim=end=1"],
    "surround.mka": [*_SOUND, "-c:a", "flac", "-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0"],
}


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run([WHEEL, "-nostdin", "-v", "error", "-y", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a file of the corpus, once."""
    folder = tmp_path_factory.mktemp("corpus")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg(*_PICTURE, *_TONES, *RECIPES[name], path)
        return path

    return make


@pytest.fixture(scope="session")
def hollow(media: Callable[[str], Path]) -> Callable[[str], Path]:
    """Make an MKV or MP4 whose default audio track has no sound; ``two.…`` has a second track with sound."""

    def make(name: str) -> Path:
        path = media("sound.m4a").with_name(f"hollow-{name}")
        if not path.exists():
            good = media("sound.m4a")
            second = ["-i", good, "-map", "0:a", "-map", "1:a"] if name.startswith("two") else ["-map", "0:a"]
            ffmpeg("-ss", "100", "-i", good, *second, "-c", "copy", "-disposition:a:0", "default", path)
        return path

    return make


@pytest.fixture(
    params=["wheel", *([pytest.param("path", marks=pytest.mark.slow)] if ENGINES["path"] else [])]
)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every ffmpeg that this machine has, one after the other; in a quick run only the wheel's."""
    path = ENGINES[request.param]
    assert path is not None
    monkeypatch.setenv("VOD_FFMPEG", path)
    return path


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VOD_FFMPEG", WHEEL)
    return WHEEL


@pytest.fixture
def endless(tmp_path: Path, media: Callable[[str], Path]) -> Path:
    """A transport stream that takes minutes to read and no space on the disk."""
    path = tmp_path / "endless.ts"
    ffmpeg("-stream_loop", "3", "-i", media("aac.ts"), "-c", "copy", path)
    os.truncate(path, 20 << 30)
    return path


def cut(source: Path, target: Path, share: float) -> Path:
    """The beginning of *source*."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def tone(path: Path) -> float:
    """The frequency in Hz of the sound in *path*, by counting how often it crosses zero."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="s16", layout="mono")
        samples = [
            sample
            for frame in container.decode(stream)
            for part in resampler.resample(frame)
            for sample in memoryview(bytes(part.planes[0])[: part.samples * 2]).cast("h")
        ]
        rate = stream.codec_context.sample_rate
    middle = samples[rate // 2 : rate // 2 + rate * 2]
    return sum(a < 0 <= b for a, b in itertools.pairwise(middle)) / 2


def packets(path: Path, index: int = 0) -> list[bytes]:
    """The packets of an audio track."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[index]) if packet.size]


def decoded_seconds(path: Path) -> float:
    """Seconds of sound that a player gives, which leaves out what the header says is padding."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.codec_context.sample_rate


def with_edits(source: Path, target: Path, edits: list[tuple[float, float]]) -> Path:
    """Give the one track another edit list: seconds, and seconds in the track or -1."""
    data = source.read_bytes()
    begins, old = data.index(b"edts") - 4, data.index(b"trak") - 4
    length = int.from_bytes(data[begins : begins + 4], "big")
    header = data.index(b"mvhd")
    second = int.from_bytes(data[header + 16 : header + 20], "big")
    entries = [
        struct.pack(">IiI", round(a * second), round(b * 48_000) if b >= 0 else -1, 1 << 16) for a, b in edits
    ]
    elst = struct.pack(">I4sII", 16 + 12 * len(edits), b"elst", 0, len(edits)) + b"".join(entries)
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    changed = bytearray(data[:begins] + edts + data[begins + length :])
    for at in (data.index(b"moov") - 4, old):
        size = int.from_bytes(data[at : at + 4], "big") + len(edts) - length
        changed[at : at + 4] = size.to_bytes(4, "big")
    target.write_bytes(changed)
    return target
