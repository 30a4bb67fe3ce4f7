"""What the stand-in says about itself."""

from __future__ import annotations

from typing import get_args

import httpx
import jsonschema

from vod.standin.faults.rules import ApiCall


def test_every_call_is_described(shared):
    described = httpx.get(f"{shared.standin.url}/admin/openapi.json").json()
    operations = {
        operation["operationId"] for path in described["paths"].values() for operation in path.values()
    }
    assert operations == set(get_args(ApiCall))


def test_the_schemas_are_schemas(shared):
    described = httpx.get(f"{shared.standin.url}/admin/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
