"""Writers of captions: a transcription as text, as subtitles, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from xml.sax.saxutils import escape as xml_escape
from xml.sax.saxutils import quoteattr

from vod.errors import InvalidInputError
from vod.speech.layout import PAUSE, Profile, cues
from vod.speech.letters import clean
from vod.speech.transcription import Segment, Transcription

PARAGRAPH = 600
"""Characters after which a sentence's end ends the paragraph."""

Writer = Callable[[Transcription, "Profile | None"], str]


def _txt(transcription: Transcription, _profile: Profile | None) -> str:
    """Paragraphs: a new one for each speaker, after a long pause, and when one has become long."""
    paragraphs: list[str] = []
    last: Segment | None = None
    speaker = ""
    for segment in transcription.segments:
        text = clean("".join(word.text for word in segment.words))
        if not text:
            continue
        before, speaker = speaker, clean(segment.speaker or "")
        joined = last is not None and before == speaker
        pause = segment.start - last.end if last else 0
        if joined and pause < 2 * PAUSE and len(paragraphs[-1]) < PARAGRAPH:
            blank = " " if segment.words[0].text[:1].isspace() else ""
            paragraphs[-1] += blank + text
        elif speaker and not joined:
            paragraphs.append(f"{speaker}: {text}")
        else:
            paragraphs.append(text)
        last = segment
    return "\n".join(f"{paragraph}\n" for paragraph in paragraphs)


def _srt(transcription: Transcription, profile: Profile | None) -> str:
    """SubRip. It has no way to escape: what players take for a tag or a time becomes a similar character."""
    parts = []
    speaker = None
    for number, cue in enumerate(cues(transcription, profile), start=1):
        lines = list(cue.lines)
        if cue.speakers:
            lines = [f"[{name}] {line}" for name, line in zip(cue.speakers, lines, strict=True)]
        elif cue.speaker and cue.speaker != speaker:
            lines.insert(0, f"[{cue.speaker}]")
        speaker = cue.speaker
        text = "\n".join(lines).replace("-->", "→").replace("<", "\u2039").replace(">", "\u203a")
        parts.append(f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{text}\n")
    return "\n".join(parts)


def _vtt(transcription: Transcription, profile: Profile | None) -> str:
    """WebVTT, with the speaker as the voice of a caption."""
    parts = ["WEBVTT\n"]
    for cue in cues(transcription, profile):
        if cue.speakers:
            spoken = zip(cue.speakers, cue.lines, strict=True)
            text = "\n".join(f"{_voice(name)}{escape(line, quote=False)}</v>" for name, line in spoken)
        else:
            text = _voice(cue.speaker) + escape("\n".join(cue.lines), quote=False)
        parts.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n")
    return "\n".join(parts)


def _voice(speaker: str | None) -> str:
    return f"<v {escape(speaker, quote=False)}>" if speaker else ""


def _ttml(transcription: Transcription, profile: Profile | None) -> str:
    """TTML 1, with speakers as agents."""
    laid_out = cues(transcription, profile)
    named = (name for cue in laid_out for name in (cue.speaker, *cue.speakers))
    speakers = list(dict.fromkeys(filter(None, named)))
    agents = "".join(
        f'      <ttm:agent xml:id="speaker{number}" type="person"><ttm:name type="full">'
        f"{xml_escape(speaker)}</ttm:name></ttm:agent>\n"
        for number, speaker in enumerate(speakers, start=1)
    )
    lines = []
    for cue in laid_out:
        agent = f' ttm:agent="speaker{speakers.index(cue.speaker) + 1}"' if cue.speaker else ""
        said = [xml_escape(line) for line in cue.lines]
        if cue.speakers:
            numbers = (speakers.index(name) + 1 for name in cue.speakers)
            said = [
                f'<span ttm:agent="speaker{number}">{line}</span>'
                for number, line in zip(numbers, said, strict=True)
            ]
        text = "<br/>".join(said)
        lines.append(
            f'      <p begin="{_clock(cue.start, ".")}" end="{_clock(cue.end, ".")}"{agent}>{text}</p>\n'
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" '
        f"xml:lang={quoteattr(clean(transcription.language))}>\n"
        f"  <head>\n    <metadata>\n{agents}    </metadata>\n  </head>\n"
        f"  <body>\n    <div>\n{''.join(lines)}    </div>\n  </body>\n</tt>\n"
    )


def _tsv(transcription: Transcription, _profile: Profile | None) -> str:
    """A row a sentence: start and end in milliseconds, speaker, text."""
    rows = [
        f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t"
        f"{clean(segment.speaker or '')}\t{text}\n"
        for segment in transcription.segments
        if (text := clean(segment.text))
    ]
    return "start\tend\tspeaker\ttext\n" + "".join(rows)


def _json(transcription: Transcription, _profile: Profile | None) -> str:
    return transcription.to_json() + "\n"


WRITERS: dict[str, Writer] = {
    "json": _json,
    "txt": _txt,
    "vtt": _vtt,
    "srt": _srt,
    "ttml": _ttml,
    "tsv": _tsv,
}
"""By format, which is also the file's extension."""


def write(transcription: Transcription, caption_format: str, profile: Profile | None = None) -> str:
    """The transcription in one of the formats of :data:`WRITERS`; a valid file also when nothing is said.

    :param profile: Rules of layout; the language's usual ones when omitted.
    :raises InvalidInputError: unknown format.
    """
    try:
        writer = WRITERS[caption_format]
    except KeyError:
        raise InvalidInputError(
            f"There is no caption format {caption_format!r}.", remedy=f"Choose one of: {', '.join(WRITERS)}."
        ) from None
    return writer(transcription, profile)


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{milliseconds:03d}"
