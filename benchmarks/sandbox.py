"""What the sandbox costs an asset: the three readings of an extraction in it, and in this process.

``python -m benchmarks.sandbox [FILE...]``; without files, the samples. The two take turns, so that a busy
machine hits both alike. Writes ``build/bench/sandbox.json``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.parse_time import ROOT
from dev.stack import sample_videos
from vod.media import Limits, probe, sandboxed
from vod.media.info import open_options, read_media
from vod.media.measure import measure

ROUNDS = 40
RESULT = ROOT / "build" / "bench" / "sandbox.json"


def main() -> None:
    """Print a line a file and write all as JSON: milliseconds of probing, measuring and listening."""
    report = [compare(path) for path in [Path(name) for name in sys.argv[1:]] or sample_videos()]
    for row in report:
        here, there = row["in_process_ms"], row["sandbox_ms"]
        more = f"{there - here:.1f} ms more, {there / here:.1f} times"
        print(f"{row['file']}: {here:.1f} ms in this process, {there:.1f} ms in the sandbox: {more}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")


def compare(path: Path) -> dict[str, Any]:
    """Medians for one file, whose first track is audible."""
    info, limits = probe(path), Limits(60)  # starts the fork server, once for the whole batch
    places = [(info.duration or 0) * part for part in (0.5, 0.25, 0.75, 0.1, 0.9, 0.0)]
    listening: dict[str, Any] = {"places": places, "seconds": 0.5, "threshold": 10, "demuxer": None}

    def in_process() -> None:
        for function, arguments in (
            ("probe", {}),
            ("measure", {"index": 0, "demuxer": None}),
            ("is_heard", listening),
        ):
            with path.open("rb", buffering=0) as file:
                getattr(sandboxed, function)(file, options=open_options(), **arguments)

    def in_sandbox() -> None:
        probe(path)
        measure(path, limits=limits)
        read_media("is_heard", path, limits, **listening)

    times: dict[Callable[[], None], list[float]] = {in_process: [], in_sandbox: []}
    for _ in range(ROUNDS):
        for act, taken in times.items():
            began = time.perf_counter()
            act()
            taken.append((time.perf_counter() - began) * 1000)
    return {
        "file": path.name,
        "in_process_ms": median(times[in_process]),
        "sandbox_ms": median(times[in_sandbox]),
    }


if __name__ == "__main__":
    main()
