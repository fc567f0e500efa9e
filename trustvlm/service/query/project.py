"""Projecting: support images and stored images of a space as points of a map."""

from __future__ import annotations

import numpy as np

from trustvlm.catalog.rows import label_pages, supports
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.home.home import Home
from trustvlm.service.memory.reading import Reading
from trustvlm.service.query.stored import PredictedImages, names_of, predicted_images
from trustvlm.types.arrays import Float32s, Float64s
from trustvlm.types.bounds import whole
from trustvlm.types.tables.projection import ProjectedPoint, Projection

_FEWEST = 12  # points of which neighbours mean something to t-SNE
_COMPONENTS = 50  # of PCA before t-SNE, as its authors advise
_PERPLEXITY = 30.0
_ITERATIONS = 500


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
