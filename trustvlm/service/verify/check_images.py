"""Checks of support images, their thumbnails, observations, and items of the review queue."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.store.vectors import checksum
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow
from trustvlm.service.verify.space_facts import (
    Problem,
    SpaceFacts,
    revision_problem,
    vector_problems,
)
from trustvlm.types.review import STATES

Row = dict[str, Any]


def check_supports(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with support images of a space."""
    owners = sorted({row["label_id"] for row in rows})
    labels = {label["id"]: label for label in stored_rows.by_ids(connection, "label", owners)}
    for row in rows:
        problem = _vectors_problem(
            row, ("embedding", facts.verifier_dim), ("classifier_embedding", facts.classifier_dim)
        ) or _support_problem(facts, row, labels.get(row["label_id"]))
        if problem is not None:
            yield row["id"], problem, "quarantine"


def _support_problem(facts: SpaceFacts, row: Row, label: StoredRow | None) -> str | None:
    if label is None or label.get("space_id") != facts.id:
        return f"its label {row['label_id']} is not there"
    if row["removed_revision"] is None and label["removed_revision"] is not None:
        return f"its label {row['label_id']} is removed, it is not"
    return revision_problem(row, facts)


def _vectors_problem(row: Row, *columns: tuple[str, int]) -> str | None:
    """What is wrong with the embeddings in these (column, dimensions)."""
    for column, dim in columns:
        if row[column] is not None and (wrong := vector_problems([row[column]], dim)):
            return f"its {column.replace('_', ' ')} is {wrong[0]}"
    if checksum(*(row[column] for column, _ in columns)) != row["checksum"]:
        return "its embeddings do not match their checksum"
    return None


def check_thumbnails(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """Which thumbnails are no JPEG pictures."""
    for row in rows:
        if (problem := _picture_problem(row["jpeg"])) is not None:
            yield row["support_id"], f"it {problem}", "quarantine"


def _picture_problem(jpeg: bytes) -> str | None:
    """What is wrong with a thumbnail."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Pillow doubts was not written by trustvlm
            with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
                picture.load()
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        return f"is no complete JPEG: {error}"
    return None


def check_reviews(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with items of the review queue."""
    for row in rows:
        sides = (row["classifier_embedding"], row["verifier_embedding"])
        of_log = row["logged_id"] is not None and sides == (b"", None)
        problem = (
            None
            if of_log
            else _vectors_problem(
                row,
                ("classifier_embedding", facts.classifier_dim),
                ("verifier_embedding", facts.verifier_dim),
            )
        )
        if problem is None and row["state"] not in STATES:
            problem = f"it is {row['state']!r:.20}, which no item is"
        if problem is None and not 0 <= row["revision"] <= facts.revision:
            problem = f"it was judged at revision {row['revision']} of a space at {facts.revision}"
        picture = row["thumbnail"]
        if problem is None and picture is not None and (wrong := _picture_problem(picture)):
            problem = f"its picture {wrong}"
        if problem is not None:
            yield row["id"], problem, "quarantine"


def check_observations(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with the images of calibrations and feedback."""
    promoted = sorted({row["support_id"] for row in rows if row["support_id"] is not None})
    supports = {row["id"] for row in stored_rows.by_ids(connection, "support", promoted)}
    for row in rows:
        problem = _observation_problem(facts, row, supports)
        if problem is not None:
            yield row["id"], problem, "quarantine"


def _observation_problem(facts: SpaceFacts, row: Row, supports: set[int]) -> str | None:
    classifier, verifier = row["classifier_embedding"], row["verifier_embedding"]
    # The purge of its image empties an observation of feedback.
    emptied = classifier == b"" and verifier is None and row["origin"] == "feedback"
    sides = (
        ("classifier_embedding", 0 if emptied else facts.classifier_dim),
        ("verifier_embedding", facts.verifier_dim),
    )
    if not emptied and (problem := _vectors_problem(row, *sides)) is not None:
        return problem
    if row["thumbnail"] is not None and (wrong := _picture_problem(row["thumbnail"])) is not None:
        return f"its thumbnail {wrong}"
    origin, sampling = row["origin"], row["sampling"]
    if origin not in ("calibration", "feedback") or sampling not in ("random", "chosen", "claimed"):
        return f"it is {origin!r:.20} drawn {sampling!r:.20}, which no observation is"
    if row["support_id"] is not None and row["support_id"] not in supports and not facts.purging:
        return f"it became support image {row['support_id']}, which is not there"
    if row["revision"] is not None and not 0 <= row["revision"] <= facts.revision:
        return f"it was judged at revision {row['revision']} of a space at {facts.revision}"
    return None
