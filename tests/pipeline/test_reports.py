"""What the last task of a run says, and when it fails."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from vod.locations import public_name
from vod.pipeline.reports import assets_of, collect, conclude, table
from vod.records import AssetFailure, ExtractedAudio

AUDIO = ExtractedAudio(
    asset="a", uri="file:///a.mp3", audio_format="MP3", codec="mp3", duration=1.0, size=9, engine="ffmpeg"
)
BAD = AssetFailure(
    asset="b", outcome="no_audio_track", message="There is no audio track.", remedy="Leave it out."
)


class Ti:
    """What is pushed as XCom."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def test_no_asset_is_lost_from_the_record_when_its_batch_is() -> None:
    records = collect(["a", "x", "b"], [[AUDIO.to_json()], None, [BAD.to_json()]])
    assert [(record.asset, record.outcome) for record in records] == [
        ("a", "extracted"),
        ("x", "no_result"),
        ("b", "no_audio_track"),
    ]


def test_a_run_without_a_plan_fails() -> None:
    with pytest.raises(AirflowFailException, match="Nothing was started because the task `plan` failed"):
        assets_of(None)
    assert assets_of([]) == []
    assert assets_of([{"assets": ["a", "b"]}, {"audio": [{"asset": "c"}]}]) == ["a", "b", "c"]


def test_a_signed_url_is_found_by_the_name_that_its_record_shows() -> None:
    url = "https://media.example/a.mp4?Signature=secret"
    names = assets_of([{"assets": [url, "b"]}, {"audio": [{"asset": public_name(url)}]}])
    assert names == [public_name(url), "b", public_name(url)]
    [lost] = collect(names[:1], None)
    assert "secret" not in str(lost)


def test_one_batch_or_none_is_told_from_many() -> None:
    assert collect(["a"], [AUDIO.to_json()]) == collect(["a"], [[AUDIO.to_json()]]) == [AUDIO]
    assert collect([], None) == collect([], []) == []


def test_the_report_counts_done_skipped_and_failed() -> None:
    text = table([AUDIO, BAD], skipped=3)
    for row in (
        "| extracted | 1 |",
        "| done before | 3 |",
        "| no_audio_track | 1 |",
        "| b | no_audio_track | There is no audio track. Leave it out. |",
        "| a | extracted | file:///a.mp3 |",
    ):
        assert row in text
    assert text.index("| b |") < text.index("| a |"), "failures first"


def test_a_run_with_a_failure_fails_after_its_report() -> None:
    ti = Ti()
    with pytest.raises(AirflowFailException, match=r"1 of 2 assets failed:\n  b: There is no audio track"):
        conclude(ti, [AUDIO, BAD])
    assert "no_audio_track" in ti.pushed["report"]
    conclude(ti, [AUDIO])
    assert "no_audio_track" not in ti.pushed["report"]
    conclude(ti, [], skipped=7)
    assert "| done before | 7 |" in ti.pushed["report"]


def test_long_lists_are_cut_in_the_table_and_in_the_error() -> None:
    many = [AssetFailure(asset=f"x{number}", outcome="timeout", message="Late.") for number in range(500)]
    assert "| timeout | 500 |" in table(many)
    assert "and 400 more" in table(many)
    with pytest.raises(AirflowFailException, match="and 480 more") as caught:
        conclude(Ti(), many)
    assert len(str(caught.value)) < 2000


def test_cells_are_kept_apart() -> None:
    odd = AssetFailure(asset="a|b\nc", outcome="x", message="m" * 500)
    assert "| a\\|b c | x | " + "m" * 119 + "…" + " |" in table([odd])
