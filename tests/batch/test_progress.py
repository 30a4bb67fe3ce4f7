"""What a batch reports of itself, and what a run adds up to."""

from __future__ import annotations

import pytest

from tests.conftest import DictStore
from vod.batch import progress
from vod.batch.progress import PLAN_KEY, PROGRESS_KEY, BatchProgress
from vod.pipeline import planning
from vod.records import AssetFailure, ExtractedAudio, Record, SubmittedExtraction
from vod.ui.run_progress import Batch, progress_of

FAILURE = AssetFailure(asset="b", outcome="not_found", message="No.", remedy="", retryable=False)


def extracted(asset: str) -> ExtractedAudio:
    return ExtractedAudio(
        asset=asset,
        uri="file:///a.mp3",
        audio_format="MP3",
        codec="mp3",
        duration=1.0,
        size=1,
        engine="ffmpeg",
    )


def reported(assets: int, done: int, failed: int) -> dict[str, object]:
    return {"assets": assets, "done": done, "failed": failed, "message": "…"}


def test_a_batch_counts_what_is_settled_and_not_what_is_under_way() -> None:
    store = DictStore()
    batch = BatchProgress(store, 4)
    submitted = SubmittedExtraction(asset="c", audio_asset_id="d" * 32, audio_format="MP3", accepted=1.0)
    outcomes: list[Record] = [extracted("a"), FAILURE, submitted]
    batch.count(outcomes)
    batch.count(outcomes)
    batch.report("Half way.")
    assert store.values == {PROGRESS_KEY: {"assets": 4, "done": 1, "failed": 1, "message": "Half way."}}


def test_single_outcomes_are_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("vod.batch.progress.time.monotonic", lambda: now)
    store = DictStore()
    batch = BatchProgress(store, 30)
    batch.add(extracted("a"))
    batch.add(FAILURE)
    assert not store.values
    now += 11
    batch.add(extracted("c"))
    assert store.values[PROGRESS_KEY] == {
        "assets": 30, "done": 2, "failed": 1, "message": "2 done, 1 failed, of 30."
    }  # fmt: skip
    batch.add(extracted("d"))
    assert store.values[PROGRESS_KEY]["done"] == 2


def test_the_batches_of_a_run_add_up_to_one_figure() -> None:
    batches = [
        Batch("plan", -1, "success"),
        Batch("extract", 0, "success", reported(100, 95, 5)),
        Batch("extract", 1, "deferred", reported(100, 20, 1)),
        Batch("extract", 2, "failed", reported(100, 10, 0)),
        Batch("extract", 3, None),
        Batch("report", -1, None),
    ]
    run = progress_of(batches, [{"assets": 350, "before": 50}])
    assert (run.planned, run.before) == (350, 50)
    [extract] = run.tasks
    assert (extract.assets, extract.done, extract.failed, extract.percent) == (350, 125, 6, 37)
    assert extract.batches == {"success": 1, "deferred": 1, "failed": 1, "to come": 1}
    assert [batch.map_index for batch in run.at_work] == [1]


def test_a_batch_that_was_cleared_is_not_at_work_before_it_begins_again() -> None:
    states = (None, "scheduled", "queued", "running", "up_for_retry")
    batches = [Batch("extract", index, state, reported(10, 9, 1)) for index, state in enumerate(states)]
    run = progress_of(batches, [])
    assert [batch.state for batch in run.at_work] == ["running", "up_for_retry"]
    assert run.tasks[0].done == 45


def test_without_a_plan_only_what_has_begun_is_known() -> None:
    batches = [
        Batch("a", 0, "running", reported(3, 1, 0)),
        Batch("a", 1, None),
        Batch("b", -1, None, reported(0, 0, 0)),
    ]
    run = progress_of(batches, [])
    assert [(task.task, task.assets, task.percent) for task in run.tasks] == [("a", 3, 33), ("b", 0, 0)]
    assert run.planned is None
    assert progress_of(batches, [{"assets": 9, "before": 0}] * 2).planned is None, "whose plan is it?"
    assert progress_of([], []).tasks == []


def test_a_percentage_of_100_means_all() -> None:
    [task] = progress_of([Batch("a", 0, "running", reported(1000, 999, 0))], []).tasks
    assert task.percent == 99


def test_a_plan_notes_what_is_to_do_and_what_was_done_before() -> None:
    store = DictStore()
    planning.batches(["a", "b"], store, listed=5)
    assert store.values[PLAN_KEY] == {"assets": 2, "before": 3}
    planning.batches(["c"], store, listed=6)
    assert store.values[PLAN_KEY] == {"assets": 3, "before": 3}, "a and b may be done by now, in this run"
    progress.note_plan(store, 0, 9)
    assert store.values[PLAN_KEY] == {"assets": 0, "before": 9}


@pytest.mark.parametrize(
    ("assets", "name"),
    [
        ([], "nothing"),
        (["a"], "a"),
        (["a", "b", "c"], "3 assets: a …"),
        (["https://someone:secret@host/a.mp4"], "https://host/a.mp4?"),
    ],
)
def test_a_batch_is_named_by_its_first_asset_without_secrets(assets: list[str], name: str) -> None:
    context: dict[str, str] = {}
    progress.name_batch(context, assets)
    assert context["batch"].startswith(name)
    assert "secret" not in context["batch"]
