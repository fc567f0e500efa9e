"""Vectors in memory: exact row tables, live FAISS indexes, and the snapshot files that both are
started from.

``rows`` holds growable float32 rows, ``recipe`` reads the recipes of ``indexes/``, ``live`` keeps a
FAISS index of any recipe on CPU or GPU, ``snapshot`` writes and reads checked files of arrays.
Nothing here is the truth: everything can be rebuilt from the catalog. Importing this package does
not import faiss.
"""

from __future__ import annotations

from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recipe import Recipe, list_recipes, load_recipe, read_recipe
from trustvlm.index.rows import RowBase, RowTable, RowView
from trustvlm.index.snapshot import (
    Snapshot,
    SnapshotKey,
    SnapshotWriter,
    map_snapshot,
    read_snapshot,
    write_snapshot,
)
from trustvlm.index.string_table import NameTable, pack_strings, unpack_strings

__all__ = [
    "IndexView",
    "LiveIndex",
    "NameTable",
    "Recipe",
    "RowBase",
    "RowTable",
    "RowView",
    "Snapshot",
    "SnapshotKey",
    "SnapshotWriter",
    "list_recipes",
    "load_recipe",
    "map_snapshot",
    "pack_strings",
    "read_recipe",
    "read_snapshot",
    "unpack_strings",
    "write_snapshot",
]
