"""Whether a PostgreSQL server is fit to hold a catalog, and what would make it better."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from sqlalchemy import create_engine

from trustvlm.catalog.store import postgres
from trustvlm.catalog.store.location import ServerLocation

_FACTS = """
SELECT current_setting('server_version') AS version,
  current_setting('server_version_num')::int AS number,
  pg_is_in_recovery() AS standby,
  current_setting('server_encoding') AS encoding,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('data_checksums') AS checksums,
  current_setting('max_connections')::int AS connections,
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
  coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS tls,
  inet_server_addr() IS NULL AS here,
  to_regnamespace(%s) IS NOT NULL
    OR has_database_privilege(current_database(), 'CREATE') AS may_create
"""
_ASKED = 20


@dataclass(frozen=True)
class Fact:
    """One thing about a server.

    Attributes:
        what, value: its name, and how it is. state: "ok"; "better" where it could be better; "bad"
            where a catalog is refused. advice: what to do.
    """

    what: str
    value: str
    state: Literal["ok", "better", "bad"]
    advice: str = ""


def check_server(location: ServerLocation) -> list[Fact]:
    """What the server of a catalog is like. It need not be fit, and no catalog need be there.

    Raises:
        Unavailable: it cannot be reached.
    """
    dialect = create_engine(location.url).dialect
    arguments, options = dialect.create_connect_args(location.url)
    with (
        postgres.translated(location),
        psycopg.connect(*arguments, **options, autocommit=True, connect_timeout=10) as connection,
    ):
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        facts = cursor.execute(_FACTS, [location.schema]).fetchone()
        assert facts is not None
        return [*_of_server(facts), *_of_use(facts, location), _round_trip(connection)]


def _of_server(facts: dict[str, Any]) -> Iterator[Fact]:
    old = facts["number"] < postgres.OLDEST_SERVER
    yield _fact("version", facts["version"], old, "upgrade the server to 13 or newer")
    role = "standby" if facts["standby"] else "primary"
    yield _fact("role", role, facts["standby"], "give the URL of the primary server")
    other = facts["encoding"] != "UTF8"
    yield _fact("encoding", facts["encoding"], other, "make the database with --encoding=UTF8")
    for name in ("fsync", "full_page_writes"):
        advice = "turn it on: a power cut loses what was acknowledged"
        yield _fact(name, facts[name], facts[name] == "off", advice)
    unseen = facts["checksums"] == "off"
    advice = "'pg_checksums --enable' lets the server notice damage of its files"
    yield _fact("data_checksums", facts["checksums"], unseen, advice, "better")


def _of_use(facts: dict[str, Any], location: ServerLocation) -> Iterator[Fact]:
    most = location.pool + 2
    value = f"{facts['connections']}, {facts['used']} in use"
    few = facts["connections"] < most
    yield _fact("max_connections", value, few, f"raise it: a process opens up to {most}", "better")
    may = facts["may_create"]
    advice = f"GRANT CREATE ON DATABASE to this role, or make the schema {location.schema} for it"
    yield _fact("schema", location.schema if may else "may not be made", not may, advice)
    open_ = not facts["tls"] and not facts["here"]
    advice = "add ?sslmode=verify-full to the URL: passwords and images go over the network"
    value = "on" if facts["tls"] else "off, at a local socket" if facts["here"] else "off"
    yield _fact("TLS", value, open_, advice, "better")


def _round_trip(connection: psycopg.Connection[Any]) -> Fact:
    times = []
    for _ in range(_ASKED):
        began = time.perf_counter()
        connection.execute("SELECT 1")
        times.append(1e3 * (time.perf_counter() - began))
    median = sorted(times)[_ASKED // 2]
    advice = "each query asks once, each registration some 15 times: put the server nearer"
    return _fact("round trip", f"{median:.2f} ms", median > 5, advice, "better")


def _fact(
    what: str, value: str, wrong: bool, advice: str, state: Literal["better", "bad"] = "bad"
) -> Fact:
    return Fact(what, value, state, advice) if wrong else Fact(what, value, "ok")
