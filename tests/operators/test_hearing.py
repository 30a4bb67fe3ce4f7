"""What a task and the site say of speech recognition is read, or refused with the place where it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vod.errors import InvalidInputError
from vod.hooks import VodHook
from vod.operators import TranscribeAudioOperator
from vod.operators.hearing import SpeechSettings
from vod.speech import SpeechOptions


@pytest.mark.parametrize("site", ['["base"]', '["ab"]', '"base"', "3", "{"])
def test_a_site_that_says_no_options_is_refused(
    connection: str, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", site)
    with pytest.raises(InvalidInputError, match=r"^\[vod\] speech is .* no object .*JSON"):
        SpeechSettings.read({}, VodHook(connection))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"options": ["base"]}, "The option options is .* no object"),
        ({"options": "{'model': 'base'}"}, "The option options is .*tojson"),
        ({"options": {"beam_size": "many"}}, "beam_size .* cannot be 'many'.*whole number"),
        ({"options": {"models": ["a"]}}, "models .* cannot be"),
        ({"fallback": ["http"]}, "The option fallback is .* no object"),
        ({"fallback": "{not JSON"}, "The option fallback is .* no object"),
        ({"fallback": "nope"}, "fallback 'nope' is unknown"),
        ({"fallback": {"model": "base"}}, "fallback '' is unknown"),
        ({"fallback": {"engine": 7}}, "engine .* cannot be '7'"),
        ({"fallback": {"engine": "http", "time_limit": "soon"}}, "time_limit .* cannot be 'soon'"),
    ],
)
def test_what_a_task_cannot_ask_for_is_refused_in_a_sentence(
    connection: str, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        TranscribeAudioOperator(task_id="t", audio=[], **given)._speech_settings()


def test_templates_make_text_and_text_is_read(connection: str) -> None:
    params = {"beam": 3, "speech": {"beam_size": 3, "multilingual": True}, "model": None, "no": None}
    single = {"beam_size": "{{ params.beam }}", "multilingual": "{{ params.beam == 3 }}"}
    for options in (single, "{{ params.speech | tojson }}"):
        operator = TranscribeAudioOperator(
            task_id="t",
            audio=[],
            options=options,
            model="{{ params.no }}",
            fallback="{{ params.no }}",
            language="{{ params.no }}",
        )
        operator.render_template_fields({"params": params})
        settings = operator._speech_settings()
        assert settings.options == SpeechOptions(beam_size=3, multilingual=True)
        assert settings.fallback is None
    fallback = json.dumps({"engine": "http", "model": "whisper-1"})
    settings = TranscribeAudioOperator(task_id="t", audio=[], fallback=fallback)._speech_settings()
    assert settings.fallback == SpeechOptions(engine="http", model="whisper-1")
