"""Every schema that was released can be upgraded and used, an upgrade that fails changes nothing,
and it is backed up before.

tests/assets holds a catalog of each schema, made by the program of its time, and what that program
answered (tests/assets/make_schemas.py). The children are real processes: the command line, and
functions of this file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from assets.make_schemas import COMMITS, MODEL, draw, unpack
from cli_runner import Cli
from numbered import CATALOG
from raw_sql import run_sql
from sqlalchemy import create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex

import trustvlm
from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.models import Base
from trustvlm.service.backup.restore import check_backup

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(__file__).resolve().parents[1] / "assets"
SCHEMAS = sorted(COMMITS)
SOME = {"0001", "0003", "0009", "0016", SCHEMAS[-1]}
BY_SCHEMA = [pytest.param(name, marks=[pytest.mark.slow] * (name not in SOME)) for name in SCHEMAS]
"""Each of them; by default some."""


def dump(home: Path) -> list[str]:
    """The catalog as SQL, row for row."""
    connection = sqlite3.connect(f"file:{home / CATALOG}?mode=ro", uri=True)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(params=BY_SCHEMA)
def known(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the program of that schema answered."""
    answers = json.loads((ASSETS / f"schema-{request.param}.json").read_text())
    return {"schema": request.param} | answers


@pytest.fixture
def old(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a home of a stored catalog."""

    def make(name: str) -> Path:
        home = tmp_path / "home"
        home.mkdir()
        unpack(name, home / CATALOG)
        return home

    return make


def queries(known: dict[str, Any]) -> trustvlm.Queries:
    return trustvlm.Queries(**{side: np.array(given) for side, given in known["queries"].items()})


# Stored catalogs


def test_every_released_schema_is_stored(tmp_path: Path) -> None:
    """A migration that is added needs the catalog that it starts from: the asset of its
    `down_revision`."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    script = ScriptDirectory.from_config(config)
    left_behind = {
        str(revision.down_revision)
        for revision in script.walk_revisions()
        if revision.down_revision
    }
    assert script.get_heads() == [schema.head()]
    for revision in script.walk_revisions():
        assert Path(revision.path).name.startswith(f"{revision.revision}_")
    assert left_behind - set(SCHEMAS) == {"0010", "0012", "0013", "0014", "0015"}  # of no program
    for name in SCHEMAS:
        assert script.get_revision(name) is not None
        unpack(name, tmp_path / name)
        connection = sqlite3.connect(tmp_path / name)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(name,)]
        connection.close()


def test_an_upgraded_home_answers_as_its_own_program_did(
    known: dict[str, Any], old: Callable[[str], Path]
) -> None:
    """Labels, support images, thumbnails, hits and the verdicts of every rule that there was; then
    it is used on."""
    home = old(known["schema"])
    cli = Cli(home)
    if known["schema"] != schema.head():
        assert f"schema {known['schema']}, this program needs {schema.head()}" in cli(
            "space", "list", code=5
        )
    cli("db", "upgrade")
    require_no_drift(home)
    with trustvlm.open(home) as service:
        assert {row.name: row.revision for row in service.list_spaces()} == known["revisions"]
        for space, names in known["labels"].items():
            assert [row.name for row in service.list_labels(space)] == names
            rows = [(name, service.list_supports(space, name)) for name in names]
            if known["schema"] < "0008":  # no name had the support images of another one
                rows = [
                    (name, [row for row in group if (row.registered_as or row.label) == name])
                    for name, group in rows
                ]
            assert [len(supports) for _, supports in rows] == known["supports"][space]
            pictures = [service.thumbnail(support.id) for _, group in rows for support in group]
            assert all(
                (picture or b"").startswith(b"\xff\xd8") == (space == "pictures")
                for picture in pictures
            )
        asked = queries(known)
        for rule, expected in known["verdicts"].items():
            require_rows(service.score("vectors", asked, rule=rule), expected)
        hits = service.search("vectors", trustvlm.Queries(verifier=asked.verifier), k=3)
        np.testing.assert_array_equal(hits.ids, known["hits"]["ids"])
        np.testing.assert_allclose(hits.similarity, known["hits"]["similarity"], atol=1e-5)
        shown = trustvlm.Queries(np.array(known["pictures"]["classifier"]))
        require_rows(service.score("pictures", shown, rule="msp"), known["pictures"]["verdicts"])
        use(service)


def require_rows(got: trustvlm.Verdicts, expected: list[dict[str, Any]]) -> None:
    for row, wanted in zip(got.rows(), expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, abs=1e-5), name
            else:
                assert row[name] == value, name


def use(service: trustvlm.TrustService) -> None:
    """What was removed comes back, ids are not used again, and every verb that writes works."""
    revision = service.get_space("vectors").revision
    service.restore_label("vectors", "label 11")
    with pytest.raises(trustvlm.NotFound):
        service.restore_label("vectors", "label 12")  # purged
    service.restore_space("removed")
    last = max(row.id for space in service.list_spaces() for row in service.list_labels(space.name))
    vector = np.ones(24)
    new = service.register(
        "vectors", [trustvlm.LabelInput("new", text_vector=np.ones(16), image_vectors=[vector])]
    )
    assert new.label_ids[0] > last
    assert new.revision == revision + 2
    assert (
        service.search("vectors", trustvlm.Queries(verifier=vector[None]), k=1).labels[0, 0]
        == "new"
    )
    service.update_label("vectors", "label 03", attributes={"region": "EU"})
    service.update_support("vectors", new.ids[0], attributes={"season": "summer"})
    assert [row.name for row in service.list_labels("vectors", filter='region = "EU"')] == [
        "label 03"
    ]
    service.alias("vectors", "new", "label 03")
    service.feedback("vectors", trustvlm.Queries(np.ones((1, 16)), vector[None]), "label 03")
    service.remove_label("vectors", "label 11", purge=True)
    service.rebuild_index("vectors")
    service.score("vectors", trustvlm.Queries(np.ones((1, 16)), vector[None]))


def test_images_are_encoded_as_before_the_upgrade(old: Callable[[str], Path]) -> None:
    """The model of the first release is still the one that the space is pinned to: images score as
    they did then."""
    known = json.loads((ASSETS / "schema-0001.json").read_text())["pictures"]
    home = old("0001")
    Cli(home)("db", "upgrade")
    place = ROOT / "trustvlm" / "demo" / "models" / "classifier"
    run_sql(home, "UPDATE spaces SET classifier = replace(classifier, ?, ?)", MODEL, str(place))
    with trustvlm.open(home) as service:
        images = [draw(number, 3) for number in range(3)]
        np.testing.assert_allclose(
            service.embed("pictures", images).queries.classifier, known["classifier"], atol=1e-4
        )
        assert (
            service.add_support(
                "pictures", "circle", images=[draw(0, 0), draw(0, 2)]
            ).skipped_duplicates
            == 1
        )


# Models and migrations


def require_no_drift(home: Path) -> None:
    """The tables are those of the models: columns, types, NOT NULL, indexes with their conditions,
    AUTOINCREMENT."""
    engine = create_engine(f"sqlite:///{home / CATALOG}")
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        assert (
            compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
            == []
        )
    engine.dispose()

    def plain(sql: str) -> str:
        return re.sub(r"\s+", " ", sql.replace('"', "")).strip().lower()

    made = {
        name: plain(sql)
        for name, sql in run_sql(home, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    }
    expected = {
        index.name: index for table in Base.metadata.tables.values() for index in table.indexes
    }
    present = {
        name
        for (name,) in run_sql(
            home, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
    }
    assert present == set(expected)
    for name, index in expected.items():
        assert made[str(name)] == plain(str(CreateIndex(index).compile(dialect=sqlite.dialect())))
    for table in Base.metadata.tables.values():
        assert ("autoincrement" in made[table.name]) == bool(
            table.dialect_options["sqlite"]["autoincrement"]
        )
        found = {
            n: (bool(needed), bool(key))
            for _, n, _, needed, _, key in run_sql(home, f"PRAGMA table_info({table.name})")
        }
        assert found == {c.name: (not c.nullable, c.primary_key) for c in table.columns}
    assert run_sql(home, "PRAGMA integrity_check") == [("ok",)]
    assert run_sql(home, "PRAGMA foreign_key_check") == []


# Upgrades that fail

FAILS = '''"""A migration that fails half-way."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9998", "{head}", None, None

def upgrade():
    op.add_column("labels", sa.Column("colour", sa.String()))
    op.create_table("colours", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("UPDATE labels SET colour = 'red', name = name || '?'")
    op.execute("DELETE FROM thumbnails")
    with op.batch_alter_table("supports") as batch:
        batch.add_column(sa.Column("colour", sa.String()))
    {end}
'''


@pytest.fixture
def release(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """The environment in which the program of a later release runs, whose newest migration ends in
    a statement."""

    def make(end: str) -> dict[str, str]:
        place = tmp_path / "release"
        for folder in ("trustvlm", "migrations", "indexes"):
            shutil.copytree(
                ROOT / folder, place / folder, ignore=shutil.ignore_patterns("*.pyc.*", "demo")
            )
        (place / "trustvlm" / "cli" / "demo.py").write_text(
            "import click\ndemo = click.Command('demo')\n"
        )
        (place / "migrations" / "versions" / "9998_fails.py").write_text(
            FAILS.format(head=schema.head(), end=end)
        )
        return {"PYTHONPATH": str(place)}

    return make


def upgrade(
    home: Path, environment: dict[str, str], *options: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trustvlm.cli", "--home", str(home), "db", "upgrade", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    # Not from the checkout: a program run with -m comes from the folder that it is run in.
    return subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_migration_that_raises_changes_nothing(
    old: Callable[[str], Path], release: Callable[[str], dict[str, str]]
) -> None:
    """It raises after it changed tables and rows: the catalog is byte for byte what it was, and the
    backup is there."""
    home = old("0002")
    Cli(home)("db", "upgrade", "--no-backup")
    with trustvlm.open(home) as service:
        before = (
            digest(home / CATALOG),
            list(service.list_labels("vectors")),
            service.get_space("pictures"),
        )
    done = upgrade(home, release("raise RuntimeError('no colours today')"))
    assert done.returncode == 1
    assert "no colours today" in done.stderr
    assert digest(home / CATALOG) == before[0]
    with trustvlm.open(home) as service:
        assert (list(service.list_labels("vectors")), service.get_space("pictures")) == before[1:]
        service.score("vectors", trustvlm.Queries(np.ones((1, 16)), np.ones((1, 24))))
    (backup,) = (home / "backups").iterdir()
    assert check_backup(backup).catalog.schema == schema.head()


@pytest.mark.slow
def test_an_upgrade_that_is_killed_changes_nothing(
    old: Callable[[str], Path], release: Callable[[str], dict[str, str]]
) -> None:
    """SIGKILL at the end of a migration, before its commit: the log is rolled back at the next
    opening."""
    home = old("0003")
    Cli(home)("db", "upgrade", "--no-backup")
    with trustvlm.open(home) as service:
        before = list(service.list_labels("vectors"))
    done = upgrade(home, release("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode < 0
    with trustvlm.open(home) as service:
        assert list(service.list_labels("vectors")) == before
    assert not run_sql(home, "SELECT name FROM sqlite_master WHERE name = 'colours'")


def upgrade_without_room(home: str, limit: str) -> None:
    """Child: upgrade where no file may grow beyond `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        Catalog.upgrade(Path(home) / CATALOG)
    except trustvlm.TrustVLMError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize(
    "limit", [150_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 20_000, 100_000))]
)
def test_a_disk_that_fills_up_during_an_upgrade(old: Callable[[str], Path], limit: int) -> None:
    """The log cannot grow: Unavailable in one line, the catalog is byte for byte what it was, and
    later it works."""
    home = old("0001")
    before = digest(home / CATALOG)
    (said,) = children.run(upgrade_without_room, home, limit)
    assert said.startswith("Unavailable: ")
    assert str(home) in said
    assert digest(home / CATALOG) == before
    Cli(home)("db", "upgrade")
    require_no_drift(home)


# The backup before


@pytest.mark.parametrize("name", BY_SCHEMA)
def test_an_upgrade_is_backed_up_first(old: Callable[[str], Path], name: str) -> None:
    """The backup holds the catalog as it was, of its own schema, row for row; the command says
    where it is."""
    home = old(name)
    cli = Cli(home)
    before = dump(home)
    out = cli("db", "upgrade").splitlines()
    (backup,) = (home / "backups").iterdir()
    assert re.fullmatch(rf"before-{schema.head()}-\d{{8}}T\d{{6}}Z\.zip", backup.name)
    assert out == [
        f"backup of schema {name}: {backup}",
        f"{home / CATALOG}: schema {name} → {schema.head()}",
    ]
    manifest = check_backup(backup)
    assert manifest.catalog.schema == name
    trustvlm.restore(backup, home.with_name("again"))
    assert [line for line in dump(home.with_name("again")) if "catalog_state" not in line] == [
        line for line in before if "catalog_state" not in line
    ]
    assert cli("db", "upgrade") == f"{home / CATALOG}: schema {schema.head()} is current\n"
    assert len(list((home / "backups").iterdir())) == 1


def test_an_upgrade_without_a_backup_has_to_be_asked_for(old: Callable[[str], Path]) -> None:
    """The backup cannot be written (a file is where its folder belongs): no upgrade, which way out
    is said."""
    home = old("0002")
    (home / "backups").write_text("in the way")
    before = digest(home / CATALOG)
    cli = Cli(home)
    assert "no backup, so no upgrade" in (said := cli("db", "upgrade", code=5))
    assert "--no-backup" in said
    assert digest(home / CATALOG) == before
    cli("db", "upgrade", "--no-backup")
    cli("db", "current")
    assert (home / "backups").read_text() == "in the way"


def test_what_is_written_between_backup_and_upgrade_is_not_passed_over(
    old: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes after the copy was taken: Busy, nothing is upgraded, and trying again
    works."""
    import trustvlm.service.backup.backup as module

    home = old("0001")
    made = module.back_up

    def then_write(*arguments: Any, **options: Any) -> Any:
        done = made(*arguments, **options)
        run_sql(home, "UPDATE spaces SET revision = revision + 1 WHERE name = 'vectors'")
        return done

    monkeypatch.setattr(module, "back_up", then_write)
    assert "was written while it was backed up" in Cli(home)("db", "upgrade", code=5)
    assert run_sql(home, "SELECT version_num FROM alembic_version") == [("0001",)]
    monkeypatch.undo()
    for file in (home / "backups").iterdir():
        file.unlink()  # of the same second
    Cli(home)("db", "upgrade")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
