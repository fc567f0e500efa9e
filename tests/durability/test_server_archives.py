"""Archives of catalogs in PostgreSQL: restored from either kind to either kind, in the place of
another catalog or not, and made before an upgrade."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import children
import postgres
import pytest
from assets.make_schemas import unpack
from cli_runner import Cli
from numbered import CATALOG, create, label, queries, require_equal
from raw_sql import dumped, server_sql

import trustvlm
from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.location import FileLocation, parse
from trustvlm.catalog.upkeep.copy_tables import copy_as_it_is
from trustvlm.service.backup.restore import check_backup

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'trust%' ORDER BY 1"


@pytest.fixture
def url(postgres_server: postgres.Server) -> Iterator[str]:
    """The URL of a new database."""
    yield postgres_server.create("archives")
    postgres_server.drop("archives")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The backup of a home with one space, in which labels were removed and purged, too."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service)
        service.register("space", [label(number) for number in range(30)])
        service.alias("space", label(1).name, label(2).name)
        service.remove_label("space", label(29).name)
        service.purge(older_than=timedelta(0))
        service.remove_label("space", label(5).name)
        service.calibrate("space", queries(), [label(n % 3).name for n in range(40)])
        service.backup(tmp_path / "archive.zip")
    return tmp_path / "archive.zip"


# Children


def restore(archive: str, home: str, url: str) -> None:
    trustvlm.restore(archive, home, database_url=url, replace=True)
    children.tell("restored")


# Tests


def test_from_a_home_to_a_server_and_back(archive: Path, url: str, tmp_path: Path) -> None:
    """Vectors are equal to the bit, verdicts equal, ids and revisions kept, also those that come
    next."""
    home, node, back = tmp_path / "home", tmp_path / "node", tmp_path / "back"
    done = trustvlm.restore(archive, node, database_url=url)
    assert done.database is not None
    assert done.database.endswith("/archives (schema trustvlm)")
    assert done.replaced_schema is done.replaced is None
    assert [(one.name, one.labels) for one in done.catalog.spaces] == [("space", 28)]
    with trustvlm.open(node, database_url=url) as service:
        service.backup(tmp_path / "second.zip")
    trustvlm.restore(tmp_path / "second.zip", back)
    assert dumped(back) == dumped(home)
    with trustvlm.open(home) as service:
        verdicts = service.score("space", queries())
        epochs = {service._home.catalog.epoch(c) for c in _reading(service)}
    for place, where in ((node, url), (back, None)):
        with trustvlm.open(place, database_url=where) as service:
            require_equal(service.score("space", queries()), verdicts)
            epochs |= {service._home.catalog.epoch(c) for c in _reading(service)}
            service.restore_label("space", label(5).name)
            assert service.register("space", [label(40)]).label_ids == (31,)
    assert len(epochs) == 3


def _reading(service: trustvlm.TrustService) -> Iterator[object]:
    with service._home.catalog.read() as connection:
        yield connection


def test_in_the_place_of_another_catalog(archive: Path, url: str, tmp_path: Path) -> None:
    """Refused without `replace`, and while a service has it open; the old one stays in a schema of
    its own, and a service that is opened again sees the new one."""
    node = tmp_path / "node"
    with trustvlm.open(node, create=True, database_url=url) as service:
        create(service, "old")
        service.register("old", [label(number) for number in range(3)])
        with pytest.raises(trustvlm.Conflict, match="--replace"):
            trustvlm.restore(archive, node, database_url=url)
        with pytest.raises(trustvlm.Busy, match="in use by another process"):
            trustvlm.restore(archive, node, database_url=url, replace=True)
        assert service.register("old", [label(3)]).added_labels == 1
    assert server_sql(url, SCHEMAS) == [("trustvlm",)]
    done = trustvlm.restore(archive, node, database_url=url, replace=True)
    assert done.replaced_schema is not None
    assert server_sql(url, SCHEMAS) == [("trustvlm",), (done.replaced_schema,)]
    kept = f"SELECT count(*) FROM {done.replaced_schema}.labels"
    assert server_sql(url, kept) == [(4,)]
    with trustvlm.open(node, database_url=url) as service:
        assert [space.name for space in service.list_spaces()] == ["space"]
        assert service.register("space", [label(50)]).added_labels == 1
        assert service.verify().clean
    assert server_sql(url, kept) == [(4,)]


def test_a_schema_that_its_owner_may_not_replace(archive: Path, url: str, tmp_path: Path) -> None:
    """A role that may not make schemas restores into an empty one that was made for it; it cannot
    replace a catalog, and nothing is changed then."""
    own = url.replace("trustvlm@", "plain@")
    server_sql(url, "CREATE ROLE plain LOGIN")
    try:
        server_sql(url, "CREATE SCHEMA trustvlm AUTHORIZATION plain")
        trustvlm.restore(archive, tmp_path / "node", database_url=own)
        with pytest.raises(trustvlm.Unavailable, match="no right"):
            trustvlm.restore(archive, tmp_path / "node", database_url=own, replace=True)
        with trustvlm.open(tmp_path / "node", database_url=own) as service:
            assert len(list(service.list_labels("space"))) == 28
    finally:
        server_sql(url, "DROP SCHEMA trustvlm CASCADE; DROP ROLE plain")


def test_the_command_line_restores_to_either(
    archive: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the place that --to, --database-url or the environment names; and says what it replaced."""
    cli = Cli(tmp_path / "node")
    assert url.partition("@")[0] not in cli("restore", archive, "--to", tmp_path / "other")
    assert "/archives (schema trustvlm)" in cli("restore", archive, "--to", url)
    assert "--replace" in cli("--database-url", url, "restore", archive, code=4)
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", url)
    told = cli("restore", archive, "--replace")
    assert "now in the schema trustvlm_aside_2" in told
    assert [row["name"] for row in cli.rows("space", "list")] == ["space"]
    cli("restore", archive, "--to", tmp_path / "third")
    assert (tmp_path / "third" / CATALOG).is_file()
    with_password = url.replace("trustvlm@", "trustvlm:zQ7@")
    assert "zQ7" not in cli("restore", archive, "--to", with_password, code=2)


@pytest.mark.slow  # by default: test_from_a_home_to_a_server_and_back
def test_settings_that_name_a_place_stay_behind(url: str, tmp_path: Path) -> None:
    """A home that is made of a backup of a catalog on a server is not a home on that server; the
    other settings come along, to a home that has none."""
    node = tmp_path / "node"
    node.mkdir()
    address = url.replace("trustvlm@", "trustvlm:zQ7@")
    (node / "trustvlm.toml").write_text(f'undo_hours = 7.0\ndatabase_url = "{address}"\n')
    with trustvlm.open(node, create=True) as service:
        create(service)
        service.register("space", [label(1)])
        service.backup(tmp_path / "archive.zip")
    assert b"zQ7" not in (tmp_path / "archive.zip").read_bytes()
    trustvlm.restore(tmp_path / "archive.zip", tmp_path / "home")
    assert (tmp_path / "home" / "trustvlm.toml").read_text() == "undo_hours = 7.0\n"
    server_sql(url, "DROP SCHEMA trustvlm CASCADE")
    with trustvlm.open(tmp_path / "home") as service:
        assert len(list(service.list_labels("space"))) == 1
    trustvlm.restore(tmp_path / "archive.zip", tmp_path / "second", database_url=url)
    assert (tmp_path / "second" / "trustvlm.toml").read_text() == "undo_hours = 7.0\n"
    trustvlm.restore(tmp_path / "archive.zip", node, replace=True)
    assert address in (node / "trustvlm.toml").read_text()


@pytest.mark.parametrize(
    "name", ["0001", *(pytest.param(name, marks=pytest.mark.slow) for name in ("0009", "0019"))]
)
def test_an_upgrade_on_a_server_is_backed_up_first(name: str, url: str, tmp_path: Path) -> None:
    """As in a home: the backup holds the catalog as it was, of its own schema, row for row, and
    without it nothing is changed; with --no-backup none is made."""
    old, cli = tmp_path / "old", Cli(tmp_path / "node")
    old.mkdir()
    unpack(name, old / CATALOG)
    copy_as_it_is(FileLocation(old / CATALOG), parse(url))
    assert "db upgrade" in cli("--database-url", url, "space", "list", code=5)
    cli.home.mkdir(exist_ok=True)
    (cli.home / "backups").write_text("in the way")
    assert "--no-backup" in cli("--database-url", url, "db", "upgrade", code=5)
    assert Catalog.schema_of(parse(url)) == name
    (cli.home / "backups").unlink()
    told = cli("--database-url", url, "db", "upgrade")
    assert f"schema {name} → {schema.head()}" in told
    [backup] = (cli.home / "backups").iterdir()
    assert str(backup) in told
    assert check_backup(backup).catalog.schema == name
    trustvlm.restore(backup, tmp_path / "again")
    before, after = dumped(old), dumped(tmp_path / "again")
    assert after.keys() == before.keys()
    for table, rows in before.items():
        assert len(after[table]) == len(rows), table
    for table in ("labels", "supports", "sqlite_sequence"):
        assert after[table] == before[table]
    server_sql(url, "DROP SCHEMA trustvlm CASCADE")
    copy_as_it_is(FileLocation(old / CATALOG), parse(url))
    assert "backup" not in cli("--database-url", url, "db", "upgrade", "--no-backup")
    assert len(list((cli.home / "backups").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("point", ["restore.made", "restore.aside", "restore.exchanged"])
def test_a_restore_is_killed(
    point: str, archive: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its commit the catalog is the old one, after it the new one; no schema is left over
    but that of the old one; the same command then completes."""
    node = tmp_path / "node"
    with trustvlm.open(node, create=True, database_url=url) as service:
        create(service, "old")
    with monkeypatch.context() as fault:
        fault.setenv("TRUSTVLM_FAULT", f"{point}:1:kill")
        child = children.start(restore, archive, node, url)
        assert child.communicate(timeout=120)[0] == ""
    assert child.returncode == -signal.SIGKILL
    with trustvlm.open(node, database_url=url) as service:
        expected = "space" if point == "restore.exchanged" else "old"
        assert [space.name for space in service.list_spaces()] == [expected]
    assert len(server_sql(url, SCHEMAS)) == (2 if point == "restore.exchanged" else 1)
    assert children.run(restore, archive, node, url) == ["restored"]
    with trustvlm.open(node, database_url=url) as service:
        assert [space.name for space in service.list_spaces()] == ["space"]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
