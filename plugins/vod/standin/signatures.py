"""AK/SK signatures, verified by this module's own reading of section 1.1 of the contract."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ALGORITHM = "SDK-HMAC-SHA256"
CLOCK_SKEW = 15 * 60
FAILURES_BEFORE_LOCK = 5
LOCK_SECONDS = 5 * 60

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Access=(?P<access>[^,\s]+), SignedHeaders=(?P<headers>[^,\s]+), "
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_DATE = re.compile(r"\d{8}T\d{6}Z")


class SignatureError(Exception):
    """The signature does not hold; the text is what the gateway tells the caller."""


@dataclass(frozen=True)
class WireRequest:
    """A request as it came: ``path`` and ``query`` still percent-encoded, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


def query_pairs(query: str) -> list[tuple[str, str]]:
    """Names and values of a raw query string. A ``+`` is a plus sign, never a space (section 1.1)."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def canonical_request(request: WireRequest, signed_headers: Iterable[str]) -> str:
    """Step 1 of section 1.1.

    :raises SignatureError: a header that should be signed was not sent.
    """
    names = sorted(name.lower() for name in signed_headers)
    missing = [name for name in names if name not in request.headers]
    if missing:
        raise SignatureError(f"signed header {missing[0]} not found")
    path = "/".join(map(_encode, unquote(request.path).split("/")))
    query = [(_encode(name), _encode(value)) for name, value in sorted(query_pairs(request.query))]
    body_hash = hashlib.sha256(request.body).hexdigest()
    if request.body:
        body_hash = request.headers.get("x-sdk-content-sha256", body_hash)
    return "\n".join(
        (
            request.method.upper(),
            path if path.endswith("/") else path + "/",
            "&".join(f"{name}={value}" for name, value in query),
            "".join(f"{name}:{request.headers[name].strip()}\n" for name in names),
            ";".join(names),
            body_hash,
        )
    )


def signature(canonical: str, date: str, secret_key: str) -> str:
    """Steps 2 and 3 of section 1.1."""
    text = f"{ALGORITHM}\n{date}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()


class KeyCheck:
    """Checks requests against one key pair, and locks the key after too many failures in a row.

    :param clock: Seconds since the epoch; for tests.
    """

    def __init__(self, access_key: str, secret_key: str, *, clock: Callable[[], float] = time.time) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._clock = clock
        self._failures = 0
        self._locked_until = 0.0

    def verify(self, request: WireRequest) -> None:
        """:raises SignatureError: the request is not signed with the key, or the key is locked."""
        if "authorization" not in request.headers:
            raise SignatureError("x-auth-token not found")
        parts = _AUTHORIZATION.fullmatch(request.headers["authorization"])
        if parts is None:
            raise SignatureError("authorization header is malformed")
        if parts["access"] != self._access_key:
            raise SignatureError(f"Get secretKey failed,ak:{parts['access']},err:ak not exist")
        if self._clock() < self._locked_until:
            raise SignatureError("AK access failed to reach the limit,forbidden")
        try:
            self._check(request, parts["headers"].split(";"), parts["signature"])
        except SignatureError:
            self._failures += 1
            if self._failures > FAILURES_BEFORE_LOCK:
                self._failures = 0
                self._locked_until = self._clock() + LOCK_SECONDS
            raise
        self._failures = 0

    def _check(self, request: WireRequest, signed_headers: list[str], claimed: str) -> None:
        if "x-sdk-date" not in signed_headers:
            raise SignatureError("header x-sdk-date is not signed")
        if "x-security-token" in request.headers and "x-security-token" not in signed_headers:
            raise SignatureError("header x-security-token is not signed")
        canonical = canonical_request(request, signed_headers)
        date = request.headers["x-sdk-date"]
        if abs(self._clock() - _seconds(date)) > CLOCK_SKEW:
            raise SignatureError(
                f"verify aksk signature fail,x-sdk-date {date} is out of the allowed 15 minutes"
            )
        if not hmac.compare_digest(signature(canonical, date, self._secret_key), claimed):
            shown = canonical.replace("\n", "|")
            raise SignatureError(f"verify aksk signature fail,canonicalRequest:{shown}")


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _seconds(date: str) -> float:
    try:
        if _DATE.fullmatch(date):
            return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        pass
    raise SignatureError("x-sdk-date is malformed, expected YYYYMMDDTHHMMSSZ")
