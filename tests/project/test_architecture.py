"""The house stays the house: layers, file sizes, light imports, one list of public names."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trustvlm

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "trustvlm"
MAX_LINES, MAX_FILES, MAX_COLUMNS = 400, 15, 100

# A module imports only from rows below its own (its own room aside); rooms of one row never import
# each other.
ROWS = [
    {"types", "errors"},
    {"system"},
    {"softmax", "selective", "reading"},
    {"scoring"},
    {"encoders", "index", "catalog"},
    {"service"},
    {"settings", "testing"},
    {"bulk", "http", "client", "demo", "restoring"},
    {"cli", "ray"},  # `trustvlm demo` and `trustvlm serve` start the rooms below
]
SAME_ROW = {("types", "errors")}
# The order inside a package, where modules on a package's own level stand for rooms.
INSIDE = {
    "catalog": [{"store"}, {"rows"}, {"server", "upkeep"}, {"catalog"}],
    "service": [
        {"memory"},
        {"home"},
        {"backup", "indexes", "inputs", "verify"},
        {"query", "registration"},
        {"measuring", "reembed", "server", "support", "transfer"},
        {"service"},
    ],
    "http": [{"options"}, {"wire"}, {"guard"}, {"work"}, {"routes"}, {"app"}, {"run"}],
    "cli": [
        {"remote"},
        {"session"},
        {"printing", "completion"},
        {"reading"},
        {"commands"},
        {"root"},
        {"__main__"},
    ],
}
FILES = sorted(PACKAGE.rglob("*.py"))


LOOKED_AT = (ast.Import, ast.ImportFrom, ast.Attribute, ast.keyword)


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """The nodes of a file's syntax tree that the tests look at."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, LOOKED_AT)]


@pytest.fixture(scope="module", autouse=True)
def forgotten_trees() -> Iterator[None]:
    """Keep no tree for later tests: their garbage collections would look at a million nodes."""
    yield
    nodes.cache_clear()


def imports(path: Path) -> Iterator[str]:
    """Every trustvlm module that a file imports, inside functions too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (
                alias.name for alias in node.names if alias.name.split(".")[0] == "trustvlm"
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; the house uses absolute ones"
            if node.module and node.module.split(".")[0] == "trustvlm":
                yield from (
                    (f"{node.module}.{alias.name}" for alias in node.names)
                    if node.module == "trustvlm"
                    else [node.module]
                )


def row_of(room: str, rows: list[set[str]]) -> int | None:
    return next((row for row, rooms in enumerate(rows) if room in rooms), None)


# All files in one test: a test for each takes longer to begin and to end than to run.
def test_modules_import_only_from_lower_rows() -> None:
    for path in FILES:
        require_lower_rows(path)


def require_lower_rows(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":  # hands names on, lazily
        return
    row = row_of(room, ROWS)
    assert row is not None, f"{room} has no place in the house (docs/design.md)"
    for module in imports(path):
        other = module.partition(".")[2].partition(".")[0]
        if other == room:
            continue
        lower = row_of(other, ROWS)
        if (
            lower is None
        ):  # `import trustvlm`, or a public name of it: for rooms that use the library as anybody would
            assert row >= len(ROWS) - 2, f"{path.name} imports {module} from below the top rows"
            assert not other or other in trustvlm.__all__, f"{path.name} imports {module}"
            continue
        allowed = lower < row or (room, other) in SAME_ROW
        assert allowed, f"{path.relative_to(ROOT)} ({room}) imports {module} ({other})"


@pytest.mark.parametrize("package", INSIDE)
def test_rooms_of_a_package_import_only_from_lower_rooms(package: str) -> None:
    rows = INSIDE[package]
    arrows = set()
    for path in sorted((PACKAGE / package).rglob("*.py")):
        room = path.relative_to(PACKAGE / package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        row = row_of(room, rows)
        assert row is not None, f"{package}/{room} has no place in the house (docs/design.md)"
        for module in imports(path):
            parts = module.split(".")
            if parts[1] != package or len(parts) == 2 or parts[2] == room:
                continue
            lower = row_of(parts[2], rows)
            assert lower is not None, f"{path.relative_to(ROOT)} imports {module}"
            assert lower < row, f"{path.relative_to(ROOT)} ({room}) imports {module} ({parts[2]})"
            arrows.add((room, parts[2]))
    assert len(rows) <= 7
    assert len(arrows) <= 40, sorted(arrows)


def modules() -> dict[str, Path]:
    """Name of a module → its file."""
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


# Imports for types count too: two modules that need each other's classes are one, or need a third.
def test_modules_do_not_import_each_other_in_a_circle() -> None:
    files = modules()
    arrows: dict[str, set[str]] = {}
    for name, path in files.items():
        targets = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module in files:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                targets |= {one if one in files else node.module for one in whole}
        arrows[name] = targets - {name}
    ends: set[str] | None = None
    while ends is None or ends:  # what imports none of the rest, or is imported by none
        targets = {target for some in arrows.values() for target in some}
        ends = {name for name in arrows if name not in targets or not arrows[name] & arrows.keys()}
        arrows = {name: some for name, some in arrows.items() if name not in ends}
    assert not arrows, f"a circle of imports is among {sorted(arrows)}"


def test_folders_hold_at_most_fifteen_files() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    for folder in folders:
        count = sum(path.is_file() and path.suffix != ".pyc" for path in folder.iterdir())
        assert count <= MAX_FILES, f"{folder.relative_to(ROOT)} holds {count} files"


def test_lines_and_files_are_short() -> None:
    lines = {path.relative_to(ROOT): path.read_text("utf-8").splitlines() for path in FILES}
    assert not [
        f"{path}:{number}"
        for path, some in lines.items()
        for number, line in enumerate(some, 1)
        if len(line) > MAX_COLUMNS
    ]
    assert not [f"{path}: {len(some)}" for path, some in lines.items() if len(some) >= MAX_LINES]


def test_only_the_catalog_speaks_sql() -> None:
    allowed = {"catalog", "settings.py"}  # settings parses the database URL
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] in allowed:
            continue
        for node in nodes(path):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").split(".")[0] == "sqlalchemy"
            ):
                names = {alias.name for alias in node.names}
                assert names <= {"Connection", "IntegrityError"}, (
                    f"{path.relative_to(ROOT)} imports {names} from {node.module}"
                )


HEAVY = ("torch", "faiss", "open_clip", "timm", "torchvision", "sklearn")


@pytest.mark.parametrize(
    "statement",
    ["import trustvlm", "import trustvlm.cli", "import trustvlm.types, trustvlm.errors"],
)
def test_importing_is_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_precomputed_spaces_never_load_torch(tmp_path: Path) -> None:
    code = f"""
import numpy as np, sys, trustvlm
with trustvlm.open({str(tmp_path / "home")!r}, create=True) as service:
    service.create_space("s", classifier="precomputed:4")
    service.register("s", [trustvlm.LabelInput("a", text_vector=[1, 0, 0, 0], image_vectors=[[1, 0, 0, 0]])])
    service.score("s", trustvlm.Queries(np.eye(4)))
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def test_the_facade_has_at_most_sixty_seven_verbs_from_sibling_mixins() -> None:
    from trustvlm.service.home.open_home import OpenHome

    names = set(dir(trustvlm.TrustService)) - set(dir(OpenHome))
    verbs = [name for name in names if not name.startswith("_")]
    assert len(verbs) <= 67, len(verbs)
    assert {mixin.__bases__ for mixin in trustvlm.TrustService.__bases__} == {(OpenHome,)}


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(trustvlm.__all__) == sorted(set(trustvlm.__all__))
    for name in trustvlm.__all__:
        value = getattr(trustvlm, name)
        if callable(value):
            assert value.__doc__, f"trustvlm.{name} has no docstring"
    assert set(dir(trustvlm)) == set(trustvlm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        trustvlm.nothing  # noqa: B018


def test_nothing_stored_or_received_is_unpickled() -> None:
    for path in FILES:
        for node in nodes(path):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "pickle"
            ):
                assert node.attr not in ("load", "loads", "Unpickler"), path
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {
                    "dill",
                    "joblib",
                    "shelve",
                    "marshal",
                }, path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
