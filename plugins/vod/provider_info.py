"""What Airflow reads about this package once it is installed with pip; ``airflow providers`` lists it."""

from __future__ import annotations

from typing import Any

from vod.connection import form_fields

_INTEGRATION = "Huawei Cloud VOD"


def get_provider_info() -> dict[str, Any]:
    """Entry point ``apache_airflow_provider`` (schema: ``airflow/provider.yaml.schema.json``)."""
    return {
        "package-name": "airflow-provider-vod",
        "name": _INTEGRATION,
        "description": "Extract the audio of videos in Huawei Cloud VOD, or with ffmpeg, and transcribe it.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://support.huaweicloud.com/intl/en-us/vod/index.html",
                "tags": ["service"],
            }
        ],
        "operators": _modules("vod.operators.extract", "vod.operators.transcribe"),
        "sensors": _modules("vod.sensors"),
        "hooks": _modules("vod.hooks"),
        "triggers": _modules("vod.triggers"),
        "notifications": ["vod.notifications.VodNotifier"],
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
                        "host": "empty: https://vod.<region>.myhuaweicloud.com",
                        "login": "or the name of an IAM user",
                        "password": "or that user's password",
                        # apache/airflow#73298: the page sends 0 for an empty port, and the server refuses it.
                        "port": "443; without a port Airflow 3.3.2 refuses to test the connection",
                    },
                },
                "conn-fields": form_fields(),
            }
        ],
        "asset-uris": [
            {
                "schemes": ["vod"],
                "handler": "vod.asset_uris.sanitize_uri",
                "factory": "vod.asset_uris.create_asset",
                "to_openlineage_converter": "vod.asset_uris.convert_asset_to_openlineage",
            }
        ],
        "extra-links": ["vod.links.VodConsoleLink", "vod.links.AudioLink", "vod.links.TranscriptLink"],
        "filesystems": ["vod.storage.obs"],
        "plugins": [{"name": "vod", "plugin-class": "vod.vod_plugin.VodPlugin"}],
        "config": {
            "vod": {
                "description": "Settings of the package airflow-provider-vod.",
                "options": {
                    "allowed_locations": {
                        "description": "Folders and URLs, one a line or with commas between them, below "
                        "which sources and lists may be read and results may be written. Empty: "
                        "forms and lists may name only the destination of the connection, and DAG "
                        "authors any location.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/media/videos, s3://aws_default@bucket/audio",
                        "default": "",
                    },
                    "max_manifest_bytes": {
                        "description": "Largest list of assets that a run reads, in bytes.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": None,
                        "default": str(64 << 20),
                    },
                    "prices": {
                        "description": "What this site pays, as JSON: currency, extraction (each, by VOD), "
                        "extraction_minute (of audio, by VOD), transcription_minute. Plans and the command "
                        "vod estimate say what a run comes to.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"currency": "USD", "extraction_minute": 0.002}',
                        "default": "",
                    },
                    "run_limits": {
                        "description": "What one run may come to, as JSON: videos, hours (of audio), money "
                        "(by the prices). A run that would come to more fails before anything is submitted.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"videos": 5000, "hours": 500}',
                        "default": "",
                    },
                    "rare_formats": {
                        "description": "Read also containers and codecs that are rare, and whose parsers few "
                        "people test: GXF, DV, RealMedia, NUT.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    },
                    "claim_lease": {
                        "description": "Seconds after the last sign of life of a task at which other tasks "
                        "may extract what it has claimed. At least what Airflow needs to notice a dead "
                        "worker and to start the next try.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "900",
                    },
                    "lost_answer_window": {
                        "description": "Seconds over which VOD must have listed no audio of a submission "
                        "whose answer was lost, before the video is submitted again.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": None,
                        "default": "180",
                    },
                    "first_day": {
                        "description": "The first day of the sample DAG extract_new_assets, in UTC: it "
                        "begins with that day, and after a downtime catches up with the days in between. "
                        "Empty: it begins with the last complete day.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "2026-11-01",
                        "default": "",
                    },
                    "speech_pool": {
                        "description": "Pool for the transcriptions of the sample DAGs: as many slots as "
                        "may run at once, for example one for each GPU. The pool must exist. Empty: "
                        "default_pool.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "vod_speech",
                        "default": "",
                    },
                    "speech": {
                        "description": "Options for speech recognition, in JSON, of tasks that do not name "
                        "them and whose connection does not either (docs/transcription.md).",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"model": "large-v3"}',
                        "default": "",
                    },
                    "media_queue": {
                        "description": "Queue for extraction by ffmpeg, for CeleryExecutor. Empty: tasks "
                        "stay in the queues that they name.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "media",
                        "default": "",
                    },
                    "speech_queue": {
                        "description": "Queue for transcription, for CeleryExecutor. Empty: tasks stay in "
                        "the queues that they name.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "speech",
                        "default": "",
                    },
                    "backfill_pool": {
                        "description": "Pool for the tasks of backfills, and of DAGs with the tag backfill. "
                        "Only DAGs with the tag vod are concerned. The pool must exist. Empty: tasks stay "
                        "in the pools that they name.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "vod_backfill",
                        "default": "",
                    },
                },
            }
        },
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [*names]}]
