"""Audio is passed through in ranges, from where it is allowed, and no signed URL leaves the process."""

from __future__ import annotations

import os
import re
from pathlib import Path

import fsspec
import pytest
from starlette.testclient import TestClient

from tests.conftest import SAMPLES, attach_memory, client_of, settle
from tests.ui.conftest import Site
from vod.records import Transcript
from vod.standin import Standin

SOUND = bytes(range(256)) * 4000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", str(allowed))
    return allowed


def get(person: TestClient, entry: str, **headers: str):
    return person.get("/audio", params={"entry": entry}, headers=headers)


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-", 0, None),
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=1000000-", 1_000_000, None),
        ("bytes=-500", -500, None),
        ("bytes=300000-99999999", 300_000, None),
        (f"bytes=-{10**12}", 0, None),
    ],
)
def test_ranges_of_a_file(site: Site, folder: Path, wanted: str, start: int, end: int | None) -> None:
    (folder / "a.mp3").write_bytes(SOUND)
    audio = site.extract("a", (folder / "a.mp3").as_uri())
    answer = get(site.person("viewer"), audio.entry, Range=wanted)
    assert answer.status_code == 206
    assert answer.content == SOUND[start:end]
    first = start % len(SOUND) if start < 0 else start
    last = first + len(answer.content) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(SOUND)}"
    assert answer.headers["Content-Type"] == "audio/mpeg"


@pytest.mark.parametrize(
    "wanted", [None, "bytes=", "bytes=-", "items=0-1", "bytes=0-1,5-9", "bytes=٣-", "x" * 5000]
)
def test_without_a_range_that_is_one_all_of_it_comes(site: Site, folder: Path, wanted: str | None) -> None:
    (folder / "a.mp3").write_bytes(SOUND)
    audio = site.extract("a", (folder / "a.mp3").as_uri())
    answer = get(site.person(), audio.entry, **({"Range": wanted.encode()} if wanted else {}))  # type: ignore[arg-type]
    assert (answer.status_code, answer.content) == (200, SOUND)
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    "wanted", [f"bytes={len(SOUND)}-", "bytes=5-2", "bytes=-0", "bytes=99999999999999999-"]
)
def test_a_range_that_is_not_there(site: Site, folder: Path, wanted: str) -> None:
    (folder / "a.mp3").write_bytes(SOUND)
    audio = site.extract("a", (folder / "a.mp3").as_uri())
    answer = get(site.person(), audio.entry, Range=wanted)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(SOUND)}"


def test_an_empty_file_is_no_failure(site: Site, folder: Path) -> None:
    (folder / "a.mp3").touch()
    audio = site.extract("a", (folder / "a.mp3").as_uri())
    assert get(site.person(), audio.entry).content == b""


def test_a_download_has_its_name(site: Site, folder: Path) -> None:
    name = 'Ein "Zug" - 火车\r\n.mp3'
    (folder / name).write_bytes(SOUND)
    audio = site.extract("a", (folder / name).as_uri())
    answer = site.person().get("/audio", params={"entry": audio.entry, "download": "true"})
    assert answer.content == SOUND
    assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''Ein%20%22Zug%22")


def test_only_audio_and_texts_below_an_allowed_location_are_read(site: Site, folder: Path) -> None:
    secret = folder.parent / "secret.mp3"
    secret.write_bytes(b"secret")
    (folder / "link.mp3").symlink_to(secret)
    (folder / "keys.py").write_bytes(b"secret")
    (folder / "page.html").write_bytes(b"secret")
    (folder / "sub.mp3").mkdir()
    os.mkfifo(folder / "pipe.mp3")
    (folder / "outside").symlink_to(folder.parent)
    uris = [
        secret.as_uri(),
        f"file://{folder}/../secret.mp3",
        f"file://{folder}/outside/secret.mp3",
        str(secret),
        "/etc/passwd",
        "file:///etc/passwd",
        "file:///dev/zero",
        *((folder / name).as_uri() for name in ("link.mp3", "keys.py", "page.html", "sub.mp3", "pipe.mp3")),
        "file://other/a.mp3",
        "http://127.0.0.1:9/a.mp3",
        "s3://bucket/a.mp3",
        "memory://bucket/a.mp3",
        "vod://nothing/../a.mp3",
        "vod://",
        "",
        "\0",
    ]
    for number, uri in enumerate(uris):
        audio = site.extract(f"a{number}", uri)
        answer = get(site.person(), audio.entry)
        assert answer.status_code == 404, uri
        assert b"secret" not in answer.content.replace(b"secret.mp3", b"")


def test_a_file_that_is_gone_is_told_in_words(site: Site, folder: Path) -> None:
    audio = site.extract("a", (folder / "gone.mp3").as_uri())
    answer = site.person().get("/audio", params={"entry": audio.entry}, headers={"Accept": "*/*"})
    assert answer.status_code == 404
    assert "mount it here" in answer.json()["detail"]


def test_texts_and_nothing_but_the_files_of_the_record(site: Site, folder: Path) -> None:
    for end in ("json", "srt"):
        (folder / f"a.en.{end}").write_text(f"<script>{end}</script>")
    (folder / "other.json").write_text("{}")
    audio = site.extract("a", (folder / "a.mp3").as_uri())
    uris = {end: (folder / f"a.en.{end}").as_uri() for end in ("json", "srt")}
    site.say(
        audio,
        Transcript(asset="a", audio=audio.uri, text="", language="en", duration=1, model="m", uris=uris),
    )
    person = site.person()
    answer = person.get("/file", params={"entry": audio.entry, "kind": "srt"})
    assert answer.text == "<script>srt</script>"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"].startswith("text/plain")
    words = person.get("/transcript.json", params={"entry": audio.entry})
    assert words.headers["Content-Type"] == "application/json"
    for kind in ("vtt", "../other", "", "uris", "__class__"):
        assert person.get("/file", params={"entry": audio.entry, "kind": kind}).status_code == 404


def test_ranges_of_an_object(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    attach_memory(store)
    store.pipe_file("/bucket/audio/a.mp3", SOUND)
    monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", "memory://bucket/audio")
    audio = site.extract("a", "memory://bucket/audio/a.mp3")
    answer = get(site.person(), audio.entry, Range="bytes=700000-700099")
    assert (answer.status_code, answer.content) == (206, SOUND[700_000:700_100])
    elsewhere = site.extract("b", "memory://bucket/other/a.mp3")
    assert get(site.person(), elsewhere.entry).status_code == 404


def test_audio_in_vod_comes_by_a_signed_url_that_nobody_sees(
    site: Site, standin: Standin, connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    vod = client_of(standin)
    source = standin.add(SAMPLES / "lake.mov", title="lake")
    audio_id = vod.extract_audio(source, "MP3").audio_asset_id
    settle(vod, audio_id)
    details = vod.asset_details(audio_id)
    whole = get_whole(vod, audio_id)
    vod.close()
    audio = site.extract(source, f"vod://{connection}/{audio_id}", audio_asset_id=audio_id, engine="vod")
    answer = get(site.person("viewer"), audio.entry, Range="bytes=1000-2999")
    assert (answer.status_code, answer.content) == (206, whole[1000:3000])
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert get(site.person(), audio.entry).content == whole
    signature = re.search(r"[?&](\w*sig\w*|auth_key|token)=", details.signed_url or "", re.IGNORECASE)
    assert signature, "the URL is signed"
    told = caplog.text + str(answer.headers)
    assert signature[0] not in told
    nowhere = site.extract("x" * 32, "vod://no_such_connection/" + "1" * 32)
    assert get(site.person(), nowhere.entry).status_code == 404


def get_whole(vod, asset_id: str) -> bytes:
    import io

    file = io.BytesIO()
    vod.download(asset_id, file)
    return file.getvalue()
