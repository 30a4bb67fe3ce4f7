"""Who calls: keys or a token, fetched once, shared, renewed once (contract, sections 1 and 2)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import pytest
from huaweicloudsdkcore.signer import signer

from tests.cloud.conftest import Wire
from tests.conftest import client_of, service, stats
from vod.cloud import session
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.errors import AuthenticationError, CloudError, NotSentError, ThrottledError
from vod.cloud.identity import Login
from vod.cloud.signing import Credentials
from vod.errors import InvalidInputError
from vod.standin import Standin
from vod.standin.faults import parse

NOBODY = "f" * 32


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tokens are shared, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"vod-tokens-{os.getuid()}"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are recorded instead of slept."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def login(standin: Standin) -> Login:
    settings = standin.settings
    return Login(account=settings.account, user=settings.user, password=settings.password)


def with_token(standin: Standin, **options: Any) -> VodClient:
    return client_of(standin, **{"credentials": login(standin), "iam_endpoint": standin.url, **options})


def calls(standin: Standin, name: str) -> int:
    return int(stats(standin)["calls"].get(name, {"total": 0})["total"])


# --- one header ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_keys", "sent"),
    [
        (True, {"authorization", "x-sdk-date", "x-project-id", "x-security-token"}),
        (False, {"x-auth-token"}),
    ],
)
def test_exactly_one_authentication(standin: Standin, wire: Wire, of_keys: bool, sent: set[str]) -> None:
    settings = standin.settings
    keys = Credentials(ak=settings.access_key, sk=settings.secret_key, security_token="STSTOKEN")
    client = client_of(
        standin, endpoint=wire.url, iam_endpoint=wire.url, credentials=keys if of_keys else login(standin)
    )
    client.asset_info([NOBODY])
    client.publish([NOBODY])
    client.delete([NOBODY])
    made = [request for request in wire.sent if request.path.startswith("/v1.0")]
    assert len(made) == 3
    known = {"authorization", "x-sdk-date", "x-project-id", "x-security-token", "x-auth-token"}
    for request in made:
        assert known & {*request.headers} == sent


# --- a token's life --------------------------------------------------------------------------------


def test_one_token_for_many_calls_and_clients(standin: Standin) -> None:
    for _ in range(2):
        client = with_token(standin)
        client.asset_info([NOBODY])
        client.publish([NOBODY])
    assert calls(standin, "token") == 1


def test_another_login_gets_another_token(standin: Standin) -> None:
    with_token(standin).asset_info([NOBODY])
    wrong = replace(login(standin), password="not-the-password")
    with pytest.raises(AuthenticationError):
        with_token(standin, credentials=wrong).asset_info([NOBODY])


@pytest.mark.parametrize(("earlier", "fetched"), [(60, 1), (-60, 2)])
def test_a_token_is_renewed_half_an_hour_before_it_ends(
    standin: Standin, folder: Path, earlier: float, fetched: int
) -> None:
    with_token(standin).asset_info([NOBODY])
    [shared] = [file for file in folder.iterdir() if file.suffix != ".lock"]
    value, _, project_id = json.loads(shared.read_text())
    shared.write_text(json.dumps([value, time.time() + 30 * 60 + earlier, project_id]))
    with_token(standin).asset_info([NOBODY])
    assert calls(standin, "token") == fetched


def test_a_revoked_token_is_renewed_once(standin: Standin) -> None:
    client = with_token(standin)
    client.asset_info([NOBODY])
    standin.behaviour.faults = [parse("revoke_tokens")]
    assert client.asset_info([NOBODY])[NOBODY].status == "NO_ASSET"
    assert client.publish([NOBODY])[NOBODY].readiness
    assert calls(standin, "token") == 2
    assert stats(standin)["calls"]["info"]["by_status"] == {"200": 2, "401": 1}


def test_a_start_too_may_be_repeated_with_a_new_token(standin: Standin, video: Path) -> None:
    client = with_token(standin)
    source = client.upload(video)
    standin.behaviour.faults = [parse("revoke_tokens")]
    client.extract_audio(source)
    assert stats(standin)["submissions"] == {source: 1}


def test_tokens_that_are_never_good_are_not_renewed_forever(standin: Standin) -> None:
    standin.behaviour.faults = [parse("refuse,call=info,code=APIGW.0307")]
    with pytest.raises(AuthenticationError, match=r"APIGW\.0307"):
        with_token(standin).asset_info([NOBODY])
    assert (calls(standin, "token"), calls(standin, "info")) == (2, 2)


def test_a_wrong_password_is_tried_once(standin: Standin) -> None:
    wrong = replace(login(standin), password="not-the-password")
    with pytest.raises(AuthenticationError) as caught:
        with_token(standin, credentials=wrong).asset_info([NOBODY])
    assert calls(standin, "token") == 1, "an account may be locked as well"
    assert "not-the-password" not in str(caught.value) + repr(wrong)


# --- one token for all -----------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("revoked", [False, True])
async def test_tasks_of_one_loop_fetch_one_token(standin: Standin, revoked: bool) -> None:
    settings = standin.settings
    client = AsyncVodClient(
        service(standin.url, settings.project_id, login(standin), iam_endpoint=standin.url)
    )
    if revoked:
        await client.asset_info([NOBODY])
        standin.behaviour.faults = [parse("revoke_tokens"), parse("latency,call=info,percent=50,seconds=0.2")]
    async with anyio.create_task_group() as group:
        for _ in range(25):
            group.start_soon(client.asset_info, [NOBODY])
    assert calls(standin, "token") == 1 + revoked
    await client.aclose()


def test_processes_fetch_one_token(standin: Standin, tmp_path: Path) -> None:
    standin.behaviour.faults = [parse("latency,call=token,seconds=0.5")]
    settings = standin.settings
    code = (
        "import sys; from vod.cloud.client import VodClient; from vod.cloud.identity import Login; "
        "from vod.cloud.settings import ServiceSettings; "
        "url, project, *login = sys.argv[1:]; sys.stdin.readline(); "
        "login = Login(**dict(zip(('account', 'user', 'password'), login))); "
        "service = ServiceSettings(endpoint=url, project_id=project, credentials=login, iam_endpoint=url); "
        f"VodClient(service).asset_info(['{NOBODY}']); print('done')"
    )
    arguments = [settings.project_id, settings.account, settings.user, settings.password]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, standin.url, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor() as threads:
        said = list(threads.map(lambda process: process.communicate(b"\n", timeout=60)[0], processes))
    assert said == [b"done\n"] * 4
    assert calls(standin, "token") == 1


def test_nobody_else_can_read_a_shared_token(standin: Standin, folder: Path) -> None:
    with_token(standin).asset_info([NOBODY])
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.suffix == ".lock" or file.stat().st_mode & 0o777 == 0o600


def _open(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)


def _planted(folder: Path) -> None:
    folder.write_text("a file where a folder should be")


def _linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize("trap", [_open, _planted, _linked])
def test_where_others_could_read_it_a_token_is_not_shared(
    standin: Standin, folder: Path, trap: Callable[[Path], None]
) -> None:
    trap(folder)
    for _ in range(2):
        with_token(standin).asset_info([NOBODY])
    assert calls(standin, "token") == 2
    assert not [*folder.parent.glob("**/*.lock")]


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '["a", "soon", null]', "[[]]", "null"])
def test_a_damaged_file_of_tokens_is_one_more_fetch(standin: Standin, folder: Path, content: str) -> None:
    with_token(standin).asset_info([NOBODY])
    [shared] = [file for file in folder.iterdir() if file.suffix != ".lock"]
    shared.write_text(content)
    with_token(standin).asset_info([NOBODY])
    assert calls(standin, "token") == 2


# --- trouble with IAM ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    ["error,status=500", "error,status=503", "page", "drop", "drop,accepted=true", "throttle,retry_after=0"],
)
@pytest.mark.parametrize("neighbour", ["token", "projects"])
def test_a_start_survives_a_fault_of_iam(
    standin: Standin, video: Path, pauses: list[float], rule: str, neighbour: str
) -> None:
    """It was not sent, so that there is nothing to lose."""
    source = client_of(standin).upload(video)
    standin.behaviour.faults = [parse(f"{rule},call={neighbour},count=2")]
    if neighbour == "token":
        client = with_token(standin)
    else:
        client = client_of(standin, project_id=None, iam_endpoint=standin.url)
    client.extract_audio(source)
    assert stats(standin)["submissions"] == {source: 1}
    assert calls(standin, neighbour) == 3


@pytest.mark.parametrize(
    ("rule", "kind"),
    [("page,status=502", NotSentError), ("drop", NotSentError), ("throttle", ThrottledError)],
)
def test_iam_that_stays_away_is_named(
    standin: Standin, pauses: list[float], rule: str, kind: type[CloudError]
) -> None:
    standin.behaviour.faults = [parse(f"{rule},call=token")]
    with pytest.raises(kind) as caught:
        with_token(standin, retry_seconds=30.0).extract_audio("a")
    assert kind is ThrottledError or "IAM at 127.0.0.1" in str(caught.value)
    assert calls(standin, "extract_audio") == 0


@pytest.mark.parametrize("neighbour", ["token", "projects"])
def test_half_an_answer_of_iam(standin: Standin, pauses: list[float], neighbour: str) -> None:
    standin.behaviour.faults = [parse(f"truncate,call={neighbour}")]
    options = {"project_id": None} if neighbour == "projects" else {"credentials": login(standin)}
    with pytest.raises(CloudError):
        client_of(standin, iam_endpoint=standin.url, **options).asset_info([NOBODY])


# --- the project -----------------------------------------------------------------------------------


@pytest.mark.parametrize("of_keys", [True, False])
def test_a_missing_project_is_looked_up_once(standin: Standin, of_keys: bool) -> None:
    client = client_of(standin, project_id=None, iam_endpoint=standin.url)
    if not of_keys:
        client = with_token(standin, project_id=None)
    for _ in range(2):
        assert client.asset_info([NOBODY])[NOBODY].status == "NO_ASSET"
    assert calls(standin, "projects") == of_keys, "a token says its project itself"


def test_a_region_without_a_project_is_said(standin: Standin) -> None:
    client = client_of(standin, project_id=None, iam_endpoint=standin.url, region="cn-east-2")
    with pytest.raises(AuthenticationError, match=r"'cn-east-2' has 0 projects\. Set the project id"):
        client.asset_info([NOBODY])


# --- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_is_said_in_words(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The stand-in's clock is right; it is the client's machine that is an hour off."""
    shift = timedelta(hours=hours)

    class Wrong(datetime):
        @classmethod
        def utcnow(cls) -> datetime:
            return datetime.now(timezone.utc).replace(tzinfo=None) + shift

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + shift

    monkeypatch.setattr(signer, "datetime", Wrong)
    monkeypatch.setattr(session, "datetime", Wrong)
    with pytest.raises(
        AuthenticationError, match=r"clock of this machine is (0:59:5\d|1:00:0\d) off: set it"
    ):
        client_of(standin).asset_info([NOBODY])
    assert calls(standin, "info") == 1


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"ak": "AK\n"}, "access key"),
        ({"ak": "\N{NO-BREAK SPACE}AK"}, "access key"),
        ({"sk": " SK"}, "secret key"),
        ({"sk": "S\N{ZERO WIDTH SPACE}K"}, "secret key"),
        ({"security_token": "a\x00b"}, "security token"),
    ],
)
def test_what_no_key_looks_like_is_refused_here(keys: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"The {named} holds a character.*Copy it again") as caught:
        Credentials(**{"ak": "AK", "sk": "SK", **keys})
    assert not re.search("SK|AK", str(caught.value))
