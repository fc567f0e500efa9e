"""The stored images of known label, with the label that the space gives each of them now; and these
images and the support images as points of a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows import label_pages, observations, supports
from trustvlm.catalog.rows.observations import Pool
from trustvlm.catalog.server import stored_images
from trustvlm.errors import NotFound
from trustvlm.scoring.vectors import as_unit, unit_rows
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import query_vectors
from trustvlm.service.inputs.labelled import are_supports
from trustvlm.service.memory.space_cache import Reading
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.score import verdicts_of
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Float32s, Float64s, Int64s
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.bounds import whole
from trustvlm.types.rows import LabelPredictions, StoredError
from trustvlm.types.tables.projection import ProjectedPoint, Projection

MOST_IMAGES = 2_000
"""Stored images that are scored for a list of labels or a map, the newest."""

_MOST_PAIRS = 200_000_000
"""Pairs of a stored image and a label that are compared for it: seconds of work."""

_LEAST_IMAGES = 100
_FEWEST = 12  # points of which neighbours mean something to t-SNE
_COMPONENTS = 50  # of PCA before t-SNE, as its authors advise
_PERPLEXITY = 30.0
_ITERATIONS = 500


@dataclass(frozen=True, eq=False)
class PredictedImages:
    """n stored images that are no support images, whose true label still exists.

    Attributes:
        ids: (n,) of the observations. label_ids: (n,) of the labels that the space gives them.
        truth_ids: (n,) of their true labels, an alias replaced by its label; −1: none.
        sources: a name for each, or None. pictured: which have a thumbnail.
        vectors: (n, d_v) unit verifier embeddings; None where they have none.
        total: how many images are stored, those left out included.
    """

    ids: Int64s
    label_ids: Int64s
    truth_ids: Int64s
    sources: list[str | None]
    pictured: list[bool]
    vectors: Float64s | None
    total: int

    def __len__(self) -> int:
        return len(self.ids)


def predicted_images(home: Home, reading: Reading, most: int = MOST_IMAGES) -> PredictedImages:
    """The newest stored images, at most `most`, as the space with its calibration in force judges
    them; fewer of them in a space of very many labels."""
    view, space = reading.view, reading.view.space
    total = observations.counts(reading.connection, space.id).usable
    labels = view.text.live
    most = min(most, max(_MOST_PAIRS // max(labels, 1), _LEAST_IMAGES))
    pool = observations.pool(reading.connection, space.id, space.dims, newest=most if labels else 0)
    if not len(pool):
        none = np.zeros(0, np.int64)
        return PredictedImages(none, none, none, [], [], None, total)
    truth = np.array(pool.truth_ids, np.int64)
    classifier, verifier = _unit(pool, same=space.verifier == "same")
    stays = (truth < 0) | (view.text.slots(np.maximum(truth, 0)) >= 0)
    if verifier is not None:
        stays &= ~are_supports(home, reading, verifier, len(pool))
    calibration = reading.once("calibration", lambda: in_force(reading.connection, space))
    key = (view.revision, calibration and calibration.id, tuple(pool.ids), tuple(pool.hashes))

    def judge() -> Int64s:
        rule = None if verifier is not None else "msp"  # rules with images need these embeddings
        queries = UnitQueries(classifier, verifier)
        verdicts = verdicts_of(home, reading, space, queries, rule, top_k=1)
        return verdicts.label_id

    label_ids = reading.memo.once("predicted images", key, judge)
    rows: Int64s = np.flatnonzero(stays)
    return PredictedImages(
        ids=np.array(pool.ids, np.int64)[rows],
        label_ids=label_ids[rows],
        truth_ids=view.aliases.of(truth[rows]),
        sources=[pool.sources[row] for row in rows.tolist()],
        pictured=[pool.pictured[row] for row in rows.tolist()],
        vectors=None if verifier is None else verifier[rows],
        total=total,
    )


def _unit(pool: Pool, *, same: bool) -> tuple[Float64s, Float64s | None]:
    """(classifier, verifier) embeddings of stored images as unit vectors."""
    classifier = unit_rows(pool.classifier.astype(np.float64))
    if same:
        return classifier, classifier
    return classifier, (
        None if pool.verifier is None else unit_rows(pool.verifier.astype(np.float64))
    )


def label_predictions(home: Home, reading: Reading) -> tuple[dict[int, LabelPredictions], int]:
    """(label id → what the stored images say of it, of the labels that are predicted or true for
    one; how many images that are)."""
    images = predicted_images(home, reading)
    right = images.label_ids == images.truth_ids
    counts = {
        name: _counted(ids)
        for name, ids in (
            ("predicted", images.label_ids),
            ("wrong", images.label_ids[~right]),
            ("images", images.truth_ids[images.truth_ids >= 0]),
            ("missed", images.truth_ids[~right & (images.truth_ids >= 0)]),
        )
    }
    labels = counts["predicted"].keys() | counts["images"].keys()
    return {
        label: LabelPredictions(**{name: of.get(label, 0) for name, of in counts.items()})
        for label in labels
    }, len(images)


def names_of(reading: Reading, ids: Int64s) -> list[str | None]:
    """The names of labels that exist; None for −1."""
    slots = reading.view.text.slots(np.maximum(ids, 0)).tolist()
    return [
        None if label < 0 else reading.view.names[slot]
        for label, slot in zip(ids.tolist(), slots, strict=True)
    ]


def _counted(ids: Int64s) -> dict[int, int]:
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def stored_errors(
    reading: Reading, images: PredictedImages, rows: Int64s
) -> tuple[StoredError, ...]:
    """Images that are given a label which is not theirs, by rows of `images`."""
    given, truth = (names_of(reading, ids[rows]) for ids in (images.label_ids, images.truth_ids))
    ids = images.ids[rows].tolist()
    return tuple(
        StoredError(number, images.sources[row], images.pictured[row], str(label), true)
        for number, row, label, true in zip(ids, rows.tolist(), given, truth, strict=True)
    )


def stored_verdict(
    home: Home, reading: Reading, number: int, rule: str | None, top_k: int, labels: Filter | None
) -> Verdicts:
    """The verdict that the stored image of this id gets now: one row. Raises NotFound: there is no
    such image, or its embeddings were deleted."""
    space = reading.view.space
    row, classifier, verifier = stored_images.find(reading.connection, space, number)
    if classifier is None:
        raise NotFound(
            f"no embeddings of stored image {number}: they were deleted with the support image "
            f"that was made of it"
        )
    vectors = query_vectors(home, space, Queries(classifier, verifier), as_unit)
    about = {"source": np.array([row.source], dtype=object)}
    assert vectors[0] is not None  # it was given
    queries = UnitQueries(vectors[0], vectors[1])
    return verdicts_of(home, reading, space, queries, rule, top_k=top_k, labels=labels, about=about)


def project(home: Home, space_name: str, limit: int) -> Projection:
    """See :meth:`TrustService.project`."""
    limit = whole("limit", limit, bounds="points")
    with home.snapshot(space_name) as reading:
        connection, view = reading.connection, reading.view
        counts = home.counts.of(connection, home.catalog.epoch(connection), view.space)
        # Half of the points are observations, unless there are fewer support images.
        stored = predicted_images(home, reading, max(limit - counts.supports, limit // 2))
        observed = 0 if stored.vectors is None else len(stored)
        ids = label_pages.sample_supports(connection, view.space.id, limit - observed)
        vectors = supports.vectors(connection, view.space.id, ids, view.space.verifier_dim)[1]
        unit = unit_rows(vectors.astype(np.float64))
        if stored.vectors is not None and observed:
            unit = np.concatenate([unit, stored.vectors])
        key = (view.revision, tuple(ids), tuple(stored.ids.tolist()))
        places, method = reading.memo.once("map", key, lambda: _places(unit))
        points = _support_points(reading, ids, places)
        points += _observed_points(reading, stored, places[len(ids) :])
        return Projection(
            space=view.space.name,
            revision=view.revision,
            method=method,
            points=tuple(points),
            support_images=counts.supports,
            observations=stored.total,
        )


def _places(unit: Float64s) -> tuple[Float64s, str]:
    """((n, 2) places of (n, d) unit vectors, within −1 and 1; the method). Equal vectors give equal
    places, wherever they are computed: one thread, and no chance."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, dim = unit.shape
    single: Float32s = unit.astype(np.float32)
    if n < 2 or np.ptp(single, axis=0).max() < 1e-6:
        return np.zeros((n, 2)), "PCA"
    with threadpool_limits(limits=1):
        components = min(_COMPONENTS, n, dim)
        reduced = PCA(components, random_state=0).fit_transform(single)
        if n < _FEWEST:
            return _scaled(reduced[:, :2]), "PCA"
        perplexity = min(_PERPLEXITY, (n - 1) / 3)
        tsne = TSNE(
            2, init="pca", perplexity=perplexity, max_iter=_ITERATIONS, random_state=0, n_jobs=1
        )
        return _scaled(tsne.fit_transform(reduced)), "t-SNE"


def _scaled(places: Float32s) -> Float64s:
    """(n, 1) or (n, 2) places as (n, 2), in the middle of −1 and 1."""
    centred = np.zeros((len(places), 2))
    centred[:, : places.shape[1]] = places - (places.max(axis=0) + places.min(axis=0)) / 2
    scaled: Float64s = np.round(centred / np.abs(centred).max(), 4)
    return scaled


def _support_points(reading: Reading, ids: list[int], places: Float64s) -> list[ProjectedPoint]:
    details = supports.details(reading.connection, ids)
    pictured = label_pages.pictured_supports(reading.connection, ids)
    return [
        ProjectedPoint("support", number, label, None, x, y, None, source, number in pictured)
        for number, (x, y) in zip(ids, places[: len(ids)].tolist(), strict=True)
        for label, source, _ in [details[number]]
    ]


def _observed_points(
    reading: Reading, stored: PredictedImages, places: Float64s
) -> list[ProjectedPoint]:
    if not len(places):
        return []
    labels, truth = names_of(reading, stored.label_ids), names_of(reading, stored.truth_ids)
    wrong = (stored.label_ids != stored.truth_ids).tolist()
    columns = (stored.ids.tolist(), labels, truth, places.tolist(), wrong, stored.sources)
    return [
        ProjectedPoint("observation", number, str(label), true, x, y, error, source, pictured)
        for number, label, true, (x, y), error, source, pictured in zip(
            *columns, stored.pictured, strict=True
        )
    ]
