"""What PostgreSQL finds wrong with a catalog, and the indexes that it builds again."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, exists, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from trustvlm.catalog.store.backends.database import MOST_PROBLEMS
from trustvlm.catalog.store.models import Base

_INDEXES = text("""
SELECT c.oid, c.relname, i.indisvalid FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = CAST(current_schema() AS regnamespace)
ORDER BY c.relname
""")
_AMCHECK = text("""
SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'
""")
_INDEX_DAMAGED, _NO_RIGHT = "XX002", "42501"


def problems(connection: Connection) -> list[str]:
    """What the server finds wrong with indexes: those that it calls invalid and, where the
    extension amcheck is installed and may be used, those that disagree with their table."""
    schema = connection.scalar(_AMCHECK)
    messages = []
    for oid, name, valid in connection.execute(_INDEXES).all():
        if not valid:
            messages.append(f"index {name} is invalid")
        elif schema is not None and (problem := _checked(connection, schema, oid)):
            messages.append(f"index {name}: {problem}")
    return messages[:MOST_PROBLEMS]


def _checked(connection: Connection, schema: str, oid: int) -> str | None:
    """What amcheck says of an index, if it is damaged."""
    check = text(f"SELECT {schema}.bt_index_check(CAST(:oid AS oid), true)")
    try:
        with connection.begin_nested():
            connection.execute(check, {"oid": oid})
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state == _INDEX_DAMAGED:
            return " ".join(str(error.orig).split())
        if state != _NO_RIGHT:
            raise
    return None


def broken_references(connection: Connection) -> Iterator[tuple[str, int, str]]:
    """(table, row id, table that it points into) of each foreign key that points to nothing."""
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            lost = ~exists().where(key.column == key.parent)
            number = next(iter(table.primary_key.columns))
            rows = select(number).where(key.parent.is_not(None), lost)
            for row_id in connection.scalars(rows):
                yield table.name, row_id, key.column.table.name


def indexes(connection: Connection) -> list[str]:
    """The names of the indexes that can be rebuilt."""
    return [name for _, name, _ in connection.execute(_INDEXES)]


def rebuild_index(connection: Connection, name: str) -> None:
    """Rebuild an index from its table, or drop it where damaged rows break its uniqueness."""
    quoted = connection.dialect.identifier_preparer.quote(name)
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"REINDEX INDEX {quoted}")
    except IntegrityError:
        connection.exec_driver_sql(f"DROP INDEX {quoted}")
