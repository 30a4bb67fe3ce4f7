"""Buttons on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from vod.errors import VodError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class VodConsoleLink(BaseOperatorLink):
    """Opens the VOD console in the region of the connection."""

    name = "VOD console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """URL of the console; empty if the task has no connection."""
        try:
            region = getattr(operator, "hook").settings.service.region  # noqa: B009 - of the operators of this package
        except VodError:  # with files alone there need be no connection
            return ""
        return f"https://console.huaweicloud.com/vod/?region={region}"


class AudioLink(BaseOperatorLink):
    """Leads to the audio that the task extracted: to its file, or to the folder of several."""

    name = "Audio"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """URL of the file or folder; empty if the audio lies in VOD or there is none."""
        uris = [record["uri"] for record in getattr(operator, "finished", ())]
        if not uris or uris[0].startswith("vod://"):
            return ""
        return uris[0] if len(uris) == 1 else uris[0].rpartition("/")[0]
