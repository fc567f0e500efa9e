"""Prototypes of labels: made with new labels, made again when support images come and go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.errors import InvalidInput
from trustvlm.scoring.prototypes import mean_prototype
from trustvlm.service.home.home import Home
from trustvlm.types.arrays import Float32s


def prototype_of(name: str, images: Sequence[NewSupport]) -> Float32s | None:
    """The prototype of a label with these support images, in any order; None without any.

    Raises:
        InvalidInput: their embeddings cancel out.
    """
    ordered = sorted(images, key=lambda image: image.content_hash)
    try:
        return _mean(np.array([image.embedding for image in ordered], dtype=np.float32))
    except InvalidInput as error:
        raise InvalidInput(f"label {name!r}: {error}") from error


def renew_prototypes(
    connection: Connection, space: SpaceRecord, label_ids: Sequence[int], revision: int
) -> None:
    """Recompute the prototypes of labels whose support images changed, from all that they have now.
    The support images of an alias are those of its label.

    Raises:
        InvalidInput: their embeddings cancel out.
    """
    label_ids = sorted(set(labels.canonical(connection, label_ids).values()))
    if not label_ids:
        return
    owners, _, embeddings = supports.embeddings(connection, label_ids, space.verifier_dim)
    for label_id in label_ids:
        of_label = embeddings[owners == label_id]
        try:
            prototype = _mean(of_label)
        except InvalidInput as error:
            name = labels.name_of(connection, label_id)
            raise InvalidInput(f"label {name!r}: {error}") from error
        labels.set_prototype(connection, label_id, revision, prototype, len(of_label))


def follow_supports(
    home: Home, connection: Connection, space: SpaceRecord, label_ids: Iterable[int], revision: int
) -> None:
    """Renew what is derived from support images that changed: the prototypes of these labels, and
    the stored fit. Raises InvalidInput, see :func:`renew_prototypes`."""
    renew_prototypes(connection, space, sorted(set(label_ids)), revision)
    home.background_fit.supports_changed(connection, space, revision)


def _mean(embeddings: Float32s) -> Float32s | None:
    return mean_prototype(embeddings.astype(np.float64)) if len(embeddings) else None
