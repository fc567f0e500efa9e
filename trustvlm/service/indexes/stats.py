"""What the indexes of a space are made of, and building them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trustvlm.catalog.rows import spaces
from trustvlm.index.recipe import load_recipe
from trustvlm.service.home.home import Home
from trustvlm.system.fault_points import reached
from trustvlm.types.json_form import Answer


@dataclass(frozen=True)
class IndexStats(Answer):
    """The state of a space's index in this process and on disk.

    Attributes:
        recipe: its name. exact: whether its searches return exact similarities. device: where it
            was asked to live. on_cpu: why an index is searched on the CPU although that is a GPU,
            by "prototype" and "support"; empty where each is on it.
        search: parameters that were tuned, by "prototype" and "support". recall: share of the 10
            nearest that is found with them, or with the recipe's, for rows that the index did not
            hold; only of indexes that do not compare every row.
        labels, prototypes: live rows. dead: prototype rows waiting for a compaction.
        revision: of the space. bytes: of the rows that passes read.
        snapshot: the snapshot file, None when there is none. snapshot_bytes: its size.
    """

    recipe: str
    exact: bool
    search: Mapping[str, Mapping[str, float]] = field(hash=False)
    recall: Mapping[str, float] = field(hash=False)
    device: str
    on_cpu: Mapping[str, str] = field(hash=False)
    labels: int
    prototypes: int
    dead: int
    revision: int
    bytes: int
    snapshot: str | None
    snapshot_bytes: int


def index_stats(home: Home, space_name: str) -> IndexStats:
    """See :meth:`TrustService.index_stats`."""
    with home.snapshot(space_name) as reading:
        view = reading.view
        text, prototypes = view.text, view.prototypes
        indexes = {"prototype": view.index}
        if not view.recipe.exhaustive:
            indexes["support"] = home.caches.supports.view(reading, classifier=False)
    present = {kind: index for kind, index in indexes.items() if index is not None}
    recall = {
        kind: index.recall
        for kind, index in present.items()
        if not index.exhaustive and index.recall is not None
    }
    path, recipe = home.caches.path(view.space.id), view.recipe
    return IndexStats(
        recipe=recipe.name,
        exact=recipe.exact,
        search={
            k: {name: v for name, v in of.items() if name != "recall"}
            for k, of in view.space.search.items()
        },
        recall=recall,
        device=home.caches.device,
        on_cpu={kind: index.on_cpu for kind, index in present.items() if index.on_cpu},
        labels=text.live,
        prototypes=prototypes.live,
        dead=prototypes.n - prototypes.live,
        revision=view.revision,
        bytes=text.nbytes + prototypes.nbytes,
        snapshot=str(path) if path.is_file() else None,
        snapshot_bytes=path.stat().st_size if path.is_file() else 0,
    )


def rebuild_index(home: Home, space_name: str, recipe: str | None) -> IndexStats:
    """See :meth:`TrustService.rebuild_index`."""
    with home.read(space_name) as (connection, space):
        if recipe is not None:
            space = replace(space, recipe=load_recipe(recipe).name)
        home.caches.rebuild(connection, space, home.catalog.epoch(connection))
    reached("rebuild.written")
    with home.catalog.write("space.recipe") as connection:
        spaces.set_recipe(connection, space.id, space.recipe)
    home.caches.forget(space_name)
    return index_stats(home, space_name)
