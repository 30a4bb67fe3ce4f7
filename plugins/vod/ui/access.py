"""Who may see what: the rights of Airflow's own auth manager, for the DAG that a thing comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException


class Rights:
    """What a user may do. A dependency of FastAPI: without a login there is none.

    :param user: Who asks.
    """

    def __init__(self, user: GetUserDep) -> None:
        self._user = user

    def may_read(self, dag_id: str) -> bool:
        """Whether the user may see the results of a DAG: its tasks, and what they have returned (XCom)."""
        if not dag_id:  # auth managers would take it for "any DAG"
            return False
        return self._may("GET", DagAccessEntity.TASK_INSTANCE, dag_id) and self._may(
            "GET", DagAccessEntity.XCOM, dag_id
        )

    def readable(self, dag_ids: Iterable[str]) -> list[str]:
        """Those of the DAGs whose results the user may see."""
        return [dag_id for dag_id in dag_ids if self.may_read(dag_id)]

    def may_clear(self, dag_id: str) -> bool:
        """Whether the user may clear tasks of a DAG."""
        return self._may("PUT", DagAccessEntity.TASK_INSTANCE, dag_id)

    def may_trigger(self, dag_id: str) -> bool:
        """Whether the user may start a run of a DAG."""
        return self._may("POST", DagAccessEntity.RUN, dag_id)

    def _may(self, method: str, entity: DagAccessEntity, dag_id: str) -> bool:
        details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
        return bool(
            get_auth_manager().is_authorized_dag(
                method=method,  # type: ignore[arg-type]
                access_entity=entity,
                details=details,
                user=self._user,
            )
        )


RightsDep = Annotated[Rights, Depends(Rights)]


def require_results(rights: Rights, dag_id: str) -> None:
    """:raises HTTPException: the user may not see the results of the DAG."""
    if not rights.may_read(dag_id):
        raise HTTPException(403, "Forbidden")
