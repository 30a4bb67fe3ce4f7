"""URLs that carry a secret do not belong in a form: Airflow keeps what a form says, in clear."""

from __future__ import annotations

from vod.errors import InvalidInputError
from vod.locations import Kind, parse_location, secrets_of


class SignedUrlError(InvalidInputError):
    """A URL with a signature, token or password would be kept where many can read it."""

    outcome = "signed_url"
    remedy = (
        "Give object storage with a connection, such as s3://aws_default@bucket/video.mp4, or a URL without "
        "a signature."
    )


def refuse_signed_url(asset: str) -> None:
    """Refuse a URL of a form or list that carries a secret.

    :raises SignedUrlError: it has a password, or a query that looks like a signature or token.
    :raises vod.locations.InvalidLocationError: it is no location.
    """
    location = parse_location(asset)
    if location.kind in (Kind.WEB, Kind.STORAGE) and secrets_of(asset):
        raise SignedUrlError(
            "A URL with a signature, token or password would be stored with the run, readable by everybody "
            "who may see it.",
            asset=location.shown,
        )
