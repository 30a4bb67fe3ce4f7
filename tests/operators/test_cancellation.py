"""What is cancelled, and what is not, when a task is ended, runs out of time or loses its worker."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time.timeout import timeout

from tests.conftest import DictStore, context_of, stats
from tests.operators.conftest import Context, extract
from vod.batch.outcomes import AssetsFailedError
from vod.cloud import session
from vod.cloud.client import VodClient
from vod.engines import SubmissionStoppedError
from vod.operators import ExtractAudioOperator
from vod.standin import Standin
from vod.standin.faults import parse


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
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, wait_for_completion=False, **options)
    operator.execute(context)
    context["ti"].state = state
    operator.on_kill()
    operator._cancellation._inquiry.join()  # type: ignore[union-attr]
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
                operator._cancellation._engines[0]._stopping.wait(10)  # type: ignore[union-attr]

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


@pytest.mark.parametrize("map_index", [0, 1])
@pytest.mark.parametrize("state", ["failed", "running"])
def test_what_happens_to_another_instance_of_a_mapped_task_ends_nothing(
    standin: Standin, connection: str, uploaded: list[str], map_index: int, state: str
) -> None:
    standin.behaviour.queue_seconds = 60
    others = {
        index: "failed" if state == "running" else "running" for index in range(3) if index != map_index
    }
    context = context_of(DictStore(), map_index=map_index, siblings=others)
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, wait_for_completion=False)
    operator.execute(context)
    context["ti"].state = state
    operator.on_kill()
    operator._cancellation._inquiry.join()  # type: ignore[union-attr]
    assert stats(standin)["assets_by_status"].get("CANCELLED", 0) == (3 if state == "failed" else 0)


def test_when_the_time_is_up_and_vod_is_out_of_order_the_others_are_not_lost(
    standin: Standin, connection: str, context: Context, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = extract(context, uploaded[:1])
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, failed_assets="return")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    standin.behaviour.faults = [parse("error,call=info")]
    monkeypatch.setattr(session, "_MAX_TRIES", 1)
    records = [*done, *deferred.value.trigger.records[1:]]
    outcomes = operator.execute_complete(context, {"records": records, "deadline": time.time()})
    assert outcomes[:1] == done
    assert [record["retryable"] for record in outcomes[1:]] == [True, True]
    standin.behaviour.faults = []
    assert [record["outcome"] for record in extract(context, uploaded)] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


@pytest.mark.slow
def test_nobody_cancels_a_thousand_times_what_is_refused(
    standin: Standin, connection: str, context: Context
) -> None:
    standin.behaviour.queue_seconds = 60
    standin.behaviour.quota_scale = 100
    operator = ExtractAudioOperator(
        task_id="extract", assets=standin.add_virtual(12), wait_for_completion=False
    )
    standin.behaviour.faults = [parse("refuse,call=cancel_extract_audio,code=VOD.10120")]
    operator.execute(context)
    operator._cancellation.cancel()  # type: ignore[union-attr]
    assert stats(standin)["calls"]["cancel_extract_audio"]["total"] <= 8
