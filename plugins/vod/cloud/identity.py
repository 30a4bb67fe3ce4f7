"""Who calls: an access key that signs, or a token of IAM; never both (contract, sections 1 and 2)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx

from vod.cloud.errors import MISSHAPEN, AuthenticationError
from vod.cloud.runtime import LoopRuntime
from vod.cloud.signing import Credentials, SignatureAuth
from vod.cloud.transport import replacing
from vod.logs import get_logger

log = get_logger(__name__)

RENEWAL_MARGIN = 30 * 60.0
"""Seconds before its end at which a token is renewed (section 1.2)."""

Send = Callable[[httpx.Request], Awaitable[httpx.Response]]
"""Sends a request and raises what refuses it."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user of IAM, for calls with a token instead of an access key.

    :param account: Name of the account (domain) that the user belongs to.
    """

    account: str
    user: str
    password: str = field(repr=False)


class Identity(Protocol):
    """Puts exactly one authentication header on a request."""

    async def authorize(self, request: httpx.Request, project_id: str | None) -> None:
        """Sign a request, or give it a token."""

    async def renew(self, refused: httpx.Request) -> bool:
        """After a refusal of a request: whether trying once more makes sense."""

    async def project_id(self) -> str | None:
        """The project that the identity itself is bound to, if it is."""


class KeyIdentity:
    """Signs with an access key. A refused signature is final: five of them lock the key (section 1.1)."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def authorize(self, request: httpx.Request, project_id: str | None) -> None:
        """Sign a request with the access key."""
        next(SignatureAuth(self._credentials, project_id).auth_flow(request))

    async def renew(self, refused: httpx.Request) -> bool:
        """Nothing can be renewed: a refused signature is final."""
        return False

    async def project_id(self) -> str | None:
        """Unknown: the session looks it up."""
        return None


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    expires: float
    project_id: str | None

    def good(self, refused: str | None) -> bool:
        return time.time() < self.expires - RENEWAL_MARGIN and self.value != refused


class TokenIdentity:
    """Gets a token of IAM for a project, and shares it with the other processes of this user on this machine.

    The token lies in a file that only its owner can read; a lock sees that one process fetches it while the
    others wait for it.

    :param iam_endpoint: URL of IAM, for example ``https://iam.cn-north-4.myhuaweicloud.com``.
    :param region: Name of the project's region, to which the token is bound when no project id is given.
    """

    def __init__(
        self,
        login: Login,
        *,
        iam_endpoint: str,
        region: str,
        project_id: str | None,
        send: Send,
        runtime: LoopRuntime,
    ) -> None:
        self._login = login
        self._url = f"{iam_endpoint.rstrip('/')}/v3/auth/tokens"
        self._scope = {"id": project_id} if project_id else {"name": region}
        self._send = send
        self._runtime = runtime
        self._token: _Token | None = None
        identity = json.dumps([self._url, self._scope, login.account, login.user, login.password])
        self._name = hashlib.sha256(identity.encode()).hexdigest()

    async def authorize(self, request: httpx.Request, project_id: str | None) -> None:
        """Give a request the token, after fetching one if there is none."""
        request.headers["X-Auth-Token"] = (await self._current(refused=None)).value

    async def renew(self, refused: httpx.Request) -> bool:
        # By the token that was sent: another task may have renewed it in the meantime.
        """Fetch another token; returns whether the request is worth repeating."""
        await self._current(refused=refused.headers["X-Auth-Token"])
        return True

    async def project_id(self) -> str | None:
        """The project of the token."""
        return (await self._current(refused=None)).project_id

    async def _current(self, refused: str | None) -> _Token:
        if self._token and self._token.good(refused):
            return self._token
        folder = _private_folder()
        with await self._runtime.call(_locked, folder / f"{self._name}.lock" if folder else None):
            cache = folder / self._name if folder else None
            token = _read(cache)
            if token is None or not token.good(refused):
                token = await self._fetch()
                _write(cache, token)
        self._token = token
        return token

    async def _fetch(self) -> _Token:
        user = {
            "name": self._login.user,
            "password": self._login.password,
            "domain": {"name": self._login.account},
        }
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": self._scope},
            }
        }
        request = httpx.Request(
            "POST",
            httpx.URL(self._url, params={"nocatalog": "true"}),
            content=json.dumps(body).encode(),
            headers={"Content-Type": "application/json;charset=utf8"},
        )
        response = await self._send(request)
        try:
            granted = response.json()["token"]
            expires = datetime.fromisoformat(granted["expires_at"].replace("Z", "+00:00")).timestamp()
            project = (granted.get("project") or {}).get("id")
            return _Token(response.headers["X-Subject-Token"], expires, str(project) if project else None)
        except MISSHAPEN as error:
            raise AuthenticationError(
                "IAM's answer holds no token.", remedy="Check the IAM endpoint of the connection."
            ) from error


def _private_folder() -> Path | None:
    """Where the processes of this user share tokens; ``None`` if other users could read them there."""
    folder = Path(tempfile.gettempdir(), f"vod-tokens-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        log.warning("%s cannot be made (%s): tokens are not shared between processes.", folder, error)
        return None
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        log.warning("%s is open to others: tokens are not shared between processes.", folder)
        return None
    return folder


class _Locked:
    """A lock file that is held until the ``with`` block ends."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


def _locked(path: Path | None) -> _Locked:
    if path is None:
        return _Locked(None)
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return _Locked(file)


def _read(cache: Path | None) -> _Token | None:
    if cache is None:
        return None
    try:
        value, expires, project_id = json.loads(cache.read_text())
        return _Token(str(value), float(expires), str(project_id) if project_id else None)
    except (OSError, TypeError, ValueError):
        return None


def _write(cache: Path | None, token: _Token) -> None:
    if cache is None:
        return
    try:
        with replacing(cache, mode=0o600) as file:
            file.write(json.dumps([token.value, token.expires, token.project_id]).encode())
    except OSError as error:  # a full disk, for one; this process has its token
        log.warning("The token cannot be shared between processes: %s", error)
