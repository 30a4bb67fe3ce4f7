"""The four test vectors of the contract, section 1.1."""

from __future__ import annotations

import httpx
import pytest

from vod.cloud.signing import Credentials, SignatureAuth

PROJECT = "0123456789abcdef0123456789abcdef"
SERVICE = f"https://vod.cn-north-4.myhuaweicloud.com/v1.0/{PROJECT}/asset"
DATE = "20240102T030405Z"
EXAMPLE = Credentials(ak="EXAMPLEAK", sk="EXAMPLESK")


def signed(
    credentials: Credentials,
    method: str,
    url: httpx.URL | str,
    *,
    project_id: str | None = PROJECT,
    date: str = DATE,
    body: bytes | None = None,
) -> httpx.Request:
    headers = {"Content-Type": "application/json", "X-Sdk-Date": date}
    request = httpx.Request(method, url, content=body, headers=headers)
    return next(SignatureAuth(credentials, project_id).auth_flow(request))


def signature(request: httpx.Request) -> str:
    return request.headers["Authorization"].rpartition("Signature=")[2]


def test_vector_a_published_by_the_vendor() -> None:
    request = signed(
        Credentials(ak="QTWAOYTTINDUT2QVKYUC", sk="MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"),
        "GET",
        "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"
        "?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
        project_id=None,
        date="20191115T033655Z",
    )
    assert request.headers["Authorization"] == (
        "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, "
        "Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"
    )


def test_vector_b_start() -> None:
    body = b'{"asset_id":"3e1cd21131a94525be55acf65888bf46","parameter":{"format":"MP3"}}'
    request = signed(EXAMPLE, "POST", f"{SERVICE}/extract_audio", body=body)
    assert signature(request) == "348738fcff9e3c9465fa39f6405068db0f84f3e15ef57bab064618f544fef451"
    assert request.url.path.endswith("/extract_audio"), "the slash belongs only into what is signed"


def test_vector_c_repeated_names_are_sorted_by_value() -> None:
    url = httpx.URL(f"{SERVICE}/info", params={"asset_id": ["b" * 32, "a" * 32]})
    request = signed(EXAMPLE, "GET", url)
    assert signature(request) == "2a60c9b377a105f175a8db7eaa643d1c3d84ff06c1254e053251f2898d69f86a"
    assert request.url.query.decode() == f"asset_id={'a' * 32}&asset_id={'b' * 32}"


def test_vector_d_encoding_and_temporary_keys() -> None:
    url = httpx.URL(f"{SERVICE}/list", params={"query_string": "a b,c*~/", "page": 0})
    temporary = Credentials(ak="EXAMPLEAK", sk="EXAMPLESK", security_token="STSTOKEN")
    request = signed(temporary, "GET", url)
    assert signature(request) == "c3a74717a467ffd5948c26e0d040f598e54944ab028e0655f994c772a46b620a"
    assert request.url.query == b"page=0&query_string=a%20b%2Cc%2A~%2F"


@pytest.mark.parametrize("secret", ["EXAMPLESK", "STSTOKEN"])
def test_no_secret_in_repr(secret: str) -> None:
    assert secret not in repr(Credentials(ak="EXAMPLEAK", sk="EXAMPLESK", security_token="STSTOKEN"))
