"""What the titles of tracks that are not the main speech say, in the languages of the world.

To extend it, add a word or phrase in lower case after a comma. Accents make no difference.
"""

from __future__ import annotations

import re
import unicodedata

COMMENTARY = """
comment, kommentar, comentari, comentário, commento, commentaar, kommentti, komentar, komentář, коммент,
коментар, σχολιασμός, yorumlu, film yorumu, bình luận, ulasan, פרשנות, تعليق, کامنت, コメンタリー, 评论音,
評論音, 导评, 導評, 講評, 코멘터리, ความเห็น, टिप्पणी
"""
"""A commentary over the film: found anywhere in a title, also within a word."""

DESCRIPTION = """
audio description, audiodescri, audio-descri, audiodeskri, audiobeschr, hörfilm, described, descriptive,
description, descrizione, descripción, descrição, descriptif, beskrivelse, syntolk, synstolk, kuvailutulk,
betimleme, тифло, для незрячих, ακουστική περιγραφή, תיאור קולי, وصف صوتي, 口述影像, 音声解説, 解説放送,
화면해설, thuyết minh hình, บรรยายภาพ
"""
"""What is to be seen, told for those who do not see it: found anywhere in a title."""

MUSIC_AND_EFFECTS = """
music, musik, musique, musica, muziek, musikk, musiikki, muzyka, hudba, zene, muzica, музыка, музика, μουσική,
müzik, nhạc, מוזיקה, موسيقى, موسیقی, 音楽, 音乐, 音樂, 配乐, 配樂, 음악,
เพลง, संगीत, effects, effekte, effets, efectos, efeitos, effetti, effecten, effekter, efekty, эффекты, ефекти,
efektler, 効果音, 音效, 효과음, m&e, m+e, score, soundtrack, instrumental, instrumentaal, karaoke, カラオケ,
卡拉ok, 노래방, bruitage, sfx, fx
"""
"""Words of which nothing else is in the title: a film may be called after music."""

_FILLERS = {
    *(
        "and",
        "und",
        "et",
        "y",
        "e",
        "en",
        "i",
        "og",
        "och",
        "ja",
        "&",
        "+",
        "/",
        "only",
        "nur",
        "seul",
        "solo",
    ),
    *("track", "spur", "piste", "isolated"),
}


def is_beside_the_speech(title: str) -> bool:
    """Whether a title is that of a commentary, a description, or of music and effects."""
    plain = _plain(title)
    if any(phrase in plain for phrase in _BESIDE):
        return True
    words = re.split(r"[\s,;:()\[\]\-_|·.]+", plain)
    if "ad" in words:  # audio description
        return True
    said = [word for word in words if word and word not in _FILLERS]
    return bool(said) and all(_is_music(word) for word in said)


def _is_music(word: str) -> bool:
    return word in _MUSIC or all(part in _MUSIC for part in re.split("[&+/]", word))


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _phrases(table: str) -> frozenset[str]:
    return frozenset(_plain(phrase) for phrase in re.split(r"[,\s]*,[,\s]*|\n", table.strip()) if phrase)


_BESIDE = _phrases(COMMENTARY.replace("\n", " ")) | _phrases(DESCRIPTION.replace("\n", " "))
_MUSIC = _phrases(MUSIC_AND_EFFECTS.replace("\n", " "))
