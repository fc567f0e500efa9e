"""Checks images with their true labels, identifies them by content, and compares them with support
images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import calibrations, observations
from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.rows.observations import NewObservation
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.vectors import hash_of
from trustvlm.encoders.images.decode import decode_image
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.claims import claimed_names
from trustvlm.reading.image_files import UnreadableImage
from trustvlm.scoring.vectors import SAME_IMAGE, as_matrix, unit_rows
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import check_queries, encoded, query_vectors
from trustvlm.service.inputs.outputs import no_classifier
from trustvlm.service.memory.space_cache import Reading
from trustvlm.types import Queries
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects, image_names, optional_texts
from trustvlm.types.arrays import sources as image_list
from trustvlm.types.bounds import choice
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count
from trustvlm.types.messages.meant import GIVE_NONE
from trustvlm.types.messages.stored_text import stored_text
from trustvlm.types.options import ON_ERROR
from trustvlm.types.registration import UnreadImage


@dataclass(frozen=True, eq=False)
class Observed:
    """n images with their true labels.

    Attributes:
        classifier: (n, d_t), verifier: (n, d_v) raw embeddings; one array where the space's
            verifier is "same", and the verifier's None where none was given.
        truth: (n,) label names, None for an image of no label of the space.
        hashes: content hash of each. sources: a name for each, or None.
        notes: what was done so that the encoders see the images, of all that came.
        thumbnails: a small JPEG of each, or None; empty where there are none.
        stored: (id, whether it has a thumbnail) of the observation that each is; empty for images
            that are given.
        failures: the images that could not be read, which are not among the n.
        claimed: (n,) the names that they are claimed to have, or None; None: nothing is claimed.
    """

    classifier: Float64s
    verifier: Float64s | None
    truth: Objects
    hashes: list[bytes]
    sources: list[str | None]
    notes: tuple[str, ...] = ()
    thumbnails: Sequence[bytes | None] = ()
    stored: Sequence[tuple[int, bool]] = ()
    failures: tuple[UnreadImage, ...] = ()
    claimed: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return len(self.classifier)

    def __getitem__(self, rows: Int64s) -> Observed:
        verifier = None if self.verifier is None else self.verifier[rows]
        classifier = (
            verifier
            if self.verifier is self.classifier and verifier is not None
            else self.classifier[rows]
        )
        places = rows.tolist()
        return Observed(
            classifier,
            verifier,
            self.truth[rows],
            [self.hashes[i] for i in places],
            [self.sources[i] for i in places],
            self.notes,
            [self.thumbnails[i] for i in places] if self.thumbnails else (),
            [self.stored[i] for i in places] if self.stored else (),
            self.failures,
            None if self.claimed is None else [self.claimed[i] for i in places],
        )

    @property
    def unit(self) -> tuple[Float64s, Float64s | None]:
        """(classifier, verifier) embeddings as unit vectors."""
        classifier = unit_rows(self.classifier)
        if self.verifier is self.classifier:
            return classifier, classifier
        return classifier, None if self.verifier is None else unit_rows(self.verifier)


def observe(
    home: Home,
    space: SpaceRecord,
    queries: Queries,
    truth: Sequence[str | None],
    sources: Sequence[str | None] | None = None,
    on_error: str = "raise",
) -> Observed:
    """Queries with their true labels, checked.

    The content hash is that of the image file, or of the float32 verifier embedding (the
    classifier's where there is none): the same that a support image made of it has.

    Args:
        on_error: "skip" leaves out images that cannot be read, with their truth.

    Raises:
        InvalidInput: no classifier embeddings, lengths that differ, or a truth that is not a name
            or None.
    """
    check_queries(queries)
    choice("on_error", on_error, ON_ERROR)
    expected = "one label name for each query, or None for an image of no label of the space"
    truth = optional_texts(truth, "truth", expected)
    if sources is not None:
        sources = image_names(sources, "sources")
    if queries.images is not None:
        queries = _before_encoding(home, space, queries, truth, sources)
    keep = home.observation_thumbnails
    vectors, images = encoded(home, space, queries, on_error, thumbnails=keep)
    classifier, verifier = query_vectors(home, space, vectors, as_matrix)
    if classifier is None:
        raise no_classifier(space, "trust")
    if images is None:
        rows = (classifier if verifier is None else verifier).astype(np.float32)
        hashes = [hash_of(row) for row in rows]
    else:
        hashes = images.hashes
        truth = [truth[place] for place in images.places]
        sources = None if sources is None else [sources[place] for place in images.places]
    _check_counts(len(classifier), truth, sources)
    came = (len(classifier), None) if images is None else (images.came, images.places)
    names = np.empty(len(classifier), dtype=object)
    names[:] = truth
    return Observed(
        classifier,
        verifier,
        names,
        hashes,
        [None if one is None else stored_text(one) for one in sources or [None] * len(names)],
        () if images is None else images.notes,
        _pictures(home, vectors, len(names), ours=images is not None) if keep else (),
        failures=() if images is None else images.failures,
        claimed=claimed_names(queries.claimed, *came),
    )


def _before_encoding(
    home: Home,
    space: SpaceRecord,
    queries: Queries,
    truth: Sequence[str | None],
    sources: Sequence[str | None] | None,
) -> Queries:
    """The queries with their images as a list, of which each has its name: a wrong one shows before
    any image is encoded. Raises InvalidInput, NotFound."""
    images = image_list(queries.images, "queries.images")
    _check_counts(len(images), truth, sources)
    claimed_names(queries.claimed, len(images))
    with home.catalog.read() as connection:
        truth_ids(connection, space, np.array(truth, dtype=object))
    return replace(queries, images=images)


def _pictures(home: Home, queries: Queries, count: int, *, ours: bool) -> Sequence[bytes | None]:
    """A small JPEG of each query, or None; nothing where they have none. Unless they are `ours`,
    they are made again: nothing but their pixels is stored. Raises InvalidInput."""
    if queries.thumbnails is None:
        return ()
    _check_count("queries.thumbnails", queries.thumbnails, count)
    if ours:
        return queries.thumbnails
    try:
        return [
            None if one is None else decode_image(bytes(one), home.limits).thumbnail
            for one in queries.thumbnails
        ]
    except (UnreadableImage, TypeError, ValueError) as error:
        raise InvalidInput(f"queries.thumbnails: expected JPEG files or None: {error}") from error


def _check_counts(count: int, truth: Sequence[object], sources: Sequence[object] | None) -> None:
    """Raises InvalidInput: there is not one true label, or not one source, for each query."""
    _check_count("truth", truth, count)
    if sources is not None:
        _check_count("sources", sources, count)


def _check_count(what: str, names: Sequence[object], queries: int) -> None:
    if len(names) != queries:
        expected = f"expected {count(queries, 'name')}, one for each query"
        raise InvalidInput(f"{what}: {expected}, got {len(names)}")


def stored_images(
    connection: Connection, space: SpaceRecord, *, claims: bool = False
) -> tuple[Observed, Int64s]:
    """The stored images that may calibrate predictions or `claims`, and the ids of their true
    labels (−1: none).

    Raises:
        InvalidInput: there are none. Damaged: an embedding does not match its checksum.
    """
    pool = observations.pool(connection, space.id, space.dims, claims=claims)
    if not len(pool):
        raise _no_stored_images(connection, space, claims=claims)
    classifier = pool.classifier.astype(np.float64)
    verifier = (
        classifier
        if space.verifier == "same"
        else None
        if pool.verifier is None
        else pool.verifier.astype(np.float64)
    )
    truth = np.array(pool.truth, dtype=object)
    observed = Observed(
        classifier, verifier, truth, list(pool.hashes), list(pool.sources),
        stored=list(zip(pool.ids, pool.pictured, strict=True)), claimed=pool.claimed,
    )  # fmt: skip
    return observed, np.array(pool.truth_ids, np.int64)


def _no_stored_images(connection: Connection, space: SpaceRecord, *, claims: bool) -> InvalidInput:
    """The error of a space that stores no images of this kind."""
    options = "--claimed FILE" if claims else ""
    adds = f"{suggested('calibrate', space.name, files='FOLDER', options=options)} adds some"
    kind = "images with claims" if claims else "calibration images"
    if claims or calibrations.current(connection, space.id, claims=True) is None:
        return InvalidInput(f"space {space.name!r} has no {kind} yet; {adds}")
    again = suggested("recalibrate", space.name, options="--claims")
    return InvalidInput(
        f"space {space.name!r} has no images that calibrate predictions; {adds}. {again} renews "
        f"the calibration of claims"
    )


def truth_ids(connection: Connection, space: SpaceRecord, truth: Objects) -> Int64s:
    """(n,) label ids of true labels, −1 for None.

    Raises:
        NotFound: a name that is no label of the space.
    """
    names = sorted({name for name in truth.tolist() if name is not None})
    records = label_rows.find_many(connection, space.id, names)
    if len(records) < len(names):
        missing = unknown(connection, space.id, names)
        remedy = f"register it, or {GIVE_NONE}"
        raise NotFound(f"truth: {not_found_text(missing, space.name, remedy)}")
    return np.array(
        [-1 if name is None else records[name].id for name in truth.tolist()], dtype=np.int64
    )


def are_supports(home: Home, reading: Reading, verifier: Float64s | None, count: int) -> Bools:
    """(n,) which of `count` unit verifier embeddings are those of a support image of the space.

    Such a query would vouch for itself: it is part of the prototype that it is compared with.
    """
    view, index = reading.view, home.caches.supports.view(reading, classifier=False)
    if not len(index) or not count:
        return np.zeros(count, np.bool_)
    if verifier is None:
        raise InvalidInput(
            f"queries.verifier: space {view.space.name!r} has support images, and only verifier "
            f"embeddings "
            f"({view.space.verifier_dim} values) tell whether a query is one of them; none were "
            f"given"
        )
    _, similarity = index.search(verifier.astype(np.float32), 1)
    return similarity[:, 0] >= SAME_IMAGE - view.recipe.max_error


def as_rows(observed: Observed, truth: Int64s, origin: str, sampling: str) -> list[NewObservation]:
    """The rows that the catalog stores of images with the ids of their true labels (−1: none)."""
    separate = None if observed.verifier is observed.classifier else observed.verifier
    return [
        NewObservation(
            content_hash=observed.hashes[i],
            origin=origin,
            sampling=sampling,
            truth_id=None if truth[i] < 0 else int(truth[i]),
            truth=observed.truth[i],
            source=observed.sources[i],
            classifier_embedding=observed.classifier[i].astype(np.float32),
            verifier_embedding=None if separate is None else separate[i].astype(np.float32),
            thumbnail=observed.thumbnails[i] if observed.thumbnails else None,
        )
        for i in range(len(observed))
    ]
