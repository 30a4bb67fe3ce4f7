"""One try of a task in a process of its own, which one of its assets kills (tests/operators/test_kills.py).

Run with the folder of the test and the name of the work. The state store is a file of that folder, as
Airflow's is a table that outlives a worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.conftest import DictStore, context_of
from vod.batch.ledger import Ledger, LedgerPages
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.operators import TranscribeAudioOperator
from vod.records import AssetFailure
from vod.speech.engines.whisper import WhisperEngine
from vod.storage.destination import Destination


class FileStore(DictStore):
    """A store that the next process finds."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.values = json.loads(path.read_text()) if path.exists() else {}

    def set(self, key: str, value: Any, **options: Any) -> None:
        super().set(key, value, **options)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.values))
        part.replace(self._path)
        with self._path.with_suffix(".writes").open("a") as writes:
            writes.write(f"{key}\n")


def extract(folder: Path, store: FileStore, attempt: int) -> list[dict[str, Any]]:
    def die(asset: str, _: Any) -> None:
        if "deadly" in asset:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger = Ledger(LedgerPages(store), {"engine": "ffmpeg"}, attempt)
    engine = FfmpegEngine(
        None,
        ledger,
        "AAC",
        Destination(str(folder / "audio")),
        options=FfmpegOptions(processes=2, reencode=True),
        on_progress=die,
    )
    videos = sorted(str(path) for path in (folder / "videos").iterdir())
    return [outcome.to_json() for outcome in engine.start(videos).values()]


def transcribe(folder: Path, store: FileStore, attempt: int) -> list[dict[str, Any]]:
    recognise = WhisperEngine.passages

    def die(engine: WhisperEngine, audio: Path, options: Any, **more: Any) -> Any:
        if "deadly" in audio.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return recognise(engine, audio, options, **more)

    WhisperEngine.passages = die  # type: ignore[method-assign]
    operator = TranscribeAudioOperator(
        task_id="transcribe",
        audio=json.loads((folder / "audio.json").read_text()),
        model="tiny.en",
        destination=str(folder / "text"),
        failed_assets="return",
    )
    return operator.execute(context_of(store, max_tries=attempt))


if __name__ == "__main__":
    place, work = Path(sys.argv[1]), {"extract": extract, "transcribe": transcribe}[sys.argv[2]]
    records = work(place, FileStore(place / "store.json"), int(sys.argv[3]))
    done = [record["outcome"] for record in records]
    messages = [str(AssetFailure(**record)) for record in records if record["outcome"] == "kills_its_process"]
    print(json.dumps({"outcomes": done, "messages": messages}))
