"""The house stays the house: layers, file sizes, light imports, one list of public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trustvlm

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "trustvlm"
MAX_LINES = 400

# A module imports only from rows below its own (its own folder aside); rooms of one row never import each other.
ROWS = [
    {
        "types",
        "arrays",
        "bounds",
        "errors",
        "resources",
        "outcomes",
        "processes",
        "promise",
        "damage",
        "faults",
        "folders",
        "leaving",
        "registration",
        "remarks",
        "stages",
        "stopping",
        "tables",
    },
    {"scoring", "selective", "reading"},
    {"encoders", "index", "catalog"},
    {"service"},
    {"settings", "testing"},
    {"http", "client", "demo"},
    {
        "cli"
    },  # above the others of DESIGN's top row: `trustvlm demo` and `trustvlm serve` start them
]
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
SAME_ROW = {
    ("types", "errors"),
    ("types", "remarks"),
    ("resources", "errors"),
    ("outcomes", "types"),
    ("bounds", "errors"),
}
SAME_ROW |= {
    ("processes", "errors"),
    ("processes", "types"),
    ("arrays", "errors"),
    ("types", "arrays"),
    ("promise", "types"),
}
SAME_ROW |= {("types", "registration")}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every trustvlm module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_only_from_lower_rows(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":  # hands names on, lazily
        return
    assert room in ROW_OF, f"{room} has no place in the house (DESIGN §1)"
    for module in imports(path):
        other = module.partition(".")[2].partition(".")[0]
        if other == room:
            continue
        if (
            other not in ROW_OF
        ):  # `import trustvlm`, or a public name of it: for those who use the library as anybody would
            assert ROW_OF[room] >= ROW_OF["demo"], (
                f"{path.name} imports {module} from below the top rows"
            )
            assert not other or other in trustvlm.__all__, f"{path.name} imports {module}"
            continue
        allowed = ROW_OF[other] < ROW_OF[room] or (room, other) in SAME_ROW
        assert allowed, f"{path.relative_to(ROOT)} ({room}) imports {module} ({other})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_breath(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES


def test_only_the_catalog_speaks_sql() -> None:
    allowed = {"catalog", "settings.py"}  # settings parses the database URL
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(trustvlm.__all__) == sorted(set(trustvlm.__all__))
    for name in trustvlm.__all__:
        value = getattr(trustvlm, name)
        if callable(value):
            assert value.__doc__, f"trustvlm.{name} has no docstring"
    assert set(dir(trustvlm)) == set(trustvlm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        trustvlm.nothing


def test_nothing_stored_or_received_is_unpickled() -> None:
    for path in FILES:
        if path.relative_to(PACKAGE) == Path("encoders/prepare.py"):
            continue  # a process and its own child, over a private pipe: what multiprocessing does
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
