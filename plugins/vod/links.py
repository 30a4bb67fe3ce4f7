"""Buttons on a task's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from vod.errors import VodError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


LIBRARY = "vod-library"
"""Where Airflow shows the library: ``/plugin/vod-library``."""


class VodConsoleLink(BaseOperatorLink):
    """Opens the VOD console in the region of the connection.

    Its pages of assets have no addresses that Huawei Cloud documents.
    """

    name = "VOD console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """URL of the console; empty if the task has no connection, or one that leads elsewhere."""
        try:
            service = getattr(operator, "hook").settings.service  # noqa: B009 - of the operators of this package
        except VodError:  # with files alone there need be no connection
            return ""
        if not (urlsplit(service.endpoint).hostname or "").endswith(".myhuaweicloud.com"):
            return ""
        return f"https://console.huaweicloud.com/vod/?region={service.region}"


class _PageLink(BaseOperatorLink):
    """Leads to what the task finished, in the library: to its page, or to those of the run if it is more."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Path of the page; empty if nothing of it is in the register."""
        entries = [entry for record in getattr(operator, "finished", ()) if (entry := self.entry(record))]
        if not entries:
            return ""
        if len(entries) == 1:
            return page_path("asset", entry=entries[0])
        return page_path("library", of_dag=ti_key.dag_id, of_run=ti_key.run_id)

    @staticmethod
    def entry(record: Mapping[str, Any]) -> str:
        """The key in the register of what a record is about."""
        return str(record.get("entry", ""))


class AudioLink(_PageLink):
    """Leads to the audio that the task extracted."""

    name = "Audio"


class TranscriptLink(_PageLink):
    """Leads to the transcripts that the task wrote."""

    name = "Transcript"


def page_path(page: str, **query: str) -> str:
    """Path of one of this package's pages inside Airflow's UI.

    :param page: Its name below ``/vod``.
    """
    below = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    return f"{below}/plugin/{LIBRARY}{below}/vod/{page}?{urlencode(query)}"
