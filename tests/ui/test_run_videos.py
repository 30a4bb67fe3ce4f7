"""The tab of a run shows its videos: before the first result, after a failed plan, failures on top."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html import unescape
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel

from tests.conftest import DictStore
from tests.ui.conftest import DAG, RUN, Site
from vod.batch.outcomes import FAILURE_KEY
from vod.batch.progress import PROGRESS_KEY
from vod.library.register import Register
from vod.records import AssetFailure, ExtractedAudio, SubmittedExtraction, Transcript
from vod.ui.run_progress import TaskProgress

ASSETS = ["a" * 32, "b" * 32, "/films/c.mp4"]


def page(site: Site, role: str = "admin") -> str:
    answer = site.person(role).get("/progress", params={"dag_id": DAG, "run_id": RUN})
    assert answer.status_code == 200
    return answer.text


def shown(text: str) -> list[tuple[str, str]]:
    """Name and state of each video, in order."""
    rows = re.findall(r'<td class="title">(.*?)</td>.*?<span class="state (\w+)">', text, re.DOTALL)
    return [(unescape(re.sub(r"<span.*?</span>|<[^>]+>", "", cell)), state) for cell, state in rows]


def audio(asset: str, **more: Any) -> dict[str, Any]:
    record = ExtractedAudio(
        asset=asset,
        uri=f"file:///audio/{asset[-5:]}.mp3",
        audio_format="MP3",
        codec="mp3",
        duration=5.0,
        size=1,
        engine="ffmpeg",
        **more,
    )
    return record.to_json()


def text(asset: str, **more: Any) -> dict[str, Any]:
    return Transcript(
        asset=asset, audio="x", text="", language="en", duration=5.0, model="m", uris={}, **more
    ).to_json()


def failure(asset: str, message: str = "Too loud.", remedy: str = "Turn it down.") -> dict[str, Any]:
    return AssetFailure(asset=asset, outcome="loud", message=message, remedy=remedy).to_json()


def test_before_the_plan_and_before_the_first_result(site: Site) -> None:
    site.run("running")
    assert "No task of this run has begun to work on videos." in page(site)
    assert "data-moving" in page(site)
    site.push("plan", "part_0", {"assets": ASSETS[:2]})
    site.push("plan", "part_1", {"assets": ASSETS[2:]})
    assert shown(page(site)) == [(ASSETS[0], "waiting"), (ASSETS[1], "waiting"), ("c.mp4", "waiting")]
    store = DictStore()
    register = Register(store, "holder", {"engine": "vod"}, settling=0)
    register.claim(ASSETS[:1])
    register.accept(ASSETS[0], "f" * 32, 1.0)
    site.write(store)
    assert shown(page(site))[0] == (ASSETS[0], "extracting")
    assert f"asset?entry={register.key(ASSETS[0])}" in page(site)


def test_failures_are_on_top_with_their_reasons(site: Site) -> None:
    site.run("failed")
    site.push("plan", "part_0", {"assets": ASSETS})
    first = audio(ASSETS[0], title="Lake <b>", entry="audio_1")
    extracted = [first, audio(ASSETS[1], entry="audio_2"), failure(ASSETS[2])]
    site.push("batch.extract", "return_value", extracted, 0)
    site.push(
        "batch.transcribe",
        "return_value",
        [text(ASSETS[0]), text(ASSETS[1], outcome="doubtful", warnings=["No word."]), failure(ASSETS[2])],
        0,
    )
    told = page(site)
    assert shown(told) == [("c.mp4", "failed"), (ASSETS[1], "doubtful"), ("Lake <b>", "done")]
    assert "Too loud. Turn it down." in told
    assert "No word." in told
    site.push("again.extract", "return_value", [audio(ASSETS[2])], 0)
    site.push("again.transcribe", "return_value", [text(ASSETS[2])], 0)
    assert [state for _, state in shown(page(site))] == ["doubtful", "done", "done"]


def test_the_failure_of_one_audio_is_not_hidden_by_another_of_its_asset(site: Site) -> None:
    site.run("failed")
    asset = ASSETS[0]
    for number in range(3):
        site.push("plan", f"part_{number}", {"assets": [asset]})
    site.push("batch.extract", "return_value", [failure(asset, "No German.")], 0)
    site.push("batch.transcribe", "return_value", [failure(asset, "No German.")], 0)
    site.push("batch.extract", FAILURE_KEY, {**failure("", "No disk."), "records": []}, 1)
    site.push("batch.extract", "return_value", [audio(asset, title="Lake")], 2)
    site.push("batch.transcribe", "return_value", [text(asset)], 2)
    assert shown(page(site)) == [("Lake", "failed")]
    assert "No disk." in page(site).partition('<td class="title">')[2]
    site.push("batch.extract", "return_value", [audio(asset)], 1)
    site.push("batch.transcribe", "return_value", [failure(asset, "No French.")], 1)
    for number in range(2):
        site.push("failed", f"part_{number}", {"assets": [asset]})

    def redo(number: int) -> str:
        site.push("again.extract", "return_value", [audio(asset)], number)
        site.push("again.transcribe", "return_value", [text(asset)], number)
        return page(site)

    told = redo(1)
    assert shown(told) == [("Lake", "failed")]
    assert "No German." in told
    assert "No French." not in told, "that audio was done again"
    assert shown(redo(0)) == [("Lake", "done")]


def test_a_failed_plan_says_why(site: Site) -> None:
    site.run("failed")
    site.push("plan", FAILURE_KEY, {**failure("/etc/x", "This is not allowed."), "records": []})
    told = page(site)
    assert "plan failed" in told
    assert "/etc/x: This is not allowed. Turn it down." in told


def test_a_batch_that_failed_as_a_whole_gives_its_reason_to_its_videos(site: Site) -> None:
    site.run("failed")
    site.push("plan", "part_0", {"assets": ASSETS[:1]})
    site.push("plan", "part_1", {"audio": [audio(ASSETS[1]), audio(ASSETS[2])]})
    why = {**failure("", "No disk."), "records": [failure(ASSETS[2], "No sound.", "")]}
    site.push("batch.transcribe", FAILURE_KEY, why, 1)
    told = page(site)
    assert shown(told) == [(ASSETS[1], "failed"), ("c.mp4", "failed"), (ASSETS[0], "waiting")]
    assert told.count("No disk. Turn it down.") == 2, "of the batch, and of the video without a record"
    assert "No sound." in told


def test_what_is_submitted_only_is_under_way(site: Site) -> None:
    site.run("success")
    record = SubmittedExtraction(asset=ASSETS[0], audio_asset_id="f" * 32, audio_format="MP3", accepted=1.0)
    site.push("submit", "return_value", record.to_json())
    assert shown(page(site)) == [(ASSETS[0], "extracting")]


@pytest.mark.parametrize(
    "junk",
    [
        None,
        7,
        "text",
        "[not json",
        {},
        [],
        [None, 7, [], {"outcome": 3}, {"outcome": "extracted"}, {"outcome": "x", "asset": 7, "message": "m"}],
        [{"outcome": "transcribed", "asset": "a"}, {"asset": "<script>alert(1)</script>"}],
        {**failure("<script>alert(1)</script>", "<img src=x onerror=alert(1)>")},
        [{**audio("a"), "duration": "<script>alert(1)</script>", "language": ["<script>alert(1)</script>"]}],
    ],
)
def test_whatever_tasks_return_is_shown_as_text_or_not_at_all(site: Site, junk: Any) -> None:
    site.run()
    site.push("other", "return_value", junk)
    site.push("plan", "part_x", junk)
    site.push("plan", FAILURE_KEY, junk)
    body = page(site).partition("<body>")[2]
    assert "<script>" not in body
    assert "<img" not in body


def test_a_title_is_known_also_when_another_run_wrote_of_it_last(site: Site) -> None:
    site.run("success")
    other = site.extract("e" * 32, "vod://vod_default/1", run="another", title="Lake")
    foreign = site.extract("f" * 32, "vod://vod_default/2", run="x", dag="other_dag", title="Secret")
    file = site.extract("/films/c.mp4", "file:///audio/c.mp3", run="another")
    spoken = {"e" * 32: other, "f" * 32: foreign, "/films/c.mp4": file}
    texts = [text(asset, entry=audio.entry) for asset, audio in spoken.items()]
    site.push("batch.transcribe", "return_value", texts, 0)
    assert shown(page(site)) == [("Lake", "done"), ("f" * 32, "done"), ("c.mp4", "done")]
    assert ">/films/c.mp4<" not in page(site), "a file has no title beside its name"


def test_the_tab_of_a_task_shows_its_batch(site: Site) -> None:
    site.run("running")
    site.push("plan", "part_0", {"assets": ASSETS[:1]})
    site.push("plan", "part_1", {"assets": ASSETS[1:]})
    site.push("failed", "part_0", {"assets": ["/films/again.mp4"]})
    site.push("batch.extract", "return_value", [audio(ASSETS[0])], 0)
    site.push("batch.extract", "return_value", [audio(ASSETS[1]), failure(ASSETS[2])], 1)

    def batch(task: str, map_index: Any) -> str:
        asked = {"dag_id": DAG, "run_id": RUN, "task_id": task, "map_index": map_index}
        answer = site.person("viewer").get("/batch", params=asked)
        assert answer.status_code == 200
        return answer.text

    assert shown(batch("batch.extract", 0)) == [(ASSETS[0], "ready")]
    assert shown(batch("batch.extract", 1)) == [("c.mp4", "failed"), (ASSETS[1], "ready")]
    assert "Too loud." in batch("batch.extract", 1)
    assert shown(batch("batch.transcribe", 1)) == [(ASSETS[1], "waiting"), ("c.mp4", "waiting")]
    assert shown(batch("again.batch.extract", 0)) == [("again.mp4", "waiting")]
    for task, index in (
        ("plan", "{MAP_INDEX}"),
        ("report", ""),
        ("batch.extract", "²"),
        ("batch.extract", 99),
    ):
        assert shown(batch(task, index)) == []
    site.push("batch.extract", FAILURE_KEY, failure("", "The store is away."), 1)
    assert "The store is away." in batch("batch.extract", 1)
    assert "The store is away." not in batch("batch.extract", 0)


def test_the_pace_of_a_task_and_when_it_ends() -> None:
    task = TaskProgress("extract", assets=30, done=10, failed=2, batches={})
    assert task.pace(60) == (12, 90)
    assert replace(task, done=1).pace(60) == (3, 540)
    assert task.pace(5) is None, "too early"
    assert replace(task, done=0, failed=0).pace(60) is None
    assert replace(task, done=28).pace(60) is None, "nothing is left"


@pytest.mark.parametrize(
    ("done", "ago", "cleared", "is_told"),
    [(12, 60, 0, True), (0, 60, 0, False), (30, 60, 0, False), (12, -60, 0, False), (12, 60, 1, False)],
)
def test_the_tab_of_a_run_tells_its_pace_while_it_can(
    site: Site, done: int, ago: float, cleared: int, is_told: bool
) -> None:
    site.run("running")
    run = site.session.get(DagRun, 1)
    assert run
    run.start_date, run.clear_number = datetime.now(timezone.utc) - timedelta(seconds=ago), cleared
    site.instance("batch.extract", "running", 0)
    note = {"assets": 30, "done": done, "failed": 0, "message": "At work."}
    whose = {"dag_run_id": 1, "task_id": "batch.extract", "key": PROGRESS_KEY, "value": json.dumps(note)}
    place = "map_index" if hasattr(TaskStateStoreModel, "map_index") else "region_index"
    site.session.add(TaskStateStoreModel(**whose, **{place: 0}, dag_id=DAG, run_id=RUN))
    site.session.commit()
    told = re.search(r"[\d.]+ a minute, about [\d:]+ left\.", page(site))
    assert bool(told) == is_told


def test_who_may_only_look_gets_no_button(site: Site) -> None:
    site.run("failed")
    site.instance("report", "failed")
    assert "Retry the failed ones" in page(site, "user")
    assert "Retry the failed ones" not in page(site, "viewer")


def test_a_run_that_is_not_there(site: Site) -> None:
    answer = site.person().get("/progress", params={"dag_id": DAG, "run_id": "<b>"})
    assert answer.status_code == 404
    assert "There is no such video or run" in answer.text
