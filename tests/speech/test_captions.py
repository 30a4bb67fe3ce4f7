"""Captions keep the rules of their profile, lose no word and are read by parsers that are not ours."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pysubs2
import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from vod.__main__ import main
from vod.errors import InvalidInputError
from vod.speech import WRITERS, Segment, Transcription, Word, write
from vod.speech.layout import PROFILES, Cue, Profile, broken_rules, clean, cues, width


def said(*segments: Segment, language: str = "en") -> Transcription:
    return Transcription(language=language, duration=100, model="base", segments=segments)


def spoken(text: str, start: float = 0, pace: float = 0.3, speaker: str | None = None) -> Segment:
    words = [
        Word(start + number * pace, start + (number + 1) * pace, f" {word}")
        for number, word in enumerate(text.split())
    ]
    return Segment(tuple(words), speaker)


def letters(text: str) -> str:
    return "".join(clean(text).split())


WORDS = st.lists(
    st.tuples(
        st.text(max_size=60)
        | st.sampled_from([" the", " end.", "-->", " ", "漢字\u3002", " مرحبا", "👩‍👩‍👧", "<b>", "&"]),
        st.floats(0, 9),
        st.floats(0, 3),
        st.sampled_from([None, None, "left"]),
    ),
    max_size=40,
)


@given(WORDS, st.sampled_from([*PROFILES.values(), Profile(cells=10, lines=1, longest=3)]))
@settings(max_examples=150, deadline=None)
def test_no_word_is_lost_and_no_rule_broken(
    words: list[tuple[str, float, float, str | None]], profile: Profile
) -> None:
    segments, now = [], 0.0
    for text, length, pause, speaker in words:
        segments.append(Segment((Word(now, now + length, text),), speaker))
        now += length + pause
    transcription = said(*segments)
    made = cues(transcription, profile)
    assert letters("".join("".join(cue.lines) for cue in made)) == letters(
        "".join(text for text, *_ in words)
    )
    bad = broken_rules(made, profile)
    assert not bad
    count = len(made)
    assert len(webvtt.from_buffer(io.StringIO(write(transcription, "vtt", profile))).captions) == count
    assert len(list(srt.parse(write(transcription, "srt", profile)))) == count
    assert len(pysubs2.SSAFile.from_string(write(transcription, "srt", profile), format_="srt")) == count
    paragraphs = ET.fromstring(write(transcription, "ttml", profile)).iter("{http://www.w3.org/ns/ttml}p")
    assert len(list(paragraphs)) == count


def test_a_blank_at_the_end_of_a_line_is_no_line_of_its_own() -> None:
    """Where two speak at once lines are short, and a blank in a word of the recogniser met their end."""
    left = Segment((Word(0.0, 1.5, "漢漢"),), "left")
    right = Segment((Word(1.0, 2.0, "漢,,,--b 漢bbaa漢"), Word(2.0, 3.0, ".a-漢漢-")), "right")
    profile = Profile(cells=10, lines=1, longest=3)
    made = cues(said(left, right), profile)
    assert [line for cue in made for line in cue.lines] == ["漢漢", "漢,,,--b", "漢bbaa漢", ".a-漢漢-"]
    assert not broken_rules(made, profile)


AT_ONCE = st.lists(
    st.tuples(
        st.sampled_from(["left", "right", "center", None]),
        st.floats(0, 60),
        st.lists(st.text("ab漢 ,.-", min_size=1, max_size=30), min_size=1, max_size=12),
        st.floats(0.01, 1.5),
    ),
    max_size=12,
)


@given(AT_ONCE, st.sampled_from([*PROFILES.values(), Profile(cells=10, lines=1, longest=3)]))
@settings(max_examples=100, deadline=None)
def test_speakers_at_once_give_captions_that_all_parsers_read(
    turns: list[tuple[str | None, float, list[str], float]], profile: Profile
) -> None:
    segments = [
        Segment(
            tuple(
                Word(start + number * pace, start + (number + 1) * pace, text)
                for number, text in enumerate(words)
            ),
            speaker,
        )
        for speaker, start, words, pace in turns
    ]
    made = cues(said(*segments), profile)
    shown = sorted(letters("".join("".join(cue.lines) for cue in made)))
    assert shown == sorted(letters("".join("".join(words) for _, _, words, _ in turns)))
    assert not broken_rules(made, profile)
    vtt, rip, ttml = (write(said(*segments), name, profile) for name in ("vtt", "srt", "ttml"))
    assert len(webvtt.from_buffer(io.StringIO(vtt)).captions) == len(made)
    assert len(list(srt.parse(rip))) == len(made)
    assert len(pysubs2.SSAFile.from_string(rip, format_="srt")) == len(made)
    assert len(list(ET.fromstring(ttml).iter("{http://www.w3.org/ns/ttml}p"))) == len(made)


@pytest.mark.parametrize("caption_format", WRITERS)
def test_nothing_said_gives_a_valid_file(caption_format: str) -> None:
    text = write(said(), caption_format)
    expected = {"vtt": "WEBVTT\n", "srt": "", "txt": "", "tsv": "start\tend\tspeaker\ttext\n"}
    if caption_format == "json":
        assert json.loads(text)["segments"] == []
    elif caption_format == "ttml":
        assert ET.fromstring(text).tag.endswith("tt")
    else:
        assert text == expected[caption_format]


def test_the_checker_finds_each_broken_rule() -> None:
    assert _problems(Cue(0, 6000, ("x" * 43, "b", "c"))) == ["more than 2 lines", "more than 42 cells"]
    assert _problems(Cue(0, 1000, ("a",)), Cue(1050, 2050, ("b",))) == ["too close to the next"]
    assert _problems(Cue(0, 7100, ("a",))) == ["longer than 7 s"]
    assert _problems(Cue(0, 1000, ())) == ["no text"]
    assert _problems(Cue(0, 900, ("a",))) == ["less than 1 s"]
    assert _problems(Cue(0, 900, ("a",)), Cue(980, 1980, ("b",))) == [], "the next leaves no time"
    assert _problems(Cue(0, 1500, ("x" * 42,))) == ["more than 20 cells a second"]
    assert _problems(Cue(10, 10, ("a",)), Cue(20, 1020, ("a",))) == ["ends before", "too close to the next"]


def _problems(*made: Cue) -> list[str]:
    known = ["no text", "more than 2 lines", "more than 42 cells", "ends before", "too close to the next"]
    known += ["longer than 7 s", "less than 1 s", "more than 20 cells a second"]
    found = broken_rules(made, Profile())
    assert all(any(words in problem for words in known) for problem in found)
    return [words for problem in found for words in known if words in problem]


def test_breaks_are_at_sentences_and_clauses() -> None:
    text = "When the morning came over the quiet lake, all the boats went out together. "
    text += "Nobody knew where they would go."
    made = cues(said(spoken(text)))
    assert [cue.lines for cue in made] == [
        ("When the morning came over the quiet lake,", "all the boats went out together."),
        ("Nobody knew where they would go.",),
    ]


def test_single_words_in_a_row_share_a_caption() -> None:
    made = cues(
        said(*(spoken(f"{word}.", start=0.15 * number, pace=0.15) for number, word in enumerate("abcd")))
    )
    assert [cue.lines for cue in made] == [("a. b. c. d.",)]


def test_chinese_takes_sixteen_characters_a_line() -> None:
    words = tuple(
        Word(i * 0.2, i * 0.2 + 0.2, character)
        for i, character in enumerate("今天天气很好我们去公园散步吧" * 3)
    )
    made = cues(said(Segment(words), language="zh"))
    assert max(width(line) for cue in made for line in cue.lines) <= 32
    assert not broken_rules(made, PROFILES["cjk"])


def test_speakers_are_told_apart() -> None:
    both = said(spoken("Good morning.", speaker="left"), spoken("Hello.", start=2, speaker="right"))
    assert [caption.voice for caption in webvtt.from_buffer(io.StringIO(write(both, "vtt"))).captions] == [
        "left",
        "right",
    ]
    assert [cue.content for cue in srt.parse(write(both, "srt"))] == [
        "[left]\nGood morning.",
        "[right]\nHello.",
    ]
    assert write(both, "txt") == "left: Good morning.\n\nright: Hello.\n"
    assert 'ttm:agent="speaker2"' in write(both, "ttml")


def test_who_speaks_at_once_shares_a_caption_and_the_others_keep_their_times() -> None:
    both = said(
        spoken("One moment, please wait.", start=10, speaker="left"),
        spoken("I am <here>.", start=10.2, speaker="right"),
        spoken("Then we can begin with the first of many long chapters.", start=20, speaker="left"),
        spoken("Good.", start=22.5, speaker="right"),
        spoken("Alone again.", start=30, speaker="left"),
    )
    made = cues(both)
    assert made[0].lines == ("One moment, please wait.", "I am <here>.")
    assert made[0].speakers == ("left", "right")
    starts = {line: cue.start for cue in made for line in cue.lines}
    assert 21_200 < starts["Good."] <= 22_500, "in the middle of a line at the latest"
    assert starts["Alone again."] == 30_000
    assert not broken_rules(made, PROFILES["bbc"])
    assert (
        "00:00:10.000 --> 00:00:12.176\n"
        "<v left>One moment, please wait.</v>\n<v right>I am &lt;here&gt;.</v>\n"
    ) in write(both, "vtt")
    assert "[left] One moment, please wait.\n[right] I am \u2039here\u203a.\n" in write(both, "srt")
    assert '<span ttm:agent="speaker2">I am &lt;here&gt;.</span>' in write(both, "ttml")


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.en.json"
    file.write_text(said(spoken("The lake is quiet.")).to_json())
    assert main(["captions", str(file), "--format", "vtt", "--format", "srt", "--cells", "12"]) == 0
    assert (tmp_path / "a.en.vtt").read_text().endswith("The lake\nis quiet.\n")
    assert (tmp_path / "a.en.srt").exists()
    assert main(["captions", "--check", str(file)]) == 0
    assert main(["captions", str(file), "--format", "json"]) == 1
    assert Transcription.from_json(file.read_text()).text == "The lake is quiet."
    (tmp_path / "b.json").write_text("{}")
    assert main(["captions", str(tmp_path / "b.json")]) == 1
    assert "not a transcript" in capsys.readouterr().err


def test_contradicting_rules_and_unknown_formats_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        Profile(shortest=8)
    with pytest.raises(InvalidInputError, match="docx"):
        write(said(), "docx")
