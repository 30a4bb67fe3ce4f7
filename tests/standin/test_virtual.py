"""Load tests: assets without contents, and extractions without work."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import httpx
import pytest

from vod.standin import running
from vod.standin.faults import parse

MONDAY = datetime(2024, 1, 1, tzinfo=timezone.utc)
SUNDAY = datetime(2024, 1, 7, tzinfo=timezone.utc)


def listed(vod, **query):
    return vod.get("/list", **query).json()


def test_ten_thousand_assets_of_a_week(vod):
    started = time.process_time()
    ids = vod.standin.add_virtual(10_000, created_from=MONDAY, created_to=SUNDAY, title="talk {number}")
    assert time.process_time() - started < 3
    assert len(set(ids)) == 10_000
    newest = listed(vod, size=2)
    assert newest["total"] == 10_000
    assert [asset["asset_id"] for asset in newest["assets"]] == ids[:-3:-1]
    assert [asset["title"] for asset in newest["assets"]] == ["talk 10000", "talk 9999"]
    assert newest["assets"][0]["create_time"] == "20240107000000"
    assert listed(vod, order="asc", size=1)["assets"][0]["create_time"] == "20240101000000"
    tuesday = listed(vod, start_time="20240102000000", end_time="20240102235959")
    assert 1660 <= tuesday["total"] <= 1670


def test_what_is_made_up(vod):
    [asset_id] = vod.standin.add_virtual(1, duration=90.5, tags="a,b", category_id=7, description="d")
    [element] = vod.info(asset_id)
    base = element["base_info"]
    assert element["status"] == "PUBLISHED"
    assert (base["title"], base["tags"], base["category_id"], base["description"]) == (
        "virtual 1",
        "a,b",
        7,
        "d",
    )
    assert (base["meta_data"]["duration"], base["meta_data"]["video_size"]) == (90, 22_625_000)
    details = vod.details(asset_id)["base_info"]
    for url in (details["sign_url"], details["video_url"]):
        assert httpx.get(url).status_code == 404


def test_new_assets_are_newer(vod, media):
    old = vod.standin.add_virtual(2, created_from=MONDAY, created_to=SUNDAY)
    new = vod.standin.add(media / "clip.mp4")
    older = vod.standin.add_virtual(1, created_from=MONDAY, created_to=MONDAY)
    order = [asset["asset_id"] for asset in listed(vod)["assets"]]
    assert order == [new, old[1], older[0], old[0]]


# --- extraction -----------------------------------------------------------------------------------


def test_of_a_virtual_asset(vod):
    [source] = vod.standin.add_virtual(1, duration=100)
    audio = vod.extract(source, "AAC")
    base = vod.wait(audio, "CREATED")["base_info"]
    assert (base["video_type"], base["video_name"]) == ("AAC", "virtual-1.m4a")
    meta = base["meta_data"]
    assert (meta["codec"], meta["duration"], meta["video_size"]) == ("AAC", 100, 1_600_000)
    assert list((vod.standin.settings.data / "objects").iterdir()) == []


def test_of_a_real_one_in_virtual_mode(settings, media, connect):
    settings.virtual = True
    with running(settings) as standin, connect(standin) as vod:
        garbage = standin.add(media / "garbage.mp4", title="no duration")
        audio = vod.extract(garbage)
        meta = vod.wait(audio, "CREATED", "TRANSCODE_FAILED")["base_info"]["meta_data"]
        assert 60 <= meta["duration"] < 3660
        assert meta["video_size"] == meta["duration"] * 16_000
        assert not (settings.data / "objects" / audio).exists()


def test_takes_the_time_it_is_told(vod):
    vod.standin.behaviour.running_seconds = 3600
    [source] = vod.standin.add_virtual(1)
    audio = vod.extract(source)
    vod.wait(audio, "TRANSCODING")
    vod.standin.behaviour.running_seconds = 0.1
    vod.wait(audio, "CREATED")


def test_can_be_made_to_fail(vod):
    [source] = vod.standin.add_virtual(1)
    vod.standin.behaviour.faults = [parse("fail,reason=no luck")]
    assert vod.wait(vod.extract(source), "TRANSCODE_FAILED")["description"] == "no luck"


def test_many_at_a_time(settings, connect, wait_until):
    settings.workers = 200
    settings.behaviour.running_seconds = 3600
    with running(settings) as standin, connect(standin) as vod:
        for source in standin.add_virtual(200):
            vod.extract(source)
        wait_until(lambda: vod.stats()["assets_by_status"].get("TRANSCODING") == 200)
        settings.behaviour.running_seconds = 0
        wait_until(lambda: vod.stats()["assets_by_status"].get("CREATED") == 200)
        assert vod.stats()["peak_parallel_extractions"] == 200


def test_goes_on_after_a_restart(settings, connect):
    settings.behaviour.running_seconds = 3600
    with running(settings) as standin, connect(standin) as vod:
        audio = vod.extract(standin.add_virtual(1)[0])
        vod.wait(audio, "TRANSCODING")
    settings.behaviour.running_seconds = 0
    with running(settings) as standin, connect(standin) as vod:
        vod.wait(audio, "CREATED")


# --- admin ----------------------------------------------------------------------------------------


def test_by_http(vod):
    body = {"count": 3, "created_from": "20240101000000", "created_to": "20240103000000"}
    answer = httpx.post(f"{vod.standin.url}/admin/assets", json=body)
    assert answer.status_code == 200
    times = [element["base_info"]["create_time"] for element in vod.info(*answer.json()["asset_ids"])]
    assert times == ["20240103000000", "20240102000000", "20240101000000"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "JSON"),
        ("[]", "valid dictionary"),
        ("{}", "count"),
        ('{"count": 0}', "count"),
        ('{"count": 1000000}', "count"),
        ('{"count": 1, "created_from": "yesterday"}', "created_from"),
        ('{"count": 1, "created_from": "20241301000000"}', "created_from"),
        ('{"count": 1, "created_from": "00010101000000"}', "created_from"),
        ('{"count": 1, "created_to": "0001-01-01T00:00:00Z"}', "created_to"),
        ('{"count": 1, "status": "DELETED"}', "status"),
        ('{"count": 1, "video_type": "mp4"}', "video_type"),
        ('{"count": 1, "title": "\\ud800"}', "title"),
        ('{"count": 1, "duration": 1e300}', "duration"),
        ('{"count": 1, "extra": 1}', "extra"),
    ],
)
def test_what_cannot_be_made_up(shared, body, complaint):
    answer = httpx.post(f"{shared.standin.url}/admin/assets", content=body)
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]
