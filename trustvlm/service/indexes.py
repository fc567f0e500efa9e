"""What the indexes of a space are made of, and building them anew."""

from __future__ import annotations

from dataclasses import dataclass

from trustvlm.service.parts import Parts
from trustvlm.service.spaces import set_recipe

__all__ = ["IndexStats", "index_stats", "rebuild_index"]


@dataclass(frozen=True)
class IndexStats:
    """The state of a space's index in this process and on disk.

    Attributes:
        recipe: its name. exact: whether its searches return exact similarities. device: where it was asked to live.
        labels, prototypes: live rows. dead: prototype rows waiting for a compaction.
        revision: of the space. bytes: of the rows that passes read.
        snapshot: the snapshot file, None when there is none. snapshot_bytes: its size.
    """

    recipe: str
    exact: bool
    device: str
    labels: int
    prototypes: int
    dead: int
    revision: int
    bytes: int
    snapshot: str | None
    snapshot_bytes: int


def index_stats(parts: Parts, space_name: str) -> IndexStats:
    """See :meth:`TrustService.index_stats`."""
    with parts.snapshot(space_name) as (_, view):
        text, prototypes = view.text, view.prototypes
    path = parts.caches.path(view.space.id)
    recipe = view.cache.recipe
    return IndexStats(
        recipe=recipe.name,
        exact=recipe.exact,
        device=parts.caches.device,
        labels=text.live,
        prototypes=prototypes.live,
        dead=prototypes.n - prototypes.live,
        revision=view.revision,
        bytes=text.nbytes + prototypes.nbytes,
        snapshot=str(path) if path.is_file() else None,
        snapshot_bytes=path.stat().st_size if path.is_file() else 0,
    )


def rebuild_index(parts: Parts, space_name: str, recipe: str | None) -> IndexStats:
    """See :meth:`TrustService.rebuild_index`."""
    if recipe is not None:
        set_recipe(parts, parts.space(space_name), recipe)
    parts.caches.forget(space_name)
    space = parts.space(space_name)
    parts.caches.path(space.id).unlink(missing_ok=True)
    with parts.snapshot(space_name) as (_, view):
        pass
    if not parts.caches.path(space.id).exists():  # a large space starts with one
        parts.caches.write(view)
    return index_stats(parts, space_name)
