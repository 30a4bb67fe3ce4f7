"""What a ledger remembers from one try to the next."""

from __future__ import annotations

import pytest

from tests.conftest import DictStore
from vod.batch.ledger import KillsItsProcessError, Ledger, LedgerPages

INPUTS = {"engine": "vod", "format": "MP3"}


def test_the_next_try_finds_what_was_done() -> None:
    store = DictStore()
    first = Ledger(LedgerPages(store), INPUTS)
    first.intend("a", 1.0)
    first.intend("b", 2.0)
    first.accept("b", "audio-b", 2.5)
    assert Ledger(LedgerPages(store), INPUTS).get("b") == {"intended": 2.0}, "noted, not written"
    first.finish("c", {"uri": "file:///c.mp3"})
    first.intend("d", 3.0)
    first.forget("d")
    first.save()

    second = Ledger(LedgerPages(store), INPUTS)
    assert second.get("a") == {"intended": 1.0}
    assert second.get("b") == {"audio": "audio-b", "accepted": 2.5}
    assert second.get("c") == {"record": {"uri": "file:///c.mp3"}}
    assert second.get("d") is None
    assert second.get("e") is None


def test_other_inputs_start_afresh_and_leave_the_rest_alone() -> None:
    store = DictStore()
    Ledger(LedgerPages(store), INPUTS).finish("a", {})
    assert Ledger(LedgerPages(store), {**INPUTS, "format": "AAC"}).get("a") is None
    assert Ledger(LedgerPages(store), INPUTS).get("a") is not None


def test_a_final_failure_is_final_for_one_attempt() -> None:
    store = DictStore()
    first = Ledger(LedgerPages(store), INPUTS, attempt=2)
    first.fail("a", {"message": "m"})
    first.save()
    assert Ledger(LedgerPages(store), INPUTS, attempt=2).get("a") == {
        "failure": {"message": "m"},
        "attempt": 2,
    }
    assert Ledger(LedgerPages(store), INPUTS, attempt=3).get("a") is None


def test_a_second_chance_counts_for_one_attempt_and_earlier_audio_stays_known() -> None:
    store = DictStore()
    first = Ledger(LedgerPages(store), INPUTS, attempt=1)
    first.accept("a", "audio-1", 1.0)
    assert not first.is_second("a")
    first.again("a")
    first.intend("a", 2.0)
    again = Ledger(LedgerPages(store), INPUTS, attempt=1)
    assert again.is_second("a")
    again.accept("a", "audio-2", 3.0)
    again.save()
    assert again.audio_assets() == {"audio-1", "audio-2"}
    cleared = Ledger(LedgerPages(store), INPUTS, attempt=2)
    assert not cleared.is_second("a")
    cleared.forget("a")
    cleared.save()
    assert Ledger(LedgerPages(store), INPUTS, attempt=2).audio_assets() == {"audio-1", "audio-2"}


def test_two_ledgers_of_one_task_do_not_overwrite_each_other() -> None:
    store = DictStore()
    pages = LedgerPages(store)
    vod = Ledger(pages, INPUTS)
    vod.intend("a", 1.0)
    local = Ledger(pages, {"engine": "ffmpeg"})
    local.finish("a", {"uri": "u"})
    vod.intend("b", 2.0)
    assert Ledger(LedgerPages(store), INPUTS).get("b") == {"intended": 2.0}
    assert Ledger(LedgerPages(store), {"engine": "ffmpeg"}).get("a") == {"record": {"uri": "u"}}


def test_large_entries_have_a_page_each() -> None:
    store = DictStore()
    ledger = Ledger(LedgerPages(store, size=1), INPUTS)
    for asset in "abc":
        ledger.finish(asset, {"text": asset})
    assert [len(page) for page in store.values.values()] == [1, 1, 1]
    assert Ledger(LedgerPages(store, size=1), INPUTS).get("c") == {"record": {"text": "c"}}


def test_a_thousand_assets_take_twenty_rows_one_write_each_and_few_reads() -> None:
    store = DictStore()
    ledger = Ledger(LedgerPages(store), INPUTS)
    for number in range(1000):
        assert ledger.get(str(number)) is None
        ledger.intend(str(number), 1.0)
        ledger.accept(str(number), f"{number:032}", 1.0)
    ledger.save()
    assert store.reads == 1
    assert len(store.values) == 20
    again = Ledger(LedgerPages(store), INPUTS)
    assert store.reads == 22
    assert all(
        again.get(str(number)) == {"audio": f"{number:032}", "accepted": 1.0} for number in range(1000)
    )
    assert len(again.audio_assets()) == 1000
    assert max(len(str(page)) for page in store.values.values()) < 6000


def test_what_is_begun_three_times_is_refused_until_a_person_clears_the_task() -> None:
    store = DictStore()
    for tries in range(2):
        ledger = Ledger(LedgerPages(store), INPUTS, attempt=1)
        assert ledger.begun("a") == tries
        ledger.check("a")
        ledger.begin(["a"])
    ledger = Ledger(LedgerPages(store), INPUTS, attempt=1)
    with pytest.raises(KillsItsProcessError):
        ledger.check("a")
    ledger.fail("a", {"message": "m"})
    ledger.save()
    cleared = Ledger(LedgerPages(store), INPUTS, attempt=2)
    assert cleared.get("a") is None
    assert cleared.begun("a") == 1, "one more try, not two: a batch with several such assets comes to an end"
    cleared.check("a")
    cleared.begin(["a"])
    cleared.finish("a", {"uri": "u"}, save=False)
    cleared.begin(["b"])
    again = Ledger(LedgerPages(store), INPUTS, attempt=2)
    assert again.get("a") == {"record": {"uri": "u"}}, "written with what was begun next"
    assert (again.begun("a"), again.begun("b")) == (0, 1)
