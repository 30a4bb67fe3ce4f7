"""What cannot be heard is told from the structure before ffmpeg runs, and costs only its track."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from vod.media import Output, Selection, extract_all, probe, structure
from vod.media.errors import EncryptedTrackError, UnreadableMediaError, UnsupportedTrackError

from .conftest import ffmpeg, with_edits

Media = Callable[[str], Path]
_KEY = [
    "-encryption_key",
    "76a6c65c5ea762046bd749a2e632ccbb",
    "-encryption_kid",
    "a7e61c373e219033c21091fa607bf3b8",
]
_CENC = ["-encryption_scheme", "cenc-aes-ctr", *_KEY]
_TONE = ["-f", "lavfi", "-i", "sine=f=440:r=48000:d=3"]

pytestmark = pytest.mark.usefixtures("wheel")


def extracted(source: Path, folder: Path, **options: object) -> object:
    return extract_all(source, {folder / "out": Output()}, Selection(**options))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["aac", "libopus", "ac3", "flac"])
@pytest.mark.parametrize("fragments", [False, True])
def test_encrypted_mp4(codec: str, fragments: bool, tmp_path: Path) -> None:
    if fragments and codec == "ac3":
        pytest.skip("ffmpeg does not write it")
    source = tmp_path / "a.mp4"
    flags = ["-movflags", "frag_keyframe+empty_moov+delay_moov"] if fragments else []
    ffmpeg(*_TONE, "-c:a", codec, "-strict", "-2", *_CENC, *flags, source)
    assert probe(source).audio[0].encrypted
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def _element(name: bytes, content: bytes) -> bytes:
    return name + b"\x01" + len(content).to_bytes(7, "big") + content


def _elements(data: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """Name, start and end of the contents of each element."""
    found = []
    while at < end:
        name = data[at : at + 5 - data[at].bit_length() + 4]
        at += len(name)
        width = 9 - data[at].bit_length()
        length = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        found.append((name, at, at + length))
        at += length
    return found


_COMPRESSED = _element(b"\x62\x40", _element(b"\x50\x33", b"\x00"))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
@pytest.mark.parametrize("key", [_element(b"\x47\xe2", bytes(16)), b""])
@pytest.mark.parametrize("before", [b"", _COMPRESSED])
def test_encrypted_matroska(name: str, key: bytes, before: bytes, tmp_path: Path) -> None:
    plain = tmp_path / f"plain-{name}"
    ffmpeg(*_TONE, "-c:a", "libopus", plain)
    data = plain.read_bytes()
    encryption = _element(b"\x47\xe1", b"\x05") + key
    encoding = _element(b"\x50\x33", b"\x01") + _element(b"\x50\x35", encryption)
    encodings = _element(b"\x6d\x80", before + _element(b"\x62\x40", encoding))
    head, segment = _elements(data, 0, len(data))
    parts = []
    for element, start, end in _elements(data, segment[1], segment[2]):
        content = data[start:end]
        if element == b"\x16\x54\xae\x6b":  # Tracks
            [(entry, inner_start, inner_end)] = [
                each for each in _elements(data, start, end) if each[0] == b"\xae"
            ]
            content = _element(entry, data[inner_start:inner_end] + encodings)
        parts.append(_element(element, content))
    source = tmp_path / name
    source.write_bytes(data[: head[2]] + _element(segment[0], b"".join(parts)))
    plain.unlink()
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


@pytest.mark.parametrize("every", [1, 2, 50])
def test_scrambled_packets_of_one_track_in_a_transport_stream(
    every: int, media: Media, tmp_path: Path
) -> None:
    data = bytearray(media("aac.ts").read_bytes())
    with av.open(media("aac.ts")) as container:
        pid = container.streams.audio[0].id
    packets = [
        at for at in range(0, len(data), 188) if struct.unpack_from(">H", data, at + 1)[0] & 0x1FFF == pid
    ]
    for number, at in enumerate(packets):
        if number % every == 0 or (every == 2 and number % 3 == 0):
            data[at + 3] |= 0x80
    source = tmp_path / "a.ts"
    source.write_bytes(data)
    if every == 50:  # single packets are damaged, not encrypted
        assert extracted(source, tmp_path).duration > 3  # type: ignore[attr-defined]
        return
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


def _audio_packets(stream: Path) -> list[int]:
    """Where the packets of the sound start in a transport stream."""
    data = stream.read_bytes()
    with av.open(stream) as container:
        pid = container.streams.audio[0].id
    return [
        at for at in range(0, len(data), 188) if struct.unpack_from(">H", data, at + 1)[0] & 0x1FFF == pid
    ]


def _scrambled(source: Path, target: Path, packets: list[int], before: bytes = b"") -> Path:
    data = bytearray(source.read_bytes())
    for at in packets:
        data[at + 3] |= 0x80
    target.write_bytes(before + data)
    return target


def test_a_scrambled_recording_that_starts_within_a_packet(media: Media, tmp_path: Path) -> None:
    stream = media("aac.ts")
    source = _scrambled(stream, tmp_path / "a.ts", _audio_packets(stream), stream.read_bytes()[90:188])
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


def test_a_recording_that_is_scrambled_only_at_its_end(media: Media, tmp_path: Path) -> None:
    packets = _audio_packets(media("aac.ts"))
    source = _scrambled(media("aac.ts"), tmp_path / "a.ts", packets[len(packets) * 3 // 4 :])
    assert "A part of audio track 0 is encrypted." in extracted(source, tmp_path).warnings  # type: ignore[attr-defined]


def _crc(data: bytes) -> bytes:
    """The checksum of a table in a transport stream."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


def test_samples_of_hls_that_are_encrypted(media: Media, tmp_path: Path) -> None:
    data = bytearray(media("aac.ts").read_bytes())
    pid = _audio_packets(media("aac.ts"))[0] + 1
    entry = b"\x0f" + bytes([0xE0 | data[pid] & 0x1F, data[pid + 1]])  # AAC in packets of this PID
    for at in range(0, len(data), 188):
        if data[at + 5] == 0x02 and (found := data.find(entry, at, at + 188)) > 0:
            data[found] = 0xCF
            end = at + 8 + (int.from_bytes(data[at + 6 : at + 8], "big") & 0xFFF) - 4
            data[end : end + 4] = _crc(data[at + 5 : end])
    source = tmp_path / "a.ts"
    source.write_bytes(data)
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


def renamed(source: Path, target: Path, tracks: list[int], codec: bytes) -> Path:
    """Give tracks of sound in an MP4 a codec that ffmpeg does not know."""
    data = bytearray(source.read_bytes())
    entries = [at for at in range(16, len(data)) if data[at - 16 : at - 12] == b"stsd"]
    entries = [at for at in entries if data[at : at + 4] == b"mp4a"]
    for number in tracks:
        data[entries[number] : entries[number] + 4] = codec
    target.write_bytes(data)
    return target


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.mov"
    tones = [part for hertz in (440, 880) for part in ("-f", "lavfi", "-i", f"sine=f={hertz}:r=48000:d=3")]
    ffmpeg(*tones, "-map", "0", "-map", "1", "-c:a", "aac", "-disposition:a:0", "default", path)
    return path


@pytest.mark.parametrize(
    ("codec", "name"), [(b"apac", "Apple Positional Audio"), (b"mha1", "MPEG-H"), (b"ac-4", "AC-4")]
)
@pytest.mark.parametrize("track", [None, "speech", "all"])
def test_a_track_without_a_decoder_costs_only_itself(
    codec: bytes, name: str, track: str | None, two: Path, tmp_path: Path
) -> None:
    source = renamed(two, tmp_path / "a.mov", [0], codec)
    found = extracted(source, tmp_path, track=track)
    assert found.track.index == 1  # type: ignore[attr-defined]
    assert name in found.warnings[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("tracks", [[0, 1], [0]])
def test_where_nothing_else_is_there_the_codec_is_named(tracks: list[int], two: Path, tmp_path: Path) -> None:
    source = renamed(two, tmp_path / "a.mov", tracks, b"mhm1")
    with pytest.raises(UnsupportedTrackError, match=r"MPEG-H 3D Audio"):
        extracted(source, tmp_path, track=0 if len(tracks) == 1 else None)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"#EXTM3U\n#EXTINF:1,\na.ts\n", "HLS"),
        (b"\xef\xbb\xbf#EXTM3U\nfile:///etc/passwd\n", "HLS"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "concat"),
        (b'<?xml version="1.0"?><MPD></MPD>', "DASH"),
        (b"[playlist]\nFile1=a.mp3\n", "PLS"),
    ],
)
@pytest.mark.parametrize("name", ["a.m3u8", "a.mp4"])
def test_a_playlist_is_called_one(content: bytes, kind: str, name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(UnreadableMediaError, match=f"This is a playlist .*{kind}"):
        extracted(source, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x00\x08moov", b"\x00\x00\x00\x01moov" + b"\xff" * 8])
def test_stumps_of_boxes_say_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stump"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert structure.sounds(file, "mov,mp4,m4a") == []
        assert structure.sounds(file, "mpegts") == []


@pytest.mark.parametrize(
    ("name", "container"),
    [
        *(("mp3.mkv", "matroska,webm"), ("faststart.mp4", "mov,mp4"), ("aac.ts", "mpegts")),
        *(("mp2.mpg", "mpeg"), ("wma.wmv", "asf")),
    ],
)
def test_damaged_structure_never_fails(name: str, container: str, media: Media, tmp_path: Path) -> None:
    whole = media(name).read_bytes()
    damaged = tmp_path / "damaged"
    for seed in range(150):
        dice = random.Random(seed)
        data = bytearray(whole)
        for _ in range(dice.choice([1, 5, 50, 400])):
            data[dice.randrange(dice.choice([min(2000, len(data)), len(data)]))] = dice.randrange(256)
        damaged.write_bytes(data[: dice.randrange(1, len(data))])
        with damaged.open("rb") as file:
            structure.sounds(file, container)


# --- encryption in other containers ---

_PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=720x576:r=25:d=1", "-c:v", "mpeg2video"]


def _ber(content: bytes) -> bytes:
    return b"\x83" + len(content).to_bytes(3, "big") + content


def test_encrypted_triplets_in_mxf(tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.mxf", tmp_path / "a.mxf"
    ffmpeg(*_TONE, *_PICTURE, "-c:a", "pcm_s16le", plain)
    data = bytearray(plain.read_bytes())
    begins = bytes.fromhex("060e2b34010201010d01030116")
    at = data.find(begins)
    while at >= 0:  # in its place, so that all that points into the file is right
        assert data[at + 16] == 0x83
        end = at + 20 + int.from_bytes(data[at + 17 : at + 20], "big")
        noise = random.Random(1).randbytes(end - at - 20 - 5 * 4 - 48)
        length = (len(noise) - 32).to_bytes(8, "big")
        fields = [b"C" * 16, bytes(8), bytes(data[at : at + 16]), length, noise]
        triplet = bytes.fromhex("060e2b34020401070d010301027e0100")
        data[at:end] = triplet + _ber(b"".join(map(_ber, fields)))
        at = data.find(begins, end)
    source.write_bytes(data)
    assert not probe(plain).audio[0].encrypted
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


@pytest.mark.parametrize(("codec", "begins"), [("mp2", b"\0\0\1\xc0"), ("ac3", b"\0\0\1\xbd")])
def test_scrambled_sectors_of_a_dvd(codec: str, begins: bytes, tmp_path: Path) -> None:
    source = tmp_path / "a.vob"
    ffmpeg(*_TONE, *_PICTURE, "-c:a", codec, source)
    assert not probe(source).audio[0].encrypted
    data = bytearray(source.read_bytes())
    at = data.find(begins)
    for number in range(data.count(begins)):
        if number % 3 == 0:  # not all of them
            data[at + 6] |= 0x30
            data[at + 128 : at + 1500] = random.Random(number).randbytes(1372)
        at = data.find(begins, at + 1500)
    source.write_bytes(data)
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


def test_windows_media_with_drm(tmp_path: Path) -> None:
    source = tmp_path / "a.wma"
    ffmpeg(*_TONE, source)
    assert not probe(source).audio[0].encrypted
    data = bytearray(source.read_bytes())
    end, objects = struct.unpack_from("<QI", data, 16)
    rights = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + struct.pack("<Q", 24 + 40) + bytes(40)
    data[end:end] = rights
    struct.pack_into("<QI", data, 16, end + len(rights), objects + 1)
    source.write_bytes(data)
    with pytest.raises(EncryptedTrackError):
        extracted(source, tmp_path)


def test_an_edit_list_that_ffmpeg_misreads(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    ffmpeg(*_TONE, "-c:a", "aac", source)
    late = with_edits(source, tmp_path / "late.mp4", [(1, -1), (2, 0)])
    assert not probe(late).audio[0].pauses
    pause = with_edits(source, tmp_path / "pause.mp4", [(1, 0), (1, -1), (1, 1)])
    with pytest.raises(UnsupportedTrackError, match="silence in the middle"):
        extracted(pause, tmp_path)
