"""An OpenAPI description of what the stand-in serves of VOD, written from the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vod.records import AUDIO_FORMATS
from vod.standin.library import SPLIT_STATUS
from vod.standin.parameters import AUDIO_TYPES, MAX_PULLS, VIDEO_TYPES
from vod.standin.speech import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vod.standin.gateway import Call

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
MAYBE: Schema = {"type": ["string", "null"]}
BUCKET: Schema = {"$ref": "#/components/schemas/Bucket"}
KEY: Schema = {"$ref": "#/components/schemas/ObjectKey"}
TITLE: Schema = {"type": "string", "minLength": 1, "maxLength": 128, "description": "at most 128 bytes"}
ID: Schema = {"$ref": "#/components/schemas/AssetId"}
TIME: Schema = {"type": "string", "pattern": "^[0-9]{14}$", "description": "yyyymmddhhmmss, UTC"}
CONTAINER: Schema = {"type": "string", "enum": sorted(VIDEO_TYPES | AUDIO_TYPES)}
SWITCH: Schema = {"type": "integer", "enum": [0, 1]}


def _list(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": [*required], "properties": {**required, **(optional or {})}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, schema: Schema, *, required: bool = False, commas: bool = False) -> Schema:
    """A query parameter; a list is repeated, or written with *commas*."""
    parameter: Schema = {"name": name, "in": "query", "required": required, "schema": schema}
    if schema.get("type") == "array":
        parameter |= {"style": "form", "explode": not commas}
    return parameter


_ONE_ID = _query("asset_id", ID, required=True)
_FILTERS = [
    _query("start_time", TIME),
    _query("end_time", TIME),
    _query("category_id", NUMBER),
    _query("tags", _list({"type": "string", "minLength": 1}), commas=True),
    _query("query_string", TEXT),
    _query("page", {"type": "integer", "minimum": 0}),
    _query("size", {"type": "integer", "minimum": 1, "maximum": 100}),
]
_DESCRIBED: dict[str, Schema] = {
    "description": {"type": "string", "description": "at most 1024 bytes"},
    "category_id": {"type": ["integer", "string"]},
    "tags": {"type": "string", "description": "at most 16, with commas"},
    "auto_publish": SWITCH,
}
_CHANGED = _object(
    {"asset_info_array": _list(_object({"asset_id": TEXT, "status": TEXT, "description": TEXT}))}
)
_IDS = _object({"asset_id": _list(ID, minItems=1)})
_ADDRESS = _object({"bucket": TEXT, "location": TEXT, "object": TEXT})

SCHEMAS: dict[str, Schema] = {
    "Bucket": TEXT,
    "ObjectKey": TEXT,
    "AssetId": {"type": "string", "minLength": 1, "maxLength": 128, "description": "opaque"},
    "Error": _object({"error_code": TEXT, "error_msg": TEXT}, {"request_id": TEXT}),
    "MetaData": _object(
        {
            "codec": MAYBE,
            "duration": NUMBER,
            "duration_ms": NUMBER,
            "video_size": NUMBER,
            "width": NUMBER,
            "hight": NUMBER,
            "height": NUMBER,
            "bit_rate": NUMBER,
        },
        {
            "pack_type": MAYBE,
            "audio_codec": MAYBE,
            "quality": MAYBE,
            "audio_channels": {"type": ["integer", "null"]},
        },
    ),
    "BaseInfo": _object(
        {
            "title": TEXT,
            "video_name": TEXT,
            "description": MAYBE,
            "category_id": NUMBER,
            "category_name": TEXT,
            "create_time": TIME,
            "last_modified": TIME,
            "video_type": CONTAINER,
            "tags": MAYBE,
            "sign_url": TEXT,
        },
        {
            "meta_data": {"anyOf": [_ref("MetaData"), {"type": "null"}]},
            "video_url": TEXT,
            "cover_info_array": _list({}),
            "subtitle_info": _list({}),
            "sourch_path": _ADDRESS,
            "source_path": _ADDRESS,
            "output_path": _ADDRESS,
        },
    ),
    "AssetInfo": _object(
        {"asset_id": TEXT, "status": TEXT, "description": TEXT},
        {
            "is_multi_transcode": {"type": "boolean"},
            "base_info": _ref("BaseInfo"),
            "play_info_array": _list({}),
        },
    ),
    "AssetSummary": _object(
        {
            "asset_id": TEXT,
            "title": TEXT,
            "description": TEXT,
            "duration": NUMBER,
            "duration_ms": NUMBER,
            "size": NUMBER,
            "original_url": MAYBE,
            "category": TEXT,
            "covers": _list({}),
            "create_time": TIME,
            "asset_status": {
                "type": "string",
                "enum": ["CREATING", "FAILED", "CREATED", "PUBLISHED", "DELETED"],
            },
            "transcode_status": TEXT,
            "thumbnail_status": TEXT,
            "review_status": TEXT,
            "exec_desc": TEXT,
            "media_type": CONTAINER,
        }
    ),
}

OPERATIONS: dict[str, dict[str, Any]] = {
    "extract_audio": {
        "summary": "Extract the audio of a video into a new audio asset",
        "body": _object({"asset_id": ID}, {"parameter": _object({}, {"format": {"enum": [*AUDIO_FORMATS]}})}),
        "status": 202,
        "answer": _object({"asset_id": TEXT, "audio_asset_id": TEXT}),
    },
    "cancel_extract_audio": {
        "summary": "Cancel queued extractions, by the id of the source or of the audio asset",
        "query": [_ONE_ID],
        "status": 204,
    },
    "info": {
        "summary": "State and facts of up to ten assets, or a page of assets",
        "query": [
            _query("asset_id", _list(ID, maxItems=10)),
            _query("status", _list({"enum": ["UNCREATED", *SPLIT_STATUS]})),
            _query("transcodeStatus", _list({"enum": ["TRANSCODING", "TRANSCODE_SUCCEED", "UN_TRANSCODE"]})),
            _query("assetStatus", _list({"enum": ["PUBLISHED", "CREATED"]})),
            *_FILTERS,
        ],
        "answer": _object(
            {"asset_info_array": _list(_ref("AssetInfo")), "is_truncated": SWITCH, "total": NUMBER}
        ),
    },
    "details": {
        "summary": "Facts of one asset, with a signed URL",
        "query": [
            _ONE_ID,
            _query(
                "categories",
                _list({"enum": ["base_info", "transcode_info", "thumbnail_info", "review_info"]}),
                commas=True,
            ),
        ],
        "answer": _object({"asset_id": TEXT}, {"base_info": _ref("BaseInfo")}),
    },
    "list": {
        "summary": "A page of assets, newest first",
        "query": [
            _query("asset_id", _list(ID, maxItems=10), commas=True),
            _query("status", _list({"enum": ["CREATING", "FAILED", "CREATED", "PUBLISHED"]}), commas=True),
            _query("media_type", _list(CONTAINER, maxItems=20), commas=True),
            _query("order", {"enum": ["asc", "desc"]}),
            *_FILTERS,
        ],
        "answer": _object({"total": NUMBER, "assets": _list(_ref("AssetSummary"))}),
    },
    "create": {
        "summary": "A new asset and the URL to upload it to",
        "body": _object({"title": TITLE, "video_name": TITLE, "video_type": CONTAINER}, _DESCRIBED),
        "answer": _object({"asset_id": TEXT, "video_upload_url": TEXT, "target": _ADDRESS}),
    },
    "confirm": {
        "summary": "Say how an upload ended",
        "body": _object({"asset_id": ID, "status": {"enum": ["CREATED", "FAILED", "CANCELLED"]}}),
        "answer": _object({"asset_id": TEXT}),
    },
    "authority": {
        "summary": "The URL of one request of a multipart upload",
        "query": [
            _query("http_verb", {"enum": ["GET", "PUT", "POST", "DELETE"]}, required=True),
            _query("bucket", BUCKET, required=True),
            _query("object_key", KEY, required=True),
            _query("content_type", TEXT),
            _query("content_md5", TEXT),
            _query("upload_id", TEXT),
            _query("part_number", {"type": "integer", "minimum": 1, "maximum": 10_000}),
        ],
        "answer": _object({"sign_str": TEXT}),
    },
    "upload_by_url": {
        "summary": "New assets from URLs; the downloads run later",
        "body": _object(
            {
                "upload_metadatas": _list(
                    _object({"url": TEXT, "title": TITLE, "video_type": CONTAINER}, _DESCRIBED),
                    minItems=1,
                    maxItems=MAX_PULLS,
                )
            }
        ),
        "answer": _object(
            {
                "upload_assets": _list(
                    _object({"url": MAYBE, "asset_id": MAYBE, "error_code": MAYBE, "error_msg": MAYBE})
                )
            }
        ),
    },
    "reproduction": {
        "summary": "A new asset from an object in the stand-in's bucket",
        "body": _object(
            {"title": TITLE, "video_type": CONTAINER, "input": _object({"bucket": BUCKET, "object": KEY})},
            _DESCRIBED,
        ),
        "answer": _object({"asset_id": TEXT}),
    },
    "publish": {"summary": "Publish assets", "body": _IDS, "answer": _CHANGED},
    "unpublish": {"summary": "Take assets back from publication", "body": _IDS, "answer": _CHANGED},
    "delete": {
        "summary": "Delete assets, for good",
        "query": [
            _query("asset_id", _list(ID, minItems=1), required=True),
            _query("delete_type", {"enum": ["origin"]}),
        ],
        "answer": _object({"delete_result_array": _list(_object({"asset_id": TEXT, "status": TEXT}))}),
    },
}


_YES_NO: Schema = {"enum": ["yes", "no"]}
_WORD = _object({"start_time": NUMBER, "end_time": NUMBER, "word": TEXT})
_SENTENCE = _object(
    {
        "start_time": NUMBER,
        "end_time": NUMBER,
        "result": _object({"text": TEXT}, {"word_info": _list(_WORD)}),
    }
)
OPERATIONS |= {
    "push_transcriber_jobs": {
        "summary": "SIS: recognise the speech of an audio",
        "body": _object(
            {
                "config": _object(
                    {"audio_format": {"enum": ["auto"]}, "property": {"enum": [*MODELS]}},
                    {"add_punc": _YES_NO, "digit_norm": _YES_NO, "need_word_info": _YES_NO},
                ),
                "data_url": TEXT,
            }
        ),
        "answer": _object({"job_id": TEXT}),
    },
    "collect_transcriber_job": {
        "summary": "SIS: how far a job is, and what was recognised",
        "path": [
            {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        ],
        "answer": _object(
            {"status": {"enum": ["WAITING", "FINISHED", "ERROR"]}, "create_time": TEXT},
            {
                "start_time": TEXT,
                "finish_time": TEXT,
                "audio_duration": NUMBER,
                "segments": _list(_SENTENCE),
                "error_msg": TEXT,
            },
        ),
    },
}


def describe(calls: Iterable[Call], project_id: str) -> dict[str, Any]:
    """The description of these calls, for the one project."""
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, project_id)
    return {
        "openapi": "3.1.0",
        "info": {"title": "VOD stand-in", "version": "1.0"},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "SDK-HMAC-SHA256, with X-Sdk-Date",
                },
            },
        },
        "security": [{"token": []}, {"signature": []}],
    }


def _operation(call: Call, project_id: str) -> dict[str, Any]:
    described = OPERATIONS[call.name]
    answer: dict[str, Any] = {"description": "done"}
    if "answer" in described:
        answer["content"] = {"application/json": {"schema": described["answer"]}}
    refusal = {"description": "refused", "content": {"application/json": {"schema": _ref("Error")}}}
    operation: dict[str, Any] = {
        "operationId": call.name,
        "summary": described["summary"],
        "parameters": [
            {"name": "project_id", "in": "path", "required": True, "schema": {"enum": [project_id]}},
            *described.get("path", []),
            *described.get("query", []),
        ],
        "responses": {str(described.get("status", 200)): answer, "4XX": refusal},
    }
    if "body" in described:
        content = {"application/json": {"schema": described["body"]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
