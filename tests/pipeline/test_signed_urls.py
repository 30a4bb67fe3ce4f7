"""URLs with secrets are refused in forms and lists, and masked in what Airflow stores of a task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields

from vod.locations import AllowedLocations
from vod.operators import ExtractAudioOperator
from vod.pipeline import planning
from vod.pipeline.signed_urls import SignedUrlError, refuse_signed_url

PLAIN = "c2VjcmV0LXNpZ25hdHVyZQ"


@pytest.mark.parametrize(
    "url",
    [
        "https://h/a.mp4?Signature=x&Expires=1",
        "https://h/a.mp4?X-Amz-Signature=abc",
        "HTTPS://h/a.mp4?a=1&sig=abc%3D",
        "https://h/a.mp4?access_token=x",
        "https://h/a.mp4?sv=2024&se=x&sp=r",
        "https://h/a.mp4?q=0123456789abcdef0123456789abcdef",
        "https://h/a.mp4?0123456789abcdef0123456789abcdef",
        "https://h/a.mp4#token=x",
        "https://user:password@h/a.mp4",
        "s3://AK:SK@bucket/a.mp4",
    ],
)
def test_secrets_in_urls_are_refused(url: str) -> None:
    with pytest.raises(SignedUrlError, match="stored with the run") as caught:
        refuse_signed_url(url)
    for secret in ("Signature=", "abc", "password@", "SK@", "0123456789abcdef0123456789abcdef"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "3e1cd21131a94525be55acf65888bf46",
        "/videos/a?token=x.mp4",
        "https://h/a.mp4",
        "https://h/get?id=15&quality=high&date=2026-01-01",
        "obs://vod_default@bucket/a.mp4",
    ],
)
def test_other_locations_are_not(url: str) -> None:
    refuse_signed_url(url)


def test_a_run_works_on_no_signed_url(connection: str) -> None:
    url = "https://h/a.mp4?sig=x"
    bad = planning.bad_sources([url], "ffmpeg", connection, AllowedLocations())
    assert isinstance(bad[url], SignedUrlError)


def test_what_airflow_stores_of_a_task_holds_no_signature() -> None:
    """An author may hand signed URLs to an operator; Airflow keeps its rendered fields."""
    urls = [f"https://h/a.mp4?Signature={PLAIN}%2Bmore&id=7", f"https://u:{PLAIN}-pw@h/b.mp4"]
    with DAG("d", schedule=None) as dag:
        listed = ExtractAudioOperator(task_id="x", engine="ffmpeg", assets=urls)
        text = ExtractAudioOperator(task_id="y", engine="ffmpeg", assets="{{ urls }}")
    for task in (listed, text):
        context: Any = {"dag": dag, "ti": SimpleNamespace(map_index=-1), "urls": "\n".join(urls)}
        task.render_template_fields(context)
        stored = str(_serialize_rendered_fields(task))
        assert "https://h/a.mp4?Signature=***&id=7" in stored
        assert PLAIN not in stored
    assert PLAIN not in str(redact(f"a log line with {PLAIN}%2Bmore and {PLAIN}+more"))
