"""Measures what the register costs a task: claims, and what a plan over a long list asks."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from airflow.sdk import DAG, task

from vod.library.index import Index
from vod.library.register import REGISTER, Register, store_of, vod_inputs

LONG_LIST = 100_000

with DAG("register_costs", schedule=None):

    @task(inlets=[REGISTER])
    def measure(asset_state_store: Any) -> dict[str, float]:
        """Seconds of each step."""
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
        return took

    measure()  # type: ignore[call-arg,misc]  # Airflow gives the context
