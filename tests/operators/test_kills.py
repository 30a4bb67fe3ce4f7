"""An asset that kills its process: tried twice, failed at the third, and the others of its batch finish."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vod.records import ExtractedAudio

ROOT = Path(__file__).parents[2]


def one_try(folder: Path, work: str, attempt: int = 2) -> dict[str, Any] | None:
    """What a try said; ``None`` if SIGKILL ended its process."""
    command = [sys.executable, "-m", "tests.operators.one_try", str(folder), work, str(attempt)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture
def folder(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four videos and their audio; the second kills."""
    monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", str(tmp_path))
    (tmp_path / "videos").mkdir()
    (tmp_path / "source").mkdir()
    records = []
    for name in ("a", "b-deadly", "c", "d"):
        shutil.copy(video, tmp_path / "videos" / f"{name}.mp4")
        shutil.copy(video, audio := tmp_path / "source" / f"{name}.mp4")
        of_file = {"audio_format": "MP3", "codec": "mp3", "duration": 1.0, "size": 1, "engine": "ffmpeg"}
        records.append(ExtractedAudio(asset=name, uri=audio.as_uri(), **of_file).to_json())  # type: ignore[arg-type]
    (tmp_path / "audio.json").write_text(json.dumps(records))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("work", "good"), [("extract", "extracted"), ("transcribe", "transcribed")])
def test_the_third_try_fails_it_and_the_others_are_done(folder: Path, work: str, good: str) -> None:
    assert one_try(folder, work) is None
    assert one_try(folder, work) is None
    said = one_try(folder, work)
    assert said is not None
    assert said["outcomes"] == [good, "kills_its_process", good, good]
    [message] = said["messages"]
    assert "b-deadly" in message
    assert "died 2 times while it worked on this asset" in message
    assert "clear the task" in message

    assert one_try(folder, work) == said, "no retry of this attempt begins with it again"
    assert one_try(folder, work, attempt=5) is None, "a person who clears the task gets another try"
    after = one_try(folder, work, attempt=5)
    assert after is not None
    assert after["outcomes"] == said["outcomes"]


@pytest.mark.slow
def test_noting_costs_one_write_an_asset(folder: Path) -> None:
    shutil.move(folder / "videos" / "b-deadly.mp4", folder / "videos" / "b.mp4")
    assert one_try(folder, "extract") == {"outcomes": ["extracted"] * 4, "messages": []}
    writes = (folder / "store.writes").read_text().split()
    assert len(writes) <= 4, "one for those that are begun at once, then one an asset"
