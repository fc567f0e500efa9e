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
from trustvlm.reading.claims import no_claims
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import ImageQueries, encoded, unit_queries
from trustvlm.service.memory.passes import nearest_rows
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types import Hits, Queries
from trustvlm.types.arrays import Float32s, Floats, Int64s
from trustvlm.types.bounds import choice, whole
from trustvlm.types.options import KINDS, ON_ERROR

__all__ = ["KINDS", "search"]

MOST_KEPT = 10_000
"""Support images of a space that a process remembers label and source of."""


def search(
    home: Home,
    space_name: str,
    queries: Queries,
    kind: str,
    k: int,
    revision: int | None = None,
    on_error: str = "raise",
) -> Hits:
    """See :meth:`TrustService.search`."""
    no_claims(getattr(queries, "claimed", None), "search")
    choice("on_error", on_error, ON_ERROR)
    choice("kind", kind, KINDS)
    k = int(whole("k", k, bounds="hits"))
    expected = None if revision is None else whole("revision", revision)
    given: tuple[int, tuple[Floats | None, Floats | None]] | None = None
    images: ImageQueries | None = None
    if not isinstance(queries, Queries) or queries.images is not None or queries.text is not None:
        space = home.space(space_name)  # encoded outside of the transaction, as it may take long
        vectors, images = encoded(home, space, queries, on_error)
        given = space.id, unit_queries(home, space, vectors)

    def hits(reading: Reading) -> Hits:
        space = reading.view.space
        space_id, unit = given or (space.id, unit_queries(home, space, queries))
        if space.id != space_id:
            raise NotFound(
                f"space {space_name!r} was removed and made again, or re-embedded, during the call"
            )
        return _hits_of(home, reading, kind, k, *unit)

    answer = home.answer(space_name, hits, expected)
    if images is None:
        return answer
    return replace(answer, notes=images.notes, failures=images.failures)


def _hits_of(
    home: Home,
    reading: Reading,
    kind: str,
    k: int,
    classifier: Floats | None,
    verifier: Floats | None,
) -> Hits:
    """The hits of unit queries."""
    view, sources = reading.view, dict[int, tuple[str, str | None]]()
    if kind == "text":
        ids, similarity = _nearest_labels(view, classifier, k)
        quality = _quality(view.text)
    elif kind == "prototype":
        if verifier is None:
            raise InvalidInput(
                "queries.verifier: prototypes are compared with verifier embeddings; none were "
                "given"
            )
        if view.index is None:
            ids, similarity = nearest_rows(view.prototypes, verifier, k, view.device)
        else:
            ids, similarity = view.index.search(verifier.astype(np.float32), k)
        quality = _quality(view.prototypes if view.index is None else view.index)
    else:
        by_classifier = verifier is None
        vectors = classifier if by_classifier else verifier
        assert vectors is not None
        index = home.caches.support_view(reading, classifier=by_classifier)
        if by_classifier and not len(index):
            raise InvalidInput(
                f"kind: no support image of space {view.space.name!r} has a stored classifier "
                f"embedding to compare with; "
                f"register classifier_image_vectors, or search with verifier embeddings"
            )
        ids, similarity = index.search(vectors.astype(np.float32), k)
        quality = _quality(index)
        sources = _details(reading, np.unique(ids[ids >= 0]).tolist())
    return replace(_hits(view, kind, ids, similarity, sources), **quality)


def _details(reading: Reading, ids: list[int]) -> dict[int, tuple[str, str | None]]:
    """id → (label, source) of support images; those of earlier hits are in memory."""
    kept: dict[int, tuple[str, str | None]] = reading.once("details", dict)
    details = {number: kept[number] for number in ids if number in kept}
    if missing := [number for number in ids if number not in details]:
        read = supports.details(reading.connection, missing)
        details |= read
        if len(kept) + len(read) <= MOST_KEPT:
            kept |= read
    return details


def _quality(searched: IndexView | RowView) -> dict[str, Any]:
    """What a search may miss. The numbers of a pass over 16-bit rows are exact."""
    if isinstance(searched, RowView):
        return {} if searched.base is None else {"approximate": True}
    if searched.exhaustive and searched.max_error <= EXACT_ERROR:
        return {}
    return {"approximate": True, "error_bound": searched.max_error, "recall": searched.recall}


def _nearest_labels(view: SpaceView, classifier: Floats | None, k: int) -> tuple[Int64s, Float32s]:
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
    names, similarity = nearest_rows(view.text, classifier, most, view.device)
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
    labels, sources = (np.empty(ids.shape, dtype=object) for _ in range(2))
    if kind == "support":
        some = dict[int, tuple[str | None, str | None]](details) | {-1: (None, None)}
        pairs = [some[number] for number in ids.ravel().tolist()]
        labels.ravel()[:] = [label for label, _ in pairs]
        sources.ravel()[:] = [source for _, source in pairs]
    else:
        slots = np.where(ids.ravel() < 0, -1, view.text.slots(np.maximum(ids, 0).ravel()))
        labels.ravel()[:] = view.names.of(slots)
    return Hits(kind, ids, similarity.astype(np.float64), labels, sources, view.revision)
