"""The failures of VOD (contract, section 9), told apart by ``error_code``."""

from __future__ import annotations

from vod.errors import VodError

MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)
"""Whatever reading an answer of the wrong shape can raise."""


class CloudError(VodError):
    """VOD, or the gateway before it, refused a call or could not be reached.

    :param code: ``VOD.…``, ``APIGW.…``, or ``HTTP.<status>`` for want of one; it is also the outcome.
    :param status: HTTP status; ``None`` when there was no answer.
    :param request_id: What Huawei's support asks for.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        asset: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, asset=asset, remedy=remedy)
        self.code = code
        self.status = status
        self.request_id = request_id
        if code:
            self.outcome = code

    def __str__(self) -> str:
        facts = [self.code, f"HTTP {self.status}" if self.status else None]
        facts.append(f"request {self.request_id}" if self.request_id else None)
        known = ", ".join(fact for fact in facts if fact)
        return f"{super().__str__()}{f' [{known}]' if known else ''}"


class InvalidRequestError(CloudError):
    """VOD calls the request malformed."""

    outcome = "invalid_request"
    remedy = "Check the asset id and the audio format (MP3 or AAC)."


class AuthenticationError(CloudError):
    """Keys, token, clock or project do not fit. Never retried: five failures lock a key (section 1.1)."""

    outcome = "authentication"
    remedy = (
        "Check access key, secret key, region and project id of the connection, and this machine's clock."
    )


class ForbiddenError(CloudError):
    """The user lacks a permission, or the project is closed to this machine."""

    outcome = "forbidden"
    remedy = "Give the user the permission vod:asset:createExtractAudioTask and the read permissions of VOD."


class AccountError(CloudError):
    """Arrears, a used-up package, frozen, not verified: nothing works until the account is in order."""

    outcome = "account"
    other_engine = True
    remedy = "Put the account in order in the Huawei Cloud console."


class AssetNotFoundError(CloudError):
    """There is no such asset in this region and project."""

    outcome = "asset_not_found"
    remedy = "Check the id and the region and project of the connection: assets do not cross regions."


class AssetNotSupportedError(CloudError):
    """The asset can never be extracted: an audio file, an unsupported type, or blocked by review."""

    outcome = "asset_not_supported"
    other_engine = True
    remedy = "Only videos can be extracted by VOD; try the ffmpeg engine on the original."


class SourceNotReadyError(CloudError):
    """The asset is still being created or processed; the same call works later."""

    outcome = "source_not_ready"
    retryable = True
    other_engine = True
    remedy = "Wait until the console shows the video as uploaded, then try again."


class ThrottledError(CloudError):
    """More calls a minute than VOD allows (contract, section 12).

    :param retry_after: Seconds that the gateway asked to wait, if it said so.
    """

    outcome = "throttled"
    retryable = True
    remedy = "Wait a minute, or lower the parallelism of the tasks that call VOD."
    retry_after: float | None = None


class ServiceError(CloudError):
    """A fault on VOD's side."""

    outcome = "service"
    retryable = True
    remedy = "Try again later; quote the request id to Huawei's support if it lasts."


class NotSentError(CloudError):
    """The service could not be reached: the request surely was not accepted."""

    outcome = "unreachable"
    retryable = True
    remedy = "Check the endpoint and the region of the connection, and the network of this machine."


class AnswerLostError(CloudError):
    """The request was sent, its answer never came: it may or may not have been accepted."""

    outcome = "answer_lost"
    retryable = True
    remedy = "The next try looks for the audio asset before it submits again."


class ExtractionFailedError(CloudError):
    """VOD accepted the extraction and ended it without audio.

    Its codes are not documented, so it is not known whether another extraction would end better: the operator
    tries a second one and accepts its result.
    """

    outcome = "extraction_failed"
    other_engine = True
    remedy = "Look at the asset in the VOD console; the ffmpeg engine may still read the original."


class AmbiguousExtractionError(CloudError):
    """An answer was lost, and it cannot be told which audio asset it named; a guess could mix up sources."""

    outcome = "ambiguous_extraction"
    remedy = (
        "Look at these audio assets in the VOD console. To extract the audio once more, delete them and "
        "clear the task, or run it with force."
    )


class IncompleteListError(CloudError):
    """VOD does not let a list be read whole."""

    outcome = "incomplete_list"
    remedy = "Ask for one container at a time, or delete assets that are not needed."

    def __init__(self, message: str, *, retryable: bool = False, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retryable = retryable


class TransferError(CloudError):
    """A file could not be uploaded to, or downloaded from, VOD's storage."""

    outcome = "transfer"
    retryable = True
    remedy = "Try again; a published asset or a longer timeout may help."


_CODES: dict[str, type[CloudError]] = {
    **dict.fromkeys(("VOD.10053", "VOD.10081", "VST.10001", "VOD.10058", "VOD.10059"), InvalidRequestError),
    **dict.fromkeys(("VOD.10054", "VST.10004", "VOD.10057"), AuthenticationError),
    **dict.fromkeys(
        ("APIGW.0301", "APIGW.0303", "APIGW.0305", "APIGW.0307", "APIGW.0310"), AuthenticationError
    ),
    **dict.fromkeys(("VOD.10074", "VOD.10111", "VOD.10133", "VOD.10114", "VOD.10138"), ForbiddenError),
    **dict.fromkeys(("APIGW.0302", "APIGW.0304", "APIGW.0306"), ForbiddenError),
    **dict.fromkeys(("APIGW.0401", "APIGW.0402", "APIGW.0404", "APIGW.0801", "APIGW.0802"), ForbiddenError),
    **dict.fromkeys(("VOD.10055", "VOD.10056", "VOD.10078", "VOD.10120", "VOD.10132"), AccountError),
    **dict.fromkeys(("VOD.10003", "VOD.10062"), AssetNotFoundError),
    **dict.fromkeys(("VOD.10063", "VOD.10099"), AssetNotSupportedError),
    **dict.fromkeys(("VOD.10060", "VOD.10061", "VOD.10083", "VOD.10123"), SourceNotReadyError),
    **dict.fromkeys(("APIGW.0308", "VOD.10127"), ThrottledError),
    **dict.fromkeys(("VOD.10051", "VOD.10052", "VOD.10073", "VOD.10084", "VOD.10136"), ServiceError),
    **dict.fromkeys(("VST.10002", "APIGW.0613"), ServiceError),
}

_STATUSES: dict[int, type[CloudError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: InvalidRequestError,
    408: ServiceError,
    429: ThrottledError,
}


def error_class(code: str | None, status: int) -> type[CloudError]:
    """The class of an error answer. A known code decides; the HTTP status only where no code is known.

    One code, APIGW.0201, covers several statuses and is therefore left to the status.
    """
    normalized = (code or "").replace("APIG.", "APIGW.", 1) if (code or "").startswith("APIG.") else code
    if normalized in _CODES:
        return _CODES[normalized]
    if status >= 500:
        return ServiceError
    return _STATUSES.get(status, InvalidRequestError)
