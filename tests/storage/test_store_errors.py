"""Whatever a store or its library raises is named, and final only if no retry cures it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from botocore import exceptions as boto

from tests.object_store import BUCKET, ObjectStore, refusing_store, running_store
from vod import media
from vod.errors import VodError
from vod.locations import ANYWHERE
from vod.pipeline import manifests
from vod.storage.destination import Destination
from vod.storage.errors import StorageError, StorageRefusedError, store_errors
from vod.storage.sources import local_copy, version

pytest.importorskip("s3fs")

HERE = f"obs://obs_errors@{BUCKET}/audio"
SECRET = "X-Amz-Signature=0123"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with running_store() as store:
        yield store


@pytest.fixture(autouse=True)
def connected(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the library's own patience is not what is tested
    store.connect(monkeypatch, "obs_errors")


def write(location: str) -> None:
    with Destination(location).writing("a.mp3") as path:
        path.write_bytes(b"sound")


def fetch(location: str) -> None:
    with local_copy(f"{location}/a.mp3", None):
        pass


ACCESSES: dict[str, Callable[[str], object]] = {
    "check": lambda location: Destination(location).check(),
    "write": write,
    "size": lambda location: Destination(location).size("a.mp3"),
    "read": lambda location: Destination(location).read("a.mp3"),
    "fetch": fetch,
    "version": lambda location: version(f"{location}/a.mp3", limits=media.Limits(60)),
    "list": lambda location: list(manifests.read(f"{location}/a.csv", ANYWHERE)),
    "results": lambda location: manifests.write_results(f"{location}/a.csv", ANYWHERE, []),
}

access = pytest.mark.parametrize("name", ACCESSES)


@pytest.mark.quick(3)
@access
def test_a_store_that_is_not_there_is_a_reason_to_try_again(store: ObjectStore, name: str) -> None:
    with store.down(), pytest.raises(StorageError) as caught:
        ACCESSES[name](HERE)
    assert caught.value.retryable
    assert HERE in str(caught.value)
    assert store.password not in str(caught.value)


@access
def test_a_host_without_an_address_is_a_reason_to_try_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store.connect(monkeypatch, "obs_dns", extra={"obs_endpoint": "https://nowhere.invalid"})
    with pytest.raises(StorageError) as caught:
        ACCESSES[name](f"obs://obs_dns@{BUCKET}/audio")
    assert caught.value.retryable


@access
def test_wrong_keys_are_final(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    store.connect(monkeypatch, "obs_wrong", password="not-the-secret")
    if name == "version":  # what follows says it
        assert ACCESSES[name](f"obs://obs_wrong@{BUCKET}/audio") is None
        return
    with pytest.raises(StorageRefusedError) as caught:
        ACCESSES[name](f"obs://obs_wrong@{BUCKET}/audio")
    assert not caught.value.retryable
    assert "keys" in str(caught.value)
    assert "not-the-secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["check", "write", "results"])
def test_a_bucket_that_does_not_exist_is_final(name: str) -> None:
    with pytest.raises(StorageRefusedError, match="no such bucket") as caught:
        ACCESSES[name]("obs://obs_errors@nowhere-at-all/audio")
    assert "nowhere-at-all" in str(caught.value)


def test_a_connection_that_does_not_exist_is_final() -> None:
    with pytest.raises(VodError, match="obs_forgotten") as caught:
        Destination(f"obs://obs_forgotten@{BUCKET}/audio").check()
    assert not caught.value.retryable


@pytest.mark.quick(5)
@pytest.mark.parametrize(
    ("status", "code", "retryable", "words"),
    [
        (503, "SlowDown", True, "too busy (SlowDown)"),
        (503, "ServiceUnavailable", True, "out of order (ServiceUnavailable)"),
        (500, "InternalError", True, "out of order"),
        (429, "TooManyRequests", True, "too busy"),
        (400, "RequestTimeout", True, "out of order (RequestTimeout)"),
        (400, "ExpiredToken", True, "ExpiredToken"),
        (418, "Unheard", True, "failed (Unheard)"),
        (403, "AccessDenied", False, "may not be written to with these keys"),
        (403, "InvalidAccessKeyId", False, "does not accept the keys"),
        (403, "RequestTimeTooSkewed", False, "clock"),
        (400, "AuthorizationHeaderMalformed", False, "another region"),
        (404, "NoSuchBucket", False, "no such bucket"),
    ],
)
def test_what_a_store_answers(
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    retryable: bool,
    words: str,
) -> None:
    with refusing_store(status, code, SECRET) as url:
        store.connect(monkeypatch, f"obs_{code.lower()}", extra={"obs_endpoint": url})
        with pytest.raises(StorageError) as caught:
            write(f"obs://obs_{code.lower()}@{BUCKET}/audio")
    assert caught.value.retryable is retryable
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def _of_aiohttp(status: int) -> Exception:
    info = aiohttp.RequestInfo(url=None, method="GET", headers=None, real_url=None)  # type: ignore[arg-type]
    return aiohttp.ClientResponseError(info, (), status=status, message=SECRET)


class HttpError(Exception):
    """As gcsfs raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(SECRET)
        self.code = code


class HttpResponseError(Exception):
    """As the library of Azure raises it."""

    def __init__(self, status_code: int, error_code: str) -> None:
        super().__init__(SECRET)
        self.status_code, self.error_code = status_code, error_code


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (boto.EndpointConnectionError(endpoint_url=SECRET), True),
        (boto.ConnectTimeoutError(endpoint_url=SECRET), True),
        (boto.ReadTimeoutError(endpoint_url=SECRET), True),
        (boto.HTTPClientError(error=SECRET), True),
        (boto.NoCredentialsError(), False),
        (boto.PartialCredentialsError(provider="p", cred_var="v"), False),
        (_of_aiohttp(502), True),
        (_of_aiohttp(429), True),
        (_of_aiohttp(403), False),
        (aiohttp.ServerDisconnectedError(SECRET), True),
        (aiohttp.ClientPayloadError(SECRET), True),
        (socket.gaierror(-3, SECRET), True),
        (ConnectionResetError(104, SECRET), True),
        (asyncio.TimeoutError(SECRET), True),
        (OSError(SECRET), True),
        (PermissionError(SECRET), False),
        (HttpError(503), True),
        (HttpError(401), False),
        (HttpResponseError(503, "ServerBusy"), True),
        (HttpResponseError(403, "AuthorizationFailure"), False),
        (HttpResponseError(404, "ContainerNotFound"), False),
        (AirflowNotFoundException(SECRET), False),
        (RuntimeError(SECRET), True),
        (KeyError(SECRET), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_library_raises(error: Exception, retryable: bool) -> None:
    with pytest.raises(StorageError) as caught, store_errors("s3://bucket/a", writing=True):
        raise error
    assert caught.value.retryable is retryable
    assert "s3://bucket/a" in str(caught.value)
    assert caught.value.remedy
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__, "a log would show the text of the library"


def test_a_full_disk_and_what_is_not_there() -> None:
    with pytest.raises(media.NoSpaceError), store_errors("s3://bucket/a", writing=True):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), store_errors("s3://bucket/a"):
        raise FileNotFoundError("a")


@pytest.mark.parametrize(("number", "retryable"), [(5, True), (116, True), (13, False), (30, False)])
def test_a_network_file_system_that_is_out_of_order_is_a_reason_to_try_again(
    tmp_path: Path, number: int, retryable: bool
) -> None:
    error = media.not_done(tmp_path, "written", OSError(number, "…"))
    assert isinstance(error, media.DestinationError)
    assert error.retryable is retryable
