"""Measures what the register costs a task: claims, and what a plan over a long list asks."""

from __future__ import annotations

import json
import resource
import time
from collections import deque
from typing import Any
from uuid import uuid4

from airflow.sdk import DAG, task

from vod.library.index import Index
from vod.library.register import REGISTER, Register, store_of, vod_inputs
from vod.pipeline.reports import Tally
from vod.records import ExtractedAudio, parse_record

LONG_LIST = 100_000


def extracted(asset: str) -> ExtractedAudio:
    """What a batch returns of an asset."""
    return ExtractedAudio(
        asset=asset,
        uri=f"vod://vod_default/{asset}",
        audio_format="MP3",
        codec="mp3",
        duration=600.0,
        size=9_600_000,
        engine="vod",
        audio_asset_id=asset,
        title="A video of ten minutes",
    )


def most_memory() -> float:
    """Of this task so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


with DAG("register_costs", schedule=None):

    @task(inlets=[REGISTER])
    def measure(asset_state_store: Any) -> dict[str, float]:
        """Seconds of each step, and the memory of some."""
        store = store_of(asset_state_store)
        assert store
        took: dict[str, float] = {}
        run = uuid4().hex
        register = Register(store, run, vod_inputs(run, "MP3"))
        for count in (100, 1000):
            assets = [f"{run}{number:06}{count}" for number in range(count)]
            began = time.monotonic()
            claimed = register.claim(assets)
            took[f"claim_{count}"] = time.monotonic() - began
            assert len(claimed.granted) == count
            began = time.monotonic()
            for asset in assets:
                register.intend(asset, time.time())
                register.accept(asset, asset, time.time())
            took[f"submit_{count}"] = time.monotonic() - began
            began = time.monotonic()
            record = {"outcome": "extracted", "uri": f"vod://vod_default/{run}"}
            register.finish(dict.fromkeys(assets, record), dict.fromkeys(assets, time.time()))
            took[f"finish_{count}"] = time.monotonic() - began
            began = time.monotonic()
            assert len(register.find(assets)) == count
            took[f"find_{count}"] = time.monotonic() - began
        took["memory_before"] = most_memory()
        keys = [register.key(f"{run}-{number}") for number in range(LONG_LIST)]
        index = Index(store)
        for name in ("plan_new", "plan_done"):
            began = time.monotonic()
            found = index.find(keys)
            took[name] = time.monotonic() - began
            if name == "plan_new":
                assert not found
                index.add({key: {"uri": f"vod://vod_default/{run}"} for key in keys})
            else:
                assert len(found) == LONG_LIST
        took["memory_plan"] = most_memory()
        batch = json.dumps([extracted(uuid4().hex).to_json() for _ in range(100)])
        tally = Tally()
        began = time.monotonic()
        for _ in range(LONG_LIST // 100):
            deque(tally.counting(map(parse_record, json.loads(batch))), maxlen=0)
        took["report"] = time.monotonic() - began
        took["memory_report"] = most_memory()
        assert tally.total == LONG_LIST
        return took

    measure()  # type: ignore[call-arg,misc]  # Airflow gives the context
