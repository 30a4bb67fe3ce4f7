"""Notifications, received by a real web server and checked with OpenSSL's reading of the certificate."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding

from vod.standin import StandinSettings, running
from vod.standin.faults import parse


class Subscriber(ThreadingHTTPServer):
    """Keeps what it is sent, and answers with ``statuses`` one after the other, then 200."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.received = []
        self.statuses = []
        self.url = f"http://127.0.0.1:{self.server_port}/listen"

    def of(self, kind):
        return [envelope for envelope in self.received if envelope["type"] == kind]

    def notifications(self):
        return self.of("Notification")

    def events(self):
        """What VOD says: the JSON in the string."""
        return [json.loads(envelope["message"])["audio_extract_info"] for envelope in self.notifications()]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        envelope = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for header, field in (
            ("x-smn-message-type", "type"),
            ("x-smn-message-id", "message_id"),
            ("x-smn-topic-urn", "topic_urn"),
        ):
            assert self.headers[header] == envelope[field]
        self.server.received.append(envelope)
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def verify(envelope):
    """Section 10.3, step by step."""
    if envelope["type"] == "Notification":
        names = ["message", "message_id", "subject", "timestamp", "topic_urn", "type"]
    else:
        names = ["message", "message_id", "subscribe_url", "timestamp", "topic_urn", "type"]
    text = "".join(f"{name}\n{envelope[name]}\n" for name in names)
    certificate = x509.load_pem_x509_certificate(httpx.get(envelope["signing_cert_url"]).content)
    certificate.public_key().verify(
        base64.b64decode(envelope["signature"]),
        text.encode(),
        padding.PKCS1v15(),
        certificate.signature_hash_algorithm,
    )


@pytest.fixture
def subscriber():
    with Subscriber() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(settings):
    settings.behaviour.notification_retry_seconds = 0.01
    return settings


@pytest.fixture
def source(vod, media):
    return vod.standin.add(media / "clip.mp4", title="Größe 1")


@pytest.fixture
def subscribed(vod, subscriber, wait_until):
    """A subscriber that has confirmed."""
    httpx.post(f"{vod.standin.url}/admin/subscriptions", json={"url": subscriber.url}).raise_for_status()
    wait_until(lambda: subscriber.of("SubscriptionConfirmation"))
    httpx.get(subscriber.received[0]["subscribe_url"]).raise_for_status()
    return subscriber


def outcomes(vod):
    return vod.stats()["notifications"]


def test_from_the_invitation_to_the_event(vod, source, subscriber, wait_until):
    subscriptions = f"{vod.standin.url}/admin/subscriptions"
    expected = [{"url": subscriber.url, "confirmed": False}]
    assert httpx.post(subscriptions, json={"url": subscriber.url}).json() == expected
    wait_until(lambda: subscriber.received)
    [invitation] = subscriber.received
    assert invitation["type"] == "SubscriptionConfirmation"
    assert invitation["topic_urn"] == f"urn:smn:cn-north-4:{vod.project}:vod"
    verify(invitation)

    vod.wait(vod.extract(source), "CREATED")
    assert outcomes(vod)["published"] == 0
    assert httpx.get(invitation["subscribe_url"]).status_code == 200
    assert httpx.get(subscriptions).json()[0]["confirmed"] is True
    audio = vod.extract(source)
    wait_until(subscriber.notifications)
    [envelope] = subscriber.notifications()
    verify(envelope)
    assert (envelope["subject"], envelope["signature_version"]) == ("VOD", "v1")
    message = json.loads(envelope["message"])
    assert message["event_type"] == "audioExtractComplete"
    event = message["audio_extract_info"]
    base = vod.info(audio)[0]["base_info"]
    assert event == {
        "asset_id": audio,
        "status": "SUCCEED",
        "title": "Größe 1",
        "url": base["video_url"],
        "meta_data": base["meta_data"],
    }
    wait_until(lambda: outcomes(vod)["delivered"] == 2)


def test_a_failure_says_why(vod, media, subscribed, wait_until):
    audio = vod.extract(vod.standin.add(media / "silent.mp4"))
    wait_until(subscribed.notifications)
    [event] = subscribed.events()
    assert (event["asset_id"], event["status"], event["error_code"]) == (audio, "FAILED", "VOD.10092")
    assert "no audio track" in event["error_msg"]
    assert set(event) == {"asset_id", "status", "error_code", "error_msg"}


def test_a_cancelled_extraction_says_nothing(vod, source, subscribed, wait_until):
    vod.standin.behaviour.queue_seconds = 3600
    cancelled = vod.extract(source)
    vod.delete("/extract_audio", asset_id=cancelled)
    vod.standin.behaviour.queue_seconds = 0
    audio = vod.extract(source)
    wait_until(subscribed.notifications)
    assert [event["asset_id"] for event in subscribed.events()] == [audio]


def test_unsubscribing(vod, source, subscribed, wait_until):
    vod.extract(source)
    wait_until(subscribed.notifications)
    httpx.get(subscribed.notifications()[0]["unsubscribe_url"]).raise_for_status()
    wait_until(lambda: subscribed.of("UnsubscribeConfirmation"))
    [goodbye] = subscribed.of("UnsubscribeConfirmation")
    verify(goodbye)
    vod.wait(vod.extract(source), "CREATED")
    assert outcomes(vod)["published"] == 1
    httpx.get(goodbye["subscribe_url"]).raise_for_status()
    vod.extract(source)
    wait_until(lambda: len(subscribed.notifications()) == 2)


# --- delivery: Section 10.4.


def test_5xx_is_tried_again(vod, source, subscribed, wait_until):
    subscribed.statuses = [500, 503, 502]
    vod.extract(source)
    wait_until(lambda: len(subscribed.notifications()) == 4)
    assert len({envelope["message_id"] for envelope in subscribed.notifications()}) == 1
    assert len({envelope["timestamp"] for envelope in subscribed.notifications()}) == 1
    wait_until(lambda: outcomes(vod)["delivered"] == 2)


def test_4xx_is_final(vod, source, subscribed, wait_until):
    subscribed.statuses = [404]
    vod.extract(source)
    wait_until(lambda: outcomes(vod)["refused"] == 1)
    assert len(subscribed.notifications()) == 1


def test_seven_attempts_then_the_blacklist(vod, source, subscribed, wait_until):
    subscribed.statuses = [500] * 7
    vod.extract(source)
    wait_until(lambda: outcomes(vod)["dropped"] == 1)
    assert len(subscribed.notifications()) == 7
    vod.extract(source)
    wait_until(lambda: outcomes(vod)["dropped"] == 2)
    assert len(subscribed.notifications()) == 7


def test_nobody_there(vod, source, subscribed, wait_until):
    [subscription] = vod.standin._topic._subscriptions.values()
    subscription.url = "http://127.0.0.1:1/"
    vod.extract(source)
    wait_until(lambda: outcomes(vod)["dropped"] == 1)


# --- faults ---------------------------------------------------------------------------------------


def test_twice(vod, source, subscribed, wait_until):
    vod.standin.behaviour.faults = [parse("duplicate")]
    vod.extract(source)
    wait_until(lambda: len(subscribed.notifications()) == 2)
    first, second = subscribed.notifications()
    assert first == second


def test_out_of_order(vod, source, subscribed, wait_until):
    vod.standin.behaviour.faults = [parse("latency,call=notification,seconds=2,count=1")]
    audios = []
    for _ in range(2):
        audios.append(vod.extract(source))
        vod.wait(audios[-1], "CREATED")
    wait_until(lambda: len(subscribed.notifications()) == 2)
    assert [event["asset_id"] for event in subscribed.events()] == audios[::-1]


def test_lost(vod, source, subscribed, wait_until):
    vod.standin.behaviour.faults = [parse("drop,call=notification")]
    vod.extract(source)
    wait_until(lambda: outcomes(vod)["dropped"] == 1)
    assert not subscribed.notifications()


def test_forged(vod, source, subscribed, wait_until):
    vod.standin.behaviour.faults = [parse("forge")]
    vod.extract(source)
    wait_until(subscribed.notifications)
    with pytest.raises(InvalidSignature):
        verify(subscribed.notifications()[0])


def test_prose(vod, source, subscribed, wait_until):
    vod.standin.behaviour.faults = [parse("prose")]
    vod.extract(source)
    wait_until(subscribed.notifications)
    [envelope] = subscribed.notifications()
    assert envelope["message"] == "The audio extraction of Größe 1 has ended."
    verify(envelope)


def test_no_certificate(vod, subscribed):
    vod.standin.behaviour.faults = [parse("error,call=smn certificate")]
    assert httpx.get(subscribed.received[0]["signing_cert_url"]).status_code == 502


def test_subscribers_of_the_settings(tmp_path, subscriber, wait_until):
    settings = StandinSettings(
        data=tmp_path, subscribers=[subscriber.url], public_url="http://standin.example:1"
    )
    with running(settings):
        wait_until(lambda: subscriber.received)
    for name in ("subscribe_url", "signing_cert_url"):
        assert urlsplit(subscriber.received[0][name]).netloc == "standin.example:1"


def test_links_that_are_none(shared):
    url = shared.standin.url
    assert httpx.get(f"{url}/smn/SMN_cn-north-4_0.pem").status_code == 404
    for action in ("confirm", "unsubscribe"):
        for query in ("", "?token=x"):
            assert httpx.get(f"{url}/smn/subscription/{action}{query}").status_code == 400


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"url": 5}', '{"url": "ftp://x/"}', '{"url": "http://["}'])
def test_a_subscriber_that_is_none(shared, body):
    answer = httpx.post(f"{shared.standin.url}/admin/subscriptions", content=body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_subscribers_can_be_forgotten(vod, source, subscribed):
    assert httpx.delete(f"{vod.standin.url}/admin/subscriptions").json() == []
    vod.wait(vod.extract(source), "CREATED")
    assert outcomes(vod)["published"] == 0
