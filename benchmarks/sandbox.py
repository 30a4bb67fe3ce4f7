"""What the sandbox costs: reading 40 short files in it, and in this process.

``python -m benchmarks.sandbox FILE...``
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from vod.media import Limits, probe, sandboxed
from vod.media.info import open_options
from vod.media.measure import measure

ROUNDS = 40


def least(act: Callable[[], object]) -> float:
    """Milliseconds of *act*, the best of many: other processes only add to it."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1000)
    return min(times)


def main() -> None:
    """Print a line a file: what probing and measuring it take."""
    for path in map(Path, sys.argv[1:]):
        began = time.perf_counter()
        probe(path)
        start = (time.perf_counter() - began) * 1000

        def inside(path: Path = path) -> None:
            with path.open("rb", buffering=0) as file:
                sandboxed.probe(file, options=open_options())
            with path.open("rb", buffering=0) as file:
                sandboxed.measure(file, index=0, options=open_options(), demuxer=None)

        def outside(path: Path = path) -> None:
            probe(path)
            measure(path, limits=Limits(60))

        here, there = least(inside), least(outside)
        print(
            f"{path.name}: first {start:.0f} ms; in this process {here:.1f} ms, in the sandbox {there:.1f} ms"
        )


if __name__ == "__main__":
    main()
