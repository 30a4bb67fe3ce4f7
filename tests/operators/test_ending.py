from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout

from tests.conftest import DictStore, stats
from tests.operators.conftest import Context, extract
from vod.batches import AssetsFailedError
from vod.cloud.client import VodClient
from vod.extraction import SubmissionStoppedError
from vod.operators import ExtractAudioOperator
from vod.standin import Standin


@pytest.mark.parametrize("deferrable", [True, False])
def test_running_out_of_time_cancels_what_is_queued(
    standin: Standin,
    connection: str,
    context: Context,
    client: VodClient,
    uploaded: list[str],
    deferrable: bool,
) -> None:
    standin.behaviour.queue_seconds = 60
    with pytest.raises(AssetsFailedError, match=r"is still WAITING_TRANSCODE\. Raise the task's timeout"):
        extract(context, uploaded[0], timeout=0.3, deferrable=deferrable)
    statuses = stats(standin)["assets_by_status"]
    assert statuses.get("CANCELLED") == 1


@pytest.mark.parametrize(
    ("state", "options", "cancelled"),
    [
        ("failed", {}, 3),
        ("restarting", {}, 3),  # cleared
        ("success", {}, 3),
        ("running", {}, 0),  # the worker is shut down
        ("up_for_retry", {}, 0),  # Airflow lost sight of the worker
        ("failed", {"cancel_on_kill": False}, 0),
    ],
)
def test_only_a_person_cancels(
    standin: Standin,
    connection: str,
    context: Context,
    uploaded: list[str],
    state: str,
    options: dict[str, Any],
    cancelled: int,
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, wait=False, **options)
    operator.execute(context)
    context["ti"].state = state
    operator.on_kill()
    operator._ending._inquiry.join()  # type: ignore[union-attr]
    assert stats(standin)["assets_by_status"].get("CANCELLED", 0) == cancelled


def test_who_is_killed_while_submitting_submits_no_more_and_cancels_what_it_did(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded)

    class KilledStore(DictStore):
        def set(self, key: str, value: Any, **options: Any) -> None:
            super().set(key, value, **options)
            context["ti"].state = "failed"
            operator.on_kill()
            if len(value) == 2:  # the second intent
                operator._ending.begun.wait(10)  # type: ignore[union-attr]

    context["task_state_store"] = KilledStore()
    with pytest.raises(SubmissionStoppedError):
        operator.execute(context)
    counted = stats(standin)
    assert sum(counted["submissions"].values()) < 3
    assert counted["assets_by_status"]["CANCELLED"] == sum(counted["submissions"].values())


def test_running_into_the_execution_timeout_cancels(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, deferrable=False, poll_interval=0.1)
    with pytest.raises(AirflowTaskTimeout), timeout(3):
        operator.execute(context)
    assert stats(standin)["assets_by_status"]["CANCELLED"] == 3
