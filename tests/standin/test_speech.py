"""The stand-in's SIS, judged by the vendor's own client: real Chinese words, and refusals by the contract."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdksis.v1 import (
    CollectTranscriberJobRequest,
    PostTranscriberJobs,
    PushTranscriberJobsRequest,
    SisClient,
    TranscriberConfig,
)

from vod.media import find_ffmpeg
from vod.standin import faults, running
from vod.standin.speech import MODELS


@pytest.fixture
def client(standin):
    known = standin.settings
    credentials = BasicCredentials(known.access_key, known.secret_key, known.project_id)
    return SisClient.new_builder().with_credentials(credentials).with_endpoint(standin.url).build()


@pytest.fixture
def sound(tmp_path):
    """A WAV in which nobody speaks."""
    target = tmp_path / "tone.wav"
    tone = ["-f", "lavfi", "-i", "sine=d=1:r=16000"]
    subprocess.run([find_ffmpeg(), "-v", "error", *tone, str(target)], check=True)
    return target


def url_of(vod, asset):
    return vod.get("/details", asset_id=asset).json()["base_info"]["sign_url"]


def push(client, url, **config):
    config = {"audio_format": "auto", "_property": "chinese_16k_media", **config}
    body = PostTranscriberJobs(config=TranscriberConfig(**config), data_url=url)
    return client.push_transcriber_jobs(PushTranscriberJobsRequest(body=body)).job_id


def collect(client, job):
    return client.collect_transcriber_job(CollectTranscriberJobRequest(job_id=job))


def finished(client, job, wait_until):
    wait_until(lambda: collect(client, job).status != "WAITING")
    return collect(client, job)


def refusal(client, url, **config):
    with pytest.raises(ClientRequestException) as refused:
        push(client, url, **config)
    assert (refused.value.status_code, refused.value.error_code[:4]) == (400, "SIS.")
    return refused.value.error_msg


def test_a_job_from_begin_to_end(client, standin, vod, sound, wait_until):
    standin.settings.speech_model = "tiny.en"
    standin.behaviour.queue_seconds = 0.3
    job = push(client, url_of(vod, standin.add(sound)), need_word_info="yes", add_punc="yes")
    assert collect(client, job).status == "WAITING"
    done = finished(client, job, wait_until)
    assert (done.status, done.audio_duration, done.segments) == ("FINISHED", 1000, [])
    assert datetime.fromisoformat(done.create_time) <= datetime.fromisoformat(done.finish_time)


@pytest.mark.slow
def test_words_have_times_and_punctuation_is_asked_for(client, standin, vod, wait_until):
    sample = Path(__file__).parents[2] / "samples" / "library.mp4"
    standin.settings.speech_model = "tiny.en"
    url = url_of(vod, vod.wait(vod.extract(standin.add(sample)), "CREATED")["asset_id"])
    plain = finished(client, push(client, url), wait_until)
    assert plain.segments[0].result.word_info is None
    assert "." not in "".join(segment.result.text for segment in plain.segments)
    job = push(client, url, need_word_info="yes", add_punc="yes")
    for segment in finished(client, job, wait_until).segments:
        words = segment.result.word_info
        assert segment.start_time == words[0].start_time
        assert segment.end_time == words[-1].end_time
        assert "".join(word.word for word in words) == "".join(segment.result.text.replace(".", "").split())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"audio_format": "pcm16k16bit"}, "no other audio_format"),
        ({"_property": "english_16k_media"}, "property"),
        ({"add_punc": "maybe"}, "add_punc"),
        ({"callback_url": "http://10.0.0.1/x"}, "IP address"),
        ({"callback_url": "http://host.example/x"}, "no callbacks"),
        ({"vocabulary_id": "x"}, "no vocabulary_id"),
    ],
)
def test_refused_configurations(client, standin, vod, sound, config, words):
    assert words in refusal(client, url_of(vod, standin.add(sound)), **config)


def test_refused_addresses(client, standin, vod, sound, media):
    good = url_of(vod, standin.add(sound))
    assert "format" in refusal(client, url_of(vod, standin.add(media / "clip.mp4")))
    assert "signature" in refusal(client, good[:-4] + "AAAA")
    assert "signature" in refusal(client, good.partition("?")[0])
    assert "IP address" in refusal(client, "https://10.0.0.1/a.wav")
    assert "own storage" in refusal(client, "https://host.example/a.wav")
    assert "data_url" in refusal(client, "ftp://host.example/a.wav")


def test_without_a_model_it_says_so(client, standin, vod, sound):
    standin.settings.speech_model = "nobody-has-this"
    assert "no speech model 'nobody-has-this'" in refusal(client, url_of(vod, standin.add(sound)))


def test_a_model_for_another_rate_ends_in_error(client, standin, vod, sound, wait_until):
    job = push(client, url_of(vod, standin.add(sound)), _property="chinese_8k_common")
    assert finished(client, job, wait_until).status == "ERROR"


def test_an_unknown_job(client):
    with pytest.raises(ClientRequestException, match="task id is not found"):
        collect(client, "0" * 8)


def test_a_wrong_key(standin):
    credentials = BasicCredentials("NOBODY", "secret", standin.settings.project_id)
    stranger = SisClient.new_builder().with_credentials(credentials).with_endpoint(standin.url).build()
    with pytest.raises(ClientRequestException) as refused:
        collect(stranger, "0" * 8)
    assert refused.value.status_code == 401


def test_jobs_outlive_a_restart(settings, connect, sound, wait_until):
    settings.virtual = True
    settings.behaviour.queue_seconds = 30
    body = {"config": {"audio_format": "auto", "property": MODELS[0]}}
    with running(settings) as standin, connect(standin) as vod:
        jobs = f"/v1/{vod.project}/asr/transcriber/jobs"
        body["data_url"] = url_of(vod, standin.add(sound))
        job = vod.http.post(standin.url + jobs, json=body).json()["job_id"]
    settings.behaviour.queue_seconds = 0
    with running(settings) as standin, connect(standin) as vod:
        wait_until(lambda: vod.http.get(f"{standin.url}{jobs}/{job}").json()["status"] == "FINISHED")


def test_a_result_ends_after_72_hours(client, standin, vod, sound, wait_until):
    standin.settings.virtual = True
    job = push(client, url_of(vod, standin.add(sound)))
    finished(client, job, wait_until)
    [file] = (standin.settings.data / "speech").glob("*.json")
    kept = json.loads(file.read_text())
    assert kept["until"] - time.time() == pytest.approx(72 * 3600, abs=60)
    file.write_text(json.dumps({**kept, "until": time.time()}))
    with pytest.raises(ClientRequestException, match="task id is not found"):
        collect(client, job)


def test_an_outage_is_passed_on(client, standin, vod, sound):
    standin.behaviour.faults = [faults.Refuse(call="push_transcriber_jobs", code="VOD.10120", status=403)]
    with pytest.raises(ClientRequestException) as refused:
        push(client, url_of(vod, standin.add(sound)))
    assert refused.value.error_code == "VOD.10120"


def test_a_stand_in_loads_no_recogniser():
    """Only a job does: the stand-in starts fast."""
    code = "import sys, vod.standin; sys.exit('faster_whisper' in sys.modules or 'vod.speech' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
