"""Every switch does what it says, as often as it says, to whom it says."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from vod.standin import running
from vod.standin.faults import FaultError, parse, read
from vod.standin.faults.rules import CALLS


@pytest.fixture
def calm(shared):
    """The module's stand-in, calm before and after."""
    yield shared
    shared.standin.behaviour.faults = []


@pytest.fixture(scope="module")
def clip(shared, media):
    return shared.standin.add(media / "clip.mp4", title="calm clip")


@pytest.fixture(scope="module")
def other(shared, media):
    return shared.standin.add(media / "clip.mp4", title="other clip")


def spoil(vod, *rules):
    vod.standin.behaviour.faults = [parse(rule) for rule in rules]


def code(answer):
    return (answer.status_code, answer.json()["error_code"])


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "status", "error_code"),
    [
        ("throttle", 429, "APIGW.0308"),
        ("error", 502, "APIGW.0201"),
        ("error,status=500", 500, "APIGW.0601"),
        ("error,status=503", 503, "APIGW.0613"),
        ("error,status=504", 504, "APIGW.0201"),
        ("refuse,code=VOD.10120", 403, "VOD.10120"),
        ("refuse,code=VOD.10099", 403, "VOD.10099"),
        ("refuse,code=VOD.10111", 403, "VOD.10111"),
        ("refuse,code=VOD.10062", 400, "VOD.10062"),
        ("refuse,code=VST.10002,status=500", 500, "VST.10002"),
        ("refuse,code=APIGW.0305", 401, "APIGW.0305"),
    ],
)
def test_an_envelope(calm, rule, status, error_code):
    spoil(calm, f"{rule},call=info")
    answer = calm.get("/info")
    assert code(answer) == (status, error_code)
    assert answer.json()["error_msg"]
    assert answer.headers["X-Request-Id"]
    if error_code.startswith("APIGW"):
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert "Retry-After" not in answer.headers
    assert calm.get("/list").status_code == 200


def test_a_throttle_may_say_how_long(calm):
    spoil(calm, "throttle,retry_after=7")
    assert calm.get("/info").headers["Retry-After"] == "7"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_page_of_a_proxy(calm, status):
    spoil(calm, f"page,status={status}")
    answer = calm.get("/info")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert answer.text.startswith("<html>")


def test_truncated_json(calm, clip):
    spoil(calm, "truncate,call=info")
    answer = calm.get("/info", asset_id=clip)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.text.startswith('{"asset_info_array"')
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()
    spoil(calm, "truncate")
    url = calm.standin.url + "/cdn/asset/nothing/here"
    assert httpx.get(url).text == "404 No"


def test_late(calm):
    spoil(calm, "latency,call=info,seconds=0.2")
    started = time.monotonic()
    assert calm.get("/info").status_code == 200
    assert time.monotonic() - started >= 0.2
    started = time.monotonic()
    calm.get("/list")
    assert time.monotonic() - started < 0.2


def test_late_and_wrong(calm):
    spoil(calm, "latency,seconds=0.1", "error")
    started = time.monotonic()
    assert calm.get("/info").status_code == 502
    assert time.monotonic() - started >= 0.1


# --- lost answers: What was carried out although the caller got no answer that says so.


@pytest.fixture
def source(calm, media):
    return calm.standin.add(media / "clip.mp4", title="lost and found")


def test_the_lost_202(calm, source):
    spoil(calm, "drop,call=extract_audio,accepted=true,count=1")
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected without sending a response"):
        calm.post("/extract_audio", {"asset_id": source})
    assert calm.stats()["submissions"][source] == 1
    listed = calm.get("/list", query_string="lost and found", media_type="MP3").json()["assets"]
    calm.wait(listed[0]["asset_id"], "CREATED")
    assert calm.stats()["calls"]["extract_audio"]["by_status"]["0"] == 1


def test_a_connection_that_is_dropped_before(calm, source):
    spoil(calm, "drop,call=extract_audio,count=1")
    with pytest.raises(httpx.RemoteProtocolError):
        calm.post("/extract_audio", {"asset_id": source})
    assert source not in calm.stats()["submissions"]
    calm.wait(calm.extract(source), "CREATED")


@pytest.mark.parametrize("rule", ["error,status=504", "page"])
def test_an_error_instead_of_the_202(calm, source, rule):
    spoil(calm, f"{rule},call=extract_audio,accepted=true,count=1")
    assert calm.post("/extract_audio", {"asset_id": source}).status_code in (502, 504)
    assert calm.stats()["submissions"][source] == 1
    spoil(calm, f"{rule},call=extract_audio,count=1")
    assert calm.post("/extract_audio", {"asset_id": source}).status_code in (502, 504)
    assert calm.stats()["submissions"][source] == 1


def test_an_upload_that_is_dropped(calm):
    spoil(calm, "drop,call=storage upload,count=1")
    url = calm.create()["video_upload_url"]
    headers = {"Content-Type": "video/mp4"}
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
        httpx.put(url, content=b"x" * 5_000_000, headers=headers)
    assert httpx.put(url, content=b"x", headers=headers).status_code == 200


# --- when and who ---------------------------------------------------------------------------------


def test_the_first_so_many(calm):
    spoil(calm, "error,call=info,count=2")
    assert [calm.get("/info").status_code for _ in range(3)] == [502, 502, 200]


def test_a_share_is_the_same_each_time(calm):
    def pattern(rule):
        spoil(calm, rule)
        return [calm.get("/info").status_code for _ in range(100)]

    first = pattern("error,call=info,percent=20")
    assert 10 <= first.count(502) <= 30
    assert pattern("error,call=info,percent=20") == first
    assert pattern("error,call=info,percent=20,seed=1") != first


def test_one_asset_by_id_or_title(calm, clip, other):
    for asset in (clip, "calm *"):
        spoil(calm, f"refuse,code=VOD.10099,call=extract_audio,asset={asset}")
        assert code(calm.post("/extract_audio", {"asset_id": clip})) == (403, "VOD.10099")
        assert calm.post("/extract_audio", {"asset_id": other}).status_code == 202


def test_a_title_that_is_only_in_the_request(calm):
    spoil(calm, "refuse,code=VOD.10111,asset=secret*")
    body = {"title": "secret plan", "video_name": "a.mp4", "video_type": "MP4"}
    assert code(calm.post("", body)) == (403, "VOD.10111")
    assert calm.post("", {**body, "title": "plan"}).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"asset_id": [5, null, "\\ud800"]}', b"[" * 9999])
def test_nonsense_concerns_no_asset(calm, body):
    spoil(calm, "refuse,code=VOD.10099,asset=x")
    answer = calm.http.post(calm.root + "/extract_audio", content=body)
    assert code(answer) == (400, "VOD.10053")


def test_one_of_several_ids(calm, clip, other):
    spoil(calm, f"error,asset={other}")
    assert calm.get("/info", asset_id=[clip, other]).status_code == 502
    assert calm.get("/info", asset_id=[clip]).status_code == 200


def test_calls_beside_the_api(calm):
    settings = calm.standin.settings
    spoil(calm, "error,call=token", "error,call=projects,status=503")
    assert httpx.post(f"{calm.standin.url}/v3/auth/tokens", json={}).status_code == 502
    projects = f"{calm.standin.url}/v3/projects"
    assert calm.http.get(projects, params={"name": settings.region}).status_code == 503


def test_the_rules_know_every_call(shared):
    assert shared.standin._gateway.calls == set(CALLS)


# --- elements -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audio(shared, clip):
    audio = shared.extract(clip)
    shared.wait(audio, "CREATED")
    return audio


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("spelling", " CREATED"),
        ("spelling,style=blank", " CREATED"),
        ("spelling,style=lower", "created"),
        ("spelling,style=title", "Created"),
        ("spelling,style=noasset", "CREATED"),
        ("spelling,shows=REVIEWING", "REVIEWING"),
    ],
)
def test_another_spelling(calm, audio, rule, status):
    spoil(calm, rule)
    assert calm.status(audio) == status


def test_noasset(calm):
    spoil(calm, "spelling,style=noasset")
    assert calm.status("f" * 32) == "NOASSET"


def test_the_first_polls_of_each_audio(calm, clip, other):
    first, second = calm.extract(clip), calm.extract(other)
    spoil(calm, "no_asset,count=2", "missing,count=1", "urlless,count=1")
    polls = [calm.info(first, second) for _ in range(3)]
    assert [[element["status"] for element in poll] for poll in polls] == [["NO_ASSET"] * 2] * 2 + [[]]
    assert calm.status(clip) == "PUBLISHED"
    ready = calm.wait(first, "CREATED")
    while "video_url" not in ready["base_info"]:
        [ready] = calm.info(first)
        assert ready["status"] == "CREATED"
    hits = {rule.fault: rule.to_json()["hits"] for rule in calm.standin.behaviour.faults}
    assert (hits["no_asset"], hits["missing"]) == (4, 2)


def test_a_malformed_field(calm, clip):
    spoil(calm, "malformed,count=1", '{"fault": "malformed", "call": "list", "field": "title", "value": []}')
    assert calm.info(clip)[0]["base_info"]["create_time"] == "yesterday"
    assert calm.info(clip)[0]["base_info"]["create_time"] != "yesterday", "once"
    [shown] = calm.get("/list", asset_id=clip).json()["assets"]
    assert (shown["asset_id"], shown["title"]) == (clip, [])


def test_a_list_that_leaves_out_new_audio(calm, clip):
    audio = calm.extract(clip)
    spoil(calm, "missing,call=list,count=1")
    listed = [calm.get("/list", asset_id=audio).json() for _ in range(2)]
    assert [(answer["total"], len(answer["assets"])) for answer in listed] == [(1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("title", "style", "shown"),
    [
        (" a  b ", "trimmed", "a b"),
        ("\N{CLAPPER BOARD}" * 31 + "abc", "cut", "\N{CLAPPER BOARD}" * 31 + "abc"),
        ("\u00e9", "NFD", "e\u0301"),
        ("e\u0301", "NFC", "\u00e9"),
    ],
)
def test_another_title(calm, media, title, style, shown):
    asset = calm.standin.add(media / "clip.mp4", title=title)
    spoil(calm, f"retitled,style={style}", f"retitled,call=info,style={style}")
    [listed] = calm.get("/list", asset_id=asset).json()["assets"]
    assert [listed["title"], calm.info(asset)[0]["base_info"]["title"]] == [shown, shown]


def test_a_longer_title_is_cut_inside_a_character(calm, media):
    asset = calm.standin.add(media / "clip.mp4", title="x" + "\u00e9" * 64)
    spoil(calm, "retitled,style=cut")
    [listed] = calm.get("/list", asset_id=asset).json()["assets"]
    assert listed["title"] == "x" + "\u00e9" * 63 + "\N{REPLACEMENT CHARACTER}"


def test_the_audio_of_one_source(calm, clip, other):
    first, second = calm.extract(clip), calm.extract(other)
    spoil(calm, f"missing,asset={clip}")
    assert [element["asset_id"] for element in calm.info(first, second)] == [second]


def test_the_short_names_are_the_same_rules(calm):
    behaviour = calm.standin.behaviour
    behaviour.no_asset_polls = 2
    behaviour.urlless_polls = 1
    behaviour.no_asset_polls = 3
    assert [rule.to_json() for rule in behaviour.faults] == [
        {"fault": "urlless", "count": 1, "hits": 0},
        {"fault": "no_asset", "count": 3, "hits": 0},
    ]
    assert (behaviour.no_asset_polls, behaviour.missing_polls, behaviour.urlless_polls) == (3, 0, 1)
    behaviour.no_asset_polls = behaviour.urlless_polls = 0
    assert behaviour.faults == []


# --- extractions ----------------------------------------------------------------------------------


def test_forever(calm, clip, other):
    spoil(calm, f"fail,asset={clip},reason=VOD.100021010: no luck")
    for _ in range(2):
        failed = calm.wait(calm.extract(clip), "TRANSCODE_FAILED", "CREATED")
        assert (failed["status"], failed["description"]) == ("TRANSCODE_FAILED", "VOD.100021010: no luck")
    calm.wait(calm.extract(other), "CREATED")


def test_the_first_of_each_source(calm, clip, other):
    spoil(calm, "fail,count=1")
    for source in (clip, other):
        calm.wait(calm.extract(source), "TRANSCODE_FAILED")
        calm.wait(calm.extract(source), "CREATED")


def test_one_that_takes_longer(calm, clip, other):
    spoil(calm, "latency,call=extraction,seconds=3600,asset=calm clip")
    slow, quick = calm.extract(clip), calm.extract(other)
    calm.wait(quick, "CREATED")
    assert calm.status(slow) == "TRANSCODING"
    spoil(calm)


# --- tokens ---------------------------------------------------------------------------------------


def login(vod):
    settings = vod.standin.settings
    domain = {"name": settings.account}
    user = {"name": settings.user, "password": settings.password, "domain": domain}
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": settings.region}},
    }
    answer = httpx.post(f"{vod.standin.url}/v3/auth/tokens", json={"auth": auth})
    return {"X-Auth-Token": answer.headers["X-Subject-Token"]}


def test_old_ones_are_revoked_and_new_ones_are_not(calm):
    old = login(calm)
    assert httpx.get(calm.root + "/info", headers=old).status_code == 200
    spoil(calm, "revoke_tokens")
    assert code(httpx.get(calm.root + "/info", headers=old)) == (401, "APIGW.0307")
    assert httpx.get(calm.root + "/info", headers=login(calm)).status_code == 200
    assert calm.get("/info").status_code == 200


# --- downloads ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(shared, clip):
    return shared.details(clip)["base_info"]["sign_url"]


@pytest.fixture(scope="module")
def content(media):
    return (media / "clip.mp4").read_bytes()


@pytest.mark.parametrize("after", [0, 1000])
def test_cut(calm, url, content, after):
    spoil(calm, f"cut,after_bytes={after},count=1")
    chunks = []
    with httpx.stream("GET", url) as answer:
        assert answer.headers["Content-Length"] == str(len(content))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            chunks.extend(answer.iter_bytes())
    received = b"".join(chunks)
    assert received == content[:after]
    rest = httpx.get(url, headers={"Range": f"bytes={after}-"})
    assert (rest.status_code, received + rest.content) == (206, content)


def test_cut_behind_the_end_is_not_cut(calm, url, content):
    spoil(calm, "cut,after_bytes=1000000000")
    assert httpx.get(url).content == content


def test_short(calm, url, content):
    spoil(calm, "short,only_bytes=1000")
    answer = httpx.get(url)
    assert (answer.content, answer.headers["Content-Length"]) == (content[:1000], "1000")


def test_wrong_length(calm, url, content):
    spoil(calm, "wrong_length,extra_bytes=10")
    with httpx.stream("GET", url) as answer:
        assert answer.headers["Content-Length"] == str(len(content) + 10)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            answer.read()


def test_no_range(calm, url, content):
    spoil(calm, "no_range")
    answer = httpx.get(url, headers={"Range": "bytes=100-"})
    assert (answer.status_code, answer.content) == (200, content)
    assert "Accept-Ranges" not in answer.headers


def test_slow(calm, url, content):
    spoil(calm, f"slow,bytes_per_second={len(content) * 4}")
    started = time.monotonic()
    assert httpx.get(url).content == content
    assert 0.2 <= time.monotonic() - started < 5


def test_the_content_network_too(calm, clip, content):
    url = calm.info(clip)[0]["base_info"]["video_url"]
    spoil(calm, "short,call=cdn download,only_bytes=7", "error,call=storage download")
    assert httpx.get(url).content == content[:7]
    assert httpx.get(calm.details(clip)["base_info"]["sign_url"]).status_code == 502


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("explode", "explode"),
        ("", "fault"),
        ("error,status=404", "status"),
        ("error,call=nothing", "call"),
        ("error,percent=0", "percent"),
        ("error,count=many", "count"),
        ("error,hurry=1", "hurry"),
        ("error,count", "pairs"),
        ("cut,call=info", "call"),
        ("refuse", "code"),
        ("refuse,code=oops", "code"),
        ('{"fault": "error"', "JSON"),
    ],
)
def test_a_rule_that_is_none(rule, complaint):
    with pytest.raises(FaultError, match=complaint):
        parse(rule)


def test_json_says_the_same():
    rule = {"fault": "drop", "call": "info", "asset": "a, b", "count": 2, "accepted": True}
    for read_ in (parse(json.dumps(rule)), *read(rule), *read([rule])):
        assert read_.to_json() == {**rule, "hits": 0}
    assert parse("drop,call=info,count=2,accepted=true").to_json() == {
        **{name: value for name, value in rule.items() if name != "asset"},
        "hits": 0,
    }


# --- admin ----------------------------------------------------------------------------------------


def test_rules_over_http(calm):
    url = f"{calm.standin.url}/admin/faults"
    rule = {"fault": "error", "call": "info", "count": 1}
    assert httpx.get(url).json() == []
    assert httpx.put(url, json=[rule]).json() == [{**rule, "hits": 0}]
    assert [calm.get("/info").status_code for _ in range(2)] == [502, 200]
    assert httpx.get(url).json() == [{**rule, "hits": 1}]
    more = {"fault": "throttle", "call": "list"}
    assert [shown["fault"] for shown in httpx.post(url, json=more).json()] == ["error", "throttle"]
    assert calm.get("/list").status_code == 429
    assert httpx.delete(url).json() == []
    assert calm.get("/list").status_code == 200


@pytest.mark.parametrize("body", ["", "nonsense", '[{"fault": "explode"}]', '"error"', "[" * 9999])
def test_bad_rules_change_nothing(calm, body):
    url = f"{calm.standin.url}/admin/faults"
    httpx.put(url, json={"fault": "error"})
    answer = httpx.put(url, content=body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert [rule["fault"] for rule in httpx.get(url).json()] == ["error"]


def test_a_web_page_has_no_business_here(calm):
    for path in ("/admin/faults", "/admin/stats"):
        answer = httpx.get(f"{calm.standin.url}{path}", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403


def test_rules_outlive_a_restart_in_the_same_settings(settings, connect):
    settings.behaviour.faults = [parse("error,count=1")]
    for expected in (502, 200):
        with running(settings) as standin, connect(standin) as vod:
            assert vod.get("/info").status_code == expected
