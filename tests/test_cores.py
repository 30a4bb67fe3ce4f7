"""As many ffmpeg run at once as the CPU limits of this process allow, all tasks of a machine together."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vod.cores import cores, one_core


def files(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, 8),
        ({"self/cgroup": "0::/\n", "fs/cpu.max": "max 100000\n"}, 8),
        ({"self/cgroup": "0::/\n", "fs/cpu.max": "300000 100000\n"}, 3),
        ({"self/cgroup": "0::/pod/a\n", "fs/pod/cpu.max": "150000 100000", "fs/pod/a/cpu.max": "max 1"}, 2),
        ({"self/cgroup": "0::/../a\n", "fs/a/cpu.max": "20000 100000\n"}, 1),
        ({"self/cgroup": "0::/pod/not/seen/here\n", "fs/cpu.max": "100000 100000\n"}, 1),
        ({"self/cgroup": "0::/\n", "fs/cpu.max": "nonsense"}, 8),
        ({"self/cgroup": "0::/\n", "fs/cpu.max": "9900000 100000"}, 8),
        (
            {
                "self/cgroup": "4:cpu,cpuacct:/docker/a\n0::/\n",
                "fs/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
                "fs/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            {
                "self/cgroup": "4:cpu:/\n",
                "fs/cpu/cpu.cfs_quota_us": "-1\n",
                "fs/cpu/cpu.cfs_period_us": "1000\n",
            },
            8,
        ),
    ],
)
def test_the_tightest_limit_holds(
    texts: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    files(tmp_path, texts)
    assert cores(process=tmp_path / "self", cgroups=tmp_path / "fs") == expected


HOLDER = """
import sys, time
from vod.cores import one_core
with one_core(lambda: None, among=2):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_processes_share_the_cores_and_a_killed_one_gives_its_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            if looks == 3:
                holders[0].kill()

        with one_core(look, among=2) as waited, one_core(look, among=3):
            assert waited > 0
        assert looks >= 3
        with pytest.raises(KeyboardInterrupt), one_core(look, among=2), one_core(_interrupt, among=2):
            pass
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_where_cores_cannot_be_shared_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with one_core(_interrupt, among=1), one_core(_interrupt, among=1):
        pass
