"""What a form or a run's configuration says, read and checked."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from airflow.sdk import DAG

from vod.errors import InvalidInputError
from vod.pipeline import forms

DAG_WITH_FORM = DAG("a_dag", schedule=None, params={"from_date": forms.day("From"), "engine": forms.engine()})


def test_what_is_left_to_the_connection_is_none() -> None:
    assert forms.read({"from_date": "", "engine": "default"}, DAG_WITH_FORM) == {
        "from_date": None,
        "engine": None,
    }
    assert forms.read({"from_date": None, "engine": "vod"}, DAG_WITH_FORM)["engine"] == "vod"


def test_a_misspelt_field_is_refused_with_the_fields_there_are() -> None:
    with pytest.raises(InvalidInputError, match=r"no field from_dat, to\. Its fields are from_date, engine"):
        forms.read({"from_date": None, "engine": "vod", "from_dat": "2024-03-01", "to": 1}, DAG_WITH_FORM)


def test_the_first_day_of_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forms.first_day() is None
    monkeypatch.setenv("AIRFLOW__VOD__FIRST_DAY", " 2026-11-01 ")
    assert forms.first_day() == datetime(2026, 11, 1, tzinfo=timezone.utc)
    for wrong in ("yesterday", "01.11.2026", "2026-13-01"):
        monkeypatch.setenv("AIRFLOW__VOD__FIRST_DAY", wrong)
        with pytest.raises(InvalidInputError, match=f"first_day is '{wrong}'"):
            forms.first_day()


def test_the_form_holds_no_assets_of_its_own() -> None:
    assert not forms.assets().has_value


def test_the_model_of_the_site_or_one_that_knows_many_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forms.model().resolve() == "base"
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", '{"model": "large-v3"}')
    assert forms.model().resolve() == "large-v3"
    assert forms.read({"model": ""}, None) == {"model": None}, "left to the connection"
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", "{")
    assert forms.model().resolve() == "base", "a DAG file must be parsed, and its plan says what is wrong"
