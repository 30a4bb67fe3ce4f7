"""Signatures are verified by the contract, and every broken one is refused."""

from __future__ import annotations

import calendar
import hashlib
import time

import pytest

from vod.standin.signatures import (
    KeyCheck,
    SignatureError,
    WireRequest,
    canonical_request,
    query_pairs,
    signature,
)

PROJECT = "0123456789abcdef0123456789abcdef"
ACCESS_KEY = "EXAMPLEAK"
SECRET_KEY = "EXAMPLESK"
DATE = "20240102T030405Z"
SIGNED = "content-type;host;x-project-id;x-sdk-date"


def seconds(date: str) -> float:
    return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


def request(
    method: str = "GET", call: str = "info", *, query: str = "", body: bytes = b"", **headers: str
) -> WireRequest:
    return WireRequest(
        method=method,
        path=f"/v1.0/{PROJECT}/asset/{call}",
        query=query,
        body=body,
        headers={
            "content-type": "application/json",
            "host": "vod.cn-north-4.myhuaweicloud.com",
            "x-project-id": PROJECT,
            "x-sdk-date": DATE,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
    )


def signed(
    wire: WireRequest, *, names: str = SIGNED, date: str = DATE, secret: str = SECRET_KEY
) -> WireRequest:
    value = signature(canonical_request(wire, names.split(";")), date, secret)
    wire.headers["authorization"] = (
        f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders={names}, Signature={value}"  # type: ignore[index]
    )
    return wire


def check(now: str = DATE) -> KeyCheck:
    return KeyCheck(ACCESS_KEY, SECRET_KEY, clock=lambda: seconds(now))


# --- vectors of the contract ----------------------------------------------------------------------


def test_a_published_by_the_vendor():
    wire = WireRequest(
        method="GET",
        path="/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
        query="limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
        headers={
            "content-type": "application/json",
            "host": "service.region.example.com",
            "x-sdk-date": "20191115T033655Z",
        },
        body=b"",
    )
    canonical = canonical_request(wire, ["content-type", "host", "x-sdk-date"])
    assert (
        hashlib.sha256(canonical.encode()).hexdigest()
        == "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"
    )
    assert (
        signature(canonical, "20191115T033655Z", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc")
        == "7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"
    )


@pytest.mark.parametrize(
    ("wire", "names", "expected"),
    [
        pytest.param(
            request(
                "POST",
                "extract_audio",
                body=b'{"asset_id":"3e1cd21131a94525be55acf65888bf46","parameter":{"format":"MP3"}}',
            ),
            SIGNED,
            "348738fcff9e3c9465fa39f6405068db0f84f3e15ef57bab064618f544fef451",
            id="b-body",
        ),
        pytest.param(
            request(query=f"asset_id={'b' * 32}&asset_id={'a' * 32}"),
            SIGNED,
            "2a60c9b377a105f175a8db7eaa643d1c3d84ff06c1254e053251f2898d69f86a",
            id="c-repeated-names",
        ),
        pytest.param(
            request(call="list", query="query_string=a%20b%2Cc*~%2F&page=0", x_security_token="STSTOKEN"),
            f"{SIGNED};x-security-token",
            "c3a74717a467ffd5948c26e0d040f598e54944ab028e0655f994c772a46b620a",
            id="d-escapes-and-temporary-key",
        ),
    ],
)
def test_computed_with_the_official_signer(wire, names, expected):
    assert signature(canonical_request(wire, names.split(";")), DATE, SECRET_KEY) == expected
    value = f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders={names}, Signature={expected}"
    wire.headers["authorization"] = value
    check().verify(wire)


def test_a_plus_is_a_plus_and_an_empty_value_stays():
    assert query_pairs("a=1+2&b=&c&d=%2B%20") == [("a", "1+2"), ("b", ""), ("c", ""), ("d", "+ ")]


def test_the_hash_header_takes_the_place_of_the_hash_of_a_body():
    with_body = request("POST", body=b"{}", x_sdk_content_sha256="UNSIGNED-PAYLOAD")
    assert canonical_request(with_body, ["x-sdk-date"]).endswith("\nUNSIGNED-PAYLOAD")
    without = request(x_sdk_content_sha256="UNSIGNED-PAYLOAD")
    assert canonical_request(without, ["x-sdk-date"]).endswith(hashlib.sha256(b"").hexdigest())


@pytest.mark.parametrize(
    "tampered",
    [
        pytest.param({"method": "PUT"}, id="method"),
        pytest.param({"path": f"/v1.0/{PROJECT}/asset/list"}, id="path"),
        pytest.param({"query": "asset_id=x"}, id="query"),
        pytest.param({"body": b"{}"}, id="body"),
    ],
)
def test_whatever_is_signed_cannot_be_changed(tampered):
    wire = signed(request())
    with pytest.raises(SignatureError, match="verify aksk signature fail,canonicalRequest:"):
        check().verify(WireRequest(**{**vars(wire), **tampered}))


def test_the_refusal_shows_the_canonical_request_on_one_line():
    wire = signed(request(query="b=2&a=1"), secret="another")
    with pytest.raises(SignatureError) as refused:
        check().verify(wire)
    assert str(refused.value) == (
        "verify aksk signature fail,canonicalRequest:"
        f"GET|/v1.0/{PROJECT}/asset/info/|a=1&b=2|content-type:application/json|host:vod.cn-north-4.myhuaweicloud.com|"
        f"x-project-id:{PROJECT}|x-sdk-date:{DATE}||{SIGNED}|{hashlib.sha256(b'').hexdigest()}"
    )


@pytest.mark.parametrize("now", ["20240102T031905Z", "20240102T024905Z"])
def test_a_clock_may_differ_by_fifteen_minutes(now):
    check(now).verify(signed(request()))


@pytest.mark.parametrize("now", ["20240102T031906Z", "20240102T024904Z"])
def test_a_clock_may_not_differ_by_more(now):
    with pytest.raises(SignatureError, match="x-sdk-date 20240102T030405Z is out of the allowed 15 minutes"):
        check(now).verify(signed(request()))


@pytest.mark.parametrize("date", ["2024-01-02T03:04:05Z", "20241399T030405Z", "20240102T030405", ""])
def test_a_date_has_one_format(date):
    with pytest.raises(SignatureError, match="x-sdk-date is malformed"):
        check().verify(signed(request(x_sdk_date=date), date=date))


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ("host;x-project-id", "header x-sdk-date is not signed"),
        ("host;x-sdk-date", "header x-security-token is not signed"),
    ],
)
def test_what_has_to_be_signed(names, complaint):
    with pytest.raises(SignatureError, match=complaint):
        check().verify(signed(request(x_security_token="STSTOKEN"), names=names))


def test_a_signed_header_has_to_be_sent():
    wire = signed(request())
    del wire.headers["x-project-id"]
    with pytest.raises(SignatureError, match="signed header x-project-id not found"):
        check().verify(wire)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer x",
        f"SDK-HMAC-SHA256, Access={ACCESS_KEY}, SignedHeaders=host, Signature={'0' * 64}",
        f"SDK-HMAC-SHA256 Access={ACCESS_KEY},SignedHeaders=host,Signature={'0' * 64}",
        f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders=host, Signature=short",
    ],
)
def test_the_authorization_header_has_exactly_one_form(authorization):
    with pytest.raises(SignatureError, match="malformed"):
        check().verify(request(authorization=authorization))


# --- lock -----------------------------------------------------------------------------------------


def test_after_more_than_five_failures_in_a_row_even_right_signatures_fail_for_five_minutes():
    now = seconds(DATE)
    keys = KeyCheck(ACCESS_KEY, SECRET_KEY, clock=lambda: now)
    for _ in range(6):
        with pytest.raises(SignatureError, match="canonicalRequest"):
            keys.verify(signed(request(), secret="wrong"))
    with pytest.raises(SignatureError, match="AK access failed to reach the limit,forbidden"):
        keys.verify(signed(request()))
    now += 300
    keys.verify(signed(request()))


def test_five_failures_do_not_lock_and_a_success_starts_the_count_anew():
    keys = check()
    for _ in range(2):
        for _ in range(5):
            with pytest.raises(SignatureError, match="canonicalRequest"):
                keys.verify(signed(request(), secret="wrong"))
        keys.verify(signed(request()))
