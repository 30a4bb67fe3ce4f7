"""Every fault switch of the stand-in, crossed with every call of the client: how the call ends.

``ONCE`` and ``ALWAYS`` say it for the faults of calls; ``NOT_CONCERNED`` says why a cell has no test. A
switch or a call that is in none of them fails :func:`test_nothing_is_left_out`.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.conftest import client_of, service, stats
from vod.cloud import refusals, session, transfer
from vod.cloud.assets import PullRequest, Readiness
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.errors import (
    AccountError,
    AnswerLostError,
    CloudError,
    ServiceError,
    ThrottledError,
    TransferError,
)
from vod.cloud.identity import Login
from vod.cloud.poller import Poller
from vod.cloud.signing import Credentials
from vod.standin import Standin, StandinSettings, running
from vod.standin.faults import AnyFault, parse
from vod.standin.faults.rules import CallFault, Fault

FAULTS: dict[str, type[Fault]] = {
    kind.model_fields["fault"].default: kind for kind in get_args(get_args(AnyFault)[0])
}


@dataclass
class World:
    """A stand-in with something in it."""

    standin: Standin
    video: Path
    large: Path
    source: str
    file: str

    def client(self, **options: Any) -> VodClient:
        return client_of(self.standin, **{"quota_share": 1e6, "retry_seconds": 0.3, **options})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, video: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    settings = StandinSettings(data=folder / "library", virtual=True, workers=100)
    settings.behaviour.quota_scale = 0
    with running(settings) as standin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_backoff", lambda _: 0.0)
        patch.setattr(transfer, "wait_random_exponential", lambda **_: lambda _: 0.0)
        patch.setattr(transfer, "PUT_LIMIT", 200_000)
        patch.setattr(transfer, "PART_SIZE", 100 * 1024)
        patch.setattr("vod.cloud.identity._private_folder", lambda: None)
        large = folder / "large.mp4"
        with large.open("wb") as file:
            file.write(video.read_bytes())
            file.truncate(300_000)
        [source] = standin.add_virtual(1, title="source")
        yield World(standin, video, large, source, standin.add(video))


@pytest.fixture(autouse=True)
def calm(world: World) -> Iterator[None]:
    yield
    world.standin.behaviour.faults = []
    world.standin.behaviour.queue_seconds = 0


# --- the calls -------------------------------------------------------------------------------------

Act = Callable[[World, VodClient], Any]


def cancel(world: World, client: VodClient) -> None:
    world.standin.behaviour.queue_seconds = 3600
    audio = world.client().extract_audio(world.source).audio_asset_id
    assert client.cancel_extraction(world.source, audio)


def download(world: World, client: VodClient) -> None:
    sink = io.BytesIO()
    client.download(world.file, sink)
    assert sink.getvalue() == world.video.read_bytes()


def listed(world: World, client: VodClient) -> None:
    now = datetime.now(timezone.utc)
    found = client.list_assets(since=now - timedelta(hours=1), until=now + timedelta(hours=1))
    assert world.file in {asset.asset_id for asset in found}


def changed(name: str) -> Act:
    def change(world: World, client: VodClient) -> None:
        expected = "PUBLISHED" if name == "publish" else "CREATED"
        assert getattr(client, name)([world.file])[world.file].status == expected

    return change


def delete(world: World, client: VodClient) -> None:
    [asset_id] = world.standin.add_virtual(1)
    assert client.delete([asset_id]) == {asset_id: True}


def pull(world: World, client: VodClient) -> None:
    [result] = client.pull([PullRequest(url="http://127.0.0.1:1/a.mp4", title="pulled")])
    assert result.asset_id


def find(world: World, client: VodClient) -> None:
    assert world.source in {asset.asset_id for asset in client.find_by_title("source")}


def upload(world: World, client: VodClient) -> None:
    client.upload(world.video)


def upload_in_parts(world: World, client: VodClient) -> None:
    client.upload(world.large)


READ, START, CHANGE, PUT = "read", "start", "change", "put"
FIRST, STEP, LAST = "first step", "step", "last step"  # of storage

CALLS: dict[tuple[str, str], tuple[str, Act]] = {
    # Method of the client, and which of its requests is spoiled: what kind of request that is, and the call.
    ("extract_audio", "extract_audio"): (START, lambda world, client: client.extract_audio(world.source)),
    ("cancel_extraction", "cancel_extract_audio"): (CHANGE, cancel),
    ("asset_info", "info"): (READ, lambda world, client: client.asset_info([world.file])),
    ("asset_details", "details"): (READ, lambda world, client: client.asset_details(world.file)),
    ("list_assets", "list"): (READ, listed),
    ("find_by_title", "list"): (READ, find),
    ("upload", "create"): (CHANGE, upload),
    ("upload", "storage upload"): (PUT, upload),
    ("upload", "confirm"): (CHANGE, upload),
    ("upload", "authority"): (READ, upload_in_parts),
    ("upload", "multipart initiate"): (FIRST, upload_in_parts),
    ("upload", "multipart part"): (STEP, upload_in_parts),
    ("upload", "multipart complete"): (LAST, upload_in_parts),
    ("pull", "upload_by_url"): (START, pull),
    ("publish", "publish"): (CHANGE, changed("publish")),
    ("unpublish", "unpublish"): (CHANGE, changed("unpublish")),
    ("delete", "delete"): (CHANGE, delete),
    ("download", "details"): (READ, download),
    ("download", "storage download"): (STEP, download),
}

# --- how they end ----------------------------------------------------------------------------------

Ends = dict[str, type[Exception] | None]
FINE = None


def all_end(kind: type[Exception] | None) -> Ends:
    return dict.fromkeys((READ, START, CHANGE), kind) | dict.fromkeys(
        (PUT, FIRST, STEP, LAST), TransferError if kind else FINE
    )


LOST: Ends = {READ: FINE, START: AnswerLostError, CHANGE: AnswerLostError}
BROKEN: Ends = {READ: FINE, START: AnswerLostError, CHANGE: ServiceError}
OF_STORAGE: Ends = {PUT: TransferError, FIRST: FINE, STEP: FINE, LAST: TransferError}
SAYS_LITTLE: Ends = {PUT: FINE, FIRST: FINE, STEP: FINE, LAST: FINE}

ONCE: dict[str, Ends] = {
    "latency": all_end(FINE),
    "throttle": all_end(FINE) | OF_STORAGE,
    "refuse": all_end(AccountError) | OF_STORAGE,
    "error": BROKEN | OF_STORAGE,
    "page": BROKEN | OF_STORAGE,
    "drop": LOST | OF_STORAGE,
    "truncate": BROKEN | SAYS_LITTLE,
}
ALWAYS: dict[str, Ends] = {
    "latency": all_end(FINE),
    "throttle": all_end(ThrottledError),
    "refuse": all_end(AccountError),
    "error": all_end(ServiceError) | {START: AnswerLostError},
    "page": all_end(ServiceError) | {START: AnswerLostError},
    "drop": all_end(AnswerLostError),
    "truncate": all_end(ServiceError) | {START: AnswerLostError} | SAYS_LITTLE | {FIRST: TransferError},
}
DETAILS = {"latency": ",seconds=0.05", "throttle": ",retry_after=0", "refuse": ",code=VOD.10120"}

EXCEPTIONS: dict[tuple[str, str], type[Exception] | None] = {
    ("truncate", "cancel_extract_audio"): FINE,  # 204: there is nothing to truncate
    ("truncate", "confirm"): ServiceError,
}
NOT_CONCERNED = {
    "no_asset": "elements of asset/info: asset_info, the poller",
    "missing": "elements of asset/info: asset_info, the poller",
    "urlless": "elements of asset/info: asset_info, the poller",
    "spelling": "elements of asset/info: asset_info, the poller",
    "malformed": "elements of asset/info and asset/list: asset_info, the poller; test_client.py",
    "retitled": "titles: test_titles.py and the engine's lost answers",
    "fail": "what becomes of an extraction or a pull: the poller",
    "slow": "downloads: download",
    "cut": "downloads: download",
    "short": "downloads: download",
    "wrong_length": "downloads: download",
    "no_range": "downloads: download",
    "revoke_tokens": "which call meets it makes no difference: every one, with a token",
    "duplicate": "notifications, which the client does not receive",
    "forge": "notifications, which the client does not receive",
    "prose": "notifications, which the client does not receive",
    "request": "which call it is makes no difference: what each of the others goes through",
    "aclose": "asks nobody",
    "project_id": "asks IAM, as each of the others does that is not told the project: test_identity.py",
}
"""Switches and calls that are not crossed with all of the other kind: whom they concern, tested below."""


def test_nothing_is_left_out() -> None:
    of_calls = {name for name, kind in FAULTS.items() if issubclass(kind, CallFault)}
    assert {*ONCE} == {*ALWAYS} == of_calls - {*NOT_CONCERNED}
    assert {*FAULTS} == {*ONCE} | ({*NOT_CONCERNED} & {*FAULTS})
    methods = {name for name, _ in inspect.getmembers(AsyncVodClient, inspect.isfunction) if name[0] != "_"}
    assert methods == {method for method, _ in CALLS} | ({*NOT_CONCERNED} - {*FAULTS})


def end(world: World, client: VodClient, act: Act) -> type[BaseException] | None:
    try:
        act(world, client)
    except CloudError as error:
        return type(error)
    return FINE


@pytest.mark.parametrize("fault", ONCE)
@pytest.mark.parametrize(("method", "request_"), CALLS)
def test_once(world: World, fault: str, method: str, request_: str) -> None:
    kind, act = CALLS[method, request_]
    rule = parse(f"{fault},call={request_},count=1{DETAILS.get(fault, '')}")
    world.standin.behaviour.faults = [rule]
    assert end(world, world.client(retry_seconds=5.0), act) is EXCEPTIONS.get(
        (fault, request_), ONCE[fault][kind]
    )
    assert rule.to_json()["hits"] == 1, "else nothing was tried"


@pytest.mark.parametrize("fault", ALWAYS)
@pytest.mark.parametrize(("method", "request_"), CALLS)
def test_always(world: World, fault: str, method: str, request_: str) -> None:
    kind, act = CALLS[method, request_]
    rule = parse(f"{fault},call={request_}{DETAILS.get(fault, '')}")
    world.standin.behaviour.faults = [rule]
    expected = EXCEPTIONS.get((fault, request_), ALWAYS[fault][kind])
    started = time.monotonic()
    assert end(world, world.client(), act) is expected
    assert time.monotonic() - started < 5
    assert rule.to_json()["hits"] >= 1


def wait(world: World, *ids: str, seconds: float = 20.0) -> list[str]:
    """Wait with a poller, through the grace period of a new asset."""

    async def waiting() -> list[str]:
        settings = world.standin.settings
        keys = Credentials(ak=settings.access_key, sk=settings.secret_key)
        client = AsyncVodClient(
            service(world.standin.url, settings.project_id, keys, quota_share=1e6), retry_seconds=0.0
        )
        try:
            now = time.time()
            return await Poller(client).wait(
                ids, deadline=now + seconds, interval=0.02, longest_interval=0.05, grace_until=now + 60
            )
        finally:
            await client.aclose()

    return asyncio.run(waiting())


@pytest.mark.quick(2)
@pytest.mark.parametrize("fault", ALWAYS)
def test_waiting(world: World, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on after whatever may pass, also after a refusal of the account, which it waits out."""
    monkeypatch.setattr(refusals, "FIRST_PAUSE", 0.1)
    ends = ALWAYS[fault][READ]
    assert ends is FINE or issubclass(ends, CloudError)
    passes = ends is FINE or ends.retryable or issubclass(ends, refusals.CONCERNS_THE_ACCOUNT)
    for count, left in ((",count=1", []), ("", [] if ends is FINE else [world.file])):
        rule = parse(f"{fault},call=info{count}{DETAILS.get(fault, '')}")
        world.standin.behaviour.faults = [rule]
        with nullcontext() if passes else pytest.raises(ends or CloudError):
            assert wait(world, world.file, seconds=1.0 if left and passes else 20) == left
        assert rule.to_json()["hits"] >= (3 if left and passes else 1)


@pytest.mark.parametrize("fault", ["error", "page", "drop"])
@pytest.mark.parametrize("method", ["extract_audio", "pull"])
def test_accepted_all_the_same_is_not_sent_again(world: World, fault: str, method: str) -> None:
    [request_] = [request for name, request in CALLS if name == method]
    before = stats(world.standin)["calls"].get(request_, {"total": 0})["total"]
    world.standin.behaviour.faults = [parse(f"{fault},call={request_},accepted=true")]
    assert end(world, world.client(), CALLS[method, request_][1]) is AnswerLostError
    assert stats(world.standin)["calls"][request_]["total"] == before + 1


@pytest.mark.parametrize(("method", "request_"), CALLS)
def test_revoked_tokens(world: World, method: str, request_: str) -> None:
    settings = world.standin.settings
    login = Login(account=settings.account, user=settings.user, password=settings.password)
    client = world.client(credentials=login, iam_endpoint=world.standin.url)
    client.asset_info([world.file])
    rule = parse("revoke_tokens")
    world.standin.behaviour.faults = [rule]
    assert end(world, client, CALLS[method, request_][1]) is FINE
    assert rule.to_json()["hits"] >= 1


@pytest.mark.parametrize(
    "rule",
    [
        "slow,bytes_per_second=1000000",
        "cut,after_bytes=1000",
        "short,only_bytes=1000",
        "wrong_length",
        "no_range",
    ],
)
def test_downloads(world: World, rule: str) -> None:
    world.standin.behaviour.faults = [parse(f"{rule},count=1")]
    download(world, world.client())


@pytest.mark.parametrize(("rule", "fine"), [("cut,after_bytes=50000", True), ("cut,after_bytes=0", False)])
def test_downloads_that_always_break_off(world: World, rule: str, fine: bool) -> None:
    """As long as each try brings something, it goes on."""
    world.standin.behaviour.faults = [parse(rule)]
    assert end(world, world.client(), download) is (FINE if fine else TransferError)


@pytest.mark.parametrize(("rule", "fine"), [("short,only_bytes=1000", False), ("wrong_length", True)])
def test_lengths_that_are_always_wrong(world: World, rule: str, fine: bool) -> None:
    """VOD's record of the size decides."""
    world.standin.behaviour.faults = [parse("no_range"), parse(rule)]
    assert end(world, world.client(), download) is (FINE if fine else TransferError)


@pytest.mark.parametrize(
    ("rule", "status", "readiness"),
    [
        ("no_asset", "NO_ASSET", Readiness.GONE),
        ("missing", "MISSING", Readiness.UNKNOWN),
        ("malformed", "CREATED", Readiness.READY),
        ("malformed,field=title,value={}", "CREATED", Readiness.READY),
        ("malformed,field=status,value=", "", Readiness.UNKNOWN),
        ("urlless", "CREATED", Readiness.TRANSIENT),
        ("spelling,style=blank", "CREATED", Readiness.READY),
        ("spelling,style=lower", "CREATED", Readiness.READY),
        ("spelling,style=title", "CREATED", Readiness.READY),
        ("spelling,shows=NOASSET", "NO_ASSET", Readiness.GONE),
        ("spelling,shows=BRAND_NEW", "BRAND_NEW", Readiness.UNKNOWN),
    ],
)
def test_elements(world: World, rule: str, status: str, readiness: Readiness) -> None:
    client = world.client()
    audio = client.extract_audio(world.source).audio_asset_id
    assert wait(world, audio) == []
    world.standin.behaviour.faults = [parse(f"{rule},count=2")]
    found = client.asset_info([audio])[audio]
    assert (found.status, found.readiness) == (status, readiness)
    assert wait(world, audio) == []
    world.standin.behaviour.faults = [parse(rule)]
    if readiness is Readiness.READY:
        assert wait(world, audio) == []
    else:
        assert wait(world, audio, seconds=0.1) == [audio]


def test_failures(world: World) -> None:
    client = world.client()
    world.standin.behaviour.faults = [
        parse("fail,reason=VOD.1: no luck"),
        parse("fail,call=pull,reason=gone"),
    ]
    audio = client.extract_audio(world.source).audio_asset_id
    [pulled] = client.pull([PullRequest(url="http://127.0.0.1:1/a.mp4", title="never")])
    ids = [audio, pulled.asset_id or ""]
    assert wait(world, *ids) == []
    found = client.asset_info(ids).values()
    assert [asset.status for asset in found] == ["TRANSCODE_FAILED", "UPLOAD_FAILED"]
    assert [asset.description for asset in found] == ["VOD.1: no luck", "Download failed: gone"]
