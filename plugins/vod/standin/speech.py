"""The calls of SIS, VOD's neighbour that recognises speech: for real, by Whisper on this machine.

Its codes of errors are not documented, so those here are made up; clients go by the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import math
import re
import secrets
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from vod import media
from vod.errors import VodError
from vod.logs import get_logger
from vod.standin.errors import RefusedError, StorageError
from vod.standin.faults import Fail
from vod.standin.gateway import Call
from vod.standin.parameters import Body

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vod.standin.gateway import Received
    from vod.standin.library import Asset, Library
    from vod.standin.settings import StandinSettings
    from vod.standin.storage import Storage

log = get_logger(__name__)

MODELS = (
    "chinese_16k_media",
    "chinese_16k_conversation",
    "chinese_8k_general",
    "chinese_8k_common",
    "chinese_8k_bank",
    "chinese_8k_insurance",
    "sichuan_8k_common",
)
ENDINGS = {".wav", ".mp3", ".m4a", ".ogg", ".amr", ".wma"}
MEDIA_REGIONS = {"cn-north-4", "cn-east-3"}
LONGEST, SHORTEST, LARGEST = 5 * 3600, 0.01, 300 * 1024 * 1024
KEPT = 72 * 3600
"""Seconds for which a result can be read."""

_PUNCTUATION = re.compile(r"[\uff0c\u3002\uff1f\uff01\u3001\uff1b\uff1a,.?!;:]")
_SWITCH = ("yes", "no")


class Speech:
    """Jobs of recognition, one at a time; each is a file that a restart finds.

    :param owns: Whether a URL leads to this stand-in.
    """

    def __init__(
        self, settings: StandinSettings, library: Library, storage: Storage, owns: Callable[[str], bool]
    ) -> None:
        self._settings = settings
        self._behaviour = settings.behaviour
        self._library = library
        self._storage = storage
        self._owns = owns
        self._folder = settings.data / "speech"
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="recognition")
        self._stopping = threading.Event()
        self._ended: asyncio.Event
        self._engine: Any = None
        self._works: set[asyncio.Task[None]] = set()

    def calls(self) -> tuple[Call, ...]:
        jobs = "/v1/{project_id}/asr/transcriber/jobs"
        return (
            Call("push_transcriber_jobs", "POST", jobs, "speech", 400, self.push),
            Call("collect_transcriber_job", "GET", f"{jobs}/{{job_id}}", "speech", 400, self.collect),
        )

    def start(self) -> None:
        """Goes on with what an earlier stand-in left unfinished."""
        self._ended = asyncio.Event()
        self._folder.mkdir(exist_ok=True)
        for path in sorted(self._folder.glob("*.json")):
            job = json.loads(path.read_text())
            if job["answer"]["status"] == "WAITING":
                self._begin(path.stem, job)

    async def stop(self) -> None:
        """Ends recognition; what it was doing starts anew after the next start."""
        self._stopping.set()
        self._ended.set()
        await asyncio.gather(*self._works, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.close)

    async def push(self, received: Received) -> dict[str, Any]:
        try:
            body = received.json()
            config = body.section("config")
            wanted = self._wanted(config)
            asset = self._asset(body.text("data_url", max_bytes=8192))
        except RefusedError as refused:
            if refused.code.startswith("SIS"):
                raise
            raise _refused(str(refused)) from None
        if not self._settings.virtual:
            await asyncio.to_thread(self._require_model)
        job_id = str(uuid.uuid4())
        job = {
            "asset": asset.asset_id,
            "wanted": wanted,
            "answer": {"status": "WAITING", "create_time": _moment(self._behaviour.now())},
        }
        self._write(job_id, job)
        self._begin(job_id, job)
        return {"job_id": job_id}

    async def collect(self, received: Received) -> dict[str, Any]:
        job_id = received.path["job_id"]
        path = self._folder / f"{job_id}.json"
        if not re.fullmatch(r"[0-9a-f-]{36}", job_id) or not path.is_file():
            raise _refused("task id is not found")
        job: dict[str, Any] = json.loads(path.read_text())
        if job.get("until", math.inf) <= self._behaviour.now():
            path.unlink()
            raise _refused("task id is not found")
        answer: dict[str, Any] = job["answer"]
        return answer

    def _wanted(self, config: Body) -> dict[str, Any]:
        """What a job is to do; refused where the service would, or where this one cannot."""
        if config.text("audio_format") != "auto":
            raise _refused("The stand-in knows no other audio_format than auto.")
        model = config.choice("property", MODELS)
        if model == "chinese_16k_media" and self._settings.region not in MEDIA_REGIONS:
            raise _refused("The property chinese_16k_media is not offered in this region.")
        config.choice("digit_norm", _SWITCH, "yes")
        if callback := config.optional_text("callback_url", max_bytes=2047):
            _require_host_name(callback, "callback_url")
            raise _refused("The stand-in makes no callbacks: ask for the job.")
        for name in ("need_analysis_info", "vocabulary_id"):
            if config.has(name):
                raise _refused(f"The stand-in has no {name}.")
        return {
            "property": model,
            "punctuation": config.choice("add_punc", _SWITCH, "no") == "yes",
            "words": config.choice("need_word_info", _SWITCH, "no") == "yes",
        }

    def _asset(self, url: str) -> Asset:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise RefusedError.illegal("data_url") from None
        if parts.scheme not in ("http", "https"):
            raise RefusedError.illegal("data_url")
        if PurePosixPath(unquote(parts.path)).suffix.lower() not in ENDINGS:
            raise _refused("The audio format is not supported.")
        if not self._owns(url):
            _require_host_name(url, "data_url")
            raise _refused("The stand-in fetches audio only from its own storage.")
        try:
            return self._storage.found(url)
        except StorageError as error:
            raise _refused(f"The data_url cannot be read: {error}") from None

    def _require_model(self) -> None:
        from vod.speech.models import installed, is_model

        model = self._settings.speech_model
        if model not in installed() and not is_model(_path(model)):
            raise _refused(
                f"The stand-in has no speech model {model!r} and cannot recognise anything: install it, or "
                "name another with --speech-model."
            )

    def _begin(self, job_id: str, job: dict[str, Any]) -> None:
        work = asyncio.create_task(self._work(job_id, job))
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _work(self, job_id: str, job: dict[str, Any]) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), self._behaviour.queue_seconds)
        if self._stopping.is_set():
            return
        answer = dict(job["answer"], start_time=_moment(self._behaviour.now()))
        try:
            answer |= await self._recognised(job)
        except VodError as error:
            answer |= {"status": "ERROR", "error_msg": error.message}
        except Exception:
            log.exception("job %s: the stand-in itself failed", job_id)
            answer |= {"status": "ERROR", "error_msg": "internal error"}
        if self._stopping.is_set():
            return  # the next start does it again
        now = self._behaviour.now()
        answer["finish_time"] = _moment(now)
        self._write(job_id, {**job, "answer": answer, "until": now + KEPT})

    async def _recognised(self, job: dict[str, Any]) -> dict[str, Any]:
        asset = self._library.get(job["asset"])
        if asset is None:
            return {"status": "ERROR", "error_msg": "The audio cannot be downloaded."}
        for rule in self._behaviour.rules(Fail, "speech"):
            if rule.strikes(asset.names, asset.asset_id):
                return {"status": "ERROR", "error_msg": rule.reason}
        if self._settings.virtual or asset.virtual:
            seconds = (asset.meta_data or {}).get("duration", 0)
            return {"status": "FINISHED", "audio_duration": int(seconds * 1000), "segments": []}
        path = self._library.path(asset)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._recognise, path, job["wanted"])

    def _recognise(self, path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
        found = media.probe(path)
        [track, *_] = found.audio
        duration, rate = found.duration or 0.0, track.sample_rate or 0
        if not SHORTEST <= duration <= LONGEST or path.stat().st_size > LARGEST:
            return {"status": "ERROR", "error_msg": "The audio is too long, too short or too large."}
        if ("_8k_" in wanted["property"]) != (rate < 16_000):
            return {"status": "ERROR", "error_msg": "The property does not fit the sample rate."}
        from vod.speech import SpeechOptions
        from vod.speech.engines import Watch
        from vod.speech.engines.whisper import WhisperEngine

        model = self._settings.speech_model
        language = "en" if model.endswith(".en") else "zh"
        if self._engine is None:
            self._engine = WhisperEngine()  # it keeps its model for the next job
        options = SpeechOptions(model=model, language=language)
        watch = Watch(cancelled=self._stopping.is_set)
        passages = list(self._engine.passages(path, options, watch=watch))
        segments = [_segment(each, wanted) for passage in passages for each in passage.segments]
        return {"status": "FINISHED", "audio_duration": round(duration * 1000), "segments": segments}

    def _write(self, job_id: str, job: dict[str, Any]) -> None:
        part = self._folder / f"{job_id}.{secrets.token_hex(8)}.part"
        part.write_text(json.dumps(job))
        part.replace(self._folder / f"{job_id}.json")


def _segment(segment: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """A sentence as the service shows it."""
    text = segment.text if wanted["punctuation"] else _PUNCTUATION.sub("", segment.text)
    result: dict[str, Any] = {"text": text}
    if wanted["words"]:
        result["word_info"] = [
            {
                "start_time": round(word.start * 1000),
                "end_time": round(word.end * 1000),
                "word": _PUNCTUATION.sub("", word.text).strip(),
            }
            for word in segment.words
        ]
    return {
        "start_time": round(segment.start * 1000),
        "end_time": round(segment.end * 1000),
        "result": result,
    }


def _refused(message: str) -> RefusedError:
    return RefusedError("SIS.0001", message, status=400)


def _require_host_name(url: str, field: str) -> None:
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return
    raise _refused(f"The {field} names an IP address.")


def _path(model: str) -> Path:
    from pathlib import Path

    return Path(model)


def _moment(seconds: float) -> str:
    """RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
