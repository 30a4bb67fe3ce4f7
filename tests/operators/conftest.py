"""Fixtures of the operators' tests: they run against the stand-in, ffmpeg and Whisper.

With Airflow around them: tests/test_dags.py, tests/system/.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.conftest import DictStore, first_event
from vod import media
from vod.cloud import poller, refusals
from vod.cloud.client import VodClient
from vod.engines import audio_assets
from vod.operators import ExtractAudioOperator, extraction_batch

Context = dict[str, Any]


@pytest.fixture
def uploaded(client: VodClient, video: Path) -> list[str]:
    return [client.upload(video, title=f"video {number}") for number in range(3)]


@pytest.fixture
def silent_video(tmp_path: Path, video: Path) -> Path:
    """The sample without its audio track."""
    target = tmp_path / "silent.mp4"
    command = [str(media.find_ffmpeg()), "-v", "error", "-i", str(video), "-an", "-c", "copy", str(target)]
    assert asyncio.run(_run(command)) == 0
    return target


async def _run(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in lists a new asset at once, and a second look need not be half a minute later."""
    monkeypatch.setenv("AIRFLOW__VOD__LOST_ANSWER_WINDOW", "0.2")
    monkeypatch.setattr(poller, "CONFIRMATION_PAUSE", 1.0)
    monkeypatch.setattr(extraction_batch, "STANDSTILL_PAUSE", 1.0)
    monkeypatch.setattr(audio_assets, "SECOND_LOOK_PAUSE", 0.1)
    monkeypatch.setattr(refusals, "FIRST_PAUSE", 0.5)
    monkeypatch.setattr(refusals, "LONGEST_PAUSE", 2.0)


def extract(context: Context, assets: Any, **options: Any) -> list[dict[str, Any]]:
    """Run the operator to its end, through its trigger as often as it defers."""
    operator = ExtractAudioOperator(task_id="extract", assets=assets, poll_interval=0.05, **options)
    try:
        return list(operator.execute(context))
    except TaskDeferred as deferred:
        return finish(operator, context, deferred)


def finish(operator: ExtractAudioOperator, context: Context, deferred: TaskDeferred) -> list[dict[str, Any]]:
    """Run a deferred operator to its end, through its trigger as often as it defers."""
    while True:
        event = asyncio.run(first_event(deferred.trigger))
        try:
            return list(getattr(operator, deferred.method_name)(context, event=event))
        except TaskDeferred as again:
            deferred = again


class Killed(BaseException):
    """What SIGKILL leaves: no handler of the operator runs."""


class CrashingStore(DictStore):
    """A store whose task dies at its n-th write, before or after it."""

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__()
        self.at, self.after, self.writes = at, after, 0

    def set(self, key: str, value: Any, **options: Any) -> None:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise Killed
        super().set(key, value, **options)
        if self.writes == self.at and self.after:
            raise Killed
