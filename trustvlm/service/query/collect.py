"""Puts scored images into the review queue: those that are not accepted, and some drawn at random
of any verdict (docs/reviewing.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.review import items, states
from trustvlm.catalog.rows.review.items import NewItem
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.bulk import slices
from trustvlm.errors import InvalidInput
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.home.home import Home
from trustvlm.service.home.pictures import Picture
from trustvlm.service.inputs.encode import query_vectors
from trustvlm.types import Queries
from trustvlm.types.arrays import Float32s
from trustvlm.types.messages.stored_text import stored_text

Row = Mapping[str, Any]


def can_collect(space: SpaceRecord, queries: Queries) -> bool:
    """Whether queries have the embeddings that an answer about them is stored with."""
    if space.verifier == "same":
        return queries.classifier is not None or queries.verifier is not None
    return queries.classifier is not None and queries.verifier is not None


def collect(
    home: Home,
    space: SpaceRecord,
    queries: Queries,
    decisions: Sequence[str],
    row_of: Callable[[int], Row],
) -> int:
    """Queue images that were scored; how many are new in the queue.

    An image that is drawn waits in the tray "sample" only, so that no person is asked about it
    twice.

    Args:
        queries: their raw embeddings. decisions: of their verdicts. row_of: the verdict of the
            image at a place, as :meth:`Verdicts.rows` gives it.

    Raises:
        InvalidInput: no verifier embeddings. Conflict: the space was replaced meanwhile.
    """
    if not can_collect(space, queries):
        raise InvalidInput(
            f"review: expected classifier and verifier embeddings of each query in space "
            f"{space.name!r}, got one of the two; an answer is stored with both"
        )
    sides = _sides(home, space, queries)
    with home.catalog.read() as connection:
        seed = states.seed(connection, space.id)
    if seed is None:
        with home.catalog.write("review") as connection:
            spaces.require_same(connection, space)
            seed = states.make(connection, space.id)
    chosen = list(_chosen(home, sides[-1], decisions, seed))
    added = 0
    for some in slices(chosen):
        rows = [_item(sides, place, tray, image, row_of(place)) for place, tray, image in some]
        if not home.observation_thumbnails:
            rows = [replace(row, thumbnail=None) for row in rows]
        with home.catalog.write("review") as connection:
            spaces.require_same(connection, space)
            added += items.add(connection, space.id, rows, home.review.items)
    return added


def _is_drawn(seed: bytes, content_hash: bytes, share: float) -> bool:
    """Whether an image belongs to the random sample: `share` of all contents do.

    A keyed hash of the content decides. Nobody without the key can tell which images are drawn, the
    verdict has no part in it, and an image that comes again is drawn again.
    """
    digest = hashlib.blake2b(content_hash, key=seed, digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _sides(home: Home, space: SpaceRecord, queries: Queries) -> list[Float32s]:
    """The raw (n, d) embeddings of queries: of the classifier and, where it is another encoder, of
    the verifier."""
    classifier, verifier = query_vectors(home, space, queries, as_matrix)
    sides = [classifier] if space.verifier == "same" else [classifier, verifier]
    return [side.astype(np.float32) for side in sides if side is not None]


def _chosen(
    home: Home, embeddings: Float32s, decisions: Sequence[str], seed: bytes
) -> Iterator[tuple[int, str, Picture]]:
    """(place, tray, picture) of the images to queue."""
    for place, decision in enumerate(decisions):
        image = home.pictures.of(embeddings[place])
        if _is_drawn(seed, image.content_hash, home.review.share):
            yield place, "sample", image
        elif decision != "accept":
            yield place, "review", image


def _item(sides: Sequence[Float32s], place: int, tray: str, image: Picture, row: Row) -> NewItem:
    source = row.get("source", image.source)
    return NewItem(
        tray=tray,
        content_hash=image.content_hash,
        source=None if source is None else stored_text(cast(str, source)),
        predicted_id=row["label_id"],
        predicted=row["label"],
        decision=row["decision"],
        probability=row["probability"],
        trust=row["trust"],
        rule=row["rule"],
        calibration_id=row["calibration_id"],
        revision=row["revision"],
        classifier_embedding=sides[0][place],
        verifier_embedding=sides[1][place] if len(sides) > 1 else None,
        thumbnail=image.thumbnail,
        node=row["node"],
    )
