"""The classification of section 9."""

from __future__ import annotations

import pytest

from vod.cloud.errors import (
    AccountError,
    AssetNotFoundError,
    AssetNotSupportedError,
    AuthenticationError,
    CloudError,
    ForbiddenError,
    InvalidRequestError,
    ServiceError,
    SourceNotReadyError,
    ThrottledError,
    error_class,
)


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("VOD.10053", InvalidRequestError),
        ("VOD.10060", SourceNotReadyError),
        ("VOD.10061", SourceNotReadyError),
        ("VOD.10062", AssetNotFoundError),
        ("VOD.10063", AssetNotSupportedError),
        ("VOD.10083", SourceNotReadyError),
        ("VOD.10099", AssetNotSupportedError),
        ("VOD.10120", AccountError),
        ("VOD.10127", ThrottledError),
        ("VOD.10051", ServiceError),
        ("VOD.10054", AuthenticationError),
        ("VOD.10111", ForbiddenError),
    ],
)
def test_the_code_decides_not_400_or_403(code: str, kind: type[CloudError], status: int) -> None:
    assert error_class(code, status) is kind


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("APIGW.0201", 400, InvalidRequestError),
        ("APIGW.0201", 502, ServiceError),
        ("APIGW.0201", 504, ServiceError),
        ("APIGW.0301", 401, AuthenticationError),
        ("APIG.0308", 429, ThrottledError),
        (None, 429, ThrottledError),
        (None, 503, ServiceError),
        (None, 401, AuthenticationError),
        ("NEW.1", 400, InvalidRequestError),
        ("NEW.1", 500, ServiceError),
    ],
)
def test_the_status_decides_where_no_code_does(code: str | None, status: int, kind: type[CloudError]) -> None:
    assert error_class(code, status) is kind


def test_an_error_tells_a_person_what_failed_where_and_what_to_do() -> None:
    error = AssetNotFoundError(
        "There is no such asset.", code="VOD.10062", status=403, request_id="r1", asset="a1"
    )
    assert str(error).startswith("a1: There is no such asset. Check the id and the region")
    assert str(error).endswith("[VOD.10062, HTTP 403, request r1]")
    assert error.outcome == "VOD.10062"
    assert not error.retryable
