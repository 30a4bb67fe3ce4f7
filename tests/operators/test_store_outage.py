"""A store that is out of reach costs no asset for good, and is noticed before anything is submitted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import DictStore, context_of, stats
from tests.object_store import BUCKET, ObjectStore, running_store
from tests.operators.conftest import Context, extract
from vod import media
from vod.batch.outcomes import AssetsFailedError
from vod.engines import ffmpeg as ffmpeg_engine
from vod.operators import TranscribeAudioOperator
from vod.speech.engines.whisper import WhisperEngine
from vod.standin import Standin
from vod.storage.destination import Destination
from vod.storage.errors import StorageError

HERE = f"obs://obs_outage@{BUCKET}/audio"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the library's own patience is not what is tested
    with running_store() as store:
        store.connect(monkeypatch, "obs_outage")
        yield store


@pytest.mark.quick(2)
@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
def test_nothing_is_begun_while_the_destination_is_out_of_reach(
    connection: str, uploaded: list[str], standin: Standin, store: ObjectStore, engine: str
) -> None:
    task = DictStore()
    with store.down(), pytest.raises(StorageError, match=HERE):
        extract(context_of(task), uploaded, engine=engine, destination=HERE)
    assert stats(standin)["submissions"] == {}
    records = extract(context_of(task), uploaded, engine=engine, destination=HERE)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert len(store.sizes("audio/")) == 3


@pytest.mark.parametrize(
    "where", [f"obs://obs_outage@no-such-bucket/{'a' * 8}", "/proc/vod-audio", "gs://media/audio"]
)
def test_a_destination_that_cannot_be_fails_at_once_and_before_anything_is_submitted(
    connection: str, context: Context, uploaded: list[str], standin: Standin, store: ObjectStore, where: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        extract(context, uploaded, destination=where)
    assert where in str(caught.value)
    assert stats(standin)["submissions"] == {}


def test_the_destination_is_checked_once_a_task(
    connection: str, context: Context, uploaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = Destination.check

    def noted(destination: Destination) -> None:
        checked.append(destination.uri(""))
        check(destination)

    monkeypatch.setattr(Destination, "check", noted)
    extract(context, uploaded, destination=str(tmp_path / "out"), fallback="ffmpeg", deferrable=False)
    assert len(checked) == 1


@pytest.mark.quick(1)
def test_an_outage_while_ffmpeg_extracts_loses_nothing(
    video: Path, tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, assets = DictStore(), []
    for number in range(8):
        assets.append(str(tmp_path / f"{number}.mp4"))
        Path(assets[-1]).write_bytes(video.read_bytes())
    options = {"engine": "ffmpeg", "destination": HERE, "options": {"processes": 2}}
    real, begun = media.extract_all, 0

    def extract_all(*arguments: Any, **named: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == 4:
            store.stop()
        return real(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "extract_all", extract_all)
        with pytest.raises(AssetsFailedError) as caught:
            extract(context_of(task, max_tries=3), assets, **options)
    failures = caught.value.failures
    assert 0 < len(failures) < 8
    assert all(failure.retryable and failure.remedy for failure in failures), failures
    store.start()
    whole = set(store.sizes("audio/"))  # also what the store had taken when its answer was lost
    uploads: list[str] = []
    upload = Destination._upload

    def noted(destination: Destination, file: Path) -> None:
        uploads.append(file.name)
        upload(destination, file)

    monkeypatch.setattr(Destination, "_upload", noted)
    records = extract(context_of(task, try_number=2, max_tries=3), assets, **options)
    assert [record["outcome"] for record in records] == ["extracted"] * 8
    assert whole | {f"audio/{name}" for name in uploads} == set(store.sizes("audio/"))
    assert len(whole) + len(uploads) == 8, "what was whole is not done again"


def test_an_unknown_exception_of_ffmpeg_is_a_reason_to_try_again(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("https://bucket/a?Signature=0123")

    task, options = DictStore(), {"engine": "ffmpeg", "destination": str(tmp_path / "out")}
    with monkeypatch.context() as patch:
        patch.setattr(ffmpeg_engine.media, "extract_all", fail)
        with pytest.raises(AssetsFailedError, match="RuntimeError in the extraction") as caught:
            extract(context_of(task, max_tries=1), [str(video)], **options)
    assert caught.value.retryable
    assert "Signature" not in str(caught.value)
    [record] = extract(context_of(task, try_number=2, max_tries=1), [str(video)], **options)
    assert record["outcome"] == "extracted"


@pytest.mark.slow
def test_an_outage_while_transcribing_loses_nothing(
    video: Path, tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [str(video), str(video.parent / "lake.mov")]
    audio = extract(context_of(DictStore()), videos, engine="ffmpeg", destination=HERE)
    recognise, names = WhisperEngine.passages, []
    task = DictStore()

    def noted(engine: WhisperEngine, path: Path, options: Any, **more: Any) -> Any:
        names.append(path.name)
        if len(names) == 2:
            store.stop()
        return recognise(engine, path, options, **more)

    monkeypatch.setattr(WhisperEngine, "passages", noted)

    def transcribe(try_number: int) -> list[dict[str, Any]]:
        operator = TranscribeAudioOperator(
            task_id="transcribe", audio=audio, model="tiny.en", destination=f"{HERE}/text"
        )
        return operator.execute(context_of(task, try_number=try_number, max_tries=3))

    with pytest.raises(AssetsFailedError) as caught:
        transcribe(1)
    [failure] = caught.value.failures
    assert failure.retryable
    assert failure.outcome == "storage"
    with pytest.raises(StorageError):
        transcribe(2)
    store.start()
    assert [record["outcome"] for record in transcribe(3)] == ["transcribed"] * 2
    assert len(names) == 3, "the first is not transcribed again"
    assert len(store.sizes("audio/text/")) == 8, "four files each, and no part"
