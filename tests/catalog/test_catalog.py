"""The catalog: Alembic makes the tables that the models describe, wrong files are refused in one
sentence, ids stay unique, caches follow a log that was cut, and a home that cannot be written can
still be read.

The children are real processes that run functions of this file (`python test_catalog.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from children import run, start, tell_json
from numbered import AT_ONCE, CATALOG, VERIFIER, create, label, queries, require_equal, vectors
from raw_sql import run_sql
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex

import trustvlm
from trustvlm import Queries
from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.models import Base


def change(home: Path, *statements: str) -> None:
    for statement in statements:
        run_sql(home, statement)


def printed_by(
    verb: Callable[..., None], *arguments: object, wrapper: tuple[str, ...] = ()
) -> list[Any]:
    return [json.loads(line) for line in run(verb, *arguments, wrapper=wrapper)]


# The schema


@pytest.fixture
def connected(home: Path) -> Iterator[Any]:
    engine = create_engine(f"sqlite:///{home / CATALOG}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_a_new_home_is_at_the_newest_schema(home: Path, connected: Any) -> None:
    assert schema.current(connected) == schema.head()
    assert run_sql(home, "SELECT version_num FROM alembic_version") == [(schema.head(),)]
    assert run_sql(home, "PRAGMA journal_mode") == [("wal",)]
    assert run_sql(home, "PRAGMA page_size")[0][0] > 4096


def test_the_tables_are_those_of_the_models(connected: Any) -> None:
    """What the migrations make and what the models say do not drift apart, as `alembic check` would
    say."""
    options = {"compare_type": True, "compare_server_default": True, "render_as_batch": True}
    assert (
        compare_metadata(MigrationContext.configure(connected, opts=options), Base.metadata) == []
    )


def test_what_alembic_does_not_compare_agrees_too(home: Path) -> None:
    """Conditions of partial indexes, AUTOINCREMENT, and NOT NULL of every column are those of the
    models."""

    def plain(sql: str) -> str:
        return re.sub(r"\s+", " ", sql.replace('"', "")).strip().lower()

    made = {
        name: plain(sql)
        for name, sql in run_sql(home, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    }
    for table in Base.metadata.tables.values():
        for index in table.indexes:
            assert index.name is not None
            assert made[index.name] == plain(
                str(CreateIndex(index).compile(dialect=sqlite.dialect()))
            )
        if table.dialect_options["sqlite"]["autoincrement"]:
            assert "autoincrement" in made[table.name]
        columns = {
            name: (bool(required), bool(key))
            for _, name, _, required, _, key in run_sql(home, f"PRAGMA table_info({table.name})")
        }
        assert columns == {c.name: (not c.nullable, c.primary_key) for c in table.columns}
    indexes = {index.name for table in Base.metadata.tables.values() for index in table.indexes}
    assert indexes == {
        name
        for (name,) in run_sql(
            home, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
    }


def test_opening_changes_nothing(home: Path) -> None:
    """Opening, reading and closing leaves the catalog's bytes as they were."""
    before = (home / CATALOG).read_bytes()
    for read_only in (True, False):
        with trustvlm.open(home, read_only=read_only) as service:
            service.score("space", queries())
        assert (home / CATALOG).read_bytes() == before


# Files that are not what they should be


def test_an_older_catalog_names_the_command(home: Path) -> None:
    """A schema from before the newest: SchemaMismatch that says how to upgrade, and nothing is
    changed by trying."""
    change(home, "DELETE FROM alembic_version")
    for options in ({}, {"read_only": True}):
        with pytest.raises(trustvlm.SchemaMismatch, match=r"db upgrade|something else"):
            trustvlm.open(home, **options)
    assert run_sql(home, "SELECT count(*) FROM alembic_version") == [(0,)]


def test_a_home_of_the_first_schema_is_upgraded(home: Path) -> None:
    """The tables of 0002 taken away again: refused with the command that helps, which keeps every
    label and verdict."""
    with trustvlm.open(home) as service:
        before = service.score("space", queries())
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).resolve().parents[2] / "migrations")
    )
    engine = create_engine(f"sqlite:///{home / CATALOG}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    engine.dispose()
    assert run_sql(home, "SELECT count(*) FROM sqlite_master WHERE name = 'calibrations'") == [(0,)]
    with pytest.raises(trustvlm.SchemaMismatch, match=r"schema 0001.*db upgrade"):
        trustvlm.open(home)
    Catalog.upgrade(home / CATALOG)
    with trustvlm.open(home) as service:
        require_equal(service.score("space", queries()), before)
        service.alias("space", label(1).name, label(2).name)


def test_an_empty_file_is_upgraded(tmp_path: Path) -> None:
    """A file without tables (a creation that was interrupted) is refused without create, and
    completed with it."""
    for number, begin in enumerate(
        [
            lambda path: path.touch(),
            lambda path: sqlite3.connect(path).execute("PRAGMA journal_mode=WAL").close(),
        ]
    ):
        home = tmp_path / str(number)
        home.mkdir()
        begin(home / CATALOG)
        with pytest.raises(trustvlm.SchemaMismatch, match="db upgrade"):
            trustvlm.open(home)
        with trustvlm.open(home, create=True) as service:
            create(service)
            assert service.register("space", [label(1)]).added_labels == 1


def test_a_newer_catalog_is_refused(home: Path) -> None:
    """A schema this program does not know: SchemaMismatch that says to upgrade the program;
    `upgrade` refuses as well."""
    change(home, "UPDATE alembic_version SET version_num = '9999'")
    for attempt in (
        lambda: trustvlm.open(home),
        lambda: trustvlm.open(home, create=True),
        lambda: trustvlm.open(home, read_only=True),
        lambda: Catalog.upgrade(home / CATALOG),
    ):
        with pytest.raises(trustvlm.SchemaMismatch, match=r"9999.*upgrade trustvlm"):
            attempt()
    assert run_sql(home, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    """An SQLite file of another program in our place: refused, and no table of ours appears in
    it."""
    home = tmp_path
    change(home, "CREATE TABLE holidays (day TEXT)", "INSERT INTO holidays VALUES ('1 May')")
    for attempt in (
        lambda: trustvlm.open(home),
        lambda: trustvlm.open(home, create=True),
        lambda: trustvlm.open(home, read_only=True),
        lambda: Catalog.upgrade(home / CATALOG),
    ):
        with pytest.raises(trustvlm.SchemaMismatch):
            attempt()
    assert run_sql(home, "SELECT name FROM sqlite_master") == [("holidays",)]


@pytest.mark.parametrize(
    "content",
    [b"no database at all" * 1000, b"\x00" * 50_000, b"SQLite format 3\x00" + b"\xff" * 40_000],
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    """Rubbish in the catalog's place: Damaged, in one sentence that names the file, for every way
    to open it."""
    (tmp_path / CATALOG).write_bytes(content)
    for options in ({}, {"read_only": True}, {"create": True}):
        with pytest.raises(trustvlm.Damaged, match=re.escape(str(tmp_path / CATALOG))):
            trustvlm.open(tmp_path, **options)
    assert (tmp_path / CATALOG).read_bytes() == content


def test_a_truncated_catalog(home: Path) -> None:
    """Half of a catalog: whatever can be noticed is Damaged, never another exception, and never a
    wrong answer."""
    with trustvlm.open(home) as service:
        service.register("space", [label(number) for number in range(100, 400)])
        expected = service.score("space", queries())
    size, noticed = (home / CATALOG).stat().st_size, 0
    for share in (0.3, 0.6, 0.9):
        broken = home.parent / f"broken {share}"
        shutil.copytree(home, broken)
        os.truncate(broken / CATALOG, int(size * share))
        try:
            with trustvlm.open(broken) as service:
                require_equal(service.score("space", queries()), expected)
        except trustvlm.Damaged:
            noticed += 1
    assert noticed


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE labels SET text_prototype = prototype WHERE name = 'label 0007'",
        "UPDATE labels SET prototype = zeroblob(96) WHERE name = 'label 0007'",
        "UPDATE labels SET checksum = checksum + 1 WHERE name = 'label 0007'",
        "UPDATE labels SET prototype = NULL WHERE name = 'label 0007'",
    ],
)
def test_damaged_vectors_of_a_label_are_noticed(home: Path, statement: str) -> None:
    """Bytes that do not match their checksum give Damaged and no verdict; also when the damage
    comes under an open service."""
    with trustvlm.open(home) as service:
        change(home, statement, "UPDATE labels SET revision = 2", "UPDATE spaces SET revision = 2")
        for _ in range(2):
            with pytest.raises(trustvlm.Damaged):
                service.score("space", queries())


def test_damaged_support_images_are_noticed(home: Path) -> None:
    """The same for raw embeddings: in a search, in evidence, and in a registration that needs them;
    others still work."""
    change(
        home,
        "UPDATE supports SET embedding = zeroblob(96) WHERE label_id = (SELECT id FROM "
        "labels WHERE name = 'label 0007')",
    )
    asked = Queries(np.array([label(7).text_vector]), vectors(0, n=1, dim=VERIFIER))
    with trustvlm.open(home) as service:
        with pytest.raises(trustvlm.Damaged):
            service.search("space", asked, kind="support")
        verdicts = service.score("space", asked, rule="msp")
        assert verdicts.label[0] == "label 0007"
        with pytest.raises(trustvlm.Damaged):
            verdicts.evidence(0)
        with pytest.raises(trustvlm.Damaged):
            service.add_support("space", "label 0007", image_vectors=vectors(9, n=1, dim=VERIFIER))
        assert service.get_space("space").revision == 1
        assert (
            service.add_support(
                "space", "label 0006", image_vectors=vectors(9, n=1, dim=VERIFIER)
            ).added_supports
            == 1
        )


def test_a_lost_epoch_is_damage(home: Path) -> None:
    change(home, "DELETE FROM catalog_state")
    with trustvlm.open(home) as service, pytest.raises(trustvlm.Damaged, match="epoch"):
        service.score("space", queries())


# Ids, epochs, the change log


def test_ids_are_never_used_again(home: Path) -> None:
    """Ids of purged labels, support images and spaces do not come back, not even the largest, not
    even after a restart."""
    seen: dict[str, set[int]] = {"labels": set(), "supports": set(), "spaces": set()}

    def note() -> None:
        for table, known in seen.items():
            now = {number for (number,) in run_sql(home, f"SELECT id FROM {table}")}
            fresh = now - last[table]
            assert not fresh & known, table
            known |= now
            last[table] = now

    last: dict[str, set[int]] = {table: set() for table in seen}
    note()
    for number in range(4):
        with trustvlm.open(home) as service:
            service.remove_label("space", "label 0019", purge=True)
            service.register("space", [label(19)])
            note()
            newest = max(run_sql(home, "SELECT id FROM supports"))[0]
            service.remove_support("space", [newest])
            service.purge(older_than=AT_ONCE)
            service.register("space", [label(19)])
            note()
            service.create_space(f"s{number}", classifier="precomputed:4")
            service.remove_space(f"s{number}")
            service.purge(older_than=AT_ONCE)
            note()
    assert len(seen["supports"]) > 30


def test_every_catalog_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    epochs = set()
    for name in ("a", "b"):
        trustvlm.open(tmp_path / name, create=True).close()
        trustvlm.open(tmp_path / name).close()
        ((epoch,),) = run_sql(tmp_path / name, "SELECT epoch FROM catalog_state")
        epochs.add(uuid.UUID(epoch))
    assert len(epochs) == 2


def purge_with_a_short_log(home: str, limit: str) -> None:
    """Child: remove and purge labels and support images, keeping only so many entries of the
    log."""
    import trustvlm.catalog.upkeep.purge as purge

    purge.LOG_LIMIT = int(limit)
    with trustvlm.open(home) as service:
        for number in range(4, 14):
            service.remove_label("space", f"label {number:04d}")
        asked = Queries(verifier=label(15).image_vectors)
        service.remove_support(
            "space", service.search("space", asked, kind="support", k=1).ids[:, 0].tolist()[1:]
        )
        service.purge(older_than=AT_ONCE)
        service.register("space", [label(30)])


@pytest.mark.parametrize(
    "limit", [0, *(pytest.param(limit, marks=pytest.mark.slow) for limit in (3, 1000))]
)
def test_a_cache_older_than_the_log_rebuilds(home: Path, limit: int) -> None:
    """Caches that were warm before a purge drop what was purged: by the log, or anew where the log
    begins too late."""
    with trustvlm.open(home) as idle, trustvlm.open(home) as lively:
        for service in (idle, lively):
            service.score("space", queries())
            service.search("space", queries(), kind="support")
            service.search("space", queries(), kind="prototype")
        printed_by(purge_with_a_short_log, home, limit)
        ((kept,),) = run_sql(home, "SELECT count(*) FROM changes")
        ((start,),) = run_sql(home, "SELECT log_start FROM spaces")
        assert kept <= limit
        assert (start > 1) == (limit < 1000)
        lively.register("space", [label(31)])
        with trustvlm.open(home) as fresh:
            for service in (idle, lively):
                for rule in ("trustvlm", "trustvlm_star"):
                    require_equal(
                        service.score("space", queries(), rule=rule),
                        fresh.score("space", queries(), rule=rule),
                    )
                for kind in ("support", "prototype", "text"):
                    got, expected = (
                        s.search("space", queries(), kind=kind, k=50) for s in (service, fresh)
                    )
                    np.testing.assert_array_equal(got.ids, expected.ids)
                    np.testing.assert_array_equal(got.labels, expected.labels)


# What a call costs


def scans(home: Path, call: Callable[[], object]) -> list[str]:
    """The steps of the query plans of what `call` sends that walk through a table or all of a
    space's rows in it."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    found = []
    connection = sqlite3.connect(home / CATALOG)
    for statement, parameters in sent:
        if not statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            continue
        if " LIMIT " in statement:  # the fixed sample behind τ and c̃
            continue
        for *_, step in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters):
            if re.match(r"SCAN (labels|supports)\b", step) or re.match(
                r"SEARCH (labels|supports) .*\(space_id=\?\)$", step
            ):
                found.append(f"{step}: {' '.join(statement.split())[:160]}")
    connection.close()
    return found


def test_no_call_about_one_label_walks_through_all(home: Path) -> None:
    """The query plans of registering, changing, removing, following and evidence use an index down
    to the rows concerned.

    (Listing and counting do walk; so does the first load of a space, and the fixed sample behind c̃
    reads its limit only.)
    """
    with trustvlm.open(home) as service, trustvlm.open(home) as follower:
        asked = Queries(np.array([label(7).text_vector]), np.asarray(label(7).image_vectors)[:1])
        for one in (service, follower):
            one.score("space", asked)
            one.search("space", asked, kind="support")
        service.purge()
        ids = service.search("space", asked, kind="support", k=2).ids[0].tolist()
        verdicts = service.score("space", asked)
        calls: dict[str, Callable[[], object]] = {
            "register": lambda: service.register("space", [label(50)]),
            "register again": lambda: service.register("space", [label(50)]),
            "score in the same process": lambda: service.score("space", asked, rule="msp"),
            "score in another process": lambda: follower.score("space", asked, rule="msp"),
            "search in another process": lambda: follower.search("space", asked, kind="support"),
            "add_support": lambda: service.add_support(
                "space", "label 0007", image_vectors=vectors(9, n=1, dim=VERIFIER)
            ),
            "update_label": lambda: service.update_label("space", "label 0007", new_name="zebra"),
            "remove_support": lambda: service.remove_support("space", ids[:1]),
            "restore_support": lambda: service.restore_support("space", ids[:1]),
            "evidence": lambda: verdicts.evidence(0),
            "remove_label": lambda: service.remove_label("space", "zebra"),
            "restore_label": lambda: service.restore_label("space", "zebra"),
            "remove_label(purge=True)": lambda: service.remove_label("space", "zebra", purge=True),
        }
        found = {name: walks for name, call in calls.items() if (walks := scans(home, call))}
        assert not found, json.dumps(found, indent=1)


def test_purging_checks_references_by_an_index(home: Path) -> None:
    """Deleting a label asks whether support images refer to it: without an index on the label that
    reads all of them."""
    plan = run_sql(home, "EXPLAIN QUERY PLAN SELECT 1 FROM supports WHERE label_id = 1")
    assert all("SEARCH" in step and "label_id=?" in step for *_, step in plan), plan


# Homes that cannot be written


def use_read_only(home: str) -> None:
    """Child: what opening for writing says; then read, and try to change."""
    try:
        with trustvlm.open(home):
            tell_json("opened for writing")
    except trustvlm.TrustVLMError as error:
        tell_json([type(error).__name__, str(error)])
    with trustvlm.open(home, read_only=True) as service:
        for kind in ("support", "prototype", "text"):
            service.search("space", queries(), kind=kind)
        service.score("space", queries()).evidence(0)
        service.index_stats("space")
        tell_json(service.score("space", queries()).trust.tolist())
        tell_json(sorted(row.name for row in service.list_labels("space")))
        refused = []
        for verb in (
            lambda: service.register("space", [label(100)]),
            lambda: service.add_support(
                "space", "label 0001", image_vectors=vectors(1, n=1, dim=VERIFIER)
            ),
            lambda: service.remove_label("space", "label 0001"),
            lambda: service.create_space("another", classifier="precomputed:4"),
            lambda: service.purge(older_than=AT_ONCE),
            lambda: service.rebuild_index("space"),
        ):
            try:
                verb()
                refused.append("no error")
            except trustvlm.ReadOnly as error:
                refused.append(str(error))
        tell_json(refused)


def mounted_read_only(home: Path) -> tuple[str, ...]:
    """The words before a command that make it see `home` on a file system that cannot be
    written."""
    script = f'mount --bind "{home}" "{home}" && mount -o remount,bind,ro "{home}" && exec "$@"'
    wrapper = ("unshare", "-m", "sh", "-c", script, "sh")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("mounting is not permitted here")
    return wrapper


def as_nobody(folder: Path) -> tuple[str, ...]:
    """The words before a command that run it as a user who may read `folder`, and not write it."""
    if not _nobody_runs() or subprocess.run([*NOBODY, "ls", folder], check=False).returncode:
        pytest.skip("running as another user is not possible here")
    return NOBODY


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@functools.cache
def _nobody_runs() -> bool:
    """Whether another user may run this Python with the package."""
    check = [*NOBODY, sys.executable, "-c", "import trustvlm.settings"]
    has_program = shutil.which("setpriv") is not None
    return has_program and not subprocess.run(check, check=False, capture_output=True).returncode


@pytest.fixture
def public(home: Path) -> Iterator[Path]:
    """The home where other users get at it: pytest's own folders are closed to them."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    moved = folder / "home"
    shutil.copytree(home, moved)
    for path in (moved, *moved.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield moved
    shutil.rmtree(folder)


def require_readable(home: Path, told: list[Any]) -> None:
    writing, trust, names, refused = told
    assert writing[0] == "ReadOnly"
    assert "read_only=True" in writing[1]
    assert all("read_only" in message for message in refused)
    with trustvlm.open(home, read_only=True) as service:
        np.testing.assert_allclose(trust, service.score("space", queries()).trust, atol=1e-5)
        assert names == sorted(row.name for row in service.list_labels("space"))


def test_a_home_on_a_file_system_mounted_read_only(home: Path) -> None:
    """Opening for writing says ReadOnly and what to do; with read_only=True everything that reads
    works, all that changes is refused in one sentence, and no file appears."""
    wrapper = mounted_read_only(home)
    before = sorted(path.name for path in home.rglob("*"))
    printed = printed_by(use_read_only, home, wrapper=wrapper)
    assert sorted(path.name for path in home.rglob("*")) == before
    require_readable(home, printed)


def die_after_registering(home: str) -> None:
    """Child: register a label, then die, so that it is in the write-ahead log only."""
    service = trustvlm.open(home)
    service.register("space", [label(77)])
    tell_json("registered")
    os.kill(os.getpid(), signal.SIGKILL)


def leave_a_log(home: Path) -> None:
    child = start(die_after_registering, home)
    assert child.communicate(timeout=60)[0] == '"registered"\n'
    assert child.returncode == -signal.SIGKILL
    assert (home / (CATALOG + "-wal")).stat().st_size > 0


@pytest.mark.slow  # by default: test_a_home_on_a_file_system_mounted_read_only
def test_a_read_only_home_with_a_log_left_by_a_kill(home: Path) -> None:
    """What was acknowledged before a kill is read on a read-only file system too, though the log
    cannot be folded in."""
    leave_a_log(home)
    wrapper = mounted_read_only(home)
    printed = printed_by(use_read_only, home, wrapper=wrapper)
    assert "label 0077" in printed[2]
    require_readable(home, printed)


@pytest.mark.slow
def test_a_home_of_another_user(public: Path) -> None:
    """A user who may read the files but not write them: the same as on a read-only file system."""
    require_readable(public, printed_by(use_read_only, public, wrapper=as_nobody(public)))


def watch(home: str) -> None:
    """Child: tell the labels, each time it is asked."""
    with trustvlm.open(home, read_only=True) as service:
        while True:
            verdicts = service.score("space", queries())
            tell_json([verdicts.revision, len(list(service.list_labels("space")))])
            if not sys.stdin.readline():
                return


@pytest.mark.slow  # by default: test_a_home_on_a_file_system_mounted_read_only
@pytest.mark.parametrize(
    "writing_first",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["writer first", "reader first"],
)
def test_a_user_who_may_only_read_sees_what_others_register(
    public: Path, writing_first: bool
) -> None:
    """A reader without the right to write follows the catalog's owner at its next query, whoever
    came first."""
    command = [*as_nobody(public), sys.executable, __file__, watch.__name__, str(public)]
    first = trustvlm.open(public) if writing_first else None
    if first is not None:
        first.register("space", [label(100)])
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdin is not None
    assert reader.stdout is not None

    def seen() -> list[int]:
        line = reader.stdout.readline()  # type: ignore[union-attr]
        assert line, "the reader has died"
        return json.loads(line)  # type: ignore[no-any-return]

    try:
        seen()
        with first or trustvlm.open(public) as service:
            for number in range(200, 210):
                revision = service.register("space", [label(number)]).revision
                reader.stdin.write("again\n")
                reader.stdin.flush()
                assert seen() == [revision, service.get_space("space").label_count]
        for number in (300, 301):  # the owner has closed the catalog, and opened it again
            with trustvlm.open(public) as service:
                revision = service.register("space", [label(number)]).revision
            reader.stdin.write("again\n")
            reader.stdin.flush()
            assert seen()[0] == revision
    finally:
        reader.kill()
        reader.communicate()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
