"""Labels of nearly equal meaning: finds them, and makes one an alias of another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trustvlm.catalog.rows import labels, spaces
from trustvlm.errors import Conflict, InvalidInput, TrustVLMError
from trustvlm.service.home.home import Home
from trustvlm.service.memory.label_subset import slots_of_names
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.registration.prototypes import follow_supports
from trustvlm.softmax.products import block_logits
from trustvlm.softmax.streamed import rounded_slack
from trustvlm.types import RegisterResult
from trustvlm.types.arrays import Int64s, texts
from trustvlm.types.registration import NearSynonyms

log = logging.getLogger("trustvlm")

SYNONYM_COSINE = 0.95
"""Cosine of text prototypes from which two labels are taken to mean nearly the same
(docs/rules.md, "Labels that mean the same")."""

REPORT_LABELS = 4_096
"""Spaces up to this size report synonyms of new labels with each registration: a millisecond a
label."""

_ROWS, _BLOCK = 256, 4_096  # similarities at a time: 4 MB


def alias(home: Home, space_name: str, name: str, of: str) -> int:
    """See :meth:`TrustService.alias`."""
    with home.write("label.alias", space_name) as (connection, space):
        label = labels.find(connection, space.id, name)
        target = labels.find(connection, space.id, of)
        if label.id == target.id:
            raise InvalidInput(f"label {name!r} cannot be an alias of itself")
        if label.alias_of == target.id:
            return space.revision
        if target.alias_of is not None:
            canonical = labels.name_of(connection, target.alias_of)
            raise Conflict(
                f"label {of!r} is itself an alias of {canonical!r}; make {name!r} an alias of "
                f"that one"
            )
        if label.alias_of is not None:
            raise Conflict(
                f"label {name!r} is an alias of {labels.name_of(connection, label.alias_of)!r}; "
                f"unalias it first"
            )
        if len(labels.groups(connection, [label.id])) > 1:
            raise Conflict(f"label {name!r} has aliases of its own; unalias them first")
        revision = spaces.advance(connection, space.id, labels=1)
        labels.set_alias(connection, label.id, target.id, revision)
        labels.set_prototype(connection, label.id, revision, None, 0)
        follow_supports(home, connection, space, [target.id], revision)
    return revision


def unalias(home: Home, space_name: str, name: str) -> int:
    """See :meth:`TrustService.unalias`."""
    with home.write("label.unalias", space_name) as (connection, space):
        label = labels.find(connection, space.id, name)
        if label.alias_of is None:
            raise Conflict(f"label {name!r} is not an alias")
        revision = spaces.advance(connection, space.id, labels=1)
        labels.set_alias(connection, label.id, None, revision)
        follow_supports(home, connection, space, [label.id, label.alias_of], revision)
    return revision


def reported(home: Home, space_name: str, result: RegisterResult) -> RegisterResult:
    """The result of a registration that added labels, with near synonyms of its labels."""
    if not result.added_labels:
        return result
    try:
        if _is_large(home, space_name):
            return replace(result, near_synonyms=None)
        with home.snapshot(space_name) as reading:
            view = reading.view
            if view.text.live > REPORT_LABELS:
                return replace(result, near_synonyms=None)
            added = np.array([label for label in result.label_ids if label >= 0], dtype=np.int64)
            slots = view.text.slots(np.unique(added))
            pairs = _pairs(view, slots[slots >= 0])
    except TrustVLMError as error:  # what was registered stays registered
        log.warning("no synonyms of new labels were looked for: %s", error)
        return replace(result, near_synonyms=None)
    return replace(result, near_synonyms=tuple(map(NearSynonyms._make, pairs)))


def _is_large(home: Home, space_name: str) -> bool:
    """Whether the space is too large for a look at all its labels; of one that is in memory, by the
    number of labels that it had there, which costs no transaction. One that is only a little larger
    counts as small: whoever reads it next needs it in memory as well."""
    cache = home.caches.peek(space_name)
    if cache is not None and cache.state is not None:
        return cache.state.view.text.live > 2 * REPORT_LABELS
    with home.catalog.read() as connection:
        space_id = spaces.find_id(connection, space_name)
        return labels.more_than(connection, space_id, REPORT_LABELS)


def near_synonyms(
    home: Home, space_name: str, names: Sequence[str] | None
) -> list[tuple[str, str, float]]:
    """See :meth:`TrustService.near_synonyms`."""
    names = None if names is None else texts(names, "labels")
    with home.snapshot(space_name) as reading:
        view = reading.view
        if names is None:
            return _pairs(view, np.flatnonzero(view.text.alive))
        return _pairs(view, slots_of_names(reading.connection, view, names))


def _pairs(view: SpaceView, slots: Int64s) -> list[tuple[str, str, float]]:
    """(name, name, cosine) of the labels in these text slots with any other, nearest first; aliases
    of one label left out."""
    text, group = view.text, view.aliases.of(view.text.ids)
    cosines: dict[tuple[str, str], float] = {}
    for begin in range(0, len(slots), _ROWS):
        block = slots[begin : begin + _ROWS]
        rows = text.take(block)
        least = SYNONYM_COSINE - rounded_slack(*rows.shape)
        for start, similarity in block_logits(text.segments, rows, _BLOCK):
            alive = text.alive[start : start + similarity.shape[1]]
            pairs = np.argwhere((similarity >= least) & alive)
            one, other = block[pairs[:, 0]], start + pairs[:, 1]
            apart = group[one] != group[other]
            one, other = one[apart], other[apart]
            exact = np.sum(text.take(one).astype(np.float64) * text.take(other), axis=1)
            for a, b, cosine in zip(one.tolist(), other.tolist(), exact.tolist(), strict=True):
                if cosine >= SYNONYM_COSINE:
                    first, second = sorted((view.names[a], view.names[b]))
                    cosines[first, second] = cosine
    return sorted(
        ((*pair, cosine) for pair, cosine in cosines.items()), key=lambda item: (-item[2], item[:2])
    )
