"""Pre-signed uploads and downloads, ranges, and URLs that expire."""

from __future__ import annotations

import re

import httpx
import pytest

MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture
def clip(vod, media):
    return vod.standin.add(media / "clip.mp4")


@pytest.fixture
def upload_url(vod):
    return vod.create()["video_upload_url"]


def refused(answer, status, code):
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/xml"
    assert f"<Error><Code>{code}</Code><Message>" in answer.text


# --- upload ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video_type", "content_type"),
    [
        ("MP4", "video/mp4"),
        ("MOV", "video/quicktime"),
        ("FLV", "video/flv"),
        ("AVI", "video/x-msvideo"),
        ("TS", "video/mp2t"),
        ("MKV", "video/x-matroska"),
        ("WMV", "application/x-whatever"),
    ],
)
def test_the_content_type_of_the_container(vod, video_type, content_type):
    url = vod.create(video_type=video_type)["video_upload_url"]
    assert httpx.put(url, content=b"x", headers={"Content-Type": content_type}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/octet-stream"}])
def test_another_content_type(upload_url, headers):
    refused(httpx.put(upload_url, content=b"x", headers=headers), 403, "SignatureDoesNotMatch")


def test_credentials_have_no_business_here(vod, upload_url):
    for headers in ({"Authorization": "SDK-HMAC-SHA256 Access=x"}, {"X-Auth-Token": "x"}):
        refused(httpx.put(upload_url, content=b"x", headers={**MP4, **headers}), 400, "InvalidArgument")


def test_a_body_of_unknown_length(upload_url):
    refused(httpx.put(upload_url, content=iter([b"x"]), headers=MP4), 411, "MissingContentLength")


def test_upload_an_expired_url(vod):
    vod.standin.behaviour.link_seconds = 0
    url = vod.create()["video_upload_url"]
    refused(httpx.put(url, content=b"x", headers=MP4), 403, "AccessDenied")
    later = re.sub(r"Expires=(\d+)", lambda expires: f"Expires={int(expires[1]) + 60}", url)
    refused(httpx.put(later, content=b"x", headers=MP4), 403, "SignatureDoesNotMatch")


def test_a_url_of_another_object_or_method(vod, upload_url):
    other = vod.create()
    query = upload_url.partition("?")[2]
    moved = f"{other['video_upload_url'].partition('?')[0]}?{query}"
    refused(httpx.put(moved, content=b"x", headers=MP4), 403, "SignatureDoesNotMatch")
    refused(httpx.get(upload_url), 403, "SignatureDoesNotMatch")
    refused(httpx.put(upload_url.replace(".mp4", ".exe"), content=b"x", headers=MP4), 404, "NoSuchKey")


def test_once_more_before_the_confirmation_and_never_after(vod, media):
    created = vod.create(auto_publish=0)
    url = created["video_upload_url"]
    content = (media / "clip.mp4").read_bytes()
    for body in (b"x", content):
        assert httpx.put(url, content=body, headers=MP4).status_code == 200
    vod.post("/status/uploaded", {"asset_id": created["asset_id"], "status": "CREATED"})
    refused(httpx.put(url, content=b"x", headers=MP4), 403, "AccessDenied")
    assert httpx.get(vod.details(created["asset_id"])["base_info"]["sign_url"]).content == content


def test_a_connection_that_ends_early_leaves_nothing(vod, upload_url):
    def broken():
        yield b"x" * 100_000
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        httpx.put(upload_url, content=broken(), headers={**MP4, "Content-Length": "1000000"})
    asset_id = vod.get("/list").json()["assets"][0]["asset_id"]
    answer = vod.post("/status/uploaded", {"asset_id": asset_id, "status": "CREATED"})
    assert answer.json()["error_code"] == "VOD.10126"


# --- download -------------------------------------------------------------------------------------


def test_the_signed_url_serves_unpublished_assets_too(vod, clip, media):
    vod.post("/status/unpublish", {"asset_id": [clip]})
    answer = httpx.get(vod.details(clip)["base_info"]["sign_url"])
    assert answer.content == (media / "clip.mp4").read_bytes()
    assert answer.headers["Content-Type"] == "video/mp4"


def test_ranges(vod, clip, media):
    content = (media / "clip.mp4").read_bytes()
    base = vod.details(clip)["base_info"]
    for url in (base["sign_url"], base["video_url"]):
        part = httpx.get(url, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, content[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
        rest = httpx.get(url, headers={"Range": f"bytes={len(content) - 5}-"})
        assert (rest.status_code, rest.content) == (206, content[-5:])
        assert httpx.get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


def test_download_an_expired_url(vod, clip):
    vod.standin.behaviour.link_seconds = 0
    refused(httpx.get(vod.details(clip)["base_info"]["sign_url"]), 403, "AccessDenied")


def test_a_signature_is_needed_and_bound_to_the_method(vod, clip):
    url = vod.details(clip)["base_info"]["sign_url"]
    refused(httpx.get(url.partition("?")[0]), 403, "SignatureDoesNotMatch")
    assert httpx.head(url).status_code == 403


def test_the_content_network_refuses_what_is_not_published(vod, clip, media):
    url = vod.info(clip)[0]["base_info"]["video_url"]
    assert httpx.get(url).content == (media / "clip.mp4").read_bytes()
    vod.post("/status/unpublish", {"asset_id": [clip]})
    assert httpx.get(url).status_code == 403
    vod.standin.behaviour.cdn_serves_unpublished = True
    assert httpx.get(url).status_code == 200
    assert httpx.get(f"{url}.exe").status_code == 404


def test_urls_are_those_of_the_caller(vod, clip, settings):
    settings.names.append("standin.example")
    answer = vod.http.get(
        vod.root + "/info", params={"asset_id": clip}, headers={"Host": "standin.example:1234"}
    )
    [element] = answer.json()["asset_info_array"]
    assert element["base_info"]["video_url"].startswith("http://standin.example:1234/cdn/asset/")
