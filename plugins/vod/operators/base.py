"""What both operators share: the connection, and how the outcomes of a batch become that of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.configuration import conf

from vod import allowed_formats, metrics
from vod.batch.arguments import check_choice
from vod.batch.outcomes import FailedAssets, conclude
from vod.batch.progress import BatchProgress
from vod.batch.rendering import DataIsNotRendered
from vod.connection import DEFAULT_CONNECTION
from vod.errors import InvalidInputError
from vod.records import AssetFailure, Record
from vod.storage.destination import Destination

# Engines, hook and trigger are imported by the methods that need them: the scheduler parses DAG files again
# and again, and would load HTTP clients and codecs each time.
if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from vod.hooks import VodHook

TRIGGER_DELAY = timedelta(hours=1)
"""Time that the triggerer may be away or late. The triggers themselves end in time."""

_FINISHED = ("extracted", "transcribed", "doubtful")


class BatchOperator(DataIsNotRendered, BaseOperator):
    """A task that holds a batch of assets.

    An event of each Airflow asset among its ``outlets`` carries the records of what was done in its extra;
    there is none when nothing was done.

    :param failed_assets: ``raise`` finishes what can be finished, then fails naming the bad assets;
        ``return`` returns failures as records among the others and succeeds. Both use the task's
        retries for what may succeed on a retry, and only for that.
    """

    event_key: ClassVar[str]
    """Under which key of an asset event's extra the records are."""

    def __init__(
        self, *, vod_conn_id: str = DEFAULT_CONNECTION, failed_assets: FailedAssets = "raise", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("failed_assets", failed_assets, ("raise", "return"))
        self.vod_conn_id = vod_conn_id
        self.failed_assets = failed_assets
        self.finished: list[dict[str, Any]] = []
        self._checked: set[str] = set()
        self._resumed = False

    @cached_property
    def hook(self) -> VodHook:
        """The connection."""
        from vod.hooks import VodHook

        return VodHook(self.vod_conn_id)

    def pre_execute(self, context: Any) -> None:
        """Take over what Airflow's configuration says about rare formats."""
        super().pre_execute(context)
        if conf.getboolean("vod", "rare_formats", fallback=False):
            allowed_formats.read_rare_formats()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait."""
        self._resumed = True
        return super().resume_execution(next_method, next_kwargs, context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """The datasets read and written, for the provider openlineage if it is installed."""
        from vod.operators.lineage import lineage

        return lineage(self.finished, self.vod_conn_id)

    def _result(self, context: Context, records: Sequence[Record]) -> list[dict[str, Any]]:
        """What the task returns. Sets also its last message, the events of its outlets and its lineage."""
        counts = Counter(
            "failed" if isinstance(record, AssetFailure) else record.outcome for record in records
        )
        for record in records:
            if isinstance(record, AssetFailure):
                metrics.count("vod.assets.failed", task=self.event_key, outcome=record.outcome)
        progress = BatchProgress(context["task_state_store"], len(records))
        progress.count(records)
        summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in counts)
        progress.report(f"Of {len(records)} assets: {summary}.")
        result = conclude(records, self.failed_assets, may_retry=_may_retry(context))
        self.finished[:] = [record for record in result if record["outcome"] in _FINISHED]
        if not self.finished:
            # Airflow announces what is among the outlets when a task has ended well. There is nothing.
            self.outlets = [outlet for outlet in self.outlets if not isinstance(outlet, Asset)]
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = {self.event_key: [*self.finished]}
        return result

    def _destination(self, destination: str | None) -> Destination:
        """Where the files go, once it has been written to.

        :raises vod.errors.VodError: there is none, or it cannot be written to.
        """
        location = destination or self.hook.settings.destination
        if not location:
            raise InvalidInputError(
                "No destination for the files.",
                remedy="Give the task a destination, or set a default in the connection's extra.",
            )
        found = Destination(location)
        # Once a task, before the first asset: not again each time that it has waited.
        if not self._resumed and location not in self._checked:
            found.check()
            self._checked.add(location)
        return found


def _may_retry(context: Context) -> bool:
    """Whether Airflow runs the task again if this try fails."""
    ti = context["ti"]
    return bool(getattr(ti, "try_number", 1) <= getattr(ti, "max_tries", 0))
