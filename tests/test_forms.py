from __future__ import annotations

import pytest

from vod import forms


def test_the_form_holds_no_assets_but_those_of_a_sample_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(forms.SAMPLES, raising=False)
    assert not forms.assets().has_value
    monkeypatch.setenv(forms.SAMPLES, " a  b\n")
    assert forms.assets().resolve() == ["a", "b"]
