"""The values for Airflow's Helm chart name settings that exist, and a worker for every queue."""

from __future__ import annotations

import importlib
import ipaddress
import re
from pathlib import Path
from typing import Any

import yaml
from airflow.sdk.configuration import conf

from vod.provider_info import get_provider_info

ROOT = Path(__file__).resolve().parent.parent
VALUES: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "kubernetes-values.yaml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
OPTIONS = get_provider_info()["config"]["vod"]["options"]


def test_airflow_has_these_options() -> None:
    for section, options in VALUES["config"].items():
        for option in options:
            known = option in OPTIONS if section == "vod" else conf.has_option(section, option)
            assert known, (section, option)


def test_what_waits_long_for_a_worker_is_no_failure() -> None:
    """As in the compose file; the times are Airflow's own."""
    config, between = VALUES["config"], conf.getfloat("scheduler", "task_queued_timeout_check_interval")
    assert config["api_auth"]["jwt_leeway"] >= between + 20
    assert (
        str(config["core"]["parallelism"])
        == COMPOSE["x-airflow"]["environment"]["AIRFLOW__CORE__PARALLELISM"]
    )


def test_every_queue_has_workers_as_in_the_compose_file() -> None:
    workers = VALUES["workers"]["celery"]
    queues = {workers["queue"], *(each["queue"] for each in workers["sets"])}
    commands = [str(service.get("command")) for service in COMPOSE["services"].values()]
    assert queues == {queue for command in commands for queue in re.findall(r"--queues (\w+)", command)}
    assert {VALUES["config"]["vod"][option] for option in ("media_queue", "speech_queue")} < queues
    for each in workers["sets"]:
        assert each["keda"]["maxReplicaCount"] > each["keda"]["minReplicaCount"]
        assert each["terminationGracePeriodSeconds"] == 30 * 60, "as long as the compose file gives them"


def test_a_pod_does_as_much_at_once_as_a_worker_of_the_compose_file() -> None:
    at_once = COMPOSE["x-airflow"]["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"]
    assert at_once == f"${{WORKER_CONCURRENCY:-{VALUES['config']['celery']['worker_concurrency']}}}"
    [speech] = [each for each in VALUES["workers"]["celery"]["sets"] if each["name"] == "speech"]
    assert {"name": "AIRFLOW__CELERY__WORKER_CONCURRENCY", "value": "1"} in speech["env"]
    assert "--concurrency 1" in COMPOSE["services"]["airflow-worker-speech"]["command"]


def test_metrics_carry_the_tags_by_which_the_alerts_tell_them_apart() -> None:
    """The chart's own statsd_exporter; its address is the chart's to set."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    told = dict(re.findall(r"^AIRFLOW__METRICS__(\w+)=(\w+)", text, re.MULTILINE))
    assert VALUES["statsd"]["enabled"]
    assert VALUES["config"]["metrics"] == {"statsd_influxdb_enabled": told["STATSD_INFLUXDB_ENABLED"]}


def test_no_secret_is_made_up_by_the_chart() -> None:
    """Those that it makes are new at each upgrade, and its user has a password that everybody knows."""
    assert not VALUES["createUserJob"]["enabled"]
    text = (ROOT / "docs" / "kubernetes-values.yaml").read_text()
    secrets = set(re.findall(r"^#   ([\w-]+) {2,}\S", text, re.MULTILINE))
    named = {*(each["secretName"] for each in VALUES["secret"]), *VALUES["data"].values()}
    named |= {value for name, value in VALUES.items() if name.endswith("SecretName")}
    assert named == secrets, "each is told of at the top"


def test_logs_can_be_fetched_from_a_pod() -> None:
    module, _, name = VALUES["config"]["core"]["hostname_callable"].rpartition(".")
    assert ipaddress.ip_address(getattr(importlib.import_module(module), name)())


def test_it_is_this_version_of_airflow() -> None:
    pinned = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned
    assert VALUES["airflowVersion"] == VALUES["images"]["airflow"]["tag"] == pinned[1]
