from __future__ import annotations

from tests.conftest import DictStore
from vod.ledger import Ledger

INPUTS = {"engine": "vod", "format": "MP3"}


def test_the_next_try_finds_what_was_done() -> None:
    store = DictStore()
    first = Ledger(store, INPUTS)
    first.intend("a", 1.0)
    first.intend("b", 2.0)
    first.accept("b", "audio-b", 2.5)
    first.finish("c", {"uri": "file:///c.mp3"})
    first.intend("d", 3.0)
    first.forget("d")

    second = Ledger(store, INPUTS)
    assert second.get("a") == {"intended": 1.0}
    assert second.get("b") == {"audio": "audio-b", "accepted": 2.5}
    assert second.get("c") == {"record": {"uri": "file:///c.mp3"}}
    assert second.get("d") is None
    assert second.get("e") is None


def test_other_inputs_start_afresh_and_leave_the_rest_alone() -> None:
    store = DictStore()
    Ledger(store, INPUTS).accept("a", "audio-a", 1.0)
    assert Ledger(store, {**INPUTS, "format": "AAC"}).get("a") is None
    assert Ledger(store, INPUTS).get("a") is not None


def test_a_first_try_spares_itself_the_reads() -> None:
    store = DictStore()
    ledger = Ledger(store, INPUTS)
    for number in range(100):
        assert ledger.get(str(number)) is None
    assert store.reads == 1
