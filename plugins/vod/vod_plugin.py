"""Registers this package with Airflow, from the plugins folder or from a wheel (``airflow.plugins``).

Every Airflow process executes this file: keep its import cheap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def pages(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """An ASGI application that is imported at the first request: only the API server needs it."""
    from vod.ui.pages_app import app

    await app(scope, receive, send)


class VodPlugin(AirflowPlugin):
    """The package's pages inside the Airflow UI."""

    name = "vod"
    fastapi_apps = [{"app": pages, "url_prefix": "/vod", "name": "vod"}]  # noqa: RUF012 - how Airflow declares them
    external_views = [  # noqa: RUF012
        {
            "name": "Videos",
            # Relative: Airflow may be served under a path of its own.
            "href": "vod/progress?dag_id={DAG_ID}&run_id={RUN_ID}",
            "destination": "dag_run",
            "url_route": "videos",
        },
        {
            "name": "Videos",
            "href": "vod/batch?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
            "destination": "task_instance",
            "url_route": "batch-videos",
        },
        {
            "name": "Video library",
            "href": "vod/library",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "vod-library",  # vod.links leads there
        },
    ]
