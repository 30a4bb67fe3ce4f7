"""What Airflow reads about this package once it is pip-installed: connection type, form, links, schemes."""

from __future__ import annotations

from typing import Any

from vod.connection import form_fields


def get_provider_info() -> dict[str, Any]:
    """Entry point ``apache_airflow_provider`` (schema: ``airflow/provider.yaml.schema.json``)."""
    return {
        "package-name": "airflow-provider-vod",
        "name": "Huawei Cloud VOD",
        "description": "Extract the audio of videos in Huawei Cloud VOD, or with ffmpeg, and transcribe it.",
        "connection-types": [
            {
                "connection-type": "vod",
                "hook-class-name": "vod.hooks.VodHook",
                "hook-name": "Huawei Cloud VOD",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "Endpoint",
                        "login": "Access key (AK)",
                        "password": "Secret key (SK)",
                    },
                    "placeholders": {
                        "host": "empty for https://vod.<region>.myhuaweicloud.com",
                        "login": "or the name of an IAM user",
                        "password": "or that user's password",
                        # apache/airflow#73298: the page sends 0 for an empty port, and the server refuses it.
                        "port": "443; without a port Airflow 3.3.2 refuses to test the connection",
                    },
                },
                "conn-fields": form_fields(),
            }
        ],
        "extra-links": ["vod.links.VodConsoleLink", "vod.links.AudioLink"],
        "filesystems": ["vod.storage.obs"],
    }
