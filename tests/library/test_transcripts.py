"""Transcripts are found by asset, model and what they were made of, and do not overwrite each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vod.library.transcripts import TranscriptFiles, find_transcripts
from vod.speech import Transcription
from vod.speech.passages import Passage
from vod.storage.destination import Destination

SPOKEN = Transcription(language="en", duration=3.0, model="base", segments=(), fingerprint="one")


def test_transcripts_are_found_by_asset_and_model(tmp_path: Path) -> None:
    here = Destination(str(tmp_path / "text"))
    assert find_transcripts(here, ["a"]) == {}, "there is no folder yet"
    files = TranscriptFiles(here, "a" * 32)
    text = files.write(f"{'a' * 32}.en.txt", "hello")
    files.write("b.en.json", "{}")
    assert find_transcripts(here, ["a" * 32]) == {}, "the transcript is still to come"
    files.write(f"{files.name(SPOKEN, overwrite=False)}.json", SPOKEN.to_json())
    assert find_transcripts(here, ["a" * 32, "b" * 32]) == {"a" * 32: text}
    assert find_transcripts(here, ["a" * 32], "base") == {"a" * 32: text}
    assert find_transcripts(here, ["a" * 32], "large-v3") == {}


def test_another_model_gets_another_name(tmp_path: Path) -> None:
    files = TranscriptFiles(Destination(str(tmp_path)), "a" * 32)
    usual = files.name(SPOKEN, overwrite=False)
    assert usual == f"{'a' * 32}.en"
    files.write(f"{usual}.json", SPOKEN.to_json())
    other = replace(SPOKEN, model="org/large-v3", fingerprint="two")
    assert files.name(replace(SPOKEN, fingerprint="three"), overwrite=False) == usual, "the same model"
    assert files.name(other, overwrite=False) == f"{usual}.large-v3"
    assert files.name(other, overwrite=True) == usual
    assert files.name(replace(SPOKEN, task="translate"), overwrite=False) == f"{usual}.translation"
    assert files.find("one") == (usual, SPOKEN)
    assert files.find("two") is None


def test_tracks_channels_languages_and_translations_lie_side_by_side(tmp_path: Path) -> None:
    here = Destination(str(tmp_path))
    files = TranscriptFiles(here, "a" * 32)
    made = {
        "en": SPOKEN,
        "fr": replace(SPOKEN, language="fr", track=1),
        "en.track2": replace(SPOKEN, track=2),
        "en.left": replace(SPOKEN, channels="left"),
        "en.track2.right": replace(SPOKEN, track=2, channels="right"),
        "en.track2.small": replace(SPOKEN, track=2, model="small"),
        "en.translation": replace(SPOKEN, task="translate"),
        "en.translation.track1": replace(SPOKEN, task="translate", track=1),
    }
    for _ in range(2):  # the second time each finds its own
        for name, spoken in made.items():
            assert files.name(spoken, overwrite=False) == f"{'a' * 32}.{name}"
            files.write(f"{'a' * 32}.{name}.json", spoken.to_json())
    assert len(files.all()) == len(made)
    assert files.name(replace(SPOKEN, track=2, model="small"), overwrite=True).endswith(".en.track2")
    other = TranscriptFiles(here, "b")
    other.write("b.en.translation.json", replace(SPOKEN, task="translate").to_json())
    assert find_transcripts(here, ["b"]) == {}, "a translation is no transcript"
    assert set(find_transcripts(here, ["a" * 32], language="fr-CA").values()) == {
        here.uri(f"{'a' * 32}.fr.json")
    }
    assert find_transcripts(here, ["a" * 32], language="de") == {}


def test_what_was_heard_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    files = TranscriptFiles(Destination(str(tmp_path)), "a" * 32)
    passages = [Passage(start=0.0, end=600.5), Passage(start=600.5, end=1200.0, language="de")]
    files.keep("one", passages)
    assert files.heard("one") == passages
    assert files.heard("two") == []
    files.forget("one")
    files.forget("one")
    assert list(tmp_path.iterdir()) == []
