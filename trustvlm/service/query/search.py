"""Searching: nearest support images, prototypes or text prototypes of a query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.attributes import rows as attributes
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.faiss_store import EXACT_ERROR
from trustvlm.index.live import IndexView
from trustvlm.index.rows import RowView
from trustvlm.reading.claims import no_claims, no_sources
from trustvlm.reading.outputs.probabilities import no_probabilities
from trustvlm.scoring.vectors import as_unit
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import ImageQueries, encoded, query_vectors
from trustvlm.service.inputs.outputs import is_external, no_text_search
from trustvlm.service.memory.attribute_columns import described
from trustvlm.service.memory.label_subset import Subset, prototypes_among, subset_of, supports_among
from trustvlm.service.memory.passes import nearest_rows
from trustvlm.service.memory.space_cache import Reading, SpaceView
from trustvlm.service.query.like.stored import like_of, require_few, stored_queries, vectors_of_hits
from trustvlm.types import Hits, Queries
from trustvlm.types.arrays import Bools, Float32s, Floats, Int64s, Objects
from trustvlm.types.attributes.filters import Filter, as_filter
from trustvlm.types.attributes.values import attributes_of
from trustvlm.types.bounds import choice, flags, number, whole
from trustvlm.types.options import KINDS, ON_ERROR

Details = dict[int, tuple[str | None, str | None, str | None]]
_ROUNDING = 1e-6
"""What a similarity may lack of the smallest that is requested: that of equals may be 0.9999999."""
MOST_KEPT = 10_000
"""Support images of a space that a process remembers label and source of."""


def search(
    home: Home,
    space_name: str,
    queries: Queries,
    kind: str,
    k: int,
    filter: Any,
    revision: int | None,
    on_error: str,
    *,
    min_similarity: float | None,
    vectors: bool,
) -> Hits:
    """See :meth:`TrustService.search`."""
    no_claims(getattr(queries, "claimed", None), "search")
    no_sources(queries, "search")
    if isinstance(queries, Queries):
        no_probabilities(queries, "search")
    choice("on_error", on_error, ON_ERROR)
    choice("kind", kind, KINDS)
    k = int(whole("k", k, bounds="hits"))
    expected = None if revision is None else whole("revision", revision)
    chosen = None if filter is None else as_filter(filter)
    flags(vectors=vectors)
    least = None if min_similarity is None else number("min_similarity", min_similarity)
    wanted = Wanted(kind, k, chosen, least, vectors)
    if isinstance(queries, Queries) and (like := like_of(queries)) is not None:
        return home.answer(
            space_name, lambda reading: _like(home, reading, wanted, *like), expected
        )
    given: tuple[int, tuple[Floats | None, Floats | None]] | None = None
    images: ImageQueries | None = None
    if not isinstance(queries, Queries) or queries.images is not None or queries.text is not None:
        space = home.space(space_name)  # encoded outside of the transaction, as it may take long
        embedded, images = encoded(home, space, queries, on_error)
        given = space.id, query_vectors(home, space, embedded, as_unit)

    def hits(reading: Reading) -> Hits:
        space = reading.view.space
        space_id, unit = given or (space.id, query_vectors(home, space, queries, as_unit))
        if space.id != space_id:
            raise NotFound(
                f"space {space_name!r} was removed and made again, or re-embedded, during the call"
            )
        return _hits_of(home, reading, wanted, *unit)

    answer = home.answer(space_name, hits, expected)
    if images is None:
        return answer
    return replace(answer, notes=images.notes, failures=images.failures)


@dataclass(frozen=True)
class Wanted:
    """What a search is for: `least` is the smallest similarity of a hit; `vectors`: with each hit
    its vector."""

    kind: str
    k: int
    chosen: Filter | None
    least: float | None
    vectors: bool


def _like(
    home: Home, reading: Reading, wanted: Wanted, ids: list[int] | None, names: list[str] | None
) -> Hits:
    """The hits of stored rows, without these rows themselves."""
    like = stored_queries(reading, ids, names, wanted.kind)
    return _hits_of(home, reading, wanted, like.classifier, like.verifier, like.themselves)


def _hits_of(
    home: Home,
    reading: Reading,
    wanted: Wanted,
    classifier: Floats | None,
    verifier: Floats | None,
    themselves: Int64s | None = None,
) -> Hits:
    """The hits of n unit queries; `themselves`: (n,) ids that are no hits of their queries, −1:
    none."""
    view, kind, k = reading.view, wanted.kind, wanted.k
    by_classifier = verifier is None
    by_text = kind == "text" or by_classifier
    if is_external(view.space) and by_text:
        raise no_text_search(view.space)
    if wanted.vectors:
        count = len(cast(Floats, classifier if verifier is None else verifier))
        dim = view.space.classifier_dim if by_text else view.space.verifier_dim
        require_few(count, k, dim)
    if themselves is None:
        ids, similarity, quality = _nearest(home, reading, wanted, classifier, verifier, k)
    else:
        ids, similarity, quality = _nearest(home, reading, wanted, classifier, verifier, k + 1)
        ids, similarity = _without(ids, similarity, themselves)
    if wanted.least is not None:
        below = similarity < wanted.least - _ROUNDING
        ids, similarity = np.where(below, -1, ids), np.where(below, np.float32(-np.inf), similarity)
    if wanted.vectors:
        quality["vectors"] = vectors_of_hits(reading, kind, ids, by_classifier=by_classifier)
    details = _details(reading, kind, np.unique(ids[ids >= 0]).tolist())
    return replace(_hits(view, kind, ids, similarity, details), **quality)


def _nearest(
    home: Home,
    reading: Reading,
    wanted: Wanted,
    classifier: Floats | None,
    verifier: Floats | None,
    k: int,
) -> tuple[Int64s, Float32s, dict[str, Any]]:
    """(n, k) ids and similarities of the nearest rows of the wanted kind, and what was missed."""
    view, chosen = reading.view, wanted.chosen
    if wanted.kind == "text":
        mask = None if chosen is None else _labels_among(reading, chosen).text
        return *_nearest_labels(view, classifier, k, mask), _quality(view.text)
    if wanted.kind == "prototype":
        if verifier is None:
            raise InvalidInput(
                "queries.verifier: prototypes are compared with verifier embeddings; none were "
                "given"
            )
        mask = None if chosen is None else _labels_among(reading, chosen).prototypes
        if view.index is None:
            nearest = nearest_rows(view.prototypes, verifier, k, view.device, mask)
            return *nearest, _quality(view.prototypes)
        index = view.index if mask is None else prototypes_among(view, view.index, mask)
        return *index.search(verifier.astype(np.float32), k), _quality(view.index)
    by_classifier = verifier is None
    compared = cast(Floats, classifier if by_classifier else verifier)
    index = home.caches.supports.view(reading, classifier=by_classifier)
    if by_classifier and not len(index):
        raise InvalidInput(
            f"kind: no support image of space {view.space.name!r} has a stored classifier "
            f"embedding to compare with; register classifier_image_vectors, or search with "
            f"verifier embeddings"
        )
    if chosen is not None:
        index = supports_among(reading, index, chosen)
    return *index.search(compared.astype(np.float32), k), _quality(index)


def _without(ids: Int64s, similarity: Float32s, themselves: Int64s) -> tuple[Int64s, Float32s]:
    """The hits (n, k + 1) without the one of this id, or without the last one."""
    order = np.argsort((ids == themselves[:, None]) & (ids >= 0), axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarity, order, axis=1)


def _labels_among(reading: Reading, chosen: Filter) -> Subset:
    """The labels that a filter keeps; none of them is no error."""
    view = reading.view
    try:
        return subset_of(reading, chosen)
    except InvalidInput:
        none = np.zeros(view.text.n, np.bool_), np.zeros(view.prototypes.n, np.bool_)
        return Subset(*none, 0, 0, 0)


def _details(reading: Reading, kind: str, ids: list[int]) -> Details:
    """id → (label, source, attributes) of support images, or (None, None, attributes) of labels;
    those of earlier hits are in memory."""
    if kind != "support" and not described(reading, attributes.LABELS):
        return {}
    kept: Details = reading.once("details" if kind == "support" else "label details", dict)
    details = {number: kept[number] for number in ids if number in kept}
    if missing := [number for number in ids if number not in details]:
        read: Details
        if kind == "support":
            read = dict(supports.details(reading.connection, missing))
        else:
            texts = attributes.contents(reading.connection, attributes.LABELS, missing)
            read = {number: (None, None, texts.get(number)) for number in missing}
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


def _nearest_labels(
    view: SpaceView, classifier: Floats | None, k: int, mask: Bools | None
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
    names, similarity = nearest_rows(view.text, classifier, most, view.device, mask)
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


def _hits(view: SpaceView, kind: str, ids: Int64s, similarity: Float32s, details: Details) -> Hits:
    different, places = np.unique(ids, return_inverse=True)
    numbers = different.tolist()
    rows = [details.get(number, (None, None, None)) for number in numbers]

    def spread(values: Iterable[Any]) -> Objects:
        """A value of each different row at every place of the row."""
        column = np.empty(len(numbers), dtype=object)
        column[:] = list(values)
        return column[places].reshape(ids.shape)

    described = spread(
        None if number < 0 else attributes_of(text)
        for number, (_, _, text) in zip(numbers, rows, strict=True)
    )
    if kind == "support":
        labels = spread(label for label, _, _ in rows)
        sources = spread(source for _, source, _ in rows)
    else:
        slots = np.where(different < 0, -1, view.text.slots(np.maximum(different, 0)))
        labels = spread(view.names.of(slots))
        sources = np.full(ids.shape, None, dtype=object)
    exact = similarity.astype(np.float64)
    return Hits(kind, ids, exact, labels, sources, view.revision, attributes=described)
