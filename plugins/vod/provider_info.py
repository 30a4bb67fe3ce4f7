"""What Airflow reads about this package once it is pip-installed: connection type, form, links, schemes."""

from __future__ import annotations

from typing import Any

DEFAULT_CONNECTION = "vod_default"
"""The connection of whoever names none."""

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
                "conn-fields": _conn_fields(),
            }
        ],
        "extra-links": ["vod.links.VodConsoleLink", "vod.links.AudioLink"],
        "filesystems": ["vod.obs"],
    }


def _conn_fields() -> dict[str, Any]:
    """The fields of the form that are kept in the connection's extra, in the order of the form.

    ``null`` among the types lets the form be saved without the field.
    """
    text = {"type": ["string", "null"]}
    return {
        "region": {
            "label": "Region",
            "description": "Where the assets are. Project, assets and keys do not cross regions.",
            "schema": {"type": "string", "enum": list(REGIONS), "default": REGIONS[0]},
        },
        "project_id": {
            "label": "Project ID",
            "description": "Console, My Credentials, Projects. When empty, it is looked up by the region.",
            "schema": text,
        },
        "engine": {
            "label": "Default engine",
            "description": "What extracts when a task does not say: VOD or the worker's ffmpeg.",
            "schema": {
                "type": "string",
                "enum": ["vod", "ffmpeg"],
                "values_display": {"vod": "Huawei Cloud VOD", "ffmpeg": "ffmpeg on the worker"},
                "default": "vod",
            },
        },
        "destination": {
            "label": "Default destination",
            "description": "Where audio files and transcripts land when a task does not say: an absolute "
            "path, or a URL such as obs://vod_default@bucket/audio.",
            "schema": text,
        },
        "timeout": {
            "label": "Read timeout",
            "description": "Seconds to wait for an answer, 1 to 600. When empty, 60.",
            "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
        },
        "quota_share": {
            "label": "Quota share",
            "description": "Part of the account's quotas that each process may use, 0.01 to 1: with four "
            "workers 0.25. When empty, 1: all of it.",
            "schema": {"type": ["number", "null"], "minimum": 0.01, "maximum": 1},
        },
        "security_token": {
            "label": "Security token",
            "description": "Only for temporary keys: the token that was issued with AK and SK.",
            "schema": {**text, "format": "password"},
        },
        "account": {
            "label": "Account",
            "description": "Only for login with a token: name of the IAM account. Above are then name and "
            "password of a user of it, instead of AK and SK.",
            "schema": text,
        },
        "iam_endpoint": {
            "label": "IAM endpoint",
            "description": "When empty, https://iam.<region>.myhuaweicloud.com.",
            "schema": text,
        },
        "obs_endpoint": {
            "label": "OBS endpoint",
            "description": "For URLs with obs://. When empty, https://obs.<region>.myhuaweicloud.com.",
            "schema": text,
        },
        "ffmpeg": {
            "label": "ffmpeg",
            "description": "Path of the program on the workers. When empty, it is looked for.",
            "schema": text,
        },
    }
