"""Originals in a folder that all machines on a catalog share: kept by one, used and deleted by
another; a folder that is not the catalog's is neither written nor emptied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import postgres
import pytest
from checkpoints import make_timm
from cli_runner import Cli
from PIL import Image

import trustvlm
from trustvlm import LabelInput, TrustService

AT_ONCE = timedelta(0)
ID_FILE = ".trustvlm-originals"


@pytest.fixture(scope="module")
def verifiers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return [make_timm(folder / f"{seed}.safetensors", seed=seed) for seed in (0, 1)]


@pytest.fixture
def url(postgres_server: postgres.Server) -> Iterator[str]:
    yield postgres_server.create("originals", "head")
    postgres_server.drop("originals")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the settings name and no process has made yet."""
    folder = tmp_path / "share" / "originals"
    monkeypatch.setenv("TRUSTVLM_ORIGINALS_FOLDER", str(folder))
    return folder


def picture(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 255, size=(40, 44, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def label(number: int) -> LabelInput:
    vector = np.eye(8)[number % 8]
    return LabelInput(f"label {number}", text_vector=vector, images=[picture(number)])


def create(service: TrustService, verifier: str) -> None:
    service.create_space("s", classifier="precomputed:8", verifier=verifier)


def files(folder: Path) -> int:
    return len(list(folder.glob("[0-9a-f][0-9a-f]/*")))


def test_one_machine_keeps_what_another_uses_and_deletes(
    url: str, shared: Path, verifiers: list[str], tmp_path: Path
) -> None:
    with (
        trustvlm.open(tmp_path / "a", database_url=url) as a,
        trustvlm.open(tmp_path / "b", database_url=url) as b,
    ):
        create(a, verifiers[0])
        a.register("s", [label(number) for number in range(3)], keep_originals=True)
        assert files(shared) == 3
        assert not (tmp_path / "a" / "originals").exists()
        b.register("s", [label(3)], keep_originals=True)
        assert files(shared) == 4
        assert b.backup(tmp_path / "archive.zip").originals == 4
        b.remove_label("s", "label 0")
        b.purge(older_than=AT_ONCE)
        assert files(shared) == 3
        done = b.reembed_space("s", verifier=verifiers[1])
        assert (done.verifier, done.missing) == (verifiers[1], ())
    trustvlm.restore(tmp_path / "archive.zip", tmp_path / "home")
    assert files(tmp_path / "home" / "originals") == 4


def test_a_folder_that_is_not_there(
    url: str, shared: Path, verifiers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the share is not mounted, an empty folder is in its place, which is not taken for it;
    what is to be deleted there stays noted until it is. Other changes go on."""
    with trustvlm.open(tmp_path / "a", database_url=url) as service:
        create(service, verifiers[0])
        service.register("s", [label(0), label(1)], keep_originals=True)
        shared.rename(shared.with_name("mounted"))
        shared.mkdir()
        with pytest.raises(trustvlm.Unavailable, match="is it mounted"):
            service.register("s", [label(2)], keep_originals=True)
        with pytest.raises(trustvlm.Unavailable, match="is it mounted"):
            service.backup(tmp_path / "archive.zip")
        service.remove_label("s", "label 0")
        with pytest.raises(trustvlm.Unavailable, match="is it mounted"):
            service.purge(older_than=AT_ONCE)
        assert service.register("s", [label(2)]).added_labels == 1
        assert not any(shared.iterdir())
        monkeypatch.delenv("TRUSTVLM_ORIGINALS_FOLDER")
        with (
            trustvlm.open(tmp_path / "b", database_url=url) as unset,
            pytest.raises(trustvlm.Unavailable, match="let the setting originals_folder name it"),
        ):
            unset.purge(older_than=AT_ONCE)
        shared.rmdir()
        shared.with_name("mounted").rename(shared)
        assert files(shared) == 2
        service.purge(older_than=AT_ONCE)
        assert files(shared) == 1


def test_a_folder_of_another_catalog(
    url: str, shared: Path, verifiers: list[str], tmp_path: Path
) -> None:
    """Also a copy of the catalog is another one; it takes a copy of the folder for its own, when
    that says no more whose it was."""
    with trustvlm.open(tmp_path / "a", database_url=url) as first:
        create(first, verifiers[0])
        first.register("s", [label(0)], keep_originals=True)
    Cli(tmp_path / "any")("db", "copy", url, tmp_path / "copy")
    with trustvlm.open(tmp_path / "copy") as second:
        with pytest.raises(trustvlm.Conflict, match="another catalog"):
            second.register("s", [label(1)], keep_originals=True)
        second.remove_label("s", "label 0")
        second.purge(older_than=AT_ONCE)
        assert files(shared) == 1
        shutil.copytree(shared, shared.with_name("second"))
        shared.with_name("second").joinpath(ID_FILE).unlink()
        shared.rename(shared.with_name("first"))
        shared.with_name("second").rename(shared)
        second.register("s", [label(1)], keep_originals=True)
        second.purge(older_than=AT_ONCE)
        assert files(shared) == 1


def test_a_home_with_originals_of_its_own(
    verifiers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a shared folder once they are moved there."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service, verifiers[0])
        service.register("s", [label(0)], keep_originals=True)
    monkeypatch.setenv("TRUSTVLM_ORIGINALS_FOLDER", str(tmp_path / "share"))
    with trustvlm.open(tmp_path / "home") as service:
        with pytest.raises(trustvlm.Conflict, match="move what is in it"):
            service.register("s", [label(1)], keep_originals=True)
        (tmp_path / "home" / "originals").rename(tmp_path / "share")
        service.register("s", [label(1)], keep_originals=True)
        assert files(tmp_path / "share") == 2


def test_a_server_without_a_folder(url: str, verifiers: list[str], tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "a", database_url=url) as service:
        create(service, verifiers[0])
        with pytest.raises(trustvlm.InvalidInput, match="originals_folder"):
            service.register("s", [label(0)], keep_originals=True)
        assert service.register("s", [label(0)]).added_labels == 1
        assert service.purge(older_than=AT_ONCE) == 0


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTVLM_ORIGINALS_FOLDER", "share")
    with pytest.raises(trustvlm.InvalidInput, match="absolute path"):
        trustvlm.open(tmp_path, create=True)
