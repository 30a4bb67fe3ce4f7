"""Multipart uploads, as object storage takes them: initiate, upload parts, list them, complete or abort.

Everything is on disk: the folder of an upload is named by its id and holds a file for each part, named by
number and MD5. So an upload survives whatever ends the stand-in.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import uuid
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from defusedxml import ElementTree
from starlette.responses import Response

from vod.standin.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

SMALLEST_PART = 100 * 1024
"""Bytes of every part but the last."""
_MAX_LENGTH_LIST = 4 * 1024 * 1024
_NAMESPACE = "http://obs.myhuaweicloud.com/doc/2015-06-30/"


def initiate(target: Path, bucket: str, key: str) -> Response:
    upload_id = uuid.uuid4().hex.upper()
    (target.parent / upload_id).mkdir(parents=True)
    return _xml(
        "InitiateMultipartUploadResult",
        f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>",
    )


def folder(target: Path, upload_id: str) -> Path:
    """Where the parts are.

    :raises StorageError: there is no such upload.
    """
    found = target.parent / upload_id
    if not re.fullmatch("[0-9A-F]{32}", upload_id) or not found.is_dir():
        raise StorageError(404, "NoSuchUpload", "The specified multipart upload does not exist.")
    return found


def keep(received: Path, parts: Path, number: int, digest: str) -> Response:
    """Makes a received file a part; an earlier one with this number is replaced."""
    earlier = list(parts.glob(f"{number:05d}.*"))
    received.replace(parts / f"{number:05d}.{digest}")
    for file in earlier:
        if file.name != f"{number:05d}.{digest}":
            file.unlink()
    return Response(headers={"ETag": f'"{digest}"'})


def listing(parts: Path, bucket: str, key: str) -> Response:
    items = "".join(
        f"<Part><PartNumber>{int(file.stem)}</PartNumber><ETag>&quot;{file.suffix[1:]}&quot;</ETag>"
        f"<Size>{file.stat().st_size}</Size></Part>"
        for file in _files(parts)
    )
    return _xml(
        "ListPartsResult",
        f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{parts.name}</UploadId>"
        f"<MaxParts>10000</MaxParts><IsTruncated>false</IsTruncated>{items}",
    )


def abort(parts: Path) -> Response:
    shutil.rmtree(parts)
    return Response(status_code=204)


async def complete(request: Request, parts: Path, target: Path, bucket: str, key: str) -> Response:
    """Puts the listed parts together.

    :raises StorageError: the list is malformed, out of order, or names parts that did not come.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_LENGTH_LIST:
            raise StorageError(400, "MalformedXML", "The list of parts is too long.")
    wanted = _wanted(bytes(body))
    files = {(int(file.stem), file.suffix[1:]): file for file in _files(parts)}
    numbers = [number for number, _ in wanted]
    if numbers != sorted(set(numbers)):
        raise StorageError(400, "InvalidPartOrder", "The parts are not listed in ascending order.")
    if not set(wanted) <= set(files):
        raise StorageError(400, "InvalidPart", "A listed part was not uploaded, or has another ETag.")
    chosen = [files[part] for part in wanted]
    if any(file.stat().st_size < SMALLEST_PART for file in chosen[:-1]):
        raise StorageError(400, "EntityTooSmall", "A part other than the last is smaller than 100 KB.")
    await asyncio.to_thread(_join, chosen, target)
    shutil.rmtree(parts)
    digests = b"".join(bytes.fromhex(digest) for _, digest in wanted)
    etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(wanted)}"
    return _xml(
        "CompleteMultipartUploadResult",
        f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>&quot;{etag}&quot;</ETag>",
    )


def _wanted(body: bytes) -> list[tuple[int, str]]:
    """Number and MD5 of the parts that a CompleteMultipartUpload lists."""
    malformed = StorageError(400, "MalformedXML", "The XML provided was not well-formed or not valid.")
    try:
        root = ElementTree.fromstring(body, forbid_dtd=True)
        wanted = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip().strip('"'))
            for part in root.iterfind("{*}Part")
        ]
    except (ParseError, ValueError, LookupError):
        raise malformed from None
    if not wanted or root.tag.rpartition("}")[2] != "CompleteMultipartUpload":
        raise malformed
    return wanted


def _files(parts: Path) -> list[Path]:
    return sorted(file for file in parts.iterdir() if re.fullmatch(r"\d{5}\.[0-9a-f]{32}", file.name))


def _join(files: list[Path], target: Path) -> None:
    whole = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with whole.open("xb") as joined:
            for file in files:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, joined, 1024 * 1024)
        whole.replace(target)
    finally:
        whole.unlink(missing_ok=True)


def _xml(name: str, content: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{_NAMESPACE}">{content}</{name}>'
    return Response(body, media_type="application/xml")
