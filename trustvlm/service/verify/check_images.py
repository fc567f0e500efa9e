"""Checks of support images, their thumbnails, observations, and items of the review queue."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from trustvlm.catalog.store.vectors import checksum
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow
from trustvlm.service.verify.space_facts import (
    Problem,
    Row,
    SpaceFacts,
    for_quarantine,
    judged_problem,
    revision_problem,
    vector_problems,
)
from trustvlm.types.review import STATES


def check_supports(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with support images of a space."""
    owners = sorted({row["label_id"] for row in rows})
    labels = {label["id"]: label for label in stored_rows.by_ids(connection, "label", owners)}
    return for_quarantine(
        rows, lambda row: _support_problem(facts, row, labels.get(row["label_id"]))
    )


def _support_problem(facts: SpaceFacts, row: Row, label: StoredRow | None) -> str | None:
    sides = (("embedding", facts.verifier_dim), ("classifier_embedding", facts.classifier_dim))
    if (problem := _vectors_problem(row, *sides)) is not None:
        return problem
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
    return for_quarantine(rows, lambda row: _picture_problem(row["jpeg"], "it"), "support_id")


def _picture_problem(jpeg: bytes | None, what: str) -> str | None:
    """What is wrong with a picture, if there is one; `what`: its name in the message."""
    from PIL import Image

    if jpeg is None:
        return None

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Pillow doubts was not written by trustvlm
            with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
                picture.load()
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        return f"{what} is no complete JPEG: {error}"
    return None


def check_reviews(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with items of the review queue."""
    return for_quarantine(rows, lambda row: _review_problem(facts, row))


def _review_problem(facts: SpaceFacts, row: Row) -> str | None:
    of_log = row["logged_id"] is not None and _is_emptied(row)
    if not of_log and (problem := _sides_problem(facts, row)) is not None:
        return problem
    if row["state"] not in STATES:
        return f"it is {row['state']!r:.20}, which no item is"
    return judged_problem(row, facts) or _picture_problem(row["thumbnail"], "its picture")


def _is_emptied(row: Row) -> bool:
    """Whether a row has no embeddings."""
    return row["classifier_embedding"] == b"" and row["verifier_embedding"] is None


def _sides_problem(facts: SpaceFacts, row: Row) -> str | None:
    """What is wrong with the embeddings of both sides."""
    classifier = ("classifier_embedding", facts.classifier_dim)
    return _vectors_problem(row, classifier, ("verifier_embedding", facts.verifier_dim))


def check_observations(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with the images of calibrations and feedback."""
    promoted = sorted({row["support_id"] for row in rows if row["support_id"] is not None})
    supports = {row["id"] for row in stored_rows.by_ids(connection, "support", promoted)}
    return for_quarantine(rows, lambda row: _observation_problem(facts, row, supports))


def _observation_problem(facts: SpaceFacts, row: Row, supports: set[int]) -> str | None:
    # The purge of its image empties an observation of feedback.
    emptied = _is_emptied(row) and row["origin"] == "feedback"
    if not emptied and (problem := _sides_problem(facts, row)) is not None:
        return problem
    if (problem := _picture_problem(row["thumbnail"], "its thumbnail")) is not None:
        return problem
    origin, sampling = row["origin"], row["sampling"]
    if origin not in ("calibration", "feedback") or sampling not in ("random", "chosen", "claimed"):
        return f"it is {origin!r:.20} drawn {sampling!r:.20}, which no observation is"
    if row["support_id"] is not None and row["support_id"] not in supports and not facts.purging:
        return f"it became support image {row['support_id']}, which is not there"
    return judged_problem(row, facts)
