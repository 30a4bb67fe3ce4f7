"""Captions keep the rules of their profile, lose no word and are read by parsers that are not ours."""

from __future__ import annotations

import io
import itertools
import json
import math
import time
import unicodedata
import xml.etree.ElementTree as ET

import pysubs2
import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from vod.errors import InvalidInputError
from vod.speech import WRITERS, Segment, Transcription, Word, write
from vod.speech.layout import PROFILES, Cue, Profile, broken_rules, cues
from vod.speech.letters import clean, width


def said(*segments: Segment, language: str = "en") -> Transcription:
    return Transcription(language=language, duration=100, model="base", segments=segments)


def spoken(text: str, start: float = 0, pace: float = 0.3, speaker: str | None = None) -> Segment:
    words = [
        Word(start + number * pace, start + (number + 1) * pace, f" {word}")
        for number, word in enumerate(text.split())
    ]
    return Segment(tuple(words), speaker)


def letters(text: str) -> str:
    """What people see of a text, without blanks."""
    return "".join(
        character
        for character in clean(text)
        if not character.isspace() and unicodedata.category(character) != "Cf"
    )


def kept(made: list[Cue], profile: Profile) -> bool:
    """Whether captions keep all rules that layout can keep: speech may be too fast to be read."""
    return all("the next follows at once" in problem for problem in broken_rules(made, profile))


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
@settings(max_examples=150)
def test_no_word_is_lost_and_no_rule_broken(
    words: list[tuple[str, float, float, str | None]], profile: Profile
) -> None:
    segments, now = [], 0.0
    for text, length, pause, speaker in words:
        segments.append(Segment((Word(now, now + length, text),), speaker))
        now += length + pause
    transcription = said(*segments)
    made = cues(transcription, profile)
    for speaker in (None, "left"):
        shown = [cue.lines for cue in made if cue.speaker == speaker]
        text = "".join(text for text, _, _, each in words if each == speaker)
        assert letters("".join(map("".join, shown))) == letters(text)
    assert kept(made, profile)
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
    assert [line for cue in made for line in cue.lines] == ["漢漢", "漢,,,--b", "漢bbaa", "漢.a-漢", "漢-"]
    assert kept(made, profile)


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
@settings(max_examples=100)
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
    assert kept(made, profile)
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
    assert _problems(Cue(0, 420, ("a",)), Cue(500, 1500, ("b",))) == ["less than 0.5 s: the next follows"]
    assert _problems(Cue(0, 1000, ("x" * 42,)), Cue(1080, 2080, ("b",))) == [
        "more than 40 cells a second: the next follows"
    ]
    assert _problems(Cue(0, 1000, ("\u200b",))) == ["no text"]
    assert _problems(Cue(10, 10, ("a",)), Cue(20, 1020, ("a",))) == [
        "ends before",
        "too close to the next",
        "less than 0.5 s: the next follows",
    ]


def _problems(*made: Cue) -> list[str]:
    known = ["no text", "more than 2 lines", "more than 42 cells", "ends before", "too close to the next"]
    known += ["longer than 7 s", "less than 1 s", "less than 0.5 s: the next follows"]
    known += ["more than 20 cells a second", "more than 40 cells a second: the next follows"]
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


def test_words_without_time_share_what_there_is() -> None:
    """A recogniser that cannot place words gives all of them one moment; once each stood alone for 1 ms."""
    for step in (0, 0.02):
        lost = Segment(
            tuple(Word(5 + number * step, 5 + number * step, f" word{number:02}") for number in range(60))
        )
        made = cues(said(lost))
        assert len(made) == 5
        assert not broken_rules(made, Profile())
    made = cues(said(lost, spoken("Then somebody speaks.", start=9)))
    assert not [cue for cue in made if cue.end - cue.start < 500]
    [last] = [cue for cue in made if "somebody" in " ".join(cue.lines)]
    assert last.start <= 9000, "what has a time keeps it"
    assert broken_rules(made, Profile()), "420 cells in 4 s"


def test_captions_that_begin_together_share_the_time_and_are_hardly_late() -> None:
    names = ("front left", "front right", "front center")
    for distance, lines in itertools.product((0, 0.2), (1, 2)):
        profile = Profile(lines=lines)
        texts = ("Alpha speaks this sentence here now.", "Bravo speaks too.", "Charlie talks.")
        segments = [
            spoken(text, start=10 + distance * number, pace=0.17, speaker=name)
            for number, (name, text) in enumerate(zip(names, texts, strict=True))
        ]
        made = cues(said(*segments), profile)
        assert min(cue.end - cue.start for cue in made) >= 400
        shown = {word: cue.start for cue in made for line in cue.lines for word in line.split()}
        for segment in segments:
            assert abs(shown[segment.words[0].text.strip()] - segment.start * 1000) <= 1000
        assert bool(broken_rules(made, profile)), "said, not hidden"


def test_words_from_before_the_video_are_in_no_caption() -> None:
    early = Segment(tuple(Word(number - 3, number - 2, f" word{number}") for number in range(6)))
    [cue] = cues(said(early, spoken("wholly before", start=-9)))
    assert (cue.start, cue.lines) == (0, ("word3 word4 word5",))
    assert "word0" in write(said(early), "txt")


def test_words_out_of_order_are_shown_when_they_are_spoken() -> None:
    times = {" fourth": 4, " first": 1, " second": 2, " ninth.": 9}
    made = cues(said(Segment(tuple(Word(start, start + 0.5, text) for text, start in times.items()))))
    assert [(cue.start, cue.lines) for cue in made] == [
        (1000, ("first second",)),
        (4000, ("fourth",)),
        (9000, ("ninth.",)),
    ]


def test_a_sentence_in_one_entry_breaks_as_words_do() -> None:
    text = " A person corrected this sentence and merged it into one word entry."
    [cue] = cues(said(Segment((Word(0, 6, text),))))
    assert cue.lines == ("A person corrected this sentence", "and merged it into one word entry.")
    address = "https://example.com/videos/lectures/2024/mathematics"
    [cue] = cues(said(Segment((Word(0, 6, address),))))
    assert cue.lines[0].endswith("/")
    assert "".join(cue.lines) == address


def test_chinese_in_one_entry_breaks_at_clauses() -> None:
    text = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c" * 9
    made = cues(said(Segment((Word(0, 20, text),)), language="zh"))
    assert all(line.endswith("\uff0c") for cue in made for line in cue.lines)


UNBROKEN = {
    "th": "ประเทศไทยมีประชากรประมาณเจ็ดสิบล้านคนและมีภาษาราชการคือภาษาไทยซึ่งเป็นภาษาที่มีวรรณยุกต์และสระเป็นของตนเอง",
    "my": "မြန်မာနိုင်ငံသည်အရှေ့တောင်အာရှတွင်တည်ရှိသောနိုင်ငံဖြစ်ပြီးရန်ကုန်မြို့သည်အကြီးဆုံးမြို့ဖြစ်သည်",
    "km": "ប្រទេសកម្ពុជាជាប្រទេសមួយដែលស្ថិតនៅក្នុងតំបន់អាស៊ីអាគ្នេយ៍ហើយមានប្រជាជនជាច្រើនលាននាក់",
    "hi": "अत्यंतमहत्वपूर्णविषयोंकीचर्चाकरेंगेऔरनीतिसंबंधीनिर्णयलेंगेजोसबकेलिएहोंगेऔरक्षेत्रकेविकासकेलिए",
    "ja": "「コンピューター」というものは、とっても便利な機械です。「そうですね」と彼は言った。ちょっと。",
    "zh": "他说：“今天天气很好。”（大家都笑了）然后我们一起去公园散步，你觉得怎么样呢？如果可以的话就走！",  # noqa: RUF001
    "emoji": "👩🏽‍💻👍🏽🇩🇪❤️" * 20,
}


@pytest.mark.parametrize("cells", [10, 16, 42])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("language", UNBROKEN)
def test_no_line_divides_a_syllable_or_begins_with_what_closes(
    language: str, whole: bool, cells: int
) -> None:
    text = UNBROKEN[language]
    entries = [text] if whole else list(text)
    pace = 20 / len(entries)
    words = tuple(Word(at * pace, (at + 1) * pace, entry) for at, entry in enumerate(entries))
    made = cues(said(Segment(words), language=language), Profile(cells=cells))
    lines = [line for cue in made for line in cue.lines]
    assert "".join(lines) == text
    for before, after in itertools.pairwise(lines):
        assert unicodedata.category(after[0]) not in {"Mn", "Mc", "Me", "Cf", "Pe", "Pf", "Po"}
        assert after[0] not in "าะำๆーっょ\U0001f3fd"
        assert after[1:2] != "\u103a", "a Burmese consonant that ends a syllable"
        assert before[-1] not in "เแโใไ\uff08「“\u1039\u17d2\u094d\u200d"
        flag = "\U0001f1e9\U0001f1ea"
        assert (before + after).count(flag) == before.count(flag) + after.count(flag)


def test_thai_words_of_a_recogniser_are_kept_whole() -> None:
    entries = ["ประเทศ", "ไทย", "มี", "ประชากร", "ประมาณ", "เจ็ด", "สิบ", "ล้าน", "คน", "และ"] * 4
    words = tuple(Word(at * 0.4, at * 0.4 + 0.4, entry) for at, entry in enumerate(entries))
    ends = set(itertools.accumulate(map(len, entries)))
    made = cues(said(Segment(words), language="th"))
    assert set(itertools.accumulate(len(line) for cue in made for line in cue.lines)) <= ends
    marked = said(Segment((Word(0, 16, "\u200b".join(entries)),)), language="th")
    made = cues(marked)
    assert set(itertools.accumulate(len(line) for cue in made for line in cue.lines)) <= ends


def test_a_blank_before_a_mark_begins_no_line() -> None:
    text = " ".join(["Mon ami est bien content de le savoir !"] * 4)
    for cells in range(10, 43):
        made = cues(said(spoken(text)), Profile(cells=cells))
        assert not [line for cue in made for line in cue.lines if line.startswith("!")]


def test_what_nobody_sees_is_no_text() -> None:
    unseen = said(Segment((Word(0, 1, "\u200b"),), "\u200b"), Segment((Word(3, 4, " hello"),), "\u2060"))
    assert [(cue.lines, cue.speaker) for cue in cues(unseen)] == [(("hello",), None)]
    assert write(unseen, "txt") == "hello\n"
    assert write(unseen, "tsv").count("\n") == 2


@pytest.mark.parametrize("speaker", ["A\x01B", "A\ufffeB", "A\nB", "A\u2028B"])
def test_a_speaker_of_any_characters_leaves_files_valid(speaker: str) -> None:
    both = said(
        spoken("One moment, please.", speaker=speaker),
        spoken("I am here.", start=0.1, speaker="right"),
        spoken("Alone.", start=9, speaker=speaker),
        language=speaker,
    )
    root = ET.fromstring(write(both, "ttml"))
    assert [name.text for name in root.iter("{http://www.w3.org/ns/ttml#metadata}name")] == ["A B", "right"]
    assert "<v A B>" in write(both, "vtt")
    assert "[A B] One" in write(both, "srt")
    assert len(write(both, "tsv").splitlines()) == 4


def test_hours_without_a_blank_are_laid_out_in_seconds() -> None:
    text = UNBROKEN["th"] * 100
    words = tuple(Word(at * 0.08, at * 0.08 + 0.08, character) for at, character in enumerate(text))
    began = time.process_time()
    cues(said(Segment(words), language="th"))
    assert time.process_time() - began < 10


def test_contradicting_rules_and_unknown_formats_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        Profile(shortest=8)
    for rule in ("longest", "fastest", "rate", "gap"):
        for value in (math.inf, math.nan):
            with pytest.raises(InvalidInputError, match="out of range"):
                Profile(**{rule: value})
    with pytest.raises(InvalidInputError, match="docx"):
        write(said(), "docx")
