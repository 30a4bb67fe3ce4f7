"""The register knows what became of the text of each audio, and why the last try got no audio."""

from __future__ import annotations

import json

import pytest

from tests.conftest import DictStore
from vod.library.register import STATES, Register, ffmpeg_inputs, vod_inputs
from vod.library.texts import Texts, text_key
from vod.records import AssetFailure, ExtractedAudio, Transcript

FAILURE = AssetFailure(asset="a", outcome="loud", message="Too loud.", retryable=True).to_json()


def audio(entry: str) -> ExtractedAudio:
    return ExtractedAudio(
        asset="a",
        uri="file:///a.mp3",
        audio_format="MP3",
        codec="mp3",
        duration=1.0,
        size=1,
        engine="ffmpeg",
        title='A "Title"',
        entry=entry,
    )


def test_a_text_has_an_entry_beside_that_of_its_audio() -> None:
    store = DictStore()
    texts, of = Texts(store), audio("audio_" + "1" * 32)
    key = "text_" + "1" * 32
    assert text_key(of.entry) == key
    texts.begin(of)
    assert store.values[key]["state"] == "transcribing"
    spoken = Transcript(asset="a", audio=of.uri, text="Hi.", language="en", duration=1, model="m", uris={})
    texts.end(of, spoken)
    assert store.values[key]["state"] == "done"
    assert store.values[key]["record"] == spoken.to_json()
    texts.end(of, AssetFailure(asset="a", outcome="loud", message="Too loud."))
    assert store.values[key]["state"] == "failed"
    assert "record" not in store.values[key]


def test_audio_that_nobody_has_registered_has_none() -> None:
    store = DictStore()
    Texts(store).begin(audio(""))
    assert store.values == {}


def test_entries_begin_with_what_is_searched_whatever_they_hold() -> None:
    for inputs in (vod_inputs("p", "MP3"), ffmpeg_inputs("MP3", "file:///a", {"track": '", "state": "x'})):
        store = DictStore()
        register = Register(store, "me", inputs, settling=0)
        register.claim(["a"])
        register.finish({"a": audio("").to_json()}, {})
        stored = json.dumps(store.values[register.key("a")])
        begins = '{"state": "ready", "seconds": "0000001", "find": "a \\"title\\" a", "kind": "audio", '
        assert stored.startswith(begins)
        assert stored.count('"state": "') == 1, "what is nested must not look like it"
        assert stored.count(', "kind": "audio"') == 1


def test_the_states_of_an_entry() -> None:
    store = DictStore()
    register = Register(store, "me", vod_inputs("p", "MP3"), settling=0)

    def state() -> str:
        entry = register.get("a")
        assert entry
        assert store.values[register.key("a")]["state"] == entry.state in STATES
        return entry.state

    register.claim(["a"])
    assert state() == "waiting"
    register.accept("a", "f" * 32, 1.0)
    assert state() == "extracting"
    register.tell({"a": FAILURE})
    assert state() == "failed", "of what VOD may still finish"
    assert register.claim(["a"]).known, "which nobody submits again"
    register.finish({"a": audio("").to_json()}, {})
    assert state() == "ready"
    register.tell({"a": FAILURE})
    assert state() == "ready", "there is audio"


def test_a_reason_keeps_nobody_from_trying_again() -> None:
    store = DictStore()
    me, other = (Register(store, name, vod_inputs("p", "MP3"), settling=0) for name in ("me", "other"))
    me.claim(["a"])
    other.tell({"a": FAILURE})
    entry = me.get("a")
    assert entry
    assert entry.state == "waiting", "what another task works on is that task's"
    me.tell({"a": FAILURE, "unheard of": FAILURE})
    assert store.values[me.key("unheard of")]["reason"] == FAILURE
    claims = other.claim(["a", "unheard of"])
    assert set(claims.granted) == {"a", "unheard of"}
    entry = other.get("a")
    assert entry
    assert (entry.state, entry.reason) == ("waiting", None)


def test_what_was_given_back_is_not_written_again() -> None:
    """A write that comes late would undo what the next task has noted."""
    store = DictStore()
    me, other = (Register(store, name, vod_inputs("p", "MP3"), settling=0) for name in ("me", "other"))
    me.claim(["a", "b"])
    me.release({"a": FAILURE, "b": None})
    entries = me.find(["a", "b"])
    assert {asset: entry.reason for asset, entry in entries.items()} == {"a": FAILURE, "b": None}
    before = dict(store.values)
    me.tell({"a": {**FAILURE, "message": "Later."}, "b": FAILURE})
    assert {key: value for key, value in store.values.items() if key in before} == before
    assert set(other.claim(["a", "b"]).granted) == {"a", "b"}


def test_a_register_that_takes_no_notes_costs_no_audio_and_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    store = DictStore()
    register = Register(store, "me", vod_inputs("p", "MP3"), settling=0)
    register.claim(["a"])
    entry = register.key("a")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the API server is away")

    monkeypatch.setattr(store, "set", refuse)
    register.tell({"a": FAILURE})
    texts = Texts(store)
    texts.begin(audio(entry))
    texts.end(audio(entry), AssetFailure(asset="a", outcome="x", message="y"))
    assert store.values[entry]["state"] == "waiting"
