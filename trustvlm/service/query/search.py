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
from trustvlm.types.options import KINDS

__all__ = ["KINDS", "search"]


def search(
    home: Home, space_name: str, queries: Queries, kind: str, k: int, revision: int | None = None
) -> Hits:
    """See :meth:`TrustService.search`."""
    choice("kind", kind, KINDS)
    k = int(whole("k", k, bounds="hits"))
    expected = None if revision is None else whole("revision", revision)
    space, notes = home.space(space_name), list[str]()
    classifier, verifier = unit_queries(home, space, queries, notes)
    with home.snapshot(space_name, expected) as (connection, view):
        if view.space.id != space.id:
            raise NotFound(
                f"space {space_name!r} was removed and made again, or re-embedded, during the call"
            )
        sources: dict[int, tuple[str, str | None]] = {}
        if kind == "text":
            ids, similarity = _nearest_labels(view, classifier, k)
            quality = _quality(view.text)
        elif kind == "prototype":
            if verifier is None:
                raise InvalidInput(
                    "queries.verifier: prototypes are compared with verifier embeddings; none "
                    "were given"
                )
            if view.index is None:
                ids, similarity = nearest_rows(view.prototypes, verifier, k, view.kernels)
            else:
                ids, similarity = view.index.search(verifier.astype(np.float32), k)
            quality = _quality(view.prototypes if view.index is None else view.index)
        else:
            by_classifier = verifier is None
            vectors = classifier if by_classifier else verifier
            assert vectors is not None
            index = home.caches.support_view(connection, view, classifier=by_classifier)
            if by_classifier and not len(index):
                raise InvalidInput(
                    f"kind: no support image of space {space_name!r} has a stored classifier "
                    f"embedding to compare with; "
                    f"register classifier_image_vectors, or search with verifier embeddings"
                )
            ids, similarity = index.search(vectors.astype(np.float32), k)
            quality = _quality(index)
            sources = supports.details(connection, np.unique(ids[ids >= 0]).tolist())
    return replace(_hits(view, kind, ids, similarity, sources), notes=tuple(notes), **quality)


def _quality(searched: IndexView | RowView) -> dict[str, Any]:
    """What a search may miss. The numbers of a pass over 16-bit rows are exact."""
    if isinstance(searched, RowView):
        return {} if searched.base is None else {"approximate": True}
    if searched.exhaustive and searched.max_error <= EXACT_ERROR:
        return {}
    return {"approximate": True, "error_bound": searched.max_error, "recall": searched.recall}


def _nearest_labels(
    view: SpaceView, classifier: Float64s | None, k: int
) -> tuple[Int64s, Float32s]:
    """The k labels whose text prototypes are most similar to classifier embeddings (of images or
    texts).

    A label with further names is listed once, by the most similar of its names.
    """
    if classifier is None:
        raise InvalidInput(
            "queries.classifier: text prototypes are compared with classifier embeddings; none "
            "were given"
        )
    # The first k labels are among this many names, as each label has at most `largest`.
    most = k * view.aliases.largest
    names, similarity = nearest_rows(view.text, classifier, most, view.kernels)
    if not view.aliases.groups:
        return names, similarity
    labels = view.aliases.of(names)
    ids = np.full((len(labels), k), -1, dtype=np.int64)
    nearest = np.full(ids.shape, -np.inf, dtype=np.float32)
    for row, named in enumerate(labels):
        places = np.sort(np.unique(named, return_index=True)[1])
        places = places[named[places] >= 0][:k]
        ids[row, : len(places)] = named[places]
        nearest[row, : len(places)] = similarity[row, places]
    return ids, nearest


def _hits(
    view: SpaceView,
    kind: str,
    ids: Int64s,
    similarity: Float32s,
    details: dict[int, tuple[str, str | None]],
) -> Hits:
    labels, sources = (np.full(ids.shape, None, dtype=object) for _ in range(2))
    places = np.argwhere(ids >= 0).tolist()
    if kind == "support":
        for at in places:
            labels[*at], sources[*at] = details[int(ids[*at])]
    elif places:
        slots = view.text.slots(np.maximum(ids, 0).ravel()).reshape(ids.shape)
        for at in places:
            labels[*at] = view.names[slots[*at]]
    return Hits(kind, ids, similarity.astype(np.float64), labels, sources, view.revision)
