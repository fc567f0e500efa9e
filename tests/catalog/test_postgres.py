"""A catalog in PostgreSQL: which servers are taken, what is made there, and what refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import postgres
import pytest
from cli_runner import Cli
from numbered import create, label, queries, require_equal
from raw_sql import dumped
from raw_sql import server_sql as sql

import trustvlm
from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.database import database_of
from trustvlm.catalog.store.location import ServerLocation, parse
from trustvlm.errors import Overloaded
from trustvlm.http.work.job_queue import Jobs
from trustvlm.service.reembed.reembed import exclusive
from trustvlm.service.server.server_home import ServerHome

pytestmark = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture
def url(server: postgres.Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new database."""
    name = re.sub(r"\W", "_", request.node.name)
    yield server.create(name)
    server.drop(name)


def test_two_homes_share_a_catalog(url: str, tmp_path: Path) -> None:
    """What one home registers, the other scores with, as a home of its own would."""
    with trustvlm.open(tmp_path / "single", create=True) as service:
        create(service)
        service.register("space", [label(number) for number in range(20)])
        expected = service.score("space", queries())
    first = trustvlm.open(tmp_path / "first", create=True, database_url=url)
    second = trustvlm.open(tmp_path / "second", database_url=url)
    with first, second:
        create(first)
        for number in range(20):
            first.register("space", [label(number)])
            assert second.get_space("space").label_count == number + 1
        require_equal(second.score("space", queries()), expected)
        second.remove_label("space", label(3).name)
        assert first.get_space("space").label_count == 19


def test_nothing_is_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(trustvlm.NotFound, match=r"'trustvlm .*--database-url .* db create'"):
        trustvlm.open(tmp_path, database_url=url)


def refused(url: str, home: Path) -> str:
    """What opening a catalog there says, without what the server says."""
    with pytest.raises(trustvlm.Unavailable) as error:
        trustvlm.open(home, create=True, database_url=url)
    public = error.value.public
    assert public is not None
    said, _, details = str(error.value).partition(" (PostgreSQL: ")
    assert details
    assert said.endswith(public.removeprefix("the database"))
    return public


def test_each_reason_why_there_is_no_connection_has_its_remedy(url: str, tmp_path: Path) -> None:
    sql(url, "CREATE ROLE guest NOLOGIN")
    name = sql(url, "SELECT current_database()")[0][0]
    sql(url, f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
    others = {
        url.replace("host=", "host=/nowhere"): "cannot be reached; check that it runs, its address",
        url.replace("@/", "@nowhere.invalid/").split("?")[0]: "no machine has the name of its host",
        url.replace("/test", "/other"): "there is no such database; 'createdb --encoding=UTF8",
        url.replace(postgres.USER, "nobody"): "there is no such role; 'createuser NAME' makes one",
        url.replace(
            postgres.USER, "guest"
        ): "keeps the role out of this database; grant it CONNECT",
    }
    try:
        for wrong, expected in others.items():
            assert expected in refused(wrong, tmp_path)
        sql(url, "ALTER ROLE guest LOGIN CONNECTION LIMIT 0")
        sql(url, f'GRANT CONNECT ON DATABASE "{name}" TO guest')
        assert "no connection left" in refused(url.replace(postgres.USER, "guest"), tmp_path)
    finally:
        sql(url, f'REVOKE ALL ON DATABASE "{name}" FROM guest; DROP ROLE guest')


def test_a_password_is_missing_or_wrong(tmp_path: Path) -> None:
    with postgres.server() as own:
        url = own.create("tv")
        sql(url, f"ALTER ROLE {postgres.USER} PASSWORD 'right'")
        own.stop()
        access = own.folder / "data" / "pg_hba.conf"
        access.write_text("local postgres all trust\nlocal all all scram-sha-256\n")
        own.start()
        assert "asks for a password; write it into ~/.pgpass, or set" in refused(url, tmp_path)
        wrong = url.replace("@/", ":wrong@/")
        assert "takes no such user with this password" in refused(wrong, tmp_path)
        trustvlm.open(tmp_path, create=True, database_url=wrong.replace("wrong", "right")).close()


def test_tables_of_something_else(url: str, tmp_path: Path) -> None:
    sql(url, "CREATE SCHEMA trustvlm; CREATE TABLE trustvlm.holidays (day text)")
    with pytest.raises(trustvlm.SchemaMismatch, match="holidays"):
        trustvlm.open(tmp_path, create=True, database_url=url)


@pytest.mark.parametrize(
    "setting", ["fsync", pytest.param("full_page_writes", marks=pytest.mark.slow)]
)
def test_a_server_that_forgets(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres.server(f"{setting}=off") as unsafe:
        url = unsafe.create("tv")
        with pytest.raises(trustvlm.Unavailable, match=f"{setting}=off"):
            trustvlm.open(tmp_path, create=True, database_url=url)
        monkeypatch.setenv("TRUSTVLM_DATABASE_UNSAFE", "true")
        trustvlm.open(tmp_path, create=True, database_url=url).close()


@pytest.mark.slow  # by default: test_two_homes_share_a_catalog
def test_a_standby_and_its_promotion(tmp_path: Path) -> None:
    """A standby is refused. A promoted one is another history: what was derived before is void,
    for it may go through the same revisions with other rows."""
    with postgres.server() as own:
        url = own.create("tv")
        service = trustvlm.open(tmp_path / "home", create=True, database_url=url)
        with service:
            create(service)
            service.register("space", [label(number) for number in range(20)])
            verdicts = service.score("space", queries())
            catalog = Catalog(parse(url))
            with catalog.read() as connection:
                before = catalog.epoch(connection)
            own.stop()
            signal = own.folder / "data" / "standby.signal"
            signal.touch()
            shutil.chown(signal, signal.parent.stat().st_uid)
            own.start()
            with pytest.raises(trustvlm.Unavailable, match="is a standby"):
                trustvlm.open(tmp_path / "home", database_url=url)
            with pytest.raises(trustvlm.Unavailable, match="is a standby"):
                service.register("space", [label(30)])
            assert sql(url, "SELECT pg_promote()") == [(True,)]
            with catalog.read() as connection:
                assert catalog.epoch(connection) != before
            catalog.close()
            service.register("space", [label(30)])
            service.remove_label("space", label(30).name)
            again = service.score("space", queries())
            assert [verdict.label for verdict in again] == [verdict.label for verdict in verdicts]


def test_another_encoding(server: postgres.Server, url: str, tmp_path: Path) -> None:
    sql(url, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(trustvlm.Unavailable, match="LATIN1"):
        trustvlm.open(tmp_path, create=True, database_url=server.url("latin"))


def test_a_role_that_commits_without_waiting_waits_here(url: str) -> None:
    sql(url, "ALTER ROLE CURRENT_USER SET synchronous_commit TO off")
    try:
        catalog = Catalog.create(parse(url))
        with catalog.write() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        catalog.close()
    finally:
        sql(url, "ALTER ROLE CURRENT_USER RESET synchronous_commit")


def test_how_columns_are_stored(url: str) -> None:
    """Vectors are not compressed, texts are ordered by their characters, in every table."""
    Catalog.create(parse(url)).close()
    columns = """
        SELECT t.typname, a.attstorage, a.attcollation FROM pg_attribute a
        JOIN pg_class c ON c.oid = attrelid AND relkind = 'r' JOIN pg_type t ON t.oid = atttypid
        WHERE relnamespace = 'trustvlm'::regnamespace AND attnum > 0"""
    rows = sql(url, columns)
    assert {storage for kind, storage, _ in rows if kind == "bytea"} == {"e"}
    [(by_characters,)] = sql(url, "SELECT oid FROM pg_collation WHERE collname = 'C'")
    assert {order for kind, _, order in rows if kind == "varchar"} == {by_characters}


def test_a_catalog_in_another_schema(url: str, tmp_path: Path) -> None:
    """Two catalogs in one database do not see each other."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "trustvlm.toml").write_text(f'database_url = "{url}"\n')
    (tmp_path / "b").mkdir()
    other = f'database_url = "{url}"\ndatabase_schema = "other"\n'
    (tmp_path / "b" / "trustvlm.toml").write_text(other)
    with trustvlm.open(tmp_path / "a", create=True) as a:
        create(a)
        with trustvlm.open(tmp_path / "b", create=True) as b:
            assert list(b.list_spaces()) == []


def test_many_rows_and_few_are_the_same(url: str, tmp_path: Path) -> None:
    """Rows that come by COPY, and those that come by statements, read alike."""
    with trustvlm.open(tmp_path / "home", create=True, database_url=url) as service:
        for space, size in (("few", 5), ("many", 100)):
            create(service, space)
            for start in range(0, 100, size):
                service.register(space, [label(n) for n in range(start, start + size)])
        few, many = service.score("few", queries()), service.score("many", queries())
        require_equal(many, few, ids=False)


def test_what_does_not_work_there_says_so(url: str, tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True, database_url=url) as service:
        create(service)
        with pytest.raises(trustvlm.InvalidInput, match="keep_originals"):
            service.register("space", [label(1)], keep_originals=True)
        assert service.purge(older_than=timedelta(0)) == 0


def test_the_text_of_a_location_has_no_password() -> None:
    for address in ("postgresql://app:zQ7@db:5433/tv", "postgresql://app@db:5433/tv?password=zQ7"):
        location = parse(address)
        assert isinstance(location, ServerLocation)
        assert str(location) == "postgresql://app@db:5433/tv (schema trustvlm)"
        assert "zQ7" not in repr(location)
        assert "zQ7" not in repr(location.url)


def test_there_and_back(url: str, cli: Cli, tmp_path: Path) -> None:
    """A catalog that is copied to a server and back is equal to the bit, and goes on with the ids
    that it would have given; only its epoch is another."""
    with trustvlm.open(cli.home, create=True) as service:
        create(service)
        service.register("space", [label(number) for number in range(60)])
        service.alias("space", label(1).name, label(2).name)
        service.remove_label("space", label(59).name)
        service.purge(older_than=timedelta(0))
        service.remove_label("space", label(5).name)
        verdicts = service.score("space", queries())
    assert "copied" in cli("db", "copy", cli.home, url)
    assert "a catalog is there" in cli("db", "copy", cli.home, url, code=4)
    cli("db", "copy", url, tmp_path / "back")
    assert dumped(tmp_path / "back") == dumped(cli.home)
    for home, where in ((cli.home, None), (tmp_path / "node", url), (tmp_path / "back", None)):
        with trustvlm.open(home, database_url=where) as service:
            require_equal(service.score("space", queries()), verdicts)
            service.restore_label("space", label(5).name)
            assert service.register("space", [label(70)]).label_ids == (61,)


def test_a_backup_of_a_catalog_on_a_server(url: str, tmp_path: Path) -> None:
    """It restores to a home that answers alike."""
    with trustvlm.open(tmp_path / "node", create=True, database_url=url) as service:
        create(service)
        service.register("space", [label(number) for number in range(20)])
        made = service.backup(tmp_path / "archive.zip")
        verdicts = service.score("space", queries())
    assert [(space.name, space.labels) for space in made.catalog.spaces] == [("space", 20)]
    trustvlm.restore(tmp_path / "archive.zip", tmp_path / "home")
    with trustvlm.open(tmp_path / "home") as service:
        require_equal(service.score("space", queries()), verdicts)


def test_who_serves_a_catalog(url: str, tmp_path: Path) -> None:
    """Of two homes on one catalog each knows whether the other's process is alive: a call that it
    is at is not done twice, and is taken over when it has ended."""
    with (
        trustvlm.open(tmp_path / "a", create=True, database_url=url) as a,
        trustvlm.open(tmp_path / "b", database_url=url) as b,
    ):
        first, second = ServerHome(a), ServerHome(b)
        worker, other = first.worker(), second.worker()
        assert first.begin_call("owner", "key", b"request", worker) is None
        job = Jobs(first, worker, longest_s=60).record("evaluate", "space", "owner", "running")
        first.create_job(job)
        with pytest.raises(Overloaded, match="is being done"):
            second.begin_call("owner", "key", b"request", other)
        gone = {worker.id: -1e3}  # not seen for long
        assert second.end_orphans(other, gone) == []
        assert gone == {}
        worker.close()
        assert second.begin_call("owner", "key", b"request", other) is None
        assert second.end_orphans(other, gone) == []  # it may be a server that was restarted
        assert gone.keys() == {job.worker}
        assert second.end_orphans(other, {job.worker: -1e3}) == [job.id]
        assert second.get_job(job.id).state == "failed"
        other.close()


def test_one_machine_at_a_time_re_embeds(url: str, tmp_path: Path) -> None:
    """Another one is refused; when the first has ended, it may."""
    with (
        trustvlm.open(tmp_path / "a", create=True, database_url=url) as a,
        trustvlm.open(tmp_path / "b", database_url=url) as b,
    ):
        refused = pytest.raises(trustvlm.Busy, match="re-embedding")
        with exclusive(a._home), refused, exclusive(b._home):
            pass
        with exclusive(b._home):
            pass


def test_a_restarted_server_is_told_again_who_serves(tmp_path: Path) -> None:
    with (
        postgres.server() as own,
        trustvlm.open(tmp_path / "a", create=True, database_url=own.create("tv")) as service,
    ):
        worker, other = ServerHome(service).worker(), ServerHome(service).worker()
        own.kill()
        own.start()
        gone = worker.id
        assert other.alive(gone)
        worker.close()
        assert not other.alive(gone)
        other.close()


def test_damage_is_found_and_taken_out_of_service(url: str, tmp_path: Path) -> None:
    """A changed byte of a vector, and a lost index."""
    with trustvlm.open(tmp_path / "home", create=True, database_url=url) as service:
        create(service)
        service.register("space", [label(number) for number in range(20)])
        assert service.verify().clean
        changed = "set_byte(embedding, 0, get_byte(embedding, 0) # 1)"
        sql(url, f"UPDATE trustvlm.supports SET embedding = {changed} WHERE id = 7")
        sql(url, "DROP INDEX trustvlm.ix_supports_label_id")
        found = service.verify()
        assert {(one.kind, one.row_id) for one in found.damage} >= {("support", 7)}
        assert any("ix_supports_label_id" in one.problem for one in found.damage)
        repaired = service.verify(repair=True)
        assert repaired.clean
        assert repaired.quarantined == 1
        assert service.verify().clean
        assert len(service.score("space", queries(4))) == 4


def test_an_index_that_disagrees_with_its_table(url: str) -> None:
    """amcheck, where it is installed, and the server's own mark of an index that was not built."""
    catalog = Catalog.create(parse(url))
    sql(url, "CREATE EXTENSION amcheck")
    with catalog.read() as connection:
        assert database_of(connection).problems(connection) == []
    sql(url, "UPDATE pg_index SET indisvalid = false "
             "WHERE indexrelid = 'trustvlm.ix_labels_alias_of'::regclass")  # fmt: skip
    with catalog.read() as connection:
        [problem] = database_of(connection).problems(connection)
    assert problem == "index ix_labels_alias_of is invalid"
    with catalog.write("repair.whole") as connection:
        database_of(connection).rebuild_index(connection, "ix_labels_alias_of")
    with catalog.read() as connection:
        assert database_of(connection).problems(connection) == []
        assert schema.drift(connection) == []
    catalog.close()


def test_the_command_line(url: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = cli("--database-url", url, "space", "list", code=3)
    assert re.search(r"'trustvlm .*--database-url .+ db create' makes one", missing)
    for said in ("made an empty catalog", "the catalog was there, and is current"):
        assert cli("--database-url", url, "db", "create").endswith(f": {said}\n")
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", url)
    assert "the catalog is current" in cli("db", "current")
    assert "is current" in cli("db", "upgrade")
    encoders = ("--classifier", "precomputed:8", "--verifier", "precomputed:8")
    cli("space", "create", "flowers", *encoders)
    assert [row["name"] for row in cli.rows("space", "list")] == ["flowers"]
    assert "no damage" in cli("verify", "--all")


def test_the_doctor(url: str, cli: Cli) -> None:
    """A server that is fit, and one that forgets and has another encoding."""
    sound = cli("--database-url", url, "db", "doctor")
    assert re.search(r"^fsync +on +ok", sound, re.MULTILINE)
    assert "bad" not in sound
    with postgres.server("fsync=off") as forgetful:
        sql(forgetful.create("tv"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        done = cli.run("--database-url", forgetful.url("latin"), "db", "doctor", code=5)
    assert re.search(r"^fsync +off +bad +turn it on", done.stdout, re.MULTILINE)
    assert re.search(r"^encoding +LATIN1 +bad", done.stdout, re.MULTILINE)
    assert "is a file" in cli("db", "doctor")


def test_a_password_on_the_command_line(cli: Cli) -> None:
    refusal = cli("--database-url", "postgresql://app:zQ7@db/tv", "space", "list", code=2)
    assert "expected no password" in refusal
    assert "zQ7" not in refusal


def test_the_server_knows_what_is_in_a_table_that_has_grown(url: str, tmp_path: Path) -> None:
    """Without statistics it looks a label up by reading all labels of its space."""
    with trustvlm.open(tmp_path / "home", create=True, database_url=url) as service:
        create(service)
        service.register("space", [label(number, supports=1) for number in range(2_000)])
    plan = sql(url, "EXPLAIN SELECT id FROM trustvlm.labels WHERE space_id = 1 AND name = 'label' "
                    "AND removed_revision IS NULL")  # fmt: skip
    assert "uq_labels_space_id_name" in str(plan)
    known = sql(url, "SELECT count(*) FROM pg_stats WHERE tablename = 'supports'")
    assert known != [(0,)]
