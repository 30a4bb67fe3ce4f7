"""Lists in files: how they are read, what is refused, and what a result list holds."""

from __future__ import annotations

import csv
import errno
import os
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import fsspec
import pytest

from tests.conftest import attach_memory
from vod.errors import InvalidInputError
from vod.locations import ANYWHERE, AllowedLocations
from vod.media import NoSpaceError
from vod.pipeline.manifests import (
    InvalidManifestError,
    ResultsNotWritableError,
    check_results,
    read,
    results_location,
    write_results,
)
from vod.storage.errors import StorageError, StorageRefusedError


def put(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a\n\n  b \n"),
        ("a.TXT", "a\r\nb\r\n"),
        ("a.txt", "\ufeffa\nb"),
        ("a.csv", "asset\na\nb\n"),
        ("A.CSV", "title,ASSET \nx,a\ny, b\n,,\n"),
        ("a.csv", "asset;title\na;x\nb;y\n"),
        ("a.csv", '\ufefftitle\tasset\n"two\nlines"\ta\nx\tb\n'),
        ("a.jsonl", '{"asset": "a", "more": [1]}\n\n"b"\n'),
    ],
)
def test_every_form_gives_the_same_assets(tmp_path: Path, name: str, content: str) -> None:
    assert [entry.asset for entry in read(put(tmp_path, name, content), ANYWHERE)] == ["a", "b"]


def test_a_name_with_blanks_and_commas_in_a_plain_list_is_one_asset(tmp_path: Path) -> None:
    [entry] = read(put(tmp_path, "list.txt", "/media/my talk, part 1.mp4\n"), ANYWHERE)
    assert entry.asset == "/media/my talk, part 1.mp4"


def test_optional_columns(tmp_path: Path) -> None:
    lines = ["a,2026-01-31,de,aac,5", "b,2026-01-31T23:30:00-02:00,,,", "c,,,,-1"]
    content = "\n".join(["asset,date,language,format,priority", *lines])
    a, b, c = read(put(tmp_path, "list.csv", content), ANYWHERE)
    assert (a.date, a.language, a.audio_format, a.priority, a.line) == (date(2026, 1, 31), "de", "AAC", 5, 2)
    assert b.date == date(2026, 2, 1), "the day in UTC"
    assert (b.language, b.audio_format, b.priority) == (None, None, 0)
    assert (c.date, c.priority) == (None, -1)
    [again] = read(
        put(tmp_path, "list.jsonl", '{"asset": 12, "date": "2026-01-31", "priority": 5}\n'), ANYWHERE
    )
    assert (again.asset, again.date, again.priority) == ("12", date(2026, 1, 31), 5)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "id,title\n1,x\n", "names no column 'asset'"),
        ("a.csv", "", "names no assets"),
        ("a.csv", "asset\n", "names no assets"),
        ("a.txt", "\n \n", "names no assets"),
        ("a.jsonl", "", "names no assets"),
        ("a.csv", "asset,date\na,2026-01-01\nb,31.1.2026\n", "Line 3 of .*A date is written 2026-01-31"),
        ("a.csv", "asset,priority\na,high\n", "Line 2 of .*a priority is a whole number"),
        ("a.csv", "asset,format\na,OGG\n", "Line 2 of .*The column format holds none of MP3, AAC"),
        ("a.csv", "title,asset\nx\n", "Line 2 of .*names no asset"),
        ("a.jsonl", '{"asset": "a"}\n{"id": "b"}\n', 'Line 2 of .*must be an object with the key "asset"'),
        ("a.jsonl", '{"asset": "a"\n', "Line 1 of .*This is not JSON"),
        ("a.jsonl", "[" * 50_000 + "\n", "Line 1 of .*This is not JSON"),
        ("a.txt", "a\nb\x07\n", "Line 2 of .*control characters"),
        ("a.txt", "a\0b\n", "Line 1 of .*not text"),
        ("a.txt", "x" * 200_000, "Line 1 of .*not text"),
        ("a.csv", "asset\na\ncaf\xe9\n".encode("latin-1"), "Line 3 of .*not UTF-8"),
        ("a.csv", "asset\na\n".encode("utf-16"), "Line 1 of .*not UTF-8"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(InvalidManifestError, match=sentence) as caught:
        list(read(put(tmp_path, name, content), ANYWHERE))
    assert caught.value.remedy


def test_a_place_that_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifestError, match="There is no list"):
        list(read(str(tmp_path / "missing.csv"), ANYWHERE))
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(InvalidManifestError, match="is a folder"):
        list(read(str(folder), ANYWHERE))
    with pytest.raises(InvalidManifestError, match="not an absolute path"):
        list(read("list.csv", ANYWHERE))
    with pytest.raises(InvalidInputError, match="No file system for nonsense:// is installed"):
        list(read("nonsense://bucket/list.csv", ANYWHERE))


def test_a_list_on_object_storage() -> None:
    memory = fsspec.filesystem("memory")
    attach_memory(memory)
    memory.pipe("/bucket/list.csv", b"asset\na\n")
    try:
        assert [entry.asset for entry in read("memory://bucket/list.csv", ANYWHERE)] == ["a"]
        write_results("memory://bucket/list.results.csv", ANYWHERE, [{"asset": "a", "status": "extracted"}])
        assert [entry.asset for entry in read("memory://bucket/list.results.csv", ANYWHERE)] == ["a"]
        with pytest.raises(InvalidManifestError, match="There is no list"):
            list(read("memory://bucket/missing.csv", ANYWHERE))
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.slow
def test_a_million_lines_are_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__MAX_MANIFEST_BYTES", str(1 << 30))
    path = tmp_path / "list.csv"
    with path.open("w") as file:
        file.write("asset,title\n")
        file.writelines(f"{number:032x},{'t' * 100}\n" for number in range(1_000_000))
    reading = read(str(path), ANYWHERE)
    tracemalloc.start()
    assert sum(1 for _, _ in zip(reading, range(10_000), strict=False)) == 10_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000, "bytes; the file has 135 million"
    assert 10_000 + 1 + sum(1 for _ in reading) == 1_000_000


@pytest.mark.parametrize(
    ("manifest", "part", "expected"),
    [
        ("/lists/a.csv", None, "/lists/a.results.csv"),
        ("/lists/a.txt", None, "/lists/a.txt.results.csv"),
        ("/lists/a.CSV", None, "/lists/a.CSV.results.csv"),
        ("s3://bucket/x.y/a.b.jsonl", "2026-01-31", "s3://bucket/x.y/a.b.jsonl.2026-01-31.results.csv"),
        ("/lists/a.txt.results.csv", None, "/lists/a.txt.results.csv"),
        ("/lists/a.results.csv", None, "/lists/a.results.csv"),
        # A part of it must not replace the whole.
        ("/lists/a.results.csv", "2026-01-31", "/lists/a.2026-01-31.results.csv"),
        ("/lists/a.2026-01-31.results.csv", "2026-01-31", "/lists/a.2026-01-31.results.csv"),
    ],
)
def test_results_lie_beside_the_list(manifest: str, part: str | None, expected: str) -> None:
    assert results_location(manifest, part) == expected


def test_results_can_be_given_back(tmp_path: Path) -> None:
    location = str(tmp_path / "list.results.csv")
    rows = [
        {
            "asset": "a;b",
            "date": date(2026, 1, 31),
            "format": "AAC",
            "priority": 2,
            "audio": "file:///a.aac",
            "transcript": "",
            "status": "no_audio_track",
            "reason": 'There is "none",\nit said.',
        },
        {"asset": "c", "status": "extracted"},
    ]
    write_results(location, ANYWHERE, rows)
    assert [path.name for path in tmp_path.iterdir()] == ["list.results.csv"]
    with Path(location).open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["reason"] == rows[0]["reason"]
    assert second["status"] == "extracted"
    again, other = read(location, ANYWHERE)
    assert (again.asset, again.date, again.audio_format, again.priority) == (
        "a;b",
        date(2026, 1, 31),
        "AAC",
        2,
    )
    assert other.asset == "c"


SECRET = "eyJhbGciOiJIUzI1NiJ9-secret"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".txt"])
@pytest.mark.parametrize(
    "content",
    [
        f'{{"admin": "{SECRET}"}}',
        f"{SECRET}:{SECRET}\n",
        f"{SECRET},{SECRET}\n{SECRET},{SECRET}\n",
        f"asset,date,format,priority\na,{SECRET},,\n",
        f"asset,date,format,priority\na,,{SECRET},\n",
        f"asset,date,format,priority\na,,,{SECRET}\n",
        f"asset\n{SECRET}\x07\n",
        f"[{SECRET}]\nkey = {SECRET}\x00\n",
    ],
)
def test_no_message_repeats_what_the_file_holds(tmp_path: Path, ending: str, content: str) -> None:
    """The file may be another one than the person who names it may read."""
    path = tmp_path / f"a{ending}"
    path.write_text(content)
    said = ""
    try:
        list(read(str(path), ANYWHERE))
    except InvalidManifestError as error:
        said = "".join(traceback.format_exception(error))
    assert SECRET not in said


@pytest.mark.parametrize("name", ["shadow", "passwords.json", ".env", "id_rsa", "a.csv.gz", "a.py"])
def test_only_files_that_are_named_as_lists_are_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("asset\na\n")
    with pytest.raises(InvalidManifestError, match=r"ends in \.csv, \.jsonl or \.txt"):
        list(read(str(tmp_path / name), ANYWHERE))


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "FILE://{}", "local://{}"])
def test_pipes_and_devices_are_not_opened(tmp_path: Path, spelling: str) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("pipe.txt", "zero.txt"):
        with pytest.raises(InvalidManifestError, match="pipe or device"):
            list(read(spelling.format(tmp_path / name), ANYWHERE))


def test_a_list_has_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__MAX_MANIFEST_BYTES", "10")
    (tmp_path / "a.txt").write_text("a\n" * 6)
    with pytest.raises(InvalidManifestError, match="has more than"):
        list(read(str(tmp_path / "a.txt"), ANYWHERE))


def test_a_result_list_starts_no_formula_and_can_be_given_back(tmp_path: Path) -> None:
    path = tmp_path / "list.results.csv"
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "'=1", "''=1", "'quoted'", "plain"]
    write_results(str(path), ANYWHERE, ({"asset": name, "reason": name, "priority": -5} for name in names))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert row["asset"][0] not in "=+-@"
        assert row["reason"][0] not in "=+-@"
        assert row["priority"] == "-5", "a number is none"
    entries = list(read(str(path), ANYWHERE))
    assert [(entry.asset, entry.priority) for entry in entries] == [(name, -5) for name in names]


@pytest.mark.parametrize(("name", "content"), [("a.txt", "'=1\n"), ("a.jsonl", '"\'=1"\n')])
def test_an_apostrophe_of_a_list_that_is_no_table_belongs_to_the_name(
    tmp_path: Path, name: str, content: str
) -> None:
    [entry] = read(put(tmp_path, name, content), ANYWHERE)
    assert entry.asset == "'=1"


def test_a_result_list_is_no_wider_readable_than_its_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    write_results(str(private / "a.results.csv"), ANYWHERE, [{"asset": "a"}])
    assert (private / "a.results.csv").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["no permission", "the name is too long", "a folder has the name"])
@pytest.mark.parametrize(
    "act",
    [check_results, lambda location, allowed: write_results(location, allowed, [{"asset": "a"}])],
    ids=["check", "write"],
)
def test_results_that_cannot_be_written_are_told_with_the_folder(
    tmp_path: Path, what: str, act: Callable[[str, AllowedLocations], None]
) -> None:
    folder, name = tmp_path / "videos", "list.results.csv"
    folder.mkdir()
    if what == "no permission":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.chmod(0o500)
    elif what == "the name is too long":
        name = f"{'x' * 250}.results.csv"
    else:
        (folder / name).mkdir()
    with pytest.raises(ResultsNotWritableError) as caught:
        act(str(folder / name), ANYWHERE)
    assert "The results of a list are written beside it" in caught.value.message
    assert str(folder) in caught.value.message
    assert "Put the list into a folder or bucket" in caught.value.remedy
    assert not caught.value.retryable


def test_a_full_disk_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(NoSpaceError) as caught:
        write_results(str(tmp_path / "list.results.csv"), ANYWHERE, [{"asset": "a"}])
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_results_on_object_storage_are_tried_before(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    attach_memory(memory)
    monkeypatch.setattr(memory, "store", {})
    check_results("memory://bucket/lists/list.results.csv", ANYWHERE)
    assert memory.store == {}

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(memory, "pipe_file", refuse)
    with pytest.raises(
        ResultsNotWritableError, match=r"written beside it\. memory://bucket/lists may not be"
    ):
        check_results("memory://bucket/lists/list.results.csv", ANYWHERE)

    def is_away(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(memory, "pipe_file", is_away)
    with pytest.raises(StorageError) as caught:
        check_results("memory://bucket/lists/list.results.csv", ANYWHERE)
    assert caught.value.retryable


def test_trouble_with_a_row_is_not_that_of_the_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"asset": "a"}
        raise StorageRefusedError("The audio may not be read.")

    with pytest.raises(StorageRefusedError, match="The audio may not be read"):
        write_results(str(tmp_path / "list.results.csv"), ANYWHERE, rows())
    assert list(tmp_path.iterdir()) == []
