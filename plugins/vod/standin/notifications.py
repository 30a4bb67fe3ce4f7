"""Notifications: VOD's event, wrapped, signed and delivered as the message service SMN does (section 10).

Best effort, like the model: what is not delivered when the stand-in ends is lost.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

import anyio
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from starlette.responses import JSONResponse, Response

from vod.logs import get_logger, redact_http_libraries
from vod.standin import records
from vod.standin.faults import Drop, Duplicate, Forge, Latency, Prose
from vod.standin.storage import Links

if TYPE_CHECKING:
    from starlette.requests import Request

    from vod.standin.access import Targets
    from vod.standin.library import Asset
    from vod.standin.settings import StandinSettings

log = get_logger(__name__)
redact_http_libraries()

TOPIC = "vod"
PATIENCE = 5
"""Seconds that a subscriber has for its answer."""
RETRIES = (1, 2, 4, 8, 16, 32)
"""Waits before another attempt, in units of ``Behaviour.notification_retry_seconds``."""
BLACKLISTED = 300
"""How long a subscriber that never answered gets nothing, in the same units."""
INVITATION = 48 * 3600
"""Seconds that a subscription can be confirmed."""
PARALLEL = 50

Kind = Literal["SubscriptionConfirmation", "Notification", "UnsubscribeConfirmation"]


def web_url(text: str) -> str:
    """:raises ValueError: the text is no URL of HTTP."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL like http://127.0.0.1:8080/path is needed")
    return text


class Certificate:
    """A key and the certificate that names it, both made up here."""

    def __init__(self, region: str) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"VOD stand-in {region}")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)
        self.name = f"SMN_{region}_{certificate.fingerprint(hashes.SHA256()).hex()[:32]}.pem"

    def sign(self, text: str) -> str:
        """RSA PKCS#1 v1.5 with SHA-256, in Base64."""
        return base64.b64encode(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()


@functools.cache
def _certificate(region: str) -> Certificate:
    """The certificate of this process, made when it is needed: finding the primes takes a while."""
    return Certificate(region)


@dataclass
class Subscription:
    url: str = field(repr=False)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    token: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)
    invited: float = field(default_factory=time.monotonic)
    confirmed: bool = False
    blacklisted_until: float = 0


class Topic:
    """The topic that VOD publishes to, and its subscribers.

    :param url: Under which subscribers reach the stand-in.
    :param targets: Where subscribers may be, besides those of the settings.
    """

    def __init__(self, settings: StandinSettings, url: str, targets: Targets) -> None:
        self._settings = settings
        self._targets = targets
        self._url = url
        self.urn = f"urn:smn:{settings.region}:{settings.project_id}:{TOPIC}"
        self._subscriptions: dict[str, Subscription] = {}
        self._outcomes: Counter[str] = Counter(published=0, delivered=0, refused=0, dropped=0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._room: asyncio.Semaphore

    def start(self) -> None:
        """Starts to work on the running loop, and invites the subscribers of the settings."""
        self._room = asyncio.Semaphore(PARALLEL)
        for url in self._settings.subscribers:
            self.subscribe(url)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if "_http" in vars(self):
            await self._http.aclose()

    def subscribe(self, url: str) -> None:
        """Invites a subscriber; it gets notifications once it has confirmed.

        :raises ValueError: the URL is not an HTTP URL, or not one to call.
        """
        if url not in self._settings.subscribers and not self._targets.allow(web_url(url)):
            raise ValueError("the stand-in may not call this (--notify)")
        subscription = Subscription(web_url(url))
        self._subscriptions[subscription.id] = subscription
        self._invite(subscription, "SubscriptionConfirmation", "You are invited to subscribe to the topic")

    def clear(self) -> None:
        """Forgets all subscribers."""
        self._subscriptions.clear()

    def ended(self, asset: Asset) -> None:
        """Publishes the end of an extraction."""
        event = json.dumps(records.extraction_event(asset, Links(self._settings, self._url)))
        for subscription in self._subscriptions.values():
            if subscription.confirmed:
                self._outcomes["published"] += 1
                self._notify(subscription, asset, event)

    def _notify(self, subscription: Subscription, asset: Asset, event: str) -> None:
        behaviour = self._settings.behaviour
        struck = [
            rule
            for kind in (Latency, Drop, Duplicate, Forge, Prose)
            for rule in behaviour.rules(kind, "notification")
            if rule.strikes(asset.names)
        ]
        kinds = {type(rule) for rule in struck}
        if Drop in kinds:
            self._outcomes["dropped"] += 1
            return
        link = self._link("unsubscribe", subscription, subscription_urn=self._urn(subscription))
        message = f"The audio extraction of {asset.title} has ended." if Prose in kinds else event
        envelope = self._envelope("Notification", message, subject="VOD", unsubscribe_url=link)
        if Forge in kinds:
            envelope["signature"] = self._seal.sign("something else")
        late = sum(rule.seconds for rule in struck if isinstance(rule, Latency))
        for _ in range(2 if Duplicate in kinds else 1):
            self._send(subscription, envelope, late)

    def to_json(self) -> dict[str, int]:
        """What became of notifications."""
        return dict(self._outcomes)

    def subscriptions(self) -> list[dict[str, Any]]:
        return [{"url": each.url, "confirmed": each.confirmed} for each in self._subscriptions.values()]

    # What subscribers ask for

    async def certificate(self, request: Request) -> Response:
        if request.path_params["name"] != self._seal.name:
            return JSONResponse({"message": "no such certificate"}, 404)
        return Response(self._seal.pem, media_type="application/x-pem-file")

    async def confirm(self, request: Request) -> Response:
        subscription = self._asked(request)
        if subscription is None or time.monotonic() - subscription.invited > INVITATION:
            return JSONResponse({"message": "the token is invalid or has expired"}, 400)
        subscription.confirmed = True
        return JSONResponse({"subscription_urn": self._urn(subscription)})

    async def unsubscribe(self, request: Request) -> Response:
        subscription = self._asked(request)
        if subscription is None:
            return JSONResponse({"message": "no such subscription"}, 400)
        if subscription.confirmed:
            subscription.confirmed = False
            subscription.invited = time.monotonic()
            self._invite(subscription, "UnsubscribeConfirmation", "You have unsubscribed from the topic")
        return JSONResponse({"subscription_urn": self._urn(subscription)})

    def _asked(self, request: Request) -> Subscription | None:
        token = request.query_params.get("token")
        return next((each for each in self._subscriptions.values() if each.token == token), None)

    # Envelopes

    def _invite(self, subscription: Subscription, kind: Kind, text: str) -> None:
        link = self._link("confirm", subscription, topic_urn=self.urn)
        self._send(subscription, self._envelope(kind, f"{text} {self.urn}.", subscribe_url=link))

    def _envelope(self, kind: Kind, message: str, **fields: str) -> dict[str, str]:
        envelope = {
            "type": kind,
            "topic_urn": self.urn,
            "message_id": uuid.uuid4().hex,
            "message": message,
            "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **fields,
        }
        signed = {"message", "message_id", "timestamp", "topic_urn", "type"}
        signed.add("subject" if kind == "Notification" else "subscribe_url")
        text = "".join(f"{name}\n{envelope[name]}\n" for name in sorted(signed))
        return {
            **envelope,
            "signature_version": "v1",
            "signature": self._seal.sign(text),
            "signing_cert_url": f"{self._url}/smn/{self._seal.name}",
        }

    @property
    def _seal(self) -> Certificate:
        return _certificate(self._settings.region)

    def _link(self, action: str, subscription: Subscription, **query: str) -> str:
        query = {"token": subscription.token, **query, "region": self._settings.region}
        pairs = "&".join(f"{name}={quote(value, safe=':')}" for name, value in query.items())
        return f"{self._url}/smn/subscription/{action}?{pairs}"

    def _urn(self, subscription: Subscription) -> str:
        return f"{self.urn}:{subscription.id}"

    # Delivery

    def _send(self, subscription: Subscription, envelope: dict[str, str], late: float = 0) -> None:
        task = asyncio.create_task(self._deliver(subscription, envelope, late))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, subscription: Subscription, envelope: dict[str, str], late: float) -> None:
        await asyncio.sleep(late)
        unit = self._settings.behaviour.notification_retry_seconds
        for wait in (*RETRIES, None):
            if time.monotonic() < subscription.blacklisted_until:
                break
            status = await self._post(subscription, envelope)
            if status is not None and status < 500:
                self._outcomes["delivered" if 200 <= status < 300 else "refused"] += 1
                return
            if wait is None:
                subscription.blacklisted_until = time.monotonic() + BLACKLISTED * unit
            else:
                await asyncio.sleep(wait * unit)
        host = urlsplit(subscription.url).hostname
        log.warning("message %s was not delivered to %s", envelope["message_id"], host)
        self._outcomes["dropped"] += 1

    @functools.cached_property
    def _http(self) -> httpx.AsyncClient:
        """Made when it is needed: loading the certificates of the world takes a while."""
        return httpx.AsyncClient(timeout=PATIENCE)

    async def _post(self, subscription: Subscription, envelope: dict[str, str]) -> int | None:
        """The status of the answer; ``None``: unreachable."""
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-SMN-MESSAGE-TYPE": envelope["type"],
            "X-SMN-MESSAGE-ID": envelope["message_id"],
            "X-SMN-TOPIC-URN": self.urn,
            "X-SMN-SUBSCRIPTION-URN": self._urn(subscription),
        }
        async with self._room:
            try:
                with anyio.fail_after(PATIENCE):
                    content = json.dumps(envelope)
                    answer = await self._http.post(subscription.url, content=content, headers=headers)
                    return answer.status_code
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
                return None
