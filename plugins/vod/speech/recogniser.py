"""Recognises what is said in samples, with faster-whisper. Runs in the recogniser's own process only.

A window is searched for speech, the speech is recognised in independent pieces of up to 30 seconds, several
at a time. What the model passes over is recognised by itself, and what the model itself finds doubtful once
more, the slower way.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vod.speech.audio import SAMPLE_RATE
from vod.speech.languages import base_code
from vod.speech.options import SpeechOptions
from vod.speech.passages import Passage
from vod.speech.pieces import Piece, Stretch, cut, find_speech, missed, restored, sounds_at
from vod.speech.transcription import Dropped, Segment, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAUSE = 1.0
"""Seconds of silence that end a segment."""

MAX_COMPRESSION = 2.4
"""A piece whose text zlib makes smaller than this times repeats itself; Whisper's own limit."""

MIN_LOG_PROBABILITY = -1.0
"""Average of a piece below which Whisper doubts it; Whisper's own limit."""

MIN_WORD_PROBABILITY = 0.2
"""Mean of a piece's words. Clips of English have 0.59 to 0.96; what a hum was taken for had 0.02."""

MIN_LANGUAGE = 0.5
"""Probability above which a multilingual model's word about the language counts."""

FEW_WORDS = 0.5
"""Words a second of speech below which an English-only model has not understood the language."""

FOREIGN = 0.5
"""Mean probability of the words below which it has not either. English had 0.89 to 0.96, German 0.49."""

ENOUGH_SPEECH = 5.0
"""Seconds of speech that these two limits need."""

_TOLD_BY = 3
_LOOP = 3
_LONG_SENTENCE = 12
"""Words in a row that want some punctuation."""

_OPENINGS = {"en": "Well, let us begin."}

_SENTENCE_ENDS = (".", "?", "!", "…", "\u3002", "\uff1f", "\uff01")
_FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class LanguageMismatch(Exception):  # noqa: N818 - it is an answer
    """An English-only model was given another language.

    :param language: Which, if a multilingual model could tell; else empty.
    """

    def __init__(self, language: str, probability: float | None) -> None:
        super().__init__(language)
        self.language = language
        self.probability = probability


class Recogniser:
    """One loaded model.

    :param folder: With a CTranslate2 Whisper model.
    :param device: ``cpu`` or ``cuda``.
    :param teller: Folder of a multilingual model, which tells the language when this one knows only English.
    """

    def __init__(
        self, folder: Path, device: str, compute_type: str, threads: int, *, teller: Path | None = None
    ) -> None:
        self._made = {"device": device, "compute_type": compute_type, "cpu_threads": threads}
        self._whisper = self._load(folder)
        self._teller = teller
        self._telling: Any = None
        self._batch = 16 if device == "cuda" else 8

    def _load(self, folder: Path) -> Any:
        from faster_whisper import WhisperModel

        return WhisperModel(str(folder), **self._made)

    @property
    def languages(self) -> list[str]:
        """Codes of the languages that the model knows."""
        return list(self._whisper.supported_languages)

    def passage(
        self,
        samples: NDArray[np.float32],
        start: float,
        options: SpeechOptions,
        language: str,
        heard: Callable[[float], None],
    ) -> Passage:
        """What is said in a window.

        :param start: Seconds of the audio at which the window starts.
        :param language: As an earlier window of the audio had it; empty: to be recognised.
        :param heard: Called with the seconds of the audio that are recognised.
        :raises LanguageMismatch: an English-only model, and another language.
        """
        end = start + len(samples) / SAMPLE_RATE
        empty = Passage(start=start, end=end, speech_seconds=0.0)
        stretches = find_speech(samples, options.vad)
        pieces = list(cut(samples, stretches))
        if not pieces:
            return empty
        speech = sum(len(piece.samples) for piece in pieces) / SAMPLE_RATE
        told, probability = self._language(pieces, options, language)
        found: list[tuple[str, Any]] = []
        dropped: Counter[str] = Counter()
        for code, group in self._groups(pieces, options, told):
            left = list[Piece]()
            for piece, segments in self._recognised(group, code, options):
                found += [(code, each) for each in self._kept(piece, segments, code, options, dropped)]
                left += missed(piece, (word for segment in segments for word in segment.words or ()))
                heard(start + restored(piece.end, stretches))
            for piece, segments in self._recognised(left, code, options):
                sure = [segment for segment in segments if not _is_doubtful(segment)]
                dropped["improbable"] += len(segments) - len(sure)
                found += [(code, each) for each in self._kept(piece, sure, code, options, dropped)]
        found.sort(key=lambda each: each[1][0].start)
        if not told and speech >= ENOUGH_SPEECH and is_foreign([each for _, each in found], speech):
            raise LanguageMismatch("", None)
        return Passage(
            start=start,
            end=end,
            segments=tuple(
                replace(sentence, language=code if options.multilingual else None)
                for code, each in found
                for sentence in sentences(_placed(each, start, stretches, samples))
            ),
            language=told or "en",
            language_probability=probability,
            speech_seconds=round(speech, 3),
            dropped=Dropped(loops=dropped["loops"], improbable=dropped["improbable"]),
        )

    def _language(self, pieces: list[Piece], options: SpeechOptions, known: str) -> tuple[str, float | None]:
        """The language, and its probability if it was told here. Empty: English only, and nobody can tell."""
        english_only = self.languages == ["en"]
        if known:
            return known, None
        given = base_code(options.language)
        if options.multilingual and not english_only:
            return self._told(self._whisper, pieces, "")
        if not english_only:
            return self._told(self._whisper, pieces, given)
        if self._teller is None:
            return "", None
        self._telling = self._telling or self._load(self._teller)
        told, probability = self._told(self._telling, pieces, "")
        if told != "en" and (probability or 0) >= MIN_LANGUAGE:
            raise LanguageMismatch(told, probability)
        return "en", probability if told == "en" else None

    @staticmethod
    def _told(whisper: Any, pieces: list[Piece], given: str) -> tuple[str, float]:
        """By several of the longest pieces: one alone may be music, a name or a greeting."""
        chosen = sorted(pieces, key=lambda piece: -len(piece.samples))[:_TOLD_BY]
        sums: Counter[str] = Counter()
        for piece in chosen:
            for code, probability in whisper.detect_language(piece.samples)[2]:
                sums[code] += probability / len(chosen)
        best = given or max(sums, key=lambda code: sums[code])
        return best, round(float(sums[best]), 4)

    def _groups(
        self, pieces: list[Piece], options: SpeechOptions, told: str
    ) -> Iterator[tuple[str, list[Piece]]]:
        if not options.multilingual or self.languages == ["en"]:
            yield told or "en", pieces
            return
        groups: dict[str, list[Piece]] = {}
        for piece in pieces:
            code, probability = self._told(self._whisper, [piece], "")
            groups.setdefault(code if probability >= MIN_LANGUAGE else told, []).append(piece)
        yield from groups.items()

    def _recognised(
        self, pieces: list[Piece], language: str, options: SpeechOptions
    ) -> Iterator[tuple[Piece, list[Any]]]:
        """The segments of each piece. Their times are those of the pieces put together."""
        if not pieces:
            return
        import numpy as np
        from faster_whisper import BatchedInferencePipeline

        joined = np.concatenate([piece.samples for piece in pieces])
        starts = np.cumsum([0, *(len(piece.samples) for piece in pieces)])
        segments, _ = BatchedInferencePipeline(self._whisper).transcribe(
            joined,
            language=language,
            batch_size=options.batch_size or self._batch,
            # Half a sample more: the library multiplies and cuts off.
            clip_timestamps=[
                {"start": (first + 0.5) / SAMPLE_RATE, "end": (last + 0.5) / SAMPLE_RATE}
                for first, last in pairwise(starts)
            ],
            word_timestamps=True,
            **self._decoding(options),
        )
        number, found = 0, list[Any]()
        for segment in segments:
            middle = (segment.seek / 100 + 0.02) * SAMPLE_RATE
            while number + 1 < len(pieces) and middle >= starts[number + 1]:
                yield pieces[number], _moved(found, pieces[number].offset - starts[number] / SAMPLE_RATE)
                number, found = number + 1, []
            found.append(segment)
        for rest in range(number, len(pieces)):
            yield pieces[rest], _moved(found, pieces[rest].offset - starts[rest] / SAMPLE_RATE)
            found = []

    @staticmethod
    def _decoding(options: SpeechOptions) -> dict[str, Any]:
        return {
            "task": options.task,
            "beam_size": options.beam_size,
            "hotwords": options.hotwords or None,
            "initial_prompt": options.initial_prompt or None,
        }

    def _again(self, piece: Piece, language: str, options: SpeechOptions, **changed: Any) -> list[Any]:
        import ctranslate2

        ctranslate2.set_random_seed(0)  # the same audio always gives the same text
        segments, _ = self._whisper.transcribe(
            piece.samples,
            language=language,
            condition_on_previous_text=False,
            word_timestamps=True,
            **{"temperature": _FALLBACK, **self._decoding(options), **changed},
        )
        return _moved(list(segments), piece.offset)

    def _kept(
        self,
        piece: Piece,
        segments: list[Any],
        language: str,
        options: SpeechOptions,
        dropped: Counter[str],
    ) -> Iterator[list[Word]]:
        """The words of each segment that somebody has said."""
        if any(map(_is_doubtful, segments)):
            segments = self._again(piece, language, options)
        elif _lacks_punctuation(segments) and language in _OPENINGS and not options.initial_prompt:
            # Whisper punctuates as the text before was punctuated.
            prompted = self._again(
                piece, language, options, temperature=0.0, initial_prompt=_OPENINGS[language]
            )
            segments = punctuated(segments, prompted, _OPENINGS[language])
        for segment in segments:
            words = [
                Word(
                    start=float(word.start),
                    end=float(word.end),
                    text=word.word,
                    probability=float(word.probability),
                )
                for word in segment.words or ()
                if word.word.strip()
            ]
            if segment.compression_ratio > MAX_COMPRESSION:
                words, repetitions = without_loops(words)
                dropped["loops"] += repetitions
            if words and _mean(words) < MIN_WORD_PROBABILITY:
                dropped["improbable"] += 1
            elif words:
                yield words


def without_loops(words: list[Word]) -> tuple[list[Word], int]:
    """Words without what was repeated three times or more in a row, and how many repetitions were cut."""
    texts = [word.text.strip(" ,.!?").lower() for word in words]
    kept: list[Word] = []
    cut = at = 0
    while at < len(words):
        for length in range(1, min(20, (len(words) - at) // _LOOP) + 1):
            phrase, times = texts[at : at + length], 1
            while texts[at + times * length : at + (times + 1) * length] == phrase:
                times += 1
            if times >= _LOOP:
                kept += words[at : at + length]
                cut += times - 1
                at += times * length
                break
        else:
            kept.append(words[at])
            at += 1
    return kept, cut


def sentences(words: Iterable[Word]) -> Iterator[Segment]:
    """Split words where a sentence ends, or somebody pauses."""
    current: list[Word] = []
    for word in words:
        if current and (current[-1].text.endswith(_SENTENCE_ENDS) or word.start - current[-1].end >= PAUSE):
            yield Segment(tuple(current))
            current = []
        current.append(word)
    if current:
        yield Segment(tuple(current))


def _is_doubtful(segment: Any) -> bool:
    return bool(segment.compression_ratio > MAX_COMPRESSION or segment.avg_logprob < MIN_LOG_PROBABILITY)


def is_foreign(found: list[list[Word]], speech: float) -> bool:
    """Whether what an English-only model gave for so many seconds of speech shows that it was not English."""
    words = [word for each in found for word in each]
    return not words or len(words) / speech < FEW_WORDS or _mean(words) < FOREIGN


def punctuated(segments: list[Any], prompted: list[Any], prompt: str) -> list[Any]:
    """What was heard, written as it was with a prompt where both are the same.

    What was heard with the prompt counts itself if Whisper is surer of it, and the prompt, which can come
    back as speech, is not in it.
    """
    heard = [word for segment in segments for word in segment.words or ()]
    others = [word for segment in prompted for word in segment.words or ()]
    plain, theirs = list(map(_plain, heard)), list(map(_plain, others))
    matcher = SequenceMatcher(None, plain, theirs, autojunk=False)
    written = {
        block.a + step: others[block.b + step].word.strip()
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
    }
    if len(written) < len(heard) / 2:  # it heard something else
        return segments
    last_words = " ".join(re.findall(r"\w+", prompt.lower())[-3:])
    if _sureness(prompted) > _sureness(segments) and last_words not in " ".join(theirs):
        return prompted
    numbers = itertools.count()
    return [
        replace(
            segment,
            words=[
                replace(word, word=" " * word.word.startswith(" ") + written.get(number, word.word.strip()))
                for word, number in zip(segment.words or (), numbers, strict=False)
            ],
        )
        for segment in segments
    ]


def _sureness(segments: list[Any]) -> float:
    return sum(float(segment.avg_logprob) for segment in segments) / len(segments)


def _plain(word: Any) -> str:
    return re.sub(r"\W+", "", word.word.lower())


def _lacks_punctuation(segments: list[Any]) -> bool:
    text = "".join(segment.text for segment in segments)
    return len(text.split()) >= _LONG_SENTENCE and not re.search(r"[.,!?]", text)


def _mean(words: list[Word]) -> float:
    return sum(word.probability or 0 for word in words) / len(words)


def _moved(segments: list[Any], seconds: float) -> list[Any]:
    if not seconds:
        return segments
    return [
        replace(
            segment,
            words=[
                replace(word, start=word.start + seconds, end=word.end + seconds)
                for word in segment.words or ()
            ],
        )
        for segment in segments
    ]


def _placed(
    words: list[Word], start: float, stretches: Sequence[Stretch], samples: NDArray[np.float32]
) -> Iterator[Word]:
    """Words with the times of the audio: the pauses are put back. A word is not spread over one."""
    for word in words:
        middle = (word.start + word.end) / 2
        shift = restored(middle, stretches) - middle
        begin, end = word.start + shift, word.end + shift
        yield replace(
            word,
            start=round(start + sounds_at(samples, begin, end), 3),
            end=round(start + end, 3),
            probability=round(word.probability or 0.0, 4),
        )
