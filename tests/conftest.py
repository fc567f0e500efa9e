"""What the test files share: an open service on a fresh home, and vectors that look like labels and
images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from cli_runner import Cli
from numbered import create, label
from worlds import World

import trustvlm

SUPPORT = Path(__file__).parent / "support"
# Processes that tests start import what the tests import.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(SUPPORT), str(SUPPORT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# An example's time is the machine's business: on a busy one 0.2 s go by in any of them.
hypothesis.settings.register_profile("trustvlm", deadline=None)
hypothesis.settings.load_profile("trustvlm")

LONGEST = ("test_pages.py", "test_demo.py", "test_reproduction.py")
"""Files that take a minute begin first, so that no worker ends with one of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def numbered_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `home` is copied from: making a home and its tables takes longer than most tests."""
    folder = tmp_path_factory.mktemp("numbered") / "home"
    with trustvlm.open(folder, create=True) as service:
        create(service)
        service.register("space", [label(number, supports=number % 4) for number in range(20)])
    return folder


@pytest.fixture
def home(numbered_home: Path, tmp_path: Path) -> Path:
    """A home with the space "space": the labels 0 to 19 of tests/support/numbered.py, every fourth
    without support images."""
    return Path(shutil.copytree(numbered_home, tmp_path / "home"))


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line on a home that is not there yet."""
    return Cli(tmp_path / "home")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[trustvlm.TrustService]:
    with trustvlm.open(tmp_path / "home", create=True) as opened:
        yield opened


@pytest.fixture
def world() -> World:
    return World(["airport", "beach", "bridge", "desert", "forest", "harbour"])
