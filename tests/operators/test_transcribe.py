from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.operators.conftest import Context, extract
from vod.cloud.client import VodClient
from vod.operators import TranscribeAudioOperator
from vod.storage import local_path


def words(text: str) -> list[str]:
    return "".join(character for character in text.lower() if character.isalnum() or character == " ").split()


@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
def test_from_video_to_text(
    connection: str,
    context: Context,
    client: VodClient,
    samples: dict[str, str],
    video: Path,
    tmp_path: Path,
    engine: str,
) -> None:
    audio = extract(context, [client.upload(video), "f" * 32], engine=engine, on_failure="report")
    transcribe = TranscribeAudioOperator(task_id="transcribe", audio=audio, on_failure="report")
    [transcript, failure] = transcribe.execute(context)
    assert words(transcript["text"]) == words(samples[video.name])
    assert (transcript["outcome"], transcript["audio"]) == ("transcribed", audio[0]["uri"])
    assert failure == audio[1], "a failed extraction passes through"
    text, srt = (local_path(transcript["uris"][caption]) or Path() for caption in ("txt", "srt"))
    assert words(text.read_text()) == words(samples[video.name])
    assert srt.read_text().startswith("1\n00:00:0")
    assert text.parent == tmp_path / "audio", "the connection's default destination"


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [
        ([{"uri": "x"}], "not what ExtractAudioOperator returns"),
        ("a string", "not what ExtractAudioOperator returns"),
        (
            [
                {
                    "asset": "a",
                    "audio_asset_id": "b",
                    "audio_format": "MP3",
                    "accepted": 1,
                    "outcome": "submitted",
                }
            ],
            "There is no audio yet.*AudioAssetSensor",
        ),
    ],
)
def test_what_is_no_audio_is_refused(connection: str, context: Context, audio: Any, sentence: str) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        TranscribeAudioOperator(task_id="transcribe", audio=audio).execute(context)


def test_an_unknown_model_fails_before_any_audio_is_read(connection: str, context: Context) -> None:
    operator = TranscribeAudioOperator(task_id="transcribe", audio=[], model="/no/such/model")
    with pytest.raises(AirflowFailException, match="/no/such/model"):
        operator.execute(context)
