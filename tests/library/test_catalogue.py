"""What was extracted is remembered by asset and format, and audio that is gone does not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vod.errors import InvalidInputError
from vod.library.catalogue import Catalogue, remember
from vod.operators import ExtractAudioOperator
from vod.records import AssetFailure, ExtractedAudio


def audio(asset: str, uri: str, audio_format: str = "MP3") -> ExtractedAudio:
    return ExtractedAudio(
        asset=asset, uri=uri, audio_format=audio_format, codec=None, duration=1.0, size=1, engine="vod"
    )


def test_what_was_extracted_is_found_by_asset_and_format(tmp_path: Path) -> None:
    here = Catalogue(str(tmp_path))
    record = audio("a", "vod://vod_default/x")
    failure = AssetFailure(asset="b", outcome="no_audio_track", message="There is none.")
    here.add([record.to_json(), failure.to_json()])
    assert Catalogue(str(tmp_path)).find([("a", "MP3"), ("a", "AAC"), ("b", "MP3"), ("c", "MP3")]) == {
        "a": record
    }
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp3.json"]


def test_audio_whose_file_is_gone_has_to_be_extracted_again(tmp_path: Path) -> None:
    here = Catalogue(str(tmp_path))
    file = tmp_path / "a.mp3"
    file.write_bytes(b"x")
    here.add([audio("a", file.as_uri()).to_json()])
    assert here.find([("a", "MP3")])
    file.unlink()
    assert here.find([("a", "MP3")]) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"asset": "a"}', '{"outcome": "extracted"}'])
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.mp3.json").write_text(content)
    assert Catalogue(str(tmp_path)).find([("a", "MP3")]) == {}


def test_transcripts_are_found_by_asset(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert Catalogue(str(tmp_path)).transcripts(["a"]) == {}, "the captions are still to come"
    (tmp_path / "a.srt").write_text("1")
    assert Catalogue(str(tmp_path)).transcripts(["a", "b"]) == {"a": (tmp_path / "a.txt").as_uri()}


def test_without_a_destination_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = '{"conn_type": "vod", "login": "a", "password": "b", "extra": {"region": "cn-north-4"}}'
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection)
    with pytest.raises(InvalidInputError, match="no destination for the records") as caught:
        Catalogue.for_destination(None)
    assert "destination" in caught.value.remedy


def test_an_extraction_is_remembered_after_it_ran(
    tmp_path: Path, video: Path, context: dict[str, Any]
) -> None:
    task = ExtractAudioOperator(
        task_id="extract",
        assets=str(video),
        engine="ffmpeg",
        destination=str(tmp_path),
        post_execute=remember,
    )
    context["task"] = task
    [record] = task.execute(context)
    remember(context, [record])
    assert Catalogue(str(tmp_path)).find([(str(video), "MP3")])[str(video)].uri == record["uri"]
