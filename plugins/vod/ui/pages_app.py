"""The application that Airflow's API server mounts under ``/vod``."""

from __future__ import annotations

from vod.ui import library_pages, videos_tab
from vod.ui.app import create

app = create(library_pages.router, videos_tab.router)
