"""Keeps data out of Airflow's templates, and secrets out of what it keeps of rendered fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions._internal.expandinput import ListOfDictsExpandInput
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.log import mask_secret

from vod.locations import secrets_of

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context


class DataIsNotRendered:
    """An operator or sensor that renders what its author wrote, and nothing that another task returned.

    Airflow 3.3 takes each value of ``Operator.partial(...).expand_kwargs(data)`` for an author's literal and
    renders it as a template, also text that came from a file or a form. Here only the arguments of
    ``partial`` are rendered then. A list that the author wrote out is rendered as ever.
    """

    task_id: str

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        # This operator was made from the mapped one, which the DAG still has.
        dag = context.get("dag")
        mapped = dag.task_dict.get(parent.task_id) if dag is not None and parent is self else None
        if isinstance(mapped, MappedOperator):
            data = mapped._get_specified_expand_input()
            if isinstance(data, ListOfDictsExpandInput) and not isinstance(data.value, (list, tuple)):
                template_fields = [field for field in template_fields if field in mapped.partial_kwargs]
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)  # type: ignore[misc]
        # Airflow stores the rendered fields right after this.
        for field in getattr(parent, "template_fields", ()):
            _mask_secrets(getattr(parent, field, None))


def _mask_secrets(value: Any) -> None:
    """Let Airflow hide what is secret in URLs, wherever it shows or stores the value of a field."""
    if isinstance(value, str):
        for text in value.split() if "://" in value else ():
            for secret in secrets_of(text):
                mask_secret(secret)
    elif isinstance(value, Mapping):
        for part in value.values():
            _mask_secrets(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _mask_secrets(part)
