"""What stands before every call: authentication, throttling, project and error envelopes."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import pytest


def login(shared, **changes):
    settings = shared.standin.settings
    user = {
        "name": settings.user,
        "password": settings.password,
        "domain": {"name": settings.account},
        **changes.pop("user", {}),
    }
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": settings.region}},
        **changes,
    }
    return httpx.post(
        f"{shared.standin.url}/v3/auth/tokens", params={"nocatalog": "true"}, json={"auth": auth}
    )


def info_url(shared, project=None):
    return f"{shared.standin.url}/v1.0/{project or shared.project}/asset/info"


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["error_code"]) == (status, code), answer.text
    assert answer.headers["X-Request-Id"]
    if code.startswith("APIGW."):
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    else:
        assert set(answer.json()) == {"error_code", "error_msg"}
    return answer.json()["error_msg"]


# --- authentication -------------------------------------------------------------------------------


def test_nothing_at_all(shared):
    message = refused(httpx.get(info_url(shared)), 401, "APIGW.0301")
    assert message == "Incorrect IAM authentication information: x-auth-token not found"


def test_a_wrong_signature_shows_the_canonical_request(shared):
    request = shared.http.build_request("GET", shared.root + "/info", params={"asset_id": "x"})
    signed = next(shared.http.auth.auth_flow(request))
    signed.headers["Authorization"] = re.sub(
        "Signature=.*", f"Signature={'0' * 64}", signed.headers["Authorization"]
    )
    message = refused(shared.http.send(signed, auth=None), 401, "APIGW.0301")
    assert (
        f"verify aksk signature fail,canonicalRequest:GET|/v1.0/{shared.project}/asset/info/|asset_id=x|"
        in message
    )


def test_an_unknown_key(shared):
    authorization = f"SDK-HMAC-SHA256 Access=NOBODY, SignedHeaders=x-sdk-date, Signature={'0' * 64}"
    answer = httpx.get(
        info_url(shared), headers={"Authorization": authorization, "X-Sdk-Date": "20240102T030405Z"}
    )
    assert "ak not exist" in refused(answer, 401, "APIGW.0301")


def test_a_date_of_long_ago(shared):
    answer = shared.http.get(shared.root + "/info", headers={"X-Sdk-Date": "20240102T030405Z"})
    assert "out of the allowed 15 minutes" in refused(answer, 401, "APIGW.0301")


def test_a_key_is_locked_after_too_many_failures(vod):
    headers = {"X-Sdk-Date": "20240102T030405Z"}
    for _ in range(6):
        refused(vod.http.get(vod.root + "/info", headers=headers), 401, "APIGW.0301")
    message = refused(vod.get("/info"), 401, "APIGW.0301")
    assert message.endswith("AK access failed to reach the limit,forbidden")


def test_a_signed_temporary_key(shared):
    assert shared.http.get(shared.root + "/info", headers={"X-Security-Token": "STSTOKEN"}).status_code == 200


def test_a_security_token_that_nobody_signed(shared):
    request = next(shared.http.auth.auth_flow(shared.http.build_request("GET", shared.root + "/info")))
    request.headers["X-Security-Token"] = "STSTOKEN"
    message = refused(shared.http.send(request, auth=None), 401, "APIGW.0301")
    assert message.endswith("header x-security-token is not signed")


def test_an_unsigned_payload_that_is_announced(shared):
    answer = shared.http.post(
        shared.root + "/extract_audio",
        json={"asset_id": "x"},
        headers={"X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"},
    )
    refused(answer, 400, "VOD.10062")


def test_any_query_that_the_vendor_signs(shared):
    for text in ("a b,c*~/", "ü 其他 %41", "a+b=c&d", "''\"<>"):
        assert shared.get("/list", query_string=text, tags="a").status_code == 200, text


def test_a_plus_on_the_wire_is_not_a_space(shared):
    request = next(
        shared.http.auth.auth_flow(
            shared.http.build_request("GET", shared.root + "/list", params={"tags": "a b"})
        )
    )
    request.url = request.url.copy_with(raw_path=request.url.raw_path.replace(b"%20", b"+"))
    assert "|tags=a%2Bb|" in refused(shared.http.send(request, auth=None), 401, "APIGW.0301")


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_opens_the_project(shared):
    answer = login(shared)
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert token["project"]["id"] == shared.project
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", token["expires_at"])
    secret = answer.headers["X-Subject-Token"]
    assert len(secret) > 2000
    assert httpx.get(info_url(shared), headers={"X-Auth-Token": secret}).status_code == 200


def test_a_scope_may_name_the_project_by_id(shared):
    assert login(shared, scope={"project": {"id": shared.project}}).status_code == 201


def test_a_token_of_the_whole_account_does_not_open_the_project(shared):
    token = login(shared, scope={"domain": {"name": "standin"}}).headers["X-Subject-Token"]
    refused(httpx.get(info_url(shared), headers={"X-Auth-Token": token}), 403, "VOD.10057")


def test_a_forged_token(shared):
    token = login(shared).headers["X-Subject-Token"]
    for forged in ("nonsense", token[:-1], "", "MII" + token[10:]):
        refused(httpx.get(info_url(shared), headers={"X-Auth-Token": forged}), 401, "APIGW.0301")


def test_an_expired_token(shared, monkeypatch):
    token = login(shared).headers["X-Subject-Token"]
    tokens = shared.standin._gateway.tokens
    monkeypatch.setattr(tokens, "_clock", lambda: time.time() + 24 * 3600)
    message = refused(httpx.get(info_url(shared), headers={"X-Auth-Token": token}), 401, "APIGW.0307")
    assert message == "The token must be updated."


@pytest.mark.parametrize("change", [{"name": "x"}, {"password": "x"}, {"domain": {"name": "x"}}, {"name": 7}])
def test_a_wrong_login(shared, change):
    answer = login(shared, user=change)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == 401
    assert "X-Subject-Token" not in answer.headers


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '{"auth": {}}', '{"auth": {"identity": []}}', "[" * 100_000]
)
def test_a_bad_body(shared, body):
    answer = httpx.post(f"{shared.standin.url}/v3/auth/tokens", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


def test_the_project_can_be_looked_up(shared):
    projects = f"{shared.standin.url}/v3/projects"
    found = shared.http.get(projects, params={"name": "cn-north-4"}).json()["projects"]
    assert [(project["id"], project["name"]) for project in found] == [(shared.project, "cn-north-4")]
    assert shared.http.get(projects, params={"name": "cn-east-2"}).json()["projects"] == []
    assert httpx.get(projects).status_code == 401


def test_another_project(shared):
    refused(shared.http.get(info_url(shared, "f" * 32)), 403, "VOD.10057")
    refused(shared.http.get(shared.root + "/info", headers={"X-Project-Id": "f" * 32}), 403, "VOD.10057")
    assert shared.http.get(shared.root + "/info", headers={"X-Project-Id": shared.project}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nothing"), ("PUT", "/info"), ("GET", "/info/"), ("POST", "/extract_audio/")],
)
def test_a_path_or_method_that_does_not_exist(shared, method, path):
    refused(shared.http.request(method, shared.root + path), 404, "APIGW.0101")


def test_a_body_of_another_content_type(shared):
    answer = shared.http.post(
        shared.root + "/extract_audio", content=b"asset_id=x", headers={"Content-Type": "text/plain"}
    )
    refused(answer, 403, "VOD.10059")


def test_a_body_that_is_too_large_to_be_signed(shared):
    refused(
        shared.http.post(shared.root + "/extract_audio", content=b" " * (12 * 1024 * 1024 + 1)),
        413,
        "APIGW.0201",
    )


def test_a_used_up_quota(vod):
    vod.standin.behaviour.quota_scale = 0.02
    for _ in range(2):
        refused(vod.post("/extract_audio", {"asset_id": "x"}), 400, "VOD.10062")
    answer = vod.delete("/extract_audio", asset_id="x")
    assert "limit:2,time:1 minute" in refused(answer, 429, "APIGW.0308")
    assert "Retry-After" not in answer.headers
    assert vod.get("/info").status_code == 200
    calls = vod.stats()["calls"]
    assert calls["extract_audio"] == {"total": 2, "by_status": {"400": 2}, "peak_per_minute": 2}
    assert calls["cancel_extract_audio"]["by_status"] == {"429": 1}


def test_a_search_has_a_quota_of_its_own(vod):
    vod.standin.behaviour.quota_scale = 1 / 1500
    assert vod.get("/list").status_code == 200
    assert vod.get("/list").status_code == 429
    assert vod.get("/list", query_string="x").status_code == 200
    assert vod.get("/info", query_string="x").status_code == 429


def test_the_counters_are_for_this_machine_only(shared):
    application = shared.standin._server.config.app

    async def ask(address: str) -> int:
        transport = httpx.ASGITransport(application, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/admin/stats", headers={"X-Forwarded-For": "127.0.0.1"})).status_code

    assert asyncio.run(ask("10.1.2.3")) == 403
    assert asyncio.run(ask("127.0.0.1")) == asyncio.run(ask("::1")) == 200
