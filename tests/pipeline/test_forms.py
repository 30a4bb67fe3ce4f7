from __future__ import annotations

import pytest
from airflow.sdk import DAG

from vod.errors import InvalidInputError
from vod.pipeline import forms


def test_the_form_holds_no_assets_but_those_of_a_sample_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(forms.SAMPLES, raising=False)
    assert not forms.assets().has_value
    monkeypatch.setenv(forms.SAMPLES, " a  b\n")
    assert forms.assets().resolve() == ["a", "b"]


def test_a_misspelt_field_is_refused_with_the_fields_there_are() -> None:
    dag = DAG("a_dag", schedule=None, params={"from_date": forms.day("From"), "engine": forms.engine()})
    forms.check({"from_date": None, "engine": "vod"}, dag)
    with pytest.raises(InvalidInputError, match=r"no field from_dat, to\. It has from_date, engine"):
        forms.check({"from_date": None, "engine": "vod", "from_dat": "2024-03-01", "to": 1}, dag)
