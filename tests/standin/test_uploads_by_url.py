"""Pulling from URLs, really, from a web server on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vod.standin import running
from vod.standin.faults import parse


class Web(ThreadingHTTPServer):
    """Serves ``pages``; ``/held...`` waits until it is let go, ``/cut...`` breaks off."""

    daemon_threads = True

    def __init__(self, pages):
        super().__init__(("127.0.0.1", 0), WebHandler)
        self.pages = pages
        self.asked = []
        self.go = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class WebHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(self.path)
        if path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/moved"))
            self.end_headers()
            return
        if path.startswith("/held/"):
            assert self.server.go.wait(20)
        content = self.server.pages.get(path.rpartition("/")[2])
        self.send_response(404 if content is None else 200)
        content = content or b"not found"
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:100] if path.startswith("/cut/") else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(media):
    pages = {file.name: file.read_bytes() for file in media.iterdir()}
    with Web(pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def item(url, **fields):
    return {"url": url, "title": "pulled", "video_type": "MP4", **fields}


def pull(vod, *items):
    body = json.dumps({"upload_metadatas": items})
    answer = vod.http.post(f"{vod.root}/upload_by_url", content=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["upload_assets"]


def test_a_video_arrives(vod, web, media):
    [pulled] = pull(vod, item(f"{web.url}/clip.mp4?Signature=x", auto_publish=0, tags="a,b", description="d"))
    assert (pulled["url"], pulled["error_code"], pulled["error_msg"]) == (
        f"{web.url}/clip.mp4?Signature=x",
        None,
        None,
    )
    element = vod.wait(pulled["asset_id"], "CREATED")
    base = element["base_info"]
    assert (base["title"], base["video_name"], base["tags"], base["description"]) == (
        "pulled",
        "clip.mp4",
        "a,b",
        "d",
    )
    assert base["meta_data"]["video_size"] == (media / "clip.mp4").stat().st_size
    vod.wait(vod.extract(pulled["asset_id"]), "CREATED")
    assert web.asked == ["/clip.mp4?Signature=x"]


def test_a_redirect_is_followed(vod, web):
    [pulled] = pull(vod, item(f"{web.url}/moved/clip.mp4"))
    vod.wait(pulled["asset_id"], "PUBLISHED")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing.mp4?Signature=secret", "Download failed: HTTP 404"),
        ("/cut/clip.mp4?Signature=secret", "Download failed: RemoteProtocolError"),
    ],
)
def test_a_download_that_fails(vod, web, path, reason):
    [pulled] = pull(vod, item(web.url + path))
    failed = vod.wait(pulled["asset_id"], "UPLOAD_FAILED")
    assert failed["description"] == reason
    assert not list((vod.standin.settings.data / "objects").glob(f"{pulled['asset_id']}/*"))
    answer = vod.post("/extract_audio", {"asset_id": pulled["asset_id"]})
    assert answer.json()["error_code"] == "VOD.10083"
    [deleted] = vod.delete("", asset_id=pulled["asset_id"]).json()["delete_result_array"]
    assert deleted["status"] == "DELETED"


def test_nobody_there(vod):
    [pulled] = pull(vod, item("http://127.0.0.1:1/clip.mp4"))
    failed = vod.wait(pulled["asset_id"], "UPLOAD_FAILED")
    assert failed["description"] == "Download failed: ConnectError"


def test_items_are_refused_one_by_one(vod, web):
    results = pull(
        vod,
        item(f"{web.url}/clip.mp4"),
        item(f"{web.url}/clip"),
        item("ftp://127.0.0.1/clip.mp4"),
        item("file:///etc/passwd.mp4"),
        item("http://[/clip.mp4"),
        item("http:///clip.mp4"),
        item("http://127.0.0.1:99999/clip.mp4"),
        item("http://127.0.0.1/a\nb.mp4"),
        item("\ud800.mp4"),
        item(None),
        item(f"{web.url}/clip.mp4", video_type="EXE"),
        item(f"{web.url}/clip.mp4", title=""),
        item(f"{web.url}/clip.mp4", tags="x" * 25),
        {},
    )
    assert [result["error_code"] for result in results] == [None] + ["VOD.10053"] * 13
    fields = [result["error_msg"].rpartition("{")[2].rstrip("}.") for result in results[1:]]
    assert fields == ["url"] * 9 + ["video_type", "title", "tags", "url"]
    assert [result["asset_id"] for result in results[1:]] == [None] * 13
    vod.wait(results[0]["asset_id"], "PUBLISHED")
    assert sum(vod.stats()["assets_by_status"].values()) == 1


@pytest.mark.parametrize("count", [0, 17])
def test_how_many_at_a_time(shared, count):
    items = [item("http://127.0.0.1:1/clip.mp4")] * count
    answer = shared.post("/upload_by_url", {"upload_metadatas": items})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "VOD.10053")


@pytest.mark.parametrize("body", [{}, {"upload_metadatas": None}, {"upload_metadatas": ["x"]}, []])
def test_a_body_that_is_none(shared, body):
    answer = shared.post("/upload_by_url", body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "VOD.10053")


def test_meanwhile_it_is_being_created(vod, web):
    [pulled] = pull(vod, item(f"{web.url}/held/clip.mp4"))
    asset_id = pulled["asset_id"]
    assert vod.status(asset_id) == "CREATING"
    confirmed = vod.post("/status/uploaded", {"asset_id": asset_id, "status": "CREATED"})
    assert confirmed.json() == {
        "error_code": "VOD.10126",
        "error_msg": "The current media asset status does not allow upload confirmation.",
    }
    assert vod.post("/extract_audio", {"asset_id": asset_id}).json()["error_code"] == "VOD.10083"
    [deleted] = vod.delete("", asset_id=asset_id).json()["delete_result_array"]
    assert deleted["status"] == "FAILED"
    web.go.set()
    vod.wait(asset_id, "PUBLISHED")


def test_a_restart_begins_the_download_again(settings, web, connect, wait_until):
    with running(settings) as standin, connect(standin) as vod:
        [pulled] = pull(vod, item(f"{web.url}/held/clip.mp4"))
        wait_until(lambda: web.asked)
    web.go.set()
    with running(settings) as standin, connect(standin) as vod:
        vod.wait(pulled["asset_id"], "PUBLISHED")
    assert len(web.asked) == 2
    with running(settings):
        pass
    assert len(web.asked) == 2


def test_a_download_can_be_made_to_fail(vod, web):
    vod.standin.behaviour.faults = [parse("fail,call=pull,asset=pulled,count=1,reason=no route")]
    first, second = pull(vod, item(f"{web.url}/clip.mp4"), item(f"{web.url}/clip.mp4"))
    assert vod.wait(first["asset_id"], "UPLOAD_FAILED")["description"] == "Download failed: no route"
    vod.wait(second["asset_id"], "PUBLISHED")


# --- reproduction: Copies within the one bucket that there is.


@pytest.fixture
def origin(vod, media):
    asset_id = vod.standin.add(media / "clip.mp4")
    return vod.info(asset_id)[0]["base_info"]["source_path"]


def test_a_copy(vod, origin, media):
    body = {"title": "copy", "video_type": "MP4", "input": origin, "auto_publish": 0}
    copied = vod.post("/reproduction", body)
    assert copied.status_code == 200
    base = vod.wait(copied.json()["asset_id"], "CREATED")["base_info"]
    assert base["title"] == "copy"
    assert base["meta_data"]["video_size"] == (media / "clip.mp4").stat().st_size
    assert base["source_path"] != origin


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"bucket": "elsewhere"}, 403, "VOD.10114"),
        ({"object": "nothing"}, 403, "VOD.10076"),
        ({"object": None}, 400, "VOD.10053"),
    ],
)
def test_what_cannot_be_copied(vod, origin, change, status, code):
    body = {"title": "copy", "video_type": "MP4", "input": {**origin, **change}}
    answer = vod.post("/reproduction", body)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)
