"""The vendor's own client, as it is: it must not notice that this is not the service."""

from __future__ import annotations

import re

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkvod.v1 import (
    CancelExtractAudioTaskRequest,
    ConfirmAssetUploadReq,
    ConfirmAssetUploadRequest,
    CreateAssetByFileUploadReq,
    CreateAssetByFileUploadRequest,
    CreateExtractAudioTaskRequest,
    DeleteAssetsRequest,
    ExtractAudioTaskReq,
    ListAssetListRequest,
    Parameter,
    PublishAssetReq,
    PublishAssetsRequest,
    ShowAssetDetailRequest,
    ShowAssetMetaRequest,
    ShowAssetTempAuthorityRequest,
    UploadMetaDataByUrl,
    UploadMetaDataByUrlReq,
    UploadMetaDataByUrlRequest,
    VodClient,
)

from vod.media import probe


@pytest.fixture
def client(standin):
    settings = standin.settings
    credentials = BasicCredentials(settings.access_key, settings.secret_key, settings.project_id)
    return VodClient.new_builder().with_credentials(credentials).with_endpoint(standin.url).build()


def extract(client, asset_id, audio_format):
    body = ExtractAudioTaskReq(asset_id=asset_id, parameter=Parameter(format=audio_format))
    return client.create_extract_audio_task(CreateExtractAudioTaskRequest(body=body))


def test_from_upload_to_finished_audio(client, media, tmp_path, wait_until):
    created = client.create_asset_by_file_upload(
        CreateAssetByFileUploadRequest(
            body=CreateAssetByFileUploadReq(
                title="Größe 1", video_name="clip.mp4", video_type="MP4", auto_publish=0
            )
        )
    )
    httpx.put(
        created.video_upload_url,
        content=(media / "clip.mp4").read_bytes(),
        headers={"Content-Type": "video/mp4"},
    ).raise_for_status()
    body = ConfirmAssetUploadReq(asset_id=created.asset_id, status="CREATED")
    assert client.confirm_asset_upload(ConfirmAssetUploadRequest(body=body)).asset_id == created.asset_id

    started = extract(client, created.asset_id, "MP3")
    assert started.status_code == 202
    assert started.asset_id == created.asset_id
    ids = [started.audio_asset_id, created.asset_id]
    seen = set()

    def finished() -> bool:
        info = client.show_asset_meta(ShowAssetMetaRequest(asset_id=ids))
        [audio, source] = info.asset_info_array
        assert (audio.asset_id, source.asset_id) == tuple(ids)
        seen.add(audio.status)
        return audio.status not in ("WAITING_TRANSCODE", "TRANSCODING")

    wait_until(finished)
    assert "CREATED" in seen

    details = client.show_asset_detail(
        ShowAssetDetailRequest(asset_id=started.audio_asset_id, categories=["base_info", "transcode_info"])
    )
    file = tmp_path / "audio.mp3"
    file.write_bytes(httpx.get(details.base_info.sign_url).raise_for_status().content)
    info = probe(file)
    assert [track.codec for track in info.audio] == ["mp3"]
    assert info.duration == pytest.approx(1, abs=0.2)
    assert details.base_info.meta_data.video_size == file.stat().st_size

    listed = client.list_asset_list(
        ListAssetListRequest(media_type=["MP3", "AAC"], query_string="größe 1", size=5)
    )
    assert [(asset.asset_id, asset.title) for asset in listed.assets] == [(started.audio_asset_id, "Größe 1")]

    publish = PublishAssetsRequest(body=PublishAssetReq(asset_id=[started.audio_asset_id]))
    [published] = client.publish_assets(publish).asset_info_array
    assert published.status == "PUBLISHED"
    assert httpx.get(details.base_info.video_url).content == file.read_bytes()
    deleted = client.delete_assets(DeleteAssetsRequest(asset_id=ids)).delete_result_array
    assert [result.status for result in deleted] == ["DELETED", "DELETED"]


def test_a_multipart_upload(client, media):
    request = CreateAssetByFileUploadReq(title="big", video_name="big.mp4", video_type="MP4")
    created = client.create_asset_by_file_upload(CreateAssetByFileUploadRequest(body=request))

    def grant(verb, **query):
        target = created.target
        request = ShowAssetTempAuthorityRequest(
            http_verb=verb, bucket=target.bucket, object_key=target.object, **query
        )
        return client.show_asset_temp_authority(request).sign_str

    upload_id = re.search("<UploadId>(.*)</UploadId>", httpx.post(grant("POST")).text)[1]
    content = (media / "clip.mp4").read_bytes()
    part = httpx.put(grant("PUT", upload_id=upload_id, part_number=1), content=content)
    listed = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['ETag']}</ETag></Part>"
    httpx.post(
        grant("POST", upload_id=upload_id),
        content=f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>",
    ).raise_for_status()
    body = ConfirmAssetUploadReq(asset_id=created.asset_id, status="CREATED")
    client.confirm_asset_upload(ConfirmAssetUploadRequest(body=body))
    [element] = client.show_asset_meta(ShowAssetMetaRequest(asset_id=[created.asset_id])).asset_info_array
    assert (element.status, element.base_info.meta_data.video_size) == ("PUBLISHED", len(content))


def test_a_pull(client, standin, media, wait_until):
    origin = standin.add(media / "clip.mp4")
    url = client.show_asset_detail(ShowAssetDetailRequest(asset_id=origin)).base_info.sign_url
    items = [
        UploadMetaDataByUrl(url=url, title="pulled", video_type="MP4", auto_publish=0),
        UploadMetaDataByUrl(url="http://127.0.0.1/no-extension", title="pulled", video_type="MP4"),
    ]
    request = UploadMetaDataByUrlRequest(body=UploadMetaDataByUrlReq(upload_metadatas=items))
    good, bad = client.upload_meta_data_by_url(request).upload_assets
    assert (good.error_code, bad.asset_id, bad.error_code) == (None, None, "VOD.10053")

    def arrived() -> bool:
        request = ShowAssetMetaRequest(asset_id=[good.asset_id])
        return client.show_asset_meta(request).asset_info_array[0].status == "CREATED"

    wait_until(arrived)


def test_cancel(client, standin, media):
    standin.behaviour.queue_seconds = 3600
    source = standin.add(media / "clip.mp4")
    audio = extract(client, source, "AAC").audio_asset_id
    answer = client.cancel_extract_audio_task(CancelExtractAudioTaskRequest(asset_id=source))
    assert answer.status_code == 204
    [element] = client.show_asset_meta(ShowAssetMetaRequest(asset_id=[audio])).asset_info_array
    assert element.status == "CANCELLED"


def test_a_refusal_arrives_whole(client):
    with pytest.raises(ClientRequestException) as refused:
        extract(client, "f" * 32, "MP3")
    assert refused.value.status_code == 400
    assert refused.value.error_code == "VOD.10062"
    assert refused.value.error_msg == "Media asset or resource does not exist, please check."
    assert refused.value.request_id


def test_a_wrong_secret_key(standin):
    credentials = BasicCredentials(standin.settings.access_key, "wrong", standin.settings.project_id)
    client = VodClient.new_builder().with_credentials(credentials).with_endpoint(standin.url).build()
    with pytest.raises(ClientRequestException) as refused:
        client.show_asset_meta(ShowAssetMetaRequest())
    assert (refused.value.status_code, refused.value.error_code) == (401, "APIGW.0301")


def test_a_temporary_key(standin):
    credentials = BasicCredentials(
        standin.settings.access_key, standin.settings.secret_key, standin.settings.project_id
    ).with_security_token("STSTOKEN")
    client = VodClient.new_builder().with_credentials(credentials).with_endpoint(standin.url).build()
    assert client.show_asset_meta(ShowAssetMetaRequest()).total == 0


def test_it_looks_the_project_up(standin):
    settings = standin.settings
    credentials = BasicCredentials(settings.access_key, settings.secret_key).with_iam_endpoint(standin.url)
    region = Region(settings.region, standin.url)
    client = VodClient.new_builder().with_credentials(credentials).with_region(region).build()
    assert client.show_asset_meta(ShowAssetMetaRequest()).total == 0
    assert credentials.project_id == settings.project_id
