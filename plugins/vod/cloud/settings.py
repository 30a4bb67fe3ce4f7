"""How the service is called: what every client and session needs to know."""

from __future__ import annotations

from dataclasses import dataclass

from vod.cloud.identity import Login
from vod.cloud.signing import Credentials


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """One project of the service, and the way to it.

    :param endpoint: URL of the service with scheme, and port if not the default, for example
        ``https://vod.cn-north-4.myhuaweicloud.com`` (section 2).
    :param project_id: Project of that region; looked up in IAM when ``None``.
    :param credentials: Access key that signs every call, or the login of a user for calls with a token.
    :param region: Region of project and token.
    :param iam_endpoint: URL of IAM; the region's when ``None``.
    :param timeout: Seconds to wait for an answer once connected; connecting may take 10.
    :param quota_share: Part of the tenant's quotas (section 12) that this process may use, above 0.
    :param quotas: Calls a minute, by key of :data:`vod.cloud.budget.QUOTAS`, where Huawei has granted others
        than those of the contract.
    """

    endpoint: str
    project_id: str | None
    credentials: Credentials | Login
    region: str = "cn-north-4"
    iam_endpoint: str | None = None
    timeout: float = 60.0
    quota_share: float = 1.0
    quotas: tuple[tuple[str, int], ...] = ()
