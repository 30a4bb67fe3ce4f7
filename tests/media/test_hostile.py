"""Names that look like options, and files that name other files."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from vod.errors import VodError
from vod.media import (
    EXTENSIONS,
    LanguageNotFoundError,
    MediaError,
    NoSpaceError,
    UnreadableMediaError,
    extract,
    probe,
)
from vod.media.info import MAX_TRACKS, open_options

from .conftest import SECONDS, ffmpeg
from .test_download import serving

Media = Callable[[str], Path]

NAMES = [
    *("-i.mp4", "a:b.mp4", "http:x.mp4", "concat:a|b.mp4", "pipe:0", "data:,x", "%03d.mp4", "100%d"),
    *('it\'s "q".mp4', "new\nline.mp4", "sp ace.mp4", "$(x);`y`.mp4", "[a],b=c.mp4", "a*?.mp4", "ünï.mp4"),
    *("SOURCE", "PARTIAL", os.fsdecode(b"not\xffutf8.mp4")),
]


@pytest.mark.quick(6)
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(name: str, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(media("faststart.mp4"), name)
    for audio_format, extension in EXTENSIONS.items():
        target = Path("out") / f"{name}{extension}"
        extract(Path(name), target, audio_format=audio_format)
        assert os.listdir("out") == [target.name]  # noqa: PTH208
        target.unlink()


@pytest.mark.usefixtures("wheel")
def test_an_error_about_a_name_that_is_not_utf8_can_be_printed(media: Media, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"not\xffutf8.mp4")
    shutil.copy(media("faststart.mp4"), source)
    with pytest.raises(LanguageNotFoundError) as caught:
        extract(source, tmp_path / "out.mp3", language="de")
    assert "utf8.mp4" in str(caught.value).encode("utf-8").decode()


def playlists(folder: Path, canary: Path | str) -> list[Path]:
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{canary}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT4S"><Period>'
        '<AdaptationSet><Representation id="1" mimeType="video/mp4">'
        f"<BaseURL>{canary}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    contents = {
        "hls.m3u8": hls,
        "hls.mp4": hls,
        "concat.mp4": f"ffconcat version 1.0\nfile '{canary}'\n",
        "dash.mp4": dash,
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return [folder / name for name in contents]


def test_the_canary_can_be_reached_when_nothing_holds_it_back(media: Media, tmp_path: Path) -> None:
    # Otherwise the tests below would pass for the wrong reason.
    source = next(path for path in playlists(tmp_path, media("aac.ts")) if path.name == "hls.m3u8")
    ffmpeg("-i", source, "-f", "null", "-")


def test_playlists_in_disguise_open_nothing(engine: str, media: Media, tmp_path: Path) -> None:
    for source in playlists(tmp_path, media("aac.ts")):
        with pytest.raises(UnreadableMediaError):
            extract(source, tmp_path / "out.mp3")
        # Probing stops them already; ffmpeg, which may take a file for something else, must do so too.
        limits = [part for key, value in open_options().items() for part in (f"-{key}", value)]
        command = [engine, "-nostdin", *limits, "-i", f"file:{source}", "-f", "null", "-"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "out.mp3").exists()


@pytest.mark.usefixtures("engine")
def test_no_disguise_reads_a_canary(media: Media, tmp_path: Path) -> None:
    canary = tmp_path / "canary.ts"
    shutil.copy(media("aac.ts"), canary)
    with serving() as server:
        server.content = canary.read_bytes()
        seen = [count_reads(canary, lambda: canary.read_bytes())]
        if seen == [0]:
            pytest.skip("this file system does not say when a file is read")
        for place in (str(canary), f"file:{canary}", f"http://127.0.0.1:{server.server_port}/canary.ts"):
            for source in playlists(tmp_path, place):
                for suffix in (".ts", ".mkv", ".mp3", ".wav", ".avi"):
                    disguise = tmp_path / f"{source.name}{suffix}"
                    shutil.copy(source, disguise)
                    reads = count_reads(canary, functools.partial(refused, disguise))
                    assert reads == 0, f"{disguise.name} read {place}"
        assert server.requests == []


def refused(source: Path) -> None:
    with pytest.raises(MediaError) as caught:
        extract(source, source.parent / "out" / "x.mp3", timeout=20)
    assert caught.value.outcome == "unreadable"


def count_reads(path: Path, act: Callable[[], object]) -> int:
    """Whether *act* reads *path*: by its access time, which is set to long ago first."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
    act()
    return int(path.stat().st_atime_ns != 0)


@pytest.mark.parametrize("tracks", [MAX_TRACKS + 1, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flood_of_tracks(tracks: int, tmp_path: Path) -> None:
    source = tmp_path / "flood.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "sine=d=0.05", *["-map", "0"] * tracks, "-c", "pcm_s16le", "-f", "mov", source
    )
    with pytest.raises(UnreadableMediaError):
        probe(source)


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_many_tracks_that_are_not_too_many(tmp_path: Path) -> None:
    source = tmp_path / "many.mka"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.5", *["-map", "0"] * 200, "-c", "pcm_s16le", source)
    extraction = extract(source, tmp_path / "out.mp3")
    assert len(extraction.alternatives) == 199


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_10_gb_that_are_not_there(media: Media, tmp_path: Path) -> None:
    for name in ("faststart.mp4", "pcm.wav", "mp3.mkv", "sound.flac"):
        source = tmp_path / name
        shutil.copy(media(name), source)
        os.truncate(source, 10 << 30)
        began = time.monotonic()
        try:
            extraction = extract(source, tmp_path / "out.mp3", timeout=5)
            assert extraction.duration == pytest.approx(SECONDS, abs=0.3)
        except VodError as error:
            assert error.outcome in {"timeout", "ffmpeg_failed"}  # noqa: PT017
        assert time.monotonic() - began < 15


@pytest.mark.usefixtures("engine")
def test_a_cover_that_is_a_bomb(media: Media, tmp_path: Path) -> None:
    # 40,000 by 40,000 points, all of one colour: 6 MB here, 4.8 GB unpacked.
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side, packer = 40_000, zlib.compressobj(9)
    row = bytes(1 + side * 3)
    rows = b"".join(packer.compress(row) for _ in range(400)) + packer.flush()
    cover, source = tmp_path / "bomb.png", tmp_path / "song.mp3"
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    cover.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    picture = cover.read_bytes()
    frame = b"APIC" + struct.pack(">I", len(picture) + 14) + b"\0\0\0image/png\0\3\0" + picture
    size = len(frame) + 0
    synchsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    source.write_bytes(b"ID3\3\0\0" + synchsafe + frame + media("sound.mp3").read_bytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extraction = extract(source, tmp_path / "out.mp3", timeout=30)
    assert extraction.duration == pytest.approx(SECONDS, abs=0.1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, "kB"


@pytest.mark.usefixtures("wheel")
def test_symbolic_links(media: Media, tmp_path: Path) -> None:
    (tmp_path / "good.mp4").symlink_to(media("faststart.mp4"))
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    assert extract(tmp_path / "good.mp4", tmp_path / "out.mp3").duration > 3
    for name in ("loop.mp4", "zero.mp4"):
        with pytest.raises(UnreadableMediaError):
            extract(tmp_path / name, tmp_path / "out.mp3")
    # A link at the destination is replaced, not followed.
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "link.mp3").symlink_to(victim)
    extract(tmp_path / "good.mp4", tmp_path / "link.mp3")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "link.mp3").is_symlink()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", ["aac.ts", "pcm.wav", "mp3.mkv"])
def test_a_file_that_grows_while_it_is_read(name: str, media: Media, tmp_path: Path) -> None:
    content = media(name).read_bytes()
    source = tmp_path / name
    source.write_bytes(content[: len(content) // 2])
    stop = threading.Event()

    def grow() -> None:
        with source.open("ab") as file:
            for start in range(len(content) // 2, len(content), 2000):
                file.write(content[start : start + 2000])
                file.flush()
                if stop.wait(0.002):
                    return

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        extraction = extract(source, tmp_path / "out" / "x.mp3", timeout=20)
        assert 1 < extraction.duration < SECONDS + 0.2
    except VodError as error:
        assert error.outcome in {"truncated", "ffmpeg_failed", "unreadable"}  # noqa: PT017
        assert list((tmp_path / "out").iterdir()) == []
    finally:
        stop.set()
        writer.join()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
def test_a_disk_that_is_too_small(audio_format: str, media: Media, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small disk")
    try:
        with pytest.raises(NoSpaceError) as caught:
            extract(media("pcm.wav"), disk / "out", audio_format=audio_format, reencode=True)
        assert caught.value.retryable
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.usefixtures("engine")
def test_a_title_longer_than_a_command_line_may_be(media: Media, tmp_path: Path) -> None:
    titles = tmp_path / "titles"
    titles.write_text(f";FFMETADATA1\ntitle={'long ' * 60_000}\n")
    source = tmp_path / "long.mkv"
    ffmpeg("-i", media("sound.mp3"), "-i", titles, "-map_metadata", "1", "-c", "copy", source)
    assert probe(source).title == ("long " * 100)
    assert extract(source, tmp_path / "out.mp3").duration == pytest.approx(SECONDS, abs=0.1)
