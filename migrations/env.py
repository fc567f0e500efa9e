"""Alembic's environment. The connection comes from trustvlm.catalog.schema: there is no alembic.ini and no URL here."""

from alembic import context

from trustvlm.catalog.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter tables in place
    transactional_ddl=False,  # the caller's transaction holds all of it
)
context.run_migrations()
