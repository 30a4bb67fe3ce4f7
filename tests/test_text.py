"""JSON that people and templates write is read as an object, or told from one."""

from __future__ import annotations

from typing import Any

import pytest

from vod.text import json_object


@pytest.mark.parametrize("given", [None, "", " ", "{}", {}])
def test_nothing_is_an_empty_object(given: Any) -> None:
    assert json_object(given) == {}


@pytest.mark.parametrize("given", ['{"a": 1}', {"a": 1}, ' {"a":\n1} '])
def test_an_object(given: Any) -> None:
    assert json_object(given) == {"a": 1}


@pytest.mark.parametrize("given", ["[1]", "base", "{", "1", "null", [1], 7, True])
def test_what_is_no_object(given: Any) -> None:
    assert json_object(given) is None
