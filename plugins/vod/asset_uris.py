"""Airflow assets with ``vod://`` URIs: how Airflow checks, makes and names them in lineage.

There are two kinds::

    vod://audio                     a stream of results, such as the audio that the sample DAGs announce
    vod://<connection>/<asset id>   one asset of VOD

The provider info registers these functions (``asset-uris``), and Airflow calls them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vod.locations import asset_uri, is_asset_id

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.sdk import Asset
    from openlineage.client.event_v2 import Dataset

_NAME = re.compile(r"(?:[\w.~-]|%[0-9A-Fa-f]{2})+", re.ASCII)
"""What remains of a name or a connection id once it is quoted."""


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a ``vod://`` URI; ``vod://audio/`` and ``vod://audio`` become the same asset.

    Airflow has taken off the fragment and the slashes at the end by then, and a user name with a password.

    :raises ValueError: it is not one of the two kinds. The message does not repeat what a query or a user
        name may hold.
    """
    asset = uri.path.strip("/")
    if uri.query or "@" in uri.netloc:
        raise ValueError("A vod:// URI has no user name and no query. Remove what is before @ and after ?.")
    if not _NAME.fullmatch(uri.netloc):
        raise ValueError(
            f"{uri.geturl()!r} does not begin with a name. Write vod://<name>, for example vod://audio, or "
            "vod://<connection>/<asset id>; quote special characters as %XX."
        )
    if uri.path not in ("", "/") and (uri.path != f"/{asset}" or not is_asset_id(asset)):
        raise ValueError(
            f"{uri.geturl()!r} names no asset of VOD: {asset!r} is not an asset id. Write "
            "vod://<connection>/<asset id>."
        )
    return uri._replace(path=f"/{asset}" if asset else "")


def create_asset(*, vod_conn_id: str, asset_id: str, extra: dict[str, Any] | None = None) -> Asset:
    """The Airflow asset of an asset of VOD.

    :param vod_conn_id: Connection of type ``vod`` that reaches it.
    :raises ValueError: that is not an asset id.
    """
    from airflow.sdk import Asset

    return Asset(uri=asset_uri(vod_conn_id, asset_id), extra=extra)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """The dataset of OpenLineage that is the same as in the operators' own lineage."""
    from openlineage.client.event_v2 import Dataset

    # Airflow imports this module to make any asset, also while the operators' modules are being imported.
    from vod.operators.lineage import dataset_name

    namespace, name = dataset_name(asset.uri, conn_id="")
    return Dataset(namespace=namespace, name=name or "/")
