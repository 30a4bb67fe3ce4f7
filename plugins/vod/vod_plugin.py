"""Registers this package with Airflow, from the plugins folder or from a wheel (``airflow.plugins``).

Every Airflow process executes this file: keep its import cheap.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class VodPlugin(AirflowPlugin):
    name = "vod"
