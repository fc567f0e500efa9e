"""Searching: nearest support images, prototypes or text prototypes of a query."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.faiss_store import EXACT_ERROR
from trustvlm.index.live import IndexView
from trustvlm.index.rows import RowView
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import unit_queries
from trustvlm.service.memory.passes import nearest_rows
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types import Hits, Queries
from trustvlm.types.arrays import Float32s, Float64s, Int64s
from trustvlm.types.bounds import choice, whole

__all__ = ["KINDS", "search"]

KINDS = ("support", "prototype", "text")


def search(
    home: Home, space_name: str, queries: Queries, kind: str, k: int, revision: int | None = None
) -> Hits:
    """See :meth:`TrustService.search`."""
    choice("kind", kind, KINDS)
    k = whole("k", k, bounds="hits")
    expected = None if revision is None else whole("revision", revision)
    space = home.space(space_name)
    notes: list[str] = []
    classifier, verifier = unit_queries(home, space, queries, notes)
    with home.snapshot(space_name, expected) as (connection, view):
        if view.space.id != space.id:
            raise NotFound(
                f"space {space_name!r} was removed and made again, or re-embedded, during the call"
            )
        sources: dict[int, tuple[str, str | None]] = {}
        if kind == "text":
            ids, similarity = _text(view, classifier, int(k))
            quality = _of_rows(view.text)
        elif kind == "prototype":
            if verifier is None:
                raise InvalidInput(
                    "queries.verifier: prototypes are compared with verifier embeddings; none "
                    "were given"
                )
            if view.index is None:
                ids, similarity = nearest_rows(view.prototypes, verifier, int(k), view.kernels)
                quality = _of_rows(view.prototypes)
            else:
                ids, similarity = view.index.search(verifier.astype(np.float32), int(k))
                quality = _of_index(view.index)
        else:
            by_classifier = verifier is None
            wanted = classifier if by_classifier else verifier
            assert wanted is not None
            index = home.caches.support_view(connection, view, classifier=by_classifier)
            if by_classifier and not len(index):
                raise InvalidInput(
                    f"kind: no support image of space {space_name!r} has a stored classifier "
                    f"embedding to compare with; "
                    f"register classifier_image_vectors, or search with verifier embeddings"
                )
            ids, similarity = index.search(wanted.astype(np.float32), int(k))
            quality = _of_index(index)
            sources = supports.details(connection, np.unique(ids[ids >= 0]).tolist())
    return replace(_hits(view, kind, ids, similarity, sources), notes=tuple(notes), **quality)


def _of_index(index: IndexView) -> dict[str, Any]:
    """What an index may miss."""
    if index.exhaustive and index.max_error <= EXACT_ERROR:
        return {}
    return {"approximate": True, "error_bound": index.max_error, "recall": index.recall}


def _of_rows(rows: RowView) -> dict[str, Any]:
    """What a pass over 16-bit rows may miss: its numbers are exact."""
    return {} if rows.base is None else {"approximate": True}


def _text(view: SpaceView, classifier: Float64s | None, k: int) -> tuple[Int64s, Float32s]:
    """The k labels whose text prototypes are most similar to classifier embeddings (of images or
    texts).

    A label with further names is found by the most similar of its names, once.
    """
    if classifier is None:
        raise InvalidInput(
            "queries.classifier: text prototypes are compared with classifier embeddings; none "
            "were given"
        )
    aliases = view.aliases
    if not aliases.groups:
        return nearest_rows(view.text, classifier, k, view.kernels)
    # The first k labels are among so many names, as each of them has at most so many.
    names, similarity = nearest_rows(view.text, classifier, k * aliases.largest, view.kernels)
    labels = aliases.of(names)
    found = np.full((len(labels), min(k, labels.shape[1])), -1, dtype=np.int64)
    nearest = np.full(found.shape, -np.inf, dtype=np.float32)
    for row, ids in enumerate(labels):
        places = np.sort(np.unique(ids, return_index=True)[1])
        places = places[ids[places] >= 0][: found.shape[1]]
        found[row, : len(places)], nearest[row, : len(places)] = (
            ids[places],
            similarity[row, places],
        )
    return found, nearest


def _hits(
    view: SpaceView,
    kind: str,
    ids: Int64s,
    similarity: Float32s,
    details: dict[int, tuple[str, str | None]],
) -> Hits:
    labels = np.full(ids.shape, None, dtype=object)
    sources = np.full(ids.shape, None, dtype=object)
    if kind != "support" and ids.size:
        slots = view.text.slots(np.maximum(ids, 0).ravel()).reshape(ids.shape)
        for at in np.argwhere(ids >= 0).tolist():
            labels[*at] = view.names[slots[*at]]
    for at in np.argwhere(ids >= 0).tolist() if kind == "support" else []:
        labels[*at], sources[*at] = details[int(ids[*at])]
    return Hits(kind, ids, similarity.astype(np.float64), labels, sources, view.revision)
