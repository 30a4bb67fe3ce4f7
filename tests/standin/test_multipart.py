"""Multipart uploads: grants of VOD, and requests to storage as its S3-compatible interface takes them."""

from __future__ import annotations

import base64
import hashlib
import re
from xml.etree import ElementTree

import httpx
import pytest

from vod.standin import running

PART = 100 * 1024


class Upload:
    """One multipart upload of a new asset."""

    def __init__(self, vod, **fields):
        self.vod = vod
        created = vod.create(**fields)
        self.asset_id = created["asset_id"]
        self.target = created["target"]
        self.id = None

    def grant(self, method, **query):
        answer = self.vod.http.get(
            f"{self.vod.standin.url}/v1.1/{self.vod.project}/asset/authority",
            params={
                "http_verb": method,
                "bucket": self.target["bucket"],
                "object_key": self.target["object"],
                **query,
            },
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["sign_str"]

    def initiate(self):
        answer = httpx.post(self.grant("POST")).raise_for_status()
        self.id = ElementTree.fromstring(answer.content).findtext("{*}UploadId")
        return self

    def part(self, number, content):
        url = self.grant("PUT", upload_id=self.id, part_number=number)
        return httpx.put(url, content=content).raise_for_status().headers["ETag"]

    def complete(self, *parts, body=None):
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts
        )
        whole = body or f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        return httpx.post(self.grant("POST", upload_id=self.id), content=whole)

    def confirm(self):
        return self.vod.post("/status/uploaded", {"asset_id": self.asset_id, "status": "CREATED"})


@pytest.fixture
def upload(shared):
    return Upload(shared).initiate()


def refused(answer, status, code):
    assert answer.status_code == status, answer.text
    assert ElementTree.fromstring(answer.content).findtext("Code") == code


def test_from_parts_to_an_asset(vod, media):
    content = (media / "clip.mp4").read_bytes()
    content += b"\0" * (2 * PART + 17)  # behind the end of an MP4 anything may stand
    upload = Upload(vod).initiate()
    chunks = [content[start : start + PART] for start in range(0, len(content), PART)]
    etags = {}
    for number in (3, 1, 2):
        etags[number] = upload.part(number, chunks[number - 1])
    assert etags[1] == f'"{hashlib.md5(chunks[0]).hexdigest()}"'
    listed = ElementTree.fromstring(httpx.get(upload.grant("GET", upload_id=upload.id)).content)
    assert [
        (part.findtext("{*}PartNumber"), part.findtext("{*}ETag"), part.findtext("{*}Size"))
        for part in listed.iterfind("{*}Part")
    ] == [(str(number), etags[number], str(len(chunks[number - 1]))) for number in (1, 2, 3)]
    answer = upload.complete(*sorted(etags.items()))
    assert answer.status_code == 200
    assert re.fullmatch(r'"[0-9a-f]{32}-3"', ElementTree.fromstring(answer.content).findtext("{*}ETag"))
    assert upload.confirm().status_code == 200
    base = vod.details(upload.asset_id)["base_info"]
    assert httpx.get(base["sign_url"]).content == content
    vod.wait(vod.extract(upload.asset_id), "CREATED")
    [leftover] = (vod.standin.settings.data / "objects" / upload.asset_id).iterdir()
    assert leftover.suffix == ".mp4"


def test_an_upload_survives_a_restart(settings, connect):
    with running(settings) as standin, connect(standin) as vod:
        upload = Upload(vod).initiate()
        first = upload.part(1, b"a" * PART)
    with running(settings) as standin, connect(standin) as vod:
        upload.vod = vod
        second = upload.part(2, b"b")
        assert upload.complete((1, first), (2, second)).status_code == 200
        assert upload.confirm().status_code == 200
        content = httpx.get(vod.details(upload.asset_id)["base_info"]["sign_url"]).content
    assert content == b"a" * PART + b"b"


# --- parts ----------------------------------------------------------------------------------------


def test_a_part_can_be_sent_again(upload):
    old = upload.part(1, b"x" * 5)
    for _ in range(2):
        etag = upload.part(1, b"y" * 5)
    listed = httpx.get(upload.grant("GET", upload_id=upload.id)).text
    assert listed.count("<PartNumber>1</PartNumber>") == 1
    refused(upload.complete((1, old)), 400, "InvalidPart")
    assert upload.complete((1, etag)).status_code == 200


def test_a_checksum_that_is_promised(upload):
    promised = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    url = upload.grant("PUT", upload_id=upload.id, part_number=1, content_md5=promised)
    refused(httpx.put(url, content=b"x"), 403, "SignatureDoesNotMatch")
    headers = {"Content-MD5": promised}
    refused(httpx.put(url, content=b"y", headers=headers), 400, "BadDigest")
    assert httpx.put(url, content=b"x", headers=headers).status_code == 200


def test_a_content_type_that_is_granted(upload):
    url = upload.grant("PUT", upload_id=upload.id, part_number=1, content_type="video/mp4")
    refused(httpx.put(url, content=b"x"), 403, "SignatureDoesNotMatch")
    assert httpx.put(url, content=b"x", headers={"Content-Type": "video/mp4"}).status_code == 200


def test_a_grant_is_for_one_part_of_one_upload(shared, upload):
    url = upload.grant("PUT", upload_id=upload.id, part_number=1)
    for other in (
        url.replace("partNumber=1", "partNumber=2"),
        url.replace(upload.id, "0" * 32),
        re.sub(r"partNumber=1&uploadId=\w+&", "", url),
        re.sub(r"partNumber=1&uploadId=\w+&", "uploads&", url),
    ):
        refused(httpx.put(other, content=b"x"), 403, "SignatureDoesNotMatch")
    refused(httpx.delete(url), 403, "SignatureDoesNotMatch")


def test_an_unknown_upload(upload):
    for upload_id in ("0" * 32, "..", "../..", "x&y"):
        url = upload.grant("PUT", upload_id=upload_id, part_number=1)
        refused(httpx.put(url, content=b"x"), 404, "NoSuchUpload")


def test_abort(upload):
    upload.part(1, b"x")
    answer = httpx.delete(upload.grant("DELETE", upload_id=upload.id))
    assert (answer.status_code, answer.content) == (204, b"")
    refused(upload.complete((1, '"x"')), 404, "NoSuchUpload")
    assert upload.confirm().json()["error_code"] == "VOD.10126"


# --- complete -------------------------------------------------------------------------------------


def test_parts_that_did_not_come(upload):
    etag = upload.part(1, b"x")
    refused(upload.complete((1, etag), (2, etag)), 400, "InvalidPart")
    refused(upload.complete((1, '"0"')), 400, "InvalidPart")


def test_another_order(upload):
    etag = upload.part(1, b"x")
    refused(upload.complete((2, etag), (1, etag)), 400, "InvalidPartOrder")


def test_parts_that_are_too_small(upload):
    parts = [(number, upload.part(number, b"x" * (PART - 1))) for number in (1, 2)]
    refused(upload.complete(*parts), 400, "EntityTooSmall")
    assert upload.complete(parts[0]).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"<CompleteMultipartUpload/>",
        b"<Else><Part><PartNumber>1</PartNumber></Part></Else>",
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
        b'<?xml version="1.0" encoding="nonsense"?><CompleteMultipartUpload/>',
        b'<!DOCTYPE x [<!ENTITY y "z">]><CompleteMultipartUpload>&y;</CompleteMultipartUpload>',
        b" " * (5 * 1024 * 1024),
    ],
)
def test_a_list_that_is_none(upload, body):
    refused(upload.complete(body=body), 400, "MalformedXML")


def test_with_the_namespace_of_s3(upload):
    etag = upload.part(7, b"x")
    body = (
        '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Part>'
        f"<ETag>{etag}</ETag><PartNumber>7</PartNumber></Part></CompleteMultipartUpload>"
    )
    assert upload.complete(body=body).status_code == 200


# --- grants ---------------------------------------------------------------------------------------


def ask(shared, upload, **changes):
    query = {
        "http_verb": "PUT",
        "bucket": upload.target["bucket"],
        "object_key": upload.target["object"],
        "upload_id": "x",
        "part_number": 1,
        **changes,
    }
    query = {name: value for name, value in query.items() if value is not None}
    answer = shared.http.get(f"{shared.standin.url}/v1.1/{shared.project}/asset/authority", params=query)
    return answer.status_code, answer.json().get("error_code"), answer.json().get("error_msg", "")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"http_verb": None}, "http_verb"),
        ({"http_verb": "PATCH"}, "http_verb"),
        ({"bucket": None}, "bucket"),
        ({"object_key": ""}, "object_key"),
        ({"upload_id": None}, "upload_id"),
        ({"part_number": None}, "part_number"),
        ({"part_number": 0}, "part_number"),
        ({"part_number": 10_001}, "part_number"),
        ({"part_number": "x"}, "part_number"),
        ({"http_verb": "GET"}, "part_number"),
        ({"http_verb": "DELETE", "upload_id": None, "part_number": None}, "upload_id"),
    ],
)
def test_illegal(shared, upload, changes, field):
    status, code, message = ask(shared, upload, **changes)
    assert (status, code) == (403, "VOD.10053")
    assert f"{{{field}}}" in message


@pytest.mark.parametrize(
    "changes", [{"bucket": "other"}, {"object_key": "x"}, {"object_key": f"p/{'f' * 32}/x.mp4"}]
)
def test_an_unknown_object(shared, upload, changes):
    assert ask(shared, upload, **changes)[:2] == (403, "VOD.10062")


def test_an_asset_that_is_no_longer_uploaded(shared, upload):
    shared.post("/status/uploaded", {"asset_id": upload.asset_id, "status": "CANCELLED"})
    assert ask(shared, upload)[:2] == (403, "VOD.10135")
