"""What a purge leaves in the files of a PostgreSQL server, and what scrubbing does about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import postgres
import psycopg
import pytest
from cli_runner import Cli
from numbered import create, label, queries, require_equal
from raw_sql import server_sql

import trustvlm

pytestmark = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))

LABELS = 90
AT_ONCE = timedelta(0)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A server that writes its files as servers do: with fsync on."""
    with postgres.server("fsync=on") as running:
        yield running


@pytest.fixture
def url(server: postgres.Server) -> Iterator[str]:
    yield server.create("purged")
    server.drop("purged")


def kept(server: postgres.Server, url: str, numbers: range) -> int:
    """How many support images of these labels are in the files of the server's tables."""
    server_sql(url, "CHECKPOINT")
    files = [path.read_bytes() for path in (server.folder / "data" / "base").rglob("[0-9]*")
             if path.is_file()]  # fmt: skip
    images = [np.asarray(label(number, supports=1).image_vectors)[0] for number in numbers]
    return sum(any(image.tobytes() in file for file in files) for image in images)


def test_scrubbed_tables_hold_nothing_that_was_purged(
    server: postgres.Server, url: str, tmp_path: Path
) -> None:
    """Every third label is purged: bytes of its images stay between the rows that live, until the
    tables are written again. What lives is as before."""
    gone = range(0, LABELS, 3)
    with trustvlm.open(tmp_path / "node", create=True, database_url=url) as service:
        create(service)
        service.register("space", [label(number, supports=1) for number in range(LABELS)])
        assert kept(server, url, range(LABELS)) == LABELS
        for number in gone:
            service.remove_label("space", label(number).name)
        assert service.purge(older_than=AT_ONCE) == 2 * len(gone)
        before = service.score("space", queries())
        assert kept(server, url, gone) > 0
        done = service.scrub()
        assert done is not None
        assert done.bytes_after < done.bytes_before
        assert done.log_switched
        assert len(done.remains) == 1
        assert "log" in done.remains[0]
        assert kept(server, url, gone) == 0
        assert kept(server, url, range(LABELS)) == LABELS - len(gone)
        require_equal(service.score("space", queries()), before)
        assert service.register("space", [label(1_000)]).added_labels == 1
        assert service.verify().clean


def test_an_open_transaction_keeps_what_was_purged(url: str, tmp_path: Path) -> None:
    """It still sees the rows, so that the new files hold them: Busy, until it has ended."""
    with trustvlm.open(tmp_path / "node", create=True, database_url=url) as service:
        create(service)
        service.register("space", [label(number, supports=1) for number in range(6)])
        with psycopg.connect(url) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT 1 FROM pg_class LIMIT 1")
            service.remove_label("space", label(3).name)
            service.purge(older_than=AT_ONCE)
            with pytest.raises(trustvlm.Busy, match="still sees"):
                service.scrub()
        assert service.scrub() is not None


def test_the_command_says_what_it_did(url: str, tmp_path: Path) -> None:
    """A role that may not switch the server's log, and a home with a catalog in a file."""
    cli = Cli(tmp_path / "node")
    server_sql(url, "CREATE ROLE plain LOGIN")
    try:
        server_sql(url, "CREATE SCHEMA trustvlm AUTHORIZATION plain")
        own = url.replace("trustvlm@", "plain@")
        cli("--database-url", own, "db", "create")
        done = cli.run("--database-url", own, "purge", "--older-than", "0", "--scrub")
    finally:
        server_sql(url, "DROP SCHEMA trustvlm CASCADE; DROP ROLE plain")
    assert "the tables are written again" in done.stdout
    assert "kept the file of its log" in done.stdout
    assert "the server's log keeps purged bytes" in done.stderr
    cli("db", "create")
    assert "nothing to scrub" in cli("purge", "--scrub")
