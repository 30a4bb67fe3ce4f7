"""How assets are read, and how their outcomes become that of a task."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from vod.batch.arguments import asset_list, check_choice
from vod.batch.outcomes import AssetsFailedError, conclude, fail_at_once
from vod.cloud.errors import ServiceError
from vod.errors import InvalidInputError
from vod.records import AssetFailure, ExtractedAudio

AUDIO = ExtractedAudio(
    asset="a", uri="file:///a.mp3", audio_format="MP3", codec="mp3", duration=1.0, size=9, engine="ffmpeg"
)
BAD = AssetFailure(
    asset="b", outcome="no_audio_track", message="There is no audio track.", remedy="Leave it out."
)
LATE = AssetFailure(asset="c", outcome="timeout", message="Not ready.", retryable=True)


@pytest.mark.parametrize(
    "given",
    [
        ["a", "b"],
        ("a", "b"),
        [" a ", "", "b", "a", "\n"],
        "a\nb\n\n a \n",
        '["a", "b", ""]',
        ' ["a","b"]',
        iter(["a", "b"]),
    ],
)
def test_blanks_and_duplicates_are_dropped_and_the_order_kept(given: object) -> None:
    assert asset_list(given) == ["a", "b"]


def test_a_name_with_blanks_inside_is_one_asset() -> None:
    assert asset_list("/media/my talk, part 1.mp4") == ["/media/my talk, part 1.mp4"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "No assets were given"),
        ("", "No assets were given"),
        (" \n ", "No assets were given"),
        (None, "must be a list, not NoneType"),
        (7, "must be a list, not int"),
        ({"a": 1}, "must be a list, not dict"),
        ([7], "An asset must be text, not int"),
        ([None], "An asset must be text, not NoneType"),
        ('["a", ', "not valid JSON"),
        ([str(number) for number in range(1001)], "1001 assets are more than the 1000"),
    ],
)
def test_what_is_no_list_of_assets_is_refused_in_words(given: object, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        asset_list(given)
    assert caught.value.remedy


def test_templates_are_not_judged_before_they_are_rendered() -> None:
    check_choice("engine", "{{ params.engine }}", ("vod", "ffmpeg"))
    check_choice("engine", None, ("vod", "ffmpeg"))
    with pytest.raises(InvalidInputError, match=r"engine 'gstreamer' is unknown\. Use one of vod, ffmpeg"):
        check_choice("engine", "gstreamer", ("vod", "ffmpeg"))


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
