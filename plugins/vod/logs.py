"""Log lines: ours without control characters from outside, those of HTTP libraries without secrets."""

from __future__ import annotations

import logging
import numbers
import re
from typing import Any

from vod.text import Lines, printable


def get_logger(name: str) -> logging.Logger:
    """The logger of a module of this package. What is put into its messages stays on its line.

    Names of files, titles, and what services say may hold line feeds and escape sequences. Only
    :class:`vod.text.Lines` may add lines.
    """
    logger = logging.getLogger(name)
    _add(logger, _OneLine)
    return logger


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.args:
            record.msg = _cleaned(record.msg)
        elif isinstance(record.args, tuple):
            record.args = tuple(map(_cleaned, record.args))
        return True


def _cleaned(value: Any) -> Any:
    if isinstance(value, (numbers.Number, Lines)) or value is None:
        return value
    return printable(str(value))


def redact_http_libraries() -> None:
    """Keep signed URLs, addresses and tokens out of the logs of the HTTP libraries, at any level.

    Of a URL its query, user and password are left out; of the headers of an answer all values but those that
    are known to be harmless: a redirect's ``Location`` is a signed URL, and IAM gives its token in a header
    (contract, sections 1.2 and 6).
    """
    for name in _LIBRARIES:
        _add(logging.getLogger(name), _SecretFilter)


# A filter does not hold for child loggers.
_LIBRARIES = (
    "httpx",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
    *("requests", "urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager"),
    *("urllib3.response", "urllib3.util.retry"),
)

_HARMLESS = {
    *("accept-ranges", "allow", "cache-control", "connection", "content-encoding", "content-length"),
    *("content-range", "content-type", "date", "etag", "expires", "keep-alive", "last-modified"),
    *("retry-after", "server", "transfer-encoding", "vary", "via", "x-request-id"),
}

_BYTES = r"""b(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_HEADER = re.compile(rf"\((b['\"](?P<name>[^'\"]*)['\"]), {_BYTES}\)")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>]*@)?(?P<place>[^\s?#'\"<>]*)[^\s'\"<>]*"
)
_REQUEST_LINE = re.compile(r"(?P<path>/[^\s?#'\"<>]*)[?#][^\s'\"<>]+")


class _SecretFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        cut = _HEADER.sub(_header, message)
        cut = _REQUEST_LINE.sub(r"\g<path>?***", _URL.sub(_url, cut))
        if cut != message:
            record.msg, record.args = cut, ()
        return True


def _header(found: re.Match[str]) -> str:
    return found[0] if found["name"].lower() in _HARMLESS else f"({found[1]}, b'***')"


def _url(found: re.Match[str]) -> str:
    shown = f"{found['scheme']}{'***@' if found['user'] else ''}{found['place']}"
    return shown if shown == found[0] else f"{shown}?***"


def _add(logger: logging.Logger, kind: type[logging.Filter]) -> None:
    if not any(isinstance(entry, kind) for entry in logger.filters):
        logger.addFilter(kind())
