"""`make demo`, as a stranger runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from dev.demo import videos_of
from tests.conftest import word_error_rate
from vod import media
from vod.locations import local_path

ROOT = Path(__file__).parent.parent.parent
KEYS = {
    "asset",
    "engine",
    "audio_uri",
    "audio_format",
    "codec",
    "duration",
    "size",
    "transcript",
    "extract_seconds",
    "transcribe_seconds",
}


def environment(build: Path, **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {**own, "HOME": str(build), "VOD_BUILD": str(build), **more}


def ours(build: Path) -> list[psutil.Process]:
    """Living processes that this demo started."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("VOD_BUILD") == str(build)
    ]


@pytest.mark.slow
def test_what_can_be_done_is_done_and_the_rest_has_its_reason(
    tmp_path: Path, video: Path, samples: dict[str, str]
) -> None:
    nasty = tmp_path / '-it\'s "odd" $HOME 100%.mp4'
    shutil.copy(video, nasty)
    ffmpeg = str(media.find_ffmpeg())
    flac = tmp_path / "talk.flac"
    subprocess.run([ffmpeg, "-v", "error", "-i", video, "-vn", flac], check=True)
    missing = tmp_path / "missing.mp4"
    build = tmp_path / "build"
    done = subprocess.run(
        [sys.executable, "-m", "dev.demo"],
        env=environment(build, VIDEO=" ".join(map(str, (nasty, flac, missing)))),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout

    report = json.loads((build / "demo" / "report.json").read_text())
    assert all(set(entry) >= KEYS for entry in report)
    by_video: dict[tuple[str, str], dict[str, Any]] = {
        (Path(entry["video"]).name, entry["engine"]): entry for entry in report
    }
    for name, engine in ((nasty.name, "vod"), (nasty.name, "ffmpeg"), (flac.name, "ffmpeg")):
        entry = by_video[name, engine]
        assert word_error_rate(entry["transcript"], samples[video.name]) < 0.2
        assert (entry["audio_format"], entry["codec"]) == ("MP3", "mp3")
        assert entry["duration"] == pytest.approx(8.8, abs=0.2)
    local = local_path(by_video[nasty.name, "ffmpeg"]["audio_uri"])
    assert local is not None
    assert local.stat().st_size == by_video[nasty.name, "ffmpeg"]["size"]
    assert "There is no such file" in by_video[missing.name, "vod"]["error"]
    assert "The file does not exist" in by_video[missing.name, "ffmpeg"]["error"]
    assert (flac.name, "vod") not in by_video, "VOD takes no audio files: not tried, and no failure"

    assert "Submitted 1 of 1 assets to VOD." in done.stdout, "progress is shown"
    assert "Transcribed 1 of 1." in done.stdout
    assert "not tried: VOD takes MP4" in done.stdout
    assert ours(build) == []
    log = (build / "demo" / "airflow.log").read_text() + (build / "demo" / "standin.log").read_text()
    for secret in ("standin-demo-secret-key", "Signature=", "X-Auth-Token"):
        assert secret not in log + done.stdout


def test_control_c_leaves_nothing_running(tmp_path: Path) -> None:
    build = tmp_path / "build"
    demo = subprocess.Popen(
        [sys.executable, "-m", "dev.demo"],
        env=environment(build, VIDEO=""),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout
    for line in demo.stdout:
        if line.startswith("uploaded 3/3"):
            break
    assert len(ours(build)) > 1, "the stand-in runs"
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(timeout=60) == 130
    assert ours(build) == []


@pytest.mark.slow
def test_killing_it_leaves_nothing_running(tmp_path: Path) -> None:
    build = tmp_path / "build"
    demo = subprocess.Popen(
        [sys.executable, "-m", "dev.demo"],
        env=environment(build),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout
    for line in demo.stdout:
        if line.startswith("stand-in"):
            break
    children = [process for process in ours(build) if process.pid != demo.pid]
    assert children
    demo.kill()
    demo.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a.mp4", "b.mkv"], "{0}/a.mp4 {0}/b.mkv"),
        (["my talk.mp4", "b.mkv"], "{0}/my talk.mp4 {0}/b.mkv"),
        (["my talk.mp4", "b.mkv"], "'{0}/my talk.mp4' {0}/b.mkv"),
        (["it's.mp4"], "{0}/it's.mp4"),
        (['"a" b.mp4'], '{0}/"a" b.mp4'),
        (["a.mp4"], " {0}/a.mp4  {0}/a.mp4 "),
        (["a  b.mp4"], "{0}/a  b.mp4"),
    ],
)
def test_names_of_videos_may_hold_anything(tmp_path: Path, names: list[str], text: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert videos_of(text.format(tmp_path)) == [tmp_path / name for name in names]


def test_a_missing_video_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert videos_of(f"{tmp_path}/a.mp4 {tmp_path}/b.mp4") == [tmp_path / "a.mp4", tmp_path / "b.mp4"]


def test_a_name_that_begins_with_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-a.mp4").touch()
    assert videos_of("-a.mp4") == [tmp_path / "-a.mp4"]


def test_no_video_is_named() -> None:
    assert videos_of("") == []
