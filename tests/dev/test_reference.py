"""docs/reference.md is what the code says: each parameter, record field, outcome and setting is there."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import vod
import vod.connection
from dev import reference
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.provider_info import get_provider_info
from vod.sensors import AudioAssetSensor


def section(heading: str) -> str:
    found = re.search(rf"(?ms)^{re.escape(heading)}\n(.*?)(?=^##|\Z)", reference.PAGE.read_text())
    assert found, heading
    return found[1]


def test_the_page_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.page(), "make reference"


@pytest.mark.parametrize("kind", [ExtractAudioOperator, TranscribeAudioOperator, AudioAssetSensor])
def test_every_parameter_is_told(kind: type) -> None:
    names = re.findall(
        r"^        (\w+): .*?[,=]",
        inspect.getsource(kind).partition("def __init__")[2].partition("-> None")[0],
        re.M,
    )
    assert len(names) >= 4
    told = section(f"### {kind.__name__}")
    assert [name for name in names if f"| `{name}` |" not in told and name != "kwargs"] == []


@pytest.mark.parametrize("kind", [*reference._OPTIONS, *reference._RECORDS])
def test_every_field_is_told(kind: type) -> None:
    told = section(f"### {kind.__name__}")
    names = {entry.name for entry in fields(kind)} - {"asset", "audio_asset_id", "audio_format", "outcome"}  # type: ignore[arg-type]
    assert [name for name in names if f"| `{name}` |" not in told] == []


def test_every_outcome_and_setting_is_told() -> None:
    outcomes = section("## Outcomes")
    assert len(reference.errors()) > 60
    assert [kind.outcome for kind in reference.errors() if f"| `{kind.outcome}` |" not in outcomes] == []
    settings = section("## Settings")
    options = get_provider_info()["config"]["vod"]["options"]
    assert [name for name in options if f"| `{name}` |" not in settings] == []


def test_every_environment_variable_is_told() -> None:
    sources = "".join(path.read_text() for path in Path(vod.__file__).parent.rglob("*.py"))
    names = set(re.findall(r'= "(VOD_[A-Z_]+)"', sources))
    assert len(names) >= 5
    assert names == set(re.findall(r"`(VOD_\w+)`", section("## Environment variables")))


def test_every_key_of_a_connection_is_told() -> None:
    read = Path(vod.connection.__file__).read_text()
    keys = set(re.findall(r'extra(?:\.get\(|\[)"(\w+)"', read))
    assert {"speech", "quotas", "region"} <= keys
    told = section("## Connection")
    assert [key for key in keys if f"| `{key}` |" not in told] == []
