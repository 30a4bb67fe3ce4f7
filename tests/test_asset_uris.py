"""``vod://`` URIs of Airflow assets: what Airflow makes of them, what it refuses, and their lineage."""

from __future__ import annotations

import pytest
from airflow.providers.openlineage.utils.utils import translate_airflow_asset
from airflow.sdk import Asset
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

from vod.locations import asset_uri
from vod.operators.lineage import dataset_name

ID = "3e1cd21131a94525be55acf65888bf46"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("vod://audio", "vod://audio"),
        ("vod://audio/", "vod://audio"),
        ("VOD://transcripts", "vod://transcripts"),
        (f"vod://vod_default/{ID}", f"vod://vod_default/{ID}"),
        (f"vod://vod_default/{ID}/", f"vod://vod_default/{ID}"),
        (asset_uri("my conn/ä", ID), f"vod://my%20conn%2F%C3%A4/{ID}"),
    ],
)
def test_airflow_takes_a_uri_of_this_package(given: str, kept: str) -> None:
    asset = Asset(given)
    assert (asset.uri, asset.normalized_uri) == (kept, kept)


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        (f"vod:///{ID}", "does not begin with a name"),
        ("vod:audio", "does not begin with a name"),
        ("vod://my conn", "does not begin with a name"),
        ("vod://host:8600", "does not begin with a name"),
        ("vod://vod_default/a/b", "'a/b' is not an asset id"),
        ("vod://vod_default//a", "'a' is not an asset id"),
        ("vod://vod_default/talk.mp4", "'talk.mp4' is not an asset id"),
        ("vod://audio?day=1", "no query"),
        ("vod://someone@audio", "no user name"),
    ],
)
def test_a_malformed_uri_is_refused_when_the_dag_file_is_read(uri: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Asset(uri)


def test_a_refusal_does_not_repeat_a_secret() -> None:
    with pytest.raises(ValueError, match="no query") as refused:
        Asset("vod://someone@audio?Signature=very-secret")
    assert "secret" not in str(refused.value)
    assert "someone" not in str(refused.value)


def test_an_asset_is_made_of_connection_and_id() -> None:
    """As hook lineage does: by the scheme's factory."""
    create = ProvidersManagerTaskRuntime().asset_factories["vod"]
    made = create(vod_conn_id="vod_default", asset_id=ID, extra={"title": "Lake"})
    assert (made.uri, made.extra) == (f"vod://vod_default/{ID}", {"title": "Lake"})
    with pytest.raises(ValueError, match="is not an asset id"):
        create(vod_conn_id="vod_default", asset_id="a b")


def test_lineage_names_an_asset_as_the_operators_do() -> None:
    dataset = translate_airflow_asset(Asset(asset_uri("vod_default", ID)), None)
    assert dataset
    assert (dataset.namespace, dataset.name) == dataset_name(ID, "vod_default")
    stream = translate_airflow_asset(Asset("vod://audio"), None)
    assert stream
    assert (stream.namespace, stream.name) == ("vod://audio", "/")
