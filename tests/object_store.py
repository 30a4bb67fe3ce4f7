"""A real S3 server for tests, on the loopback, that checks signatures and can be out of order: moto's."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from airflow.sdk.io import store as stores

REGION = "ap-southeast-3"
BUCKET = "media"


class ObjectStore:
    """A bucket ``media`` and the one access key that may use it.

    :ivar settings: ``url``, ``login`` and ``password``.
    """

    def __init__(self, server: Any, url: str, login: str, password: str) -> None:
        self._server = server
        self.url, self.login, self.password = url, login, password

    def connect(self, monkeypatch: pytest.MonkeyPatch, conn_id: str, **changes: Any) -> None:
        """Define a connection of type ``vod`` to it; *changes* replace its fields."""
        extra = {"region": REGION, "obs_endpoint": self.url, **changes.pop("extra", {})}
        connection = {"conn_type": "vod", "login": self.login, "password": self.password, **changes}
        stores._STORE_CACHE.pop(f"obs-{conn_id}", None)  # of an earlier server
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**connection, "extra": extra}))

    def client(self) -> Any:
        """A client of boto3 with the access key."""
        return _client("s3", self.url, self.login, self.password)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of each visible object."""
        listed = self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {found["Key"]: found["Size"] for found in listed}

    def user(self, name: str, actions: list[str]) -> tuple[str, str]:
        """A further access key, with its secret, that may do only this with the bucket."""
        with self.unchecked():
            return _access_key(self.url, name, actions)

    @contextmanager
    def unchecked(self) -> Iterator[None]:
        """Within the block compare no signatures: moto cannot with those in a URL. It still wants one."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content="inf").raise_for_status()
        try:
            yield
        finally:
            httpx.post(f"{self.url}/moto-api/reset-auth", content="0").raise_for_status()

    @contextmanager
    def unwell(self, *, failing: float = 0.0, seconds: float = 0.0) -> Iterator[None]:
        """Within the block answer late, and refuse some of the requests for now.

        :param failing: Share of the requests.
        """
        trouble = self._server.trouble
        trouble.failing, trouble.seconds = failing, seconds
        try:
            yield
        finally:
            trouble.failing = trouble.seconds = 0.0

    @contextmanager
    def holding(self, query: str) -> Iterator[None]:
        """Within the block answer no request that has this in its query; they are served at its end."""
        trouble = self._server.trouble
        trouble.held = query
        trouble.released.clear()
        try:
            yield
        finally:
            trouble.held = ""
            trouble.released.set()

    @property
    def refused(self) -> int:
        """Requests that were refused for now."""
        return int(self._server.trouble.refused)

    def stop(self) -> None:
        """Be out of reach; what is stored stays."""
        self._server.stop()

    def start(self) -> None:
        """Be there again."""
        self._server.start()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Be out of reach within the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()


class Trouble:
    """Between the network and a WSGI application: late answers, and ``503 Slow Down`` for some requests.

    :ivar failing: Share of the requests that are refused.
    :ivar seconds: Before each answer.
    :ivar refused: How many were refused.
    :ivar held: Requests with this in their query wait until :attr:`released` is set.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._random = random.Random(1)
        self.failing = self.seconds = 0.0
        self.refused = 0
        self.held, self.released = "", threading.Event()

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:
        time.sleep(self.seconds)
        if self.held and self.held in environment["QUERY_STRING"]:
            self.released.wait()
        if self._random.random() >= self.failing:
            return self._application(environment, start)
        self.refused += 1
        environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]


class Server:
    """moto's server in a thread, as its ThreadedMotoServer, with :class:`Trouble` in front."""

    def __init__(self, address: tuple[str, int]) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.address = address
        self.trouble = Trouble(DomainDispatcherApplication(create_backend_app))

    def start(self) -> None:
        from moto.moto_server.werkzeug_app import MotoRequestHandler
        from werkzeug.serving import make_server

        self._server = make_server(
            *self.address, self.trouble, threaded=True, request_handler=MotoRequestHandler
        )
        self.address = ("127.0.0.1", self._server.port)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """Run one; what an earlier one of this process stored is gone."""
    pytest.importorskip("moto.server")
    pytest.importorskip("boto3")
    first = Server(("127.0.0.1", 0))
    first.start()
    host, port = first.address
    url = f"http://{host}:{port}"
    httpx.post(f"{url}/moto-api/reset-auth", content="inf").raise_for_status()
    httpx.post(f"{url}/moto-api/reset").raise_for_status()
    key = _access_key(url, "vod", ["s3:*"])
    configuration = {"LocationConstraint": REGION}
    _client("s3", url, "root", "root").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=configuration)
    httpx.post(f"{url}/moto-api/reset-auth", content="0").raise_for_status()
    first.stop()
    # One that always comes back at the same port.
    server = Server((host, port))
    server.start()
    try:
        yield ObjectStore(server, url, *key)
    finally:
        server.stop()


@contextmanager
def refusing_store(status: int, code: str, message: str = "No.") -> Iterator[str]:
    """A store that answers every request with one error of S3; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the client waits for "100 Continue" before it sends a body

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Connection", "close")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _access_key(url: str, user: str, actions: list[str]) -> tuple[str, str]:
    iam = _client("iam", url, "root", "root", region="us-east-1")
    iam.create_user(UserName=user)
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=user, PolicyName="s3", PolicyDocument=policy)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def _client(service: str, url: str, key: str, secret: str, region: str = REGION) -> Any:
    import boto3

    return boto3.client(
        service, region_name=region, endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret
    )
