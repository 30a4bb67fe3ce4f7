"""The stand-in extracts for real, a bounded number at a time, and goes on after a restart."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from vod.media import probe
from vod.standin import running
from vod.standin.extraction import Extractor
from vod.standin.library import Library


@pytest.fixture
def source(vod, media):
    return vod.standin.add(media / "clip.mp4")


@pytest.mark.parametrize(
    ("audio_format", "codec", "extension"), [("MP3", "mp3", ".mp3"), ("AAC", "aac", ".m4a")]
)
def test_the_audio_is_real(vod, source, tmp_path, audio_format, codec, extension):
    audio = vod.extract(source, audio_format)
    element = vod.wait(audio, "CREATED", "TRANSCODE_FAILED")
    assert element["description"] == ""
    base = vod.details(audio)["base_info"]
    assert (base["video_name"], base["video_type"]) == (f"clip{extension}", audio_format)
    file = tmp_path / "audio"
    file.write_bytes(httpx.get(base["sign_url"]).raise_for_status().content)
    info = probe(file)
    assert [track.codec for track in info.audio] == [codec]
    assert info.video is None
    assert info.duration == pytest.approx(1, abs=0.2)
    meta = base["meta_data"]
    assert (meta["codec"], meta["video_size"]) == (audio_format, file.stat().st_size)
    assert meta["duration_ms"] == pytest.approx(1000, abs=200)


def test_the_states_on_the_way(vod, source):
    behaviour = vod.standin.behaviour
    behaviour.queue_seconds = behaviour.running_seconds = 3600
    audio = vod.extract(source)
    [queued] = vod.info(audio)
    assert queued["status"] == "WAITING_TRANSCODE"
    behaviour.queue_seconds = 0
    running_ = vod.wait(audio, "TRANSCODING")
    assert "video_url" not in running_["base_info"]
    assert "meta_data" not in running_["base_info"]
    assert vod.details(audio)["base_info"]["sign_url"] == ""
    behaviour.running_seconds = 0
    ready = vod.wait(audio, "CREATED")
    assert ready["base_info"]["video_url"]
    assert vod.status(source) == "PUBLISHED"


@pytest.mark.parametrize("final_status", ["CREATED", "TRANSCODE_SUCCEED", "PUBLISHED"])
def test_the_state_at_the_end_can_be_chosen(vod, source, final_status):
    vod.standin.behaviour.final_status = final_status
    vod.wait(vod.extract(source), final_status)


@pytest.mark.parametrize(
    ("file", "reason"), [("silent.mp4", "no audio track"), ("garbage.mp4", "not a video")]
)
def test_a_source_without_audio_fails_with_the_reason(vod, media, file, reason):
    source = vod.standin.add(media / file)
    assert vod.status(source) == "PUBLISHED"
    audio = vod.extract(source)
    failed = vod.wait(audio, "TRANSCODE_FAILED", "CREATED")
    assert failed["status"] == "TRANSCODE_FAILED"
    assert reason in failed["description"]
    assert str(vod.standin.settings.data) not in failed["description"]
    assert "video_url" not in failed["base_info"]
    [listed] = vod.get("/list", asset_id=audio).json()["assets"]
    assert listed["transcode_status"] == "TRANSCODE_FAILED"
    assert reason in listed["exec_desc"]


# --- peculiarities: Section 5.3: what a poller must live with.


def test_not_visible_at_first(vod, source):
    vod.standin.behaviour.no_asset_polls = 2
    vod.standin.behaviour.missing_polls = 1
    audio = vod.extract(source)
    polls = [vod.info(audio) for _ in range(4)]
    assert [element["status"] for poll in polls[:2] for element in poll] == ["NO_ASSET", "NO_ASSET"]
    assert polls[2] == []
    assert polls[3][0]["status"] in ("WAITING_TRANSCODE", "TRANSCODING", "CREATED")


def test_sources_are_always_visible(vod, source):
    vod.standin.behaviour.no_asset_polls = 2
    assert vod.status(source) == "PUBLISHED"


def test_ready_without_a_url(vod, source):
    audio = vod.extract(source)
    vod.wait(audio, "CREATED")
    vod.standin.behaviour.urlless_polls = 2
    polls = [vod.info(audio)[0] for _ in range(3)]
    assert {poll["status"] for poll in polls} == {"CREATED"}
    assert ["video_url" in poll["base_info"] for poll in polls] == [False, False, True]


def test_no_more_at_a_time_than_workers(vod, source):
    vod.standin.behaviour.running_seconds = 0.2
    audios = [vod.extract(source) for _ in range(5)]
    for audio in audios:
        vod.wait(audio, "CREATED")
    assert vod.stats()["peak_parallel_extractions"] == 2


def test_a_fault_of_its_own_does_not_stop_the_others(vod, source, monkeypatch, caplog):
    def broken(_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(vod.standin._extractor, "_ended", broken)
        vod.wait(vod.extract(source), "CREATED")
        vod.wait(vod.extract(source), "CREATED")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    vod.wait(vod.extract(source), "CREATED")


def test_the_queue_and_the_library_survive_a_restart(settings, media, connect):
    settings.behaviour.queue_seconds = 3600
    with running(settings) as standin, connect(standin) as vod:
        source = standin.add(media / "clip.mp4")
        audio, cancelled = vod.extract(source), vod.extract(source)
        vod.delete("/extract_audio", asset_id=cancelled)
        title = vod.info(source)[0]["base_info"]["title"]
    settings.behaviour.queue_seconds = 0
    with running(settings) as standin, connect(standin) as vod:
        assert vod.info(source)[0]["base_info"]["title"] == title
        vod.wait(audio, "CREATED")
        assert vod.status(cancelled) == "CANCELLED"
        assert vod.stats()["submissions"] == {source: 2}


def test_the_log_has_one_line_for_each_change_and_no_secret(vod, source, caplog):
    with caplog.at_level("DEBUG"):
        audio = vod.extract(source)
        vod.wait(audio, "CREATED")
        url = vod.details(audio)["base_info"]["sign_url"]
        httpx.get(url)
    lines = [
        record.getMessage() for record in caplog.records if record.name.startswith(("vod.standin", "uvicorn"))
    ]
    assert lines == [
        f"asset {audio}: new -> WAITING_TRANSCODE",
        f"asset {audio}: WAITING_TRANSCODE -> TRANSCODING",
        f"asset {audio}: TRANSCODING -> CREATED",
    ]


@pytest.mark.parametrize("steps", range(6))
def test_it_stops_also_in_the_moment_when_something_changes(settings, steps):
    """In Python before 3.12, ``asyncio.wait_for`` swallows a cancellation that comes then."""

    async def start_and_stop():
        library = Library(settings.data)
        extractor = Extractor(library, settings, ended=lambda _: None)
        extractor.start()
        await asyncio.sleep(0.01)
        extractor._changed.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        stopping = asyncio.create_task(extractor.stop())
        done, _ = await asyncio.wait([stopping], timeout=3)
        library.close()
        extractor._dispatcher.cancel()
        return bool(done)

    assert asyncio.run(start_and_stop())
