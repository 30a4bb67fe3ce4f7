"""What a page of the library costs with 50,000 assets in the register, on PostgreSQL.

``python -m benchmarks.library`` fills a fresh Airflow database, asks the pages as their routes do, prints the
table of docs/library.md and writes build/bench/library.json. ``ENTRIES=5000`` takes fewer.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from dev import stack
from dev.airflow import postgres, stop_postgres

BUILD = stack.ROOT / "build" / "bench"
ENTRIES = int(os.environ.get("ENTRIES", "50000"))
_TIMES = 9
_START = datetime.now(timezone.utc) - timedelta(days=29)
_STATES = ("done",) * 14 + ("doubtful", "ready", "transcribing", "failed", "extracting", "waiting")
_PAGES = {
    "first page": "library",
    "page 500": "library?page=500",
    "all that failed": "library?state=failed",
    "audio without text": "library?state=ready",
    "done": "library?state=done",
    "a title that is there": "library?text=lecture 4217 ",
    "a title that is not there": "library?text=no such title",
    "a title in Chinese": "library?text=%E8%AE%B2%E5%BA%A7 777",
    "a language": "library?language=en",
    "first words of texts": "library?text=the lake is quiet",
    "chart of 30 days": "days",
}


def rows(count: int) -> Iterator[dict[str, Any]]:
    """What the tasks would have written, as the register itself writes it."""
    from tests.conftest import DictStore
    from vod.library.register import Register, vod_inputs
    from vod.library.texts import Texts
    from vod.records import AssetFailure, ExtractedAudio, Transcript

    for number in range(count):
        store, asset, state = DictStore(), f"{number:032x}", _STATES[number % len(_STATES)]
        register = Register(store, "a/b/c/-1", vod_inputs("project", "MP3"), settling=0)
        audio = ExtractedAudio(
            asset=asset,
            uri=f"vod://vod_default/{number + 10**9:032x}",
            audio_format="MP3",
            codec="mp3",
            duration=60.0 + number % 7200,
            size=10**6 + number,
            engine="vod",
            audio_asset_id=f"{number + 10**9:032x}",
            title=f"Lecture {number} / 讲座 {number} 关于云计算",
            entry=register.key(asset),
            warnings=["The track starts late, so the captions start late as well."]
            if number % 5 == 0
            else [],
        )
        if state == "failed":
            register.tell({asset: AssetFailure(asset=asset, outcome="gone", message="Gone.").to_json()})
        elif state == "waiting":
            register.claim([asset])
        elif state == "extracting":
            register.claim([asset])
            register.accept(asset, f"{number + 10**9:032x}", time.time())
        else:
            register.finish({asset: audio.to_json()}, {asset: 1.0})
            store.set(f"owner_{audio.audio_asset_id}", audio.entry)
            transcript = Transcript(
                asset=asset,
                audio=audio.uri,
                text="In winter the lake is quiet. " * 15,
                language="en",
                duration=60.0,
                model="large-v3",
                uris={end: f"s3://bucket/audio/{asset}.en.{end}" for end in ("json", "txt", "srt", "vtt")},
                outcome="doubtful" if state == "doubtful" else "transcribed",
            )
            if state == "transcribing":
                Texts(store).begin(audio)
            elif state != "ready":
                Texts(store).end(audio, transcript)
        for key, value in store.values.items():
            if not key.startswith(("index_", "alive_")):
                yield {
                    "asset_id": 1,
                    "key": key,
                    "value": json.dumps(value),
                    "updated_at": _START + timedelta(days=29) * ((number * 7919) % (count + 1) / (count + 1)),
                    "last_updated_by_kind": "task",
                    "last_updated_by_dag_id": f"dag_{number % 5}",
                    "last_updated_by_run_id": f"scheduled__{number // 1000}",
                    "last_updated_by_task_id": "batch.extract",
                    "last_updated_by_map_index": 0,
                }


def fill(count: int) -> None:
    """Write the register."""
    from airflow.models.asset import AssetModel
    from airflow.models.asset_state_store import AssetStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert, text

    with create_session() as session:
        session.add(AssetModel(id=1, name="vod_register", uri="vod://register", group="asset"))
        session.flush()
        batch = []
        for row in rows(count):
            batch.append(row)
            if len(batch) == 2000:
                session.execute(insert(AssetStateStoreModel), batch)
                batch.clear()
        if batch:
            session.execute(insert(AssetStateStoreModel), batch)
        session.commit()
        session.execute(text("ANALYZE asset_state_store"))


def measure() -> dict[str, list[float]]:
    """Milliseconds from the request to the whole page, by what is asked."""
    from airflow.api_fastapi import app as airflow_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from starlette.testclient import TestClient

    from vod.ui.pages_app import app

    airflow_app.create_auth_manager()
    airflow_app.get_auth_manager().init()
    token = airflow_app.get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="a", role="admin"))
    took: dict[str, list[float]] = {}
    with TestClient(app, headers={"Authorization": f"Bearer {token}", "Accept": "text/html"}) as client:
        for name, query in _PAGES.items():
            client.get(f"/{query}").raise_for_status()
            for _ in range(_TIMES):
                began = time.perf_counter()
                answer = client.get(f"/{query}")
                took.setdefault(name, []).append(1000 * (time.perf_counter() - began))
                answer.raise_for_status()
    return took


def main() -> None:
    """Fill, measure, print and write."""
    state = BUILD / "library"
    stop_postgres(state / "postgres")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    with postgres(state / "postgres") as database:
        environment = stack.airflow_environment(
            state, endpoint="http://127.0.0.1:9", destination=state / "audio"
        )
        environment |= {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__API_AUTH__JWT_SECRET": "of this measurement alone " * 4,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(state / "passwords.json"),
        }
        stack.migrate(environment, state / "migration.log")
        os.environ.update(environment)
        fill(ENTRIES)
        took = measure()
    (BUILD / "library.json").write_text(json.dumps(took, indent=2))
    print("| what | median, ms | slowest of nine, ms |\n| -- | --: | --: |")
    for name, times in took.items():
        print(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} |")


if __name__ == "__main__":
    main()
