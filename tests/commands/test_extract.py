"""``python -m vod extract``, as a person runs it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import client_of
from vod import media
from vod.standin import Standin


def vod(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vod", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def records(said: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_one_record_a_line_and_failures_too(video: Path, tmp_path: Path) -> None:
    shutil.copy(video, tmp_path / "-talk.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    said = vod(
        *("extract", "--format", "opus", "--output", "out", "--json", "--speech"),
        *("bad.mp4", "--", "-talk.mp4"),
        cwd=tmp_path,
    )
    assert said.returncode == 1, said.stderr
    by_name = {Path(record["asset"]).name: record for record in records(said)}
    assert by_name["-talk.mp4"]["outcome"] == "extracted"
    assert by_name["-talk.mp4"]["codec"] == "opus"
    for name in ("-talk.mp4", "bad.mp4"):
        assert by_name[name]["asset"] == str(tmp_path / name)
    assert by_name["bad.mp4"]["outcome"] == "unreadable"
    assert by_name["bad.mp4"]["message"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".opus", ".wav"}
    assert said.stderr == ""


def test_all_is_well_and_the_second_time_all_is_there(video: Path, tmp_path: Path) -> None:
    said = vod("extract", video, "--output", tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert "encoded." in said.stdout
    again = vod("extract", video, "--output", tmp_path)
    assert "there already." in again.stdout
    assert "encoded." in vod("extract", video, "--output", tmp_path, "--force").stdout


def test_it_needs_no_airflow(video: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['airflow'] = None; sys.modules['httpx'] = None\n"
        "from vod.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "extract", video, "--output", tmp_path]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def test_an_asset_of_vod(standin: Standin, connection: str, video: Path, tmp_path: Path) -> None:
    asset = client_of(standin).upload(video)
    said = vod(
        "extract", asset, "--output", tmp_path, "--json", env={**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    )
    assert [record["asset"] for record in records(said)] == [asset]
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--channels", "up"], "channels cannot be 'up'"),
        (["--track", "nonsense"], "names no audio track"),
        (["--start", "-1"], "start cannot be"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    wrong: list[str], sentence: str, video: Path, tmp_path: Path
) -> None:
    said = vod("extract", video, "--output", tmp_path, "--json", *wrong)
    assert said.returncode == 2
    assert sentence in records(said)[0]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_bar_on_a_terminal_and_records_beside_it(video: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vod", "extract", video, "--output", tmp_path, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    stdout, _ = process.communicate(timeout=60)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert json.loads(stdout)["outcome"] == "extracted"
    assert "1/1  100 %" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: int, tmp_path: Path) -> None:
    source, out = tmp_path / "long.flac", tmp_path / "out"
    command = [media.find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "sine=d=1500", str(source)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "vod", "extract", source, "--output", out, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (out.is_dir() and any(path.stat().st_size for path in out.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(stdout)["outcome"] == "cancelled"
    assert list(out.iterdir()) == []


def test_help_names_the_commands() -> None:
    said = vod("--help")
    assert said.returncode == 0
    assert "extract" in said.stdout
    assert "standin" in said.stdout
