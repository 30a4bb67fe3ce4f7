"""What a benchmark counts: time, memory and bytes read of a process and its children."""

import sys
from pathlib import Path

import pytest

from benchmarks.usage import measure, race

CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True)
"""


def in_a_child(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", CHILD, script, *arguments]


def test_children_count(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(30_000_000))
    script = """
import sys, time
held = open(sys.argv[1], "rb").read()
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
"""
    idle, busy = measure(in_a_child("")), measure(in_a_child(script, str(file)))
    assert 30_000_000 <= busy.read - idle.read < 31_000_000
    assert 0.2 < busy.cpu - idle.cpu < 1.0
    assert 29_000_000 < busy.memory - idle.memory < 40_000_000
    assert busy.wall > 0.3


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        measure([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_a_contender_that_does_not_do_the_job_is_no_figure(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"lazy wrote 0\.0 s of audio instead of 1\.0 s"):
        race({"lazy": [sys.executable, "-c", ""]}, folder, 1, seconds=1.0)
