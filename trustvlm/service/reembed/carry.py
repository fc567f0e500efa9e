"""What speaks of a space, and goes over to its new embeddings: images of known label, and
calibrations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.store.vectors import pack
from trustvlm.catalog.upkeep import reembed_rows
from trustvlm.catalog.upkeep.reembed_rows import OldObservation
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord
from trustvlm.encoders import EncodedImage
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import encode_for, encodes_images, reading
from trustvlm.service.reembed.sources import Sources

__all__ = ["carry_calibrations", "carry_observations"]

CHUNK = 256

Embeddings = tuple[bytes, bytes | None]


def carry_observations(home: Home, job: ReembedRecord, sources: Sources) -> None:
    """Embed images of known label anew, as far as their originals or their old embeddings serve.
    The others stay behind."""
    with home.catalog.read() as connection:
        left = reembed_rows.observations_left(connection, job)
    for start in range(0, len(left), CHUNK):
        found: dict[int, Embeddings] = {}
        encode = []
        for item in left[start : start + CHUNK]:
            if (ready := _ready(sources, item)) is not None:
                found[item.id] = ready
            elif (
                _both_encode(sources)
                and (path := sources.originals.find(item.content_hash)) is not None
            ):
                encode.append((item, path))
        limits = reading(home, sources.new, accept_truncated=True)
        results = (
            encode_for(home, sources.new, [path for _, path in encode], limits=limits)
            if encode
            else []
        )
        for (item, path), result in zip(encode, results, strict=True):
            if isinstance(result, EncodedImage) and sources.originals.still_is(
                path, item.content_hash, result.content_hash
            ):
                own = pack(result.embeddings[0])
                found[item.id] = (
                    (own, None)
                    if sources.new.verifier == "same"
                    else (pack(result.embeddings[1]), own)
                )
        if found:
            with home.catalog.write("reembed.carry") as connection:
                reembed_rows.put_observations(connection, job, found)
    if not left:
        return
    with home.catalog.write(
        "reembed.carry"
    ) as connection:  # so that little is left to do in the cut-over
        reembed_rows.renew_truth(connection, job)


def _both_encode(sources: Sources) -> bool:
    return sources.encodes and encodes_images(sources.new.classifier)


def _ready(sources: Sources, item: OldObservation) -> Embeddings | None:
    """(classifier, verifier) embeddings of the new encoders, where these are among the old ones."""
    own = item.classifier_embedding if sources.old.verifier == "same" else item.verifier_embedding
    columns = {"classifier": item.classifier_embedding, "verifier": own}
    found = {side: columns.get(sources.column(side) or "") for side in ("classifier", "verifier")}
    classifier = found["classifier"]
    if classifier is None:
        return None
    if sources.new.verifier == "same":
        return classifier, None
    # An observation of text alone has no verifier embedding, and needs none.
    if found["verifier"] is None and item.verifier_embedding is not None:
        return None
    return classifier, found["verifier"]


def carry_calibrations(connection: Connection, job: ReembedRecord, labels: dict[int, int]) -> int:
    """Copy the calibrations: they keep the encoders they were made with, and are stale for that;
    how many."""

    def revise(content: dict[str, Any]) -> dict[str, Any]:
        predicted = [labels[label_id] for label_id in content["predicted"] if label_id in labels]
        return content | {"predicted": predicted}

    return reembed_rows.copy_calibrations(connection, job, revise)
