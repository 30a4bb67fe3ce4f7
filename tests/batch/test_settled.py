"""What is settled is kept in pages that Airflow takes, and found again in the order of the batch."""

from __future__ import annotations

import json

import pytest

from tests.conftest import DictStore
from vod.batch.settled import SettledRecords
from vod.records import AssetFailure, ExtractedAudio, Record, SubmittedExtraction, parse_record

DEADLINE = 1764086400.25


def done(number: int) -> ExtractedAudio:
    return ExtractedAudio(
        asset=f"{number:032x}",
        uri=f"vod://vod_default/{number:032x}",
        audio_format="MP3",
        codec="mp3",
        duration=8.8,
        size=70_000,
        engine="vod",
        audio_asset_id=f"{number:032x}",
        title=f"Lecture {number} of the series on how long a title may be",
    )


def under_way(number: int) -> SubmittedExtraction:
    return SubmittedExtraction(
        asset=f"{number:032x}", audio_asset_id=f"a{number}", audio_format="MP3", accepted=1.0
    )


def resumed(store: DictStore, open_records: list[dict[str, object]]) -> tuple[list[Record], bool]:
    """What a task that was resumed in another process finds."""
    return SettledRecords(store, DEADLINE).complete(list(map(parse_record, open_records)))


def test_a_thousand_records_of_which_most_are_done_come_back_and_the_trigger_has_only_the_others() -> None:
    store = DictStore()
    batch: list[Record] = [under_way(number) if number % 50 == 0 else done(number) for number in range(1000)]
    carried = SettledRecords(store, DEADLINE).keep(batch)
    assert len(carried) == 20
    assert len(json.dumps(carried)) < 4_000
    assert resumed(store, carried) == (batch, True)
    assert max(len(json.dumps(page)) for page in store.values.values()) < 64_000


def test_what_is_settled_later_is_added_and_nothing_is_written_twice() -> None:
    store = DictStore()
    batch: list[Record] = [under_way(number) for number in range(300)]
    carried = SettledRecords(store, DEADLINE).keep(batch)
    for step in range(0, 300, 100):
        records, whole = resumed(store, carried)
        assert whole
        assert records == batch
        batch[step : step + 100] = [done(number) for number in range(step, step + 100)]
        carried = SettledRecords(store, DEADLINE).keep(batch)
    assert carried == []
    assert resumed(store, []) == (batch, True)
    kept = [place for page in store.values.values() for place, _ in page["records"]]
    assert sorted(kept) == list(range(300))


def test_long_failures_fill_no_page_over_the_limit() -> None:
    store = DictStore()
    batch: list[Record] = [
        AssetFailure(asset=str(number), outcome="error", message="日" * 500, remedy="本" * 500)
        for number in range(200)
    ]
    SettledRecords(store, DEADLINE).keep(batch)
    assert max(len(json.dumps(page)) for page in store.values.values()) < 64_000
    assert resumed(store, []) == (batch, True)


def test_an_earlier_try_leaves_nothing_that_counts() -> None:
    store = DictStore()
    SettledRecords(store, DEADLINE - 60).keep([done(number) for number in range(500)])
    batch: list[Record] = [done(1), under_way(2)]
    carried = SettledRecords(store, DEADLINE).keep(batch)
    assert resumed(store, carried) == (batch, True)


@pytest.mark.parametrize("lost", ["all", "the first page", "the second page"])
def test_a_store_that_was_emptied_is_noticed(lost: str) -> None:
    store = DictStore()
    carried = SettledRecords(store, DEADLINE).keep(
        [under_way(0), *(done(number) for number in range(1, 400))]
    )
    pages = sorted(store.values)
    for name in {"all": pages, "the first page": pages[:1], "the second page": pages[1:2]}[lost]:
        del store.values[name]
    records, whole = resumed(store, carried)
    assert not whole
    assert under_way(0) in records
