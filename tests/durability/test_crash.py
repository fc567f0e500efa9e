"""kill -9 at any moment and at every named step: nothing acknowledged is lost, nothing is half
there, every home opens.

Children (tests/crash_child.py) tell what they are about to change and what was acknowledged; after
each kill the home must hold what they were told, or that and a whole part of the change under way;
be sound to the last checksum; and answer like a fresh home with the same content
(tests/crash_state.py).
"""

from __future__ import annotations

import ast
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from crash_child import backup_of, furnished, restored_of, tour_of
from crash_state import (
    CATALOG,
    Op,
    State,
    create,
    difference,
    is_possible,
    label_input,
    mended,
    purged,
    raw,
    read_state,
    require_sound,
    require_whole,
    states_after,
)
from forked import Child, run_code

import trustvlm
from trustvlm.service.backup.restore import check_backup
from trustvlm.system.fault_points import CHANGES, POINTS

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("crash_child.py")
TIMEOUT_S = 600
WORKERS = int(os.environ.get("TRUSTVLM_TEST_WORKERS", "2"))
"""Children at once in the slow tests."""


def start(
    *arguments: object, fault: str = "", stderr: int | None = None, **environment: str
) -> Child:
    """Begin the child; `stderr`: a descriptor, as a rule kept for `communicate`."""
    given = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TRUSTVLM_FAULT": fault}
    return Child([str(CHILD), *map(str, arguments)], os.environ | given | environment, stderr)


@dataclass
class Told:
    """What a child told, applied to the state that it began with."""

    state: State
    op: Op | None = None
    chunks: int = 0
    done: int = 0
    error: str = ""
    ended: bool = False
    backed_up: list[State] = field(default_factory=list)
    """What the backup may hold; nothing: there need not be one."""
    restored: list[State] = field(default_factory=list)
    """What the home that was made of it may hold."""
    ever: list[State] = field(default_factory=list)
    """What a backup ever held: what the homes hold that were replaced."""

    def hear(self, line: str) -> None:
        kind, rest = line[:1], line[2:].rstrip("\n")
        if not line.endswith("\n"):
            return  # cut off by the kill: not told
        if kind == "B":
            self.op, self.chunks = json.loads(rest), 0
        elif kind == "C":
            self.chunks += 1
        elif kind == "D":
            assert self.op is not None
            self.backed_up = [self.state] if self.op["op"] == "backup" else self.backed_up
            self.ever += self.backed_up
            self.restored = list(self.backed_up) if self.op["op"] == "restore" else self.restored
            self.state, self.op, self.done = (
                states_after(self.state, self.op)[-1],
                None,
                self.done + 1,
            )
        elif kind == "X":
            self.error = rest
        self.ended |= kind == "E"

    def require(self, home: Path) -> State:
        """The home's state, which must be one that can be after what was told."""
        if self.op is not None and self.op["op"] == "repair":
            mended(home)
        found = read_state(home)
        if not is_possible(found, self.state, self.op, self.chunks):
            what = (
                f"while {str(self.op)[:200]} ({self.chunks} chunks acknowledged): "
                f"{difference(found, self.state)}"
            )
            raise AssertionError(what)
        return found

    def require_beside(self, home: Path, scratch: Path) -> None:
        """The backup, and the home made of it, are there if they were acknowledged, and hold what
        they should.

        What may have been comes to be known: a home is made of the backup at `scratch`, and
        deleted.
        """
        what = "" if self.op is None else self.op["op"]
        if backup_of(home).exists():
            trustvlm.restore(backup_of(home), scratch)
            found = read_state(scratch)
            assert found in self.backed_up + [self.state] * (what == "backup"), (
                "the backup holds something else"
            )
            restorable, self.backed_up = [*self.backed_up], [found]
            self.ever.append(found)
            shutil.rmtree(scratch)
        else:
            assert not self.backed_up, "an acknowledged backup is gone"
            restorable = []
        if restored_of(home).exists():
            found = read_state(restored_of(home))
            with trustvlm.open(restored_of(home)) as service:
                assert service.verify().clean
            assert found in self.restored + restorable * (what == "restore"), (
                "the restored home holds something else"
            )
            self.restored = [found]
        else:
            assert not self.restored, "an acknowledged home is gone"
        for aside in home.parent.glob(f"{restored_of(home).name}.aside-*"):
            require_sound(aside)
            assert read_state(aside) in self.ever
            shutil.rmtree(aside)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """A home that the tour can start from, and what it holds."""
    home = tmp_path_factory.mktemp("template") / "home"
    with trustvlm.open(home, create=True) as service:
        state = furnished(service)
    assert read_state(home) == state
    return home, state


class Warnings(logging.Handler):
    """Warnings of trustvlm, such as one about a snapshot that cannot be used."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def warned() -> Iterator[list[str]]:
    handler = Warnings()
    logging.getLogger("trustvlm").addHandler(handler)
    yield handler.messages
    logging.getLogger("trustvlm").removeHandler(handler)


def unexpected(warned: list[str]) -> list[str]:
    """What was warned of, but for snapshots that a struck repair has left as they were: it gives
    the catalog a new epoch."""
    return [message for message in warned if " is stale: epoch " not in message]


# Named steps


PASSED_ON = ("self.catalog.write(what)",)
"""What Home.write does for its callers, which name the change."""


def named_in_the_code() -> Counter[str]:
    """The fault points that the package and the migrations pass."""
    found: Counter[str] = Counter()
    for path in [*(ROOT / "trustvlm").rglob("*.py"), ROOT / "migrations" / "env.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = (
                node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            )
            if called == "reached" and isinstance(node.args[0], ast.Constant):
                found[node.args[0].value] += 1
            if (
                called == "write"
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value).endswith(("catalog", "home"))
                and ast.unparse(node) not in PASSED_ON
            ):
                assert node.args, (
                    f"{path.name}:{node.lineno}: a write transaction that is none of faults.CHANGES"
                )
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
                assert node.args[0].value in CHANGES, f"{path.name}:{node.lineno}"
                found.update(f"{node.args[0].value}.{step}" for step in ("written", "committed"))
    return found


def test_every_step_that_is_named_is_in_the_code_and_the_other_way_round() -> None:
    assert set(named_in_the_code()) == POINTS


def test_a_fault_that_does_not_exist_is_refused() -> None:
    environment = os.environ | {"TRUSTVLM_FAULT": "nothing:1:kill"}
    command = [sys.executable, "-c", "import trustvlm.system.fault_points"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "trustvlm.system.fault_points.POINTS" in done.stderr


AT_CREATION = sorted(point for point in POINTS if point.startswith(("home.", "schema.")))


def strike_at_creation(place: Path, point: str, kind: str) -> int:
    """Let a child that makes a home be struck at a step; the home must then open, whole. Its exit
    code."""
    child = start(place, "create", fault=f"{point}:1:{kind}")
    child.communicate(timeout=TIMEOUT_S)
    home = place / "copy 0"
    with trustvlm.open(home, create=True) as service:
        assert list(service.list_spaces()) == []
        create(service, "main")
    require_whole(home, read_state(home), place / "fresh")
    return child.returncode


def strike_in_the_tour(
    template: tuple[Path, State], place: Path, point: str, count: int, kind: str
) -> tuple[int, Told]:
    """Let a child that makes the tour be struck at a step; the home must then be whole. Its exit
    code, and what it told."""
    home, before = template
    shutil.copytree(home, place / "home")
    told = Told(before)
    child = start(place / "home", "tour", fault=f"{point}:{count}:{kind}")
    output, said = child.communicate(timeout=TIMEOUT_S)
    for line in output.splitlines(keepends=True):
        told.hear(line)
    assert "Traceback" not in said, said
    if point.startswith("register.") and told.op is not None and child.returncode == -9:
        assert told.op["op"] in ("register", "add_support", "feedback")
    found = told.require(place / "home")
    require_whole(place / "home", found, place / "fresh")
    told.require_beside(place / "home", place / "again")
    return child.returncode, told


IN_MEMORY = ("rebuild.", "cache.", "purge.discarded", "purge.checkpointed")
"""Steps between others, at which nothing is written."""

OFTEN = ("register.", "purge.", "snapshot.", "verdict_log.")
"""Steps that the tour reaches again and again."""

ELSEWHERE = ("bulk.",)  # tests/bulk/test_bulk_kills.py

FEW = ("backup.renamed",)


def test_killed_at_some_named_steps(
    template: tuple[Path, State], tmp_path: Path, warned: list[str]
) -> None:
    """The short form of the next but one."""
    for point in FEW:
        code, told = strike_in_the_tour(template, tmp_path / point, point, 1, "kill")
        assert (code, told.ended) == (-9, False), f"{point} was not reached"
    assert warned == []


@pytest.mark.slow  # by default: test_killed_at_some_named_steps
def test_a_disk_that_is_full_at_a_named_step(template: tuple[Path, State], tmp_path: Path) -> None:
    """The error is one of the tree, and the home is whole."""
    code, told = strike_in_the_tour(template, tmp_path, "register.written", 1, "enospc")
    assert (code, told.ended) == (0, True)
    assert "No space left" in told.error


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_at_every_named_step(
    template: tuple[Path, State],
    tmp_path: Path,
    warned: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At each step of fault_points.POINTS, when it is reached first and, where it is, a third
    time."""

    def strike(point: str, count: int) -> bool:
        place = tmp_path / f"{point}-{count}"
        if point in AT_CREATION:
            code = strike_at_creation(place, point, "kill")
        else:
            code, _ = strike_in_the_tour(template, place, point, count, "kill")
        shutil.rmtree(place)
        assert count > 1 or code == -9, f"{point} was not reached"
        return code == -9

    with ThreadPoolExecutor(WORKERS) as pool:
        cases = [
            (point, count)
            for count in (1, 3)
            for point in sorted(POINTS)
            if not point.startswith(ELSEWHERE) and (count == 1 or point.startswith(OFTEN))
        ]
        kills = sum(pool.map(lambda case: strike(*case), cases))
    # Killed between the snapshots under another recipe and the change of the recipe: they are
    # rebuilt.
    assert [
        message
        for message in unexpected(warned)
        if "stale: recipe 'hnsw', expected 'flat'" not in message
    ] == []
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{kills} kills at {len(dict(cases))} named steps: 0 lost, 0 disagreements, 0 homes "
            f"that do not open"
        )


ON_THE_DISK = [
    point
    for point in sorted(POINTS)
    if not point.startswith((*IN_MEMORY, *ELSEWHERE)) and not point.endswith(".committed")
]
"""At a commit's end nothing is written: the kills show what is there then."""
ONE_OF_EACH_KIND = ["register.written", "snapshot.synced", "backup.copied", "restore.renamed"]
"""What EIO is tried at: the program takes it for the error that ENOSPC is."""


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("kind", "points"), [("enospc", ON_THE_DISK), ("eio", ONE_OF_EACH_KIND)], ids=["enospc", "eio"]
)
def test_a_failing_disk_at_named_steps(
    template: tuple[Path, State], tmp_path: Path, kind: str, points: list[str]
) -> None:
    """Each change that fails says so with an error of the tree, is wholly there or not, and the
    home goes on working."""

    def strike(point: str) -> None:
        place = tmp_path / point
        if point in AT_CREATION:
            strike_at_creation(place, point, kind)
        else:
            code, told = strike_in_the_tour(template, place, point, 1, kind)
            assert (code, told.ended) == (0, True), point
        shutil.rmtree(place)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(strike, points))


@pytest.mark.parametrize(("step", "labels"), [(3, 14), (4, 0)])
def test_a_space_whose_purge_was_interrupted_is_not_restored_in_part(
    template: tuple[Path, State], tmp_path: Path, step: int, labels: int
) -> None:
    """A snapshot of the space that lies there still is no damage, and goes with the rest."""
    home = shutil.copytree(template[0], tmp_path / "home")
    with trustvlm.open(home) as service:
        service.rebuild_index("main")
    snapshots = shutil.copytree(home / "snapshots", tmp_path / "snapshots")
    code = (
        "import sys, datetime, trustvlm\n"
        "with trustvlm.open(sys.argv[1]) as service:\n"
        "    service.remove_space('main')\n"
        "    service.purge(older_than=datetime.timedelta(0))\n"
    )
    # After the support images and labels that were removed alone (there are none), the support
    # images of the space, then its labels.
    assert run_code(code, home, TRUSTVLM_FAULT=f"purge.committed:{step}:kill").returncode == -9
    left = read_state(home)["main"]
    assert len(left.labels) == labels
    assert not any(label.supports for label in left.labels.values())
    shutil.copytree(snapshots, home / "snapshots", dirs_exist_ok=True)
    with trustvlm.open(home, read_only=True) as service:
        assert service.verify().clean
    with trustvlm.open(home) as service, pytest.raises(trustvlm.NotFound, match="purged"):
        service.restore_space("main")
    assert (
        read_state(home) == {}
    )  # the purge has been finished: nothing of it is within its undo window
    assert not list((home / "snapshots").glob("*.snapshot"))


# Random instants


@dataclass
class Life:
    """A home whose writers are killed again and again."""

    home: Path
    chance: random.Random
    state: State = field(default_factory=dict)
    first: str = ""
    struck: Counter[str] = field(default_factory=Counter)
    backed_up: list[State] = field(default_factory=list)
    restored: list[State] = field(default_factory=list)
    ever: list[State] = field(default_factory=list)

    def kill(self, environment: dict[str, str]) -> None:
        """Let a child change the home, kill it, and look at what is there."""
        told = Told(self.state, backed_up=self.backed_up, restored=self.restored, ever=self.ever)
        errors = self.home.with_name("stderr").open("w+")
        child = start(
            self.home,
            "random",
            self.chance.getrandbits(32),
            self.first,
            stderr=errors.fileno(),
            **environment,
        )
        for _ in range(self.chance.choice((1, 2, 3, 5, 8, 13, 21, 34))):
            told.hear(child.stdout.readline())
        time.sleep(self.chance.random() * self.chance.choice((0.005, 0.05)))  # anywhere in a change
        child.kill()
        for line in child.stdout.read().splitlines(
            keepends=True
        ):  # not communicate(): it forgets what readline() read ahead
            told.hear(line)
        assert child.wait(TIMEOUT_S) == -9, self.home.with_name("stderr").read_text()
        child.close()
        errors.close()
        self.state = told.require(self.home)
        self.struck[what_of(told.op)] += 1
        if told.op is not None:
            again = told.op["op"] in (
                *(
                    "purge",
                    "purge_label",
                    "register",
                    "rebuild",
                    "backup",
                    "restore",
                    "reembed",
                    "abort",
                    "import",
                ),
            )
            self.first = json.dumps(told.op) if again else ""
        elif told.done:
            self.first = ""
        fresh = self.home.with_name("fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        require_whole(self.home, self.state, fresh)
        told.require_beside(self.home, self.home.with_name("again"))
        self.backed_up, self.restored = told.backed_up, told.restored


def what_of(op: Op | None) -> str:
    if op is None:
        return "between changes"
    return "bulk register" if len(op.get("labels", ())) > 1_000 else str(op["op"])


def killed_again_and_again(place: Path, seed: int, kills: int) -> Counter[str]:
    home = place / str(seed) / "home"
    with trustvlm.open(home, create=True) as service:
        create(service, "main")
    life = Life(home, random.Random(seed), read_state(home))
    for _ in range(kills):
        # In every other life, spaces of 1,000 labels are searched through 16-bit rows of mapped
        # snapshots.
        life.kill({"TRUSTVLM_HALF_FROM": "1000"} if seed % 2 else {})
    return life.struck


def test_killed_at_random(tmp_path: Path, warned: list[str]) -> None:
    """The short form of the next one."""
    assert sum(killed_again_and_again(tmp_path, 2, 1).values()) == 1
    assert warned == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_three_hundred_times(
    tmp_path: Path, warned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    seeds, kills = range(10, 22), 25
    with ThreadPoolExecutor(WORKERS) as pool:
        struck = sum(
            pool.map(lambda seed: killed_again_and_again(tmp_path, seed, kills), seeds), Counter()
        )
    assert sum(struck.values()) == kills * len(seeds)
    assert unexpected(warned) == []
    assert struck["bulk register"] > 0
    assert struck["rebuild"] > 0
    with capsys.disabled():
        table = ", ".join(f"{number} {what}" for what, number in struck.most_common())
        print(  # noqa: T201
            f"\n{sum(struck.values())} kills: 0 lost, 0 disagreements, 0 homes that do not "
            f"open; struck: {table}"
        )


# Upgrades and new homes


@pytest.fixture
def old_catalog(tmp_path: Path) -> Path:
    """A folder with a catalog at the first schema that holds a space of 500 labels."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    from trustvlm.catalog.store import sqlite
    from trustvlm.system.resources import folder

    place = tmp_path / "upgrades"
    place.mkdir()
    with trustvlm.open(tmp_path / "new", create=True) as service:
        create(service, "main")
        service.register("main", [label_input(f"label {i:04d}", i, [i]) for i in range(500)])
    shutil.copy(tmp_path / "new" / CATALOG, place / "old.sqlite3")
    engine = sqlite.make_engine(place / "old.sqlite3", read_only=False)
    with engine.connect().execution_options(change="schema") as connection, connection.begin():
        config = Config()
        config.set_main_option("script_location", str(folder("migrations")))
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        assert (
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            == "0001"
        )
    engine.dispose()
    return place


def kill_in_turns(place: Path, what: str, kills: int, seed: int) -> list[Path]:
    """Kill a child that works on one copy after the other, so many times; the copies that it began
    with."""
    chance, begun = random.Random(seed), []
    for number in range(kills):
        work = place / f"{what} {number}"
        work.mkdir()
        if what == "upgrade":
            shutil.copy(place / "old.sqlite3", work)
        child = start(work, what)
        for _ in range(2 * chance.randint(1, 3)):  # R, B, D, B, …: stop after a B
            line = child.stdout.readline()
        assert line.startswith("B")
        time.sleep(chance.random() * 0.1)
        child.kill()
        child.communicate(timeout=TIMEOUT_S)
        begun += sorted(path for path in work.glob("copy *") if path.is_dir())
    return begun


def require_upgraded(home: Path) -> None:
    from trustvlm.catalog.catalog import Catalog

    Catalog.upgrade(home / CATALOG)  # as `trustvlm db upgrade`; of one that was finished, nothing
    require_sound(home)
    for archive in (home / "backups").glob("*.zip"):
        assert check_backup(archive).catalog.schema == "0001"
    with trustvlm.open(home) as service:
        row = service.get_space("main")
        assert (row.label_count, row.support_count) == (500, 500)
        service.register("main", [label_input("another", 1000, [1000])])


@pytest.mark.slow  # by default: tests/catalog/test_migrations.py
@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_while_upgrading(old_catalog: Path, kills: int) -> None:
    """A catalog whose upgrade was killed is at the old schema or at the new one, with all it held,
    and can be upgraded."""
    for home in kill_in_turns(old_catalog, "upgrade", kills, 3):
        if (home / CATALOG).is_file():
            with raw(home) as catalog:
                if catalog.execute("PRAGMA quick_check").fetchall() == [("ok",)]:
                    (found,) = catalog.execute("SELECT version_num FROM alembic_version").fetchone()
                    assert found in ("0001", head())
            require_upgraded(home)


def head() -> str:
    from trustvlm.catalog.store import schema

    return schema.head()


@pytest.mark.parametrize("step", [name for name in AT_CREATION if name.startswith("schema.")])
@pytest.mark.slow
def test_killed_at_each_step_of_an_upgrade(old_catalog: Path, step: str) -> None:
    child = start(old_catalog, "upgrade", fault=f"{step}:1:kill")
    child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == -9
    with raw(old_catalog / "copy 0") as catalog:
        (found,) = catalog.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found == (head() if step == "schema.committed" else "0001")
    require_upgraded(old_catalog / "copy 0")


@pytest.mark.slow
def test_killed_while_a_home_is_made(tmp_path: Path) -> None:
    """A home whose making was killed opens with create=True, and works."""
    for home in kill_in_turns(tmp_path, "create", 8, 4):
        with trustvlm.open(home, create=True) as service:
            create(service, "main")
            service.register("main", [label_input("one", 1, [1])])
        assert purged(read_state(home))["main"].labels.keys() == {"one"}


def test_threads_that_make_homes_at_once(tmp_path: Path) -> None:
    """Alembic keeps what it works on in the process: one thread's tables must not land in another's
    home."""

    def made(number: int) -> int:
        with trustvlm.open(tmp_path / str(number), create=True) as service:
            create(service, "main")
            return service.register("main", [label_input("one", 1, [1])]).added_labels

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(made, range(8))) == [1] * 8


def test_the_tour_makes_every_kind_of_change() -> None:
    """So that a change that is added is killed too."""
    import crash_child

    kinds = {op["op"] for op in tour_of()}
    functions = {
        node.name
        for node in ast.parse(Path(crash_child.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and [a.arg for a in node.args.args] == ["service", "op"]
    } - {"perform"}
    assert {name.rstrip("_") for name in functions} == kinds
