"""Captions as people can read them: which words stand together, in which lines, and for how long."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vod.errors import InvalidInputError
from vod.speech.transcription import Segment, Transcription

PAUSE = 1.0
"""Seconds without a word over which no caption goes."""

_SENTENCE_END = re.compile(r"[.?!…\u3002\uff1f\uff01؟\u06d4।][\"'”\u2019»)\]\u300d\u300f]*$")
_CLAUSE_END = re.compile(r"[,;:\u3001\uff0c\uff1b\uff1a،؛\u2013—][\"'”\u2019»)\]\u300d\u300f]*$")
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
_ZERO_WIDTH = {"Mn", "Me", "Cf"}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Rules of layout. The defaults are those of broadcasters such as the BBC.

    :param cells: Cells in a line; a Chinese, Japanese or Korean character or an emoji takes two.
    :param lines: Lines in a caption: 1 or 2.
    :param rate: Cells that people read in a second: a caption stands as long as that takes, if it can.
    :param fastest: Cells in a second above which a caption is split or stands longer wherever it can.
    :param shortest: Seconds that a caption stands at least, if the next one leaves it the time.
    :param longest: Seconds that a caption stands at most.
    :param gap: Seconds between two captions: two frames at 25 a second.
    :raises InvalidInputError: a number out of its range.
    """

    cells: int = 42
    lines: int = 2
    rate: float = 17
    fastest: float = 20
    shortest: float = 1
    longest: float = 7
    gap: float = 0.08

    def __post_init__(self) -> None:
        if not (
            self.cells >= 8
            and self.lines in {1, 2}
            and 0 < self.rate <= self.fastest
            and 0 < self.shortest < self.longest
            and 0 <= self.gap <= 0.5
        ):
            raise InvalidInputError(
                "These rules for captions contradict each other.",
                remedy="Give at least 8 cells, 1 or 2 lines, 0 < rate <= fastest, 0 < shortest < longest "
                "and a gap of at most 0.5 s.",
            )


PROFILES = {"bbc": Profile(), "cjk": Profile(cells=32)}
"""By name. ``cjk``: 16 Chinese, Japanese or Korean characters in a line."""


@dataclass(frozen=True)
class Cue:
    """One caption.

    :param start: Milliseconds from the start of the video.
    :param end: Milliseconds, after ``start`` and not after the next caption's start.
    :param speaker: Who speaks, if one does and is known.
    :param speakers: Who speaks each line, when several speak at once.
    """

    start: int
    end: int
    lines: tuple[str, ...]
    speaker: str | None = None
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """What is never divided: a word, or as much of a long one as fits a line."""

    start: float
    end: float
    text: str
    blank: bool  # before it
    speaker: str | None


def profile_for(language: str) -> Profile:
    """The usual profile of a language."""
    return PROFILES["cjk" if language.partition("-")[0].lower() in {"zh", "yue", "ja", "ko"} else "bbc"]


def width(text: str) -> int:
    """Cells that a text takes: two for each wide character, none for marks and joiners."""
    return len(text) if text.isascii() else sum(map(_cells, text))


@functools.cache
def _cells(character: str) -> int:
    if unicodedata.category(character) in _ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clean(text: str) -> str:
    """A text in one line, without characters that control a terminal or a parser."""
    return " ".join(
        "".join(
            " " if unicodedata.category(character) in _CONTROL else character for character in text
        ).split()
    )


def cues(transcription: Transcription, profile: Profile | None = None) -> list[Cue]:
    """Captions of a transcription, in the order of time; none overlaps the next and no word is lost.

    Where several speak at once each has a line, as broadcasters do it.

    :param profile: The language's usual one when omitted.
    """
    profile = profile or profile_for(transcription.language)
    pieces = [
        piece
        for segment in sorted(transcription.segments, key=lambda segment: segment.start)
        for piece in _pieces(segment, profile)
    ]
    turns = list(_turns(pieces))
    crowded = _at_once(turns)
    if not crowded:
        groups = [group for turn in turns for group in _grouped(turn, profile)]
        return _timed(groups, profile)
    narrow = _narrow(transcription, profile)
    laid_out = [
        group
        for number, turn in enumerate(turns)
        for group in (
            _grouped(_recut(turn, narrow), narrow) if number in crowded else _grouped(turn, profile)
        )
    ]
    return _timed(sorted(laid_out, key=lambda group: group[0].start), profile, narrow)


def _narrow(transcription: Transcription, profile: Profile) -> Profile:
    """One line a speaker, with room for the name before it."""
    names = {clean(segment.speaker) for segment in transcription.segments if segment.speaker}
    name = max(map(width, names), default=0) + len("[] ")
    return replace(profile, lines=1, cells=max(8, profile.cells - name))


def _at_once(turns: Sequence[Sequence[_Piece]]) -> set[int]:
    """Which turns go on while somebody else speaks, by their number."""
    found: set[int] = set()
    by_start = sorted(range(len(turns)), key=lambda number: turns[number][0].start)
    open_turns: list[int] = []
    for number in by_start:
        start, speaker = turns[number][0].start, turns[number][0].speaker
        open_turns = [other for other in open_turns if turns[other][-1].end > start]
        for other in open_turns:
            if turns[other][0].speaker != speaker:
                found |= {number, other}
        open_turns.append(number)
    return found


def _recut(turn: Iterable[_Piece], profile: Profile) -> list[_Piece]:
    return [part for piece in turn for part in _cut(piece, profile)]


def _pieces(segment: Segment, profile: Profile) -> Iterator[_Piece]:
    current: _Piece | None = None
    blank = True  # between two segments
    for word in segment.words:
        text = clean(word.text)
        blank = blank or word.text[:1].isspace()
        if text:
            piece = _Piece(word.start, max(word.start, word.end), text, blank, segment.speaker)
            if current and _belongs(current, piece, profile):
                end = max(current.end, piece.end)
                current = replace(current, end=end, text=current.text + piece.text)
            else:
                if current:
                    yield from _cut(current, profile)
                current = piece
            blank = False
        blank = blank or word.text[-1:].isspace()
    if current:
        yield from _cut(current, profile)


def _belongs(before: _Piece, piece: _Piece, profile: Profile) -> bool:
    """Whether a piece goes on with the word before it, as in ``well`` ``-known``."""
    if piece.blank or width(before.text + piece.text) > profile.cells:
        return False
    closes = unicodedata.category(piece.text[0]) in {"Po", "Pe", "Pf"}
    return closes or not (_is_wide(before.text[-1]) or _is_wide(piece.text[0]))


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _cut(piece: _Piece, profile: Profile) -> Iterator[_Piece]:
    """A word in pieces that fit a line, each with its share of the time."""
    parts = [""]
    for character in re.findall(
        r".(?:[\u200d].|[\u0300-\u036f\ufe0e\ufe0f\U0001f3fb-\U0001f3ff])*", piece.text
    ):
        if parts[-1] and width(parts[-1] + character) > profile.cells:
            parts.append("")
        parts[-1] += character
    share = (piece.end - piece.start) / len(parts)
    blank = piece.blank
    for number, part in enumerate(parts):
        start, text = piece.start + number * share, part.strip()
        if text:
            blank = blank or part[0].isspace()
            yield _Piece(start, start + share, text, blank, piece.speaker)
        blank = part[-1:].isspace()


def _turns(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces of one speaker without a long pause."""
    turn: list[_Piece] = []
    for piece in pieces:
        if turn and (piece.speaker != turn[-1].speaker or piece.start - turn[-1].end >= PAUSE):
            yield turn
            turn = []
        turn.append(piece)
    if turn:
        yield turn


def _grouped(turn: Sequence[_Piece], profile: Profile) -> Iterator[Sequence[_Piece]]:
    """The division of a turn into captions that costs least."""
    costs, firsts = [0.0], [0]
    for end in range(1, len(turn) + 1):
        best, best_first = float("inf"), end - 1
        for first in range(end - 1, -1, -1):
            group = turn[first:end]
            if len(group) > 1 and not _fits(group, profile):
                break
            cost = costs[first] + _cost(turn, first, end, profile)
            if cost < best:
                best, best_first = cost, first
        costs.append(best)
        firsts.append(best_first)
    bounds = [len(turn)]
    while bounds[-1]:
        bounds.append(firsts[bounds[-1]])
    bounds.reverse()
    for first, end in pairwise(bounds):
        yield turn[first:end]


def _fits(group: Sequence[_Piece], profile: Profile) -> bool:
    too_long = group[-1].end - group[0].start > profile.longest
    return not too_long and _lines(group, profile) is not None


def _cost(turn: Sequence[_Piece], first: int, end: int, profile: Profile) -> float:
    group = turn[first:end]
    until = turn[end].start - profile.gap if end < len(turn) else group[-1].end + PAUSE
    time = max(until - group[0].start, 0.001)
    cost = 2.0 + 3 * _roughness(group[-1], turn[end] if end < len(turn) else None)
    cost += sum(1.5 for piece in group[:-1] if _SENTENCE_END.search(piece.text))
    cost += 8 * max(0.0, 1 - time / profile.shortest)
    cost += 0.5 * max(0.0, width(_joined(group)) / time - profile.fastest)
    return cost + (4 if len(group) == 1 and len(turn) > 1 and width(group[0].text) < profile.cells / 2 else 0)


def _roughness(piece: _Piece, following: _Piece | None) -> float:
    """How much a break after a piece hurts, from 0 to 1."""
    if following is None or _SENTENCE_END.search(piece.text):
        return 0
    if _CLAUSE_END.search(piece.text):
        return 0.3
    return max(0.4, 1 - (following.start - piece.end))


def _joined(group: Sequence[_Piece]) -> str:
    return "".join((" " if piece.blank and number else "") + piece.text for number, piece in enumerate(group))


def _lines(group: Sequence[_Piece], profile: Profile) -> tuple[str, ...] | None:
    """One line if it fits, else the best two; ``None`` if nothing fits."""
    whole = _joined(group)
    if width(whole) <= profile.cells:
        return (whole,)
    if profile.lines == 1:
        return None
    best: tuple[float, tuple[str, ...]] | None = None
    for middle in range(1, len(group)):
        lines = (_joined(group[:middle]), _joined(group[middle:]))
        widths = [width(line) for line in lines]
        if max(widths) <= profile.cells:
            rough = _roughness(group[middle - 1], group[middle])
            cost = abs(widths[0] - widths[1]) / profile.cells + rough
            if best is None or cost < best[0]:
                best = (cost, lines)
    return best[1] if best else None


def _timed(groups: Sequence[Sequence[_Piece]], profile: Profile, narrow: Profile | None = None) -> list[Cue]:
    """Captions of groups, which are in the order of time.

    :param narrow: How lines are laid out of which two stand in one caption, if that may be.
    """
    gap, longest = _milliseconds(profile.gap), _milliseconds(profile.longest)
    together = list(_paired(groups, profile, narrow))
    starts: list[int] = []
    for first, *_ in together:
        start = max(0, _milliseconds(first[0].start))
        starts.append(max(start, starts[-1] + gap + 1) if starts else start)
    result: list[Cue] = []
    for index, members in enumerate(together):
        text = " ".join(map(_joined, members))
        needed = _milliseconds(max(profile.shortest, width(text) / profile.rate))
        end = max(*(_milliseconds(group[-1].end) for group in members), starts[index] + needed)
        end = min(end, starts[index] + longest)
        if index + 1 < len(together):
            end = min(end, starts[index + 1] - gap)
        end = max(end, starts[index] + 1)
        if len(members) > 1:
            speakers = tuple(group[0].speaker or "" for group in members)
            result.append(Cue(starts[index], end, tuple(map(_joined, members)), None, speakers))
        else:
            lines = _lines(members[0], profile) or (_joined(members[0]),)
            result.append(Cue(starts[index], end, lines, members[0][0].speaker))
    return result


def _paired(
    groups: Sequence[Sequence[_Piece]], profile: Profile, narrow: Profile | None
) -> Iterator[list[Sequence[_Piece]]]:
    """Put in one caption what a second speaker begins to say in the first half of what another says."""
    members: list[Sequence[_Piece]] = []
    for group in groups:
        if members and _may_join(group, members, profile, narrow):
            members.append(group)
            continue
        if members:
            yield members
        members = [group]
    if members:
        yield members


def _may_join(
    group: Sequence[_Piece], members: list[Sequence[_Piece]], profile: Profile, narrow: Profile | None
) -> bool:
    if narrow is None or len(members) == profile.lines:
        return False
    speakers = [each[0].speaker for each in (group, *members)]
    if not all(speakers) or len(set(speakers)) < len(speakers):
        return False
    first = members[0]
    half = (first[0].start + first[-1].end) / 2
    fits = all(width(_joined(each)) <= narrow.cells for each in (group, *members))
    return fits and group[0].start < half


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def broken_rules(cues: Sequence[Cue], profile: Profile) -> list[str]:
    """What is wrong with captions, one sentence each; none when all rules are kept.

    Speech can be faster than people read: a caption is too short or too fast only if it could have stood
    longer.
    """
    found = []
    gap = _milliseconds(profile.gap)
    for number, cue in enumerate(cues, start=1):
        following = cues[number] if number < len(cues) else None
        time = cue.end - cue.start
        free = following is None or cue.end + gap < following.start
        cells = width(" ".join(cue.lines))
        problems = {
            "has no text": not cue.lines or not all(line.strip() for line in cue.lines),
            f"has more than {profile.lines} lines": len(cue.lines) > profile.lines,
            f"has a line of more than {profile.cells} cells": any(
                width(line) > profile.cells for line in cue.lines
            ),
            "ends before it starts": time <= 0,
            "comes too close to the next": following is not None and cue.end + gap > following.start,
            f"stands longer than {profile.longest:g} s": time > profile.longest * 1000,
            f"stands less than {profile.shortest:g} s": free and time < profile.shortest * 1000,
            f"shows more than {profile.fastest:g} cells a second": free
            and time < profile.longest * 1000
            and cells * 1000 > time * profile.fastest + 1000,
        }
        found += [f"Caption {number} {problem}." for problem, is_there in problems.items() if is_there]
    return found
