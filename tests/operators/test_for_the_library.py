"""What the operators leave in the register for the pages, and the buttons that lead there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import DictStore, context_of
from tests.operators.conftest import extract
from vod import links
from vod.library.register import REGISTER
from vod.library.texts import text_key
from vod.operators import TranscribeAudioOperator
from vod.standin import Standin


@pytest.mark.parametrize("engine", ["vod", pytest.param("ffmpeg", marks=pytest.mark.slow)])
def test_audio_text_and_reasons_are_in_the_register(
    standin: Standin, connection: str, video: Path, engine: str
) -> None:
    register = DictStore()
    assets = [standin.add(video, title="My video"), "f" * 32]
    context = context_of(DictStore(), register)
    audio, *failures = extract(context, assets, engine=engine, failed_assets="return")
    stored = register.values[audio["entry"]]
    assert (stored["state"], stored["asset"], stored["record"]["uri"]) == ("ready", assets[0], audio["uri"])
    assert "my video" in stored["find"]
    failed = {
        value["asset"]: value.get("failure") or value["reason"]
        for key, value in register.values.items()
        if key.startswith("audio_") and value["state"] == "failed"
    }
    assert failed == {failure["asset"]: failure for failure in failures}

    operator = TranscribeAudioOperator(
        task_id="transcribe", model="tiny.en", audio=[audio, *failures], failed_assets="return"
    )
    assert REGISTER in operator.inlets
    transcript, *_ = operator.execute(context_of(DictStore(), register))
    text = register.values[text_key(audio["entry"])]
    assert (text["state"], text["audio"], text["record"]) == ("done", audio["uri"], transcript)
    assert transcript["entry"] == audio["entry"]


def test_what_the_fallback_extracts_is_there_as_well(standin: Standin, connection: str, video: Path) -> None:
    from vod.standin.faults import parse

    register = DictStore()
    source = standin.add(video)
    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10120")]
    context = context_of(DictStore(), register)
    [audio] = extract(context, [source], engine="vod", fallback="ffmpeg")
    stored = register.values[audio["entry"]]
    assert audio["engine"] == "ffmpeg"
    assert (stored["state"], stored["record"]["uri"]) == ("ready", audio["uri"])


def test_a_text_that_fails_says_why(connection: str, video: Path, tmp_path: Path) -> None:
    register = DictStore()
    [audio] = extract(context_of(DictStore(), register), [str(video)], engine="ffmpeg")
    (tmp_path / "audio" / audio["uri"].rpartition("/")[2]).write_bytes(b"no sound")
    operator = TranscribeAudioOperator(
        task_id="transcribe", model="tiny.en", audio=audio, failed_assets="return"
    )
    [failure] = operator.execute(context_of(DictStore(), register))
    text = register.values[text_key(audio["entry"])]
    assert (text["state"], text["failure"]) == ("failed", failure)


@pytest.mark.parametrize(
    ("base", "below"), [("http://host:8080", ""), ("https://host/team/airflow/", "/team/airflow")]
)
def test_buttons_lead_to_the_page(monkeypatch: pytest.MonkeyPatch, base: str, below: str) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)

    def target(link: Any, *finished: dict[str, Any]) -> str:
        key = SimpleNamespace(dag_id="my dag", run_id="manual__1+00:00")
        return str(link.get_link(SimpleNamespace(finished=finished), ti_key=key))

    page = f"{below}/plugin/vod-library{below}/vod/"
    for link in (links.AudioLink(), links.TranscriptLink()):
        assert target(link) == target(link, {"uri": "x"}) == "", "no button without something to show"
        assert target(link, {"entry": "audio_1"}) == f"{page}asset?entry=audio_1"
        several = target(link, {"entry": "audio_1"}, {"entry": "audio_2"})
        assert several == f"{page}library?of_dag=my+dag&of_run=manual__1%2B00%3A00"


def test_the_buttons_lead_where_the_plugin_is() -> None:
    from vod.vod_plugin import VodPlugin

    assert links.LIBRARY in [view["url_route"] for view in VodPlugin.external_views]
