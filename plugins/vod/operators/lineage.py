"""Lineage for OpenLineage: which video became which audio, and which audio which transcript."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from vod.locations import asset_uri, is_asset_id

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def lineage(records: Iterable[dict[str, Any]], conn_id: str) -> OperatorLineage[Any, Any]:
    """Datasets read and written, from what an operator returned.

    :param conn_id: Connection whose assets the bare ids are.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset, storage_dataset

    inputs, outputs = [], []
    for record in records:
        extracted = record["outcome"] == "extracted"
        source = record["asset"] if extracted else record["audio"]
        inputs.append(InputDataset(*dataset_name(source, conn_id)))
        written = {record["audio_format"]: record["uri"]} if extracted else record["uris"]
        for file_format, uri in written.items():
            namespace, name = dataset_name(uri, conn_id)
            layer = storage_dataset.StorageDatasetFacet(
                storageLayer=namespace.partition("://")[0], fileFormat=file_format.lower()
            )
            statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                size=record.get("size") or None, fileCount=1
            )
            output = OutputDataset(namespace, name, facets={"storage": layer})
            if extracted:
                output.outputFacets = {"outputStatistics": statistics}
            outputs.append(output)
    return OperatorLineage(inputs=inputs, outputs=outputs)


def dataset_name(location: str, conn_id: str) -> tuple[str, str]:
    """Namespace and name of a file or asset, by OpenLineage's rules: ``("s3://bucket", "talk.mp3")``."""
    if is_asset_id(location):
        location = asset_uri(conn_id, location)
    if "://" not in location:
        return "file", location
    parts = urlsplit(location)
    if parts.scheme == "file":
        return "file", unquote(parts.path)
    # Neither keys nor signatures: what is before the host, and the query, stays out.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.lstrip("/")
