"""Index recipes: one TOML file of ``indexes/`` each, found by name.

A recipe says how faiss builds an index and what may be expected of it; adding one needs a file and
no code. Keys: ``description``, ``factory`` (a faiss ``index_factory`` string, with ``{lists}``
where the number of lists goes), ``exact``, ``max_error``, ``bytes_per_value``, and the optional
tables ``[search]`` (faiss parameters, such as ``nprobe`` or ``efSearch``), ``[training]`` (see
:data:`TRAINING`) and ``[measured]`` (recall, ms, build time and where they were measured). Any
other key is refused, so that a misspelt one cannot be silently without effect.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.system import resources
from trustvlm.types.messages.meant import did_you_mean

FLAT = "Flat"
"""The factory of the exact index that a recipe with a [training] table begins with."""

TRAINING = ("from_rows", "lists_per_root", "rows_per_list")
"""Keys of [training]: below `from_rows` rows the index is an exact one; from there on it is what
`factory` says, with `lists_per_root` · √rows lists, trained on `rows_per_list` rows for each."""

RETRAIN = 2.0
"""Factor of the number of lists from which an index is trained again: four times the rows."""

Value = int | float | str
_KEYS = {
    "description": str,
    "factory": str,
    "exact": bool,
    "max_error": float,
    "bytes_per_value": float,
}
_TABLES: dict[str, tuple[type, ...]] = {
    "search": (int, float),
    "training": (int, float),
    "measured": (int, float, str),
}


@dataclass(frozen=True)
class Recipe:
    """How an index is built, and what it promises.

    Attributes:
        name: the file's name without ``.toml``.
        description: one sentence for the person who chooses.
        factory: faiss ``index_factory`` string; the metric is always the inner product of unit
            vectors.
        exact: every live vector is compared, in float32.
        max_error: largest error of a returned similarity, against float32 unit vectors.
        bytes_per_value: bytes a stored vector takes, divided by its dimension.
        search: faiss search parameters set on the index.
        training: when and on how many rows to train; empty when the index is as `factory` says from
            the first row on.
        measured: figures and where they were taken.
    """

    name: str
    description: str
    factory: str
    exact: bool
    max_error: float
    bytes_per_value: float
    search: Mapping[str, float] = field(default_factory=dict, hash=False)
    training: Mapping[str, float] = field(default_factory=dict, hash=False)
    measured: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @property
    def exhaustive(self) -> bool:
        """Whether the index that `factory` names compares every row; else some of the nearest may
        be missed."""
        return not any(kind in self.factory for kind in ("IVF", "HNSW", "NSG"))

    def lists(self, rows: int) -> int:
        """How many lists an index of `rows` rows has; 0 while it is an exact one."""
        if not self.training or rows < self.training["from_rows"]:
            return 0
        return max(1, round(self.training.get("lists_per_root", 0) * math.sqrt(rows)))

    def outgrown(self, lists: int, rows: int) -> bool:
        """Whether an index with this many lists (0: an exact one) should be another one for this
        many rows."""
        wanted = self.lists(rows)
        return wanted > 0 and (lists == 0 or wanted >= RETRAIN * lists)

    @property
    def params(self) -> dict[str, dict[str, Value]]:
        """The optional tables that are not empty, as plain dicts."""
        tables = {name: dict(getattr(self, name)) for name in _TABLES}
        return {name: table for name, table in tables.items() if table}


def load_recipe(name: str) -> Recipe:
    """The recipe `name`.

    Raises:
        NotFound: there is none; the message names those there are.
        InvalidInput: its file is malformed; the message names the file and the key.
    """
    # Looked up, not joined: a name cannot leave the folder.
    paths = {path.stem: path for path in _files()}
    if name not in paths:
        meant = did_you_mean(name, paths)
        raise NotFound(f"no recipe {name!r}; there are: {', '.join(paths)}{meant}")
    return read_recipe(paths[name])


def list_recipes() -> list[Recipe]:
    """All recipes, by name.

    Raises:
        InvalidInput: a file is malformed; the message names the file and the key.
    """
    return [read_recipe(path) for path in _files()]


def read_recipe(path: Path) -> Recipe:
    """The recipe in the file `path`, under the file's name.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is malformed; the message names the file and the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no recipe file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not valid TOML: {error}") from error
    values: dict[str, Any] = {key: _value(path, key, kind, content) for key, kind in _KEYS.items()}
    tables: dict[str, Any] = {
        name: _table(path, name, kinds, content) for name, kinds in _TABLES.items()
    }
    if others := sorted(content.keys() - values.keys() - tables.keys()):
        raise InvalidInput(f"{path}: unknown key {', '.join(map(repr, others))}")
    recipe = Recipe(name=path.stem, **values, **tables)
    unknown = sorted(recipe.training.keys() - set(TRAINING))
    if unknown:
        raise InvalidInput(
            f"{path}: key 'training.{unknown[0]}': expected one of {', '.join(TRAINING)}"
        )
    with_lists, training = "lists_per_root" in recipe.training, recipe.training
    if ("{lists}" in recipe.factory) != with_lists or (training and "from_rows" not in training):
        raise InvalidInput(
            f"{path}: {{lists}} in the factory goes with training.lists_per_root, and training "
            f"with from_rows"
        )
    return recipe


def _files() -> list[Path]:
    return sorted(resources.folder("indexes").glob("*.toml"), key=lambda path: path.stem)


def _value(path: Path, key: str, kind: type, content: Mapping[str, object]) -> Any:
    """The value of a required key."""
    if key not in content:
        raise InvalidInput(f"{path}: key {key!r} is missing")
    value, expected = content[key], "a non-empty string"
    if kind is str and isinstance(value, str) and value.strip():
        return value.strip()
    if kind is bool:
        expected = "true or false"
        if isinstance(value, bool):
            return value
    elif kind is float:
        expected = "a finite number ≥ 0"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and value >= 0:  # type: ignore[arg-type, operator]
            return float(value)  # type: ignore[arg-type]
    raise InvalidInput(f"{path}: key {key!r}: expected {expected}, got {value!r}")


def _table(
    path: Path, key: str, kinds: tuple[type, ...], content: Mapping[str, object]
) -> dict[str, Any]:
    """An optional table of values of these kinds."""
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise InvalidInput(f"{path}: key {key!r}: expected a table, got {table!r}")
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise InvalidInput(f"{path}: key '{key}.{name}': expected {expected}, got {value!r}")
    return table
