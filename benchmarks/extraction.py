"""`make bench`: the local engine beside plain ffmpeg and what people use from Python.

Whole processes on videos made on the spot, in turns, the page cache warm. Figures go to
build/bench/extraction.json, and from there to docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import renew, table
from benchmarks.usage import race
from benchmarks.videos import CONTAINERS, RATE, Studio, ffmpeg, music, speech
from dev import stack
from vod import media

BUILD = Path(os.environ.get("VOD_BUILD", stack.ROOT / "build")).resolve() / "bench"

Figures = dict[str, Any]

ENCODERS = {
    "MP3": "libmp3lame -compression_level 7 -b:a 128k",
    "AAC": "aac -aac_coder fast -b:a 128k",
    "COPY": "copy",
}
"""The best ffmpeg line by hand: what this engine has it do, and nothing around it."""

RIVALS = {
    "ffmpeg-python": """
import ffmpeg, sys
ffmpeg.input(sys.argv[1]).output(sys.argv[2]).run(quiet=True)
""",
    "moviepy": """
import sys
from moviepy import VideoFileClip
with VideoFileClip(sys.argv[1]) as clip:
    clip.audio.write_audiofile(sys.argv[2], logger=None)
""",
    "pydub": """
import sys
from pydub import AudioSegment
AudioSegment.from_file(sys.argv[1]).export(sys.argv[2], format="mp3")
""",
    "PyAV": """
import av, sys
with av.open(sys.argv[1]) as source, av.open(sys.argv[2], "w") as target:
    track = source.streams.audio[0]
    written = target.add_stream("libmp3lame", rate=track.rate, bit_rate=128_000)
    for frame in source.decode(track):
        target.mux(written.encode(frame))
    target.mux(written.encode(None))
""",
}
"""As their own documentation does it, to MP3."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """:param short, long, clip: Seconds of the videos."""

    studio: Studio
    folder: Path
    rounds: int
    short: float = 600.0
    long: float = 3600.0
    clip: float = 30.0
    clips: int = 40

    def video(self, container: str, seconds: float) -> Path:
        """The short ones and the MP4 have 5 Mbit/s, which is 2.3 GB an hour; other long ones 1 Mbit/s."""
        large = container == "mp4" or seconds == self.short
        return self.studio.video(container, seconds, bit_rate=5_000_000 if large else 1_000_000)

    def race(self, contenders: dict[str, list[str]], *, seconds: float) -> Figures:
        return race(contenders, self.folder, self.rounds, seconds=seconds)

    def plain(self, source: Path, extension: str, *options: str) -> list[str]:
        """What everybody types. For .m4a ffmpeg would encode the picture too, had it no -vn."""
        return [
            media.find_ffmpeg(),
            *("-nostdin", "-i", str(source), "-vn", *options, str(self.folder / f"audio{extension}")),
        ]

    def best(self, source: Path, form: str, *, extension: str | None = None) -> list[str]:
        extension = extension or media.EXTENSIONS[form]
        return [
            *(media.find_ffmpeg(), "-nostdin", "-v", "error", "-i", str(source), "-map", "0:a:0"),
            *("-c:a", *ENCODERS[form].split(), str(self.folder / f"audio{extension}")),
        ]

    def ours(self, sources: Iterable[Path], form: str, *options: str) -> list[str]:
        command = stack.python("-m", "vod", "extract", *map(str, sources), "--output", str(self.folder))
        return [*command, "--format", form, "--force", "--json", *options]


def rivals(bench: Bench) -> Figures:
    """Ten minutes of MP4 with AAC, by all that there is."""
    source = bench.video("mp4", bench.short)
    mp3 = {
        "ffmpeg -i": bench.plain(source, ".mp3"),
        "best ffmpeg line": bench.best(source, "MP3"),
        "this engine": bench.ours([source], "MP3"),
        **{
            name: stack.python("-c", script, str(source), str(bench.folder / "audio.mp3"))
            for name, script in RIVALS.items()
            # The wheel has no ffprobe, without which pydub opens nothing.
            if name != "pydub" or shutil.which("ffprobe")
        },
    }
    aac = {
        "ffmpeg -i": bench.plain(source, ".m4a"),
        "best ffmpeg line": bench.best(source, "AAC"),
        "this engine": bench.ours([source], "AAC", "--reencode"),
        "best ffmpeg line, copy": bench.best(source, "COPY", extension=".m4a"),
        "this engine, copy": bench.ours([source], "AAC"),
    }
    return {
        "seconds": bench.short,
        "bytes": source.stat().st_size,
        "MP3": bench.race(mp3, seconds=bench.short),
        "AAC": bench.race(aac, seconds=bench.short),
    }


def containers(bench: Bench) -> Figures:
    """Where reading costs more than encoding: a copy, and 16 kHz WAV for speech recognition."""
    figures: Figures = {}
    for container in CONTAINERS:
        for seconds in (bench.short, bench.long):
            source = bench.video(container, seconds)
            form = "OPUS" if container == "webm" else "AAC"
            copy = {
                "best ffmpeg line": bench.best(source, "COPY", extension=media.EXTENSIONS[form]),
                "this engine": bench.ours([source], form),
            }
            speech = {
                "ffmpeg -i": bench.plain(source, ".wav", "-ar", "16000", "-ac", "1"),
                "this engine": bench.ours([source], "WAV", "--sample-rate", "16000", "--channels", "1"),
            }
            figures[source.name] = {
                "seconds": seconds,
                "bytes": source.stat().st_size,
                "copy": bench.race(copy, seconds=seconds),
                **({"speech": bench.race(speech, seconds=seconds)} if seconds == bench.short else {}),
            }
    return figures


def long(bench: Bench) -> Figures:
    """An hour alone on the machine, also in two halves at once."""
    source = bench.video("mp4", bench.long)
    half = bench.long / 2
    cut = ("-ss", f"{half:g}"), ("-t", f"{half:g}")
    lines = []
    for number, options in enumerate(cut):
        program, *line = bench.best(source, "MP3", extension=f".{number}.mp3")
        at = line.index("-i")
        lines.append(shlex.join([program, *line[:at], *options, *line[at:]]))
    contenders = {
        "best ffmpeg line": bench.best(source, "MP3"),
        "this engine": bench.ours([source], "MP3"),
        "best ffmpeg line, two halves at once": [
            *("sh", "-c", f"{lines[1]} & first=$!; {lines[0]} && wait $first")
        ],
    }
    return {
        "seconds": bench.long,
        "bytes": source.stat().st_size,
        "MP3": bench.race(contenders, seconds=bench.long),
    }


def batch(bench: Bench) -> Figures:
    """Forty short videos, as a shell does it and as a batch."""
    first = bench.studio.video("mp4", bench.clip, bit_rate=1_000_000)
    clips = [first.with_name(f"clip-{number}.mp4") for number in range(bench.clips)]
    for clip in clips:
        shutil.copyfile(first, clip)
    loop = "for video in {}; do {} {}/$(basename $video).mp3 || exit; done"
    folder = shlex.quote(str(bench.folder))

    def shell(line: list[str]) -> list[str]:
        line = ['"$video"' if part == str(first) else part for part in line[:-1]]
        return ["sh", "-c", loop.format(shlex.join(map(str, clips)), " ".join(line), folder)]

    contenders = {
        "shell loop over ffmpeg -i": shell(bench.plain(first, ".mp3")),
        "shell loop over the best line": shell(bench.best(first, "MP3")),
        "this engine, 1 process": bench.ours(clips, "MP3", "--processes", "1"),
        "this engine, 2 processes": bench.ours(clips, "MP3", "--processes", "2"),
    }
    return {
        "seconds": bench.clip,
        "assets": bench.clips,
        "MP3": bench.race(contenders, seconds=bench.clip * bench.clips),
    }


def quality(bench: Bench) -> Figures:
    """What the quick encoder settings cost, by a model of hearing."""
    import zimtohrli

    bench.folder.mkdir(parents=True, exist_ok=True)
    originals = {
        "music": music(bench.folder / "music.wav", 10),
        "speech": speech(bench.folder / "speech.wav"),
    }
    figures: Figures = {}
    for name, original in originals.items():
        reference = _samples(original)
        for form in ("MP3", "AAC"):
            quick = ENCODERS[form].removesuffix(" -b:a 128k").split()
            for rate in (64, 128):
                opinions = {}
                for who, options in (("plain", []), ("quick", ["-c:a", *quick])):
                    coded = bench.folder / f"coded{media.EXTENSIONS[form]}"
                    ffmpeg("-i", original, *options, "-b:a", f"{rate}k", coded)
                    written = _samples(coded)
                    length = min(len(reference), len(written))
                    distances = [
                        zimtohrli.Pyohrli().distance(reference[:length, side], written[:length, side])
                        for side in (0, 1)
                    ]
                    opinions[who] = zimtohrli.mos_from_zimtohrli(float(np.mean(distances)))
                figures.setdefault(f"{form} {rate}k", {})[name] = opinions
    shutil.rmtree(bench.folder)
    return figures


def _samples(path: Path) -> Any:
    raw = ffmpeg("-i", path, "-f", "f32le", "-ar", str(RATE), "-ac", "2", "-")
    return np.frombuffer(raw, np.float32).reshape(-1, 2)


PARTS: dict[str, Callable[[Bench], Figures]] = {
    "rivals": rivals,
    "containers": containers,
    "long": long,
    "batch": batch,
    "quality": quality,
}


def _rivals_table(figures: Figures) -> str:
    rows = []
    for form in ("MP3", "AAC"):
        for name, took in figures[form].items():
            ratio = took["to_first"]
            rows.append(
                (
                    form,
                    name,
                    f"**{ratio['wall']:.2f}**",
                    f"{ratio['cpu']:.2f}",
                    f"{took['wall']:.2f} s",
                    f"{took['memory'] / 1e6:.0f} MB",
                    f"{took['read'] / 1e6:.0f} MB",
                )
            )
    head = (f"{figures['seconds'] / 60:g} min MP4, {figures['bytes'] / 1e6:.0f} MB, to", "")
    return table((*head, "wall, ratio", "CPU, ratio", "wall", "memory at the peak", "bytes read"), rows)


def _containers_table(figures: Figures) -> str:
    rows = []
    for name, found in figures.items():
        best, ours = found["copy"].values()
        speech = found.get("speech", {}).get("this engine")
        rows.append(
            (
                f"{found['seconds'] / 60:g} min {name.rpartition('.')[2]}, {found['bytes'] / 1e6:,.0f} MB",
                f"{best['wall']:.2f} s",
                f"{ours['wall']:.2f} s",
                f"{ours['wall'] - best['wall']:.2f} s",
                f"{best['read'] / 1e6:,.0f} MB",
                f"{ours['read'] / 1e6:,.0f} MB",
                f"{speech['to_first']['wall']:.2f}" if speech else "",
            )
        )
    head = ("", "copy, best ffmpeg line", "this engine", "more", "bytes read, best line", "this engine")
    return table((*head, "16 kHz WAV, ratio to ffmpeg -i"), rows)


def _long_table(figures: Figures) -> str:
    rows = [
        (
            name,
            f"{took['to_first']['wall']:.3f}",
            f"{took['to_first']['cpu']:.3f}",
            f"{took['wall']:.1f} s",
            f"{took['memory'] / 1e6:.0f} MB",
        )
        for name, took in figures["MP3"].items()
    ]
    head = f"{figures['seconds'] / 60:g} min MP4, {figures['bytes'] / 1e9:.1f} GB, to MP3"
    return table((head, "wall, ratio", "CPU, ratio", "wall", "memory at the peak"), rows)


def _batch_table(figures: Figures) -> str:
    best = figures["MP3"]["shell loop over the best line"]
    count = figures["assets"]
    rows = [
        (
            name,
            f"{count / took['wall']:.2f}",
            f"{1 / took['to_first']['wall']:.2f}",
            f"{(took['wall'] - best['wall']) / count:+.3f} s",
            f"{(took['cpu'] - best['cpu']) / count:+.3f} s",
            f"{took['memory'] / 1e6:.0f} MB",
        )
        for name, took in figures["MP3"].items()
    ]
    head = (f"{count} MP4 of {figures['seconds']:g} s, to MP3", "videos a second", "times the first")
    return table((*head, "wall a video, beside the best line", "CPU", "memory at the peak"), rows)


def _quality_table(figures: Figures) -> str:
    rows = [
        (form, *(f"{found[name][who]:.2f}" for name in ("music", "speech") for who in ("plain", "quick")))
        for form, found in figures.items()
    ]
    return table(("", "music, plain", "quick", "speech, plain", "quick"), rows)


TABLES = {
    "rivals": _rivals_table,
    "containers": _containers_table,
    "long": _long_table,
    "batch": _batch_table,
    "quality": _quality_table,
}


def put_on_path(program: str, folder: Path) -> None:
    """Make *program* the ``ffmpeg`` of all contenders: some look for it on the ``PATH`` only."""
    folder.mkdir(parents=True)
    (folder / "ffmpeg").symlink_to(Path(program).resolve())
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extraction", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny videos, nothing written to docs")
    options = parser.parse_args()
    wanted = options.parts or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))} is no part")
    # One ffmpeg for all: moviepy would take the one of imageio-ffmpeg.
    os.environ["IMAGEIO_FFMPEG_EXE"] = program = media.find_ffmpeg()
    folder = BUILD / "extraction"
    shutil.rmtree(folder, ignore_errors=True)
    put_on_path(program, folder / "bin")
    bench = Bench(studio=Studio(folder / "videos"), folder=folder / "audio", rounds=options.rounds)
    if options.quick:
        bench = replace(bench, short=30.0, long=60.0, clip=5.0, clips=4)
    file = BUILD / ("extraction-quick.json" if options.quick else "extraction.json")
    figures: Figures = json.loads(file.read_text()) if file.exists() else {}
    figures["machine"] = {
        "cores": os.cpu_count(),
        "ffmpeg": media.inspect(program).version,
        "python": platform.python_version(),
    }
    try:
        for part in wanted:
            started = time.monotonic()
            figures[part] = PARTS[part](bench)
            file.write_text(json.dumps(figures, indent=1))
            took = time.monotonic() - started
            print(f"{part}: {took:.0f} s\n{TABLES[part](figures[part])}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not options.quick:
        for part in set(TABLES) & set(figures):
            renew(part, TABLES[part](figures[part]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
