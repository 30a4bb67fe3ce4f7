"""How assets are read, and how their outcomes become that of a task."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from vod.batch.outcomes import AssetsFailedError, conclude, fail_at_once
from vod.cloud.errors import ServiceError
from vod.records import AssetFailure, ExtractedAudio

AUDIO = ExtractedAudio(
    asset="a", uri="file:///a.mp3", audio_format="MP3", codec="mp3", duration=1.0, size=9, engine="ffmpeg"
)
BAD = AssetFailure(
    asset="b", outcome="no_audio_track", message="There is no audio track.", remedy="Leave it out."
)
LATE = AssetFailure(asset="c", outcome="timeout", message="Not ready.", retryable=True)


def test_a_batch_with_a_failure_names_it_with_its_remedy() -> None:
    with pytest.raises(AssetsFailedError) as caught:
        conclude([AUDIO, BAD, LATE], "raise")
    text = str(caught.value)
    assert "2 of 3 assets failed" in text
    assert "b: There is no audio track. Leave it out. [no_audio_track]" in text
    assert caught.value.retryable, "one of them may succeed on a retry"


def test_report_returns_failures_among_the_others_in_order() -> None:
    records = conclude([AUDIO, BAD], "return")
    assert [(record["asset"], record["outcome"]) for record in records] == [
        ("a", "extracted"),
        ("b", "no_audio_track"),
    ]


def test_airflow_is_spared_retries_that_change_nothing() -> None:
    with pytest.raises(AirflowFailException, match="There is no audio track"), fail_at_once():
        conclude([AUDIO, BAD], "raise")
    with pytest.raises(AssetsFailedError), fail_at_once():
        conclude([AUDIO, LATE], "raise")
    with pytest.raises(ServiceError), fail_at_once():
        raise ServiceError("busy")
