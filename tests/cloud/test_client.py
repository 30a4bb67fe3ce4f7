"""The client against the stand-in, and against a server that misbehaves as scripted."""

from __future__ import annotations

import asyncio
import inspect
import io
import itertools
import logging
import os
import socket
import tempfile
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cloud.scripted import Answer, Script, hang_up, say
from tests.conftest import auth_of, client_of, service, settle, stats
from vod import media
from vod.cloud import session
from vod.cloud.assets import PullRequest, Readiness
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.errors import (
    AnswerLostError,
    AssetNotFoundError,
    AssetNotSupportedError,
    AuthenticationError,
    InvalidRequestError,
    NotSentError,
    ServiceError,
    SourceNotReadyError,
    ThrottledError,
    TransferError,
)
from vod.cloud.identity import Login
from vod.cloud.poller import Poller
from vod.cloud.signing import Credentials
from vod.errors import InvalidInputError
from vod.standin import Standin
from vod.standin.faults import parse

KEYS = Credentials(ak="EXAMPLEAK", sk="EXAMPLESK")


# --- against the stand-in -------------------------------------------------------------------------


@pytest.mark.parametrize(("audio_format", "codec"), [("MP3", "mp3"), ("AAC", "aac")])
def test_from_upload_to_audio_file(
    client: VodClient, video: Path, tmp_path: Path, audio_format: str, codec: str
) -> None:
    source = client.upload(video, title="a title")
    submission = client.extract_audio(source, audio_format)
    assert submission.asset_id == source
    settle(client, submission.audio_asset_id)

    audio = client.asset_info([submission.audio_asset_id])[submission.audio_asset_id]
    assert audio.readiness is Readiness.READY
    assert (audio.title, audio.is_audio) == ("a title", True)
    target = tmp_path / "audio"
    assert client.download(submission.audio_asset_id, target) == target.stat().st_size
    track = media.probe(target).audio[0]
    assert track.codec == codec
    assert [path.name for path in tmp_path.glob("*audio*")] == ["audio"], "no partial file is left"


@pytest.mark.anyio
async def test_the_same_on_an_event_loop(standin: Standin, video: Path, tmp_path: Path) -> None:
    settings = standin.settings
    keys = Credentials(ak=settings.access_key, sk=settings.secret_key)
    client = AsyncVodClient(service(standin.url, settings.project_id, keys))
    source = await client.upload(video)
    submission = await client.extract_audio(source, "MP3")
    audio = [submission.audio_asset_id]
    assert await Poller(client).wait(audio, deadline=time.time() + 20, interval=0.05) == []
    target = tmp_path / "audio.mp3"
    await client.download(submission.audio_asset_id, target)
    assert media.probe(target).audio[0].codec == "mp3"
    now = datetime.now(timezone.utc)
    listed = [
        asset async for asset in client.list_assets(since=now - timedelta(hours=1), until=now + timedelta(1))
    ]
    assert {asset.asset_id for asset in listed} == {source, submission.audio_asset_id}
    await client.aclose()


@pytest.mark.anyio
async def test_nothing_that_is_waited_for_holds_up_the_loop(
    standin: Standin, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings, asset_id = standin.settings, standin.add(video)
    login = Login(account=settings.account, user=settings.user, password=settings.password)
    client = AsyncVodClient(service(standin.url, None, login, iam_endpoint=standin.url))
    standin.behaviour.faults = [parse("latency,seconds=0.5")]
    beats = [time.monotonic()]

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.01)
            beats.append(time.monotonic())

    heart = asyncio.create_task(beat())
    await asyncio.gather(
        client.asset_info([asset_id]),
        client.download(asset_id, tmp_path / "copy.mp4"),
        client.find_by_title("t"),
        client.upload(video),
        client.publish([asset_id]),
        Poller(client).wait([asset_id], deadline=time.time() + 20),
    )
    heart.cancel()
    await client.aclose()
    assert beats[-1] - beats[0] > 1.5, "the calls did wait"
    assert max(after - before for before, after in itertools.pairwise(beats)) < 0.4


def test_both_clients_have_the_same_calls() -> None:
    for name, method in inspect.getmembers(AsyncVodClient, inspect.isfunction):
        if not name.startswith("_"):
            blocking = getattr(VodClient, {"aclose": "close"}.get(name, name))
            assert inspect.signature(blocking) == inspect.signature(method), name
            assert blocking.__doc__ == method.__doc__, name


def test_ids_are_asked_for_ten_at_a_time(standin: Standin, client: VodClient) -> None:
    ids = [f"{number:032x}" for number in range(25)]
    found = client.asset_info([*ids, ids[0]])
    assert list(found) == ids
    assert {asset.readiness for asset in found.values()} == {Readiness.GONE}
    assert stats(standin)["calls"]["info"]["total"] == 3


def test_an_asset_that_the_answer_leaves_out_is_not_vods_no_asset(
    standin: Standin, client: VodClient, video: Path
) -> None:
    standin.behaviour.missing_polls = 1
    audio = client.extract_audio(client.upload(video)).audio_asset_id
    left_out = client.asset_info([audio])[audio]
    assert left_out.is_missing
    assert left_out.readiness is Readiness.UNKNOWN
    assert not left_out.settled(grace=False)
    assert not client.asset_info([audio])[audio].is_missing
    assert not client.asset_info(["f" * 32])["f" * 32].is_missing, "this is VOD's own word"


@pytest.mark.parametrize("refusal_status", [400, 403])
def test_refusals_are_told_by_their_code(
    standin: Standin, client: VodClient, video: Path, refusal_status: Any
) -> None:
    standin.behaviour.refusal_status = refusal_status
    with pytest.raises(AssetNotFoundError, match=r"VOD\.10062") as caught:
        client.extract_audio("f" * 32)
    assert (caught.value.status, caught.value.asset) == (refusal_status, "f" * 32)
    with pytest.raises(InvalidRequestError, match=r"VOD\.10053"):
        client.extract_audio("f" * 32, "mp3")
    source = client.upload(video)
    audio = client.extract_audio(source).audio_asset_id
    settle(client, audio)
    with pytest.raises(AssetNotSupportedError):
        client.extract_audio(audio)


def test_a_source_that_is_not_uploaded_yet_is_not_ready(standin: Standin, client: VodClient) -> None:
    body = {"title": "t", "video_name": "t.mp4", "video_type": "MP4", "auto_publish": 0}
    granted = httpx.post(
        f"{standin.url}/v1.0/{standin.settings.project_id}/asset",
        json=body,
        auth=auth_of(standin),
    ).json()
    with pytest.raises(SourceNotReadyError):
        client.extract_audio(granted["asset_id"])


@pytest.mark.parametrize("named", ["source", "audio"])
def test_a_queued_extraction_can_be_cancelled_by_either_id(
    standin: Standin, client: VodClient, video: Path, named: str
) -> None:
    standin.behaviour.queue_seconds = 60
    source = client.upload(video)
    audio = client.extract_audio(source).audio_asset_id
    assert client.cancel_extraction(source if named == "source" else "f" * 32, audio)
    assert client.asset_info([audio])[audio].status == "CANCELLED"


def test_cancelling_what_has_ended_says_so_and_does_not_raise(client: VodClient, video: Path) -> None:
    source = client.upload(video)
    audio = client.extract_audio(source).audio_asset_id
    settle(client, audio)
    assert client.cancel_extraction(source, audio) is False


def test_the_window_of_a_list_is_half_open_to_the_second(client: VodClient, video: Path) -> None:
    asset_id = client.upload(video)
    now = datetime.now(timezone.utc)
    [asset] = client.list_assets(since=now - timedelta(hours=1), until=now + timedelta(hours=1))
    assert asset.asset_id == asset_id
    second = timedelta(seconds=1)
    assert [*client.list_assets(since=asset.created, until=asset.created + second)] == [asset]
    assert [*client.list_assets(since=asset.created - second, until=asset.created)] == []
    assert [*client.list_assets(since=asset.created + second, until=asset.created + 2 * second)] == []


def test_a_list_longer_than_a_page_is_read_whole(standin: Standin, client: VodClient, video: Path) -> None:
    added = {standin.add(video, title=f"video {number}") for number in range(103)}
    now = datetime.now(timezone.utc)
    listed = [
        asset.asset_id for asset in client.list_assets(since=now - timedelta(1), until=now + timedelta(1))
    ]
    assert len(listed) == 103
    assert set(listed) == added


def test_a_window_with_more_than_paging_reaches_is_split(standin: Standin, client: VodClient) -> None:
    standin.behaviour.quota_scale = 0
    since, until = datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 2, tzinfo=timezone.utc)
    made = standin.add_virtual(20_500, created_from="20240101000000", created_to="20240101235959")
    listed = [asset.asset_id for asset in client.list_assets(since=since, until=until)]
    assert listed == made[::-1], "each once, newest first"


def test_all_assets_of_a_title_are_found(standin: Standin, client: VodClient, video: Path) -> None:
    source = client.upload(video, title="mine")
    audio = client.extract_audio(source, "MP3").audio_asset_id
    client.upload(video, title="mine too")
    client.upload(video, title="Mine")
    [old] = standin.add_virtual(1, title="mine", created_from="20050101000000")
    assert [asset.asset_id for asset in client.find_by_title("mine")] == [audio, source, old]
    assert client.find_by_title("nobody's") == []


@pytest.mark.parametrize(
    ("name", "reason"), [("clip.webm", "VOD takes"), ("clip", "a file without extension")]
)
def test_an_upload_that_vod_does_not_take_is_refused_here(
    standin: Standin, client: VodClient, tmp_path: Path, name: str, reason: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=reason):
        client.upload(file)
    assert stats(standin)["calls"] == {}


@pytest.mark.parametrize("what", ["nothing", "folder", "empty"])
def test_what_is_no_video_is_not_begun(
    standin: Standin, client: VodClient, tmp_path: Path, what: str
) -> None:
    file = tmp_path / "clip.mp4"
    if what == "folder":
        file.mkdir()
    elif what == "empty":
        file.touch()
    with pytest.raises(InvalidInputError, match=r"clip\.mp4: There is no such file, or it is empty"):
        client.upload(file)
    assert stats(standin)["calls"] == {}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("\N{CLAPPER BOARD}" * 50 + ".mp4", "\N{CLAPPER BOARD}" * 32),
        ("x" * 200 + ".mp4", "x" * 128),
        (os.fsdecode(b"caf\xe9.mp4"), "caf?"),
    ],
)
def test_names_that_vod_does_not_take_are_made_to_fit(
    client: VodClient, video: Path, tmp_path: Path, name: str, title: str
) -> None:
    file = tmp_path / name
    file.write_bytes(video.read_bytes())
    asset_id = client.upload(file)
    assert client.asset_info([asset_id])[asset_id].title == title


def test_a_title_that_is_too_long_is_not_cut_in_secret(client: VodClient, video: Path) -> None:
    with pytest.raises(InvalidInputError, match="128 bytes"):
        client.upload(video, title="\N{CLAPPER BOARD}" * 33)


def test_many_at_a_time(standin: Standin, client: VodClient) -> None:
    ids = standin.add_virtual(25)
    unknown = "f" * 32
    assert {asset.status for asset in client.unpublish(ids).values()} == {"CREATED"}
    assert {asset.status for asset in client.publish(ids).values()} == {"PUBLISHED"}
    assert client.publish([unknown])[unknown].readiness is Readiness.GONE
    requests = [PullRequest(url=f"http://127.0.0.1:1/{number}.mp4", title="t") for number in range(33)]
    requests[20] = PullRequest(url="http://127.0.0.1:1/no-extension", title="t")
    results = client.pull(requests)
    assert [number for number, result in enumerate(results) if not result.asset_id] == [20]
    assert results[20].error_code == "VOD.10053"
    assert client.delete([*ids, unknown]) == {**dict.fromkeys(ids, True), unknown: False}
    made = {call: counts["total"] for call, counts in stats(standin)["calls"].items()}
    assert made == {"unpublish": 3, "publish": 4, "upload_by_url": 3, "delete": 3}


def test_a_path_of_the_endpoint_is_said(standin: Standin) -> None:
    with pytest.raises(InvalidRequestError, match="Check endpoint and project id"):
        client_of(standin, endpoint=f"{standin.url}/base").asset_info(["a"])


def test_a_large_upload_goes_in_parts(
    standin: Standin, client: VodClient, video: Path, tmp_path: Path
) -> None:
    file = tmp_path / "large.mp4"
    with file.open("wb") as handle:
        handle.write(video.read_bytes())
        handle.truncate(20 * 1024 * 1024 + 1)
    asset_id = client.upload(file)
    client.download(asset_id, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    assert stats(standin)["calls"]["authority"]["total"] == 4, "initiate, two parts, complete"


def test_a_wrong_secret_is_one_clear_sentence_and_one_call(standin: Standin) -> None:
    wrong = Credentials(ak=standin.settings.access_key, sk="not-the-secret")
    with pytest.raises(AuthenticationError) as caught:
        client_of(standin, credentials=wrong).asset_info(["f" * 32])
    text = str(caught.value)
    assert "Check access key, secret key, region and project id" in text
    assert "canonicalRequest" not in text
    assert "not-the-secret" not in text
    assert stats(standin)["calls"]["info"]["total"] == 1, "five failures lock the key: never repeat one"


def test_signed_urls_stay_out_of_the_log(
    client: VodClient, video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="httpx"):
        asset_id = client.upload(video)
        client.download(asset_id, tmp_path / "copy.mp4")
    assert "/obs/" in caplog.text, "the calls are logged"
    assert "Signature=" not in caplog.text
    assert "AWSAccessKeyId" not in caplog.text


# --- against a server that follows a script -------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are recorded instead of slept."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


INFO = {"asset_info_array": [{"asset_id": "a", "status": "CREATED"}], "is_truncated": 0, "total": 1}
THROTTLED = {"error_code": "APIGW.0308", "error_msg": "The throttling threshold has been reached"}
BROKEN = {"error_code": "APIGW.0601", "error_msg": "Internal"}
HTML = "<html><body>502 Bad Gateway</body></html>"


@pytest.mark.parametrize(
    "fault",
    [
        say(500, BROKEN),
        say(502, HTML),
        say(429, THROTTLED),
        say(403, {"error_code": "VOD.10051"}),
        hang_up,
        say(200, '{"a'),
    ],
    ids=["500", "502 html", "429", "10051 as 403", "hang up", "truncated json"],
)
def test_a_read_is_repeated_after_a_passing_fault(script: Script, pauses: list[float], fault: Answer) -> None:
    script.answers = [fault, fault, say(200, INFO)]
    assert VodClient(service(script.url, "p", KEYS)).asset_info(["a"])["a"].status == "CREATED"
    assert script.asked == ["GET info"] * 3
    assert len(pauses) >= 2


@pytest.mark.parametrize(
    "refusal",
    [
        say(400, {"error_code": "VOD.10053", "error_msg": "illegal field: {asset_id}"}),
        say(403, {"error_code": "VOD.10120", "error_msg": "arrears"}),
        say(401, {"error_code": "APIGW.0301", "error_msg": "verify aksk signature fail"}),
        say(403, {"errorCode": "VOD.10111", "errorMsg": "no"}),
        say(404, {"error": {"code": "APIGW.0101", "message": "The API does not exist"}}),
    ],
)
def test_a_refusal_is_final(script: Script, pauses: list[float], refusal: Answer) -> None:
    script.answers = [refusal]
    with pytest.raises(Exception, match=r"VOD\.|APIGW\."):
        VodClient(service(script.url, "p", KEYS)).asset_info(["a"])
    assert script.asked == ["GET info"]
    assert pauses == []


def test_a_fault_that_lasts_is_an_error_with_the_request_id(script: Script, pauses: list[float]) -> None:
    script.answers = [say(500, BROKEN, X_Request_Id="r42")] * 9
    with pytest.raises(ServiceError, match="request r42"):
        VodClient(service(script.url, "p", KEYS)).asset_info(["a"])
    assert len(script.asked) == 5


def at(date: str, answer: Answer) -> Answer:
    """An answer of a server whose clock shows something else; with nothing, it has none."""

    def dated(handler: BaseHTTPRequestHandler) -> None:
        handler.date_time_string = lambda *_: date  # type: ignore[method-assign]
        answer(handler)

    return dated


@pytest.mark.parametrize(
    ("date", "retry_after", "pause"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", "17", 17.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:17 GMT", 17.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wednesday, 21-Oct-15 07:28:17 GMT", 17.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed Oct 21 07:28:17 2015", 17.0),
        ("", "", 90.0),
    ],
    ids=["seconds", "date by the clock of the service", "rfc850", "asctime", "date by this clock"],
)
def test_retry_after_is_honoured(
    script: Script, pauses: list[float], date: str, retry_after: str, pause: float
) -> None:
    if not date:  # not where the test is collected: minutes may pass until it runs
        retry_after = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=90), usegmt=True)
    script.answers = [at(date, say(429, THROTTLED, Retry_After=retry_after)), say(200, INFO)]
    VodClient(service(script.url, "p", KEYS)).asset_info(["a"])
    assert pauses[0] == pytest.approx(pause, abs=0 if date else 60)


@pytest.mark.parametrize(
    "retry_after",
    [
        *("", "soon", "-1", "1.5", "Wed, 21 Oct 2015 07:27:59 GMT", "Wed, 99 Oct 2015 07:28:17 GMT"),
        *("Wed, 21 Oct 99999999999999999999 07:28:17 GMT", "Wed, 21 Oct 2015 07:28:17 +9999"),
    ],
)
def test_a_retry_after_that_says_nothing_is_none(
    script: Script, pauses: list[float], retry_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_backoff", lambda _: 0.25)
    throttled = at("Wed, 21 Oct 2015 07:28:00 GMT", say(429, THROTTLED, Retry_After=retry_after))
    script.answers = [throttled, say(200, INFO)]
    VodClient(service(script.url, "p", KEYS)).asset_info(["a"])
    assert pauses[0] == 0.25


@pytest.mark.parametrize("retry_after", ["3600", "Wed, 21 Oct 2015 08:28:00 GMT", "9" * 400])
def test_whoever_is_asked_to_wait_longer_than_he_has_patience_gives_up_at_once(
    script: Script, pauses: list[float], retry_after: str
) -> None:
    script.answers = [at("Wed, 21 Oct 2015 07:28:00 GMT", say(429, THROTTLED, Retry_After=retry_after))]
    with pytest.raises(ThrottledError):
        VodClient(service(script.url, "p", KEYS)).asset_info(["a"])
    assert pauses == []


def test_a_start_is_repeated_when_it_was_surely_not_accepted(script: Script, pauses: list[float]) -> None:
    script.answers = [say(429, THROTTLED), say(202, {"asset_id": "a", "audio_asset_id": "b"})]
    assert VodClient(service(script.url, "p", KEYS)).extract_audio("a").audio_asset_id == "b"


@pytest.mark.parametrize(
    "fault",
    [
        say(500, BROKEN),
        say(504, HTML),
        say(403, {"error_code": "VOD.10052"}),
        hang_up,
        say(202, '{"asset_id": "'),
        say(202, {}),
    ],
    ids=["500", "504", "10052", "hang up", "truncated", "no id"],
)
def test_a_start_whose_answer_is_lost_is_never_repeated(
    script: Script, pauses: list[float], fault: Answer
) -> None:
    script.answers = [fault]
    with pytest.raises(AnswerLostError) as caught:
        VodClient(service(script.url, "p", KEYS)).extract_audio("a", "MP3")
    assert script.asked == ["POST extract_audio"]
    assert caught.value.asset == "a"
    assert pauses == []


def test_no_patience_means_one_call(script: Script, pauses: list[float]) -> None:
    script.answers = [say(429, THROTTLED)]
    with pytest.raises(ThrottledError):
        VodClient(service(script.url, "p", KEYS), retry_seconds=0).asset_info(["a"])


def test_an_unreachable_service_is_named_by_its_host(pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NotSentError, match=r"127\.0\.0\.1.*Check the endpoint"):
        VodClient(service(f"http://127.0.0.1:{port}", "p", KEYS)).asset_info(["a"])
    assert len(pauses) == 4


def test_a_wrong_clock_is_said_in_words(script: Script) -> None:
    refusal = {"error_code": "APIGW.0301", "error_msg": "Incorrect IAM authentication information"}

    script.answers = [at("Mon, 01 Jan 2024 00:00:00 GMT", say(401, refusal))]
    with pytest.raises(AuthenticationError, match=r"The clock of this machine is \d+ days.* off"):
        VodClient(service(script.url, "p", KEYS)).asset_info(["a"])


@pytest.mark.parametrize("fault", [say(403, "<Error><Code>AccessDenied</Code></Error>"), hang_up])
def test_an_upload_that_the_storage_refuses_is_marked_as_failed(
    script: Script, video: Path, fault: Answer
) -> None:
    grant = {"asset_id": "a", "video_upload_url": f"{script.url}/key?Signature=hush"}
    script.answers = [say(200, grant), fault, say(200, {"asset_id": "a"})]
    with pytest.raises(TransferError) as caught:
        VodClient(service(script.url, "p", KEYS)).upload(video)
    assert script.asked == ["POST asset", "PUT key", "POST uploaded"]
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_download_that_breaks_off_goes_on_where_it_broke(
    script: Script, pauses: list[float], tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4

    def some(first: int, last: int) -> Answer:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            asked = handler.headers.get("Range")
            assert asked == (f"bytes={first}-" if first else None)
            handler.send_response(206 if first else 200)
            handler.send_header("Content-Length", str(len(content) - first))
            if first:
                handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            handler.end_headers()
            handler.wfile.write(content[first:last])
            handler.close_connection = True

        return answer

    details = say(200, {"asset_id": "a", "base_info": {"sign_url": f"{script.url}/key?Signature=hush"}})
    script.answers = [
        details,
        some(0, 100),
        details,
        hang_up,
        details,
        some(100, 700),
        details,
        some(700, 1024),
    ]
    target = tmp_path / "audio.mp3"
    assert VodClient(service(script.url, "p", KEYS)).download("a", target) == len(content)
    assert target.read_bytes() == content
    assert list(tmp_path.iterdir()) == [target]


def test_a_storage_that_knows_no_range_begins_anew(
    script: Script, pauses: list[float], tmp_path: Path
) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"01234")
        handler.close_connection = True

    details = say(200, {"asset_id": "a", "base_info": {"sign_url": f"{script.url}/key"}})
    script.answers = [details, half, details, say(200, "0123456789")]
    sink = io.BytesIO()
    assert VodClient(service(script.url, "p", KEYS)).download("a", sink) == 10
    assert sink.getvalue() == b"0123456789"


def test_a_download_that_never_gets_on_leaves_nothing(
    script: Script, pauses: list[float], tmp_path: Path
) -> None:
    details = say(200, {"asset_id": "a", "base_info": {"sign_url": f"{script.url}/key?Signature=hush"}})
    script.answers = [details, say(503, HTML)] * 5
    with pytest.raises(TransferError) as caught:
        VodClient(service(script.url, "p", KEYS)).download("a", tmp_path / "audio.mp3")
    assert "hush" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert script.answers == []
