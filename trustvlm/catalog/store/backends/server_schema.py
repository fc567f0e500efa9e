"""Putting a catalog on a server into the place of another: two schemas change names, in the
transaction that makes the new one."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

from psycopg.errors import LockNotAvailable
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from trustvlm.catalog.store import postgres
from trustvlm.catalog.store.location import ServerLocation
from trustvlm.errors import Busy

_PREFIX = 38  # characters of a schema's name that leave room for what is added: 63 in all
_WAIT = "2s"  # until connections that were closed just now have ended


def beside(location: ServerLocation) -> ServerLocation:
    """A schema of the same database that no catalog has."""
    return replace(location, schema=f"{location.schema[:_PREFIX]}_new_{uuid.uuid4().hex[:12]}")


def put_in_place(connection: Connection, made: ServerLocation, target: ServerLocation) -> str:
    """Give the schema `made`, which this transaction filled, the name of `target`; the name that
    the schema which had it has from now on.

    Raises:
        Busy: another process has the catalog `target` open.
    """
    aside = f"{target.schema[:_PREFIX]}_aside_{datetime.now(UTC):%Y%m%dt%H%M%S%fz}"
    connection.exec_driver_sql(f"SET LOCAL lock_timeout TO '{_WAIT}'")
    try:
        key = postgres.lock_key(target, postgres.IN_USE)
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise Busy(
            f"{target} is in use by another process; stop what uses it and try again"
        ) from error
    for old, new in ((target.schema, aside), (made.schema, target.schema)):
        _rename(connection, old, new)
    return aside


def _rename(connection: Connection, old: str, new: str) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    statement = SQL("ALTER SCHEMA {} RENAME TO {}").format(Identifier(old), Identifier(new))
    connection.exec_driver_sql(statement.as_string(driver))
