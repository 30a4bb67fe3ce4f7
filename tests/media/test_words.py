"""Titles of tracks tell commentary, audio description, music and effects, in many languages."""

from __future__ import annotations

import pytest

from vod.media.words import is_beside_the_speech


@pytest.mark.parametrize(
    "title",
    [
        *("Director's commentary", "Regiekommentar", "Audiokommentar mit dem Team", "Commentaires audio"),
        *("Comentarios del director", "Comentário", "コメンタリー", "评论音轨", "Комментарии режиссёра"),
        *("Audio Description", "English (AD)", "Audiodescription", "Audiodescripción", "Hörfilmfassung"),
        *("Syntolkning", "Тифлокомментарий", "口述影像", "화면해설", "Descriptive Video Service"),
        *("Music and Effects", "M+E", "M&E only", "Musik / Effekte", "Karaoke", "Isolated Score", "音楽"),
        *("Música y efectos", "Musique & effets", "AUDIODESCRIPCION"),
    ],
)
def test_beside_the_speech(title: str) -> None:
    assert is_beside_the_speech(title)


@pytest.mark.parametrize(
    "title",
    [
        *("", "Deutsch", "English 5.1", "The Sound of Music", "Musical", "Stereo", "Original", "Score: 3-2"),
        *("Radio", "Academy", "国语", "Me and You", "Facts and effects of X"),
    ],
)
def test_the_speech_itself(title: str) -> None:
    assert not is_beside_the_speech(title)
