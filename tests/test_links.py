"""The button of the VOD console is there for whoever has one, and only for him."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from vod.links import VodConsoleLink
from vod.operators import ExtractAudioOperator

CONSOLE = "https://console.huaweicloud.com/vod/?region=cn-east-3"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", CONSOLE),
        ("https://vod.cn-east-3.myhuaweicloud.com", CONSOLE),
        ("http://127.0.0.1:8600", ""),
        ("https://vod.example.com", ""),
        ("https://myhuaweicloud.com.example.com", ""),
        (None, ""),
    ],
)
def test_it_leads_to_the_console_of_the_real_service(
    host: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if host is not None:
        extra = {"region": "cn-east-3", "project_id": "0" * 32}
        connection = {"conn_type": "vod", "host": host, "login": "AK", "password": "SK", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps(connection))
    operator = ExtractAudioOperator(task_id="extract", assets=["a"])
    assert VodConsoleLink().get_link(operator, ti_key=cast("Any", None)) == url
