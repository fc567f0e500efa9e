"""A home that is moved, deleted or replaced while it is open: no change is acknowledged that is
written outside of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from http_service import served
from numbered import CATALOG, label, queries

import trustvlm
from trustvlm.catalog.catalog import Catalog
from trustvlm.errors import Overloaded, Unavailable
from trustvlm.service.server.server_home import ServerHome


def move(home: Path) -> None:
    home.rename(home.with_name("moved"))


def move_and_put_a_copy(home: Path) -> None:
    move(home)
    shutil.copytree(home.with_name("moved"), home)


def delete(home: Path) -> None:
    shutil.rmtree(home)


def put_another_catalog(home: Path) -> None:
    """A catalog restored by hand: another file under the same name."""
    shutil.copy(home / CATALOG, home / "copy")
    (home / "copy").replace(home / CATALOG)


def delete_the_log(home: Path) -> None:
    (home / f"{CATALOG}-wal").unlink()


def point_the_link_elsewhere(home: Path) -> None:
    """`home` is a link to a volume; then it is a link to a copy of it."""
    shutil.copytree(home.resolve(), home.with_name("other volume"))
    home.unlink()
    home.symlink_to(home.with_name("other volume"))


CHANGES: list[Callable[[Path], None]] = [
    move, move_and_put_a_copy, delete, put_another_catalog, delete_the_log,
    point_the_link_elsewhere,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_write_is_acknowledged_and_the_service_is_not_ready(
    home: Path, change: Callable[[Path], None]
) -> None:
    if change is point_the_link_elsewhere:
        home.rename(home.with_name("volume"))
        home.symlink_to(home.with_name("volume"))
    with served(home) as http:
        service = http.service
        service.register("space", [label(30)])
        http("GET", "/readyz")
        change(home)
        with pytest.raises(
            Unavailable,
            match=r"was moved, deleted or replaced while .*nothing was changed; restart",
        ):
            service.register("space", [label(31)])
        assert "deleted or replaced" in http("GET", "/readyz", status=503)["error"]["message"]
        http("GET", "/healthz")
        with pytest.raises(Unavailable, match="deleted or replaced"):
            service.score("space", queries(3))
    if home.exists() and change is not delete_the_log:
        with trustvlm.open(home) as service:
            assert "label 0031" not in [row.name for row in service.list_labels("space")]


def test_a_change_that_meets_the_move_is_not_acknowledged(home: Path) -> None:
    """Moved between the check and the commit: the caller hears that the change is lost."""
    catalog = Catalog(home / CATALOG)
    with pytest.raises(Unavailable, match="went into the old file"), catalog.write():
        move(home)
    catalog.close()


def test_a_service_with_its_home_in_place_goes_on_whatever_else_happens(
    home: Path, tmp_path: Path
) -> None:
    """Backups, other processes that come and go, purges that empty the log: the files stay the
    same."""
    with trustvlm.open(home) as service:
        for number in range(30, 35):
            with trustvlm.open(home) as other:
                other.register("space", [label(number)])
            service.register("space", [label(number + 10)])
            service.remove_label("space", f"label {number:04d}", purge=True)
            service.backup(tmp_path / f"{number}.zip")
        assert (
            service.score("space", queries(3)).revision
            == service.score("space", queries(3)).revision
        )


def test_a_claim_that_cannot_be_dropped_is_dropped_later(tmp_path: Path) -> None:
    """The home is away when a call fails: once it is back, the call can be made again."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    with trustvlm.open(home, create=True) as service:
        server = ServerHome(service)
        worker = server.worker()
        assert server.begin_call("me", "key", b"request", worker) is None
        home.rename(elsewhere)
        server.drop_call("me", "key")
        elsewhere.rename(home)
        with pytest.raises(Overloaded, match="being done"):
            server.begin_call("me", "key", b"request", worker)
        server.drop_calls()
        assert server.begin_call("me", "key", b"request", worker) is None
        worker.close()
