"""Support images, their thumbnails, and observations looked at."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from trustvlm.catalog.store.vectors import checksum
from trustvlm.catalog.upkeep import raw
from trustvlm.catalog.upkeep.raw import Raw, Unreadable
from trustvlm.service.verify.facts import Facts, as_text, is_number, number_problem, vector_problems
from trustvlm.types.verification import Damage

__all__ = ["check_observations", "check_supports", "check_thumbnails"]

_HASH_BYTES = 32
_NO_ROW = "its row cannot be read"


def check_supports(connection: Connection, facts: Facts, rows: Sequence[Raw]) -> Iterator[Damage]:
    """What is wrong with support images of a space."""
    readable = [row for row in rows if not isinstance(row, Unreadable)]
    for row in rows:
        if isinstance(row, Unreadable):
            yield facts.damage(
                "support", row["id"], f"support image {row['id']}", _NO_ROW, "backup"
            )
    owners = {r["label_id"] for r in readable if is_number(r["label_id"])}
    labels = {label["id"]: label for label in raw.by_ids(connection, "label", sorted(owners))}
    own = vector_problems([row["embedding"] for row in readable], facts.verifier_dim)
    further = [row for row in readable if row["classifier_embedding"] is not None]
    other = vector_problems([row["classifier_embedding"] for row in further], facts.classifier_dim)
    wrong = {
        further[place]["id"]: f"its classifier embedding is {problem}"
        for place, problem in other.items()
    }
    wrong |= {
        readable[place]["id"]: f"its embedding is {problem}" for place, problem in own.items()
    }
    for row in readable:
        for problem, remedy in _support_problems(
            facts, row, wrong.get(row["id"]), labels.get(row["label_id"])
        ):
            yield facts.damage("support", row["id"], f"support image {row['id']}", problem, remedy)


def _support_problems(
    facts: Facts, row: Raw, vectors: str | None, label: Raw | None
) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of one support image."""
    if vectors is not None:
        yield vectors, "quarantine"
    elif checksum(row["embedding"], row["classifier_embedding"]) != row["checksum"]:
        yield "its embeddings do not match their checksum", "quarantine"
    elif not isinstance(row["content_hash"], bytes) or len(row["content_hash"]) != _HASH_BYTES:
        yield f"its content hash is {row['content_hash']!r:.40}", "quarantine"
    elif row["source"] is not None and as_text(row["source"]) is None:
        yield "its source is no text", "quarantine"
    elif label is None or isinstance(label, Unreadable) or label["space_id"] != facts.id:
        yield f"its label {row['label_id']!r:.20} is not there", "quarantine"
    elif (problem := number_problem(row, facts)) is not None:
        yield problem, "revision"
    elif row["removed_revision"] is None and label["removed_revision"] is not None:
        yield f"its label {row['label_id']} is removed, it is not", "hide"


def check_thumbnails(connection: Connection, facts: Facts, rows: Sequence[Raw]) -> Iterator[Damage]:
    """Which thumbnails are no JPEG pictures."""
    for row in rows:
        problem = _NO_ROW if isinstance(row, Unreadable) else _picture_problem(row["jpeg"])
        if problem is not None:
            remedy = "backup" if isinstance(row, Unreadable) else "quarantine"
            what = f"thumbnail of support image {row['support_id']}"
            yield facts.damage("thumbnail", row["support_id"], what, problem, remedy)


def _picture_problem(jpeg: object) -> str | None:
    from PIL import Image, UnidentifiedImageError

    if not isinstance(jpeg, bytes):
        return f"it is {jpeg!r:.20}, expected a JPEG"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Pillow doubts was not written by us
            with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
                picture.load()
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Warning,
        Image.DecompressionBombError,
    ) as error:
        return f"it is no whole JPEG: {error}"
    return None


def check_observations(
    connection: Connection, facts: Facts, rows: Sequence[Raw]
) -> Iterator[Damage]:
    """What is wrong with the images of calibrations and feedback."""
    promoted = sorted({r["support_id"] for r in rows if is_number(r.get("support_id"))})
    supports = {row["id"] for row in raw.by_ids(connection, "support", promoted)}
    for row in rows:
        what = f"observation {row['id']}"
        if isinstance(row, Unreadable):
            yield facts.damage("observation", row["id"], what, _NO_ROW, "backup")
        elif (problem := _observation_problem(facts, row, supports)) is not None:
            yield facts.damage("observation", row["id"], what, problem, "quarantine")


def _observation_problem(facts: Facts, row: Raw, supports: set[int]) -> str | None:
    classifier, verifier = row["classifier_embedding"], row["verifier_embedding"]
    emptied = (
        classifier == b"" and verifier is None and row["origin"] == b"feedback"
    )  # by the purge of its image
    vectors = [] if emptied else [(classifier, facts.classifier_dim)]
    vectors += [] if verifier is None else [(verifier, facts.verifier_dim)]
    for blob, dim in vectors:
        if wrong := vector_problems([blob], dim):
            return f"an embedding is {wrong[0]}"
    if checksum(classifier, verifier) != row["checksum"]:
        return "its embeddings do not match their checksum"
    if row["origin"] not in (b"calibration", b"feedback") or row["sampling"] not in (
        b"random",
        b"chosen",
    ):
        return f"it is {row['origin']!r:.20} drawn {row['sampling']!r:.20}, which no observation is"
    if not isinstance(row["content_hash"], bytes) or len(row["content_hash"]) != _HASH_BYTES:
        return f"its content hash is {row['content_hash']!r:.40}"
    if any(
        row[name] is not None and as_text(row[name]) is None
        for name in ("truth", "source", "predicted")
    ):
        return "its truth, source or prediction is no text"
    if row["support_id"] is not None and row["support_id"] not in supports and not facts.purging:
        return f"it became support image {row['support_id']!r:.20}, which is not there"
    if row["revision"] is not None and not (
        is_number(row["revision"]) and 0 <= row["revision"] <= facts.revision
    ):
        return f"it was judged at revision {row['revision']!r:.20} of a space at {facts.revision}"
    return None
