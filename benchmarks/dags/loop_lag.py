"""Measures the triggerer from inside: how late its event loop is."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, BaseOperator

from benchmarks.probe import LoopLagTrigger


class LoopLagOperator(BaseOperator):
    def execute(self, context: Any) -> None:
        params = context["params"]
        self.defer(trigger=LoopLagTrigger(params["path"], params["seconds"]), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> None:
        pass


with DAG(dag_id="loop_lag", schedule=None, params={"path": "", "seconds": 0}):
    LoopLagOperator(task_id="measure")
