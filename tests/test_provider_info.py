"""What Airflow reads of the package: all that it has is listed, and the connection form works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow._shared.secrets_masker import redact as redact_in_the_server
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.configuration import conf
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk._shared.secrets_masker import redact as redact_in_tasks
from airflow.sdk.io import has_fs

from vod.connection import REGIONS, ConnectionSettings
from vod.engines.lost_answers import RECOVERY_WINDOW
from vod.hooks import VodHook
from vod.library.register import CLAIM_LEASE
from vod.pipeline.manifests import MAX_BYTES
from vod.provider_info import get_provider_info
from vod.records import ENGINES
from vod.standin import StandinSettings, running

[CONNECTION] = get_provider_info()["connection-types"]
FIELDS: dict[str, dict[str, Any]] = CONNECTION["conn-fields"]
DOCS = (Path(__file__).parent.parent / "docs" / "connection.md").read_text()
EXAMPLES = [shlex.split(block)[1] for block in re.findall(r"```sh\n(export .*?)```", DOCS, re.DOTALL)]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        # Airflow's own providers have these three in their sources.
        ("provider.yaml.schema.json", {"state": "ready", "source-date-epoch": 0, "versions": ["0.1.0"]}),
        ("provider_info.schema.json", {}),
    ],
)
def test_it_is_valid_by_airflows_schemas(name: str, more: dict[str, Any]) -> None:
    schema = json.loads(files("airflow").joinpath(name).read_text())
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    validator(schema).validate({**get_provider_info(), **more})


# Run in a fresh interpreter: `airflow providers ...`, one after the other for one start of Airflow.
LIST = """
import contextlib, io, json, sys
from airflow.cli.cli_parser import get_parser
said = {}
for command in sys.argv[1:]:
    options = get_parser().parse_args(["providers", *command.split(), "-o", "json"])
    with contextlib.redirect_stdout(io.StringIO()) as output:
        options.func(options)
    said[command] = json.loads(output.getvalue())
print(json.dumps(said))
"""
GET = "get airflow-provider-vod --full"


@pytest.mark.slow
def test_airflow_providers_lists_all_that_the_package_has() -> None:
    expected = {
        "hooks": {"vod", "vod.hooks.VodHook", "vod_conn_id", "airflow-provider-vod", "Huawei Cloud VOD"},
        "triggers": {"airflow-provider-vod", "vod.triggers", "Huawei Cloud VOD"},
        "notifications": {"vod.notifications.VodNotifier"},
        "links": {"vod.links.AudioLink", "vod.links.TranscriptLink", "vod.links.VodConsoleLink"},
        "behaviours": {"vod"},
    }
    command = [sys.executable, "-c", LIST, *expected, "widgets", "configs", GET]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    for kind, values in expected.items():
        assert {value for row in said[kind] for value in row.values() if "vod" in str(row)} == values, kind
    assert {row["connection_parameter_name"] for row in said["widgets"] if "vod" in str(row)} == {
        f"extra__vod__{name}" for name in FIELDS
    }
    info = get_provider_info()
    assert dict(row["provider_config"] for row in said["configs"])["airflow-provider-vod"] == info["config"]
    [got] = said[GET]
    for kind in ("operators", "sensors", "asset-uris", "filesystems", "plugins"):
        assert info[kind]
        assert got[kind] == info[kind]


def test_each_module_and_class_that_it_names_is_there() -> None:
    info = get_provider_info()
    modules = [
        name
        for kind in ("operators", "sensors", "hooks", "triggers")
        for entry in info[kind]
        for name in entry["python-modules"]
    ]
    [uris] = info["asset-uris"]
    classes = [
        *info["notifications"],
        *info["extra-links"],
        *(uris[name] for name in uris if name != "schemes"),
    ]
    classes += [plugin["plugin-class"] for plugin in info["plugins"]]
    for name in [*modules, *info["filesystems"]]:
        assert import_module(name)
    assert len(modules) == 5
    for name in classes:
        assert import_string(name)


def test_the_settings_have_their_defaults_without_any_configuration() -> None:
    options = get_provider_info()["config"]["vod"]["options"]
    assert {name: conf.get("vod", name) for name in options} == {
        "media_queue": "",
        "speech_queue": "",
        "first_day": "",
        "prices": "",
        "run_limits": "",
        "speech_pool": "",
        "speech": "",
        "allowed_locations": "",
        "max_manifest_bytes": str(MAX_BYTES),
        "backfill_pool": "",
        "rare_formats": "False",
        "claim_lease": f"{CLAIM_LEASE:.0f}",
        "lost_answer_window": f"{RECOVERY_WINDOW:.0f}",
    }


def test_the_page_gets_the_form() -> None:
    [form] = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "vod"]
    assert form.hook_name == "Huawei Cloud VOD"
    assert form.standard_fields is not None
    assert form.standard_fields.login is not None
    assert form.standard_fields.password is not None
    assert form.standard_fields.login.title == "Access key (AK)"
    assert form.standard_fields.password.title == "Secret key (SK)"
    assert form.extra_fields is not None
    assert list(form.extra_fields) == list(FIELDS), "the order is that of the form"
    assert all(field["schema"]["title"] and field["description"] for field in form.extra_fields.values())


@pytest.mark.parametrize("name", FIELDS)
def test_the_form_can_be_saved_when_a_field_is_empty(name: str) -> None:
    """The page refuses a field without a value unless ``null`` is among its types."""
    schema = FIELDS[name]["schema"]
    jsonschema.validators.validator_for(schema).check_schema(schema)
    jsonschema.validate(schema.get("default"), schema)
    assert "default" in schema or "null" in schema["type"]


def test_every_field_is_one_that_the_hook_reads() -> None:
    """Each field, filled in with something else than its default, changes what the hook makes of it."""

    class Connection:
        conn_id, host, port, login, password = "vod_test", "", None, "AK", "SK"

    values = {
        "region": REGIONS[-1],
        "engine": "ffmpeg",
        "timeout": 5,
        "quota_share": 0.5,
        "allow_http": True,
    }
    usual = ConnectionSettings.from_connection(Connection(), {"region": REGIONS[0]})  # type: ignore[arg-type]
    for name in FIELDS:
        extra = {"region": REGIONS[0], name: values.get(name, "something")}
        read = ConnectionSettings.from_connection(Connection(), extra)  # type: ignore[arg-type]
        assert read != usual, name


def test_choices_and_limits_are_those_of_the_hook() -> None:
    assert FIELDS["region"]["schema"]["enum"] == list(REGIONS)
    assert FIELDS["engine"]["schema"]["enum"] == list(ENGINES)
    assert (FIELDS["timeout"]["schema"]["minimum"], FIELDS["timeout"]["schema"]["maximum"]) == (1, 600)
    assert (FIELDS["quota_share"]["schema"]["minimum"], FIELDS["quota_share"]["schema"]["maximum"]) == (
        0.01,
        1,
    )


@pytest.mark.parametrize("redact", [redact_in_the_server, redact_in_tasks])
def test_airflow_masks_what_the_form_calls_a_password(redact: Any) -> None:
    """It does so by the name of a field of the extra, not by the form."""
    secret = [name for name, field in FIELDS.items() if field["schema"].get("format") == "password"]
    assert secret == ["security_token"]
    masked = redact({name: f"value of {name}" for name in FIELDS})
    assert masked == {name: "***" if name in secret else f"value of {name}" for name in FIELDS}


def test_the_scheme_is_registered() -> None:
    assert has_fs("obs")


def test_the_docs_name_every_field() -> None:
    table = {name: label for label, name in re.findall(r"^\| ([^|]+?) \| `(\w+)` \|", DOCS, re.MULTILINE)}
    labels = CONNECTION["ui-field-behaviour"]["relabeling"]
    assert table == {"port": "Port", **labels, **{name: field["label"] for name, field in FIELDS.items()}}


def test_the_docs_have_every_kind_of_connection() -> None:
    assert len(EXAMPLES) == 5
    assert sum("vod://" in example for example in EXAMPLES) == 2
    assert sum("security_token" in example for example in EXAMPLES) == 1
    assert sum("account" in example for example in EXAMPLES) == 1


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_docs_is_accepted(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys sign and its login gets a token; only the address is that of a stand-in."""
    name, _, value = example.partition("=")
    monkeypatch.setenv(name, value)
    settings = VodHook(name.removeprefix("AIRFLOW_CONN_").lower()).settings
    demo = "STANDIN" in value
    assert settings.service.endpoint == (
        "http://127.0.0.1:8600" if demo else "https://vod.ap-southeast-3.myhuaweicloud.com"
    )
    theirs = StandinSettings(
        data=tmp_path, region=settings.service.region, account="my-company", user="airflow"
    )
    theirs.password = "my-password"
    if not demo:
        theirs.access_key, theirs.secret_key = "MYACCESSKEY", "my/secret+key"
    with running(theirs) as standin:
        service = replace(settings.service, endpoint=standin.url, iam_endpoint=standin.url)
        here = replace(settings, service=service)
        answer = here.client(retry_seconds=0.0).asset_info(["0" * 32])
    assert answer["0" * 32].status == "NO_ASSET"


def test_uri_and_json_of_the_docs_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    for example in EXAMPLES[:2]:
        name, _, value = example.partition("=")
        monkeypatch.setenv(name, value)
        read.append(VodHook().settings)
    uri, as_json = read
    theirs = replace(as_json.service, project_id=None, timeout=60.0)
    assert uri == replace(as_json, service=theirs)
    assert as_json.service.timeout == 30
