"""Options that shape the audio name it, however they are written; the others leave its name alone."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import InvalidInputError
from vod.locations import audio_stem, variant_in

SHAPING: dict[str, list[Any]] = {
    "language": ["en", "de", "zh", "no such language", "../x"],
    "track": [0, 1, "all", "mix", "speech", "comment"],
    "start": [1.5, 30.0],
    "duration": [1.5, 30.0],
    "bit_rate": [64_000, 96_000],
    "sample_rate": [16_000, 48_000],
    "channels": [1, 2, "left", "right"],
    "loudness": [-23.0, -16.0],
    "reencode": [True],
    "gaps": ["close"],
    "truncated": ["keep"],
    "keep_tags": [True],
    "strict": [True],
}
SAME_SOUND = {"speech": True, "timeout": 5.0, "max_bytes": 1000, "processes": 2}


def test_unlike_audio_never_shares_a_name() -> None:
    assert SHAPING.keys() | SAME_SOUND.keys() == FfmpegOptions.__dataclass_fields__.keys(), (
        "all are told apart"
    )
    single = [{name: value} for name, values in SHAPING.items() for value in values]
    wishes = [
        {},
        *single,
        *({**one, **other} for one, other in combinations(single, 2) if [*one] != [*other]),
    ]
    variants = {FfmpegOptions.from_mapping(wish).variant for wish in wishes}
    assert len(variants) == len(wishes)
    assert "" in variants
    for variant in variants - {""}:
        assert variant_in(f"{audio_stem('/media/talk.mp4', variant)}.16k.wav") == variant


@pytest.mark.parametrize(
    "spelled",
    [
        [{"language": language} for language in ("de", "ger", "deu", "GER", "German", " deutsch ", "de-AT")],
        [{"track": 1}, {"track": "1"}],
        [{"start": 10, "loudness": -23}, {"loudness": "-23.0", "start": "10.0"}],
        [{"reencode": True, "channels": 2}, {"channels": "2", "reencode": "true"}],
        [{"bit_rate": 64_000}, {"bit_rate": "64000"}],
        [{}, {"start": 0, "language": "", "track": None, "gaps": "silence", "reencode": "False"}],
    ],
    ids=lambda spelled: "+".join(spelled[0]) or "defaults",
)
def test_the_same_wishes_have_the_same_name(spelled: list[dict[str, Any]]) -> None:
    read = [FfmpegOptions.from_mapping(wish) for wish in spelled]
    read += [FfmpegOptions(**wish) for wish in spelled if "" not in wish.values()]
    assert len({options.variant for options in read}) == 1
    assert len({str(sorted(options.changed.items())) for options in read}) == 1, "nor are they other entries"


def test_names_stay_as_the_documents_give_them() -> None:
    """With other names everything would be extracted once more."""
    text = (Path(__file__).parents[2] / "docs" / "extraction.md").read_text()
    examples: list[dict[str, Any]] = [{}, {"start": 60}, {"language": "de"}, {"track": "all"}]
    stems = [audio_stem("/media/talk.mp4", FfmpegOptions(**example).variant) for example in examples]
    endings = (".mp3", ".mp3", ".16k.wav", ".1.mp3")
    for stem, ending in zip(stems, endings, strict=True):
        assert f"`{stem}{ending}`" in text


def test_the_language_can_be_read_in_the_name() -> None:
    assert FfmpegOptions(language="ger", start=5).variant.startswith("de-")
    assert "-" not in FfmpegOptions(language="../../x").variant


@pytest.mark.parametrize("name", SAME_SOUND)
def test_what_does_not_change_the_sound_does_not_change_the_name(name: str) -> None:
    more = {name: SAME_SOUND[name]}
    assert FfmpegOptions.from_mapping(more).variant == ""
    assert FfmpegOptions.from_mapping({"track": 1, **more}).variant == FfmpegOptions(track=1).variant


def test_what_cannot_be_read_is_refused_however_it_is_given() -> None:
    for given in (FfmpegOptions.from_mapping, lambda wish: FfmpegOptions(**wish)):
        with pytest.raises(InvalidInputError, match="The option 'start' cannot be 'soon'"):
            given({"start": "soon"})
