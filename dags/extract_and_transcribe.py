"""### Videos to audio to text

Extracts the audio of videos, with Huawei Cloud VOD or with ffmpeg on the worker, and transcribes it.

A video that fails costs only itself: the others are finished, and the last task names what failed and why.
Trigger it with asset ids of VOD (engine `vod`) or with ids, absolute paths and URLs (engine `ffmpeg`).
Connection, engine and destination default to those of the connection `vod_default`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from vod.batches import summarize
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.results import AUDIO_FORMATS, ENGINES

with DAG(
    dag_id="extract_and_transcribe",
    schedule=None,
    tags=["vod"],
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "assets": Param(
            type="array",
            items={"type": "string"},
            title="Videos",
            description="One a line: asset ids, or with the engine ffmpeg also absolute paths and URLs.",
        ),
        "engine": Param(
            "default",
            enum=["default", *ENGINES],
            values_display={
                "default": "As the connection says",
                "vod": "Huawei Cloud VOD",
                "ffmpeg": "ffmpeg on the worker",
            },
            title="Engine",
        ),
        "audio_format": Param("MP3", enum=[*AUDIO_FORMATS], title="Audio format"),
        "model": Param("tiny.en", type="string", title="Whisper model"),
        "language": Param(None, type=["string", "null"], title="Language spoken", examples=["en", "de"]),
    },
    doc_md=__doc__,
) as dag:
    extract = ExtractAudioOperator(
        task_id="extract",
        assets="{{ params.assets | tojson }}",
        engine="{{ params.engine | replace('default', '') }}",
        audio_format="{{ params.audio_format }}",
        on_failure="report",
    )
    transcribe = TranscribeAudioOperator(
        task_id="transcribe",
        audio=extract.output,
        model="{{ params.model }}",
        language="{{ params.language or '' }}",
        on_failure="report",
    )

    @task(retries=0, show_return_value_in_logs=False)
    def report(transcripts: list[dict]) -> str:
        """Say in the log what was done, and fail if an asset did."""
        return summarize(transcripts)

    report(transcribe.output)
