"""How an operator reads assets, choices and switches, whether from code, a template or a form."""

from __future__ import annotations

from datetime import timedelta

import pytest

from vod.batch.arguments import asset_list, check_choice, choices, time_limit
from vod.errors import InvalidInputError


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


def test_choices_may_be_a_list_or_a_text_with_commas() -> None:
    assert choices("captions", "srt, txt srt", ("txt", "srt")) == ["srt", "txt"]
    assert choices("captions", ["txt"], ("txt", "srt")) == ["txt"]
    with pytest.raises(InvalidInputError, match="captions 'docx' is unknown"):
        choices("captions", "txt,docx", ("txt", "srt"))


def test_the_shorter_timeout_counts() -> None:
    assert time_limit(60.0, None) == 60.0
    assert time_limit(60.0, timedelta(seconds=5)) == 5.0
    assert time_limit(60.0, timedelta(hours=5)) == 60.0
