"""What the test files share: an open service on a fresh home, and vectors that look like labels and
images."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import back_ends
import hypothesis
import postgres
import pytest
import quick_catalogs
from cli_runner import Cli
from numbered import create, label
from served_client import application, client_of
from worlds import World

import trustvlm

SUPPORT = Path(__file__).parent / "support"
# Processes that tests start import what the tests import.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(SUPPORT), str(SUPPORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

gc.disable()  # until all tests are collected: nothing of it becomes garbage

MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    # Homes in memory: tests make thousands, and each write to one waits for the disk.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# A few examples, the same in each run, or with `--hypothesis-profile random` more, and others in
# each. An example's time is the machine's business: on a busy one 0.2 s go by in any of them.
hypothesis.settings.register_profile("random", max_examples=100, deadline=None, database=None)
hypothesis.settings.register_profile(
    "trustvlm", hypothesis.settings.get_profile("random"), max_examples=15, derandomize=True
)
hypothesis.settings.load_profile("trustvlm")

_NO_PARAMETERS = SimpleNamespace(params={})
LONGEST = ("test_demo.py", "test_export.py", "test_reembed.py")
"""Long files of the last folders begin first, so that no worker ends with one of them."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of random examples; workers inherit it."""
    if config.option.hypothesis_profile == "random" and config.option.hypothesis_seed is None:
        seed = os.environ.setdefault("HYPOTHESIS_SEED", str(secrets.randbits(32)))
        config.option.hypothesis_seed = seed


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how the random examples of this run are made again."""
    if config.option.hypothesis_profile != "random":
        return None
    seed = config.option.hypothesis_seed
    return f"random examples; again with --hypothesis-profile random --hypothesis-seed {seed}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    over_postgresql: set[str] = set()
    for item in items:
        # A client sends what the library would do, and the cases of a grid differ in what stands
        # above the catalog: over PostgreSQL each test runs once, without a client.
        values = getattr(item, "callspec", _NO_PARAMETERS).params.values()
        words = {value for value in values if isinstance(value, str)}
        if "postgresql" in words and item.get_closest_marker("slow") is None:
            test = item.nodeid.partition("[")[0]
            if test in over_postgresql or words & {"client", "http"}:
                item.add_marker(pytest.mark.slow)
            else:
                over_postgresql.add(test)


def pytest_collection_finish() -> None:
    """Leave what was imported to no garbage collection: each that a test asks for would look at all
    of it, half a second long. Collect less often than programs usually do."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that are marked `both_back_ends` over SQLite and over PostgreSQL."""
    marker = metafunc.definition.get_closest_marker("both_back_ends")
    if marker is None:
        return
    marks = [pytest.mark.postgresql, *[pytest.mark.slow] * marker.kwargs.get("slow", False)]
    names = ["sqlite", pytest.param("postgresql", marks=marks)]
    if metafunc.definition.get_closest_marker("only_sqlite") is not None:
        del names[1]
    shared = "shared_back_end" in metafunc.fixturenames
    metafunc.parametrize("shared_back_end" if shared else "back_end", names, indirect=True)


@pytest.fixture(scope="session", autouse=True)
def quickly_opened_catalogs() -> Iterator[None]:
    """See tests/support/quick_catalogs.py."""
    with pytest.MonkeyPatch.context() as patch:
        quick_catalogs.install(patch)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server with the database "head", an empty catalog, of which tests get copies."""
    if (reason := postgres.missing()) is not None:
        pytest.skip(reason)
    with postgres.server("max_connections=300") as server:
        with (
            tempfile.TemporaryDirectory() as folder,
            trustvlm.open(folder, create=True, database_url=server.create("head")),
        ):
            pass
        yield server


@pytest.fixture(scope="session")
def copied_catalogs() -> dict[Path, str]:
    """Home → database of `postgres_server` that its catalog was copied to."""
    return {}


@pytest.fixture(autouse=True)
def back_end(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[back_ends.BackEnd]:
    """What holds the catalog of every home that the test opens, here and in its children: a file in
    each home or, for tests that are marked `both_back_ends`, one database the second time."""
    if getattr(request, "param", "sqlite") == "sqlite":
        monkeypatch.delenv("TRUSTVLM_DATABASE_URL", raising=False)
        yield back_ends.Files()
        return
    server, copies = map(request.getfixturevalue, ("postgres_server", "copied_catalogs"))
    database = back_ends.Database(server, "head", copies)
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", database.url)
    yield database
    database.drop()


@pytest.fixture(scope="module")
def shared_back_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """What holds the catalog of the one home that a fixture of the module opens and keeps open."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    server, copies = map(request.getfixturevalue, ("postgres_server", "copied_catalogs"))
    database = back_ends.Database(server, "head", copies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUSTVLM_DATABASE_URL", database.url)
        yield
    database.drop()


@pytest.fixture(scope="session")
def numbered_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `home` is copied from: making a home and its tables takes longer than most tests."""
    folder = tmp_path_factory.mktemp("numbered") / "home"
    with trustvlm.open(folder, create=True) as service:
        create(service)
        service.register("space", [label(number, supports=number % 4) for number in range(20)])
    return folder


@pytest.fixture
def home(numbered_home: Path, back_end: back_ends.BackEnd, tmp_path: Path) -> Path:
    """A home with the space "space": the labels 0 to 19 of tests/support/numbered.py, every fourth
    without support images."""
    return back_end.copied(numbered_home, tmp_path / "home")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line on a home that is not there yet."""
    return Cli(tmp_path / "home")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[trustvlm.TrustService]:
    with trustvlm.open(tmp_path / "home", create=True) as opened:
        yield opened


@pytest.fixture(params=["library", "client"])
def verbs(
    request: pytest.FixtureRequest, back_end: back_ends.BackEnd, tmp_path: Path
) -> Iterator[Any]:
    """The verbs of a service on a fresh home, and of a client of one."""
    with ExitStack() as stack:
        if request.param == "library":
            yield stack.enter_context(trustvlm.open(tmp_path / "home", create=True))
        else:
            app = stack.enter_context(application(tmp_path / "home"))
            yield stack.enter_context(client_of(app))


@pytest.fixture
def world() -> World:
    return World(["airport", "beach", "bridge", "desert", "forest", "harbour"])
