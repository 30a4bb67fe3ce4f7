"""What a server answers as ``verbose_json``, as a passage: words with times, punctuation and probability."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

from vod.speech.languages import base_code
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

_FAR = 40
"""Characters in which a word is looked for in the text."""


def passage_of(answer: dict[str, Any], start: float, end: float, language: str) -> Passage:
    """The answer for the window of the audio from *start* to *end*, in seconds.

    :raises KeyError, TypeError, ValueError: this is no ``verbose_json``.
    """
    length = end - start
    heard = _list(answer, "words")
    segments = _list(answer, "segments")
    if not segments:
        text = answer["text"]
        if not isinstance(text, str):
            raise TypeError("the text is none")
        if text.strip():
            if not heard:
                raise ValueError("text without times")
            segments = [{"start": 0.0, "end": length, "text": text}]
    words: list[Word] = []
    improbable = loops = 0
    spoken = [_word(entry, length) for entry in heard]
    for index, segment in enumerate(segments):
        begin, finish = _times(segment, length)
        last = index == len(segments) - 1
        following = math.inf if last else _times(segments[index + 1], length)[0]
        own = [word for word in spoken if (word.start + word.end) / 2 < following]
        spoken = spoken[len(own) :]
        text = segment["text"]
        if not isinstance(text, str):
            raise TypeError("a text is none")
        placed = list(_placed(text, own)) or list(_spread(text, begin, finish))
        chance = _probability(segment, placed)
        if _repeats_itself(text):
            placed, cut = without_loops(placed)
            loops += cut
        if _is_silence(segment) or (chance is not None and chance < MIN_WORD_PROBABILITY):
            improbable += bool(placed)
            continue
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


def _placed(text: str, words: list[Word]) -> Iterator[Word]:
    """The words with the text's blanks and punctuation, which OpenAI leaves out of words."""
    folded, found, at = text.lower(), [], 0
    if len(folded) != len(text):  # a few letters have more small ones than capitals
        folded = text
    for word in words:
        bare = word.text.strip().lower()
        position = folded.find(bare, at, at + len(bare) + _FAR) if bare else -1
        if position < 0:
            bare = bare.strip(".,!?;:\"'()")
            position = folded.find(bare, at, at + len(bare) + _FAR) if bare else -1
        if position >= 0:
            found.append((position, word))
            at = position + len(bare)
    begins = [_begin(text, position) for position, _ in found]
    for index, (_, word) in enumerate(found):
        begin = begins[index] if index else 0
        end = begins[index + 1] if index + 1 < len(found) else len(text)
        if text[begin:end].strip():
            yield Word(word.start, word.end, text[begin:end], word.probability)


def _begin(text: str, position: int) -> int:
    """Where what belongs to a word begins: with the blank and the opening marks before it."""
    begin = position
    while begin and text[begin - 1] in _OPENING:
        begin -= 1
    return begin - 1 if begin and text[begin - 1].isspace() else begin


def _spread(text: str, start: float, end: float) -> Iterator[Word]:
    """Words of a text without times of its words: as long as they are written."""
    parts = text.split()
    whole = sum(len(part) for part in parts)
    at = 0
    for part in parts:
        begin = start + (end - start) * at / whole
        at += len(part)
        yield Word(begin, start + (end - start) * at / whole, f" {part}")


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
    """The code of a language: OpenAI names it (``english``), others give the code."""
    if not isinstance(language, str):
        return ""
    if len(base_code(language)) <= 3:
        return base_code(language)
    from vod.media.languages import canonical

    return base_code(canonical(language))[:3]
