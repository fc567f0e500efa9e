"""Proposing support images for labels that have none or few, from images without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from trustvlm.catalog.rows import labels, observations, spaces, supports
from trustvlm.catalog.rows.review import items
from trustvlm.catalog.rows.review.items import NewItem
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.support import images as support_images
from trustvlm.catalog.store.vectors import hash_of
from trustvlm.errors import InvalidInput
from trustvlm.scoring.proposals import chosen_images, same_neighbours
from trustvlm.scoring.rules import DEFAULT_RULE, resolve_parameters
from trustvlm.scoring.vectors import as_matrix, unit_rows
from trustvlm.service.home.home import Home
from trustvlm.service.home.pictures import Picture
from trustvlm.service.inputs.encode import encoded, query_vectors
from trustvlm.service.inputs.labelled import are_supports
from trustvlm.service.memory.space_cache import Reading
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import UNKNOWN_RATE, is_unknown
from trustvlm.service.query.judge import judge
from trustvlm.service.registration.edit_labels import remove_support
from trustvlm.service.registration.encode_chunk import RegisterOptions
from trustvlm.service.registration.register import register
from trustvlm.types import LabelInput, Queries
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s, image_names
from trustvlm.types.bounds import flags, whole
from trustvlm.types.messages.stored_text import stored_text
from trustvlm.types.support.proposals import Proposal, Proposals, RemovedProposals

_STRANGE_TEXT = 0.05  # share of a label's own images that its text is allowed to miss
_ENOUGH = 9  # support images, to tell a tenth of them


@dataclass(frozen=True, eq=False)
class _Images:
    """n images without labels: raw (n, d) embeddings, in one array where the space's encoders are
    one, and what is known of their files."""

    classifier: Float32s
    verifier: Float32s
    pictures: list[Picture]
    places: list[int]
    notes: tuple[str, ...]
    failures: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class _Choice:
    """What is proposed: rows of the images, with label ids and names, probabilities, numbers of
    like neighbours; and the counts of :class:`Proposals`."""

    answer: Proposals
    rows: Int64s
    label_ids: Int64s


def propose(
    home: Home,
    space_name: str,
    queries: Queries,
    sources: Sequence[str | None] | None,
    *,
    accept: bool,
    review: bool,
    few: int,
    on_error: str,
) -> Proposals:
    """See :meth:`TrustService.propose`."""
    flags(accept=accept, review=review)
    few = whole("few", few, bounds="k")
    if accept and review:
        raise InvalidInput("accept, review: expected one of the two, got both")
    space = home.space(space_name)
    images = _images(home, space, queries, sources, on_error)
    choice = _choice(home, space, images, few)
    if not len(choice.rows):
        return choice.answer
    if review:
        return _queued(home, space, images, choice)
    return _accepted(home, space, images, choice) if accept else choice.answer


def _images(
    home: Home,
    space: SpaceRecord,
    queries: Queries,
    sources: Sequence[str | None] | None,
    on_error: str,
) -> _Images:
    vectors, read = encoded(home, space, queries, on_error, thumbnails=True)
    classifier, verifier = query_vectors(home, space, vectors, as_matrix)
    if classifier is None or verifier is None:
        raise InvalidInput(
            f"queries: expected classifier and verifier embeddings ({space.classifier_dim} and "
            f"{space.verifier_dim} values) of each image, got one of the two"
        )
    places = list(range(len(classifier))) if read is None else read.places
    names: Sequence[str | None] = [None] * len(classifier) if read is None else read.names
    if sources is not None:
        given = image_names(sources, "sources")
        if len(given) != len(places) + (0 if read is None else len(read.failures)):
            raise InvalidInput(f"sources: expected a name for each query, got {len(given)}")
        names = [given[place] for place in places]
    first, second = classifier.astype(np.float32), verifier.astype(np.float32)
    one = space.verifier == "same"
    pictures = []
    for row, name in zip(second, names, strict=True):
        picture = home.pictures.of(row)
        name = picture.source if name is None else name
        pictures.append(picture._replace(source=None if name is None else stored_text(name)))
    return _Images(
        second if one else first, second, pictures, places,
        () if read is None else read.notes, () if read is None else read.failures,
    )  # fmt: skip


def _choice(home: Home, space: SpaceRecord, images: _Images, few: int) -> _Choice:
    """The images that are proposed for labels with fewer than `few` support images."""
    unit = unit_rows(images.verifier.astype(np.float64))
    one = images.classifier is images.verifier
    classifier = unit if one else unit_rows(images.classifier.astype(np.float64))
    with home.snapshot(space.name) as reading:
        revision = reading.view.revision
        new = _new(home, reading, images, unit)
        rows = new.rows
        judged = _judged(home, reading, classifier[rows], unit[rows])
        wanting = support_images.few_labels(reading.connection, space.id, few)
    predicted = np.where(judged.strange, -1, judged.label_ids)
    free = np.isin(predicted, np.fromiter(wanting, np.int64, len(wanting)))
    same, chosen = _chosen(unit[rows].astype(np.float32), predicted, judged.probability, free)
    proposals = tuple(
        Proposal(
            place=images.places[rows[at]],
            source=images.pictures[rows[at]].source,
            label=judged.names[at],
            probability=float(judged.probability[at]),
            neighbours=int(same[at]),
        )
        for at in chosen.tolist()
    )
    answer = Proposals(
        space=space.name,
        revision=revision,
        images=len(images.pictures),
        unknown=int(judged.strange.sum()) if judged.tested else None,
        registered=new.registered,
        labelled=new.labelled,
        few=few,
        labels=len(wanting),
        served=len(np.unique(predicted[chosen])),
        queued=0,
        rows=proposals,
        notes=images.notes,
        failures=images.failures,  # type: ignore[arg-type]
    )
    return _Choice(answer, rows[chosen], predicted[chosen])


@dataclass(frozen=True, eq=False)
class _New:
    """The images that may be proposed: neither registered nor labelled, each content once.

    Attributes:
        rows: (m,) of the images. registered, labelled: how many are left out for this reason.
    """

    rows: Int64s
    registered: int
    labelled: int


def _new(home: Home, reading: Reading, images: _Images, unit: Float64s) -> _New:
    hashes = [picture.content_hash for picture in images.pictures]
    support = are_supports(home, reading, unit, len(hashes))
    stored = observations.known_hashes(reading.connection, reading.view.space.id, hashes)
    labelled = np.array([content in stored for content in hashes], dtype=np.bool_) & ~support
    first = {content: row for row, content in reversed(list(enumerate(hashes)))}
    once = np.zeros(len(hashes), np.bool_)
    once[list(first.values())] = True
    rows = np.flatnonzero(once & ~support & ~labelled)
    return _New(rows, int(support.sum()), int(labelled.sum()))


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the default rule says of n images.

    Attributes:
        label_ids, names, probability: (n,) of the predicted labels.
        strange: (n,) they look like no label. tested: there was something to compare them with.
    """

    label_ids: Int64s
    names: list[str]
    probability: Float64s
    strange: Bools
    tested: bool


def _judged(home: Home, reading: Reading, classifier: Float64s, verifier: Float64s) -> _Judged:
    """The labels of n images, from unit (n, d) embeddings."""
    context = context_of(home, reading, reading.view.space.id, own_fit=True)
    _, rule, parameters = resolve_parameters(DEFAULT_RULE, None)
    queries = UnitQueries(classifier.astype(np.float32), verifier.astype(np.float32))
    [columns] = judge(context, queries, [(rule, parameters)], 1)
    label_ids = cast(Int64s, columns["label_id"]).copy()
    evidence = context.fit.evidence  # with few images, the strictest test that they allow
    rate = max(UNKNOWN_RATE, 1 / (evidence.left_out + 1))
    strange = is_unknown(context, columns, rate)
    bare = np.isnan(cast(Float64s, columns["image_similarity"]))
    least = _least_likeness(context)
    strange[bare] = _text_likeness(context, classifier[bare], label_ids[bare]) < least
    names = [str(name) for name in np.asarray(columns["label"])]
    tested = bool(np.isfinite(least)) or np.isfinite(evidence.unknown_below(rate))
    return _Judged(label_ids, names, cast(Float64s, columns["trust"]), strange, bool(tested))


def _text_likeness(context: Context, classifier: Float64s, label_ids: Int64s) -> Float64s:
    """(n,) similarity of unit classifier embeddings to the text prototypes of these labels."""
    if not len(label_ids):
        return np.empty(0)
    some, of = np.unique(label_ids, return_inverse=True)
    texts = labels.text_prototypes(context.connection, some.tolist(), classifier.shape[1])
    likeness: Float64s = np.einsum("nd,nd->n", classifier, texts[of].astype(np.float64))
    return likeness


def _least_likeness(context: Context) -> float:
    """The similarity of an image to the text of its label below which it is unknown: a twentieth of
    the support images, or the least like of fewer than 19, are less like that of theirs; −inf
    without support images. A label without support images has no other test."""
    connection, space = context.connection, context.view.space
    classifier = space.verifier != "same"
    owners, raw = supports.sample_vectors(
        connection, space.id, context.home.thresholds.fit_sample, space.classifier_dim,
        classifier=classifier,
    )  # fmt: skip
    owners = context.view.aliases.of(owners)
    likeness = np.sort(_text_likeness(context, unit_rows(raw.astype(np.float64)), owners))
    rank = max(1, math.floor(_STRANGE_TEXT * (len(likeness) + 1)))
    return float(likeness[rank - 1]) if len(likeness) >= _ENOUGH else -math.inf


def _chosen(
    unit: Float32s, predicted: Int64s, probability: Float64s, free: Bools
) -> tuple[Int64s, Int64s]:
    """((n,) like neighbours, rows of the images that are proposed)."""
    same = np.zeros(len(unit), np.int64)
    which = np.flatnonzero(free)
    same[which], most = same_neighbours(unit, predicted, which)
    return same, chosen_images(probability, predicted, same, most, free)


def _queued(home: Home, space: SpaceRecord, images: _Images, choice: _Choice) -> Proposals:
    """The proposals, after they were put into the review queue."""
    one = images.classifier is images.verifier
    new = [
        NewItem(
            tray="proposal",
            content_hash=images.pictures[row].content_hash,
            source=images.pictures[row].source,
            predicted_id=int(label_id),
            predicted=proposal.label,
            decision="review",
            probability=proposal.probability,
            trust=proposal.probability,
            rule=DEFAULT_RULE,
            calibration_id=None,
            revision=choice.answer.revision,
            classifier_embedding=images.classifier[row],
            verifier_embedding=None if one else images.verifier[row],
            thumbnail=images.pictures[row].thumbnail,
        )
        for row, label_id, proposal in zip(
            choice.rows.tolist(), choice.label_ids.tolist(), choice.answer.rows, strict=True
        )
    ]
    added = 0
    for start in range(0, len(new), items.CHUNK_ROWS):
        with home.catalog.write("review") as connection:
            spaces.require_same(connection, space)
            some = new[start : start + items.CHUNK_ROWS]
            added += items.add(connection, space.id, some, home.review.items)
    return replace(choice.answer, queued=added)


def _accepted(home: Home, space: SpaceRecord, images: _Images, choice: _Choice) -> Proposals:
    """The proposals, after they became support images."""
    one = images.classifier is images.verifier
    by_label: dict[str, list[int]] = {}
    for row, proposal in zip(choice.rows.tolist(), choice.answer.rows, strict=True):
        by_label.setdefault(proposal.label, []).append(row)
    inputs = [
        LabelInput(
            label,
            image_vectors=images.verifier[rows],
            classifier_image_vectors=None if one else images.classifier[rows],
        )
        for label, rows in by_label.items()
    ]
    content = {row: hash_of(images.verifier[row]) for row in choice.rows.tolist()}
    pictures = {
        content[row]: (images.pictures[row].source, images.pictures[row].thumbnail)
        for row in choice.rows.tolist()
    }
    options = RegisterOptions(home.limits, must_exist=True, pictures=pictures, proposed=True)
    result = register(home, space.name, inputs, options)
    with home.catalog.read() as connection:
        ids = supports.ids_of_hashes(connection, space.id, list(pictures))
    rows = tuple(
        replace(proposal, support_id=ids.get(content[row]))
        for row, proposal in zip(choice.rows.tolist(), choice.answer.rows, strict=True)
    )
    return replace(choice.answer, rows=rows, revision=result.revision)


def remove_proposed(home: Home, space_name: str, label: str | None) -> RemovedProposals:
    """See :meth:`TrustService.remove_proposed`."""
    with home.read(space_name) as (connection, space):
        label_id = None if label is None else labels.find(connection, space.id, label).id
        ids = [one for one, _ in support_images.proposed(connection, space.id, label_id)]
    revision = remove_support(home, space_name, ids) if ids else space.revision
    return RemovedProposals(revision, tuple(ids))
