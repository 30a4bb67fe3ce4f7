"""What is found in a media file, and why a file cannot be read."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vod.media import (
    ExtractionCancelledError,
    TruncatedMediaError,
    UnreadableMediaError,
    extract,
    probe,
)
from vod.media.limits import Limits
from vod.media.measure import measure
from vod.media.sandboxed import SeekableFile

from .conftest import SECONDS, ffmpeg

Media = Callable[[str], Path]


def test_what_is_in_a_file(media: Media) -> None:
    info = probe(media("two.mkv"))
    assert info.container == "mkv"
    assert info.duration == pytest.approx(SECONDS, abs=0.1)
    assert info.size == media("two.mkv").stat().st_size
    assert info.bit_rate == pytest.approx(info.size * 8 / info.duration, rel=0.01)
    assert info.video is not None
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 64, 48)
    english, german = info.audio
    assert (english.index, english.codec, english.sample_rate, english.channels) == (0, "aac", 44100, 1)
    assert (english.language, english.default, english.title) == ("eng", False, None)
    assert (german.index, german.language, german.default, german.title) == (1, "ger", True, "Zweitton")
    assert german.duration == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("faststart.mp4", "mp4", "aac"),
        ("mp3.mov", "mov", "mp3"),
        ("opus.webm", "webm", "opus"),
        ("mp3.avi", "avi", "mp3"),
        ("aac.flv", "flv", "aac"),
        ("aac.ts", "mpegts", "aac"),
        ("mp2.mpg", "mpeg", "mp2"),
        ("sound.flac", "flac", "flac"),
        ("pcm.wav", "wav", "pcm_s16le"),
    ],
)
def test_containers_and_codecs(name: str, container: str, codec: str, media: Media) -> None:
    info = probe(media(name))
    assert (info.container, info.audio[0].codec) == (container, codec)
    assert info.audio[0].language is None
    assert info.audio[0].duration == pytest.approx(SECONDS, abs=0.1) or info.duration == pytest.approx(
        SECONDS, abs=0.3
    )


def test_a_cover_is_no_video(media: Media, tmp_path: Path) -> None:
    cover, song = tmp_path / "cover.png", tmp_path / "song.mp3"
    ffmpeg("-f", "lavfi", "-i", "color=s=16x16", "-frames:v", "1", cover)
    ffmpeg("-i", media("sound.mp3"), "-i", cover, "-map", "0", "-map", "1", "-c", "copy", song)
    assert probe(song).video is None
    assert len(probe(song).audio) == 1


def test_a_title_that_is_not_utf8_does_not_make_a_file_unreadable(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "latin.mkv"
    ffmpeg("-i", media("sound.mp3"), "-c", "copy", "-metadata", "title=Caf__ noir", source)
    source.write_bytes(source.read_bytes().replace(b"Caf__", b"Caf\xe9\xff"))
    assert probe(source).title == "Caf\ufffd\ufffd noir"
    assert extract(source, tmp_path / "out.mp3").duration == pytest.approx(SECONDS, abs=0.1)


UNREADABLE: dict[str, bytes] = {
    "text.mp4": b"Hello, I am no video.\n" * 500,
    "zeros.mp4": bytes(100_000),
    "noise.mkv": random.Random(1).randbytes(100_000),
    "head.mp4": b"\0\0\0\x20ftypisom",
    "picture.mp4": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "page.webm": b"<!DOCTYPE html><html><body>404</body></html>",
    "archive.mov": b"PK\x03\x04" + bytes(1000),
    "captions.mkv": b"1\n00:00:00,000 --> 00:00:02,000\nHello\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_media(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(UNREADABLE[name])
    with pytest.raises((UnreadableMediaError, TruncatedMediaError)) as caught:
        probe(source)
    assert caught.value.asset == str(source)
    assert caught.value.remedy
    with pytest.raises((UnreadableMediaError, TruncatedMediaError)):
        extract(source, tmp_path / "out" / "x.mp3")
    assert not (tmp_path / "out").exists()


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    for source, words in {
        tmp_path / "missing.mp4": "does not exist",
        tmp_path / "dangling.mp4": "does not exist",
        tmp_path: "directory",
        tmp_path / "empty.mp4": "empty",
        tmp_path / "fifo.mp4": "pipe",
        Path("/dev/zero"): "device",
        tmp_path / "empty.mp4" / "x": "cannot be reached",
        tmp_path / "a\0b": "cannot be reached",
        tmp_path / ("x" * 300): "cannot be reached",
    }.items():
        with pytest.raises(UnreadableMediaError, match=words) as caught:
            probe(source)
        assert caught.value.remedy


def test_being_cancelled_while_packets_are_read(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "sparse.ts"
    shutil.copy(media("aac.ts"), source)
    os.truncate(source, 20 << 30)
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(ExtractionCancelledError):
        measure(source, limits=Limits(60, cancelled))
    assert time.monotonic() - began < 5


def test_a_place_that_is_none_is_refused_without_a_traceback(media: Media) -> None:
    # PyAV prints what is raised while it reads; damaged ASF files send it to places like this.
    with media("pcm.wav").open("rb", buffering=0) as opened:
        file = SeekableFile(opened)
        assert file.seek(1 << 56) == -1
        assert file.seek(-1) == -1
        assert file.seek(4) == 4
        assert file.read(4) == media("pcm.wav").read_bytes()[4:8]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    source = tmp_path / "secret.mp4"
    source.write_bytes(b"x")
    source.chmod(0)
    with pytest.raises(UnreadableMediaError, match="may not be read"):
        probe(source)
