"""Images that come more than once: they are one observation, however many files show them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import observations
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.inputs.labelled import Observed
from trustvlm.service.memory.support_prints import SAME_IMAGE
from trustvlm.types.arrays import Bools, Float64s, Int64s

__all__ = ["as_stored", "first_of_each"]

_DIRECTIONS = 3
_BLOCK = 4096
_NEARLY = 1 - 1e-5  # below SAME_IMAGE by more than float32 rounds


def first_of_each(observed: Observed) -> Bools:
    """(n,) which images are the first of those that are the same.

    The same are equal files (or pixels, or vectors, as the hash has it), and images whose
    embeddings are equal but for rounding: the picture saved in another format, or encoded in
    another batch.
    """
    first = np.zeros(len(observed), np.bool_)
    first[np.unique(_numbers(observed.hashes), return_index=True)[1]] = True
    rows: Int64s = np.flatnonzero(first)
    classifier, verifier = observed[rows].unit
    first[rows[_repeated(classifier if verifier is None else verifier)]] = False
    return first


def _numbers(hashes: list[bytes]) -> Int64s:
    """One number for each distinct hash."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(content, len(known)) for content in hashes], np.int64)


def as_stored(connection: Connection, space: SpaceRecord, observed: Observed) -> Observed:
    """`observed` under the hashes that its images are stored by.

    The hash of an image that came as a file is another than that of its vectors, which is what
    'trustvlm calibrate SPACE DIR' gives. An image that is not known by its hash is known by its
    embedding, equal but for rounding.
    """
    known = observations.known_hashes(connection, space.id, observed.hashes)
    new = [i for i, content in enumerate(observed.hashes) if content not in known]
    if not new:
        return observed
    separate = space.verifier != "same" and observed.verifier is not None
    dim = space.verifier_dim if separate else space.classifier_dim
    stored, embeddings = observations.embeddings(connection, space.id, dim, verifier=separate)
    classifier, verifier = observed[np.array(new)].unit
    asked = classifier if verifier is None else verifier
    hashes = list(observed.hashes)
    for start in range(0, len(stored), _BLOCK):
        rows = embeddings[start : start + _BLOCK]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        for first in range(0, len(new), _BLOCK):
            some = asked[first : first + _BLOCK]
            row, query = np.nonzero(rows @ some.T.astype(np.float32) >= _NEARLY * lengths)
            same = (
                np.sum(unit_rows(rows[row].astype(np.float64)) * some[query], axis=1) >= SAME_IMAGE
            )
            for place, of in zip(
                (first + query[same]).tolist(), (start + row[same]).tolist(), strict=True
            ):
                hashes[new[place]] = stored[of]
    return replace(observed, hashes=hashes)


def _repeated(unit: Float64s) -> Bools:
    """(n,) which unit vectors are equal to an earlier one but for rounding.

    Equal ones have equal projections on any direction: sorted by one, they stand within a narrow
    window of each other.
    """
    repeated = np.zeros(len(unit), np.bool_)
    directions = np.random.default_rng(0).standard_normal((unit.shape[1], _DIRECTIONS))
    places = unit @ (directions / np.linalg.norm(directions, axis=0))
    order = np.argsort(places[:, 0], kind="stable")
    window = np.sqrt(2 * (1 - SAME_IMAGE))
    for offset in range(1, len(unit)):
        one, other = order[:-offset], order[offset:]
        inside = places[other, 0] - places[one, 0] <= window
        if not inside.any():
            break
        near = np.flatnonzero(inside & (np.abs(places[other] - places[one]) <= window).all(axis=1))
        one, other = one[near], other[near]
        same = cast(Bools, np.sum(unit[one] * unit[other], axis=1) >= SAME_IMAGE)
        repeated[np.maximum(one, other)[same]] = True
    return repeated
