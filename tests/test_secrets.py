"""No secret leaves a full run: not in logs at DEBUG, results, errors, nor in the repr of anything.

The run is in a process of its own (this file, as a script), because logging belongs to the whole process.
All that it sends is written down where it leaves the process, so that the test knows every signature and
token that must not be found elsewhere.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import importlib
import json
import logging
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import vod
from tests.conftest import SAMPLES, DictStore, connection_json, context_of, first_event
from vod.standin import Standin, StandinSettings, running
from vod.standin.faults import parse

ROOT = Path(__file__).parent.parent
NO_PACING = dict.fromkeys(("extract", "cancel", "info", "list", "upload", "pull", "manage"), 100_000)
SECURITY_TOKEN = "security-token-of-temporary-keys"
WRONG = "not-the-secret-but-one-all-the-same"
LOGGERS = (
    "httpx",
    "httpcore",
    "urllib3",
    "requests",
    "vod",
    "fsspec",
    "airflow",
    "asyncio",
    "huaweicloudsdkcore",
)
SECRET_HEADERS = ("authorization", "x-auth-token", "x-security-token", "x-subject-token")
SECRET_QUERY = ("signature", "awsaccesskeyid")


LOOKS_LIKE_A_SECRET = (
    r"Signature=(?!\*\*\*)",
    r"AWSAccessKeyId=(?!\*\*\*)",
    r"SDK-HMAC-SHA256 (Access|Credential)=",
    r"(?i)x-(subject|auth|security)-token\W+(b\W)?\w{8,}",
)


@pytest.mark.slow
def test_a_full_run_tells_no_secret(tmp_path: Path) -> None:
    """One test, because parallel workers would each make the run for theirs."""
    output, secrets, access_key = run(tmp_path)
    _did_what_it_is_to_do(output, {kind for kind, _ in secrets})
    found = {
        (kind, line[:300])
        for line in output.splitlines()
        for kind, secret in secrets
        if secret != access_key and secret in line
    }
    assert not found
    for pattern in LOOKS_LIKE_A_SECRET:
        assert not [line[:300] for line in output.splitlines() if re.search(pattern, line)], pattern


# What people give may be a signed URL. Records and the register hold names that are made to be shown.
GIVEN = {"address", "asset", "location", "manifest", "source", "text", "upload_url", "url"}
SHOWN = {
    "vod.records",
    "vod.library.register",
    "vod.media.command",
    "vod.media.provenance",
    "vod.speech.layout",
    "vod.speech.transcription",
    "vod.standin.library",
    "vod.ui.entries",
}


def test_no_repr_shows_a_field_that_may_hold_a_signed_url() -> None:
    """An object may be alive, in a list or a traceback, wherever something prints it."""
    tried = set()
    for kind in _dataclasses():
        for field in dataclasses.fields(kind):
            if field.name in GIVEN and str(field.type).startswith("str") and kind.__module__ not in SHOWN:
                thing = object.__new__(kind)
                for other in dataclasses.fields(kind):
                    object.__setattr__(thing, other.name, None)
                object.__setattr__(thing, field.name, "https://example.org/a.mp4?Signature=told")
                assert "told" not in repr(thing), f"{kind.__module__}.{kind.__name__}.{field.name}"
                tried.add(kind.__name__)
    assert tried >= {"Location", "_Source", "Wanted", "PullRequest", "Server"}


def _dataclasses() -> set[type]:
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(vod.__path__, "vod.")
        if not module.name.endswith("__main__")
    ]
    things = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    return {
        thing for thing in things if dataclasses.is_dataclass(thing) and thing.__module__.startswith("vod.")
    }


def _did_what_it_is_to_do(output: str, kinds: set[str]) -> None:
    """Else nothing would be proved."""
    assert kinds >= {*SECRET_HEADERS, *SECRET_QUERY}, "the run used signatures, tokens and signed URLs"
    for said in ("extracted", "transcribed", "[vod.", "AuthenticationError", "TransferError", "NotSentError"):
        assert said in output
    for logger in ("httpcore", "httpx", "vod"):
        assert re.search(rf"^LOG {logger}\S* DEBUG|^LOG {logger}\S* INFO", output, re.MULTILINE), logger


def run(folder: Path) -> tuple[str, set[tuple[str, str]], str]:
    """What a full run said, the secrets that it used, by kind, and the access key, which is none."""
    with running(StandinSettings(data=folder / "standin")) as standin:
        standin.behaviour.faults = [
            parse("cut,call=storage download,count=1"),
            parse("error,call=details,count=1"),
            parse("page,call=storage upload,count=1"),
            parse("truncate,call=authority,count=1"),
            parse("throttle,call=publish,count=1,retry_after=0"),
        ]
        settings = standin.settings
        keys = connection_json(standin, quotas=NO_PACING)
        connections = {
            "VOD_KEYS": connection_json(standin, quotas=NO_PACING, security_token=SECURITY_TOKEN),
            "VOD_TOKEN": _login(standin, settings.password),
            "VOD_WRONG": json.dumps({**json.loads(keys), "password": WRONG}),
            "VOD_WRONG_LOGIN": _login(standin, WRONG),
            "VOD_NOWHERE": json.dumps({**json.loads(keys), "host": "http://127.0.0.1:1"}),
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.test_secrets", str(folder), json.dumps(connections)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stdout[-3000:]
    sent = [tuple(pair) for pair in map(json.loads, (folder / "sent").read_text().splitlines())]
    mine = [("SK", settings.secret_key), ("password", settings.password), ("wrong", WRONG)]
    return done.stdout, {*sent, *mine, ("security token", SECURITY_TOKEN)}, settings.access_key


def _login(standin: Standin, password: str) -> str:
    connection = json.loads(
        connection_json(standin, quotas=NO_PACING, account=standin.settings.account, iam_endpoint=standin.url)
    )
    return json.dumps({**connection, "login": standin.settings.user, "password": password})


# --- the run ---------------------------------------------------------------------------------------


def main(folder: Path, connections: dict[str, str]) -> None:
    for name, value in connections.items():
        os.environ[f"AIRFLOW_CONN_{name}"] = value
    web = _redirecting()
    os.environ["AIRFLOW__VOD__ALLOWED_LOCATIONS"] = f"/\n{web}"
    # Unbuffered: several threads write, and a text file's buffer is not made for that.
    with (folder / "sent").open("wb", buffering=0) as sent:
        _write_down_what_is_sent(
            lambda kind, secret: sent.write(f"{json.dumps([kind, secret])}\n".encode()),
        )
        import vod.operators
        import vod.sensors  # noqa: F401 - Airflow sets up logging when it is imported

        _log_everything()
        for conn_id in ("vod_keys", "vod_token"):
            _work(conn_id, folder / conn_id)
        _download(web, folder / "web")
        for conn_id in ("vod_wrong", "vod_wrong_login", "vod_nowhere"):
            _fail(conn_id)


def _log_everything() -> None:
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("LOG %(name)s %(levelname)s %(message)s"))
    root.handlers = [handler]
    for name in ("", *LOGGERS, *logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
        logger.propagate = True
        if name:
            logger.handlers = []


def _write_down_what_is_sent(write: Callable[[str, str], object]) -> None:
    """Put an ear on the transports."""
    import httpx

    def overhear(url: str, *headers: Any) -> None:
        for name, value in [
            *parse_qsl(urlsplit(url).query),
            *(pair for some in headers for pair in some.items()),
        ]:
            if name.lower() in (*SECRET_HEADERS, *SECRET_QUERY):
                write(name.lower(), value)
                if name.lower() == "authorization":
                    write("signature of a call", value.rpartition("=")[2])

    blocking, on_a_loop = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request

    def handle(self: Any, request: httpx.Request) -> httpx.Response:
        overhear(str(request.url), request.headers)
        response = blocking(self, request)
        overhear("", response.headers)
        return response

    async def handle_async(self: Any, request: httpx.Request) -> httpx.Response:
        overhear(str(request.url), request.headers)
        response = await on_a_loop(self, request)
        overhear("", response.headers)
        return response

    httpx.HTTPTransport.handle_request = handle  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.handle_async_request = handle_async  # type: ignore[method-assign]


def _run(operator: Any) -> Any:
    from airflow.sdk.exceptions import TaskDeferred

    context = context_of(DictStore())
    go_on = partial(operator.execute, context)
    while True:
        try:
            result = go_on()
        except TaskDeferred as deferred:
            _tell(deferred.trigger, deferred.trigger.serialize())
            event = asyncio.run(first_event(deferred.trigger))
            _tell(event)
            go_on = partial(getattr(operator, deferred.method_name), context, event=event)
        else:
            _tell(operator, vars(context["task_state_store"]), result)
            return result


def _work(conn_id: str, folder: Path) -> None:
    """All that this package does, with one connection."""
    from vod.cloud.assets import PullRequest
    from vod.hooks import VodHook
    from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
    from vod.sensors import AudioAssetSensor

    folder.mkdir()
    big = folder / "big.mp4"
    with big.open("wb") as file:
        file.truncate(21 * 1024 * 1024)
    hook = VodHook(conn_id)
    with _failure():
        hook.client.upload(SAMPLES / "lake.mov")
    assets = [hook.client.upload(SAMPLES / "lake.mov"), hook.client.upload(big)]
    common: dict[str, Any] = {"vod_conn_id": conn_id, "failed_assets": "return"}

    for deferrable in (True, False):
        options = {
            "destination": str(folder / str(deferrable)),
            "deferrable": deferrable,
            "poll_interval": 0.05,
        }
        records = _run(
            ExtractAudioOperator(task_id="x", assets=[*assets, "f" * 32], engine="vod", **options, **common)
        )
    _run(TranscribeAudioOperator(task_id="t", audio=records, destination=str(folder), **common))
    submitted = _run(ExtractAudioOperator(task_id="y", assets=assets, wait_for_completion=False, **common))
    for deferrable in (True, False):
        _run(
            AudioAssetSensor(
                task_id="s", audio_assets=submitted, poke_interval=0.05, deferrable=deferrable, **common
            )
        )
    local = [*assets, str(SAMPLES / "lake.mov"), "f" * 32, str(folder / "nothing.mp4")]
    _run(ExtractAudioOperator(task_id="f", assets=local, engine="ffmpeg", destination=str(folder), **common))

    client = hook.client
    read = client.asset_info(assets)
    _tell(read, client.asset_details(assets[0]))
    _tell(client.publish(assets), client.unpublish(assets))
    _tell(client.pull([PullRequest(url="http://127.0.0.1:1/a.mp4?Signature=foreign", title="pulled")]))
    project = hook.settings.service.project_id
    _tell(VodHook(conn_id).run(f"/v1.0/{project}/asset/info", data={"asset_id": assets}).json())
    with _failure():
        VodHook(conn_id).run(f"/v1.0/{project}/asset/nonsense")
    _tell(hook.test_connection(), client.delete(assets))
    _tell_all_objects()


class _Redirecting(BaseHTTPRequestHandler):
    """Serves a video behind two redirects, one relative and one absolute, each to a signed URL."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        there = {
            "/first.mov": "/second.mov?Signature=of-a-relative-redirect",
            "/second.mov": f"http://{self.headers['Host']}/lake.mov?Signature=of-an-absolute-redirect",
        }.get(path)
        if path not in ("/first.mov", "/second.mov", "/lake.mov"):
            self.send_error(404)
            return
        body = b"" if there else (SAMPLES / "lake.mov").read_bytes()
        self.send_response(302 if there else 200)
        if there:
            self.send_header("Location", there)
        self.send_header("Set-Cookie", "Signature=of-a-cookie")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


def _redirecting() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def _download(web: str, folder: Path) -> None:
    """A signed URL as source, which redirects to others."""
    from vod.operators import ExtractAudioOperator

    url = f"{web}/first.mov?Signature=of-the-source"
    common: dict[str, Any] = {"engine": "ffmpeg", "destination": str(folder), "failed_assets": "return"}
    [record] = _run(ExtractAudioOperator(task_id="w", assets=[url], **common))
    assert record["outcome"] == "extracted", record
    wrong = f"{web}/nothing.mov?Signature=of-a-missing-source"
    _run(ExtractAudioOperator(task_id="w", assets=[wrong], **common))


def _fail(conn_id: str) -> None:
    """Everything again, with a connection that cannot work."""
    from vod.hooks import VodHook
    from vod.operators import ExtractAudioOperator

    hook = VodHook(conn_id)
    _tell(hook.test_connection())
    client = hook.settings.client(retry_seconds=0.0)
    for call in (
        lambda: client.upload(SAMPLES / "lake.mov"),
        lambda: client.download("a" * 32, Path(os.devnull)),
        lambda: client.asset_details("a"),
        lambda: hook.get_conn().get(f"{hook.settings.service.endpoint}/v1.0/x/asset/info"),
    ):
        with _failure():
            call()
    if conn_id != "vod_nowhere":  # it would be patient
        with _failure():
            _run(ExtractAudioOperator(task_id="x", assets=["a"], engine="vod", vod_conn_id=conn_id))
    _tell_all_objects()


class _failure:  # noqa: N801 - used like a function
    """A failure, told in every way in which Python tells of one."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        link = error
        while link is not None:
            _tell(link, str(link), vars(link))
            link = link.__cause__ or link.__context__
        if isinstance(error, Exception):
            logging.getLogger("failures").error("It failed", exc_info=error)
        return isinstance(error, Exception)


def _tell(*things: Any) -> None:
    for thing in things:
        print("TOLD", repr(thing), str(thing))


def _tell_all_objects() -> None:
    """The repr of every living object whose class is ours."""
    for thing in gc.get_objects():
        module = getattr(type(thing), "__module__", "")
        if isinstance(module, str) and module.startswith("vod."):
            print(f"OBJECT [{module}]", repr(thing))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
