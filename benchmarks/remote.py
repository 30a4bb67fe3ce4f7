"""`make bench`: a video behind HTTP, by this engine and by what people do without it.

The server is on loopback: it waits before each answer and sends no faster than it was told, all connections
together. Each contender writes MP3. Bytes and requests are the server's count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.extraction import BUILD
from benchmarks.report import renew, table
from benchmarks.videos import ffmpeg
from dev import stack
from vod import media

SECONDS = 600
LAYOUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mp4, 0.5 s": ("mp4", ("-chunk_duration", "500000")),
    "mp4, 0.5 s, index first": ("mp4", ("-chunk_duration", "500000", "-movflags", "+faststart")),
    "mp4, 1 s": ("mp4", ("-chunk_duration", "1000000")),
    "mp4, one frame": ("mp4", ()),
    "mp4, fragmented": ("mp4", ("-movflags", "+frag_keyframe+empty_moov")),
    "mkv": ("mkv", ()),
    "ts": ("ts", ()),
}
SMALL = {"sizes": [0.1, 0.6], "layouts": list(LAYOUTS), "latencies": [20], "rates": [50]}
FULL = {"sizes": [0.1, 0.6, 2.0], "layouts": list(LAYOUTS), "latencies": [1, 20, 80], "rates": [50, 200]}
CHUNK = 64 << 10

WHOLE = """
import sys
from vod.media import sparse
sparse._LEAST_SIZE = 1 << 62
from vod.__main__ import main
sys.exit(main())
"""
"""This engine as it is without reading parts."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """:param disk: Bytes of the temporary folder at the most, as the file system counts them."""

    wall: float
    sent: int
    requests: int
    disk: int


class Server(ThreadingHTTPServer):
    """:param latency: Seconds before an answer. :param rate: Bytes a second, of all connections together."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, file: Path, latency: float, rate: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.file, self.latency, self.rate = file, latency, rate
        self.sent = self.requests = 0
        self._lock = threading.Lock()
        self._free = 0.0

    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # ffmpeg leaves when it seeks
            super().handle_error(*_)  # type: ignore[arg-type]

    def take_turn(self, count: int) -> None:
        """Wait until the line has room for so many bytes."""
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now - 0.01) + count / self.rate
            pause = self._free - now
            self.sent += count
        if pause > 0.001:
            time.sleep(pause)

    def count_request(self) -> None:
        with self._lock:
            self.requests += 1


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.server.count_request()
        time.sleep(self.server.latency)
        size = self.server.file.stat().st_size
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        start, end = int(first or 0), min(int(last or size - 1), size - 1) + 1
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.flush()
        with self.server.file.open("rb") as file:
            file.seek(start)
            left = end - start if with_body else 0
            while left and (data := file.read(min(CHUNK, left))):
                self.server.take_turn(len(data))
                self.wfile.write(data)
                left -= len(data)

    def log_message(self, *_: object) -> None:
        pass


def video(folder: Path, layout: str, gigabytes: float) -> Path:
    """Ten minutes of stereo AAC beside a picture of random bytes, which nothing can pack."""
    extension, options = LAYOUTS[layout]
    path = folder / f"{gigabytes:g}-{'-'.join(layout.replace(',', '').split())}.{extension}"
    sound, picture = folder / "sound.m4a", folder / f"picture-{gigabytes:g}.mp4"
    if not sound.exists():
        ffmpeg("-f", "lavfi", "-i", f"anoisesrc=a=0.2:r=48000:d={SECONDS}", "-ac", "2", "-c:a", "aac", sound)
    if not picture.exists():
        _picture(picture, int(gigabytes * 1e9))
    ffmpeg("-i", picture, "-i", sound, "-map", "0:v", "-map", "1:a", "-c", "copy", *options, path)
    return path


def _picture(path: Path, size: int) -> None:
    """H.264 whose pictures are made larger by filler data, which decoders skip."""
    seed, raw = path.with_suffix(".seed.h264"), path.with_suffix(".h264")
    ffmpeg("-f", "lavfi", "-i", f"color=gray:s=64x64:r=25:d={SECONDS}", "-c:v", "libx264",
           "-preset", "ultrafast", "-x264-params", "aud=1", seed)  # fmt: skip
    units = seed.read_bytes().split(b"\0\0\0\1\x09")[1:]
    noise = bytes(byte or 1 for byte in random.Random(1).randbytes(size // len(units)))  # noqa: S311
    with raw.open("wb") as file:
        for unit in units:
            # An unspecified kind of unit (24): readers carry it along and decoders pass over it.
            file.write(b"\0\0\0\1\x09" + unit + b"\0\0\0\1\x18" + noise + b"\x80")
    # Without times ffmpeg lets seconds of picture and sound alternate, whatever it is told.
    ffmpeg("-fflags", "+genpts", "-framerate", "25", "-i", raw, "-c", "copy", path)
    raw.unlink()


def contenders(url: str, folder: Path) -> dict[str, list[str]]:
    """Command lines by name; those of this engine last."""
    program, written, copy = media.find_ffmpeg(), str(folder / "audio.mp3"), str(folder / "tmp" / "copy")
    encode = "-map 0:a:0 -c:a libmp3lame -compression_level 7 -b:a 128k"
    fetch = f"import urllib.request as r; r.urlretrieve('{url}', '{copy}')"
    both = (
        f'"{sys.executable}" -c "{fetch}" && "{program}" -nostdin -v error -i "{copy}" {encode} "{written}"'
    )
    options = ["extract", url, "--output", str(folder), "--format", "MP3", "--force", "--json"]
    return {
        "download, then ffmpeg": ["sh", "-c", both],
        "ffmpeg on the URL": [program, *("-nostdin", "-v", "error", "-i"), url, *encode.split(), written],
        "this engine, whole file": stack.python("-c", WHOLE, *options),
        "this engine": stack.python("-m", "vod", *options),
    }


def run(command: list[str], server: Server, folder: Path) -> Run:
    """:raises SystemExit: it failed."""
    shutil.rmtree(folder, ignore_errors=True)
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    server.sent = server.requests = 0
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "AIRFLOW__VOD__ALLOWED_LOCATIONS": f"http://127.0.0.1:{server.server_port}/ {folder.as_uri()}",
    }
    disk, began = 0, time.monotonic()
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        while process.poll() is None:
            disk = max(disk, _bytes_on_disk(temporary))
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
    wall = time.monotonic() - began
    if process.returncode or not list(folder.glob("*.mp3")):
        raise SystemExit(f"{command} failed:\n{(folder / 'said').read_text(errors='replace')[-2000:]}")
    return Run(wall=wall, sent=server.sent, requests=server.requests, disk=disk)


def _bytes_on_disk(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # removed meanwhile
            continue
    return total


@contextmanager
def serving(file: Path, latency: float, rate: float) -> Iterator[Server]:
    """:param latency: ms. :param rate: MB/s."""
    with Server(file, latency / 1000, rate * 1e6) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def compared(file: Path, latency: float, rate: float, folder: Path, rounds: int) -> dict[str, Any]:
    """The medians of each contender, and this engine's wall and bytes in parts of the best rival's."""
    runs: dict[str, list[Run]] = {}
    with serving(file, latency, rate) as server:
        url = f"http://127.0.0.1:{server.server_port}/{file.name}"
        for _ in range(rounds):
            for name, command in contenders(url, folder).items():
                runs.setdefault(name, []).append(run(command, server, folder))
    found: dict[str, Any] = {
        name: {key: statistics.median(asdict(each)[key] for each in taken) for key in Run.__annotations__}
        for name, taken in runs.items()
    }
    *rivals, ours = found.values()
    best = min(rivals, key=lambda rival: float(rival["wall"]))
    found["wall_ratio"] = ours["wall"] / best["wall"]
    found["bytes_ratio"] = ours["sent"] / min(rival["sent"] for rival in rivals)
    return found


HEAD = (
    "source",
    "latency",
    "rate",
    *contenders("", Path()),
    "wall, beside the best",
    "bytes, beside the fewest",
)


def row(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    cells = [
        f"{each['wall']:.1f} s, {each['sent'] / 1e6:,.0f} MB, {each['requests']:,.0f}"
        for each in found.values()
        if isinstance(each, dict)
    ]
    source = f"{found['layout']}, {found['gb'] * 1000:,.0f} MB"
    ratios = [f"**{found['wall_ratio']:.2f}**", f"{found['bytes_ratio']:.3f}"]
    return [source, f"{found['ms']} ms", f"{found['mb_s']} MB/s", *cells, *ratios]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remote", description=__doc__)
    parser.add_argument("--full", action="store_true", help="all sizes, latencies and rates: hours, 15 GB")
    parser.add_argument("--layout", action="append", choices=LAYOUTS, help="only these rows are renewed")
    parser.add_argument("--size", action="append", type=float, metavar="GB")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    matrix: dict[str, Any] = FULL if options.full else SMALL
    folder = BUILD / "remote"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "videos").mkdir(parents=True)
    file = BUILD / "remote.json"
    figures: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() and not options.full else []
    try:
        for size, layout in itertools.product(
            options.size or matrix["sizes"], options.layout or matrix["layouts"]
        ):
            source = video(folder / "videos", layout, size)
            for latency, rate in itertools.product(matrix["latencies"], matrix["rates"]):
                found = compared(source, latency, rate, folder / "run", options.rounds)
                of = {"layout": layout, "gb": size, "ms": latency, "mb_s": rate}
                same = [number for number, each in enumerate(figures) if each.items() >= of.items()]
                at = slice(same[0], same[0] + 1) if same else slice(len(figures), None)
                figures[at] = [{**of, **found}]
                file.write_text(json.dumps(figures, indent=1))
                print(table(HEAD, [row({**of, **found})]).splitlines()[-1], flush=True)
            source.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    renew("remote", table(HEAD, map(row, figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
