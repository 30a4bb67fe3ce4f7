"""``obs://`` for Airflow's ``ObjectStoragePath``: Huawei Cloud OBS, with the keys of a connection ``vod``.

OBS speaks S3, so s3fs does the work. Airflow imports this module together with those of all other schemes:
it imports nothing that takes long, or that is not installed everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

schemes = ["obs"]


def get_fs(conn_id: str | None, storage_options: dict[str, Any] | None = None) -> AbstractFileSystem:
    """Give the file system of a connection; Airflow calls this for ``obs://<conn_id>@<bucket>/<key>``.

    :param conn_id: Connection of type ``vod``.
    :param storage_options: Further options of ``s3fs.S3FileSystem``.
    :raises InvalidConnectionError: the connection is not complete, or has no access key.
    :raises ImportError: s3fs is not installed.
    """
    from vod.cloud.signing import Credentials
    from vod.connection import DEFAULT_CONNECTION, InvalidConnectionError
    from vod.hooks import VodHook
    from vod.storage.obs_filesystem import ObsFileSystem

    settings = VodHook(conn_id or DEFAULT_CONNECTION).settings
    keys = settings.service.credentials
    if not isinstance(keys, Credentials):
        raise InvalidConnectionError(
            f"The connection {settings.conn_id!r} logs in with a token, and OBS takes access keys only.",
            remedy="Name a connection with access key and secret key in the obs:// URL.",
        )
    endpoint = settings.obs_endpoint or f"https://obs.{settings.service.region}.myhuaweicloud.com"
    return ObsFileSystem(
        endpoint_url=endpoint if "://" in endpoint else f"https://{endpoint}",
        key=keys.ak,
        secret=keys.sk,
        token=keys.security_token,
        client_kwargs={"region_name": settings.service.region},
        **(storage_options or {}),
    )
