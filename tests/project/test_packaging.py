"""The wheel carries its data: built, installed beside the running site-packages, and used from
outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # .ci/run names this file

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    )
    run(*pip, cwd=target)
    return target


def trustvlm(installed: Path, cwd: Path, *arguments: str) -> str:
    return run(str(installed / "bin" / "trustvlm"), *arguments, cwd=cwd, PYTHONPATH=str(installed))


def test_the_installed_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    where = run(
        sys.executable,
        "-c",
        "import trustvlm; print(trustvlm.__file__)",
        cwd=tmp_path,
        PYTHONPATH=str(installed),
    )
    assert Path(where.strip()).is_relative_to(installed)


def test_wheel_finds_its_recipes_and_migrations(installed: Path, tmp_path: Path) -> None:
    recipes = trustvlm(installed, tmp_path, "index", "list")
    assert "flat" in recipes
    assert "flat-fp16" in recipes
    newest = max(path.name for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))
    schema = newest.partition("_")[0]
    home = ("--home", str(tmp_path / "home"))
    assert schema in trustvlm(installed, tmp_path, *home, "db", "current")
    trustvlm(installed, tmp_path, *home, "space", "create", "s", "--classifier", "precomputed:8")
    assert trustvlm(installed, tmp_path, *home, "db", "current").count(schema) == 2


def test_wheel_holds_typing_marker_and_demo_models(installed: Path) -> None:
    assert (installed / "trustvlm" / "py.typed").is_file()
    assert list((installed / "trustvlm" / "demo" / "models").rglob("*.safetensors"))


def test_wheel_installs_the_unit_of_systemd(installed: Path) -> None:
    unit = installed / "share" / "systemd" / "system" / "trustvlm.service"
    assert unit.read_bytes() == (ROOT / "docs" / "trustvlm.service").read_bytes()


def test_source_distribution_holds_everything_that_is_needed(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.split("/", 1)[-1] for name in packed.getnames()}
    assert {
        "indexes/flat.toml",
        "migrations/env.py",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "trustvlm/__init__.py",
    } <= names
