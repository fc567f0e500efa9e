"""Registering with a dry run, or so that the space is equal to what is given: images are compared
by content, hashed here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from trustvlm.client.decode import read
from trustvlm.client.images import as_sources, load
from trustvlm.client.transport import Wire, json_body, path_of
from trustvlm.errors import InvalidInput
from trustvlm.types import LabelInput, RegisterResult
from trustvlm.types.registration import UnreadImage

__all__ = ["contents_of", "preview", "remove_surplus"]

Contents = list[dict[str, Any]]


def contents_of(inputs: Iterable[LabelInput]) -> tuple[Contents, list[tuple[str, str]]]:
    """(what the labels have, by content; (source, reason) of each image that cannot be read).

    Raises:
        InvalidInput: something that is no label.
    """
    labels, failures = [], []
    for number, item in enumerate(inputs):
        if not isinstance(item, LabelInput):
            raise InvalidInput(
                f"inputs[{number}]: expected a LabelInput, got {type(item).__name__}"
            )
        hashes, unread = _of_vectors(item), False
        names: list[str | None] = [None] * len(hashes)
        images = (
            [] if item.images is None else as_sources(item.images, f"label {item.name!r}: images")
        )
        for place, source in enumerate(images):
            file = load(source, place)
            if file.problem is None:
                hashes.append(hashlib.sha256(file.data).hexdigest())
                names.append(file.source)
            else:
                failures.append((file.source, file.problem))
                unread = True
        labels.append({"name": item.name, "contents": hashes, "sources": names, "unread": unread})
    return labels, failures


def _of_vectors(item: LabelInput) -> list[str]:
    if item.image_vectors is None:
        return []
    rows = np.atleast_2d(np.asarray(item.image_vectors, dtype="<f4"))
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]


def preview(
    wire: Wire, space: str, inputs: Iterable[LabelInput], *, sync: bool, bring_back: bool
) -> RegisterResult:
    """What registering these labels would change."""
    labels, failures = contents_of(list(inputs))
    body = json_body({"labels": labels, "dry_run": True, "remove": sync, "bring_back": bring_back})
    told = read(
        RegisterResult, wire.ask("POST", path_of("spaces", space, "sync"), body=body, write=True)
    )
    return replace(told, failures=tuple(map(UnreadImage._make, failures)))


def remove_surplus(
    wire: Wire, space: str, labels: Contents, added: RegisterResult
) -> RegisterResult:
    """Remove what the labels do not have, now that they are registered; the result of both."""
    unreadable = {source for source, _ in added.failures}
    known = [
        label | {"unread": label["unread"] or not unreadable.isdisjoint(label["sources"])}
        for label in labels
    ]
    body = json_body({"labels": known})
    after = read(
        RegisterResult, wire.ask("POST", path_of("spaces", space, "sync"), body=body, write=True)
    )
    gone = {image.id for image in after.moved}
    return replace(
        added,
        revision=max(added.revision, after.revision),
        elsewhere=tuple(image for image in added.elsewhere if image.id not in gone),
        **{name: getattr(after, name) for name in ("moved", "removed", "removed_labels", "kept")},
    )
