"""Paths and file system behind ``obs://``, apart from :mod:`vod.storage.obs` because they need s3fs."""

from __future__ import annotations

from typing import Any

from fsspec import register_implementation
from upath import UPath

from vod.errors import InvalidInputError

try:
    from s3fs import S3FileSystem
except ImportError as error:
    raise ImportError("obs:// needs the package s3fs: pip install s3fs") from error


class ObsFileSystem(S3FileSystem):  # type: ignore[misc]  # untyped
    """S3 as OBS speaks it; get one from :func:`vod.storage.obs.get_fs`."""

    protocol = ("obs",)

    def __init__(self, *, endpoint_url: str | None = None, **options: Any) -> None:
        if endpoint_url is None:
            # Without this, s3fs would take the URL to Amazon, with whatever keys the machine has.
            raise InvalidInputError(
                "An obs:// URL names a complete connection of type vod.",
                remedy="Write obs://<connection>@<bucket>/<key>.",
            )
        super().__init__(
            endpoint_url=endpoint_url,
            config_kwargs={
                # Newer S3 clients send checksums by default, which OBS refuses.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                "s3": {"addressing_style": "virtual"},
            },
            **options,
        )


class ObsPath(UPath):
    """What Airflow's ``ObjectStoragePath`` wraps: entry point ``universal_pathlib.implementations``."""

    __slots__ = ()


register_implementation("obs", ObsFileSystem)
