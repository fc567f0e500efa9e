"""Alembic's environment. The connection comes from trustvlm.catalog.store.schema: there is no
alembic.ini and no URL here."""

from typing import Any

from alembic import context

from trustvlm.catalog.store.models import Base
from trustvlm.system.fault_points import reached


def _on_step(**_: Any) -> None:
    reached("schema.step")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter tables in place
    transactional_ddl=False,  # the caller's transaction holds all of it
    on_version_apply=_on_step,
)
context.run_migrations()
