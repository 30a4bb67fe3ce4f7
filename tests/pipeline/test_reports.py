"""What the last task of a run says, and when it fails."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context

from tests.pipeline.conftest import Run
from vod.batch.outcomes import conclude as conclude_batch
from vod.batch.outcomes import fail_at_once
from vod.cloud.errors import AuthenticationError
from vod.errors import InvalidInputError
from vod.locations import public_name
from vod.pipeline import parts
from vod.pipeline.reports import Tally, _Failed, _together, conclude, results, table
from vod.records import AssetFailure, ExtractedAudio, Record

AUDIO = ExtractedAudio(
    asset="a", uri="file:///a.mp3", audio_format="MP3", codec="mp3", duration=1.0, size=9, engine="ffmpeg"
)
BAD = AssetFailure(
    asset="b", outcome="no_audio_track", message="There is no audio track.", remedy="Leave it out."
)


def tally(*records: Record) -> Tally:
    counted = Tally()
    assert list(counted.counting(records)) == list(records)
    return counted


def of_run(run: Run, planned: Any, not_done: Any = None) -> list[tuple[str, str, str]]:
    """Asset, outcome and reason of each record."""
    found = results(run.task("report"), planned, "batch.transcribe", not_done, "again.transcribe")
    return [(record.asset, record.outcome, getattr(record, "message", "")) for record in found]


def test_no_asset_is_lost_from_the_record_when_its_batch_is(run: Run) -> None:
    planned = run.plan([{"assets": ["a"]}, {"assets": ["x"]}, {"assets": ["b"]}])
    run.returns("batch.transcribe", [AUDIO.to_json()], None, [BAD.to_json()])
    assert of_run(run, planned) == [
        ("a", "extracted", ""),
        ("x", "no_result", "The worker of its batch died before it could say anything."),
        ("b", "no_audio_track", "There is no audio track."),
    ]


def test_an_asset_of_a_batch_that_failed_as_a_whole_has_the_reason_of_the_batch(run: Run) -> None:
    planned = run.plan([{"assets": ["a", "b"]}, {"assets": ["c"]}])
    with (
        set_current_context({"ti": run.task("batch.extract", 0)}),  # type: ignore[arg-type,typeddict-item]
        pytest.raises(AirflowFailException),
        fail_at_once(),
    ):
        raise AuthenticationError("VOD refused the access key")
    with (
        set_current_context({"ti": run.task("batch.transcribe", 1)}),  # type: ignore[arg-type,typeddict-item]
        pytest.raises(OSError, match="secret"),
        fail_at_once(),
    ):
        raise OSError("https://host/?signature=secret")
    found = of_run(run, planned)
    assert [row[:2] for row in found] == [
        ("a", AuthenticationError.outcome),
        ("b", AuthenticationError.outcome),
        ("c", "error"),
    ]
    assert found[0][2] == "VOD refused the access key."
    assert found[2][2] == "Its batch failed with OSError."
    assert "signature=secret" not in str(run.values)


def test_a_run_without_a_plan_fails(run: Run) -> None:
    with pytest.raises(AirflowFailException, match="Nothing was started because the task `plan` failed"):
        of_run(run, None)
    with (
        set_current_context({"ti": run.task("plan")}),  # type: ignore[arg-type,typeddict-item]
        pytest.raises(AirflowFailException),
        fail_at_once(),
    ):
        raise InvalidInputError("There is no list /x.csv", remedy="Check the name.")
    with pytest.raises(
        AirflowFailException, match=r"`plan` failed. There is no list /x.csv. Check the name."
    ):
        of_run(run, None)
    assert of_run(run, []) == []


def test_lines_that_the_plan_refused_are_failures_with_advice_of_their_own(run: Run) -> None:
    bad = AssetFailure(asset="/media/b.mp4", outcome="invalid_input", message="Line 2 of x.csv: VOD cannot.")
    plan = parts.Plan([{"assets": ["a", "c"]}], [bad])
    planned = parts.publish_plan(run.task("plan"), plan)
    run.returns("batch.transcribe", [AUDIO.to_json(), {**BAD.to_json(), "asset": "c"}])
    assert of_run(run, planned) == [
        ("/media/b.mp4", "invalid_input", "Line 2 of x.csv: VOD cannot."),
        ("a", "extracted", ""),
        ("c", "no_audio_track", "There is no audio track."),
    ]
    tally = Tally(failed=2, failures=[bad, BAD])
    with pytest.raises(AirflowFailException) as caught:
        conclude(run.task("report"), tally, refused=1)
    assert "Lines that cannot be processed: 1. Correct them" in str(caught.value)
    assert "To do the others again, clear" in str(caught.value)
    with pytest.raises(AirflowFailException) as caught:
        conclude(run.task("report"), Tally(failed=1, failures=[bad]), refused=1)
    assert "clear" not in str(caught.value), "no task would do it again"
    assert of_run(run, parts.publish_plan(run.task("plan"), parts.Plan([], [bad])))[0][1] == "invalid_input"


def test_a_signed_url_is_found_by_the_name_that_its_record_shows(run: Run) -> None:
    url = "https://media.example/a.mp4?Signature=secret"
    planned = run.plan([{"assets": [url, "b"]}, {"audio": [{"asset": public_name(url)}]}])
    assert [asset for asset, *_ in of_run(run, planned)] == [public_name(url), "b", public_name(url)]
    assert "secret" not in str(of_run(run, planned))


def test_what_a_person_cleared_counts_in_the_place_of_its_failure(run: Run) -> None:
    good = {**AUDIO.to_json(), "asset": "b"}
    planned = run.plan([{"assets": ["a", "b", "c", "d"]}])
    failures = [{**BAD.to_json(), "asset": asset} for asset in "bcd"]
    run.returns("batch.transcribe", [AUDIO.to_json(), *failures])
    not_done = parts.publish(run.task("failed"), [{"assets": [asset]} for asset in "bcd"])
    assert [outcome for _, outcome, _ in of_run(run, planned, not_done)] == [
        "extracted",
        *["no_audio_track"] * 3,
    ]
    run.returns("again.transcribe", [good])
    with (
        set_current_context({"ti": run.task("again.extract", 2)}),  # type: ignore[arg-type,typeddict-item]
        pytest.raises(AirflowFailException),
        fail_at_once(),
    ):
        conclude_batch([AssetFailure(asset="d", outcome="auth", message="The key is wrong.")], "raise")
    assert of_run(run, planned, not_done) == [
        ("a", "extracted", ""),
        ("b", "extracted", ""),
        ("c", "no_audio_track", "There is no audio track."),
        ("d", "auth", "The key is wrong."),
    ]


def test_each_audio_of_an_asset_counts(run: Run) -> None:
    """Its audio of two tracks, for example: a batch has one of them."""
    batches = [{"audio": [{**AUDIO.to_json(), "uri": f"file:///a.{number}.mp3"}]} for number in range(3)]
    planned = run.plan(batches)
    failures = [[{**BAD.to_json(), "asset": "a", "message": f"No {number}."}] for number in range(3)]
    run.returns("batch.transcribe", *failures)
    not_done = parts.publish(run.task("failed"), batches)
    run.returns("again.transcribe", None, [AUDIO.to_json()], None)
    assert of_run(run, planned, not_done) == [
        ("a", "no_audio_track", "No 0."),
        ("a", "extracted", ""),
        ("a", "no_audio_track", "No 2."),
    ]
    failed = [_Failed(["a"], ["why"], {"audio": [batch]}) for batch in batches]
    assert len([*_together(failed, 2)]) == 3, "a task tells them apart by the asset"


def test_a_report_holds_one_batch_and_a_hundred_rows_whatever_the_run(run: Run) -> None:
    """Twenty thousand assets: 7 MB of records."""
    planned = run.plan({"assets": [f"{batch}-{one}" for one in range(100)]} for batch in range(200))
    for number in range(200):
        records = [{**AUDIO.to_json(), "asset": f"{number}-{one}"} for one in range(100)]
        run.returns("batch.transcribe", *[None] * number, records)
    counted = Tally()
    tracemalloc.start()
    for _ in counted.counting(results(run.task("report"), planned, "batch.transcribe")):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (counted.total, counted.failed, len(counted.others)) == (20_000, 0, 100)
    assert peak < 2_000_000


def test_many_failures_share_tasks_when_airflow_maps_to_fewer() -> None:
    failed = [
        _Failed([name], ["why"], {"engine": name[0], "assets": [name]}) for name in ("a1", "a2", "a3", "b1")
    ]
    assert [group.names for group in _together(failed, 2)] == [["a1", "a2"], ["a3"], ["b1"]]


def test_the_report_counts_done_skipped_and_failed() -> None:
    text = table(tally(AUDIO, BAD), skipped=3)
    for row in (
        "| extracted | 1 |",
        "| done before | 3 |",
        "| no_audio_track | 1 |",
        "| b | no_audio_track | There is no audio track. Leave it out. |",
        "| a | extracted | file:///a.mp3 |",
    ):
        assert row in text
    assert text.index("| b |") < text.index("| a |"), "failures first"


def test_a_run_with_a_failure_fails_after_its_report(run: Run) -> None:
    ti = run.task("report")

    def pushed() -> str:
        return str(ti.xcom_pull("report", "report"))

    with pytest.raises(AirflowFailException, match=r"1 of 2 assets failed:\n  b: There is no audio") as said:
        conclude(ti, tally(AUDIO, BAD))
    last = str(said.value).splitlines()[-1]
    assert f"airflow dags clear dag --run-id '{run.run_id}' --only-failed --yes" in last
    assert "no_audio_track" in pushed()
    conclude(ti, tally(AUDIO))
    assert "no_audio_track" not in pushed()
    conclude(ti, tally(), skipped=7)
    assert "| done before | 7 |" in pushed()


def test_long_lists_are_cut_in_the_table_and_in_the_error(run: Run) -> None:
    many = [AssetFailure(asset=f"x{number}", outcome="timeout", message="Late.") for number in range(500)]
    assert "| timeout | 500 |" in table(tally(*many))
    assert "and 400 more" in table(tally(*many))
    with pytest.raises(AirflowFailException, match="and 480 more") as caught:
        conclude(run.task("report"), tally(*many))
    assert len(str(caught.value)) < 2500


def test_cells_are_kept_apart() -> None:
    odd = AssetFailure(asset="a|b\nc", outcome="x", message="m" * 500)
    assert "| a\\|b c | x | " + "m" * 119 + "…" + " |" in table(tally(odd))
