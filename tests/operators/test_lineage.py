"""What OpenLineage is given of extractions and transcriptions."""

from __future__ import annotations

import pytest
from airflow.providers.openlineage.extractors.base import DefaultExtractor

from tests.conftest import DictStore, context_of
from vod.cloud.client import VodClient
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.operators.lineage import dataset_name


@pytest.mark.parametrize(
    ("location", "namespace", "name"),
    [
        ("0a1b", "vod://vod_default", "0a1b"),
        ("vod://other/0a1b", "vod://other", "0a1b"),
        ("/media/a b.mp4", "file", "/media/a b.mp4"),
        ("file:///media/a%20b.mp4", "file", "/media/a b.mp4"),
        ("s3://bucket/x/y.mp3", "s3://bucket", "x/y.mp3"),
        ("obs://vod_default@bucket/y.mp3", "obs://bucket", "y.mp3"),
        ("https://user:pass@host/y.mp4?Signature=x", "https://host", "y.mp4"),
    ],
)
def test_names_are_openlineages(location: str, namespace: str, name: str) -> None:
    assert dataset_name(location, "vod_default") == (namespace, name)


def test_a_run_tells_what_became_of_what(connection: str, client: VodClient, video: object) -> None:
    source = client.upload(video)  # type: ignore[arg-type]
    extract = ExtractAudioOperator(task_id="extract", assets=[source, "f" * 32], engine="ffmpeg")
    extract.failed_assets = "return"
    context = context_of(DictStore())
    records = extract.execute(context)
    told = DefaultExtractor(extract).extract_on_complete(context["ti"])
    assert told
    assert [(found.namespace, found.name) for found in told.inputs] == [("vod://vod_default", source)]
    [audio] = told.outputs
    assert (audio.namespace, audio.name) == ("file", records[0]["uri"].removeprefix("file://"))
    assert audio.outputFacets["outputStatistics"].size == records[0]["size"]
    assert audio.facets["storage"].fileFormat == "mp3"

    transcribe = TranscribeAudioOperator(task_id="transcribe", audio=records, failed_assets="return")
    [transcript, _] = transcribe.execute(context)
    told = DefaultExtractor(transcribe).extract_on_complete(context["ti"])
    assert told
    assert [found.name for found in told.inputs] == [audio.name]
    assert [found.name for found in told.outputs] == [
        uri.removeprefix("file://") for uri in transcript["uris"].values()
    ]
