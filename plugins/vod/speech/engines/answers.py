"""What a server answers as ``verbose_json``, as a passage: words with times, punctuation and probability."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from vod.speech.languages import base_code
from vod.speech.letters import closes, has_no_blanks, is_boundary
from vod.speech.passages import Passage
from vod.speech.recogniser import (
    MAX_COMPRESSION,
    MIN_LOG_PROBABILITY,
    MIN_WORD_PROBABILITY,
    sentences,
    without_loops,
)
from vod.speech.transcription import Dropped, Word

_SILENCE = 0.6
"""Probability of silence above which a piece that Whisper doubts is none, as Whisper itself has it."""

_OPENING = "\"'([{«“\u2018¿¡「『《\uff08"
"""Marks that belong to the word behind them."""

_WHISPERS = {"jv": "jw", "fil": "tl", "cmn": "zh", "nb": "no", "und": "", "mul": "", "zxx": ""}
"""What Whisper has instead of a code; it takes no other when it is told the language."""

_FAR = 40
"""Characters in which a word is looked for in the text."""

_ROOM = 0.3
"""Seconds between two words in which others may have been said."""


def passage_of(answer: dict[str, Any], start: float, end: float, language: str) -> Passage:
    """The answer for the window of the audio from *start* to *end*, in seconds.

    :raises KeyError, TypeError, ValueError: this is no ``verbose_json``.
    """
    length = end - start
    segments = _segments(answer, length)
    # Some servers list the words beside the segments, others in each.
    heard = _list(answer, "words") or [entry for segment in segments for entry in _list(segment, "words")]
    spoken = sorted((_word(entry, length) for entry in heard), key=lambda word: (word.start, word.end))
    words: list[Word] = []
    improbable = loops = 0
    for index, segment in enumerate(segments):
        begin, finish = _times(segment, length)
        last = index == len(segments) - 1
        following = math.inf if last else _times(segments[index + 1], length)[0]
        own = [word for word in spoken if (word.start + word.end) / 2 < following]
        spoken = spoken[len(own) :]
        text = segment["text"]
        if not isinstance(text, str):
            raise TypeError("a text is none")
        placed = list(_placed(text, own, begin, finish)) if text.strip() else _as_said(own)
        chance = _probability(segment, placed)
        if _repeats_itself(text):
            placed, cut = without_loops(placed)
            loops += cut
        if _is_silence(segment) or (chance is not None and chance < MIN_WORD_PROBABILITY):
            improbable += bool(placed)
            continue
        if words and placed and blank_between(words[-1].text, placed[0].text):
            placed[0] = replace(placed[0], text=f" {placed[0].text}")
        words += [
            Word(
                start + word.start,
                start + word.end,
                word.text,
                chance if word.probability is None else word.probability,
            )
            for word in placed
        ]
    return Passage(
        start=start,
        end=end,
        segments=tuple(sentences(words)),
        language=(language or _code(answer.get("language"))) if words else "",
        dropped=Dropped(loops=loops, improbable=improbable),
    )


def _segments(answer: dict[str, Any], length: float) -> list[dict[str, Any]]:
    """Those of the answer in their order, or one of its whole text."""
    if segments := _list(answer, "segments"):
        return sorted(segments, key=lambda segment: _times(segment, length))
    text = answer.get("text", "" if answer.get("words") else None)
    if not isinstance(text, str):
        raise TypeError("the text is none")
    if text.strip() and not answer.get("words"):
        raise ValueError("text without times")
    return [{"start": 0.0, "end": length, "text": text}] if answer.get("words") else []


def _list(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = answer.get(name) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TypeError(f"{name} is no list of objects")
    return entries


def _number(entry: dict[str, Any], name: str) -> float:
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    return float(value)


def _times(entry: dict[str, Any], length: float) -> tuple[float, float]:
    """Start and end, within the window."""
    start = min(max(_number(entry, "start"), 0.0), length)
    return start, min(max(_number(entry, "end"), start), length)


def _word(entry: dict[str, Any], length: float) -> Word:
    text = entry["word"]
    if not isinstance(text, str):
        raise TypeError("a word is no text")
    chance = entry.get("probability")
    known = None if chance is None else min(max(_number(entry, "probability"), 0.0), 1.0)
    return Word(*_times(entry, length), text, known)


def _placed(text: str, words: list[Word], begin: float, end: float) -> list[Word]:
    """The words with the text's blanks and punctuation, which OpenAI leaves out of words.

    Text of which no word was given lies between its neighbours, or from *begin* to *end*.
    """
    found = list(_found(text, words))
    if not found:
        return list(_spread(text, begin, end))
    placed = list[Word]()
    begins = [_begin(text, position) for position, _ in found]
    if len(text[: begins[0]].strip()) > _FAR and found[0][1].start - begin > _ROOM:
        placed += _spread(text[: begins[0]], begin, found[0][1].start)
    elif begins[0]:
        begins[0] = 0
    for (_, word), first, last, following in zip(
        found,
        begins,
        [*begins[1:], len(text)],
        [*(each.start for _, each in found[1:]), end],
        strict=True,
    ):
        own, rest = text[first:last], ""
        if len(own.strip()) > len(word.text.strip()) + _FAR and following - word.end > _ROOM:
            token = next(_tokens(own))
            own, rest = token, own[len(token) :]
        if own.strip():
            placed.append(replace(word, text=own))
        placed += _spread(rest, word.end, following)
    return placed


def _found(text: str, words: list[Word]) -> Iterator[tuple[int, Word]]:
    """Where in the text each word is. Some are in none of the two, or written in another way."""
    folded, at = text.lower(), 0
    if len(folded) != len(text):  # a few letters have more small ones than capitals
        folded = text
    bares = [word.text.strip().lower() for word in words]
    for index, (word, bare) in enumerate(zip(words, bares, strict=True)):
        position = folded.find(bare, at, at + len(bare) + _FAR) if bare else -1
        if position < 0:
            bare = bare.strip(".,!?;:\"'()")
            position = folded.find(bare, at, at + len(bare) + _FAR) if bare else -1
        if position < 0 and bare:
            position = _further(folded, at, bare, bares[index + 1 : index + 3])
        if position >= 0:
            yield position, word
            at = position + len(bare)


def _further(text: str, at: int, bare: str, following: list[str]) -> int:
    """Where a word is beyond what no word was given for: there the words behind it follow as well."""
    position = text.find(bare, at)
    while position >= 0 and len(following) == 2:
        behind = position + len(bare)
        for each in following:
            next_one = text.find(each, behind, behind + len(each) + 3) if each else -1
            if next_one < 0:
                break
            behind = next_one + len(each)
        else:
            return position
        position = text.find(bare, position + 1)
    return -1


def _begin(text: str, position: int) -> int:
    """Where what belongs to a word begins: with the blank and the opening marks before it."""
    begin = position
    while begin and text[begin - 1] in _OPENING:
        begin -= 1
    return begin - 1 if begin and text[begin - 1].isspace() else begin


def _as_said(words: Iterable[Word]) -> list[Word]:
    """Words without a text: with blanks between those that need one."""
    said = list[Word]()
    for word in words:
        if word.text.strip():
            blank = said and blank_between(said[-1].text, word.text)
            said.append(replace(word, text=f" {word.text}") if blank else word)
    return said


def blank_between(before: str, after: str) -> bool:
    """Whether two texts are run together that are not to be: not in Chinese or Thai and their like."""
    last, first = before[-1:], after[:1]
    return not (
        not last
        or not first
        or last.isspace()
        or first.isspace()
        or (closes(first) and first not in _OPENING)
        or has_no_blanks(last)
        or has_no_blanks(first)
    )


def _spread(text: str, start: float, end: float) -> Iterator[Word]:
    """Words of a text without times of its words: as long as they are written."""
    tokens = list(_tokens(text))
    whole = sum(len(token.strip()) for token in tokens)
    at = 0
    for token in tokens:
        begin = start + (end - start) * at / whole
        at += len(token.strip())
        yield Word(begin, min(start + (end - start) * at / whole, end), token)


def _tokens(text: str) -> Iterator[str]:
    """Words with the blank before and the marks behind them; without blanks, what may stand alone."""
    start = 0
    for at in range(1, len(text)):
        before, after = text[at - 1].isspace(), text[at].isspace()
        if text[start:at].strip() and (after or is_boundary(text, at)) and not before:
            yield text[start:at]
            start = at
    if text[start:].strip():
        yield text[start:]


def _probability(segment: dict[str, Any], words: list[Word]) -> float | None:
    """Mean probability of its words, or what the segment says of itself."""
    known = [word.probability for word in words if word.probability is not None]
    if known:
        return sum(known) / len(known)
    if segment.get("avg_logprob") is None:
        return None
    return math.exp(min(0.0, _number(segment, "avg_logprob")))


def _repeats_itself(text: str) -> bool:
    data = text.encode(errors="replace")
    return len(data) > MAX_COMPRESSION * len(zlib.compress(data))


def _is_silence(segment: dict[str, Any]) -> bool:
    if segment.get("no_speech_prob") is None or segment.get("avg_logprob") is None:
        return False
    return (
        _number(segment, "no_speech_prob") > _SILENCE
        and _number(segment, "avg_logprob") < MIN_LOG_PROBABILITY
    )


def _code(language: Any) -> str:
    """The code of a language: OpenAI names it (``english``), others give the code, some say ``auto``."""
    if not isinstance(language, str):
        return ""
    from vod.media.languages import canonical, is_known

    code = base_code(canonical(language))
    return _WHISPERS.get(code, code) if is_known(code) else ""
