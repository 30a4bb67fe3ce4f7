"""A real S3 server for tests, on the loopback, that checks signatures and can be out of order: moto's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

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
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**connection, "extra": extra}))

    def client(self) -> Any:
        """A client of boto3 with the access key."""
        return _client("s3", self.url, self.login, self.password)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of each visible object."""
        listed = self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {found["Key"]: found["Size"] for found in listed}

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


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """Run one; what an earlier one of this process stored is gone."""
    server_class = pytest.importorskip("moto.server").ThreadedMotoServer
    pytest.importorskip("boto3")
    first = server_class(ip_address="127.0.0.1", port=0, verbose=False)
    first.start()
    host, port = first.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.post(f"{url}/moto-api/reset-auth", content="inf").raise_for_status()
    httpx.post(f"{url}/moto-api/reset").raise_for_status()
    iam = _client("iam", url, "root", "root", region="us-east-1")
    iam.create_user(UserName="vod")
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="vod", PolicyName="s3", PolicyDocument=policy)
    key = iam.create_access_key(UserName="vod")["AccessKey"]
    configuration = {"LocationConstraint": REGION}
    _client("s3", url, "root", "root").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=configuration)
    httpx.post(f"{url}/moto-api/reset-auth", content="0").raise_for_status()
    first.stop()
    # One that always comes back at the same port.
    server = server_class(ip_address=host, port=port, verbose=False)
    server.start()
    try:
        yield ObjectStore(server, url, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        server.stop()


def _client(service: str, url: str, key: str, secret: str, region: str = REGION) -> Any:
    import boto3

    return boto3.client(
        service, region_name=region, endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret
    )
