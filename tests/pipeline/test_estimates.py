"""What a run comes to is told and limited before anything is submitted, by the site's own prices."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import DictStore, stats
from vod.__main__ import main
from vod.errors import InvalidInputError
from vod.hooks import VodHook
from vod.pipeline import estimates, manifest_runs, planning
from vod.pipeline.estimates import Estimate, Limits, OverLimitError, Prices, estimate
from vod.standin import Standin

PRICES = {"currency": "USD", "extraction": 0.01, "extraction_minute": 0.002, "transcription_minute": 0.1}
FORM = {"engine": "default", "audio_format": "MP3", "destination": None, "batch_size": 10}
DAY = datetime(2026, 3, 1, tzinfo=timezone.utc)


def site(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    for name, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        monkeypatch.setenv(f"AIRFLOW__VOD__{name.upper()}", text)


def test_a_long_list_is_estimated_by_some_of_its_videos(standin: Standin, connection: str) -> None:
    hook = VodHook(connection)
    videos = standin.add_virtual(200, duration=3600)
    found = estimate(videos, hook, by_vod=True, transcribed=True, prices=Prices(**PRICES))
    assert stats(standin)["calls"]["info"]["total"] == 5, "ten ids a call"
    assert (found.videos, found.asked, found.seconds) == (200, 50, 200 * 3600)
    assert found.money == pytest.approx(200 * 0.01 + 200 * 60 * 0.102)
    told = "at least 2 minutes within VOD's quota, about 1,226.00 USD"
    assert str(found) == f"200 videos, about 200.0 hours of audio (by 50 of them), {told}"
    assert found.minutes == 200 / hook.client.extractions_per_minute
    assert str(Estimate(videos=1200, minutes=12)) == "1,200 videos, at least 12 minutes within VOD's quota"
    by_ffmpeg = estimate(videos, hook, by_vod=False, transcribed=False, prices=Prices(**PRICES))
    assert by_ffmpeg.money == 0
    assert by_ffmpeg.minutes == 0


def test_what_is_not_known_is_not_invented(connection: str) -> None:
    hook = VodHook(connection)
    files = ["/media/a.mp4", "/media/b.mp4"]
    found = estimate(files, hook, by_vod=False, transcribed=True, prices=Prices(**PRICES))
    assert (found.seconds, found.money) == (None, None)
    assert str(found) == "2 videos"
    found.check(Limits(hours=1, money=1))
    flat = estimate(files, hook, by_vod=True, transcribed=False, prices=Prices(extraction=2))
    assert flat.money == 4
    assert estimate([], hook, by_vod=True, transcribed=True, prices=Prices(**PRICES)).money == 0


def test_files_alone_need_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    site(monkeypatch, run_limits={"videos": 1})
    estimates.check_run(["/media/a.mp4"], "ffmpeg", "nowhere")
    with pytest.raises(OverLimitError, match="2 videos"):
        estimates.check_run(["/media/a.mp4", "/media/b.mp4"], "ffmpeg", "nowhere")


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"videos": 2}, "At most 2 videos are allowed"),
        ({"hours": 2.5}, "At most 2.5 hours of audio are allowed"),
        ({"money": 5}, "At most 5 USD are allowed"),
    ],
)
def test_what_is_over_a_limit_says_by_what(limits: dict[str, float], sentence: str) -> None:
    found = Estimate(videos=3, seconds=10_800, asked=3, money=5.5, currency="USD")
    found.check(Limits(videos=3, hours=3, money=5.5))
    with pytest.raises(OverLimitError, match=rf"come to 3 videos, about 3.0 hours .* 5\.50 USD\. {sentence}"):
        found.check(Limits(**limits))


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"hour": 1}', '{"hours": -1}', '{"hours": "2"}', '{"hours": true}', '{"hours": NaN}']
)
def test_a_setting_that_is_wrong_says_what_it_should_be(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    site(monkeypatch, run_limits=text)
    with pytest.raises(InvalidInputError, match=r"\[vod\] run_limits .*videos, hours, money"):
        estimates.limits_of_site()


def test_every_plan_holds_the_limit_and_nothing_is_submitted_or_kept(
    standin: Standin,
    connection: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    videos = standin.add_virtual(4, duration=1800, created_from=DAY, created_to=DAY + timedelta(hours=5))
    listed = tmp_path / "audio" / "list.txt"
    listed.parent.mkdir()
    listed.write_text("\n".join(videos))
    records = [
        {
            "asset": video,
            "uri": f"vod://vod_default/{video}",
            "audio_format": "MP3",
            "codec": "mp3",
            "duration": 1800.0,
            "size": 1,
            "engine": "vod",
            "outcome": "extracted",
        }
        for video in videos
    ]
    heard = {"audio": None, "model": "tiny.en", "language": None, "force": True}

    def of_form(store: DictStore) -> Any:
        form = {**FORM, "assets": videos}
        return planning.plan_videos(form, DAG("d", schedule=None, params=dict.fromkeys(form)), store)

    def of_list(store: DictStore) -> Any:
        form = {**FORM, "manifest": str(listed), "from_date": None, "to_date": None}
        return manifest_runs.plan_manifest(form, DAG("d", schedule=None, params=dict.fromkeys(form)), store)

    def of_day(store: DictStore) -> Any:
        dag = DAG("d", schedule=None, params=dict.fromkeys(FORM))
        form = {name: value for name, value in FORM.items() if name != "batch_size"}
        return planning.plan_new_videos(form, dag, DAY, DAY + timedelta(days=1), store)

    def of_audio(store: DictStore) -> Any:
        event = SimpleNamespace(extra={"audio": records})
        return planning.plan_audio(
            heard, DAG("d", schedule=None, params=dict.fromkeys(heard)), [event], store
        )

    plans = {"form": of_form, "list": of_list, "day": of_day, "audio": of_audio}
    site(monkeypatch, prices=PRICES, run_limits={"hours": 2, "videos": 4})
    with caplog.at_level(logging.INFO):
        for name, plan in plans.items():
            caplog.clear()
            assert len(plan(DictStore()).batches) >= 1, name
            assert "This run comes to 4 videos, about 2.0 hours of audio" in caplog.text, name
    site(monkeypatch, run_limits={"hours": 1.9})
    for name, plan in plans.items():
        store = DictStore()
        with pytest.raises(AirflowFailException, match=r"At most 1\.9 hours of audio are allowed"):
            plan(store)
        assert not any(key.startswith("batch_") for key in store.values), name
    assert stats(standin)["submissions"] == {}


def test_without_prices_and_limits_nothing_is_asked(standin: Standin, connection: str) -> None:
    videos = standin.add_virtual(3)
    form = {**FORM, "assets": videos}
    planning.plan_videos(form, DAG("d", schedule=None, params=dict.fromkeys(form)), DictStore())
    assert stats(standin)["calls"] == {}


def test_the_command_tells_it_of_days_and_lists(
    standin: Standin,
    connection: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    videos = standin.add_virtual(
        6, duration=600, created_from=DAY, created_to=DAY + timedelta(days=2, seconds=-1)
    )
    listed = tmp_path / "list.csv"
    listed.write_text("asset\n" + "\n".join([*videos, videos[0]]))
    site(monkeypatch, prices={"currency": "EUR", "extraction_minute": 0.1, "transcription_minute": 0.2})
    assert main(["estimate", "--from-date", "2026-03-01", "--to-date", "2026-03-02"]) == 0
    assert capsys.readouterr().out == "6 videos, about 1.0 hours of audio, about 6.00 EUR\n"
    assert main(["estimate", "--list", str(listed), "--transcribe"]) == 0
    assert capsys.readouterr().out == "6 videos, about 1.0 hours of audio, about 18.00 EUR\n"
    assert main(["estimate", "--from-date", "2026-03-01"]) == 0
    assert capsys.readouterr().out.startswith("3 videos")
    site(monkeypatch, run_limits={"videos": 5})
    assert main(["estimate", "--list", str(listed)]) == 1
    assert "At most 5 videos are allowed. Split the run" in capsys.readouterr().err
    assert main(["estimate", "--list", str(tmp_path / "none.csv")]) == 2
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", "--list", "list.csv"]) == 1
    assert main(["estimate", "--from-date", "2026-03-02", "--to-date", "2026-03-01"]) == 2
    assert "2026-03-02, is after the last, 2026-03-01" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["estimate", "--from-date", "2026-13-01"])
    assert "'2026-13-01' is not a date such as 2026-11-01" in capsys.readouterr().err
    assert stats(standin)["submissions"] == {}
