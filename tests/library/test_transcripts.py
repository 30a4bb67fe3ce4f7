"""Transcripts are found by their audio and what they were made of, and do not overwrite each other."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vod.library.transcripts import TranscriptFiles, find_transcripts, stem_of
from vod.locations import file_stem
from vod.records import ExtractedAudio
from vod.speech import Transcription
from vod.speech.passages import Passage
from vod.storage.destination import Destination

SPOKEN = Transcription(language="en", duration=3.0, model="base", segments=(), fingerprint="one")


def audio(asset: str, **more: Any) -> ExtractedAudio:
    of_file = {"audio_format": "MP3", "codec": "mp3", "duration": 3.2, "size": 1, "engine": "vod"}
    return ExtractedAudio(asset=asset, uri=f"file:///{asset}.mp3", **{**of_file, **more})


def test_the_transcript_of_an_audio_is_found(tmp_path: Path) -> None:
    here = Destination(str(tmp_path / "text"))
    assert find_transcripts(here, [audio("a")]) == {}, "there is no folder yet"
    files = TranscriptFiles(here, "a")
    text = files.write("a.en.txt", "hello")
    files.write("b.en.json", "{}")
    assert find_transcripts(here, [audio("a")]) == {}, "the transcript is still to come"
    files.put(files.name(SPOKEN, overwrite=False), SPOKEN, ())
    assert find_transcripts(here, [audio("a"), audio("b")]) == {"a": text}
    assert find_transcripts(here, [audio("a")], lambda _: "one") == {"a": text}
    for other in ("two", "", None):
        assert find_transcripts(here, [audio("a")], lambda _, other=other: other) == {}
    assert find_transcripts(here, [audio("c")], lambda record: pytest.fail("there is nothing of it")) == {}


def test_of_several_transcripts_the_one_of_the_audio_is_found(tmp_path: Path) -> None:
    here = Destination(str(tmp_path))
    files = TranscriptFiles(here, "a")
    dub = replace(SPOKEN, track=1, fingerprint="dub")
    main = replace(SPOKEN, language="zh", fingerprint="main")
    for each in (replace(SPOKEN, task="translate", fingerprint="translated"), dub):
        files.put(files.name(each, overwrite=False), each, ())
    assert find_transcripts(here, [audio("a")]) == {}, "a translation and a dub are none"
    for each in (main, replace(main, model="a", fingerprint="a")):
        files.put(files.name(each, overwrite=False), each, ())
    assert find_transcripts(here, [audio("a")]) == {"a": here.uri("a.zh.json")}, "not of another model"
    assert find_transcripts(here, [audio("a", track=1)]) == {"a": here.uri("a.en.json")}
    assert find_transcripts(here, [audio("a", track=2)]) == {}
    anew = replace(main, duration=60.0, fingerprint="anew")
    files.put(files.name(anew, overwrite=False), anew, ())
    assert find_transcripts(here, [audio("a", duration=60.1)]) == {"a": here.uri("a.zh.anew.json")}
    assert find_transcripts(here, [audio("a", duration=None)]) == {"a": here.uri("a.zh.json")}


def test_the_transcripts_of_unlike_audio_lie_side_by_side(tmp_path: Path) -> None:
    here = Destination(str(tmp_path))
    asset, plain = "/media/会议 1.mp4", file_stem("/media/会议 1.mp4")
    made = {
        stem: replace(audio(asset), uri=here.uri(f"{stem}.mp3"))
        for stem in (plain, f"{plain}.de-0a1b2c3d", f"{plain}.0a1b2c3d", f"{plain}.ffmpeg")
    }
    for stem, record in made.items():
        assert find_transcripts(here, [record]) == {}, "those of other audio are not its own"
        files = TranscriptFiles(here, stem_of(record))
        spoken = replace(SPOKEN, fingerprint=stem)
        name = files.name(spoken, overwrite=True)
        files.put(name, spoken, ())
        assert name == f"{stem}.en"
        assert files.find(stem) == (name, spoken)
    for stem, record in made.items():
        assert find_transcripts(here, [record]) == {asset: here.uri(f"{stem}.en.json")}
    assert stem_of(replace(audio("a"), uri="vod://vod_default/b")) == "a"


def different(**more: Any) -> Transcription:
    """Other than :data:`SPOKEN`, with a fingerprint of its own."""
    made = replace(SPOKEN, **more)
    return replace(made, fingerprint=hashlib.sha256(repr(made).encode()).hexdigest()[:16])


def test_transcripts_lie_side_by_side(tmp_path: Path) -> None:
    here = Destination(str(tmp_path))
    files = TranscriptFiles(here, "a")
    made = {
        "en": SPOKEN,
        "fr": different(language="fr", track=1),
        "en.track2": different(track=2),
        "en.left": different(channels="left"),
        "en.track2.right": different(track=2, channels="right"),
        "en.track2.small": different(track=2, model="small"),
        "en.translation": different(task="translate"),
        "en.translation.track1": different(task="translate", track=1),
        "en.large-v3": different(model="large-v3"),
        "en.large-v3.http": different(model="large-v3", engine="http", revision="a.example"),
        "en.large-v3.http.b.example_8000": different(
            model="large-v3", engine="http", revision="b.example:8000"
        ),
        "en.whisper-de": different(model="orgA/whisper-de"),
        "en.whisper-de.orgB": different(model="orgB/whisper-de"),
        "en.german": different(model="/models/v1/german/"),
        "en.german.v2": different(model="/models/v2/german"),
        "en.french": different(model="/models/french/"),
        "en.2024": different(revision="2024"),
        "a_b": different(language="a/b"),
        "x": different(language="../x"),
        "und": different(language=""),
    }
    for _ in range(2):  # the second time each finds its own
        for name, spoken in made.items():
            assert files.name(spoken, overwrite=False) == f"a.{name}"
            files.put(f"a.{name}", spoken, ())
    assert files.all() == {f"a.{name}": spoken for name, spoken in made.items()}
    assert files.find("one") == ("a.en", SPOKEN)
    assert files.find("two") is None
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path}


def test_nothing_is_overwritten_where_no_name_tells_the_difference(tmp_path: Path) -> None:
    files = TranscriptFiles(Destination(str(tmp_path)), "a")
    asked = {"zh": "zh-CN", "zh.TW": "zh-TW", "zh.Hant-HK": "zh_Hant_HK"}
    made = {name: different(language="zh", revision=name) for name in asked}
    made = {name: replace(spoken, revision="") for name, spoken in made.items()}
    for name, spoken in made.items():
        assert files.name(spoken, asked[name], overwrite=False) == f"a.{name}"
        files.put(f"a.{name}", spoken, ())
    for beam in "123":
        spoken = replace(SPOKEN, language="zh", fingerprint=beam)
        name = files.name(spoken, overwrite=False)
        assert name == f"a.zh.{beam}", "other options, or other audio"
        files.put(name, spoken, ())
    assert len(files.all()) == 6
    (tmp_path / "a.en.json").write_text('{"of": "somebody else"}')
    for overwrite in (False, True):
        assert files.name(SPOKEN, overwrite=overwrite) == "a.en.one"
    long = replace(SPOKEN, language="zh", model=f"org/{'m' * 500}", fingerprint="long")
    files.put(files.name(long, overwrite=False), long, ("txt",))


def test_what_is_overwritten_leaves_nothing_behind(tmp_path: Path) -> None:
    files = TranscriptFiles(Destination(str(tmp_path)), "a")
    files.put("a.en", SPOKEN, ("json", "txt", "vtt", "srt"))
    other = replace(SPOKEN, model="large-v3", fingerprint="two")
    (tmp_path / "a.en.mp3").write_text("no caption")
    assert files.name(other, overwrite=True) == "a.en"
    assert files.name(replace(other, track=2), overwrite=True) == "a.en.track2"
    kept = {files.put("a.en", SPOKEN, ())["json"]}
    assert files.name(other, overwrite=True, kept=kept) == "a.en.large-v3"
    assert files.name(SPOKEN, overwrite=True, kept=kept) == "a.en", "its own"
    uris = files.put("a.en", other, ("txt",))
    assert {*uris} == {"txt", "json"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.en.txt", "a.en.json", "a.en.mp3"}
    files.put("a.en", other, ("vtt",))
    assert (tmp_path / "a.en.txt").exists(), "another layout of the same transcript"


def test_what_was_heard_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    files = TranscriptFiles(Destination(str(tmp_path)), "a" * 32)
    passages = [Passage(start=0.0, end=600.5), Passage(start=600.5, end=1200.0, language="de")]
    files.keep("one", passages)
    assert files.heard("one") == passages
    assert files.heard("two") == []
    files.forget("one")
    files.forget("one")
    assert list(tmp_path.iterdir()) == []
