"""Labels of a space as the server lists them: by filter, and by what the stored images of known
label say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trustvlm.catalog.rows import label_pages, labels
from trustvlm.service.home.home import Home
from trustvlm.service.query.stored import label_predictions, predicted_images, stored_errors
from trustvlm.service.registration.filtered import filtered_page
from trustvlm.types import LabelRow
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.rows import LabelErrors, LabelPredictions

_NONE = LabelPredictions(predicted=0, wrong=0, images=0, missed=0)


class LabelRecords:
    """How often labels are given to stored images of known label, and how often wrongly. Errors of
    every method: NotFound for an unknown space or label."""

    def __init__(self, ready: Callable[[], Home]) -> None:
        self._ready = ready

    def ranked(
        self, space: str, order: str, *, start: int, limit: int, thumbnails: int = 0
    ) -> list[tuple[LabelRow, list[int]]]:
        """The labels from place `start` on, up to `limit`, of those that the stored images are of
        or get: most `order` ("errors" or "share") first; each with the ids of its first
        `thumbnails` support images."""
        home = self._ready()
        with home.snapshot(space) as reading:
            counts, _ = label_predictions(home, reading)
            ranked = sorted(counts, key=lambda label: (*_rank(counts[label], order), label))
            ids = ranked[start : start + limit]
            rows = label_pages.rows_of(reading.connection, ids)
            return label_pages.with_images(reading.connection, rows, thumbnails)

    def filtered(
        self, space: str, chosen: Filter, *, after: int, limit: int, vectors: bool = False
    ) -> list[LabelRow]:
        """Up to `limit` labels with ids above `after` that a filter keeps, in order of id; with
        `vectors`, with their prototypes."""
        return filtered_page(self._ready(), space, chosen, after, limit, vectors)

    def predictions(
        self, space: str, ids: Sequence[int]
    ) -> tuple[dict[int, LabelPredictions], int]:
        """(label id → what the stored images say of it, of these labels; how many images that
        are)."""
        home = self._ready()
        with home.snapshot(space) as reading:
            counts, images = label_predictions(home, reading)
        return {label: counts.get(label, _NONE) for label in ids}, images

    def errors(self, space: str, label: str, limit: int) -> LabelErrors:
        """The errors of one label, up to `limit` of each kind; of an alias, those of the label that
        it stands for."""
        home = self._ready()
        with home.snapshot(space) as reading:
            row = labels.find(reading.connection, reading.view.space.id, label)
            label_id = int(reading.view.aliases.of(np.array([row.id]))[0])
            counts, stored_images = label_predictions(home, reading)
            images = predicted_images(home, reading)
            error = images.label_ids != images.truth_ids
            of_kind = (images.label_ids == label_id, images.truth_ids == label_id)
            wrong, missed = (
                stored_errors(reading, images, np.flatnonzero(error & rows)[::-1][:limit])
                for rows in of_kind
            )
        return LabelErrors(counts.get(label_id, _NONE), stored_images, wrong, missed)


def _rank(counts: LabelPredictions, order: str) -> tuple[int, int]:
    """What sorts first is smallest: the most errors, or the largest share of the predictions."""
    if order == "errors":
        return -counts.wrong, -counts.missed
    return -counts.predicted, -counts.wrong
