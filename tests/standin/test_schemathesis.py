"""Requests made up from the description: none may break the stand-in or surprise its reader."""

from __future__ import annotations

import json

import httpx
import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from vod.standin.openapi import OPERATIONS

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def token(shared):
    known = shared.standin.settings
    user = {"name": known.user, "password": known.password, "domain": {"name": known.account}}
    identity = {"methods": ["password"], "password": {"user": user}}
    auth = {"identity": identity, "scope": {"project": {"id": known.project_id}}}
    answer = httpx.post(f"{shared.standin.url}/v3/auth/tokens", json={"auth": auth})
    return answer.headers["X-Subject-Token"]


@pytest.fixture(scope="module")
def description(shared, media):
    """The description, with ids and addresses in it that exist."""
    source = shared.standin.add(media / "clip.mp4")
    audio = shared.extract(source)
    shared.wait(audio, "CREATED")
    uploading = shared.create()
    ids = [source, audio, uploading["asset_id"], *shared.standin.add_virtual(3), "f" * 32]
    finished = shared.info(source)[0]["base_info"]["source_path"]
    known = {
        "AssetId": ids,
        "Bucket": [finished["bucket"], "other"],
        "ObjectKey": [finished["object"], uploading["target"]["object"], "other"],
    }
    text = httpx.get(f"{shared.standin.url}/admin/openapi.json").text
    for name, values in known.items():
        reference = json.dumps({"$ref": f"#/components/schemas/{name}"}, separators=(",", ":"))
        assert reference in text
        text = text.replace(reference, json.dumps({"enum": values}))
    loaded = schemathesis.openapi.from_dict(json.loads(text))
    loaded.config.update(base_url=shared.standin.url)
    return loaded


@pytest.mark.quick(8)
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("call", OPERATIONS)
def test_no_request_breaks_it(description, token, call, mode):
    """Requests that fit the description, and requests that do not."""

    @given(case=description.find_operation_by_id(call).as_strategy(generation_mode=mode))
    @settings(max_examples=10, derandomize=True, database=None)
    def ask(case):
        case.call_and_validate(headers={"X-Auth-Token": token}, checks=CHECKS)

    ask()
