"""Fetching only the sound of a remote file gives the very samples of the whole file, or nothing at all."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vod import media
from vod.locations import ANYWHERE, parse_location
from vod.media import Limits, sparse
from vod.media.download import web_ranges
from vod.media.sparse import Fetched, RangesError
from vod.media.tracks import places_of_sound

SECONDS = 12


class Server(ThreadingHTTPServer):
    """Sends parts of a file; changes it, refuses and throttles as a test wants."""

    content: bytes
    tag: str | None = '"1"'
    knows_range = True
    changes_after = 0
    """Requests after which the file is another one; 0 for never."""
    throttled = 0
    """Requests still to be refused for now."""
    seconds = 0.0
    """Before each answer."""
    asked = 0
    sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a.mp4?signature=secret"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.asked += 1
        time.sleep(server.seconds)
        if server.changes_after and server.asked > server.changes_after:
            server.tag = '"2"'
        if server.throttled:
            server.throttled -= 1
            self.send_response(503)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, total = server.content, len(server.content)
        part = self.headers.get("Range")
        if part and server.knows_range and self.headers.get("If-Range", server.tag) == server.tag:
            start, end = map(int, part.removeprefix("bytes=").split("-"))
            body = body[start : end + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{min(end, total - 1)}/{total}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        server.sent += len(body)
        try:
            self.wfile.write(body)
        except OSError:  # the client has seen enough
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(content: bytes, **traits: Any) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content = content
        for name, value in traits.items():
            setattr(server, name, value)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of noise, which does not compress: 12 MB."""
    folder = tmp_path_factory.mktemp("picture")
    noise = folder / "noise.yuv"
    noise.write_bytes(random.Random(1).randbytes(192 * 144 * 3 // 2 * 25 * 2))
    ffmpeg("-stream_loop", "5", "-f", "rawvideo", "-s", "192x144", "-r", "25", "-i", noise,
           "-c:v", "mjpeg", "-q:v", "1", "-g", "1", folder / "picture.mkv")  # fmt: skip
    return folder / "picture.mkv"


def ffmpeg(*arguments: str | Path) -> bytes:
    command = [media.find_ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def video(picture: Path, path: Path, *options: str, tracks: int = 1) -> Path:
    sounds = [
        f"aevalsrc=0.5*sin(2*PI*(300+{100 * track}*t)*t):s=48000:d={SECONDS}" for track in range(tracks)
    ]
    inputs = [word for sound in sounds for word in ("-f", "lavfi", "-i", sound)]
    maps = [word for track in range(tracks) for word in ("-map", f"{track + 1}:a")]
    ffmpeg("-i", picture, *inputs, "-map", "0:v", *maps, "-c:v", "copy", *options, path)
    return path


def fetched(server: Server, target: Path) -> int:
    limits, found = Limits(60), Fetched()
    with web_ranges(parse_location(server.url), limits=limits, allowed=ANYWHERE) as source:
        wanted = media.Selection(track=media.ALL)
        sparse.fetch_sound(
            source,
            target,
            lambda path: places_of_sound(path, wanted, limits=limits),
            found,
            max_bytes=1 << 40,
        )
    return found.bytes


def sound(path: Path, track: int = 0) -> bytes:
    return ffmpeg("-i", path, "-map", f"0:a:{track}", "-f", "md5", "-")


FRAGMENTS = ("-frag_duration", "1000000", "-movflags", "+empty_moov+default_base_moof")
HALF = ("-chunk_duration", "500000")


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    ("name", "options", "tracks"),
    [
        ("index-last.mp4", HALF, 1),
        ("index-first.mp4", (*HALF, "-movflags", "+faststart"), 1),
        ("frames.mp4", (), 1),
        ("pcm.mov", (*HALF, "-c:a", "pcm_s16le"), 1),
        ("alac.mov", (*HALF, "-c:a", "alac"), 1),
        ("two.mov", HALF, 2),
        ("late.mp4", (*HALF, "-output_ts_offset", "3"), 1),
        ("fragments.mp4", FRAGMENTS, 1),
        ("fragments-two.mov", FRAGMENTS, 2),
        ("fragments-opus.mp4", (*FRAGMENTS, "-c:a", "libopus"), 1),
        ("fragments-pcm.mov", (*FRAGMENTS, "-c:a", "pcm_s16le"), 1),
        ("dash.mp4", ("-frag_duration", "1000000", "-movflags", "+dash+global_sidx+default_base_moof"), 1),
        ("index-of-fragments.mp4", ("-frag_duration", "2000000", "-movflags", "+empty_moov"), 1),
    ],
)
def test_the_sound_is_that_of_the_whole_file(
    name: str,
    options: tuple[str, ...],
    tracks: int,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "_WORTH", 1e9)  # loopback is so quick that all of it always is quicker
    monkeypatch.setattr(sparse, "_GAPS", (4 << 10,))
    whole = video(picture, tmp_path / name, *options, tracks=tracks)
    part = tmp_path / f"sparse-{name}"
    with serving(whole.read_bytes()) as server:
        count = fetched(server, part)
    assert count < whole.stat().st_size
    assert part.stat().st_size == whole.stat().st_size
    for track in range(tracks):
        assert sound(part, track) == sound(whole, track)
    results = []
    for source in (whole, part):
        extraction = media.extract(source, tmp_path / "audio.wav", audio_format="WAV")
        results.append((extraction, (tmp_path / "audio.wav").read_bytes()))
    assert results[0] == results[1]


def test_little_is_fetched_of_half_seconds(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_GAPS", (4 << 10,))
    monkeypatch.setattr(sparse, "_WORTH", 1e9)
    whole = video(picture, tmp_path / "a.mp4", *HALF)
    with serving(whole.read_bytes()) as server:
        count = fetched(server, tmp_path / "sparse")
    assert count <= server.sent < (2 << 20) + whole.stat().st_size * 0.05


def test_a_file_without_an_index_is_left_whole(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_WORTH", 1e9)
    with serving(video(picture, tmp_path / "a.mkv").read_bytes()) as server:
        with pytest.raises(RangesError):
            fetched(server, tmp_path / "sparse")
        assert server.asked <= 3


def test_many_fragments_are_not_looked_for_one_by_one(picture: Path, tmp_path: Path) -> None:
    whole = video(picture, tmp_path / "a.mp4", "-movflags", "+frag_every_frame+empty_moov")
    with serving(whole.read_bytes(), seconds=0.01) as server:
        with pytest.raises(RangesError, match="too many fragments"):
            fetched(server, tmp_path / "sparse")
        assert server.asked <= 20


@pytest.mark.parametrize(
    ("traits", "said"), [({"knows_range": False}, "HTTP 200"), ({"tag": None}, "whether the file changes")]
)
def test_a_server_without_parts_or_marks_gives_nothing(
    traits: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with serving(bytes(9 << 20), **traits) as server, pytest.raises(RangesError, match=said):
        fetched(server, tmp_path / "sparse")


def test_a_file_that_changes_under_way_is_noticed(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse, "_WORTH", 1e9)
    whole = video(picture, tmp_path / "a.mp4", *HALF)
    with serving(whole.read_bytes(), changes_after=4) as server, pytest.raises(RangesError):
        fetched(server, tmp_path / "sparse")


def test_a_server_that_throttles_is_asked_again_when_it_says() -> None:
    content = random.Random(2).randbytes(200_000)
    with serving(content) as server:
        where = parse_location(server.url)
        with web_ranges(where, limits=Limits(60), allowed=ANYWHERE) as source:
            server.throttled = 2
            assert source.read(100_000, 100_200) == content[100_000:100_200]
            assert server.asked == 1 + 1 + 2
