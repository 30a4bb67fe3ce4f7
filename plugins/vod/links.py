"""Buttons on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class VodConsoleLink(BaseOperatorLink):
    """Opens the media list of the VOD console."""

    name = "VOD console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return "https://console.huaweicloud.com/vod/"
