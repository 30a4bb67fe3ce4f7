"""docker-compose.yaml and its Dockerfile hold, as far as that shows without a container engine."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.configuration import retrieve_configuration_description
from airflow.models import Connection
from airflow.sdk.configuration import conf
from jsonschema.validators import validator_for

from dev.airflow import Airflow, free_port
from dev.distributed import COMPOSE, ENVIRONMENT, VARIABLE, example_variables, interpolated
from dev.processes import Processes
from vod import standin
from vod.connection import ConnectionSettings
from vod.locations import AllowedLocations
from vod.provider_info import get_provider_info

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = [name for name in SERVICES if name.startswith("airflow-")]
LONG_RUNNING = [name for name in SERVICES if SERVICES[name]["restart"] != "no"]
SECRET = re.compile("password|secret|key|token|login", re.IGNORECASE)

ON_PURPOSE_DIFFERENT = {
    "AIRFLOW__API__BASE_URL",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__CORE__PARALLELISM",
    "AIRFLOW__CORE__TEST_CONNECTION",
    "AIRFLOW__VOD__ALLOWED_LOCATIONS",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
}
"""Addresses, keys, folders, Celery for LocalExecutor, and the Test button, which `make up` has."""


@pytest.fixture
def variables() -> dict[str, str]:
    """The variables of .env.example, what is empty there filled in."""
    return {name: value or "filled-in" for name, value in example_variables().items()}


def connection(variables: dict[str, str]) -> ConnectionSettings:
    text = interpolated(ENVIRONMENT["AIRFLOW_CONN_VOD_DEFAULT"], variables)
    airflow_connection = Connection.from_json(text, conn_id="vod_default")
    return ConnectionSettings.from_connection(airflow_connection, airflow_connection.extra_dejson)


def test_it_is_a_compose_file() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = validator_for(rules := json.loads(schema.read_text()))(rules)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []


def test_the_parts_of_airflow_are_all_there() -> None:
    commands = {name: SERVICES[name]["command"] for name in AIRFLOW if name in LONG_RUNNING}
    assert sorted(commands.values()) == [
        "api-server",
        "celery worker --queues default",
        "celery worker --queues media",
        "celery worker --queues speech --concurrency 1",
        "dag-processor",
        "scheduler",
        "triggerer",
    ]


@pytest.mark.parametrize("name", AIRFLOW)
def test_one_image_and_one_environment_for_all_of_airflow(name: str) -> None:
    service = SERVICES[name]
    for setting in ("image", "volumes"):
        assert service[setting] == COMPOSE["x-airflow"][setting]
    assert ENVIRONMENT.items() <= service["environment"].items()


def test_the_image_is_built_once() -> None:
    """Compose builds all services at a time, and two builds of one name get in each other's way."""
    built = [name for name in SERVICES if "build" in SERVICES[name]]
    assert built == ["airflow-init"]
    using = {name for name in SERVICES if SERVICES[name]["image"] == COMPOSE["x-airflow"]["image"]}
    assert {*AIRFLOW, "standin", "store-bucket"} == using


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert {"test", "interval", "timeout", "retries", "start_period"} <= SERVICES[name]["healthcheck"].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_comes(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        ends = other not in LONG_RUNNING
        assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
        # What only the demonstration has is no reason to wait for ever.
        only_demo = SERVICES[other].get("profiles") == ["demo"] != SERVICES[name].get("profiles")
        assert how.get("required", True) is not only_demo


def test_nothing_listens_beyond_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.keys() == {"airflow-apiserver", "standin", "store"}
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)


def test_named_volumes_are_declared_and_used() -> None:
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    named = {mount for mount in mounts if not mount.startswith((".", "$", "/"))}
    assert named == COMPOSE["volumes"].keys()


def test_no_secret_is_in_the_file() -> None:
    settings = [
        (option, str(value))
        for service in SERVICES.values()
        for option, value in service.get("environment", {}).items()
    ]
    for name in ("AIRFLOW_CONN_VOD_DEFAULT", "AIRFLOW_CONN_AUDIO_STORE"):
        settings += list(json.loads(ENVIRONMENT[name]).items())
    secrets = {option: value for option, value in settings if SECRET.search(option)}

    assert {"POSTGRES_PASSWORD", "AIRFLOW__CORE__FERNET_KEY", "password"} <= secrets.keys()
    assert {"VOD_STANDIN_ADMIN_TOKEN", "VOD_STANDIN_SECRET_KEY"} <= secrets.keys()
    run = ("command", "entrypoint", "healthcheck")
    arguments = " ".join(f"{service.get(part, [])}" for service in SERVICES.values() for part in run)
    shown = re.findall(r"--[\w-]*(?:secret|token|password|header)\b", arguments, re.IGNORECASE)
    assert shown == [], "all users of the host see these"
    for option, value in secrets.items():
        match = VARIABLE.fullmatch(value)
        assert match, f"{option} is written out"
        assert match["how"] == ":?", f"{option} may be left empty"
    assert re.findall(r"://[^/\s\"]*:(?!\$\{)[^/\s\"]*@", TEXT) == [], "a URL with a password"


def test_example_of_the_variables_is_complete_and_holds_no_secret() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", "\n".join(lines), re.MULTILINE))
    assert pairs.pop("COMPOSE_PROJECT_NAME") == "vod"  # read by Compose itself
    assert pairs.pop("COMPOSE_PROFILES") == "demo"
    assert pairs.keys() == {match["name"] for match in VARIABLE.finditer(TEXT)}
    secrets = {name: value for name, value in pairs.items() if SECRET.search(name)}
    demo = standin.StandinSettings(data=Path())
    assert {value for value in secrets.values() if value} == {demo.access_key, demo.secret_key, "demo"}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_airflow_has_these_options() -> None:
    described = retrieve_configuration_description(include_providers=False)
    options = {(section, option) for section, about in described.items() for option in about["options"]}
    providers = ConfigParser(interpolation=None)
    templates = files("airflow") / "config_templates"
    providers.read_string((templates / "provider_config_fallback_defaults.cfg").read_text())
    options |= {("celery", option) for option in providers["celery"]}
    options.add(("scheduler", "num_stuck_in_queued_retries"))  # read by the scheduler, and not documented
    options |= {("vod", option) for option in get_provider_info()["config"]["vod"]["options"]}

    names = [name for name in ENVIRONMENT if name.startswith("AIRFLOW__")]
    used = {tuple(name.removeprefix("AIRFLOW__").lower().split("__")) for name in names}
    assert len(used) > 10
    assert used - options == set()


def test_what_waits_long_for_a_worker_is_no_failure() -> None:
    """A task's token lasts as long as it may wait, and it is given a new one at the next check."""
    leeway = float(ENVIRONMENT["AIRFLOW__API_AUTH__JWT_LEEWAY"])
    between = float(ENVIRONMENT["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL"])
    assert leeway >= between + 20
    # The executor's slots and those of the pool count what waits, too.
    most = ENVIRONMENT["AIRFLOW__CORE__PARALLELISM"]
    assert int(most) > 10 * conf.getint("core", "max_active_tasks_per_dag")
    assert f"pools set default_pool {most} " in SERVICES["airflow-init"]["command"][-1]


def test_connection_leads_to_the_standin(variables: dict[str, str]) -> None:
    settings = connection(variables)
    assert settings.service.endpoint == "http://standin:8600"
    assert settings.destination == "obs://audio_store@demo/audio"


def test_the_destination_is_on_the_store_of_the_demonstration(variables: dict[str, str]) -> None:
    """`make up DISTRIBUTED=1` and `make test-distributed` run that server and this connection."""
    text = interpolated(ENVIRONMENT["AIRFLOW_CONN_AUDIO_STORE"], variables)
    store = Connection.from_json(text, conn_id="audio_store")
    assert store.conn_type == "vod"
    name, *options = SERVICES["store"]["entrypoint"]
    address = urlsplit(store.extra_dejson["obs_endpoint"])
    assert (name, address.hostname) == ("moto_server", "store")
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--host": "0.0.0.0",
        "--port": str(address.port),
    }
    bucket = urlsplit(variables["VOD_DESTINATION"]).hostname
    assert SERVICES["store-bucket"]["entrypoint"][-2:] == ["PUT", f"http://store:5000/{bucket}"]
    pinned = re.search(r"^moto\S*==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned
    assert SERVICES["store"]["image"] == f"motoserver/moto:{pinned[1]}"


def test_broker_wants_a_password() -> None:
    redis = SERVICES["redis"]
    assert redis["command"][:2] == ["redis-server", "--requirepass"]
    password = VARIABLE.fullmatch(redis["command"][2])
    assert password
    assert password["how"] == ":?"
    assert f"redis://:{password[0]}@redis:" in ENVIRONMENT["AIRFLOW__CELERY__BROKER_URL"]
    assert redis["environment"] == {"REDISCLI_AUTH": password[0]}


def test_connections_are_tested_only_if_somebody_asked_for_it(variables: dict[str, str]) -> None:
    value = ENVIRONMENT["AIRFLOW__CORE__TEST_CONNECTION"]
    assert interpolated(value, variables) == "Disabled"


def test_every_queue_has_a_worker() -> None:
    wanted = {"default", ENVIRONMENT["AIRFLOW__VOD__MEDIA_QUEUE"], ENVIRONMENT["AIRFLOW__VOD__SPEECH_QUEUE"]}
    commands = " ".join(SERVICES[name]["command"] for name in AIRFLOW if "worker" in name)
    assert set(re.findall(r"--queues (\S+)", commands)) == wanted


def test_no_health_check_starts_python() -> None:
    checks = {name: str(SERVICES[name]["healthcheck"]["test"]) for name in LONG_RUNNING}
    assert not [
        name for name, check in checks.items() if re.search(r"airflow jobs|celery --app|python", check)
    ]


def test_health_checks_read_what_airflow_answers(tmp_path: Path) -> None:
    """With curl as cat: the answer of a running Airflow 3.3.2, once healthy and once not."""
    answer = (
        '{"metadatabase":{"status":"healthy"},"scheduler":{"status":"healthy","latest_scheduler_heartbeat":'
        '"2026-11-26T01:21:45"},"triggerer":{"status":"healthy","latest_triggerer_heartbeat":'
        '"2026-11-26T01:21:41"},"dag_processor":{"status":"healthy","latest_dag_processor_heartbeat":"x"}}'
    )
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    curl.chmod(0o755)
    for name, part in (("airflow-triggerer", "triggerer"), ("airflow-dag-processor", "dag_processor")):
        shell = SERVICES[name]["healthcheck"]["test"][1]
        for status, code in (("healthy", 0), ("unhealthy", 1)):
            said = answer.replace(f'"{part}":{{"status":"healthy"', f'"{part}":{{"status":"{status}"')
            (tmp_path / "answer").write_text(said)
            path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
            assert subprocess.run(["sh", "-c", shell], env={"PATH": path}, check=False).returncode == code


def test_the_check_of_the_store_sees_whether_somebody_listens() -> None:
    _, *command = SERVICES["store"]["healthcheck"]["test"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = [word.replace("/5000", f"/{server.getsockname()[1]}") for word in command]
        assert here != command
        assert subprocess.run(here, check=False).returncode == 0
    assert subprocess.run(here, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_the_check_of_a_worker_wants_its_logs_and_its_broker() -> None:
    shell = SERVICES["airflow-worker"]["healthcheck"]["test"][1]

    def check(logs: int, broker: int) -> int:
        here = shell.replace(":8793/", f":{logs}/").replace(":18EB ", f":{broker:04X} ")
        assert here.count(":8793") == here.count(":18EB") == 0
        return subprocess.run(["sh", "-c", here], check=False, timeout=60).returncode

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        assert check(server.server_address[1], port) != 0, "nobody is connected to it"
        with socket.create_connection(("127.0.0.1", port)):
            assert check(server.server_address[1], port) == 0
            server.shutdown()
            server.server_close()
            assert check(server.server_address[1], port) != 0, "its logs are not served"


@pytest.mark.skipif(not shutil.which("redis-server"), reason="needs Debian's package redis-server")
def test_the_check_of_the_broker_wants_an_answer_and_the_password(tmp_path: Path) -> None:
    shell = SERVICES["redis"]["healthcheck"]["test"][1]
    port = str(free_port(0))
    here = shell.replace("redis-cli", f"redis-cli -p {port}")

    def check(password: str) -> int:
        environment = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": password}
        command = ["sh", "-c", here]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    program, option, _, *log_of_writes = SERVICES["redis"]["command"]
    assert log_of_writes == ["--appendonly", "yes"]
    with subprocess.Popen(
        [
            program,
            option,
            "right",
            "--port",
            port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(tmp_path),
            *log_of_writes,
        ],
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            deadline = time.monotonic() + 30
            while check("right") and time.monotonic() < deadline:
                time.sleep(0.05)
            assert check("right") == 0
            assert check("wrong") != 0
        finally:
            server.terminate()
    assert check("right") != 0


def test_base_images_have_a_version_and_nothing_runs_as_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\w+)", dockerfile, re.MULTILINE)[-1] == "airflow"
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases)
    for name, service in SERVICES.items():
        assert re.search(r":\d", service["image"]), name
        assert not {"privileged", "cap_add", "user"} & service.keys(), name
        assert not [mount for mount in service.get("volumes", []) if "docker.sock" in mount]


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="needs Debian's package docker-compose")
def test_compose_itself_reads_it(tmp_path: Path, variables: dict[str, str]) -> None:
    shutil.copy(ROOT / "docker-compose.yaml", tmp_path)
    command = ["docker-compose", "config"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    missing = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert missing.returncode != 0
    assert "set it in .env" in missing.stderr
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read["redis"]["command"][:3] == ["redis-server", "--requirepass", "filled-in"]
    # Compose leaves doubled what the shell of the container is to expand.
    assert '"$$VOD_STANDIN_ADMIN_TOKEN"' in read["standin"]["healthcheck"]["test"][1]


def test_connection_leads_to_the_real_service_without_an_endpoint(variables: dict[str, str]) -> None:
    settings = connection({**variables, "VOD_ENDPOINT": ""})
    assert settings.service.endpoint == "https://vod.cn-north-4.myhuaweicloud.com"


def test_standin_understands_its_command_and_knows_the_connection(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {**variables, "VOD_SECRET_KEY": "chosen"}
    service = SERVICES["standin"]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, interpolated(value, variables))
    assert service["entrypoint"][:4] == ["python", "-m", "vod", "standin"]
    parser = argparse.ArgumentParser()
    standin.add_arguments(parser)
    command = [
        interpolated(argument, variables) for argument in service["entrypoint"][4:] + service["command"]
    ]
    options = parser.parse_args(command)

    settings = connection(variables)
    assert settings.service.endpoint == f"http://standin:{options.port}"
    assert (settings.service.credentials.ak, settings.service.credentials.sk) == (
        options.access_key,
        options.secret_key,
    )
    assert settings.service.project_id == options.project_id
    assert f"standin:{options.data}" in service["volumes"]
    assert options.host == "0.0.0.0", "the other containers must reach it"
    assert options.names == ["standin"], "under this name"
    assert "VOD_STANDIN_ADMIN_TOKEN" in service["environment"]


def test_it_agrees_with_make_up(variables: dict[str, str], tmp_path: Path) -> None:
    native = Airflow(tmp_path, Processes(), "postgresql://", "http://127.0.0.1:8600").environment

    shared = {name for name in ENVIRONMENT if name.startswith("AIRFLOW__")} & native.keys()
    assert {"AIRFLOW__CORE__LOAD_EXAMPLES", *ON_PURPOSE_DIFFERENT} <= shared
    for name in shared - ON_PURPOSE_DIFFERENT:
        assert ENVIRONMENT[name] == native[name], name

    mine, theirs = (
        json.loads(interpolated(value, variables))
        for value in (ENVIRONMENT["AIRFLOW_CONN_VOD_DEFAULT"], native["AIRFLOW_CONN_VOD_DEFAULT"])
    )
    for record in (mine, theirs):
        del record["host"], record["extra"]["destination"]
        record["extra"].pop("allow_http", None)
    assert mine == theirs


def test_versions_of_airflow_are_one() -> None:
    pinned = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    base = re.search(r"^FROM apache/airflow:(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert pinned
    assert base
    assert base[1] == pinned[1]
    assert {SERVICES[name]["image"] for name in [*AIRFLOW, "standin"]} == {f"vod-airflow:{pinned[1]}"}


def test_the_image_gets_what_it_copies() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    sources = [
        source
        for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
        if not source.startswith("--")
    ]
    let_through = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert len(sources) == 6
    for source in sources:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in let_through


def test_volumes_are_writable_for_the_user_of_the_image() -> None:
    made = re.search(
        r"install --directory --owner=airflow .*?(/.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert made
    mounts = {
        mount.split(":")[1]
        for name in (*AIRFLOW, "standin")
        for mount in SERVICES[name]["volumes"]
        if mount.split(":")[0] in COMPOSE["volumes"]
    }
    assert mounts - {"/opt/airflow/logs"} == set(made[1].split())


def test_the_image_has_what_is_pinned_and_no_test_tools() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes --requirement /opt/vod/requirements-runtime.txt" in dockerfile
    assert "--no-deps /opt/vod" in dockerfile


@pytest.mark.parametrize("more", [[], ["/data", "s3://aws_default@videos"]])
def test_runs_may_read_the_videos_and_write_to_the_destination(
    more: list[str], variables: dict[str, str]
) -> None:
    text = ENVIRONMENT["AIRFLOW__VOD__ALLOWED_LOCATIONS"]
    allowed = AllowedLocations.from_text(
        interpolated(text, {**variables, "ALLOWED_LOCATIONS": ", ".join(more)})
    )
    mounts = {
        volume.rpartition("}")[2].split(":")[-2 if volume.endswith(":ro") else -1]
        for volume in COMPOSE["x-airflow"]["volumes"]
    }
    assert [prefix.shown for prefix in allowed.prefixes or ()] == [
        "/videos",
        connection(variables).destination,
        *more,
    ]
    assert "/videos" in mounts
