"""States and records (contract, sections 3 to 7)."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from vod.cloud.assets import Asset, AssetSummary, Metadata, Readiness

URL = {"video_url": "https://example.cdn-vod.huaweicloud.com/a.mp3"}


@pytest.mark.parametrize(
    ("status", "readiness"),
    [
        ("CREATING", Readiness.TRANSIENT),
        ("WAITING_TRANSCODE", Readiness.TRANSIENT),
        ("TRANSCODING", Readiness.TRANSIENT),
        ("CREATED", Readiness.READY),
        ("TRANSCODE_SUCCEED", Readiness.READY),
        ("PUBLISHED", Readiness.READY),
        ("TRANSCODE_FAILED", Readiness.FAILED),
        ("UPLOAD_FAILED", Readiness.FAILED),
        ("SERVER_ERROR", Readiness.FAILED),
        ("CANCELLED", Readiness.FAILED),
        ("DELETING", Readiness.FAILED),
        ("DELETED", Readiness.FAILED),
        ("DELETE_FAILED", Readiness.FAILED),
        ("OBS_CREATING", Readiness.TRANSIENT),
        ("OBS_CREATE_FAILED", Readiness.FAILED),
        ("OBS_CREATE_SUCCESS", Readiness.READY),
        ("UNCREATED", Readiness.GONE),
        (" UNCREATED", Readiness.GONE),
        ("NO_ASSET", Readiness.GONE),
        ("NOASSET", Readiness.GONE),
        ("Transcoding", Readiness.TRANSIENT),
        ("SOMETHING_NEW", Readiness.UNKNOWN),
        ("", Readiness.UNKNOWN),
    ],
)
def test_every_status_has_a_class(status: str, readiness: Readiness) -> None:
    assert Asset.parse({"asset_id": "a", "status": status, "base_info": URL}).readiness is readiness


def test_created_without_a_file_is_not_ready() -> None:
    assert Asset.parse({"asset_id": "a", "status": "CREATED"}).readiness is Readiness.TRANSIENT


@pytest.mark.parametrize(("grace", "settled"), [(True, False), (False, True)])
def test_an_invisible_asset_is_settled_only_after_the_grace_period(grace: bool, settled: bool) -> None:
    assert Asset(asset_id="a", status="NO_ASSET").settled(grace=grace) is settled


def test_the_vendors_success_sample_counts_as_ready() -> None:
    asset = Asset.parse(
        {
            "asset_id": "5412",
            "status": "CREATED",
            "base_info": {
                **URL,
                "title": None,
                "meta_data": {"codec": "UNKNOWN", "duration": 60, "video_size": 0},
            },
        }
    )
    assert asset.readiness is Readiness.READY
    assert asset.metadata == Metadata(codec=None, duration=60.0, size=None, channels=None)


def test_milliseconds_win_over_rounded_seconds() -> None:
    assert Metadata.parse({"duration": 60, "duration_ms": 60480}).duration == 60.48


def test_a_signed_url_is_not_in_repr() -> None:
    asset = Asset.parse({"asset_id": "a", "base_info": {"sign_url": "https://obs/x?Signature=hush"}})
    assert asset.signed_url
    assert "hush" not in repr(asset)


def test_times_are_utc() -> None:
    summary = AssetSummary.parse({"asset_id": "a", "title": "t", "create_time": "20240102030405"})
    assert summary.created == datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
