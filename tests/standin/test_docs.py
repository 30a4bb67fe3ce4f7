"""docs/standin.md says what is true."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from vod.standin import StandinSettings
from vod.standin.faults import AnyFault, parse, read
from vod.standin.virtual import VirtualAssets

DOCS = (Path(__file__).parents[2] / "docs" / "standin.md").read_text()
KINDS = get_args(get_args(AnyFault)[0])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_fault_is_in_the_table_with_its_fields(kind):
    name = kind.model_fields["fault"].default
    [row] = [line for line in DOCS.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    for field in set(kind.model_fields) - {"fault", "call", "asset", "percent", "count", "seed"}:
        assert f"`{field}`" in row


def test_the_rules_of_the_examples_are_rules():
    lines = [line for line in DOCS.splitlines() if line.startswith("--fault")]
    assert len(lines) == 3
    for line in lines:
        assert parse(shlex.split(line, comments=True)[1])
    [rules] = re.findall(r"/admin/faults -d '(.*)'", DOCS)
    assert len(read(json.loads(rules))) == 2
    [assets] = re.findall(r"/admin/assets -d '(.*)'", DOCS)
    assert VirtualAssets.model_validate_json(assets).count == 10_000


def test_the_demo_login_is_the_one_that_is_named():
    usual = StandinSettings(data=Path())
    for value in (usual.access_key, usual.secret_key, usual.project_id, usual.region):
        assert f"`{value}`" in DOCS
    for value in (usual.account, usual.user, usual.password):
        assert f"`{value}`" in DOCS
