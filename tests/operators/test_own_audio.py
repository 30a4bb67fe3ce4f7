"""Each run gets the text of its own audio, whatever other runs want of the same video."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SAMPLES, DictStore, context_of, word_error_rate
from tests.operators.conftest import extract
from vod import media
from vod.hooks import VodHook
from vod.library.known_audio import KnownAudio, Wanted
from vod.locations import local_path
from vod.operators import TranscribeAudioOperator
from vod.storage.destination import Destination


@pytest.fixture
def bilingual(tmp_path: Path) -> Path:
    """One video of two languages: English is what library.mp4 says, German is marked what lake.mov says."""
    source = tmp_path / "two.mkv"
    command = [str(media.find_ffmpeg()), "-v", "error"]
    command += ["-i", str(SAMPLES / "library.mp4"), "-i", str(SAMPLES / "lake.mov")]
    command += ["-map", "0:a", "-map", "1:a", "-map", "0:v", "-c:v", "copy", "-c:a", "aac"]
    command += ["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger", str(source)]
    subprocess.run(command, check=True)
    return source


def test_a_later_run_with_another_language_leaves_the_first_its_audio_and_text(
    connection: str, bilingual: Path, samples: dict[str, str], tmp_path: Path
) -> None:
    register, out = DictStore(), tmp_path / "out"

    def run(language: str) -> list[dict[str, Any]]:
        context = context_of(DictStore(), register, run_id=language)
        return extract(context, str(bilingual), engine="ffmpeg", destination=str(out), language=language)

    def transcribe(audio: list[dict[str, Any]], run_id: str) -> dict[str, Any]:
        operator = TranscribeAudioOperator(
            task_id="transcribe", audio=audio, model="tiny.en", destination=str(out), overwrite=True
        )
        return operator.execute(context_of(DictStore(), register, run_id=run_id))[0]

    english, german = run("en"), run("de")
    texts = {"library.mp4": transcribe(english, "en"), "lake.mov": transcribe(german, "de")}
    for name, transcript in texts.items():
        assert word_error_rate(transcript["text"], samples[name]) < 0.2
        text = local_path(transcript["uris"]["txt"])
        assert text
        assert text.read_text().split() == transcript["text"].split(), "neither took the other's place"
    known = KnownAudio(register, VodHook(connection), "ffmpeg", Destination(str(out)))
    for language, [record] in (("en", english), ("de", german)):
        wanted = Wanted(asset=str(bilingual), audio_format="MP3", options=(("language", language),))
        assert [each.uri for each in known.find([wanted]).done.values()] == [record["uri"]]
    assert run("ger")[0]["uri"] == german[0]["uri"]
