"""What the answers of one call share: the view of the space, the labels that take part, and what
its support images say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows.labels import name_hash
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.scoring.image_evidence import BACKGROUND
from trustvlm.service.home.home import Home
from trustvlm.service.memory.label_subset import Subset, subset_of
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.support_fit import SupportFit, current_fit
from trustvlm.types.arrays import Float64s, Int64s

__all__ = ["Context", "context_of"]


@dataclass(frozen=True, eq=False)
class Context:
    """One call's state of a space.

    Attributes:
        home, connection, view: where it is read from, at one revision.
        subset: the labels that take part.
        fit: what the support images say. background: (a, d_v) prototypes that stand for labels in
            general.
    """

    home: Home
    connection: Connection
    view: SpaceView
    subset: Subset
    fit: SupportFit
    background: Float64s


def context_of(
    home: Home,
    connection: Connection,
    view: SpaceView,
    space_id: int,
    labels: Sequence[str] | npt.NDArray[np.bool_] | None = None,
    *,
    own_fit: bool = False,
) -> Context:
    """The context of a call that began with the space `space_id`; with `own_fit`, with the fit of
    the view's own revision.

    Raises:
        NotFound: it was removed and made again since, or `labels` names a label it does not have.
        InvalidInput: it has no labels, or the selection is empty.
    """
    if view.space.id != space_id:
        raise NotFound(
            f"space {view.space.name!r} was removed and made again, or re-embedded, during the call"
        )
    if not view.text.live:
        raise InvalidInput(f"space {view.space.name!r} has no labels yet; register some first")
    subset = subset_of(connection, view, labels)
    memo = home.caches.memo(view)
    fit = current_fit(connection, view, memo.fit, wait=own_fit)
    if memo.fit is None or memo.fit.revision <= fit.revision:
        memo.fit = fit
    if not fit.exact:
        home.background_fit.request(view.space.name)
    background = fit.background if subset.prototypes is None else _background(view, subset)
    return Context(home, connection, view, subset, fit.fit, background)


def _background(view: SpaceView, subset: Subset) -> Float64s:
    """(a, d_v) prototypes of the up to 1,024 labels of the subset whose name hash is smallest."""
    assert subset.prototypes is not None
    rows: Int64s = np.flatnonzero(subset.prototypes)
    if len(rows) > BACKGROUND:
        slots = view.text.slots(view.prototypes.ids[rows])
        hashes = [name_hash(view.names[slot]) for slot in slots.tolist()]
        rows = rows[np.argsort(hashes)[:BACKGROUND]]
    return view.prototypes.take(rows).astype(np.float64)
