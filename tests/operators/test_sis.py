"""SIS hears, through the whole operator: ordered once, paid once, whatever dies or goes wrong in between."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from tests.conftest import DictStore, connection_json, context_of, first_event
from tests.operators.conftest import Context, Killed, extract
from vod.batch.outcomes import AssetsFailedError
from vod.cloud import session
from vod.cloud.client import VodClient
from vod.library.register import Register
from vod.library.transcripts import OrderNote, TranscriptFiles
from vod.locations import file_stem
from vod.operators import TranscribeAudioOperator
from vod.speech import Transcription
from vod.speech.engines import sis
from vod.speech.engines.sis import SisEngine
from vod.speech.errors import CancelledError
from vod.standin import Standin, faults
from vod.storage.errors import StorageError
from vod.triggers import SpeechOrdersTrigger

SIS = {"engine": "sis", "language": "zh-CN"}


@pytest.fixture
def orders(standin: Standin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """How many orders the stand-in accepted. It hears English: the model for that is small."""
    standin.settings.speech_model = "tiny.en"
    value = connection_json(standin, destination=str(tmp_path / "audio"), sis_endpoint=standin.url)
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", value)
    monkeypatch.setattr(sis, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(sis, "_LONGEST_PAUSE", 0.2)
    return lambda: len(list((standin.settings.data / "speech").glob("*.json")))


@pytest.fixture
def spoken(orders: Any, context: Context, client: VodClient, video: Path) -> list[dict[str, Any]]:
    """Audio that the stand-in recognises for real."""
    return extract(context, [client.upload(video)])


@pytest.fixture
def audio(spoken: list[dict[str, Any]], standin: Standin) -> list[dict[str, Any]]:
    """Audio in which the stand-in hears nothing: that takes no time."""
    standin.settings.virtual = True
    return spoken


def transcribe(
    audio: list[dict[str, Any]], store: DictStore | None = None, **options: Any
) -> list[dict[str, Any]]:
    return operator_of(audio, **options).execute(context_of(store or DictStore()))


def operator_of(audio: list[dict[str, Any]], **options: Any) -> TranscribeAudioOperator:
    arguments = {"options": SIS, "captions": "txt,srt", "deferrable": False, **options}
    return TranscribeAudioOperator(task_id="transcribe", audio=audio, **arguments)


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "audio").glob("*.order.jsonl")]


@pytest.mark.slow
def test_text_with_times_and_punctuation(
    spoken: list[dict[str, Any]], orders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [record] = transcribe(spoken)
    assert (record["outcome"], record["engine"], record["model"], record["language"]) == (
        "transcribed",
        "sis",
        "chinese_16k_media",
        "zh",
    )
    assert "video library" in record["text"]
    [path] = (tmp_path / "audio").glob("*.json")
    transcript = Transcription.from_json(path.read_text())
    words = [word for segment in transcript.segments for word in segment.words]
    assert len(words) > 5
    assert all(a.start <= b.start for a, b in pairwise(words))
    assert words[-1].end <= transcript.duration
    assert transcript.text.startswith("Welcome to the video library. Every film")
    [again] = transcribe(spoken)
    assert (again["reused"], orders()) == (True, 1)
    assert left(tmp_path) == []
    written = "".join(file.read_text(errors="replace") for file in (tmp_path / "audio").glob("*.*"))
    assert "Signature" not in caplog.text + json.dumps(record) + written


def test_a_killed_task_goes_on_with_its_order(
    audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DictStore()
    for _ in range(3):  # waiting may be killed as often as it likes
        with monkeypatch.context() as patch:
            patch.setattr(SisEngine, "result", _die)
            with pytest.raises(Killed):
                transcribe(audio, store)
    [record] = transcribe(audio, store)
    assert record["outcome"] == "transcribed"
    assert orders() == 1


def _die(*_: Any, **__: Any) -> None:
    raise Killed


def test_killed_between_acceptance_and_note(
    audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can find that order: it is given again, once, and the record says so."""
    write = OrderNote.write

    def dying(note: OrderNote, values: dict[str, Any]) -> None:
        if "job" in values:
            raise Killed
        write(note, values)

    store = DictStore()
    with monkeypatch.context() as patch:
        patch.setattr(OrderNote, "write", dying)
        with pytest.raises(Killed):
            transcribe(audio, store)
    [record] = transcribe(audio, store)
    assert (record["outcome"], orders()) == ("doubtful", 2)
    assert "twice" in record["warnings"][0]


@pytest.mark.parametrize("accepted", [True, False])
def test_a_lost_answer(
    standin: Standin, audio: list[dict[str, Any]], orders: Any, accepted: bool, tmp_path: Path
) -> None:
    standin.behaviour.faults = [faults.Drop(call="push_transcriber_jobs", accepted=accepted, count=1)]
    [record] = transcribe(audio)
    assert (record["outcome"], orders()) == ("doubtful", 1 + accepted)
    assert "twice" in record["warnings"][0]
    assert left(tmp_path) == []


def test_two_lost_answers_are_no_reason_for_a_third_order(
    standin: Standin, audio: list[dict[str, Any]], orders: Any
) -> None:
    standin.behaviour.faults = [faults.Drop(call="push_transcriber_jobs", accepted=True)]
    store = DictStore()
    for _ in range(2):  # a retry for the sake of another audio
        [failure] = transcribe(audio, store, failed_assets="return")
        assert (failure["outcome"], failure.get("retryable"), orders()) == ("speech_order_lost", None, 2)


def test_a_failed_order_says_why_and_is_not_paid_again(
    standin: Standin, audio: list[dict[str, Any]], orders: Any
) -> None:
    standin.behaviour.faults = [faults.Fail(call="speech", reason="no voice in it")]
    store = DictStore()
    for _ in range(2):
        [failure] = transcribe(audio, store, failed_assets="return")
        assert (failure["outcome"], orders()) == ("speech_order_failed", 1)
        assert "no voice in it" in failure["message"]
    standin.behaviour.faults = []
    [record] = transcribe(audio)
    assert record["outcome"] == "transcribed", "another task may order it"


def test_one_bad_audio_costs_only_itself(
    standin: Standin, orders: Any, context: Context, uploaded: list[str]
) -> None:
    audio = extract(context, uploaded)
    standin.settings.virtual = True
    bad = audio[1]["audio_asset_id"]
    audio[2]["duration"] = 5 * 3600 + 1.0
    standin.behaviour.faults = [faults.Fail(call="speech", asset=bad)]
    records = transcribe(audio, failed_assets="return")
    assert [record["outcome"] for record in records] == [
        "transcribed",
        "speech_order_failed",
        "audio_unsuitable",
    ]
    assert orders() == 2, "what SIS does not take is not ordered"


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"audio_format": "FLAC"}, "audio_unsuitable"),
        ({"size": 300 * 1024 * 1024 + 1}, "audio_unsuitable"),
        ({"duration": 0.001}, "audio_unsuitable"),
        ({"sample_rate": 8_000}, "audio_unsuitable"),
        ({"uri": "https://10.0.0.1/a.mp3"}, "audio_unreachable"),
    ],
)
def test_what_is_refused_before_it_is_paid(
    audio: list[dict[str, Any]], orders: Any, changed: dict[str, Any], outcome: str
) -> None:
    [failure] = transcribe([{**audio[0], **changed}], failed_assets="return")
    assert (failure["outcome"], orders()) == (outcome, 0)


def test_a_language_that_nobody_names_is_not_guessed(audio: list[dict[str, Any]], orders: Any) -> None:
    for record in (audio[0], {**audio[0], "language": "eng"}):
        [failure] = transcribe([record], options={"engine": "sis"}, failed_assets="return")
        assert failure["outcome"] == "language_mismatch"
    [record] = transcribe([{**audio[0], "language": "chi"}], options={"engine": "sis"})
    assert (record["outcome"], orders()) == ("transcribed", 1)


@pytest.mark.slow
def test_a_fallback_hears_what_sis_does_not(audio: list[dict[str, Any]], orders: Any) -> None:
    fallback = {"engine": "whisper", "model": "tiny.en", "language": "en"}
    [record] = transcribe([{**audio[0], "size": 10**9}], fallback=fallback)
    assert (record["model"], orders()) == ("tiny.en", 0)
    assert "[audio_unsuitable]" in record["fell_back"]


def test_silence_is_not_paid(audio: list[dict[str, Any]], orders: Any) -> None:
    [record] = transcribe([{**audio[0], "silent": True}])
    assert (record["text"], orders()) == ("", 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"language": "de"}, "only Chinese"),
        ({"model": "large-v3"}, "no model 'large-v3'"),
        ({"task": "translate"}, "'task'"),
        ({"hotwords": "VOD"}, "'hotwords'"),
        ({"channels": "split"}, "'channels'"),
    ],
)
def test_options_that_sis_does_not_have(
    audio: list[dict[str, Any]], orders: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(AirflowFailException, match=words):
        transcribe(audio, options={**SIS, **options})
    assert orders() == 0


def test_a_wrong_key_is_told_before_the_work(
    standin: Standin, audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(connection_json(standin, sis_endpoint=standin.url, destination="/tmp"))
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps({**value, "login": "NOBODY"}))
    with pytest.raises(AirflowFailException, match="SIS refuses the account"):
        transcribe(audio)


def test_a_quota_and_a_gateway_in_trouble_are_waited_for(
    standin: Standin, audio: list[dict[str, Any]], orders: Any
) -> None:
    standin.behaviour.faults = [
        faults.Throttle(call="push_transcriber_jobs", retry_after=1, count=1),
        faults.Error(call="collect_transcriber_job", status=503, count=2),
        faults.Truncate(call="collect_transcriber_job", count=1),
    ]
    [record] = transcribe(audio)
    assert (record["outcome"], orders(), "warnings" in record) == ("transcribed", 1, False)


def test_what_takes_too_long_stays_ordered(
    standin: Standin, audio: list[dict[str, Any]], orders: Any
) -> None:
    standin.behaviour.queue_seconds = 1.0
    store = DictStore()
    with pytest.raises(AssetsFailedError, match="in time"):
        transcribe(audio, store, options={**SIS, "time_limit": 0.01})
    [record] = transcribe(audio, store)
    assert (record["outcome"], orders()) == ("transcribed", 1)


def test_a_cancelled_wait_ends_and_the_order_stays(
    standin: Standin, audio: list[dict[str, Any]], orders: Any
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = operator_of(audio)
    ordered = SisEngine.result

    def cancelling(*arguments: Any) -> Any:
        operator.on_kill()
        return ordered(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SisEngine, "result", cancelling)
        with pytest.raises(CancelledError):
            operator.execute(context_of(DictStore()))
    standin.behaviour.queue_seconds = 0
    assert orders() == 1


def test_a_result_that_is_gone_is_not_bought_anew(
    standin: Standin, audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DictStore()
    with monkeypatch.context() as patch:
        patch.setattr(SisEngine, "result", _die)
        with pytest.raises(Killed):
            transcribe(audio, store)
    await_end(standin)  # which would write it again
    for job in (standin.settings.data / "speech").glob("*.json"):
        job.unlink()
    [failure] = transcribe(audio, store, failed_assets="return")
    assert (failure["outcome"], orders()) == ("speech_order_failed", 0)
    assert "72 hours" in failure["remedy"]


def states(standin: Standin) -> list[str]:
    """Of all orders."""
    jobs = (standin.settings.data / "speech").glob("*.json")
    return [json.loads(job.read_text())["answer"]["status"] for job in jobs]


def await_end(standin: Standin) -> None:
    """Of all orders."""
    while set(states(standin)) != {"FINISHED"}:
        time.sleep(0.01)


def deferred(operator: TranscribeAudioOperator, context: Context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    return caught.value


def test_waiting_holds_no_worker(
    standin: Standin, orders: Any, context: Context, uploaded: list[str], tmp_path: Path
) -> None:
    audio = extract(context, uploaded)
    standin.settings.virtual = True
    standin.behaviour.queue_seconds = 1.0
    context = context_of(DictStore())
    waiting = deferred(operator_of(audio, deferrable=True), context)
    assert waiting.method_name == "execute_complete"
    path, arguments = waiting.trigger.serialize()
    assert (path, len(arguments["jobs"])) == ("vod.triggers.SpeechOrdersTrigger", 3)
    assert "Signature" not in json.dumps(arguments)
    event = asyncio.run(first_event(SpeechOrdersTrigger(**arguments)))
    assert states(standin) == ["FINISHED"] * 3
    records = operator_of(audio, deferrable=True).execute_complete(context, event)
    assert ([record["outcome"] for record in records], orders()) == (["transcribed"] * 3, 3)
    again = operator_of(audio, deferrable=True).execute(context_of(DictStore()))
    assert [record["reused"] for record in again] == [True] * 3, "with nothing to wait for it does not wait"
    assert left(tmp_path) == []


def test_what_dies_while_it_waits_elsewhere_goes_on(
    standin: Standin, audio: list[dict[str, Any]], orders: Any
) -> None:
    standin.behaviour.queue_seconds = 0.5
    context = context_of(DictStore())
    first = deferred(operator_of(audio, deferrable=True), context)
    second = deferred(operator_of(audio, deferrable=True), context)
    assert first.trigger.serialize()[1]["jobs"] == second.trigger.serialize()[1]["jobs"]
    event = asyncio.run(first_event(second.trigger))
    [record] = operator_of(audio, deferrable=True).execute_complete(context, event)
    assert (record["outcome"], orders()) == ("transcribed", 1)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["options", "execution_timeout"])
def test_the_time_to_wait_elsewhere_ends(
    standin: Standin, audio: list[dict[str, Any]], orders: Any, limit: str
) -> None:
    standin.behaviour.queue_seconds = 4
    options: dict[str, Any] = {"deferrable": True}
    if limit == "options":
        options["options"] = {**SIS, "time_limit": 0.5}
    else:
        options["execution_timeout"] = timedelta(seconds=0.5)
    context = context_of(DictStore())
    waiting = deferred(operator_of(audio, **options), context)
    event = asyncio.run(first_event(waiting.trigger))
    with pytest.raises(AssetsFailedError, match="in time"):
        operator_of(audio, **options).execute_complete(context, event)
    await_end(standin)
    [record] = transcribe(audio, context["task_state_store"], options=options.get("options", SIS))
    assert (record["outcome"], orders()) == ("transcribed", 1), "the next try waits on"


def test_trouble_while_it_waits_elsewhere(
    standin: Standin, audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(DictStore())
    waiting = deferred(operator_of(audio, deferrable=True), context)
    monkeypatch.setattr(session, "_backoff", lambda _: 0.0)
    standin.behaviour.faults = [
        faults.Error(call="collect_transcriber_job", status=503, count=6),  # a call asks five times
        faults.Truncate(call="collect_transcriber_job", count=1),
    ]
    event = asyncio.run(first_event(waiting.trigger))
    [record] = operator_of(audio, deferrable=True).execute_complete(context, event)
    assert (record["outcome"], orders()) == ("transcribed", 1)
    value = json.loads(connection_json(standin, sis_endpoint=standin.url, destination="/tmp"))
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps({**value, "login": "NOBODY"}))
    asyncio.run(first_event(waiting.trigger))  # a key that is refused is told by the task
    with pytest.raises(AirflowFailException, match="SIS refuses the account"):
        operator_of(audio, deferrable=True).execute_complete(context, event)


def test_of_tasks_that_want_the_same_text_at_once_one_orders(
    standin: Standin, orders: Any, context: Context, uploaded: list[str]
) -> None:
    audio = extract(context, uploaded)
    standin.settings.virtual = True
    register = DictStore()

    def hear(number: int) -> list[str]:
        context = context_of(DictStore(), register, run_id=f"run {number}")
        return [record["outcome"] for record in operator_of(audio).execute(context)]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(hear, range(6))) == [["transcribed"] * 3] * 6
    assert orders() == 3
    assert [key for key in register.values if key.startswith(("order_", "alive_"))] == []


def test_a_store_that_does_not_answer_for_one_audio_costs_only_that(
    standin: Standin, orders: Any, context: Context, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = extract(context, uploaded)
    standin.settings.virtual = True
    find = TranscriptFiles.find

    def unreadable(files: TranscriptFiles, fingerprint: str) -> Any:
        if files._stem == file_stem(uploaded[1]):
            raise StorageError("The store does not answer.")
        return find(files, fingerprint)

    monkeypatch.setattr(TranscriptFiles, "find", unreadable)
    records = transcribe(audio, failed_assets="return")
    assert [record["outcome"] for record in records] == ["transcribed", "storage", "transcribed"]
    assert orders() == 2


def test_a_text_that_another_task_finishes_meanwhile_is_not_ordered_again(
    audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe(audio)
    find, looks = TranscriptFiles.find, []

    def late(files: TranscriptFiles, fingerprint: str) -> Any:
        looks.append(fingerprint)  # both first looks: of the batch, and of the audio itself
        return None if len(looks) in (1, 3) else find(files, fingerprint)

    monkeypatch.setattr(TranscriptFiles, "find", late)
    [record] = transcribe(audio)
    assert (record["outcome"], orders()) == ("transcribed", 1)


@pytest.mark.slow
def test_a_task_that_died_while_it_ordered_holds_up_the_others_for_its_lease(
    standin: Standin, audio: list[dict[str, Any]], orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__CLAIM_LEASE", "4")
    register = DictStore()
    with monkeypatch.context() as patch:
        patch.setattr(SisEngine, "order", _die)
        patch.setattr(Register, "drop", _die)  # as if the machine were gone
        patch.setattr(Register, "leave", _die)
        with pytest.raises(Killed):
            operator_of(audio).execute(context_of(DictStore(), register, run_id="dead"))
    [record] = operator_of(audio).execute(context_of(DictStore(), register, run_id="alive"))
    assert (record["outcome"], orders()) == ("transcribed", 1)


def test_a_region_without_the_model(standin: Standin) -> None:
    from vod.cloud.settings import ServiceSettings
    from vod.cloud.signing import Credentials
    from vod.errors import InvalidInputError
    from vod.speech import SpeechOptions

    service = ServiceSettings(
        endpoint=standin.url, project_id="p", credentials=Credentials(ak="a", sk="b"), region="ap-southeast-3"
    )
    with pytest.raises(InvalidInputError, match="not in ap-southeast-3"):
        SisEngine(service, standin.url).check(SpeechOptions(engine="sis"))
