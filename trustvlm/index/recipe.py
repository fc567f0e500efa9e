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

__all__ = ["FLAT", "TRAINING", "Recipe", "list_recipes", "load_recipe", "read_recipe"]

FLAT = "Flat"
"""The factory of the exact index that a recipe with a [training] table begins with."""

TRAINING = ("from_rows", "lists_per_root", "rows_per_list")
"""Keys of [training]: below `from_rows` rows the index is an exact one; from there on it is what
`factory` says, with `lists_per_root` · √rows lists, trained on `rows_per_list` rows for each."""

RETRAIN = (
    2.0  # lists wanted, over lists there, from which on it is trained anew: four times the rows
)

Value = int | float | str
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
        """Whether an index with so many lists (0: an exact one) should be another one for so many
        rows."""
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
    paths = {
        path.stem: path for path in _files()
    }  # looked up, not joined: a name cannot leave the folder
    if name not in paths:
        raise NotFound(f"no recipe {name!r}; there are: {', '.join(paths)}")
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
    source = _Source(path, content)
    recipe = Recipe(
        name=path.stem,
        description=source.text("description"),
        factory=source.text("factory"),
        exact=source.flag("exact"),
        max_error=source.number("max_error"),
        bytes_per_value=source.number("bytes_per_value"),
        **{name: source.table(name, kinds) for name, kinds in _TABLES.items()},
    )
    source.refuse_rest()
    unknown = sorted(recipe.training.keys() - set(TRAINING))
    if unknown:
        raise InvalidInput(
            f"{path}: key 'training.{unknown[0]}': expected one of {', '.join(TRAINING)}"
        )
    if ("{lists}" in recipe.factory) != ("lists_per_root" in recipe.training) or (
        recipe.training
        and not {"from_rows", "rows_per_list"}
        >= recipe.training.keys() - {"lists_per_root"}
        >= {"from_rows"}
    ):
        raise InvalidInput(
            f"{path}: {{lists}} in the factory goes with training.lists_per_root, and training "
            f"with from_rows"
        )
    return recipe


def _files() -> list[Path]:
    return sorted(resources.folder("indexes").glob("*.toml"), key=lambda path: path.stem)


class _Source:
    """Takes the keys of one file one by one, each with its check."""

    def __init__(self, path: Path, content: dict[str, object]) -> None:
        self._path = path
        self._content = dict(content)

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(key, "a non-empty string", value)
        return value.strip()

    def flag(self, key: str) -> bool:
        value = self._take(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def number(self, key: str) -> float:
        value = self._take(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (math.isfinite(value) and value >= 0)
        ):
            raise self._wrong(key, "a finite number ≥ 0", value)
        return float(value)

    def table(self, key: str, kinds: tuple[type, ...]) -> dict[str, Any]:
        table: object = self._content.pop(key, {})
        if not isinstance(table, dict):
            raise self._wrong(key, "a table", table)
        for name, value in table.items():
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise self._wrong(
                    f"{key}.{name}", " or ".join(kind.__name__ for kind in kinds), value
                )
        return table

    def refuse_rest(self) -> None:
        if self._content:
            raise InvalidInput(
                f"{self._path}: unknown key {', '.join(map(repr, sorted(self._content)))}"
            )

    def _take(self, key: str) -> object:
        if key not in self._content:
            raise InvalidInput(f"{self._path}: key {key!r} is missing")
        return self._content.pop(key)

    def _wrong(self, key: str, expected: str, value: object) -> InvalidInput:
        return InvalidInput(f"{self._path}: key {key!r}: expected {expected}, got {value!r}")
