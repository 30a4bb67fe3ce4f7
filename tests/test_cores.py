"""As many ffmpeg run at once as the CPU limits of this process allow, whoever set them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vod.cores import cores


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
