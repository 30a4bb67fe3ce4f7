"""What a connection of type ``vod`` says: its form in Airflow, and its settings, read and checked once."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vod.errors import InvalidInputError
from vod.records import ENGINES
from vod.text import json_object

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from vod.cloud.client import AsyncVodClient, VodClient
    from vod.cloud.identity import Login
    from vod.cloud.settings import ServiceSettings
    from vod.cloud.signing import Credentials

DEFAULT_CONNECTION = "vod_default"
"""The connection when none is named."""

REGIONS = ("cn-north-4", "cn-north-1", "cn-east-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3")
"""The regions of section 2 of the contract, the default for new users first."""


class InvalidConnectionError(InvalidInputError):
    """The Airflow connection is missing, or lacks what VOD needs."""

    outcome = "invalid_connection"


class InsecureEndpointError(InvalidConnectionError):
    """An endpoint is plain HTTP: everybody on the way could read keys, tokens and passwords."""

    outcome = "insecure_endpoint"


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """What a connection of type ``vod`` says.

    :param conn_id: Name of the connection.
    :param service: How VOD is called: endpoint, project, keys, time limit, share of the quotas.
    :param engine: Engine of tasks that name none: ``vod`` or ``ffmpeg``.
    :param destination: Where audio files and transcripts go when a task does not say.
    :param obs_endpoint: URL of OBS for ``obs://``; the region's when ``None``.
    :param sis_endpoint: URL of SIS for the speech engine ``sis``; the region's when ``None``.
    :param ffmpeg: Path of the program on the workers. When ``None``, the ffmpeg on the ``PATH``, else the one
        of the package imageio-ffmpeg.
    :param allow_http: Whether secrets may be sent to endpoints with ``http://`` on other machines.
    :param speech: Options for speech recognition of tasks that do not name them, see
        :class:`vod.speech.SpeechOptions`.
    """

    conn_id: str
    service: ServiceSettings
    engine: str = "vod"
    destination: str | None = None
    obs_endpoint: str | None = None
    sis_endpoint: str | None = None
    ffmpeg: str | None = None
    allow_http: bool = False
    speech: Mapping[str, Any] = field(default_factory=dict, hash=False)  # settings are keys of caches

    @classmethod
    def from_connection(cls, connection: Connection, extra: dict[str, Any]) -> ConnectionSettings:
        """Read a connection.

        :param extra: Its extra as a mapping; reading it blocks or not, depending on where this is called.
        :raises InvalidConnectionError: something that VOD needs is missing or wrong; the message names the
            field.
        :raises InsecureEndpointError: an endpoint is plain HTTP, on another machine, and that is not allowed.
        """
        from vod.cloud.settings import ServiceSettings  # loads an HTTP client: not to parse a DAG file

        _require_fields(connection, extra)
        conn_id = connection.conn_id
        engine = extra.get("engine") or "vod"
        if engine not in ENGINES:
            raise InvalidConnectionError(
                f"The connection {conn_id!r} names the unknown engine {engine!r}.",
                remedy=f"Choose one of {', '.join(ENGINES)}.",
            )
        endpoint = _endpoint(connection, extra)
        allow_http = is_true(conn_id, "allow_http", extra.get("allow_http"))
        if not allow_http:
            others = {"IAM": "iam_endpoint", "OBS": "obs_endpoint", "SIS": "sis_endpoint"}
            places = {f"{label} endpoint": str(extra.get(name) or "") for label, name in others.items()}
            require_encryption(conn_id, {"Endpoint": endpoint, **places})
        return cls(
            conn_id=conn_id,
            service=ServiceSettings(
                endpoint=endpoint,
                project_id=extra.get("project_id") or None,
                credentials=_credentials(connection, extra),
                region=extra.get("region") or REGIONS[0],
                iam_endpoint=extra.get("iam_endpoint") or None,
                timeout=_number(conn_id, "timeout", extra.get("timeout") or 60.0, 1.0, 600.0),
                quota_share=_number(conn_id, "quota_share", extra.get("quota_share") or 1.0, 0.01, 1.0),
                quotas=_quotas(conn_id, extra.get("quotas") or {}),
            ),
            engine=engine,
            destination=extra.get("destination") or None,
            obs_endpoint=extra.get("obs_endpoint") or None,
            sis_endpoint=extra.get("sis_endpoint") or None,
            ffmpeg=extra.get("ffmpeg") or None,
            allow_http=allow_http,
            speech=_speech(conn_id, extra.get("speech")),
        )

    def client(self, **options: Any) -> VodClient:
        """A client whose calls block; *options* are those of :class:`vod.cloud.client.VodClient`."""
        from vod.cloud.client import VodClient

        return VodClient(self.service, **options)

    def async_client(self, **options: Any) -> AsyncVodClient:
        """A client for an event loop; *options* are those of :class:`vod.cloud.client.AsyncVodClient`."""
        from vod.cloud.client import AsyncVodClient

        return AsyncVodClient(self.service, **options)


async def extra_of(connection: Connection) -> dict[str, Any]:
    """The extra of a connection as a mapping, without blocking the event loop.

    Airflow has a method for that since 3.3.2; before, its only one blocks.
    """
    if hasattr(connection, "aextra_dejson"):
        extra: dict[str, Any] = await connection.aextra_dejson()
        return extra
    try:
        return dict(json.loads(connection.extra or "{}"))
    except (TypeError, ValueError):
        return {}


def _require_fields(connection: Connection, extra: dict[str, Any]) -> None:
    account = extra.get("account")
    missing = [
        label
        for label, value in (
            ("user name (login)" if account else "access key (login)", connection.login),
            ("password" if account else "secret key (password)", connection.password),
            ("region, or an endpoint (host)", extra.get("region") or connection.host),
        )
        if not value
    ]
    if missing:
        raise InvalidConnectionError(
            f"The connection {connection.conn_id!r} has no {', no '.join(missing)}.",
            remedy=f"Fill {'them' if len(missing) > 1 else 'it'} in under Admin > Connections.",
        )


def _endpoint(connection: Connection, extra: dict[str, Any]) -> str:
    """URL of the service: the connection's host, else the region's (contract, section 2)."""
    endpoint = connection.host or f"vod.{extra.get('region')}.myhuaweicloud.com"
    if "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    if connection.port and not re.search(r":\d+$", (parts := urlsplit(endpoint)).netloc):
        endpoint = parts._replace(netloc=f"{parts.netloc}:{connection.port}").geturl()
    return endpoint


def require_encryption(conn_id: str, places: Mapping[str, str]) -> None:
    """Refuse to send secrets in clear: a signature can be replayed, a token and a password taken.

    :param places: URLs that get them, by what the connection's form calls them.
    :raises InsecureEndpointError: one is plain HTTP, on another machine.
    """
    for label, url in places.items():
        try:
            parts = urlsplit(url.strip())
            host = parts.hostname or ""
        except ValueError:
            continue  # whoever calls it says what is wrong with it
        if parts.scheme.lower() == "http" and not _is_loopback(host):
            raise InsecureEndpointError(
                f"The connection {conn_id!r} would send its secrets to {host} without encryption.",
                remedy=f"Set its {label} to https://, or its extra allow_http to true if the network between "
                "is trusted.",
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def is_true(conn_id: str, name: str, value: Any) -> bool:
    """What a switch of a connection's extra says, in JSON or as text; no when it is not set.

    :raises InvalidConnectionError: it says something else.
    """
    words = {"true": True, "1": True, "": False, "false": False, "0": False, "none": False}
    answer = words.get(str("" if value is None else value).strip().lower())
    if answer is None:
        raise InvalidConnectionError(
            f"The connection {conn_id!r} has the {name} {value!r}.", remedy="Set true or false."
        )
    return answer


def _speech(conn_id: str, value: Any) -> Mapping[str, Any]:
    options = json_object(value)
    if options is None:
        raise InvalidConnectionError(
            f"The extra speech of the connection {conn_id!r} is not an object.",
            remedy='Write it as JSON: {"model": "large-v3"}.',
        )
    return options


def _credentials(connection: Connection, extra: dict[str, Any]) -> Credentials | Login:
    """An access key, or the login of a user if the connection names an account."""
    from vod.cloud.identity import Login
    from vod.cloud.signing import Credentials

    account, login, password = extra.get("account"), connection.login or "", connection.password or ""
    try:
        if account:
            return Login(account=account, user=login, password=password)
        return Credentials(ak=login, sk=password, security_token=extra.get("security_token") or None)
    except InvalidInputError as error:
        raise InvalidConnectionError(
            f"The connection {connection.conn_id!r} cannot be used. {error.message}", remedy=error.remedy
        ) from None


def _quotas(conn_id: str, given: Any) -> tuple[tuple[str, int], ...]:
    """Quotas that Huawei has granted, by name: ``{"extract": 500}``."""
    from vod.cloud.budget import QUOTAS

    if not isinstance(given, dict) or not given.keys() <= QUOTAS.keys():
        raise InvalidConnectionError(
            f"The connection {conn_id!r} has invalid quotas.",
            remedy=f"Give calls a minute by name: {', '.join(QUOTAS)}.",
        )
    return tuple(
        (name, int(_number(conn_id, f"quota of {name}", calls, 1, 1_000_000)))
        for name, calls in sorted(given.items())
    )


def _number(conn_id: str, name: str, value: Any, minimum: float, maximum: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not minimum <= number <= maximum:
        raise InvalidConnectionError(
            f"The connection {conn_id!r}: {name} {value!r} is not a number from {minimum:g} to "
            f"{maximum:.10g}.",
            remedy="Correct it under Admin > Connections.",
        )
    return number


def form_fields() -> dict[str, Any]:
    """The fields of the form that are kept in the connection's extra, in the order of the form.

    ``null`` among the types lets the form be saved without the field.
    """
    text = {"type": ["string", "null"]}
    return {
        "region": {
            "label": "Region",
            "description": "Where the assets are. Projects, assets and keys belong to one region.",
            "schema": {"type": "string", "enum": list(REGIONS), "default": REGIONS[0]},
        },
        "project_id": {
            "label": "Project ID",
            "description": "In the console under My Credentials, Projects. Empty: the project of the region.",
            "schema": text,
        },
        "engine": {
            "label": "Default engine",
            "description": "Extracts the audio when a task names no engine: VOD, or ffmpeg on the worker.",
            "schema": {
                "type": "string",
                "enum": ["vod", "ffmpeg"],
                "values_display": {"vod": "Huawei Cloud VOD", "ffmpeg": "ffmpeg on the worker"},
                "default": "vod",
            },
        },
        "destination": {
            "label": "Default destination",
            "description": "Folder for audio and transcripts when a task names none: an absolute path, or a "
            "URL such as obs://vod_default@bucket/audio.",
            "schema": text,
        },
        "timeout": {
            "label": "Read timeout",
            "description": "Seconds to wait for an answer, 1 to 600. Empty: 60.",
            "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
        },
        "quota_share": {
            "label": "Quota share",
            "description": "Part of the account's quotas that this connection may use, 0.01 to 1: less where "
            "other programs use the same account. Workers count their submissions together, however "
            "many they are. Empty: 1, all of them.",
            "schema": {"type": ["number", "null"], "minimum": 0.01, "maximum": 1},
        },
        "security_token": {
            "label": "Security token",
            "description": "Only with temporary keys: the token that was issued with AK and SK.",
            "schema": {**text, "format": "password"},
        },
        "account": {
            "label": "Account",
            "description": "Only to log in as a user: name of the IAM account. Then enter an IAM user's name "
            "and password above instead of AK and SK.",
            "schema": text,
        },
        "iam_endpoint": {
            "label": "IAM endpoint",
            "description": "Empty: https://iam.<region>.myhuaweicloud.com.",
            "schema": text,
        },
        "obs_endpoint": {
            "label": "OBS endpoint",
            "description": "For URLs with obs://. Empty: https://obs.<region>.myhuaweicloud.com.",
            "schema": text,
        },
        "sis_endpoint": {
            "label": "SIS endpoint",
            "description": "For the speech engine sis. Empty: https://sis-ext.<region>.myhuaweicloud.com.",
            "schema": text,
        },
        "allow_http": {
            "label": "Allow plain http",
            "description": "Send keys, tokens and passwords also to http:// endpoints on other machines.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
        "ffmpeg": {
            "label": "ffmpeg",
            "description": "Path of the program on the workers. Empty: the ffmpeg on PATH, else the one of "
            "the package imageio-ffmpeg.",
            "schema": text,
        },
    }
