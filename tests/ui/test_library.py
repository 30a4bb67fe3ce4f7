"""The library shows what the register holds: in pages, filtered, by rights, and all text as text."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from html import unescape
from typing import Any

import pytest
from airflow.api_fastapi.app import get_auth_manager
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.utils.session import create_session
from sqlalchemy import update

from tests.conftest import DictStore
from tests.ui.conftest import DAG, RUN, Site
from vod.library.register import Register, vod_inputs
from vod.library.texts import text_key
from vod.records import AssetFailure, ExtractedAudio, Transcript
from vod.ui.entries import STATES

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "'; DROP TABLE asset_state_store; --",
    '", "kind": "audio", "state": "failed',
    "\u202egnp.exe\u2028\x07",
    "讲座 100% _ ! \\ / 🎬",
    "\ud800 alone",
]


def titles(text: str) -> list[str]:
    return [unescape(title) for title in re.findall(r'<td class="title"><a href="[^"]+">(.*?)</a>', text)]


def transcript(audio: ExtractedAudio, **more: Any) -> Transcript:
    return Transcript(
        **{
            "asset": audio.asset,
            "audio": audio.uri,
            "text": "Hello.",
            "language": "de",
            "duration": 61.0,
            "model": "tiny.en",
            "uris": {"json": "file:///nowhere/a.json"},
            **more,
        }
    )


def one_in_each_state(site: Site) -> None:
    store = DictStore()
    register = Register(store, "holder", vod_inputs("p", "MP3"), settling=0)
    register.claim(["of_waiting", "of_extracting", "of_failed", "of_stopped"])
    register.accept("of_extracting", "f" * 32, 1.0)
    register.fail(
        "of_failed", AssetFailure(asset="of_failed", outcome="gone", message="It is gone.").to_json()
    )
    register.release({"of_stopped": None})
    site.write(store)
    for state in ("ready", "transcribing", "done", "doubtful"):
        audio = site.extract(f"/v/of_{state}.mp4", f"file:///audio/{state}.mp3")
        if state != "ready":
            spoken = transcript(audio, outcome="doubtful" if state == "doubtful" else "transcribed")
            site.say(audio, None if state == "transcribing" else spoken)
    audio = site.extract("/v/of_failed text.mp4", "file:///audio/failed.mp3")
    site.say(audio, AssetFailure(asset="x", outcome="loud", message="Too loud."))


def test_every_state_is_found_and_counted(site: Site) -> None:
    one_in_each_state(site)
    person = site.person("viewer")
    counts = person.get("/states.json").json()
    assert counts == {state: 2 if state == "failed" else 1 for state in STATES}
    everything = person.get("/library").text
    assert len(titles(everything)) == 9
    assert titles(everything)[0] == "of_failed text.mp4", "newest first"
    for state in STATES:
        found = person.get("/library", params={"state": state}).text
        assert len(titles(found)) == counts[state], state
        assert all(f"of_{state}" in title for title in titles(found))
        assert found.count(f'<span class="state {state}">') == counts[state]
    failed = person.get("/library", params={"state": "failed"}).text
    assert "It is gone." in failed
    assert "Too loud." in failed


def test_a_text_of_earlier_audio_is_not_that_of_the_new(site: Site) -> None:
    audio = site.extract("a" * 32, "vod://vod_default/1")
    site.say(audio, transcript(audio))
    assert "done" in site.person().get("/asset", params={"entry": audio.entry}).text
    site.extract("a" * 32, "vod://vod_default/2")
    again = site.person().get("/asset", params={"entry": audio.entry}).text
    assert '<span class="state ready">' in again
    assert "There is no transcript." in again


@pytest.mark.parametrize("title", HOSTILE)
def test_whatever_a_title_says_is_text_and_can_be_found(site: Site, title: str) -> None:
    audio = site.extract("b" * 32, "vod://vod_default/1", title=title, warnings=[title], language=title)
    site.say(audio, transcript(audio, warnings=[title], model=title, outcome="doubtful"))
    site.extract("c" * 32, "vod://vod_default/2", title="another")
    person = site.person()
    for path in ("/library", "/asset"):
        page = person.get(path, params={"entry": audio.entry}).text
        assert not re.search(r"<script>alert|<img|>49<|javascript:alert\(1\)\"", page.partition("<body>")[2])
    shown = title.encode("utf-8", "replace").decode()
    wanted = person.get("/library", params={"text": shown.upper()}).text
    if "\ud800" not in title:  # cannot be asked for
        assert titles(wanted) == [title]
    for state in STATES:
        found = titles(person.get("/library", params={"state": state}).text)
        assert found == {"doubtful": [title], "ready": ["another"]}.get(state, []) or "\ud800" in title


@pytest.mark.parametrize(
    "text", ["%", "_", "lecture%", "kind", "audio", '"', "\\", "!", "ready", "vod_default"]
)
def test_a_search_finds_titles_and_names_and_nothing_else(site: Site, text: str) -> None:
    site.extract("d" * 32, "vod://vod_default/1", title="Lecture 1")
    assert titles(site.person().get("/library", params={"text": text}).text) == []


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        ("2026-03-02", "", 2),
        ("", "2026-03-02", 2),
        ("2026-03-02", "2026-03-02", 1),
        ("2026-03-04", "", 0),
        ("2026-03-03", "2026-03-01", 0),
        ("soon", "2026-02-30", 3),
        ("0001-01-01", "9999-12-31", 3),
    ],
)
def test_by_day(site: Site, since: str, until: str, found: int) -> None:
    with create_session() as session:
        for day in (1, 2, 3):
            audio = site.extract(f"{day}" * 32, f"vod://vod_default/{day}", title=f"day {day}")
            session.execute(
                update(AssetStateStoreModel)
                .where(AssetStateStoreModel.key == audio.entry)
                .values(updated_at=datetime(2026, 3, day, 23, 59, tzinfo=timezone.utc))
            )
            session.commit()
    asked = {"since": since, "until": until}
    page = site.person().get("/library", params=asked).text
    assert len(titles(page)) == found
    if found == 1:
        assert 'value="2026-03-02"' in page
        assert "since=2026-03-02&amp;until=2026-03-02" in page, "the states keep the days"


def test_a_search_finds_how_a_transcript_begins_for_whoever_may_read_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = site.extract("/v/one.mp4", "file:///a/one.mp3")
    site.say(audio, transcript(audio, text='Im Winter ist "der See" 100 % still.'), dag="secret")
    site.extract("/v/two.mp4", "file:///a/two.mp3")
    person = site.person("viewer")
    for text in ("der see", '"DER SEE" 100 %', "winter"):
        assert titles(person.get("/library", params={"text": text}).text) == ["one.mp4"], text
    assert titles(person.get("/library", params={"text": "100 _"}).text) == []
    manager = get_auth_manager()
    allowed = manager.is_authorized_dag
    monkeypatch.setattr(
        manager,
        "is_authorized_dag",
        lambda *, details=None, **rest: (
            getattr(details, "id", "") != "secret" and allowed(details=details, **rest)
        ),
    )
    assert titles(person.get("/library", params={"text": "winter"}).text) == []


def test_a_language_is_that_of_the_text_or_else_of_the_track(site: Site) -> None:
    for name, of_track, of_text in (
        ("a", "eng", "de"),
        ("b", "eng", ""),
        ("c", None, "DE"),
        ("d", None, ""),
        ("e", 'de", "x": "', ""),
    ):
        audio = site.extract(f"/v/{name}.mp4", f"file:///a/{name}.mp3", language=of_track)
        if of_text:
            site.say(audio, transcript(audio, language=of_text))

    def found(language: str) -> set[str]:
        page = site.person().get("/library", params={"language": language}).text
        return {title[0] for title in titles(page)}

    assert found("de") == {"a", "c"}
    assert found("ENG") == {"b"}
    assert found("fr") == found("%") == set()
    assert found("") == {"a", "b", "c", "d", "e"}
    failing = site.person().get("/library", params={"language": "de", "state": "done", "text": "a.mp4"}).text
    assert titles(failing) == ["a.mp4"]


def test_the_chart_adds_up_each_day(site: Site) -> None:
    store = DictStore()
    register = Register(store, "holder", vod_inputs("p", "MP3"), settling=0)
    register.claim(["bad"])
    register.fail("bad", AssetFailure(asset="bad", outcome="gone", message="Gone.").to_json())
    site.write(store)
    for number, seconds in enumerate([3600.0, 1800.4, None]):
        site.extract(f"/v/{number}.mp4", f"file:///a/{number}.mp3", duration=seconds)
    with create_session() as session:
        now = datetime.now(timezone.utc)
        session.execute(update(AssetStateStoreModel).values(updated_at=now))
        session.execute(
            update(AssetStateStoreModel)
            .where(AssetStateStoreModel.value.like("%/v/0.mp4%"))
            .values(updated_at=now - timedelta(days=29))
        )
    page = site.person("viewer").get("/days").text
    assert "3 with audio, 1 failed, 1:30:00 of audio." in page
    days = re.findall(r"<title>(\S+): (.*?)</title>", page)
    assert len(days) == 30
    assert days[0] == (str((now - timedelta(days=29)).date()), "1 with audio, 0 failed, 1:00:00 of audio")
    assert days[-1] == (str(now.date()), "2 with audio, 1 failed, 30:00 of audio")
    assert {told for _, told in days[1:-1]} == {"0 with audio, 0 failed, 0:00 of audio"}


def test_without_anything_of_late_there_is_no_chart(site: Site) -> None:
    assert site.person().get("/days").text.strip() == ""


def test_a_search_by_file_name_and_id(site: Site) -> None:
    site.extract("/films/Der Zug.MKV", "file:///audio/zug.mp3")
    site.extract("e" * 32, "vod://vod_default/1", title="Lake")
    person = site.person()
    assert titles(person.get("/library", params={"text": "zug.mkv"}).text) == ["Der Zug.MKV"]
    assert titles(person.get("/library", params={"text": "E" * 32}).text) == ["Lake"]


def test_pages(site: Site) -> None:
    for number in range(120):
        site.extract(f"/v/{number:03}.mp4", f"file:///audio/{number}.mp3", run=f"run {number % 2}")
    person = site.person()
    pages = [person.get("/library", params={"page": page}).text for page in range(4)]
    found = [title for page in pages for title in titles(page)]
    assert found == [f"{number:03}.mp4" for number in reversed(range(120))]
    assert "51 to 100 of 120" in pages[1]
    assert "No video matches." in pages[3]
    of_run = person.get("/library", params={"of_dag": DAG, "of_run": "run 1", "page": "1"}).text
    assert "51 to 60 of 60" in of_run
    for page in ("-1", "x", "1e9", "9" * 30):
        assert person.get("/library", params={"page": page}).status_code == 404


def test_an_empty_library_says_how_to_fill_it(site: Site) -> None:
    assert "No videos yet." in site.person().get("/library").text
    assert "还没有视频" in site.person().get("/library", headers={"Cookie": "vod_language=zh-CN"}).text


def test_each_sees_the_videos_of_the_dags_whose_results_he_may_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = site.extract("/v/mine.mp4", "file:///audio/1.mp3", dag="mine")
    site.say(mine, transcript(mine), dag="theirs")
    theirs = site.extract("/v/theirs.mp4", "file:///audio/2.mp3", dag="theirs")
    allowed = get_auth_manager().is_authorized_dag

    def only_mine(*, details: Any = None, **rest: Any) -> bool:
        return (details is None or details.id in (None, "mine")) and allowed(details=details, **rest)

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", only_mine)
    person = site.person("viewer")
    page = person.get("/library").text
    assert titles(page) == ["mine.mp4"]
    assert "1 to 1 of 1" in page
    assert titles(person.get("/library", params={"of_dag": "theirs"}).text) == []
    assert person.get("/asset", params={"entry": theirs.entry}).status_code == 404
    own = person.get("/asset", params={"entry": mine.entry}).text
    assert "There is no transcript." in own, "the text is another DAG's"
    assert person.get("/transcript.json", params={"entry": mine.entry}).status_code == 404


ODD = dict.fromkeys(
    (
        "asset",
        "title",
        "uri",
        "duration",
        "size",
        "language",
        "warnings",
        "uris",
        "offset",
        "engine",
        "confidence",
    ),
    "<b>7</b>",
)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "[]",
        "null",
        "7",
        '{"state": "failed"}',
        '{"state": "failed", "failure": 7, "asset": ["a"]}',
        '{"state": 3, "record": []}',
        json.dumps({"state": "ready", "record": ODD}),
        json.dumps({"state": "ready", "record": {**{name: [None] for name in ODD}, "uri": "x"}}),
        json.dumps({"state": "ready", "record": dict.fromkeys(ODD, -1e308)}),
    ],
    ids=range(10),
)
def test_what_others_wrote_under_such_a_key_breaks_no_page(site: Site, value: str) -> None:
    audio = site.extract("/v/good.mp4", "file:///audio/1.mp3")
    row = site.session.get(AssetStateStoreModel, (1, audio.entry))
    assert row
    key = "audio_" + "0" * 32
    site.session.add(
        AssetStateStoreModel(
            asset_id=1, key=key, value=value, updated_at=row.updated_at, last_updated_by_dag_id=DAG
        )
    )
    text = {"state": "done", "audio": "<b>7</b>", "record": ODD}
    site.session.add(
        AssetStateStoreModel(
            asset_id=1,
            key=text_key(key),
            value=json.dumps(text),
            updated_at=row.updated_at,
            last_updated_by_dag_id=DAG,
        )
    )
    site.session.commit()
    for path in ("/library", "/asset"):
        page = site.person().get(path, params={"entry": key})
        assert page.status_code == 200
        assert "<b>7</b>" not in page.text.partition("<table")[2] + page.text.partition("<header")[2]
    for path in ("/audio", "/file", "/transcript.json"):
        assert site.person().get(path, params={"entry": key, "kind": "b"}).status_code == 404


def test_what_no_dag_has_written_is_shown_to_nobody(site: Site) -> None:
    audio = site.extract("/v/secret.mp4", "file:///audio/1.mp3")
    row = site.session.get(AssetStateStoreModel, (1, audio.entry))
    assert row
    row.last_updated_by_dag_id = None
    site.session.commit()
    assert site.person().get("/asset", params={"entry": audio.entry}).status_code == 404
    assert "secret" not in site.person().get("/library").text
    assert set(site.person().get("/states.json").json().values()) == {0}


def test_again_is_offered_for_what_can_be_asked_for_again(site: Site) -> None:
    audio = site.extract("https://host/a.mp4?2f0c1d9e", "file:///audio/1.mp3")
    page = site.person().get("/asset", params={"entry": audio.entry}).text
    assert "Extract again" not in page, "only the harmless part of its URL is known"
    assert json.dumps(RUN) not in page
