from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.conftest import DictStore
from vod.batch.progress import PLAN_KEY
from vod.errors import InvalidInputError
from vod.pipeline import planning
from vod.standin import Standin

MIDNIGHT = datetime(2026, 1, 10, tzinfo=timezone.utc)


def test_what_a_person_pasted_becomes_a_list() -> None:
    assert planning.cleaned([" a ", "", "b\t", "a", "\n"]) == ["a", "b"]
    with pytest.raises(InvalidInputError, match="No assets were given"):
        planning.cleaned(["", " "])
    with pytest.raises(planning.TooManyAssetsError, match="3 assets are more than the 2"):
        planning.cleaned(["a", "b", "c"], most=2)


def test_what_an_engine_cannot_take_is_refused_before_anything_is_submitted(connection: str) -> None:
    planning.check_sources(["a", "/m/b.mp4", "file:///m/b.mp4"], "ffmpeg")
    planning.check_sources(["a"], "vod")
    planning.check_sources(["a"], "", connection)
    for engine in ("vod", ""):
        with pytest.raises(InvalidInputError, match="only from its own assets") as caught:
            planning.check_sources(["a", "/m/b.mp4"], engine, connection)
        assert caught.value.asset == "/m/b.mp4"
    with pytest.raises(InvalidInputError, match="neither an asset id nor an absolute path"):
        planning.check_sources(["b.mp4"], "ffmpeg")


def test_batches_hold_assets_with_the_same_arguments() -> None:
    german = {"audio_format": "MP3", "language": "de"}
    assets = {
        "a": {"audio_format": "MP3"},
        "b": german,
        "c": {"audio_format": "MP3"},
        "d": german,
        "e": german,
    }
    assert planning.batches(assets, DictStore(), size=2) == [
        {"audio_format": "MP3", "assets": ["a", "c"]},
        {"audio_format": "MP3", "language": "de", "assets": ["b", "d"]},
        {"audio_format": "MP3", "language": "de", "assets": ["e"]},
    ]


def test_planned_again_each_asset_stays_in_its_batch_and_new_ones_follow() -> None:
    store = DictStore()
    first = planning.batches(["b", "d", "f"], store, size=2)
    assert first == [{"assets": ["b", "d"]}, {"assets": ["f"]}]
    again = planning.batches(["a", "b", "e", "f"], store, size=2)
    assert again == [*first, {"assets": ["a", "e"]}], "also d stays: its batch may be at work on it"
    assert planning.batches([], store, size=2) == again
    assert planning.batches([], DictStore()) == []


def test_intervals_give_each_video_once_also_on_their_borders(standin: Standin, connection: str) -> None:
    hours = 3 * 24
    videos = standin.add_virtual(
        hours + 1, created_from=MIDNIGHT, created_to=MIDNIGHT + timedelta(hours=hours), title="one title"
    )
    standin.add_virtual(1, created_from=MIDNIGHT, created_to=MIDNIGHT, video_type="MP3")
    days = [MIDNIGHT + timedelta(days=number) for number in range(4)]
    found = [planning.new_videos(start, start + timedelta(days=1), connection) for start in days]
    assert found == [videos[:24], videos[24:48], videos[48:72], videos[72:]]


def test_transcripts_go_beside_their_audio(tmp_path: Path, connection: str) -> None:
    x, y = (tmp_path / "x").as_uri(), (tmp_path / "y").as_uri()
    records: list[dict[str, object]] = [
        {"asset": "a", "uri": f"{x}/a.mp3"},
        {"asset": "b", "uri": "vod://vod_default/1"},
        {"asset": "c", "uri": f"{y}/c.mp3"},
        {"asset": "a", "uri": f"{x}/a.mp3", "size": 2},
        {"asset": "d", "uri": f"{x}/d.mp3"},
    ]
    store = DictStore()
    assert planning.audio_batches(records, store) == [
        {"destination": x, "audio": [records[3], records[4]]},
        {"destination": None, "audio": [records[1]]},
        {"destination": y, "audio": [records[2]]},
    ]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "d.srt").write_text("1")
    assert planning.audio_batches(records, store)[0]["audio"] == [records[3]], "d was transcribed before"
    assert store.values[PLAN_KEY] == {"assets": 3, "before": 1}
    assert planning.audio_batches(records, store, force=True)[0]["audio"] == [records[3], records[4]]
