"""One parser for every location: what it names in whatever spelling, what of it is shown, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vod.locations import (
    ANYWHERE,
    AllowedLocations,
    InvalidLocationError,
    Kind,
    LocationNotAllowedError,
    file_stem,
    parse_location,
    public_name,
)

ID = "3e1cd21131a94525be55acf65888bf46"


@pytest.mark.parametrize(
    ("text", "kind", "scheme", "name"),
    [
        (ID, Kind.ASSET, "", ID),
        (f" {ID}\n", Kind.ASSET, "", ID),
        (f"vod://vod_default/{ID}", Kind.ASSET, "vod", ID),
        (f"VOD://vod_default/{ID}", Kind.ASSET, "vod", ID),
        ("/media/a b.mp4", Kind.FILE, "", "/media/a b.mp4"),
        ("talk.mp4", Kind.FILE, "", "talk.mp4"),
        ("a:b.mp4", Kind.FILE, "", "a:b.mp4"),
        ("file:///media/a%20b.mp4", Kind.FILE, "file", "/media/a b.mp4"),
        ("FILE:///dev/zero", Kind.FILE, "file", "/dev/zero"),
        ("local:///dev/zero", Kind.FILE, "file", "/dev/zero"),
        ("File://LocalHost/x", Kind.FILE, "file", "/x"),
        ("HTTPS://Example.COM/a.mp4", Kind.WEB, "https", "/a.mp4"),
        ("\thttp://[::1]:80/a", Kind.WEB, "http", "/a"),
        ("S3://bucket/key", Kind.STORAGE, "s3", "/key"),
        ("obs://vod_default@bucket/key", Kind.STORAGE, "obs", "/key"),
    ],
)
def test_the_parsed_parts_decide_and_not_the_spelling(text: str, kind: Kind, scheme: str, name: str) -> None:
    location = parse_location(text)
    assert (location.kind, location.scheme, location.name) == (kind, scheme, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "/a\0b",
        "file://server/share",
        "file:///a%00b",
        "http://",
        "https://[",
        "http://host:99999/a",
        "http://a b/",
        "https://host/a\r\nX: y",
        "s3://bucket/a/../../b",
        "https://host/%2e%2e/b",
        "https://host/%252e%252e/b",
        "zip://a.mp4::https://host/a.zip",
        "simplecache::s3://bucket/key",
        "s3:///key",
        f"vod:///{ID}",
        "vod://conn/../x",
        f"vod://conn/{ID}?a=b",
    ],
)
def test_what_names_nothing_is_refused_without_being_repeated(text: str) -> None:
    if text.startswith("simplecache"):  # a relative path, which nothing reads
        assert parse_location(text).kind is Kind.FILE
        return
    with pytest.raises(InvalidLocationError) as caught:
        parse_location(text)
    assert caught.value.remedy
    assert "X: y" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/a.mp4", "https://host/a.mp4"),
        ("HTTPS://bob:secret@Host:8443/a.mp4?Signature=secret#secret", "https://Host:8443/a.mp4?"),
        ("Http://secret@host/a", "http://host/a?"),
        (" https://host/a?secret", "https://host/a?"),
        ("s3://AK:secret@bucket/key", "s3://bucket/key?"),
        ("S3://bucket/key?versionId=secret", "s3://bucket/key?"),
        ("obs://vod_default@bucket/key", "obs://vod_default@bucket/key"),
        ("ftp://user:secret@host/a", "ftp://host/a?"),
        ("/a\nb\x1b[31m\u202ec.mp4", "/a\ufffdb\ufffd[31m\ufffdc.mp4?"),
        ("/plain name.mp4", "/plain name.mp4"),
        ("https://bob:secret@host:port/a", "https://…"),
    ],
)
def test_no_secret_and_no_control_character_is_shown(text: str, shown: str) -> None:
    public = public_name(text)
    assert "secret" not in public
    assert public.isprintable()
    if shown.endswith("?"):
        assert public.startswith(shown)
        assert len(public) == len(shown) + 8, "a digest tells apart what looks the same"
    else:
        assert public == shown


def test_two_locations_never_look_the_same() -> None:
    names = ["/a\n.mp4", "/a\t.mp4", "/a\ufffd.mp4", "/a\udcff.mp4"]
    names += ["https://h/a", "https://h/a?b", "https://h/a?c", "https://u@h/a", "https://v@h/a"]
    assert len({public_name(name) for name in names}) == len(names)
    assert len({file_stem(name) for name in names}) == len(names)


def test_a_folder_allows_what_is_below_it_once_links_are_followed(tmp_path: Path) -> None:
    media, secret = tmp_path / "media", tmp_path / "media-secret"
    media.mkdir()
    secret.mkdir()
    (media / "link").symlink_to(secret)
    (tmp_path / "way").symlink_to(media)
    allowed = AllowedLocations.from_text(f" {tmp_path / 'way'} \n")
    for good in (media, media / "a.mp4", tmp_path / "way" / "new" / "a.mp4", (media / "b c.mp4").as_uri()):
        allowed.check(parse_location(str(good)))
    for bad in (
        tmp_path,
        secret / "a.mp4",
        media / "link" / "a.mp4",
        media / ".." / "media-secret" / "a.mp4",
        f"FILE://{media}/%2e%2e/media-secret/a.mp4",
        "relative.mp4",
        "https://host/media/a.mp4",
        "/proc/self/environ",
    ):
        with pytest.raises(LocationNotAllowedError, match=r"\[vod\] allowed_locations"):
            allowed.check(parse_location(str(bad)))


@pytest.mark.parametrize(
    ("prefix", "good", "bad"),
    [
        (
            "https://media.example.com/public/",
            ["https://MEDIA.example.com:443/public/a?sig", "https://media.example.com/public"],
            [
                "http://media.example.com/public/a",
                "https://media.example.com/publicity/a",
                "https://media.example.com:444/public/a",
                "https://media.example.com.evil.com/public/a",
                "https://evil.com/https://media.example.com/public/a",
                "https://media.example.com@evil.com/public/a",
            ],
        ),
        (
            "s3://aws_default@bucket/in",
            ["S3://aws_default@bucket/in/a", "s3://aws_default@bucket/in"],
            [
                "s3://other@bucket/in/a",
                "s3://bucket/in/a",
                "s3://aws_default@bucket/inside",
                "s3://aws_default@bucket2/in/a",
                "obs://aws_default@bucket/in/a",
            ],
        ),
        ("obs://bucket", ["obs://bucket/any/thing"], ["obs://admin@bucket/any/thing"]),
    ],
)
def test_a_url_allows_its_own_host_connection_and_folder_only(
    prefix: str, good: list[str], bad: list[str]
) -> None:
    allowed = AllowedLocations.from_text(prefix)
    for text in good:
        allowed.check(parse_location(text))
    for text in bad:
        with pytest.raises(LocationNotAllowedError):
            allowed.check(parse_location(text))


def test_assets_are_allowed_and_an_unset_setting_allows_all_but_private_networks() -> None:
    AllowedLocations.from_text("/media").check(parse_location(ID))
    for text in (None, "", " \n ", " , "):
        allowed = AllowedLocations.from_text(text)
        allowed.check(parse_location("/etc/passwd"))
        assert not allowed.names_host(parse_location("http://127.0.0.1/"))
    assert ANYWHERE.names_host(parse_location("http://127.0.0.1/"))


@pytest.mark.parametrize("entry", ["media", ID, "http://", "/media, nonsense"])
def test_a_wrong_setting_is_an_error_and_allows_nothing(entry: str) -> None:
    with pytest.raises(InvalidLocationError):
        AllowedLocations.from_text(entry)
