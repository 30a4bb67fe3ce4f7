"""What is counted arrives where Airflow's metrics go; documentation, dashboard and alerts name just that."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from airflow.utils.net import get_hostname

from tests.conftest import DictStore, context_of, settle
from vod import metrics
from vod.batch.outcomes import fail_at_once
from vod.cloud.client import VodClient
from vod.engines import SubmissionStoppedError
from vod.metrics import METRICS
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.sensors import AudioAssetSensor
from vod.standin import Standin, faults

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives all that was sent so far: the value last received, and how often, by name with tags."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        settings = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_INFLUXDB_ENABLED": "True"}
        settings["STATSD_PORT"] = str(server.getsockname()[1])
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", value)
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
        found: dict[str, list[float]] = {}

        def read() -> dict[str, list[float]]:
            while True:
                try:
                    packet = server.recv(65536).decode()
                except BlockingIOError:
                    return found
                for line in packet.splitlines():
                    name, value = re.fullmatch(r"(.*):(-?[\d.]+)\|.*", line).groups()  # type: ignore[union-attr]
                    found.setdefault(name.removeprefix("airflow."), []).append(float(value))

        yield read
    monkeypatch.undo()
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)


def test_a_batch_of_vod(
    received: Any, connection: str, client: VodClient, video: Path, standin: Standin
) -> None:
    assets = [client.upload(video, title=f"{number}") for number in range(3)]
    standin.behaviour.faults = [
        faults.Throttle(call="extract_audio", retry_after=1, count=1),
        faults.Fail(asset=assets[2]),
    ]
    context = context_of(DictStore())
    operator = ExtractAudioOperator(
        task_id="extract", assets=assets, deferrable=False, poll_interval=0.05, failed_assets="return"
    )
    operator.execute(context)
    found = received()
    assert sum(found["vod.extractions.submitted"]) == 4, "one fails twice"
    assert sum(found["vod.extractions.finished,engine=vod"]) == 2
    assert sum(found["vod.extractions.audio_seconds,engine=vod"]) == 2 * 8
    assert len(found["vod.extractions.duration,engine=vod"]) == 2
    assert sum(found["vod.assets.failed,task=audio,outcome=extraction_failed"]) == 1
    place = f"hostname={get_hostname()},process=task"
    waiting, oldest = found[f"vod.waiting.assets,{place}"], found[f"vod.waiting.oldest,{place}"]
    assert waiting[-1] == oldest[-1] == 0
    assert max(waiting) >= 2
    assert max(oldest) > 0
    calls = {name: sum(values) for name, values in found.items() if name.startswith("vod.calls.made")}
    assert calls["vod.calls.made,service=VOD,call=extract,answer=throttled"] == 1
    assert calls["vod.calls.made,service=VOD,call=extract,answer=ok"] == 4


def test_audio_of_vod_counts_once_whoever_wants_it(
    received: Any, connection: str, client: VodClient, video: Path
) -> None:
    assets, register = [client.upload(video, title=str(number)) for number in range(2)], DictStore()

    def run(context: dict[str, Any], **options: Any) -> float:
        operator = ExtractAudioOperator(
            task_id="extract", assets=assets, deferrable=False, poll_interval=0.05, **options
        )
        operator.execute(context)
        return sum(received().get("vod.extractions.finished,engine=vod", []))

    first = context_of(DictStore(), register, run_id="first")
    assert run(first) == 2
    assert run(first) == 2, "a cleared success"
    assert run(context_of(DictStore(), register, run_id="second")) == 2
    assert run(context_of(DictStore(), register, run_id="third"), force=True) == 4


def test_files_and_their_text(received: Any, video: Path, tmp_path: Path) -> None:
    def run() -> None:
        context = context_of(DictStore())
        extract = ExtractAudioOperator(
            task_id="extract", assets=[str(video)], engine="ffmpeg", destination=str(tmp_path)
        )
        hear = TranscribeAudioOperator(
            task_id="hear", audio=extract.execute(context), model="tiny.en", destination=str(tmp_path)
        )
        hear.execute(context_of(DictStore()))

    run()
    found = dict(received())
    assert found["vod.extractions.finished,engine=ffmpeg"] == [1]
    assert found["vod.extractions.audio_seconds,engine=ffmpeg"] == [8]
    assert found["vod.transcriptions.finished,engine=whisper,model=tiny.en,outcome=transcribed"] == [1]
    assert found["vod.transcriptions.audio_seconds,engine=whisper,model=tiny.en"] == [8]
    assert found["vod.transcriptions.speed,engine=whisper,model=tiny.en"][0] > 0
    run()
    again = received()
    made = [name for name in again if name.startswith(("vod.extractions.f", "vod.transcriptions.f"))]
    assert all(again[name] == [1] for name in made), "what is reused was not made"


@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
def test_a_batch_that_fails_as_a_whole_counts_its_assets_at_each_try(
    received: Any, video: Path, engine: str
) -> None:
    assets = [str(video), f"{video} ", "/videos/another.mp4"] if engine == "ffmpeg" else ["a" * 32, "b" * 32]
    destination = "/proc/nowhere" if engine == "ffmpeg" else None  # there is no connection either
    operator = ExtractAudioOperator(
        task_id="extract", assets=assets, engine=engine, destination=destination, failed_assets="return"
    )
    for tries in (1, 2):
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, the assets have failed
            operator.execute(context_of(DictStore()))
        failed = {name: sum(values) for name, values in received().items() if "failed" in name}
        assert list(failed.values()) == [2 * tries], failed
        assert "vod.assets.failed,task=audio,outcome=" in next(iter(failed))


def test_a_batch_that_cannot_be_read_counts_as_one(received: Any) -> None:
    with pytest.raises(AirflowFailException):
        ExtractAudioOperator(task_id="extract", assets="[", engine="vod").execute(context_of(DictStore()))
    with pytest.raises(AirflowFailException):
        TranscribeAudioOperator(task_id="hear", audio=[{}]).execute(context_of(DictStore()))
    found = received()
    assert found["vod.assets.failed,task=audio,outcome=invalid_input"] == [1]
    assert found["vod.assets.failed,task=transcripts,outcome=invalid_input"] == [1]


def test_what_a_person_has_ended_is_no_failure(received: Any) -> None:
    with pytest.raises(SubmissionStoppedError), fail_at_once("audio", lambda: 1000):
        raise SubmissionStoppedError("ended")
    assert received() == {}


@pytest.mark.parametrize("deferrable", [True, False])
def test_what_a_sensor_collects_counts_once_a_task(
    received: Any, connection: str, client: VodClient, video: Path, standin: Standin, deferrable: bool
) -> None:
    assets = [client.upload(video, title=str(number)) for number in range(3)]
    standin.behaviour.faults = [faults.Fail(asset=assets[2])]
    extract = ExtractAudioOperator(
        task_id="extract", assets=[*assets, "f" * 32], wait_for_completion=False, failed_assets="return"
    )
    submitted = extract.execute(context_of(DictStore()))
    settle(client, *(each["audio_asset_id"] for each in submitted if each["outcome"] == "submitted"))
    assert not [name for name in received() if name.startswith("vod.extractions.finished")]
    before = sum(sum(values) for name, values in received().items() if "failed" in name)
    assert before == 1, "what was not submitted is the operator's failure"
    theirs = {**submitted[1], "submitted_by": "another task"}
    context = context_of(DictStore())
    for _ in range(2):
        sensor = AudioAssetSensor(
            task_id="wait",
            audio_assets=[submitted[0], theirs, *submitted[2:]],
            deferrable=deferrable,
            failed_assets="return",
        )
        assert len(sensor.execute(context)) == 4
        found = received()
        assert found["vod.extractions.finished,engine=vod"] == [1]
        assert found["vod.extractions.audio_seconds,engine=vod"] == [8]
    assert sum(found["vod.assets.failed,task=audio,outcome=extraction_failed"]) == 2, "at each try"
    assert sum(sum(values) for name, values in found.items() if "failed" in name) == before + 2


@pytest.mark.parametrize("deferrable", [True, False])
def test_audio_that_a_sensor_waits_for_in_vain_counts_as_failed(
    received: Any, connection: str, client: VodClient, video: Path, standin: Standin, deferrable: bool
) -> None:
    standin.behaviour.queue_seconds = 60
    audio = [client.extract_audio(client.upload(video)).audio_asset_id for _ in range(2)]
    sensor = AudioAssetSensor(
        task_id="wait", audio_assets=audio, deferrable=deferrable, poke_interval=0.05, timeout=0.0
    )
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute(context_of(DictStore()))
    assert sum(received()["vod.assets.failed,task=audio,outcome=error"]) == 2


def test_a_tag_holds_what_statsd_takes(received: Any) -> None:
    metrics.count("vod.transcriptions.audio_seconds", 5, engine="whisper", model="Systran/whisper:大,=")
    assert received() == {"vod.transcriptions.audio_seconds,engine=whisper,model=Systran_whisper____": [5]}


def test_with_metrics_off_nothing_happens() -> None:
    metrics.count("vod.extractions.submitted")
    metrics.gauge("vod.waiting.oldest", 1.0, hostname="here", process="task")
    metrics.timing("vod.calls.quota_wait", 1.0, service="VOD", call="info")


def test_a_name_or_a_tag_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        metrics.count("vod.nothing")
    with pytest.raises(AssertionError):
        metrics.count("vod.assets.failed", outcome="gone")
    with pytest.raises(AssertionError):
        metrics.gauge("vod.extractions.submitted", 1)


def test_every_metric_is_sent_somewhere() -> None:
    code = "".join(path.read_text() for path in (ROOT / "plugins").rglob("*.py") if path.name != "metrics.py")
    assert [name for name in METRICS if f'"{name}"' not in code] == []


def test_the_documentation_has_every_metric() -> None:
    rows = re.findall(
        r"^\| `(vod[.\w]+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", (DOCS / "metrics.md").read_text(), re.M
    )
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", tags)), meaning) for name, kind, tags, meaning in rows}
    assert told == {name: (each.kind, each.tags, each.meaning) for name, each in METRICS.items()}


def in_prometheus() -> set[str]:
    """The names that statsd_exporter gives to what Airflow sends."""
    names = set()
    for name, metric in METRICS.items():
        base = "airflow_" + name.replace(".", "_")
        names |= {base, *({f"{base}_sum", f"{base}_count"} if metric.kind == "timer" else ())}
    return names


def labels_asked(expression: str) -> set[str]:
    """Labels by which an expression of Prometheus selects or groups."""
    lists = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label for text in lists for label in re.split(r",\s*", text)} | {
        *re.findall(r"(\w+)=~?\"", expression)
    }


def labels_sent(expression: str) -> set[str]:
    """Tags that all metrics of an expression have."""
    names = re.findall(r"airflow_vod\w+", expression)
    tags = [
        {*metric.tags}
        for name, metric in METRICS.items()
        if any(each.startswith("airflow_" + name.replace(".", "_")) for each in names)
    ]
    return set.intersection(*tags) if tags else set()


def test_the_dashboard_shows_what_there_is() -> None:
    dashboard = json.loads((DOCS / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    shown = {name for text in expressions for name in re.findall(r"airflow_vod\w+", text)}
    assert shown <= in_prometheus()
    for text in expressions:
        assert labels_asked(text) <= labels_sent(text), text
    untold = {
        name for name in METRICS if not any(f"airflow_{name}".replace(".", "_") in each for each in shown)
    }
    assert untold == set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["title"] and panel.get("description") for panel in dashboard["panels"])


def test_the_alerts_watch_what_there_is_and_say_what_to_do() -> None:
    [group] = yaml.safe_load((DOCS / "alerts.yaml").read_text())["groups"]
    told = re.findall(r"^\| (Vod\w+) \|", (DOCS / "metrics.md").read_text(), re.M)
    assert told == [rule["alert"] for rule in group["rules"] if "alert" in rule]
    # The SDK has this list to find the old names of its metrics in.
    list_of_airflow = files("airflow.sdk._shared.observability.metrics") / "metrics_template.yaml"
    airflows = {
        each["name"].replace(".", "_") for each in yaml.safe_load(list_of_airflow.read_text())["metrics"]
    }
    recorded = {rule["record"] for rule in group["rules"] if "record" in rule}
    for rule in group["rules"]:
        names = set(re.findall(r"airflow_\w+", rule["expr"]))
        used = set(re.findall(r"vod:\w+:\w+", rule["expr"]))
        assert names or used
        assert names <= in_prometheus() | {f"airflow_{name}" for name in airflows}
        assert used <= recorded
        assert labels_asked(rule["expr"]) <= labels_sent(rule["expr"])
        if "alert" in rule:
            assert rule["for"]
            assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool of Debian's package prometheus")
def test_the_alerts_fire_when_they_should() -> None:
    """Series and who fires are in tests/alerts.yaml."""
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.yaml"], cwd=ROOT / "tests", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
