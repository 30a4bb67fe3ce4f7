"""What Airflow reads about this package once it is pip-installed: connection type, form, links."""

from __future__ import annotations

from typing import Any

REGIONS = ("cn-north-4", "cn-north-1", "cn-east-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3")
"""The regions of section 2 of the contract, the default for new users first."""


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
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {
                        "login": "Access key (AK)",
                        "password": "Secret key (SK)",
                        "host": "Endpoint",
                    },
                    "placeholders": {
                        "host": "leave empty for https://vod.<region>.myhuaweicloud.com",
                        "login": "access key of the account",
                        "password": "secret key of the account",
                    },
                },
                "conn-fields": {
                    "region": {
                        "label": "Region",
                        "description": "Where the assets are. Project, assets and keys do not cross regions.",
                        "schema": {"type": "string", "enum": list(REGIONS), "default": REGIONS[0]},
                    },
                    "project_id": {
                        "label": "Project ID",
                        "description": "The project of that region: console, My Credentials, Projects.",
                        "schema": {"type": "string", "minLength": 1},
                    },
                    "engine": {
                        "label": "Default engine",
                        "description": "What extracts when a task does not say: VOD or the worker's ffmpeg.",
                        "schema": {"type": "string", "enum": ["vod", "ffmpeg"], "default": "vod"},
                    },
                    "destination": {
                        "label": "Default destination",
                        "description": "Folder or object-storage URL for audio files and transcripts.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "timeout": {
                        "label": "Read timeout",
                        "description": "Seconds to wait for an answer of VOD (default 60).",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
                    },
                },
            }
        ],
        "extra-links": ["vod.links.VodConsoleLink"],
    }
