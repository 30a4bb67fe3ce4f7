"""IAM tokens (section 1.2). A token carries its own claims under a seal, so that it survives a restart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vod.standin.errors import RefusedError
from vod.standin.faults import RevokeTokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from vod.standin.settings import StandinSettings

LIFETIME = 24 * 3600
_PADDING = 1500  # bytes: real tokens have thousands of characters


class Tokens:
    """Issues and reads tokens for the one user that the stand-in knows.

    :param clock: Seconds since the epoch; for tests.
    """

    def __init__(self, settings: StandinSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock

    def issue(self, request: Any) -> tuple[str, dict[str, Any]]:
        """Token and answer body for the body of ``POST /v3/auth/tokens``.

        :raises KeyError, TypeError: the body is not a password login.
        :raises PermissionError: wrong user, password or account.
        """
        identity = request["auth"]["identity"]
        user = identity["password"]["user"]
        login = (user["domain"]["name"], user["name"], user["password"])
        known = (self._settings.account, self._settings.user, self._settings.password)
        if "password" not in identity["methods"]:
            raise KeyError("methods")
        if not all(isinstance(part, str) for part in login) or not hmac.compare_digest(
            "\n".join(login).encode(), "\n".join(known).encode()
        ):
            raise PermissionError("The username or password is wrong.")
        scope = request["auth"].get("scope", {}).get("project")
        mine = {"id": self._settings.project_id, "name": self._settings.region}
        if scope is not None and not any(scope.get(key) == value for key, value in mine.items()):
            raise PermissionError("The project of the scope does not exist.")

        issued = self._clock()
        claims = {
            "issued": issued,
            "project": mine["id"] if scope is not None else None,
            "expires": issued + LIFETIME,
            "padding": secrets.token_hex(_PADDING),
        }
        domain = {"id": "standin", "name": self._settings.account}
        token: dict[str, Any] = {
            "catalog": [],
            "methods": ["password"],
            "roles": [],
            "issued_at": _iso(issued),
            "expires_at": _iso(issued + LIFETIME),
            "user": {"id": "standin", "name": self._settings.user, "domain": domain},
        }
        if scope is not None:
            token["project"] = {**mine, "domain": domain}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        return f"MII{payload}.{self._seal(payload)}", {"token": token}

    def project(self, token: str) -> str | None:
        """The project that the token is scoped to; ``None`` for a token of the whole account.

        :raises RefusedError: the token was not issued here, has expired or was revoked.
        """
        payload, _, seal = token.removeprefix("MII").rpartition(".")
        if not hmac.compare_digest(self._seal(payload).encode(), seal.encode()):
            raise RefusedError.gateway(
                401, "0301", "Incorrect IAM authentication information: decrypt token fail"
            )
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload))
        revoked = any(
            rule.revokes(claims["issued"]) for rule in self._settings.behaviour.rules(RevokeTokens, "token")
        )
        if revoked or claims["expires"] <= self._clock():
            raise RefusedError.gateway(401, "0307", "The token must be updated.")
        project: str | None = claims["project"]
        return project

    def _seal(self, payload: str) -> str:
        key = f"token {self._settings.secret_key}"
        return hmac.new(key.encode(), payload.encode(), hashlib.sha256).hexdigest()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
