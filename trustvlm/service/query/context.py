"""What the answers of one call share: the view of the space, the labels that take part, and what
its support images say; and the rule that judges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows.labels import competitors, name_hash
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.scoring.image_evidence import BACKGROUND
from trustvlm.scoring.rules import Rule
from trustvlm.service.home.home import Home
from trustvlm.service.memory.attribute_columns import memo_of
from trustvlm.service.memory.discriminant.space_discriminant import SpaceDiscriminant
from trustvlm.service.memory.label_subset import LabelChoice, Subset, subset_of
from trustvlm.service.memory.space_cache import Reading, SpaceView
from trustvlm.service.memory.support_fit import FitMemo, SupportFit, current_fit
from trustvlm.types.arrays import Bools, Float32s, Int64s
from trustvlm.types.calibration import Calibration
from trustvlm.types.messages.commands import suggested


@dataclass(frozen=True, eq=False)
class Context:
    """One call's state of a space.

    Attributes:
        home, reading, view: where it is read from, at one state.
        subset: the labels that take part.
        fit: what the support images say. background_slots: (a,) of the prototypes that stand for
            labels in general; background: (a, d_v) these.
        own_fit: fits are those of the view's own revision.
    """

    home: Home
    reading: Reading
    view: SpaceView
    subset: Subset
    fit: SupportFit
    background_slots: Int64s
    background: Float32s
    own_fit: bool

    @cached_property
    def discriminant(self) -> SpaceDiscriminant:
        """What the support images say to the rules that whiten; one fit for the complete call."""
        return self.home.caches.discriminants.current(self.reading, wait=self.own_fit)

    @property
    def connection(self) -> Connection:
        """The call's transaction, begun when it is first asked for."""
        return self.reading.connection


class Judging(NamedTuple):
    """What judges the queries of a call.

    Attributes:
        name, rule, parameters: the rule. calibration: the one in force for predicted labels.
        of_claims: the one in force for claims, where queries have any.
    """

    name: str
    rule: Rule
    parameters: dict[str, float | None]
    calibration: Calibration | None
    of_claims: Calibration | None


def context_of(
    home: Home,
    reading: Reading,
    space_id: int,
    labels: LabelChoice | None = None,
    *,
    own_fit: bool = False,
) -> Context:
    """The context of a call that began with the space `space_id`; with `own_fit`, with the fit of
    the view's own revision; `labels` None: all take part.

    Raises:
        NotFound: it was removed and made again since, or `labels` names a label it does not have.
        InvalidInput: it has no labels, or the selection is empty.
    """
    view = reading.view
    if view.space.id != space_id:
        raise NotFound(
            f"space {view.space.name!r} was removed and made again, or re-embedded, during the call"
        )
    if not view.text.live:
        some = suggested("register", view.space.name, files="FOLDER")
        raise InvalidInput(f"space {view.space.name!r} has no labels yet; {some} registers some")
    if labels is None:
        further, prototypes = len(view.aliases.canonical), view.prototypes.live
        subset = Subset(None, None, view.text.live, view.text.live - further, prototypes)
    else:
        subset = subset_of(reading, labels)

    def current() -> FitMemo:
        memo, thresholds = reading.memo, home.thresholds
        before = memo.latest(FitMemo)
        fit = current_fit(reading.connection, view, before, thresholds, wait=own_fit)
        latest = memo.latest(FitMemo)  # another thread may have kept a later one
        if latest is None or latest.revision <= fit.revision:
            memo.keep(fit)
        return fit

    fit = reading.once("fit of its revision" if own_fit else "fit", current)
    if not fit.exact:
        home.background_fit.request(view.space.name)
    if subset.prototypes is None:
        slots = reading.once("background", lambda: view.prototypes.slots(fit.names.ids))
        return Context(home, reading, view, subset, fit.fit, slots, fit.background, own_fit)
    background = (
        _background(reading, subset.prototypes)
        if subset.key is None
        else memo_of(reading).once(
            f"background of {subset.key}",
            (view,),
            lambda: _background(reading, cast(Bools, subset.prototypes)),
        )
    )
    return Context(home, reading, view, subset, fit.fit, *background, own_fit)


def _background(reading: Reading, prototypes: Bools) -> tuple[Int64s, Float32s]:
    """(a,) slots of the prototypes of the up to 1,024 labels whose name hash is smallest, of those
    that take part, and (a, d_v) these prototypes."""
    view = reading.view
    rows: Int64s = np.flatnonzero(prototypes)
    if len(rows) > BACKGROUND:
        first = _first_by_hash(reading, prototypes, len(rows))
        if first is None:
            slots = view.text.slots(view.prototypes.ids[rows])
            hashes = [name_hash(view.names[slot]) for slot in slots.tolist()]
            first = rows[np.argsort(hashes)[:BACKGROUND]]
        rows = first
    return rows, view.prototypes.take(rows)


def _first_by_hash(reading: Reading, prototypes: Bools, count: int) -> Int64s | None:
    """The slots of :func:`_background` from the catalog's index of hashes, where that reads fewer
    labels than take part; None where it does not."""
    view, most = reading.view, 1 << (2 * BACKGROUND * len(prototypes) // count).bit_length()
    if most >= 2 * count:
        return None

    def by_hash() -> Int64s:
        ids, _ = competitors(reading.connection, view.space.id, most)
        slots = view.prototypes.slots(ids)
        return slots[slots >= 0]

    slots = memo_of(reading).once(f"first {most} by hash", (view,), by_hash)
    first: Int64s = slots[prototypes[slots]][:BACKGROUND]
    return first if len(first) == BACKGROUND else None
