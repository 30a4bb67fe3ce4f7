"""AK/SK signing (contract, section 1.1) with the vendor's own signer, as an httpx authentication."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import httpx
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from vod.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An access key of Huawei Cloud; temporary keys come with a security token.

    The attributes are called ``ak`` and ``sk`` because the vendor's signer reads them so.
    """

    ak: str
    sk: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        given = {"access key": self.ak, "secret key": self.sk, "security token": self.security_token or ""}
        for name, value in given.items():
            if not (value.isascii() and value.isprintable()) or value != value.strip():
                raise InvalidInputError(
                    f"The {name} holds a character that no key has.",
                    remedy="Copy it again, without blanks and line ends.",
                )


class SignatureAuth(httpx.Auth):
    """Signs each request with ``SDK-HMAC-SHA256``.

    :param project_id: Sent and signed as ``X-Project-Id``, as by the official client; ``None`` leaves it out.
    """

    requires_request_body = True

    def __init__(self, credentials: Credentials, project_id: str | None) -> None:
        self._signer = Signer(credentials)
        self._security_token = credentials.security_token
        self._project_id = project_id

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request (httpx, "Custom authentication schemes")."""
        headers = {
            "Content-Type": request.headers["Content-Type"],
            "Host": request.headers["Host"],
        }
        if "X-Sdk-Date" in request.headers:
            headers["X-Sdk-Date"] = request.headers["X-Sdk-Date"]
        if self._project_id:
            headers["X-Project-Id"] = self._project_id
        if self._security_token:
            headers["X-Security-Token"] = self._security_token
        signed = self._signer.sign(
            SdkRequest(
                method=request.method,
                # As it is on the wire: the signer itself decodes it, once.
                resource_path=request.url.raw_path.decode("ascii").partition("?")[0],
                query_params=list(request.url.params.multi_items()),
                header_params=headers,
                body=request.content,
            )
        )
        # The canonical query is also what the official client puts on the wire.
        query = Signer.process_canonical_query_string(signed)
        request.url = request.url.copy_with(query=query.encode("ascii") if query else None)
        request.headers.update(signed.header_params)
        yield request
