"""The refusals of the service, of the gateway in front of it and of the storage beside it (section 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

_MESSAGES = {
    "VOD.10076": "The storage source cannot be read.",
    "VOD.10114": "The bucket is not authorised.",
    "VOD.10135": "The media asset is not in the upload state.",
    "VOD.10057": "The tenant ID check failed.",
    "VOD.10059": "The content type is incorrect.",
    "VOD.10062": "Media asset or resource does not exist, please check.",
    "VOD.10063": "The media asset type is not supported.",
    "VOD.10083": "The current media asset status does not support this operation.",
    "VOD.10099": "The media asset is blocked.",
    "VOD.10111": "You have no permission on the resource.",
    "VOD.10120": "The account is in arrears.",
    "VOD.10126": "The current media asset status does not allow upload confirmation.",
}

_EITHER_STATUS = {"VOD.10053", "VOD.10062", "VOD.10083"}
"""Codes that the documentation lists with 400 on some pages and 403 on others."""


class RefusedError(Exception):
    """A call is refused with an error envelope.

    :param status: HTTP status; ``None`` where it depends on the page of the call.
    """

    headers: Mapping[str, str] | None = None

    def __init__(self, code: str, message: str | None = None, *, status: int | None = None) -> None:
        super().__init__(message if message is not None else _MESSAGES.get(code, "The request is refused."))
        self.code = code
        self.status = 403 if status is None and code not in _EITHER_STATUS else status

    @classmethod
    def gateway(cls, status: int, number: str, message: str) -> RefusedError:
        return cls(f"APIGW.{number}", message, status=status)

    @classmethod
    def throttled(cls, limit: int, *, retry_after: int | None = None) -> RefusedError:
        """429. ``Retry-After`` (s) is undocumented, so it is usually left out."""
        message = f"policy user over ratelimit,limit:{limit},time:1 minute"
        refused = cls.gateway(429, "0308", f"The throttling threshold has been reached: {message}")
        if retry_after is not None:
            refused.headers = {"Retry-After": str(retry_after)}
        return refused

    @classmethod
    def illegal(cls, field: str) -> RefusedError:
        return cls("VOD.10053", f"The request parameter is illegal, illegal field: {{{field}}}.")

    def response(self, request_id: str) -> Response:
        body = {"error_code": self.code, "error_msg": str(self)}
        if self.code.startswith("APIG"):
            body["request_id"] = request_id
        return JSONResponse(body, self.status or 400, self.headers)


class StorageError(Exception):
    """Storage refuses, with XML of its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def response(self, request_id: str) -> Response:
        body = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
            f"<Error><Code>{self.code}</Code><Message>{escape(str(self))}</Message>"
            f"<RequestId>{request_id}</RequestId></Error>"
        )
        return Response(body, self.status, media_type="application/xml")
