"""The catalog: the only truth, and the only package with SQL.

Label spaces, labels, support images and their float32 embeddings live here; indexes and matrices
elsewhere are derived. One transaction is the commit point of every change to a space and raises the
space's revision by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trustvlm.catalog.catalog import Catalog

__all__ = ["Catalog"]


def __getattr__(name: str) -> Any:
    """Import Catalog when it is first used: comparing names needs no database."""
    if name != "Catalog":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trustvlm.catalog.catalog import Catalog

    return Catalog
