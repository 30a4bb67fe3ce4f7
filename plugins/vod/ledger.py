"""What a task has done for each asset, kept where a crash, a retry or a clear does not reach it."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol


class Store(Protocol):
    """``context["task_state_store"]`` of Airflow 3.3: key and value, scoped to one task instance."""

    def get(self, key: str, default: Any = None) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...

    def delete(self, key: str) -> None: ...


class Ledger:
    """One entry an asset, written before and after each step that must not happen twice.

    An entry's key is a digest of the asset and of everything that shapes its audio, so that changed inputs
    start afresh while the other assets of a batch keep what they have. States of an entry:

    - absent: nothing was done;
    - ``{"intended": t}``: a submission may have been sent at ``t`` (seconds since the epoch), its answer is
      unknown;
    - ``{"audio": id, "accepted": t}``: VOD accepted it and ``id`` is the audio asset;
    - ``{"record": {...}}``: the finished record of an extraction on this worker.

    :param inputs: What besides the asset shapes the audio: engine, format, connection and so on.
    """

    _MARK = "vod_ledger"

    def __init__(self, store: Store, inputs: dict[str, Any]) -> None:
        self._store = store
        self._inputs = inputs
        # A first try finds no mark and spares itself one read an asset.
        self._read = bool(store.get(self._MARK))
        if not self._read:
            store.set(self._MARK, True)

    def get(self, asset: str) -> dict[str, Any] | None:
        """What an earlier try did for the asset; ``None`` when it did nothing."""
        entry = self._store.get(self._key(asset)) if self._read else None
        return entry if isinstance(entry, dict) else None

    def intend(self, asset: str, at: float) -> None:
        """A submission is about to be sent."""
        self._store.set(self._key(asset), {"intended": at})

    def accept(self, asset: str, audio_asset_id: str, at: float) -> None:
        """VOD accepted the submission."""
        self._store.set(self._key(asset), {"audio": audio_asset_id, "accepted": at})

    def finish(self, asset: str, record: dict[str, Any]) -> None:
        """The audio lies at its destination."""
        self._store.set(self._key(asset), {"record": record})

    def forget(self, asset: str) -> None:
        """The asset has to be done again from the start."""
        self._store.delete(self._key(asset))

    def _key(self, asset: str) -> str:
        identity = "\n".join([asset, *(f"{name}={self._inputs[name]}" for name in sorted(self._inputs))])
        return f"vod_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
