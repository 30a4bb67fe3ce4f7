"""Captions as people can read them: which words stand together, in which lines, and for how long."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

from vod.errors import InvalidInputError
from vod.speech.letters import MAY_BREAK, clean, closes, has_no_blanks, is_boundary, level, may_end, width
from vod.speech.transcription import Segment, Transcription

PAUSE = 1.0
"""Seconds without a word over which no caption goes."""

_UNSPEAKABLE = 6
"""Times as fast as people read, nobody speaks. Words that a recogniser cannot place get no time at all."""

_FAR = 2
"""Shortest times over which captions that come too fast share their time."""

_SENTENCE_END = re.compile(
    r"[.?!…\u3002\uff1f\uff01؟\u06d4।\u104b\u17d4\u1362\u0589][\"'”\u2019»)\]\u300d\u300f]*$"
)
_CLAUSE_END = re.compile(r"[,;:\u3001\uff0c\uff1b\uff1a،؛\u104a\u1363\u2013—][\"'”\u2019»)\]\u300d\u300f]*$")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Rules of layout. The defaults are those of broadcasters such as the BBC.

    :param cells: Cells in a line; a Chinese, Japanese or Korean character or an emoji takes two.
    :param lines: Lines in a caption: 1 or 2.
    :param rate: Cells that people read in a second: a caption stands as long as that takes, if it can.
    :param fastest: Cells in a second above which a caption is split or stands longer wherever it can.
    :param shortest: Seconds that a caption stands at least, if the next one leaves it the time.
    :param longest: Seconds that a caption stands at most; an hour at most.
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
            and 0 < self.rate <= self.fastest < math.inf
            and 0 < self.shortest < self.longest <= 3600
            and 0 <= self.gap <= 0.5
        ):
            raise InvalidInputError(
                "These rules for captions contradict each other or are out of range.",
                remedy="Give at least 8 cells, 1 or 2 lines, 0 < rate <= fastest < infinity, "
                "0 < shortest < longest <= 3600 and a gap of at most 0.5 s.",
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


def cues(transcription: Transcription, profile: Profile | None = None) -> list[Cue]:
    """Captions of a transcription, in the order of time; none overlaps the next and no word is lost.

    Where several speak at once each has a line, as broadcasters do it. Words from before the video starts are
    left out: nobody could show them.

    :param profile: The language's usual one when omitted.
    """
    profile = profile or profile_for(transcription.language)
    pieces = [
        piece
        for segment in sorted(transcription.segments, key=lambda segment: segment.start)
        for piece in _attached(_pieces(segment, profile), profile)
    ]
    turns = list(_turns(_spread(pieces, profile)))
    crowded = _at_once(turns)
    narrow = _narrow(transcription, profile) if crowded else None
    groups = [
        group
        for number, turn in enumerate(turns)
        for group in (
            _grouped(_recut(turn, narrow), narrow)
            if narrow and number in crowded
            else _grouped(turn, profile)
        )
    ]
    return _timed(sorted(groups, key=lambda group: group[0].start), profile, narrow)


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


class _Letter(NamedTuple):
    text: str
    start: float
    end: float
    begins: bool  # a word of the recogniser


def _pieces(segment: Segment, profile: Profile) -> Iterator[_Piece]:
    speaker = clean(segment.speaker or "") or None
    for run in _runs(segment):
        text = "".join(letter.text for letter in run)
        if not clean(text):
            continue
        begins = [at for at, letter in enumerate(run) if at and letter.begins]
        bounds = [0]
        for at, following in pairwise([*begins, len(run)]):
            too_wide = width(text[bounds[-1] : following]) > profile.cells
            if is_boundary(text, at) or (too_wide and may_end(text, at)):
                bounds.append(at)
        for first, end in pairwise([*bounds, len(run)]):
            starts, ends = run[first].start, max(letter.end for letter in run[first:end])
            if starts >= 0 or _milliseconds(ends) > 0:
                piece = _Piece(max(0.0, starts), ends, text[first:end], not first, speaker)
                yield from _cut(piece, profile)


def _runs(segment: Segment) -> Iterator[list[_Letter]]:
    """What stands between two blanks, by letters, each with its share of the time.

    A word of the recogniser, or of a person who corrected it, can be a whole sentence, or a syllable.
    """
    run: list[_Letter] = []
    for word in segment.words:
        text = level(word.text)
        blanks = len(text) - len(text.lstrip())
        share = max(0.0, word.end - word.start) / max(1, len(text.strip()))
        begins = True
        for at, character in enumerate(text, -blanks):
            if character == MAY_BREAK:
                begins = True
            elif not character.isspace():
                start = word.start + at * share
                run.append(_Letter(character, start, start + share, begins))
                begins = False
            elif run:
                yield run
                run = []
    if run:
        yield run


def _cut(piece: _Piece, profile: Profile) -> Iterator[_Piece]:
    """A word in pieces that fit a line, each with its share of the time."""
    text = piece.text
    if width(text) <= profile.cells:
        yield piece
        return
    bounds = [0]
    for end in [*(at for at in range(1, len(text)) if is_boundary(text, at)), len(text)]:
        while width(text[bounds[-1] : end]) > profile.cells:
            bounds.append(_full(text, bounds[-1], profile.cells))
        bounds.append(end)
    share = (piece.end - piece.start) / len(text)
    for first, end in pairwise(bounds):
        start = piece.start + first * share
        blank = piece.blank and not first
        yield replace(
            piece, start=start, end=start + (end - first) * share, text=text[first:end], blank=blank
        )


def _full(text: str, first: int, cells: int) -> int:
    """Where a line that begins at a letter ends: behind a comma, a hyphen or such, or where it is full."""
    limit = first + 1
    while width(text[first : limit + 1]) <= cells:
        limit += 1
    ends = [at for at in range(limit, first, -1) if may_end(text, at)]
    marks = (
        at for at in ends if 2 * at > first + limit and not text[at - 1].isalnum() and text[at].isalnum()
    )
    return next(marks, ends[0] if ends else limit)


def _attached(pieces: Iterable[_Piece], profile: Profile) -> Iterator[_Piece]:
    """A mark with a blank before it, as in French, stays with its word."""
    word: _Piece | None = None
    for piece in pieces:
        if word and piece.blank and all(map(closes, piece.text)):
            whole = f"{word.text} {piece.text}"
            if width(whole) <= profile.cells:
                word = replace(word, end=max(word.end, piece.end), text=whole)
                continue
        if word:
            yield word
        word = piece
    if word:
        yield word


def _spread(pieces: Sequence[_Piece], profile: Profile) -> list[_Piece]:
    """Words that come faster than anybody speaks share the time until their speaker goes on.

    They take no more of it than people need to read them. Such times are none: the recogniser did not know.
    """
    result = list(pieces)
    by_speaker: dict[str | None, list[int]] = {}
    for number, piece in enumerate(pieces):
        by_speaker.setdefault(piece.speaker, []).append(number)
    for numbers in by_speaker.values():
        first = 0
        for end in range(1, len(numbers) + 1):
            before, following = pieces[numbers[end - 1]], pieces[numbers[end]] if end < len(numbers) else None
            least = width(before.text) / (_UNSPEAKABLE * profile.rate)
            if following and 0 <= following.start - before.start <= least:
                continue
            together = [pieces[number] for number in numbers[first:end]]
            if len(together) > 1:
                shared = _shared(together, following.start if following else math.inf, profile)
                for number, piece in zip(numbers[first:end], shared, strict=True):
                    result[number] = piece
            first = end
    return result


def _shared(pieces: Sequence[_Piece], until: float, profile: Profile) -> Iterator[_Piece]:
    at = list(accumulate((piece.blank + width(piece.text) for piece in pieces), initial=0))
    start = pieces[0].start
    end = min(until, max(start + at[-1] / profile.rate, *(piece.end for piece in pieces)))
    share = max(0.0, end - start) / max(1, at[-1])
    for piece, (first, last) in zip(pieces, pairwise(at), strict=True):
        yield replace(piece, start=start + first * share, end=start + last * share)


def _turns(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces of one speaker without a long pause, forward or back in time."""
    turn: list[_Piece] = []
    for piece in pieces:
        if turn and (
            piece.speaker != turn[-1].speaker
            or piece.start - turn[-1].end >= PAUSE
            or turn[-1].start - piece.start >= PAUSE
        ):
            yield turn
            turn = []
        turn.append(piece)
    if turn:
        yield turn


class _Division:
    """The division of a turn into captions that costs least.

    What a caption costs is asked for some eighty times a word, so widths are sums from the turn's start.
    """

    def __init__(self, turn: Sequence[_Piece], profile: Profile) -> None:
        self._turn, self._profile = turn, profile
        self._cells = list(accumulate((piece.blank + width(piece.text) for piece in turn), initial=0))
        self._sentences = list(
            accumulate((bool(_SENTENCE_END.search(piece.text)) for piece in turn), initial=0)
        )

    def bounds(self) -> list[int]:
        """Numbers of the first piece of each caption, and behind the last."""
        costs, firsts = [0.0], [0]
        for end in range(1, len(self._turn) + 1):
            best, best_first = float("inf"), end - 1
            for first in range(end - 1, -1, -1):
                if end - first > 1 and not self._fits(first, end):
                    break
                cost = costs[first] + self._cost(first, end)
                if cost < best:
                    best, best_first = cost, first
            costs.append(best)
            firsts.append(best_first)
        bounds = [len(self._turn)]
        while bounds[-1]:
            bounds.append(firsts[bounds[-1]])
        return bounds[::-1]

    def _width(self, first: int, end: int) -> int:
        return self._cells[end] - self._cells[first] - self._turn[first].blank

    def _fits(self, first: int, end: int) -> bool:
        turn, cells = self._turn, self._profile.cells
        if turn[end - 1].end - turn[first].start > self._profile.longest:
            return False
        if self._profile.lines == 1 or self._width(first, end) <= cells:
            return self._width(first, end) <= cells
        full = cells + self._cells[first] + turn[first].blank
        second = bisect_right(self._cells, full, first + 1, end) - 1
        return self._width(second, end) <= cells

    def _cost(self, first: int, end: int) -> float:
        turn, profile = self._turn, self._profile
        following = turn[end] if end < len(turn) else None
        until = following.start - profile.gap if following else turn[-1].end + PAUSE
        time, cells = max(0.0, until - turn[first].start), self._width(first, end)
        cost = 2.0 + 3 * _roughness(turn[end - 1], following)
        cost += 1.5 * (self._sentences[end - 1] - self._sentences[first])
        # Neither grows without limit: words without time would stand alone, one a caption.
        cost += 8 * max(0.0, 1 - time / profile.shortest)
        cost += 10 * max(0.0, 1 - time * profile.fastest / max(1, cells))
        return cost + (
            4 if end - first < len(turn) and cells < profile.cells / (2 if end - first == 1 else 4) else 0
        )


def _grouped(turn: Sequence[_Piece], profile: Profile) -> Iterator[Sequence[_Piece]]:
    for first, end in pairwise(_Division(turn, profile).bounds()):
        yield turn[first:end]


def _roughness(piece: _Piece, following: _Piece | None) -> float:
    """How much a break after a piece hurts: from 0 to 1 between words, more where there should be none."""
    if following is None:
        return 0
    if _SENTENCE_END.search(piece.text):
        return 0
    if _CLAUSE_END.search(piece.text):
        return 0.3
    if not (following.blank or has_no_blanks(piece.text[-1]) or has_no_blanks(following.text[0])):
        return 2
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
    starts = _starts([_milliseconds(first[0].start) for first, *_ in together], profile)
    result: list[Cue] = []
    for index, members in enumerate(together):
        text = " ".join(map(_joined, members))
        needed = _milliseconds(min(profile.longest, max(profile.shortest, width(text) / profile.rate)))
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


def _starts(spoken: Sequence[int], profile: Profile) -> list[int]:
    """When captions appear: when they are spoken, unless one would stand less than half the shortest time.

    Such captions share the time until a later one; none is later than spoken by more than the shortest time.

    :param spoken: Milliseconds, in the order of time.
    """
    shortest, gap = _milliseconds(profile.shortest), _milliseconds(profile.gap)
    starts: list[int] = []
    first = 0
    while first < len(spoken):
        until, share = first + 1, 0.0
        for later in range(first + 1, len(spoken) + 1):
            time = spoken[later] - spoken[first] if later < len(spoken) else math.inf
            if time / (later - first) > share:
                until, share = later, time / (later - first)
            enough = shortest / 2 + gap if later == first + 1 else shortest
            if share >= enough or (share and time > _FAR * shortest):
                break
        known = range(first + 1, until)
        in_time = ((spoken[each] - spoken[first] + shortest) / (each - first) for each in known)
        step = min(share, shortest, *in_time)
        for number in range(first, until):
            start = max(spoken[number], spoken[first] + round((number - first) * step))
            starts.append(max(start, starts[-1] + gap + 1) if starts else start)
        first = until
    return starts


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

    Speech can be faster than people read: where the next caption leaves no more time, one is too short or too
    fast only from half the shortest time and twice the fastest rate on.
    """
    found = []
    gap = _milliseconds(profile.gap)
    for number, cue in enumerate(cues, start=1):
        following = cues[number] if number < len(cues) else None
        time = cue.end - cue.start
        free = following is None or cue.end + gap < following.start
        leave, why = (1, "") if free else (2, ": the next follows at once")
        cells = width(" ".join(cue.lines))
        problems = {
            "has no text": not cue.lines or not all(map(clean, cue.lines)),
            f"has more than {profile.lines} lines": len(cue.lines) > profile.lines,
            f"has a line of more than {profile.cells} cells": any(
                width(line) > profile.cells for line in cue.lines
            ),
            "ends before it starts": time <= 0,
            "comes too close to the next": following is not None and cue.end + gap > following.start,
            f"stands longer than {profile.longest:g} s": time > profile.longest * 1000,
            f"stands less than {profile.shortest / leave:g} s{why}": time * leave < profile.shortest * 1000,
            f"shows more than {profile.fastest * leave:g} cells a second{why}": (
                time < profile.longest * 1000 and cells * 1000 > time * profile.fastest * leave + 1000
            ),
        }
        found += [f"Caption {number} {problem}." for problem, is_there in problems.items() if is_there]
    return found
