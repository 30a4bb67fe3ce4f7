"""What three roles and a stranger get: *user* nothing by a form, *viewer* no secret, a stranger nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import SAMPLES
from tests.hostile.conftest import FILE_SECRET, Cluster

pytestmark = pytest.mark.hostile

SETTING = "[vod] allowed_locations"
ADMINS_ONLY = ("/connections", "/config", "/variables")


def hostile_forms(cluster: Cluster) -> list[tuple[str, dict[str, Any], str]]:
    """DAG, form, and what the refusal says."""
    own = cluster.standin.add(SAMPLES / "lake.mov", title="own")
    link = cluster.media / "link.mov"
    if not link.is_symlink():
        link.symlink_to(cluster.private / "keys.txt")
        (cluster.state / "lists" / "link.csv").symlink_to(cluster.private / "keys.csv")
    private, secrets = cluster.private, cluster.state / "secrets"
    port = cluster.airflow.port
    assets = (
        f"{private}/keys.txt",
        f"{cluster.media}/../private/keys.txt",
        str(link),
        f"{secrets}/jwt",
        "/etc/passwd",
        "/proc/self/environ",
        "file:///etc/passwd",
        "FILE:///dev/zero",
        "local:///etc/passwd",
        "obs://other@bucket/a.mov",
        "OBS://other@bucket/a.mov",
        f"http://127.0.0.1:{port}/api/v2/version",
        "http://2130706433/a.mov",
        "http://[::1]/a.mov",
        "http://169.254.169.254/openstack/latest/securitykey",
        "HTTPS://metadata.example/a.mov",
    )
    destinations = (str(private), "/etc/cron.d", "file:///etc/cron.d", "obs://other@bucket/audio")
    manifests = (
        (f"{private}/keys.txt", SETTING),
        (f"{private}/keys.csv", SETTING),
        (f"{cluster.state}/lists/link.csv", SETTING),
        (f"{cluster.state}/lists/../private/keys.csv", SETTING),
        (f"file://{private}/keys.csv", SETTING),
        ("obs://other@bucket/list.csv", SETTING),
        (f"{secrets}/jwt", "ends in .csv"),
        ("/etc/passwd", "ends in .csv"),
        (f"{cluster.state}/passwords.json", "ends in .csv"),
    )
    by_form = "extract_and_transcribe"
    return [
        *((by_form, {"assets": [asset], "engine": "ffmpeg"}, SETTING) for asset in assets),
        *((by_form, {"assets": [own], "destination": folder}, SETTING) for folder in destinations),
        *(("extract_asset_list", {"manifest": path, "engine": "ffmpeg"}, words) for path, words in manifests),
    ]


def test_a_user_gains_nothing_by_any_field_of_a_form(cluster: Cluster) -> None:
    user = cluster.person("user")
    for path in ADMINS_ONLY:
        assert user.get(f"/api/v2{path}").status_code == 403, path
    started = []
    for dag, conf, refusal in hostile_forms(cluster):
        run = cluster.trigger(user, dag, **conf)
        if run is not None:  # the form takes no such text
            started.append((dag, run, conf, refusal))
    assert len(started) >= 20
    for dag, run, conf, refusal in started:
        assert cluster.airflow.api.await_run(dag, run, 300) == "failed", conf
        assert cluster.airflow.api.task(dag, run, "plan")["state"] == "failed", conf
        assert refusal in cluster.log(user, dag, run, "plan"), conf
    assert {path.name for path in cluster.private.iterdir()} == {"keys.csv", "keys.txt"}
    assert not [*Path("/etc/cron.d").glob("*.mp3")]
    assert not [*(cluster.state / "lists").glob("link*.results.csv")]
    for what, secret in cluster.secrets.items():
        assert cluster.found(secret.strip()) == [], what


def test_a_viewer_starts_nothing_and_reads_no_secret(cluster: Cluster) -> None:
    viewer = cluster.person("viewer")
    for path in ADMINS_ONLY:
        assert viewer.get(f"/api/v2{path}").status_code == 403, path
    body = {"logical_date": None, "conf": {"assets": ["/etc/passwd"], "engine": "ffmpeg"}}
    assert viewer.post("/api/v2/dags/extract_and_transcribe/dagRuns", json=body).status_code == 403
    read = []
    for dag, run in cluster.started:
        for task in cluster.airflow.api.tasks(dag, run):
            path = f"/api/v2/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task['task_id']}"
            index = {"map_index": task["map_index"]}
            entries = (
                viewer.get(f"{path}/xcomEntries", params=index).raise_for_status().json()["xcom_entries"]
            )
            keys = [entry["key"] for entry in entries]
            read += [viewer.get(f"{path}/xcomEntries/{key}", params=index).text for key in keys]
            if task["try_number"]:
                read.append(viewer.get(f"{path}/logs/{task['try_number']}", params=index).text)
        read.append(viewer.get(f"/api/v2/dags/{dag}/dagRuns/{quote(run)}").text)
        read.append(viewer.get("/vod/progress", params={"dag_id": dag, "run_id": run}).text)
    read.append(viewer.get("/vod/library").raise_for_status().text)
    assert len(read) > 50
    for what, secret in cluster.secrets.items():
        assert not [text[:300] for text in read if secret.strip() in text], what


def test_a_stranger_sees_nothing(cluster: Cluster) -> None:
    nobody = cluster.person(None)
    dag, run = "extract_and_transcribe", "manual"
    pages = (
        "progress",
        "progress.json",
        "library",
        "asset",
        "audio",
        "file",
        "transcript.json",
        "states.json",
    )
    for name in (f"/vod/{page}" for page in (*pages, "pages.js")):
        for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Cookie": "_token=x.y.z"}):
            of_all = {"dag_id": dag, "run_id": run, "entry": "audio_0", "kind": "txt"}
            answer = nobody.get(name, params=of_all, headers=headers)
            assert answer.status_code in (401, 403), (name, headers)
    for name in ("/vod/docs", "/vod/redoc", "/vod/openapi.json", "/vod/", "/vod/docs/oauth2-redirect"):
        assert nobody.get(name).status_code == 404, name
    for path in ("/dags", f"/dags/{dag}/dagRuns", *ADMINS_ONLY):
        assert nobody.get(f"/api/v2{path}").status_code == 401, path


ODD = ("%00", "a%00b", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "'%20OR%201=1--", "<script>", "x" * 7000, "~")


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_ids_are_not_found(cluster: Cluster, odd: str) -> None:
    admin = cluster.person("admin")
    for query in (f"dag_id={odd}&run_id=a", f"dag_id=extract_and_transcribe&run_id={odd}"):
        for name in ("progress", "progress.json"):
            answer = admin.get(f"/vod/{name}?{query}")
            assert answer.status_code in (403, 404), query[:100]
            assert "<script>" not in answer.text or answer.headers["Content-Type"].endswith("json")
            assert answer.headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_files_with_secrets_are_for_their_owner_only(cluster: Cluster) -> None:
    secrets = [secret.strip().encode() for secret in cluster.secrets.values()]
    found = []
    for path in cluster.state.rglob("*"):
        if path.is_file() and not path.is_relative_to(cluster.state / "postgres"):
            content = path.read_bytes()
            if any(secret in content for secret in secrets):
                found.append(path)
                assert path.stat().st_mode & 0o077 == 0, path
    assert cluster.state / "passwords.json" in found
    assert FILE_SECRET in (cluster.private / "keys.txt").read_text()
