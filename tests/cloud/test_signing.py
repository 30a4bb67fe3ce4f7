"""The four test vectors of the contract, section 1.1, and any request against two other readings of it."""

from __future__ import annotations

import calendar
import time
from urllib.parse import quote

import httpx
import pytest
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vod.cloud.signing import Credentials, SignatureAuth
from vod.standin.signatures import KeyCheck, SignatureError, WireRequest, query_pairs

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


# --- any request -----------------------------------------------------------------------------------

NOW = float(calendar.timegm(time.strptime(DATE, "%Y%m%dT%H%M%SZ")))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PAIRS = st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=6)
SEGMENTS = st.lists(TEXT.filter(lambda text: text not in ("", ".", "..")), min_size=1, max_size=4)
TOKENS = st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
METHODS = st.sampled_from(("GET", "POST", "PUT", "DELETE"))
ANY = settings(max_examples=300, derandomize=True, database=None)


def on_the_wire(request: httpx.Request) -> WireRequest:
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return WireRequest(method=request.method, path=path, query=query, headers=headers, body=request.content)


def check() -> KeyCheck:
    return KeyCheck(EXAMPLE.ak, EXAMPLE.sk, clock=lambda: NOW)


def url_of(segments: list[str], pairs: list[tuple[str, str]]) -> str:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"https://vod.example.com/{'/'.join(quote(part, safe='') for part in segments)}?{query}"


@ANY
@given(method=METHODS, segments=SEGMENTS, pairs=PAIRS, body=st.binary(max_size=100), token=TOKENS)
@example("GET", ["a"], [("a", "b"), ("a", "B"), ("a", ""), ("A", "~*'() +&=%/?#")], b"", None)
@example("POST", ["a%2Fb", "~", "a+b", "é"], [("a+b", "%20"), ("aa", "1"), ("a", "2")], b"{}", "STSTOKEN")
def test_the_other_side_accepts_it_and_so_does_the_vendor(
    method: str, segments: list[str], pairs: list[tuple[str, str]], body: bytes, token: str | None
) -> None:
    keys = Credentials(ak=EXAMPLE.ak, sk=EXAMPLE.sk, security_token=token)
    request = signed(keys, method, url_of(segments, pairs), body=body)
    wire = on_the_wire(request)
    check().verify(wire)
    assert sorted(query_pairs(wire.query)) == sorted(pairs), "what was to be asked is what is asked"
    names = wire.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    theirs = SdkRequest(
        method=method,
        resource_path=wire.path,
        query_params=pairs,
        header_params={name.title(): wire.headers[name] for name in names},
        body=body,
    )
    Signer(EXAMPLE).sign(theirs)
    assert theirs.header_params["Authorization"] == wire.headers["authorization"]
    assert wire.query == Signer.process_canonical_query_string(theirs)


@ANY
@given(
    pairs=PAIRS.filter(bool), other=PAIRS, body=st.binary(max_size=20), tail=st.binary(min_size=1, max_size=5)
)
def test_of_what_is_signed_nothing_can_be_changed(
    pairs: list[tuple[str, str]], other: list[tuple[str, str]], body: bytes, tail: bytes
) -> None:
    wire = on_the_wire(signed(EXAMPLE, "POST", url_of(["a"], pairs), body=body))
    changes = [{"body": body + tail}, {"path": wire.path + "b"}, {"method": "PUT"}]
    if sorted(other) != sorted(pairs):
        changes.append({"query": url_of(["a"], other).partition("?")[2]})
    for change in changes:
        with pytest.raises(SignatureError, match="verify aksk signature fail"):
            check().verify(WireRequest(**{**vars(wire), **change}))  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", ["EXAMPLESK", "STSTOKEN"])
def test_no_secret_in_repr(secret: str) -> None:
    assert secret not in repr(Credentials(ak="EXAMPLEAK", sk="EXAMPLESK", security_token="STSTOKEN"))
