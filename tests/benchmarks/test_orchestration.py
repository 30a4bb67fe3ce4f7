"""What the figures rest on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import report
from benchmarks.orchestration import cpu_seconds

BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}])
child = subprocess.Popen([sys.executable, "-c", {BURN + "print(flush=True); input()"!r}], stdin=0)
child.wait()
"""


def test_the_cpu_of_children_counts_of_those_that_live_and_of_those_that_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert 0.75 <= cpu_seconds([psutil.Process(process.pid)]) <= 1.5
        process.communicate(b"\n")


def test_only_what_was_measured_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "performance.md"
    document.write_text(report.DOCUMENT.read_text())
    monkeypatch.setattr(report, "DOCUMENT", document)
    before = document.read_text().partition("<!-- under_quota")
    found = {"assets": 2000, "accepted_per_minute": 777.0, "quota_share": 0.777}
    report.write(
        {
            "under_quota": {
                **found,
                "refused_429": 1,
                "not_submitted": 0,
                "submitted_twice": 0,
                "failed_tasks": 0,
            }
        }
    )
    after = document.read_text().partition("<!-- under_quota")
    assert "| 777 |" in after[2]
    assert before[0] == after[0]
    assert before[2].partition("<!-- end -->")[2] == after[2].partition("<!-- end -->")[2]
