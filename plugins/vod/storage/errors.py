"""What a store says when it does not do what it is asked, in our own terms.

Each library raises what it likes: botocore and s3fs, aiohttp, gcsfs, adlfs, the socket below them. One
function reads them all, by the answers behind them and not by their classes: none of the libraries has to be
installed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from vod import media
from vod.errors import VodError


class StorageError(VodError):
    """A store did not answer, was out of order or too busy, or failed in a way that nobody knows."""

    outcome = "storage"
    retryable = True
    remedy = "Check that this worker reaches the store; a retry goes on where this try stopped."


class StorageRefusedError(StorageError):
    """A store refuses: wrong keys, no permission, no such bucket."""

    outcome = "storage_refused"
    retryable = False
    remedy = "Check the connection that the URL names, and what its keys may do in the bucket."


class FolderNotSeenError(StorageError):
    """Of a folder nothing is seen on this machine: it says nothing about what was in it."""

    outcome = "folder_not_seen"
    remedy = "Check that this machine mounts or reaches it."


_BUSY = {
    "SlowDown",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "ServerBusy",
}
_PASSING = {
    *_BUSY,
    "ExpiredToken",  # the next try logs in anew
    "InternalError",
    "OperationAborted",
    "OperationTimedOut",
    "RequestTimeout",
    "ServiceUnavailable",
    "TokenRefreshRequired",
}
"""Codes of S3 and its relatives for what passes, whatever the status is with which they come."""

_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ParamValidationError"}
_WRONG_REGION = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "301",
}
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound"}
_WRONG_KEYS = {
    "ClientAuthenticationError",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_NO_CONNECTION = {"AirflowNotFoundException"}
_DENIED = {"AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationFailed", "InvalidSecurity"}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def store_errors(shown: str, *, writing: bool = False) -> Iterator[None]:
    """Turn whatever a library raises about a store into the failures of this package.

    Put nothing in the block but the access: what else fails in it would be called the store's failure, too.

    :param shown: The location as it may be shown.
    :param writing: In a write, what does not exist is the bucket. Otherwise it is the file, and
        ``FileNotFoundError`` passes, as does ``NotImplementedError``.
    :raises StorageError: it did not answer, is out of order or too busy; also for an unknown exception.
    :raises StorageRefusedError: it knows the keys or the bucket not, or does not permit it.
    :raises vod.media.NoSpaceError: it is full.
    """
    try:
        yield
    except VodError:
        raise
    except ImportError as error:
        raise StorageRefusedError(
            f"The file system of {shown} cannot be loaded: {error}.", remedy="Install what is missing."
        ) from error
    except NotImplementedError as error:
        if not writing:
            raise
        raise StorageRefusedError(
            f"The file system of {shown} only reads.", remedy="Choose another destination."
        ) from error
    except Exception as error:
        found = _read(error)
        if not writing and isinstance(error, FileNotFoundError) and found.codes.isdisjoint(_NO_BUCKET):
            raise
        # Not the cause: its text may hold a signed URL, or the keys.
        raise _failure(error, found, shown, writing) from None


class _Found:
    """What an exception and those behind it say.

    :ivar codes: Names of classes, and codes of the services.
    :ivar statuses: Of HTTP.
    """

    def __init__(self) -> None:
        self.codes: set[str] = set()
        self.statuses: set[int] = set()
        self.errnos: set[int] = set()
        self.name = ""

    def has(self, codes: set[str]) -> bool:
        return not self.codes.isdisjoint(codes)


def _failure(error: Exception, found: _Found, shown: str, writing: bool) -> VodError:
    why = f"({found.name})"
    if found.errnos & _NO_SPACE:
        return media.NoSpaceError(f"There is no space left for {shown}.")
    if found.has(_BUSY) or 429 in found.statuses:
        return StorageError(
            f"The store of {shown} is too busy {why}.",
            remedy="Try again later, or work on fewer assets at a time.",
        )
    if found.has(_PASSING) or any(status >= 500 or status == 408 for status in found.statuses):
        return StorageError(f"The store of {shown} is out of order {why}.", remedy="Try again later.")
    if found.has(_NO_CONNECTION):
        return StorageRefusedError(
            f"Airflow has no such connection as {shown} names.", remedy="Create it, or name another."
        )
    if found.has(_NO_BUCKET) or (writing and isinstance(error, FileNotFoundError)):
        return StorageRefusedError(
            f"There is no such bucket or container as in {shown}.", remedy="Create it, or correct the URL."
        )
    if found.has(_WRONG_REGION):
        return StorageRefusedError(
            f"The bucket of {shown} is in another region {why}.",
            remedy="Name the bucket's region in the connection.",
        )
    if found.has(_NO_KEYS):
        return StorageRefusedError(
            f"There are no keys for {shown}.",
            remedy="Name a connection in the URL, such as s3://aws_default@bucket/audio, or give the worker "
            "credentials.",
        )
    if found.has(_WRONG_KEYS) or 401 in found.statuses:
        return StorageRefusedError(
            f"The store of {shown} does not accept the keys {why}.",
            remedy="Correct them in the connection that the URL names; check also this machine's clock.",
        )
    if found.has(_DENIED) or 403 in found.statuses or isinstance(error, PermissionError):
        doing = "written to" if writing else "read"
        return StorageRefusedError(f"{shown} may not be {doing} with these keys {why}.")
    return StorageError(f"The store of {shown} failed {why}.")


def _read(error: BaseException) -> _Found:
    found = _Found()
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        found.codes.add(type(current).__name__)
        if isinstance(current, OSError) and current.errno is not None:
            found.errnos.add(current.errno)
        code = _code(current)
        found.codes |= {code} if code else set()
        status = _status(current)
        found.statuses |= {status} if status else set()
        found.name = code or (f"HTTP {status}" if status else "") or found.name or type(error).__name__
        current = current.__cause__  # not the context, which may be an older trouble of whoever asks
    return found


def _code(error: BaseException) -> str | None:
    """The service's own word: botocore's ``response``, or ``error_code`` of Azure."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        code = response.get("Error", {}).get("Code")
    else:
        code = getattr(error, "error_code", None)
    code = str(code) if code else ""
    return code if 0 < len(code) <= 60 and code.replace(".", "").isalnum() and not code.isdecimal() else None


def _status(error: BaseException) -> int | None:
    """The status of HTTP: of botocore, Azure and httpx, aiohttp, Google."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return _number(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    for one in (error, response):
        for name in ("status_code", "status", "code"):
            if status := _number(getattr(one, name, None)):
                return status
    return None


def _number(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and 300 <= int(text) < 600 else None
