"""Huawei's own SDK and our client make the same tour of every call, and say the same on the wire."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkvod import v1 as sdk

from tests.cloud.conftest import Sent, Wire
from tests.conftest import client_of, settle, stats
from vod.cloud.assets import TIME_FORMAT, PullRequest
from vod.cloud.client import CLOCK_MARGIN
from vod.cloud.transfer import PART_SIZE
from vod.standin import Standin
from vod.standin.faults.rules import ApiCall

NOW = datetime.now(timezone.utc).replace(microsecond=0)
SINCE, UNTIL = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
LARGE = 20 * 1024 * 1024 + 1


class Helper:
    """What lies between the calls, off the wire that is listened to."""

    def __init__(self, standin: Standin, video: Path, folder: Path) -> None:
        self.standin, self.video = standin, video
        self.client = client_of(standin)
        self.large = folder / "large.mp4"
        with self.large.open("wb") as file:
            file.write(video.read_bytes())
            file.truncate(LARGE)
        self.url = self.client.asset_details(standin.add(video, title="origin")).signed_url or ""


def sdk_tour(url: str, helper: Helper) -> dict[str, Any]:
    settings = helper.standin.settings
    keys = BasicCredentials(settings.access_key, settings.secret_key, settings.project_id)
    client = sdk.VodClient.new_builder().with_credentials(keys).with_endpoint(url).build()

    def create(title: str, name: str) -> Any:
        body = sdk.CreateAssetByFileUploadReq(title=title, video_name=name, video_type="MP4", auto_publish=0)
        return client.create_asset_by_file_upload(sdk.CreateAssetByFileUploadRequest(body=body))

    def confirm(asset_id: str) -> None:
        body = sdk.ConfirmAssetUploadReq(asset_id=asset_id, status="CREATED")
        client.confirm_asset_upload(sdk.ConfirmAssetUploadRequest(body=body))

    def extract(audio_format: str) -> str:
        parameter = sdk.Parameter(format=audio_format)
        body = sdk.ExtractAudioTaskReq(asset_id=source, parameter=parameter)
        request = sdk.CreateExtractAudioTaskRequest(body=body)
        return str(client.create_extract_audio_task(request).audio_asset_id)

    created = create("Größe & 1", helper.video.name)
    source = created.asset_id
    content = {"Content-Type": "video/mp4"}
    httpx.put(created.video_upload_url, content=helper.video.read_bytes(), headers=content)
    confirm(source)

    big = create("large", helper.large.name)

    def grant(verb: str, **query: Any) -> str:
        request = sdk.ShowAssetTempAuthorityRequest(
            http_verb=verb, bucket=big.target.bucket, object_key=big.target.object, **query
        )
        return str(client.show_asset_temp_authority(request).sign_str)

    started = httpx.post(grant("POST", content_type="video/mp4"), headers=content).text
    upload_id = re.search("<UploadId>(.*)</UploadId>", started)[1]  # type: ignore[index]
    data, parts = helper.large.read_bytes(), ""
    for number, piece in enumerate((data[:PART_SIZE], data[PART_SIZE:]), 1):
        digest = _md5(piece)
        target = grant("PUT", upload_id=upload_id, part_number=number, content_md5=digest)
        tag = httpx.put(target, content=piece, headers={"Content-MD5": digest}).headers["ETag"]
        parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
    httpx.post(
        grant("POST", upload_id=upload_id, content_type="application/xml"),
        content=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>",
        headers={"Content-Type": "application/xml"},
    )
    confirm(big.asset_id)

    helper.standin.behaviour.queue_seconds = 3600
    queued = extract("AAC")
    client.cancel_extract_audio_task(sdk.CancelExtractAudioTaskRequest(asset_id=source))
    helper.standin.behaviour.queue_seconds = 0
    audio = extract("MP3")
    settle(helper.client, audio)
    ids = [audio, source, queued]
    info = client.show_asset_meta(sdk.ShowAssetMetaRequest(asset_id=ids)).asset_info_array
    listing = sdk.ListAssetListRequest(
        start_time=(SINCE - CLOCK_MARGIN).strftime(TIME_FORMAT),
        end_time=(UNTIL + CLOCK_MARGIN).strftime(TIME_FORMAT),
        media_type=["MP3", "AAC"],
        page=0,
        size=100,
    )
    listed = client.list_asset_list(listing).assets
    details = client.show_asset_detail(sdk.ShowAssetDetailRequest(asset_id=audio, categories=["base_info"]))
    downloaded = httpx.get(details.base_info.sign_url).content
    item = sdk.UploadMetaDataByUrl(url=helper.url, title="pulled", video_type="MP4", auto_publish=0)
    body = sdk.UploadMetaDataByUrlReq(upload_metadatas=[item])
    [pulled] = client.upload_meta_data_by_url(sdk.UploadMetaDataByUrlRequest(body=body)).upload_assets
    settle(helper.client, pulled.asset_id)
    body = sdk.PublishAssetReq(asset_id=[audio, source])
    published = client.publish_assets(sdk.PublishAssetsRequest(body=body)).asset_info_array
    unpublished = client.unpublish_assets(sdk.UnpublishAssetsRequest(body=body)).asset_info_array
    mine = [source, big.asset_id, audio, pulled.asset_id]
    deleted = client.delete_assets(sdk.DeleteAssetsRequest(asset_id=mine)).delete_result_array
    return {
        "ids": [source, big.asset_id, queued, audio, pulled.asset_id],
        "info": sorted((asset.status, asset.base_info.title) for asset in info),
        "listed": [asset.title for asset in listed],
        "downloaded": downloaded,
        "published": sorted(asset.status for asset in published),
        "unpublished": sorted(asset.status for asset in unpublished),
        "deleted": [result.status == "DELETED" for result in deleted],
    }


def our_tour(url: str, helper: Helper) -> dict[str, Any]:
    client = client_of(helper.standin, endpoint=url)
    source = client.upload(helper.video, title="Größe & 1")
    big = client.upload(helper.large)

    helper.standin.behaviour.queue_seconds = 3600
    queued = client.extract_audio(source, "AAC").audio_asset_id
    assert client.cancel_extraction(source, queued)
    helper.standin.behaviour.queue_seconds = 0
    audio = client.extract_audio(source, "MP3").audio_asset_id
    settle(helper.client, audio)
    info = client.asset_info([audio, source, queued])
    listed = list(client.list_assets(since=SINCE, until=UNTIL, containers=("MP3", "AAC")))
    target = helper.large.with_name("audio.mp3")
    client.download(audio, target)
    [pulled] = client.pull([PullRequest(url=helper.url, title="pulled", container="MP4")])
    settle(helper.client, pulled.asset_id or "")
    published = client.publish([audio, source])
    unpublished = client.unpublish([audio, source])
    deleted = client.delete([source, big, audio, pulled.asset_id or ""])
    return {
        "ids": [source, big, queued, audio, pulled.asset_id],
        "info": sorted((asset.status, asset.title) for asset in info.values()),
        "listed": [asset.title for asset in listed],
        "downloaded": target.read_bytes(),
        "published": sorted(asset.status for asset in published.values()),
        "unpublished": sorted(asset.status for asset in unpublished.values()),
        "deleted": list(deleted.values()),
    }


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def normalized(sent: list[Sent], ids: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The requests without what differs between any two tours: ids, and names that the storage made up."""
    names = {asset_id: f"id {number}" for number, asset_id in enumerate(ids)}

    def name(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"name {len(names)}")

    facts = json.loads(
        re.sub(r"\b([0-9A-Fa-f]{32}|[0-9a-f]{8}(?=\.))\b", name, json.dumps([*map(_facts, sent)]))
    )
    for request in facts:
        request["query"].sort()
    return list(facts)


def _facts(request: Sent) -> dict[str, Any]:
    facts: dict[str, Any] = {"call": f"{request.method} {request.path}"}
    if not request.path.startswith("/v"):  # storage: signed by its URL, and by nothing else
        assert not {"authorization", "x-auth-token", "x-sdk-date", "x-project-id"} & {*request.headers}
        facts["query"] = sorted(name for name, _ in request.query)
        facts["headers"] = [request.headers.get(name) for name in ("content-type", "content-md5")]
        facts["size"] = len(request.body)
        return facts
    assert request.query == sorted(request.query), "on the wire as it is signed"
    algorithm, access, signed = re.fullmatch(  # type: ignore[union-attr]
        r"(\S+) Access=([^,]+), SignedHeaders=(\S+), Signature=\w{64}", request.headers["authorization"]
    ).groups()
    assert "x-auth-token" not in request.headers
    assert re.fullmatch(r"\d{8}T\d{6}Z", request.headers["x-sdk-date"])
    # The signature may cover more headers (section 1.1); who calls is nobody's business.
    facts["signed"] = [name for name in signed.split(";") if name != "user-agent"]
    facts["key"] = [algorithm, access]
    facts["headers"] = [request.headers.get(name) for name in ("content-type", "x-project-id")]
    facts["query"] = request.query
    facts["body"] = json.loads(request.body) if request.body else None
    return facts


def travel(
    tour: Callable[[str, Helper], dict[str, Any]], helper: Helper
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the tour saw, and what it said."""
    wire = Wire(helper.standin)
    try:
        seen = tour(wire.url, helper)
    finally:
        wire.close()
    return seen, normalized(wire.sent, seen.pop("ids"))


@pytest.fixture
def helper(standin: Standin, video: Path, tmp_path: Path) -> Helper:
    standin.behaviour.quota_scale = 0
    return Helper(standin, video, tmp_path)


def test_the_same_tour(helper: Helper) -> None:
    they_saw, they_said = travel(sdk_tour, helper)
    we_saw, we_said = travel(our_tour, helper)
    for ours, theirs in zip(we_said, they_said, strict=True):
        assert ours == theirs
    assert they_saw["info"] == [(status, "Größe & 1") for status in ("CANCELLED", "CREATED", "CREATED")]
    assert they_saw["deleted"] == [True] * 4
    assert we_saw == they_saw


def test_the_tour_has_every_call(standin: Standin, helper: Helper) -> None:
    """A new one has to join."""
    travel(our_tour, helper)
    made = {*stats(standin)["calls"]}
    of_the_service = set(ApiCall.__args__)  # type: ignore[attr-defined]
    of_sis = {"collect_transcriber_job", "push_transcriber_jobs"}  # tests/standin/test_speech.py
    assert of_the_service - made - of_sis == {"reproduction"}, "a copy within OBS is no call of ours"


def test_the_same_look_up_of_the_project(wire: Wire, standin: Standin) -> None:
    settings = standin.settings
    keys = BasicCredentials(settings.access_key, settings.secret_key).with_iam_endpoint(wire.url)
    builder = sdk.VodClient.new_builder().with_credentials(keys)
    client = builder.with_region(Region(settings.region, wire.url)).build()
    client.show_asset_meta(sdk.ShowAssetMetaRequest(asset_id=["f" * 32]))
    theirs = normalized(wire.sent)
    wire.sent.clear()
    client_of(
        standin, endpoint=wire.url, project_id=None, region=settings.region, iam_endpoint=wire.url
    ).asset_info(["f" * 32])
    ours = normalized(wire.sent)
    # IAM is told a content type by us, though nothing has one; what is signed beyond the date is free.
    assert ours[0]["signed"].pop(0) == "content-type"
    assert ours[0]["headers"].pop(0) == "application/json"
    assert theirs[0]["headers"].pop(0) is None
    assert ours == theirs
    assert [facts["call"] for facts in theirs] == ["GET /v3/projects", "GET /v1.0/name 0/asset/info"]


@pytest.mark.parametrize(
    "change",
    [
        lambda request: {"path": request.path + "/"},
        lambda request: {"query": [*request.query, ("size", "10")]},
        lambda request: {"headers": {**request.headers, "content-type": "text/plain"}},
        lambda request: {"body": b'{"asset_id":"a","parameter":null}'},
        lambda request: {"method": "PUT"},
    ],
)
def test_a_difference_would_be_seen(wire: Wire, standin: Standin, change: Callable[[Sent], Any]) -> None:
    client_of(standin, endpoint=wire.url).asset_info(["f" * 32])
    [request] = wire.sent
    changed = Sent(**{**vars(request), **change(request)})
    assert normalized([changed]) != normalized([request])
