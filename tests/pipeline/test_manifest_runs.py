"""A run over a list: what is missing, in which batches, and what is written beside the list."""

from __future__ import annotations

import csv
import re
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import AssetStores, DictStore
from vod.batch.arguments import TooManyAssetsError
from vod.cloud.client import VodClient
from vod.errors import InvalidInputError
from vod.library import known_audio
from vod.library.register import Register, ffmpeg_inputs, vod_inputs
from vod.locations import LocationNotAllowedError, public_name
from vod.pipeline import forms
from vod.pipeline.manifest_runs import ManifestRun
from vod.pipeline.manifests import InvalidManifestError, ResultsNotWritableError
from vod.records import AssetFailure, ExtractedAudio, parse_record
from vod.speech import Transcription
from vod.standin import Standin
from vod.storage.destination import Destination

PARAMS = {
    "engine": "default",
    "audio_format": "MP3",
    "destination": None,
    "batch_size": 2,
    "from_date": None,
    "to_date": None,
}


def extracted(asset: str, audio_format: str = "MP3") -> dict[str, Any]:
    return ExtractedAudio(
        asset=asset,
        uri=f"vod://vod_default/audio-{asset}",
        audio_format=audio_format,
        codec=None,
        duration=1.0,
        size=1,
        engine="vod",
    ).to_json()


def results(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["asset"]: row for row in csv.DictReader(file)}


@pytest.fixture(autouse=True)
def _allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", f"{tmp_path}\n/media\nhttps://media.example/")


def batch(audio_format: str, language: str | None, assets: list[str]) -> dict[str, Any]:
    arguments = {"audio_format": audio_format, "language": language, "assets": assets}
    return {"engine": None, "destination": None, **arguments}


def run_over(manifest: Path, register: DictStore | None = None, **params: Any) -> ManifestRun:
    form = forms.read({**PARAMS, "manifest": str(manifest), **params}, None)
    return ManifestRun.from_form(form, AssetStores(DictStore() if register is None else register))


def test_the_whole_list_is_planned_those_of_higher_priority_first(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "asset,date,format,language,priority\na,2026-01-01,,,\nb,,AAC,,\nc,,,de,9\nd,,,,5\ne,,,,\n"
    )
    assert run_over(manifest).plan(DictStore()).batches == [
        batch("MP3", "de", ["c"]),
        batch("MP3", None, ["d", "a"]),
        batch("MP3", None, ["e"]),
        batch("AAC", None, ["b"]),
    ]


@pytest.mark.parametrize(
    ("since", "until", "assets"),
    [
        ("2026-01-02", None, ["b", "c"]),
        (None, "2026-01-01", ["a"]),
        ("2026-01-01", "2026-01-01", ["a"]),
        ("2026-01-01", "2026-01-31", ["a", "b", "c"]),
    ],
)
def test_a_range_of_dates_is_planned_for_itself(
    tmp_path: Path, connection: str, since: str | None, until: str | None, assets: list[str]
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("asset,date\na,2026-01-01\nb,2026-01-02\nc,2026-01-02T23:59:59Z\n")
    part = run_over(manifest, from_date=since, to_date=until, batch_size=100)
    assert part.plan(DictStore()).batches == [batch("MP3", None, assets)]
    part.write_results(map(parse_record, map(extracted, assets)))
    assert [*results(tmp_path / f"list.{since or ''}_{until or ''}.results.csv")] == assets


def test_dates_without_assets_are_an_error_and_no_green_run(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("asset,date\na,2026-01-01\n")
    with pytest.raises(InvalidManifestError, match="has no assets of 2027-01-01_"):
        run_over(manifest, from_date="2027-01-01").plan(DictStore())


def test_a_line_without_a_date_belongs_to_no_range(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("asset,date\na,2026-01-01\nb,\n")
    with pytest.raises(InvalidManifestError, match=r"Line 3 of .* has no date"):
        run_over(manifest, from_date="2026-01-01").plan(DictStore())


def test_a_line_that_asks_for_other_audio_of_an_asset_is_not_lost(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.csv"
    a, b, c = (f"/media/{name}.mp4" for name in "abc")
    lines = [f"{a},de,", f"{b},,", f"{a},en,", f"{b},,AAC", f"{b},,MP3", f"{a},German,MP3", f"{c},,"]
    manifest.write_text("\n".join(["asset,language,format", *lines]))
    run = run_over(manifest, engine="ffmpeg")
    plan = run.plan(DictStore())
    assert [(each["language"], each["assets"]) for each in plan.batches] == [("de", [a]), (None, [b, c])]
    assert [(failure.asset, failure.message) for failure in plan.refused] == [
        (f"Line {at} of {manifest}", f"It asks for the asset of line {first} in another language or format.")
        for at, first in ((4, 2), (5, 3))
    ]
    done = [*plan.refused, *map(parse_record, map(extracted, (a, b)))]
    assert run.write_results(done) == 1, "done before: c"
    with (tmp_path / "list.results.csv").open(newline="") as file:
        rows = [(row["asset"], row["language"], row["format"], row["status"]) for row in csv.DictReader(file)]
    assert rows == [
        (a, "de", "", "extracted"),
        (b, "", "", "extracted"),
        (a, "en", "", "invalid_manifest"),
        (b, "", "AAC", "invalid_manifest"),
    ]
    again = run_over(tmp_path / "list.results.csv", engine="ffmpeg").plan(DictStore())
    assert [(each["language"], each["assets"]) for each in again.batches] == [("de", [a]), (None, [b])]


def test_lines_of_an_asset_in_other_languages_are_one_for_vod(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("asset,language,format\na,de,\na,en,\na,de,AAC\n")
    plan = run_over(manifest).plan(DictStore())
    assert plan.batches == [batch("MP3", "de", ["a"])]
    assert [failure.asset for failure in plan.refused] == [f"Line 4 of {manifest}"]


def test_of_an_asset_that_is_listed_twice_the_line_of_the_run_counts(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("asset,date,language\na,2026-01-01,de\na,2026-02-01,en\n")
    plan = run_over(manifest, from_date="2026-02-01").plan(DictStore())
    assert (plan.batches, plan.refused) == ([batch("MP3", "en", ["a"])], [])


@pytest.mark.parametrize("long_list", [False, True], ids=["entry by entry", "by the index"])
def test_a_second_run_does_only_what_is_missing(
    tmp_path: Path,
    connection: str,
    client: VodClient,
    video: Path,
    standin: Standin,
    long_list: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if long_list:
        monkeypatch.setattr(known_audio, "_MOST_ENTRIES", 0)
    register = DictStore()
    manifest = tmp_path / "list.txt"
    manifest.write_text("a\nb\nc\n")
    run_over(manifest).plan(DictStore())
    failure = AssetFailure(asset="b", outcome="no_audio_track", message="There is none.", remedy="Leave it.")
    lost = AssetFailure(asset="c", outcome="no_result", message="The worker died.")
    # Its audio has to be there: any asset that is ready will do.
    there = extracted("a") | {
        "audio_asset_id": (ready := client.upload(video)),
        "uri": f"vod://vod_default/{ready}",
    }
    project = str(standin.settings.project_id)
    Register(register, "task", vod_inputs(project, "MP3")).finish({"a": there}, {})
    (tmp_path / "audio").mkdir(exist_ok=True)
    (tmp_path / "audio" / "a.en.txt").write_text("hello")
    spoken = Transcription(language="en", duration=1.0, model="base", segments=())
    (tmp_path / "audio" / "a.en.json").write_text(spoken.to_json())
    dub = replace(spoken, language="de", track=1)
    (tmp_path / "audio" / "a.de.json").write_text(dub.to_json())
    assert run_over(manifest).write_results([parse_record(extracted("a")), failure, lost]) == 0
    rows = results(tmp_path / "list.txt.results.csv")
    assert {asset: row["status"] for asset, row in rows.items()} == {
        "a": "transcribed",
        "b": "no_audio_track",
        "c": "no_result",
    }
    assert rows["a"]["audio"] == "vod://vod_default/audio-a"
    assert rows["a"]["transcript"] == (tmp_path / "audio" / "a.en.txt").as_uri()
    assert rows["b"]["reason"] == "There is none. Leave it."

    for again in (manifest, tmp_path / "list.txt.results.csv"):
        assert run_over(again, register).plan(DictStore()).batches == [batch("MP3", None, ["b", "c"])]
    records = [parse_record(extracted(asset)) for asset in "bc"]
    assert run_over(tmp_path / "list.txt.results.csv", register).write_results(records) == 1
    rows = results(tmp_path / "list.txt.results.csv")
    assert {asset: row["status"] for asset, row in rows.items()} == {
        "a": "transcribed",
        "b": "extracted",
        "c": "extracted",
    }
    client.delete([ready])  # since then
    assert run_over(manifest, register).plan(DictStore()).batches == [
        batch("MP3", None, ["a", "b"]),
        batch("MP3", None, ["c"]),
    ]


def test_a_signed_url_is_refused_with_its_line(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("/media/b.mp4\nhttps://media.example/a.mp4?Signature=secret\n")
    plan = run_over(manifest, engine="ffmpeg").plan(DictStore())
    [refused] = plan.refused
    assert re.search(r"Line 2 of .*stored with the run", refused.message)
    assert "secret" not in str(refused)
    assert [batch["assets"] for batch in plan.batches] == [["/media/b.mp4"]]


def test_a_url_with_a_query_is_done_once_and_shown_without_it(tmp_path: Path, connection: str) -> None:
    url = "https://media.example/a.mp4?id=secret"
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"{url}\n")
    with pytest.raises(InvalidInputError, match=r"https://media\.example/a\.mp4.*Line 1 of ") as refused:
        run_over(manifest, engine="vod").plan(DictStore())  # it is allowed: its name may be shown
    assert "secret" not in str(refused.value)

    with_ffmpeg = run_over(manifest, engine="ffmpeg")
    with_ffmpeg.plan(DictStore())
    audio = tmp_path / "audio" / "a.mp3"
    audio.parent.mkdir(exist_ok=True)
    audio.write_bytes(b"audio")
    returned = extracted(public_name(url)) | {"uri": audio.as_uri(), "size": 5, "engine": "ffmpeg"}
    register = DictStore()
    inputs = ffmpeg_inputs("MP3", Destination(str(tmp_path / "audio")).uri(""), {})
    Register(register, "task", inputs).finish({url: returned}, {})
    assert with_ffmpeg.write_results([parse_record(returned)]) == 0
    assert results(tmp_path / "list.txt.results.csv")[url]["status"] == "extracted"
    for again in (manifest, tmp_path / "list.txt.results.csv"):
        assert run_over(again, register, engine="ffmpeg").plan(DictStore()).batches == []


def test_what_vod_cannot_take_is_refused_with_its_line(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("a\n\n/media/b.mp4\n")
    plan = run_over(manifest).plan(DictStore())
    [refused] = plan.refused
    assert refused.asset == "/media/b.mp4"
    assert re.search(r"Line 3 of .*: VOD extracts only from", refused.message)
    assert [batch["assets"] for batch in plan.batches] == [["a"]]
    assert not run_over(manifest, engine="ffmpeg").plan(DictStore()).refused


def test_a_list_with_too_many_bad_lines_is_another_one_than_somebody_meant(
    tmp_path: Path, connection: str
) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"/media/{number}.mp4\n" for number in range(101)) + "a\n")
    store = DictStore()
    with pytest.raises(
        InvalidInputError, match=r"^101 of 102 lines .*/media/19\.mp4.* and 81 more"
    ) as caught:
        run_over(manifest).plan(store)
    assert "/media/20.mp4" not in caught.value.message
    assert store.values == {}


def test_a_list_that_is_too_long_is_refused_or_taken_by_date(
    tmp_path: Path, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "asset,date\n" + "".join(f"{number},2026-01-0{1 + number % 2}\n" for number in range(6))
    )
    with pytest.raises(TooManyAssetsError, match="more than the 4 assets") as caught:
        run_over(manifest).plan(DictStore())
    assert "month by month" in caught.value.remedy
    day = run_over(manifest, to_date="2026-01-01")
    assert sum(len(batch["assets"]) for batch in day.plan(DictStore()).batches) == 3


def test_dates_in_the_wrong_order_are_said_so(tmp_path: Path, connection: str) -> None:
    with pytest.raises(InvalidInputError, match="The first date, 2026-02-01, is after the last, 2026-01-01"):
        run_over(tmp_path / "list.csv", from_date="2026-02-01", to_date="2026-01-01")


def test_a_list_may_lie_and_name_only_what_is_allowed(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("/media/a.mp4\n/etc/passwd\n")
    plan = run_over(manifest, engine="ffmpeg").plan(DictStore())
    [refused] = plan.refused
    assert refused.asset.startswith("Line 2 of ")
    assert "not allowed" in refused.message
    assert "allowed_locations" in refused.remedy
    assert [batch["assets"] for batch in plan.batches] == [["/media/a.mp4"]]
    with pytest.raises(LocationNotAllowedError):
        run_over(Path("/etc/hosts.txt")).plan(DictStore())


@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
@pytest.mark.parametrize(
    "line",
    [
        "root:x:0:0:very-secret",
        '{"admin": "very-secret"}',
        "s3://very-secret@bucket/../x",
        "gopher://very-secret/x",
        "https://intranet/very-secret",
        "/etc/very-secret",
        "file://very-secret/x",
    ],
)
def test_a_refusal_shows_of_a_line_only_what_may_be_read(
    tmp_path: Path, connection: str, engine: str, line: str
) -> None:
    """The file may be another one than the person who names it may read."""
    manifest = tmp_path / "list.txt"
    good = "a" if engine == "vod" else "/media/a.mp4"
    manifest.write_text(f"{good}\n{line}\n")
    [refused] = run_over(manifest, engine=engine).plan(DictStore()).refused
    assert re.search(r"Line 2 of .*list\.txt", refused.asset)
    assert "very-secret" not in str(refused)
    manifest.write_text(f"{line}\n")
    with pytest.raises(InvalidInputError, match=r"Line 1 of .*list\.txt") as caught:
        run_over(manifest, engine=engine).plan(DictStore())
    assert "very-secret" not in "".join(traceback.format_exception(caught.value))


def test_all_lines_that_cannot_be_worked_on_are_named(tmp_path: Path, connection: str) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("s3://bucket/../x\n\ns3://bucket/../y\n")
    with pytest.raises(InvalidInputError, match=r"2 of 2 lines .*Line 1 of .*'\.\.'.*Line 3 of "):
        run_over(manifest, engine="ffmpeg").plan(DictStore())


def test_where_the_results_cannot_be_written_nothing_is_begun(tmp_path: Path, connection: str) -> None:
    """They are written beside the list: the whole run would be done, and red in the end."""
    manifest = tmp_path / f"{'x' * 245}.csv"
    manifest.write_text("asset\na\n")
    store = DictStore()
    with pytest.raises(ResultsNotWritableError, match=re.escape(str(tmp_path))):
        run_over(manifest).plan(store)
    assert not store.values
    assert list(tmp_path.glob("x*")) == [manifest]


def test_a_list_that_is_not_there_makes_no_folder(tmp_path: Path, connection: str) -> None:
    with pytest.raises(InvalidManifestError, match="There is no list"):
        run_over(tmp_path / "new" / "list.csv").plan(DictStore())
    assert not (tmp_path / "new").exists()
