"""Records travel as JSON and come back the same."""

from __future__ import annotations

import json

import pytest

from vod.errors import NoAudioTrackError, VodError
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
    Transcript,
    parse_record,
)

RECORDS: list[Record] = [
    ExtractedAudio(
        asset="a", uri="vod://c/b", audio_format="MP3", codec=None, duration=None, size=0, engine="vod"
    ),
    ExtractedAudio(
        asset="a",
        uri="file:///b",
        audio_format="FLAC",
        codec="flac",
        duration=1.0,
        size=5,
        engine="ffmpeg",
        track=1,
        alternatives=["eng (track 0, aac)"],
        others=[{"track": 0, "uri": "file:///c"}],
        offset=-0.02,
        silent=True,
        warnings=["odd"],
    ),
    SubmittedExtraction(asset="a", audio_asset_id="b", audio_format="MP3", accepted=1.5),
    Transcript(
        asset="a",
        audio="vod://c/b",
        text="t",
        language="en",
        duration=1.0,
        model="tiny.en",
        uris={"txt": "file:///t"},
    ),
    AssetFailure(asset="a", outcome="VOD.10062", message="m", remedy="r", retryable=True),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.outcome}-{len(record.to_json())}")
def test_records_survive_json(record: Record) -> None:
    assert parse_record(json.loads(json.dumps(record.to_json()))) == record


def test_what_is_at_its_default_does_not_travel() -> None:
    assert set(RECORDS[0].to_json()) == {
        "asset",
        "uri",
        "audio_format",
        "codec",
        "duration",
        "size",
        "engine",
        "outcome",
    }


def test_a_key_of_a_newer_version_is_ignored() -> None:
    assert parse_record({**RECORDS[0].to_json(), "new": 1}) == RECORDS[0]


@pytest.mark.parametrize("broken", [{}, {"asset": "a"}])
def test_what_is_no_record_is_refused(broken: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        parse_record(broken)


def test_a_failure_keeps_what_the_error_said() -> None:
    failure = AssetFailure.from_error("a", NoAudioTrackError("There is no audio track in it."))
    assert failure.outcome == "no_audio_track"
    assert str(failure) == (
        "a: There is no audio track in it. Leave this asset out, or name a version of it that has sound."
        " [no_audio_track]"
    )


def test_a_record_is_small() -> None:
    """The XCom of a batch holds one an asset; issue: under 400 bytes."""
    record = ExtractedAudio(
        asset="f" * 32,
        audio_asset_id="e" * 32,
        uri=f"vod://vod_default/{'e' * 32}",
        audio_format="MP3",
        codec="mp3",
        duration=3600.123,
        size=57_600_000,
        sample_rate=44100,
        channels=2,
        title="A title of usual length",
        engine="vod",
        seconds=12.0,
    )
    assert len(json.dumps(record.to_json())) < 400


def test_the_texts_of_a_failure_have_an_end() -> None:
    failure = AssetFailure.from_error("a", VodError("x" * 10_000, remedy="y" * 10_000))
    assert (len(failure.message), len(failure.remedy)) == (500, 500)
    assert failure.message.endswith("x…")


def test_what_becomes_of_a_postponed_extraction_may_be_told_by_a_newer_version() -> None:
    failure = AssetFailure(asset="a", outcome="gone", message="Gone.")
    told = {**failure.to_json(), "of_a_newer_version": 1}
    postponed = PostponedExtraction(asset="a", again=1.0, tries=1, watch=False, failure=told)
    assert postponed.given_up == failure
