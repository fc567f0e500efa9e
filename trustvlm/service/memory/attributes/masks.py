"""The labels and support images that a filter keeps, as masks over the slots of a view.

An image has the attributes of the label that it was registered under, and its own in place of
those with the same key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.attributes.rows import LABELS, SUPPORTS
from trustvlm.index.live import IndexView
from trustvlm.service.memory.attributes.columns import (
    AttributeColumns,
    AttributeMemo,
    described,
    memo_of,
)
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Bools, Int64s
from trustvlm.types.attributes.columns import combined, holds_of_nothing
from trustvlm.types.attributes.filters import Condition, Filter, conditions


@dataclass(frozen=True, eq=False)
class _RowMask:
    """What a filter keeps of the first rows of columns; read on when rows are added."""

    generation: int
    mask: Bools


def label_mask(reading: Reading, chosen: Filter) -> Bools:
    """(n,) which text slots of the reading's view hold labels that the filter keeps."""
    view, memo = reading.view, memo_of(reading)
    without = holds_of_nothing(chosen.root)
    mask: Bools = view.text.alive.copy() if without else np.zeros(view.text.n, np.bool_)
    if not described(reading, LABELS):
        return mask
    with memo.lock:
        columns = memo.at(reading, LABELS, {one.path for one in conditions(chosen.root)})
        kept = _rows_kept(memo, columns, chosen)
        table = columns.rows()
        slots = memo.once(
            f"slots of rows {columns.generation} {table.n}",
            (view,),
            lambda: np.where(table.alive, view.text.slots(table.ids), -1),
        )
    present = slots >= 0
    mask[slots[present]] = kept[present]
    return mask


def _rows_kept(memo: AttributeMemo, columns: AttributeColumns, chosen: Filter) -> Bools:
    """(n,) which rows of the columns a filter keeps: only rows that came since are looked at."""
    total = columns.rows().n
    holder = memo.once(f"rows {chosen.text}", (columns,), lambda: [_RowMask(-1, np.zeros(0, bool))])
    before = holder[0]
    start = len(before.mask) if before.generation == columns.generation else 0

    def leaf(condition: Condition) -> Bools:
        return columns.holds(condition, start, total)

    if start < total or before.generation != columns.generation:
        fresh = combined(chosen.root, leaf)
        mask = np.concatenate([before.mask[:start], fresh])
        holder[0] = before = _RowMask(columns.generation, mask)
    return before.mask


def supports_among(reading: Reading, index: IndexView, chosen: Filter) -> IndexView:
    """The index over support images with those only that the filter keeps."""
    memo, slots = memo_of(reading), index.slots
    numbered = slots.ids if slots.ids.base is None else slots.ids.base  # renumbered: another one
    state = (reading.view, numbered)
    name = f"supports {slots.n} {chosen.text}"

    def mask() -> Bools:
        return _support_mask(reading, slots.ids, chosen) & slots.alive

    return index.among(memo.once(name, state, mask))


def support_ids(reading: Reading, chosen: Filter) -> Int64s:
    """Ids, ascending, of the support images of the space that the filter keeps."""
    memo, view = memo_of(reading), reading.view

    def read() -> Int64s:
        return np.sort(rows.owners(reading.connection, view.space.id, 0)[0])

    ids = memo.once("support ids", (view,), read)
    name = f"support ids {chosen.text}"
    return memo.once(name, (view,), lambda: ids[_support_mask(reading, ids, chosen)])


def prototypes_among(view: SpaceView, index: IndexView, prototypes: Bools) -> IndexView:
    """The index over prototypes with those only that a mask over the slots of the view's prototypes
    keeps."""
    places = view.prototypes.slots(index.slots.ids)
    return index.among(_at(prototypes, places, False))


def _support_mask(reading: Reading, ids: Int64s, chosen: Filter) -> Bools:
    """(n,) which of these support images the filter keeps."""
    memo, described_images = memo_of(reading), described(reading, SUPPORTS)
    paths = {one.path for one in conditions(chosen.root)}
    with memo.lock:
        labels = memo.at(reading, LABELS, paths)
        label_rows = labels.rows().slots(_labels_of(memo, reading, ids))
        images = image_rows = None
        if described_images:
            images = memo.at(reading, SUPPORTS, paths | {path[:1] for path in paths})
            image_rows = images.rows().slots(ids)

        def leaf(condition: Condition) -> Bools:
            absent = condition.operator == "exists" and not condition.operands[0]
            of_label = labels.holds(condition, 0, labels.rows().n)
            held = _at(of_label, label_rows, absent)
            if images is None or image_rows is None:
                return held
            replaced = _at(images.has(condition.path[:1]), image_rows, False)
            return np.where(
                replaced, _at(images.holds(condition, 0, images.rows().n), image_rows, absent), held
            )

        return combined(chosen.root, leaf)


def _at(mask: Bools, places: Int64s, otherwise: bool) -> Bools:
    """The values of a mask at these places; `otherwise` where a place is −1."""
    if not len(mask):
        return np.full(len(places), otherwise, np.bool_)
    return np.where(places >= 0, mask[places], otherwise)


def _labels_of(memo: AttributeMemo, reading: Reading, ids: Int64s) -> Int64s:
    """(n,) the label of each support image; −1 where it is not of the space."""
    revision, space_id = reading.view.revision, reading.view.space.id
    since, numbers, labels = memo.owners
    if since < revision:
        fresh, owners = rows.owners(reading.connection, space_id, since)
        new = ~np.isin(fresh, numbers, assume_unique=True)
        numbers, labels = (
            np.concatenate([numbers, fresh[new]]),
            np.concatenate([labels, owners[new]]),
        )
        order = np.argsort(numbers, kind="stable")
        numbers, labels = numbers[order], labels[order]
        memo.owners = revision, numbers, labels
    if not len(numbers):
        return np.full(len(ids), -1, np.int64)
    places = np.minimum(np.searchsorted(numbers, ids), len(numbers) - 1)
    return np.where(numbers[places] == ids, labels[places], -1)
