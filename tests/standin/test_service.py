"""The calls of sections 3 to 7 of the contract."""

from __future__ import annotations

import calendar
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import httpx
import pytest

from vod import media as vod_media
from vod.standin import Behaviour


@pytest.fixture(scope="module")
def clip(shared, media):
    return shared.standin.add(media / "clip.mp4", title="Größe 1")


@pytest.fixture
def source(vod, media):
    return vod.standin.add(media / "clip.mp4")


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["error_code"]) == (status, code), answer.text
    return answer.json()["error_msg"]


def illegal(answer, field, status=400):
    assert (
        refused(answer, status, "VOD.10053")
        == f"The request parameter is illegal, illegal field: {{{field}}}."
    )


# --- extract audio: Section 3 and its table of errors.


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b'{"asset_id": ', "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 100_000, "body"),
        (b'["x"]', "body"),
        (b"null", "body"),
        (b"{}", "asset_id"),
        (b'{"asset_id": ""}', "asset_id"),
        (b'{"asset_id": 5412}', "asset_id"),
        (b'{"asset_id": ["x"]}', "asset_id"),
        (b'{"asset_id": "\\ud800"}', "asset_id"),
        (b'{"asset_id": "x", "parameter": null}', "parameter"),
        (b'{"asset_id": "x", "parameter": "MP3"}', "parameter"),
        (b'{"asset_id": "x", "parameter": {"format": null}}', "format"),
        (b'{"asset_id": "x", "parameter": {"format": "mp3"}}', "format"),
        (b'{"asset_id": "x", "parameter": {"format": "WAV"}}', "format"),
    ],
)
def test_bad_field_or_bad_json(shared, body, field):
    illegal(shared.http.post(shared.root + "/extract_audio", content=body), field)


def test_unknown_source(shared):
    message = refused(shared.post("/extract_audio", {"asset_id": "f" * 32}), 400, "VOD.10062")
    assert message == "Media asset or resource does not exist, please check."


def test_source_still_being_created(shared):
    refused(shared.post("/extract_audio", {"asset_id": shared.create()["asset_id"]}), 400, "VOD.10083")


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_source_whose_upload_failed(shared, status):
    asset_id = shared.create()["asset_id"]
    shared.post("/status/uploaded", {"asset_id": asset_id, "status": status})
    refused(shared.post("/extract_audio", {"asset_id": asset_id}), 400, "VOD.10083")


def test_deleted_source(vod, source):
    assert vod.delete("", asset_id=source).status_code == 200
    refused(vod.post("/extract_audio", {"asset_id": source}), 400, "VOD.10062")


def test_audio_source(vod, source):
    audio = vod.extract(source)
    vod.wait(audio, "CREATED")
    refused(vod.post("/extract_audio", {"asset_id": audio}), 403, "VOD.10063")


def test_the_same_codes_with_the_other_status(vod):
    vod.standin.behaviour.refusal_status = 403
    refused(vod.post("/extract_audio", {"asset_id": "f" * 32}), 403, "VOD.10062")
    refused(vod.post("/extract_audio", {"asset_id": vod.create()["asset_id"]}), 403, "VOD.10083")
    illegal(vod.post("/extract_audio", {}), "asset_id", status=403)


@pytest.mark.parametrize("parameter", [{}, {"parameter": {}}, {"parameter": {"format": "MP3"}}])
def test_mp3_is_the_default(vod, source, parameter):
    answer = vod.post("/extract_audio", {"asset_id": source, **parameter})
    assert answer.status_code == 202
    assert set(answer.json()) == {"asset_id", "audio_asset_id"}
    assert answer.json()["asset_id"] == source
    audio = vod.info(answer.json()["audio_asset_id"])[0]["base_info"]
    assert (audio["video_type"], audio["video_name"]) == ("MP3", "clip.mp3")


def test_a_second_call_makes_a_second_asset(vod, source):
    assert vod.extract(source) != vod.extract(source)
    assert vod.stats()["submissions"] == {source: 2}


def test_the_audio_is_told_from_its_source_by_description(vod, source):
    audio = vod.extract(source, "AAC")
    listed = {
        asset["asset_id"]: asset for asset in vod.get("/list", query_string="clip", size=100).json()["assets"]
    }
    assert listed[audio]["title"] == listed[source]["title"] == "clip"
    assert listed[audio]["media_type"] == "AAC"
    assert "extracted" in listed[audio]["description"]
    assert listed[source]["description"] == ""


# --- cancel: Section 4.


@pytest.fixture
def held(settings):
    settings.behaviour.queue_seconds = 3600


@pytest.mark.usefixtures("held")
def test_by_the_source_every_queued_extraction(vod, source, media):
    mine = [vod.extract(source), vod.extract(source)]
    other = vod.extract(vod.standin.add(media / "clip.mp4"))
    answer = vod.delete("/extract_audio", asset_id=source)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [vod.status(audio) for audio in [*mine, other]] == [
        "CANCELLED",
        "CANCELLED",
        "WAITING_TRANSCODE",
    ]
    assert vod.stats()["cancels_by_id"] == {"source": 1, "audio": 0}


@pytest.mark.usefixtures("held")
def test_by_the_audio_only_that_one(vod, source):
    kept, cancelled = vod.extract(source), vod.extract(source)
    assert vod.delete("/extract_audio", asset_id=cancelled).status_code == 204
    assert vod.stats()["cancels_by_id"] == {"source": 0, "audio": 1}
    vod.standin.behaviour.queue_seconds = 0
    vod.wait(kept, "CREATED")
    assert vod.status(cancelled) == "CANCELLED"
    refused(vod.delete("/extract_audio", asset_id=cancelled), 400, "VOD.10083")


@pytest.mark.usefixtures("held")
def test_a_running_one_is_left(vod, source):
    vod.standin.behaviour.queue_seconds = 0
    vod.standin.behaviour.running_seconds = 3600
    audio = vod.extract(source)
    vod.wait(audio, "TRANSCODING")
    for asset_id in (source, audio):
        message = refused(vod.delete("/extract_audio", asset_id=asset_id), 400, "VOD.10083")
        assert message == "The current media asset status does not support this operation."
    vod.standin.behaviour.running_seconds = 0
    vod.wait(audio, "CREATED")
    refused(vod.delete("/extract_audio", asset_id=audio), 400, "VOD.10083")


@pytest.mark.usefixtures("held")
def test_an_unknown_asset(vod):
    refused(vod.delete("/extract_audio", asset_id="f" * 32), 400, "VOD.10062")


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("query", [{}, {"asset_id": ""}, {"asset_id": ["a", "b"]}])
def test_exactly_one_asset(vod, query):
    illegal(vod.delete("/extract_audio", **query), "asset_id")


@pytest.mark.usefixtures("held")
def test_a_cancelled_one_is_no_longer_listed(vod, source):
    audio = vod.extract(source)
    vod.delete("/extract_audio", asset_id=audio)
    assert audio not in [asset["asset_id"] for asset in vod.get("/list").json()["assets"]]
    [by_id] = vod.get("/list", asset_id=audio).json()["assets"]
    assert by_id["asset_status"] == "DELETED"


# --- info: Section 5.


def test_an_uploaded_video(shared, clip):
    [element] = shared.info(clip)
    assert (element["status"], element["description"], element["play_info_array"]) == (
        "PUBLISHED",
        "",
        [],
    )
    base = element["base_info"]
    assert (base["title"], base["video_name"], base["video_type"]) == ("Größe 1", "clip.mp4", "MP4")
    assert (base["category_id"], base["category_name"], base["tags"]) == (-1, "其他", None)
    assert base["sign_url"] == ""
    assert base["sourch_path"] == base["source_path"]
    assert time.strptime(base["create_time"], "%Y%m%d%H%M%S")
    meta = base["meta_data"]
    assert (meta["codec"], meta["audio_codec"], meta["audio_channels"]) == ("MPEG-4", "AAC", 1)
    assert (meta["width"], meta["hight"], meta["height"], meta["quality"]) == (64, 48, 48, "FLUENT")
    assert meta["duration"] == 1
    assert 900 <= meta["duration_ms"] <= 1200


def test_known_ones_come_newest_first_and_unknown_ones_last(shared, clip, media):
    newer = shared.standin.add(media / "clip.mp4")
    answer = shared.get("/info", asset_id=["f" * 32, clip, newer, clip]).json()
    assert [element["asset_id"] for element in answer["asset_info_array"]] == [newer, clip, "f" * 32]
    assert answer["asset_info_array"][2] == {
        "asset_id": "f" * 32,
        "status": "NO_ASSET",
        "description": "no asset",
    }
    assert (answer["is_truncated"], answer["total"]) == (0, 3)


def test_a_comma_list_is_one_unknown_id(shared, clip):
    assert [element["status"] for element in shared.info(f"{clip},{clip}")] == ["NO_ASSET"]


def test_ten_ids_at_most(shared):
    assert len(shared.info(*(f"{number:032}" for number in range(10)))) == 10
    illegal(shared.get("/info", asset_id=[f"{number:032}" for number in range(11)]), "asset_id")


def test_a_filter_hides_an_asset(shared, clip):
    def found(**query):
        return len(shared.get("/info", asset_id=clip, **query).json()["asset_info_array"])

    assert (
        found(status="PUBLISHED")
        == found(transcodeStatus="UN_TRANSCODE")
        == found(assetStatus="PUBLISHED")
        == 1
    )
    assert found(status=["CREATED", "PUBLISHED"]) == 1
    assert (
        found(status="CREATED") == found(transcodeStatus="TRANSCODING") == found(assetStatus="CREATED") == 0
    )


def test_pages_are_ignored_with_ids_and_cut_without(vod, media):
    newest_first = [vod.standin.add(media / "clip.mp4") for _ in range(3)][::-1]
    assert len(vod.get("/info", asset_id=newest_first, size=0, page=9).json()["asset_info_array"]) == 3
    pages = [vod.get("/info", page=page, size=2).json() for page in range(3)]
    assert [[asset["asset_id"] for asset in page["asset_info_array"]] for page in pages] == [
        newest_first[:2],
        newest_first[2:],
        [],
    ]
    assert [(page["is_truncated"], page["total"]) for page in pages] == [(1, 3), (0, 3), (0, 3)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"asset_id": ""}, "asset_id"),
        ({"status": "READY"}, "status"),
        ({"transcodeStatus": "CREATED"}, "transcodeStatus"),
        ({"size": 0}, "size"),
        ({"size": 101}, "size"),
        ({"size": "ten"}, "size"),
        ({"page": -1}, "page"),
        ({"page": 200, "size": 100}, "page"),
        ({"start_time": "2024-01-02"}, "start_time"),
        ({"end_time": "20241399000000"}, "end_time"),
        ({"category_id": "x"}, "category_id"),
    ],
)
def test_info_illegal_parameters(shared, query, field):
    illegal(shared.get("/info", **query), field)


def test_the_last_reachable_page(shared):
    assert shared.get("/info", page=199, size=100).json()["asset_info_array"] == []


# --- details: Section 6.


@pytest.mark.parametrize(
    "categories", [None, "", "base_info", "base_info,transcode_info", ["transcode_info", "base_info"]]
)
def test_base_info_with_a_signed_url_and_without_a_status(shared, clip, categories):
    query = {} if categories in (None, "") else {"categories": categories}
    answer = shared.get("/details", asset_id=clip, **query).json()
    assert set(answer) == {"asset_id", "base_info"}
    assert "Signature=" in answer["base_info"]["sign_url"]


def test_only_what_was_asked_for(shared, clip):
    assert shared.get("/details", asset_id=clip, categories="review_info").json() == {"asset_id": clip}


def test_refusals(shared, clip):
    refused(shared.get("/details", asset_id="f" * 32), 403, "VOD.10062")
    illegal(shared.get("/details"), "asset_id", status=403)
    illegal(shared.get("/details", asset_id=clip, categories="all"), "categories", status=403)


# --- list: Section 7.


def test_the_split_of_the_status(vod, media):
    settings = vod.standin.behaviour
    settings.queue_seconds = 3600
    source = vod.standin.add(media / "clip.mp4")
    queued = vod.extract(source)
    created = vod.create()["asset_id"]
    states = {
        asset["asset_id"]: (asset["asset_status"], asset["transcode_status"])
        for asset in vod.get("/list").json()["assets"]
    }
    assert states == {
        source: ("PUBLISHED", "UN_TRANSCODE"),
        queued: ("CREATED", "WAITING_TRANSCODE"),
        created: ("CREATING", "UN_TRANSCODE"),
    }


def test_names_that_differ_from_info(shared, clip):
    [listed] = shared.get("/list", asset_id=clip).json()["assets"]
    base = shared.info(clip)[0]["base_info"]
    assert listed["original_url"] == base["video_url"]
    assert listed["size"] == base["meta_data"]["video_size"] > 0
    assert listed["category"] == "其他"


@pytest.mark.parametrize("types", ["MP3,AAC", ["MP3", "AAC"], ["MP3,MP4", "AAC"]])
def test_lists_with_commas_and_repeated(vod, source, types):
    audios = [vod.extract(source, "AAC"), vod.extract(source)]
    expected = [*audios[::-1], source] if "MP3,MP4" in types else audios[::-1]
    listed = vod.get("/list", media_type=types).json()
    assert [asset["asset_id"] for asset in listed["assets"]] == expected
    assert listed["total"] == len(expected)


def test_the_window_is_inclusive_on_both_ends(shared, clip):
    moment = shared.info(clip)[0]["base_info"]["create_time"]
    listed = shared.get("/list", start_time=moment, end_time=moment).json()["assets"]
    assert clip in [asset["asset_id"] for asset in listed]
    assert shared.get("/list", start_time="20010101000000", end_time="20010102000000").json() == {
        "total": 0,
        "assets": [],
    }


def test_pages_and_order(vod, media):
    oldest_first = [vod.standin.add(media / "clip.mp4") for _ in range(3)]

    def ids(**query):
        return [asset["asset_id"] for asset in vod.get("/list", **query).json()["assets"]]

    assert ids(size=2) + ids(size=2, page=1) == oldest_first[::-1]
    assert ids(order="asc") == oldest_first
    assert vod.get("/list", size=2, page=5).json() == {"total": 3, "assets": []}


def test_tags_category_and_text(vod):
    mine = vod.create(tags="news,berlin", category_id="7", title="Talk 100%")["asset_id"]
    vod.create(tags="new", category_id=8)

    def ids(**query):
        return [asset["asset_id"] for asset in vod.get("/list", **query).json()["assets"]]

    assert ids(tags="news") == ids(category_id=7) == ids(query_string="talk 100%") == [mine]
    assert ids(tags="ews") == ids(query_string="%")[1:] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": 101}, "size"),
        ({"page": 1000, "size": 20}, "page"),
        ({"start_time": "20240102"}, "start_time"),
        ({"status": "WAITING_TRANSCODE"}, "status"),
        ({"media_type": "mp3"}, "media_type"),
        ({"asset_id": ",".join(map(str, range(11)))}, "asset_id"),
        ({"order": "up"}, "order"),
    ],
)
def test_list_illegal_parameters(shared, query, field):
    illegal(shared.get("/list", **query), field)


# --- upload: Section 8: create and confirm.


def test_the_way_of_a_file(vod, media):
    content = (media / "clip.mp4").read_bytes()
    created = vod.create(title="-rf 'x' \"y\"", video_name="../../etc/passwd.mp4", auto_publish=0)
    asset_id = created["asset_id"]
    assert vod.status(asset_id) == "CREATING"
    put = httpx.put(created["video_upload_url"], content=content, headers={"Content-Type": "video/mp4"})
    assert put.status_code == 200
    confirmed = vod.post("/status/uploaded", {"asset_id": asset_id, "status": "CREATED"})
    assert (confirmed.status_code, confirmed.json()) == (200, {"asset_id": asset_id})
    [element] = vod.info(asset_id)
    assert element["status"] == "CREATED"
    assert element["base_info"]["title"] == "-rf 'x' \"y\""
    assert element["base_info"]["meta_data"]["video_size"] == len(content)


@pytest.mark.parametrize(("auto_publish", "status"), [({}, "PUBLISHED"), ({"auto_publish": 0}, "CREATED")])
def test_publishing_is_the_default(vod, auto_publish, status):
    created = vod.create(**auto_publish)
    httpx.put(created["video_upload_url"], content=b"x", headers={"Content-Type": "video/mp4"})
    vod.post("/status/uploaded", {"asset_id": created["asset_id"], "status": "CREATED"})
    assert vod.status(created["asset_id"]) == status


def test_confirming_what_was_not_uploaded(shared):
    asset_id = shared.create()["asset_id"]
    message = refused(
        shared.post("/status/uploaded", {"asset_id": asset_id, "status": "CREATED"}), 403, "VOD.10126"
    )
    assert message == "Nothing was uploaded to the media asset."


def test_confirming_twice(shared, clip):
    refused(shared.post("/status/uploaded", {"asset_id": clip, "status": "CREATED"}), 403, "VOD.10126")


def test_confirming_twice_at_once(vod, media, monkeypatch):
    created = vod.create()
    httpx.put(created["video_upload_url"], content=b"x", headers={"Content-Type": "video/mp4"})
    both_are_read = threading.Barrier(2, timeout=20)

    def probe(source):
        both_are_read.wait()
        return vod_media.probe(source)

    monkeypatch.setattr("vod.standin.uploads.probe", probe)
    body = {"asset_id": created["asset_id"], "status": "CREATED"}
    with ThreadPoolExecutor() as threads:
        answers = threads.map(lambda _: vod.post("/status/uploaded", body).status_code, range(2))
    assert sorted(answers) == [200, 403]


@pytest.mark.parametrize(("said", "status"), [("FAILED", "UPLOAD_FAILED"), ("CANCELLED", "CANCELLED")])
def test_confirming_a_failure(shared, said, status):
    asset_id = shared.create()["asset_id"]
    assert shared.post("/status/uploaded", {"asset_id": asset_id, "status": said}).status_code == 200
    assert shared.status(asset_id) == status


def test_confirming_nonsense(shared, clip):
    refused(shared.post("/status/uploaded", {"asset_id": "f" * 32, "status": "CREATED"}), 403, "VOD.10062")
    illegal(shared.post("/status/uploaded", {"asset_id": clip, "status": "PUBLISHED"}), "status", status=403)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": None}, "title"),
        ({"title": "ü" * 65}, "title"),
        ({"video_name": ""}, "video_name"),
        ({"video_type": "mp4"}, "video_type"),
        ({"video_type": "EXE"}, "video_type"),
        ({"auto_publish": 2}, "auto_publish"),
        ({"auto_publish": True}, "auto_publish"),
        ({"category_id": 10**30}, "category_id"),
        ({"tags": ",".join("x" * 17)}, "tags"),
        ({"tags": "x" * 25}, "tags"),
        ({"description": "x" * 1025}, "description"),
    ],
)
def test_illegal_fields(shared, fields, field):
    body = {"title": "clip", "video_name": "clip.mp4", "video_type": "MP4", **fields}
    illegal(shared.post("", body), field, status=403)


# --- publish and delete: Section 8: publish, unpublish and delete.


def test_publish_and_unpublish(vod, source):
    def change(how):
        answer = vod.post(f"/status/{how}", {"asset_id": [source, "f" * 32]})
        assert answer.status_code == 200
        return answer.json()["asset_info_array"]

    done, unknown = change("unpublish")
    assert done["status"] == vod.status(source) == "CREATED"
    assert unknown == {"asset_id": "f" * 32, "status": " UNCREATED", "description": "no asset"}
    done, _ = change("publish")
    assert done["status"] == vod.status(source) == "PUBLISHED"
    assert done["description"] == "Asset meta is published"


def test_what_is_not_finished_is_not_published(vod):
    asset_id = vod.create()["asset_id"]
    [element] = vod.post("/status/publish", {"asset_id": [asset_id]}).json()["asset_info_array"]
    assert element["status"] == vod.status(asset_id) == "CREATING"


@pytest.mark.parametrize("body", [{}, {"asset_id": "x"}, {"asset_id": []}, {"asset_id": [1]}])
def test_publish_takes_an_array(shared, body):
    illegal(shared.post("/status/publish", body), "asset_id", status=403)


def test_delete_with_commas_and_repeated(vod, media):
    first, second, third = (vod.standin.add(media / "clip.mp4") for _ in range(3))
    url = vod.details(first)["base_info"]["sign_url"]
    answer = vod.delete("", asset_id=[f"{first},{second}", third, "f" * 32])
    results = {result["asset_id"]: result["status"] for result in answer.json()["delete_result_array"]}
    assert results == {first: "DELETED", second: "DELETED", third: "DELETED", "f" * 32: "FAILED"}
    assert vod.status(first) == "DELETED"
    assert vod.get("/list").json()["total"] == 0
    refused(vod.get("/details", asset_id=first), 403, "VOD.10062")
    assert httpx.get(url).status_code == 404
    assert vod.delete("", asset_id=first).json()["delete_result_array"][0]["status"] == "FAILED"


def test_what_is_in_processing_is_not_deleted(vod, source):
    vod.standin.behaviour.queue_seconds = 3600
    audio = vod.extract(source)
    results = vod.delete("", asset_id=[source, audio]).json()["delete_result_array"]
    assert [result["status"] for result in results] == ["FAILED", "FAILED"]
    vod.standin.behaviour.queue_seconds = 0
    vod.wait(audio, "CREATED")


def test_delete_nothing(shared):
    illegal(shared.delete(""), "asset_id", status=403)


@pytest.mark.parametrize("ahead", [-600, 600])
def test_another_clock(vod, media, ahead):
    vod.standin.behaviour.clock_ahead = ahead
    now = time.time() + ahead
    [audio] = vod.info(vod.extract(vod.standin.add(media / "clip.mp4")))
    created = calendar.timegm(time.strptime(audio["base_info"]["create_time"], "%Y%m%d%H%M%S"))
    assert created == pytest.approx(now, abs=10)
    answer = vod.get("/list")
    assert answer.headers.get_list("date") == [answer.headers["date"]]
    assert parsedate_to_datetime(answer.headers["date"]).timestamp() == pytest.approx(now, abs=10)


def test_a_clock_that_is_too_far_off_refuses_signatures(vod):
    vod.standin.behaviour.clock_ahead = 16 * 60
    answer = vod.get("/list")
    assert (answer.status_code, answer.json()["error_code"]) == (401, "APIGW.0301")


def test_a_list_that_lags(vod, media):
    [old] = vod.standin.add_virtual(1, created_from="20240101000000")
    vod.standin.behaviour.list_lag = 3600
    new = vod.standin.add(media / "clip.mp4")
    answer = vod.get("/list").json()
    assert (answer["total"], [asset["asset_id"] for asset in answer["assets"]]) == (1, [old])
    assert vod.status(new) == "PUBLISHED", "only the list lags"
    vod.standin.behaviour.list_lag = 0
    assert vod.get("/list").json()["total"] == 2


def test_the_defaults_are_an_ordinary_service():
    usual = Behaviour()
    assert (usual.final_status, usual.refusal_status, usual.quota_scale) == ("CREATED", 400, 1)
    assert not any((usual.queue_seconds, usual.running_seconds, usual.no_asset_polls, usual.missing_polls))
