"""What the first task of a DAG decides: which assets, in which batches, and what is refused."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import AssetStores, DictStore, connection_json, context_of
from tests.pipeline.conftest import Run
from tests.speech_server import Scripted, running
from vod.batch.arguments import TooManyAssetsError
from vod.batch.progress import PLAN_KEY
from vod.library.register import Register
from vod.locations import AllowedLocations
from vod.operators import TranscribeAudioOperator
from vod.pipeline import forms, parts, planning
from vod.records import ExtractedAudio
from vod.speech import script
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.passages import Passage
from vod.standin import Standin

MIDNIGHT = datetime(2026, 1, 10, tzinfo=timezone.utc)


ASSET = "3e1cd21131a94525be55acf65888bf46"
FORM = {"assets": [ASSET], "engine": "default", "destination": None, "batch_size": 2}
FORM_DAG = DAG("form", schedule=None, params=dict.fromkeys(FORM))


def test_what_an_engine_cannot_take_is_refused_before_anything_is_submitted(connection: str) -> None:
    anything = AllowedLocations()
    assert not planning.bad_sources(["a", "/m/b.mp4", "file:///m/b.mp4"], "ffmpeg", connection, anything)
    for engine in ("vod", None):
        bad = planning.bad_sources(["a", "/m/b.mp4", "c d"], engine, connection, anything)
        assert {asset: error.message for asset, error in bad.items()} == dict.fromkeys(
            ["/m/b.mp4", "c d"], "VOD extracts only from its own assets."
        )
        assert bad["/m/b.mp4"].asset == "/m/b.mp4"
    [error] = planning.bad_sources(["b.mp4"], "ffmpeg", connection, anything).values()
    assert "neither an asset id nor an absolute path" in error.message


def test_a_form_cannot_choose_another_connection(connection: str) -> None:
    ours, theirs = f"vod://{connection}/{ASSET}", f"vod://vod_b/{ASSET}"
    [(asset, error)] = planning.bad_sources(
        [ours, theirs], "ffmpeg", connection, AllowedLocations.from_locations([])
    ).items()
    assert asset == theirs
    assert "belongs to the connection vod_b" in error.message


def test_a_bad_line_of_a_form_costs_itself(connection: str, tmp_path: Path) -> None:
    good = str(tmp_path / "audio" / "a.mp4")
    form = {
        **FORM,
        "engine": "ffmpeg",
        "assets": [good, "b.mp4", "/etc/passwd", "https://h/a.mp4?sig=abcdef"],
    }
    plan = planning.plan_videos(form, FORM_DAG, DictStore())
    assert [batch["assets"] for batch in plan.batches] == [[good]]
    assert [failure.outcome for failure in plan.refused] == [
        "invalid_input",
        "location_not_allowed",
        "location_not_allowed",
    ]
    assert "abcdef" not in str(plan.refused)
    with pytest.raises(AirflowFailException, match=r"2 of 2 lines cannot be processed\. .*passwd.*shadow"):
        planning.plan_videos({**form, "assets": ["/etc/passwd", "/etc/shadow"]}, FORM_DAG, DictStore())


def test_audio_that_a_form_names_is_transcribed(connection: str, tmp_path: Path) -> None:
    params = {"audio": None, "model": "tiny.en", "force": False}
    dag = DAG("d", schedule=None, params=params)
    (tmp_path / "audio").mkdir()
    here = tmp_path / "audio" / "a b.mp3"
    record = ExtractedAudio(
        asset=ASSET,
        uri=f"vod://vod_default/{ASSET}",
        audio_format="MP3",
        codec="mp3",
        duration=1.0,
        size=1,
        engine="vod",
    )
    store = DictStore()
    register = Register(store, "task", {"n": 1}, settling=0.0)
    register.finish({ASSET: record.to_json()}, {})
    key = register.key(ASSET)
    ours, theirs = (f"vod://{name}/{'c' * 32}" for name in (connection, "vod_b"))
    lines = [str(here), f" {key} ", "", "/etc/passwd", "audio_" + 32 * "0", ASSET, ours, theirs]
    plan = planning.plan_audio({**params, "audio": lines}, dag, [], DictStore(), AssetStores(store))
    planned = [[one["uri"] for one in batch["audio"]] for batch in plan.batches]
    assert planned == [[here.as_uri()], [record.uri, ours]]
    assert plan.batches[0]["destination"] == (tmp_path / "audio").as_uri()
    assert planning.plan_audio(params, dag, [], DictStore()).batches == []
    refused = {failure.asset: failure.message for failure in plan.refused}
    assert refused.keys() == {"/etc/passwd", "audio_" + 32 * "0", ASSET, theirs}
    assert "belongs to the connection vod_b" in refused[theirs]
    assert "has no such audio" in refused["audio_" + 32 * "0"]
    with pytest.raises(AirflowFailException, match=r"/etc/passwd.*allowed_locations"):
        planning.plan_audio({**params, "audio": ["/etc/passwd"]}, dag, [], DictStore())


def test_a_form_becomes_batches_with_its_other_fields(connection: str) -> None:
    form = {**FORM, "assets": ["a", " b ", "", "c", "a"]}
    arguments = {"engine": None, "destination": None}
    assert planning.plan_videos(form, FORM_DAG, DictStore()).batches == [
        {**arguments, "assets": ["a", "b"]},
        {**arguments, "assets": ["c"]},
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"assets": [" "]}, "No assets were given"),
        ({"assets": [str(number) for number in range(2049)]}, "2049 assets are more than the 2048"),
        ({"assets": ["/etc/passwd"], "engine": "ffmpeg"}, r"/etc/passwd: .*\[vod\] allowed_locations"),
        ({"assets": ["FILE:///dev/zero"], "engine": "ffmpeg"}, "not allowed"),
        ({"assets": ["http://127.0.0.1:8080/"], "engine": "ffmpeg"}, "not allowed"),
        ({"assets": ["obs://admin@bucket/a.mp4"], "engine": "ffmpeg"}, "not allowed"),
        ({"assets": ["gopher://host/a.mp4"], "engine": "ffmpeg"}, "not allowed"),
        ({"destination": "/etc/cron.d"}, "not allowed"),
        ({"destination": "s3://other@bucket/audio"}, "not allowed"),
        ({"engne": "vod"}, "no field engne"),
    ],
)
def test_what_a_form_may_not_ask_for_is_refused_with_the_setting(
    connection: str, fields: dict[str, object], sentence: str
) -> None:
    store = DictStore()
    with pytest.raises(AirflowFailException, match=sentence):
        planning.plan_videos({**FORM, **fields}, FORM_DAG, store)
    assert not store.values


def test_a_form_may_name_the_connections_destination_and_what_the_setting_allows(
    connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = {"assets": [str(tmp_path / "audio" / "a.mp4")], "engine": "ffmpeg", "destination": None}
    assert planning.plan_videos({**FORM, **below}, FORM_DAG, DictStore())
    media = {"assets": ["/media/a.mp4"], "engine": "ffmpeg", "destination": str(tmp_path / "other")}
    with pytest.raises(AirflowFailException, match="not allowed"):
        planning.plan_videos({**FORM, **media}, FORM_DAG, DictStore())
    monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", f"/media, {tmp_path / 'other'}")
    assert planning.plan_videos({**FORM, **media}, FORM_DAG, DictStore())
    with pytest.raises(AirflowFailException, match="not allowed"):
        planning.plan_videos({**FORM, **below}, FORM_DAG, DictStore())


def test_without_any_destination_nothing_is_begun(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin))
    with pytest.raises(AirflowFailException, match="no destination for audio and transcripts"):
        planning.plan_videos(FORM, FORM_DAG, DictStore())
    without = {name: value for name, value in FORM.items() if name != "destination"}
    assert planning.plan_videos(without, FORM_DAG, DictStore()), "a form that has no such field needs none"


SPEAKING = DAG("speaking", schedule=None, params=dict.fromkeys([*FORM, "model", "language"]))


def plan_with_speech(
    monkeypatch: pytest.MonkeyPatch, store: DictStore, site: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Plan where *site* is ``[vod] speech``, and ``speech`` the connection of a server that recognises."""
    with running(server := Scripted()):
        monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps({"conn_type": "http", "host": server.address}))
        monkeypatch.setenv("AIRFLOW__VOD__SPEECH", json.dumps(site))
        planning.plan_videos({**FORM, "model": None, "language": None, **fields}, SPEAKING, store)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("site", "fields", "sentence"),
    [
        ({}, {"model": "huge"}, "no speech model 'huge'"),
        ({}, {"model": "/no/such/model"}, "/no/such/model"),
        ({}, {"model": "tiny.en", "language": "de"}, "knows only English"),
        ({}, {"model": "base", "language": "xx"}, "does not know the language 'xx'"),
        ({}, {"destination": "audio"}, "'audio' is not an absolute path"),
        ({"engine": "parrot"}, {}, "no engine 'parrot'"),
        ({"colour": "blue"}, {}, "no option 'colour'"),
        ({"channels": "center"}, {}, "cannot be 'center'"),
        ({"batch_size": -1}, {}, "batch_size .* cannot be '-1'"),
        ({"vad": {"threshold": 7}}, {}, r"vad\.threshold .* cannot be '7'"),
        ({"device": "tpu"}, {}, "'tpu' is unknown"),
        ({"vad": {"colour": 1}}, {}, "no option 'colour'"),
        ({"engine": "http"}, {}, "speech_conn_id"),
        ({"engine": "http", "speech_conn_id": "nowhere"}, {}, "'nowhere' is not defined"),
        ({"engine": "http", "speech_conn_id": "speech"}, {"model": "base"}, "It has: tiny.en, whisper-1"),
        (
            {"engine": "http", "speech_conn_id": "speech", "model": "whisper-1", "hotwords": "a"},
            {},
            "hotwords",
        ),
        ({"fallback": "parrot"}, {}, "'parrot' is unknown"),
        ({"fallback": {"engine": "http", "model": "whisper-1"}}, {"model": "tiny.en"}, "speech_conn_id"),
    ],
)
def test_speech_that_cannot_be_recognised_is_refused_before_the_extraction_is_paid_for(
    connection: str,
    monkeypatch: pytest.MonkeyPatch,
    site: dict[str, Any],
    fields: dict[str, Any],
    sentence: str,
) -> None:
    store = DictStore()
    with pytest.raises(AirflowFailException, match=sentence):
        plan_with_speech(monkeypatch, store, site, fields)
    assert not store.values


@pytest.mark.parametrize(("status", "sentence"), [(401, "does not accept the key"), (200, "")])
def test_a_speech_server_is_asked_before_the_extraction_is_paid_for(
    connection: str, monkeypatch: pytest.MonkeyPatch, status: int, sentence: str
) -> None:
    site = {"engine": "http", "model": "whisper-1", "speech_conn_id": "speech"}
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", json.dumps(site))
    with running(script := Scripted()):
        script.models = (status, {}, script.models[2])
        server = {"conn_type": "http", "host": script.address, "password": "sk-secret"}
        monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps(server))
        form = {**FORM, "model": None, "language": "de"}
        if not sentence:
            assert planning.plan_videos(form, SPEAKING, DictStore())
            return
        with pytest.raises(AirflowFailException, match=sentence) as caught:
            planning.plan_videos(form, SPEAKING, DictStore())
        assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "site",
    [
        {"model": "/gpu/models/ours"},
        {"model": "tiny.en", "device": "cuda"},
        {"model": "tiny.en", "compute_type": "float16"},
        {"model": "tiny.en", "memory_limit": 1},
        {"model": "large-v3", "models": "obs://nobody@bucket/models"},
    ],
)
def test_where_speech_has_workers_of_its_own_the_plan_loads_no_model(
    connection: str, monkeypatch: pytest.MonkeyPatch, site: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", json.dumps(site))
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH_QUEUE", "gpu")
    assert planning.plan_videos({**FORM, "model": None, "language": None}, SPEAKING, DictStore())


@pytest.mark.parametrize("site", [{"model": "/gpu/models/ours"}, {"model": "tiny.en", "memory_limit": 1}])
def test_where_speech_has_no_workers_of_its_own_the_plan_loads_the_model(
    connection: str, monkeypatch: pytest.MonkeyPatch, site: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", json.dumps(site))
    with pytest.raises(AirflowFailException, match=site["model"]):
        planning.plan_videos({**FORM, "model": None, "language": None}, SPEAKING, DictStore())


def test_where_speech_has_workers_of_its_own_they_convert_characters(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "_is_installed", lambda: False)
    form = {**FORM, "model": "base", "language": "zh-CN"}
    with pytest.raises(AirflowFailException, match="OpenCC is not installed"):
        planning.plan_videos(form, SPEAKING, DictStore())
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH_QUEUE", "gpu")
    assert planning.plan_videos(form, SPEAKING, DictStore())


@pytest.mark.parametrize(
    ("site", "fields", "sentence"),
    [
        ({"device": "tpu"}, {}, "'tpu' is unknown"),
        ({"vad": {"colour": 1}}, {}, "no option 'colour'"),
        ({"model": "tiny.en"}, {"language": "de"}, "knows only English"),
        ({"model": "org/small.en", "task": "translate"}, {}, "cannot translate"),
        ({"model": "large-v3"}, {"language": "xx"}, "does not know the language 'xx'"),
        ({"fallback": {"engine": "http", "model": "whisper-1"}}, {}, "speech_conn_id"),
        ({"engine": "http", "speech_conn_id": "speech", "model": "huge"}, {}, "It has: tiny.en, whisper-1"),
        (
            {"speech_conn_id": "speech", "fallback": {"engine": "http", "model": "huge"}},
            {},
            "It has: tiny.en, whisper-1",
        ),
    ],
)
def test_where_speech_has_workers_of_its_own_options_language_and_servers_are_still_checked(
    connection: str,
    monkeypatch: pytest.MonkeyPatch,
    site: dict[str, Any],
    fields: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH_QUEUE", "gpu")
    store = DictStore()
    with pytest.raises(AirflowFailException, match=sentence):
        plan_with_speech(monkeypatch, store, site, fields)
    assert not store.values


def audio(asset: str, uri: str, **more: Any) -> dict[str, Any]:
    """What an asset event says of extracted audio."""
    of_file = {"audio_format": "MP3", "codec": "mp3", "duration": 1.0, "size": 1, "engine": "vod"}
    return ExtractedAudio(asset=asset, uri=uri, **of_file, **more).to_json()


def plan_event(records: Any) -> list[dict[str, Any]]:
    dag = DAG("d", schedule=None, params={"model": "tiny.en", "force": False})
    event = SimpleNamespace(extra={"audio": records})
    return planning.plan_audio({"model": "tiny.en", "force": False}, dag, [event], DictStore()).batches


def test_audio_of_an_event_lies_where_it_may_be_read(connection: str, tmp_path: Path) -> None:
    here = (tmp_path / "audio" / "a.mp3").as_uri()
    good, in_vod = audio("a", here), audio("b", f"vod://vod_default/{ASSET}")
    planned = plan_event([good, in_vod])
    assert [batch["audio"] for batch in planned] == [[good], [in_vod]]
    assert {batch["model"] for batch in planned} == {"tiny.en"}
    elsewhere = "file:///etc/passwd"
    for bad in (audio("c", elsewhere), audio("c", here, speech_uri=elsewhere)):
        with pytest.raises(AirflowFailException, match="not allowed"):
            plan_event([good, bad])


@pytest.mark.parametrize(
    "records",
    [
        [{}],
        ["a"],
        [audio("a", 5)],
        [{"asset": "a", "outcome": "extracted"}],
        [{"outcome": "no", "asset": "a", "message": ""}],
        5,
    ],
)
def test_an_event_of_others_that_holds_no_audio_is_refused(connection: str, records: Any) -> None:
    """Whoever may write asset events can send any JSON."""
    with pytest.raises(
        AirflowFailException, match="The asset event does not hold records of extracted audio"
    ):
        plan_event(records)


def test_batches_hold_assets_with_the_same_arguments() -> None:
    german = {"audio_format": "MP3", "language": "de"}
    assets = {
        "a": {"audio_format": "MP3"},
        "b": german,
        "c": {"audio_format": "MP3"},
        "d": german,
        "e": german,
    }
    assert planning.batches(assets, DictStore(), size=2) == [
        {"audio_format": "MP3", "assets": ["a", "c"]},
        {"audio_format": "MP3", "language": "de", "assets": ["b", "d"]},
        {"audio_format": "MP3", "language": "de", "assets": ["e"]},
    ]


def test_planned_again_each_asset_stays_in_its_batch_and_new_ones_follow() -> None:
    store = DictStore()
    first = planning.batches(["b", "d", "f"], store, size=2)
    assert first == [{"assets": ["b", "d"]}, {"assets": ["f"]}]
    again = planning.batches(["a", "b", "e", "f"], store, size=2)
    assert again == [*first, {"assets": ["a", "e"]}], "also d stays: its batch may be at work on it"
    assert planning.batches([], store, size=2) == again
    assert planning.batches([], DictStore()) == []


def test_intervals_give_each_video_once_also_on_their_borders(standin: Standin, connection: str) -> None:
    hours = 3 * 24
    videos = standin.add_virtual(
        hours + 1, created_from=MIDNIGHT, created_to=MIDNIGHT + timedelta(hours=hours), title="one title"
    )
    standin.add_virtual(1, created_from=MIDNIGHT, created_to=MIDNIGHT, video_type="MP3")
    days = [MIDNIGHT + timedelta(days=number) for number in range(4)]
    found = [[*planning.new_videos(start, start + timedelta(days=1), connection)] for start in days]
    assert found == [videos[:24], videos[24:48], videos[48:72], videos[72:]]


def test_transcripts_go_beside_their_audio(tmp_path: Path, connection: str) -> None:
    x, y = (tmp_path / "x").as_uri(), (tmp_path / "y").as_uri()
    records = [
        audio("a", f"{x}/a.mp3"),
        audio("b", "vod://vod_default/1"),
        audio("c", f"{y}/c.mp3"),
        audio("a", f"{x}/a.mp3", title="again"),
        audio("d", f"{x}/d.mp3"),
    ]
    assert planning.audio_batches(records, DictStore()) == [
        {"destination": x, "audio": [records[3], records[4]]},
        {"destination": None, "audio": [records[1]]},
        {"destination": y, "audio": [records[2]]},
    ]


def test_no_batch_has_two_audios_of_an_asset(tmp_path: Path, connection: str) -> None:
    folder = (tmp_path / "x").as_uri()
    records = [
        audio("a", f"{folder}/a.de-64abc7dc.mp3"),
        audio("b", f"{folder}/b.mp3"),
        audio("a", f"{folder}/a.en-1c0f2b3d.mp3"),
        audio("b", "vod://vod_default/1"),
        audio("a", f"{folder}/a.mp3"),
    ]
    assert planning.audio_batches(records, DictStore()) == [
        {"destination": folder, "audio": [records[0], records[1]]},
        {"destination": folder, "audio": [records[2]]},
        {"destination": None, "audio": [records[3]]},
        {"destination": folder, "audio": [records[4]]},
    ]


def test_audio_is_left_out_if_the_transcript_that_it_would_get_is_there(
    tmp_path: Path, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audio").mkdir()
    sound = tmp_path / "audio" / "d.mp3"
    sound.write_bytes(b"sound")
    record = audio("d", sound.as_uri())
    other = audio("e", (tmp_path / "audio" / "e.mp3").as_uri())
    passages = [Passage(start=0.0, end=1.0)]
    monkeypatch.setattr(WhisperEngine, "check", lambda *_: None)
    monkeypatch.setattr(WhisperEngine, "passages", lambda *_, **__: iter(passages))

    def transcribe(**options: Any) -> None:
        operator = TranscribeAudioOperator(task_id="t", audio=record, captions="json", **options)
        operator.execute(context_of(DictStore()))

    def left_out(store: Any = None, **asked: Any) -> bool:
        batches = planning.audio_batches([record, other], store or DictStore(), **asked)
        return record not in [each for batch in batches for each in batch["audio"]]

    def differently(**options: Any) -> None:
        for path in tmp_path.glob("audio/*.json"):
            path.unlink()
        transcribe(**options)
        assert not left_out(), options

    for options in ({"options": {"channels": "left"}}, {"options": {"beam_size": 1}}, {"language": "de"}):
        differently(**options)
    differently(model="tiny.en")
    transcribe()
    assert left_out(store := DictStore())
    assert store.values[PLAN_KEY] == {"assets": 1, "before": 1}
    assert left_out(model="base")
    assert left_out(model="tiny.en"), "it is there as well"
    assert not left_out(force=True)
    assert not left_out(language="en")
    assert not left_out(model="/no/such/model"), "what cannot be known here is left to the transcription"
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", '{"channels": "left"}')
    assert not left_out()
    monkeypatch.delenv("AIRFLOW__VOD__SPEECH")
    assert left_out()
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", '{"models": "obs://nobody@bucket/models"}')
    assert not left_out(), "models cannot be fetched from there"
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH_QUEUE", "gpu")
    assert left_out(), "nor are they, for a worker that recognises nothing and has the model"
    assert not left_out(model="no-such-model")
    monkeypatch.delenv("AIRFLOW__VOD__SPEECH_QUEUE")
    monkeypatch.delenv("AIRFLOW__VOD__SPEECH")
    sound.write_bytes(b"of a changed video")
    assert not left_out()


def test_a_plan_that_airflow_cannot_map_is_refused_before_anything_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")
    store = DictStore()
    with pytest.raises(TooManyAssetsError, match="4 batches are more than the 3") as caught:
        planning.batches(["a", "b", "c", "d"], store, size=1)
    assert "larger batch size" in caught.value.remedy
    assert not store.values
    assert len(planning.batches(["a", "b", "c", "d"], store, size=2)) == 2


def test_a_hundred_thousand_assets_are_kept_and_read_in_small_pieces(run: Run) -> None:
    store = DictStore()
    planned = planning.batches([f"{number:032x}" for number in range(100_000)], store)
    assert len(json.dumps(planned)) > 3_600_000, "what each mapped task read before"
    references = run.plan(planned)
    assert max(map(len, run.values.values())) < 64_000
    assert max(len(json.dumps(value)) for value in store.values.values()) < 64_000
    assert len(json.dumps(references)) < 20_000
    for _ in range(7):  # Airflow resolves each argument of a task for itself
        assert parts.read(references[500]) == planned[500]
    assert sum(run.bytes_read) < 4_000


def test_long_urls_make_smaller_batches(run: Run) -> None:
    urls = [f"https://media.example/{'x' * 2000}/{number}.mp4" for number in range(150)]
    planned = planning.batches(urls, DictStore(), size=150)
    assert [url for batch in planned for url in batch["assets"]] == urls
    run.plan(planned)
    assert len(planned) == 7
    assert max(map(len, run.values.values())) < 64_000


def test_the_records_of_the_largest_batch_stay_below_64_kb() -> None:
    record = audio("f" * 32, f"vod://vod_default/{'f' * 32}", audio_asset_id="f" * 32, title="x" * 60)
    assert len(json.dumps([record] * forms.MAX_BATCH_SIZE)) < 64_000
