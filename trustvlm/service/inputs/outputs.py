"""From the probabilities of an external classifier to classifier embeddings of its space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trustvlm.catalog.rows import labels
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.names import normal
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.outputs.probabilities import Outputs, outputs_of
from trustvlm.scoring.external import probability_vectors
from trustvlm.scoring.rules import RULES
from trustvlm.service.home.home import Home
from trustvlm.service.memory.space_cache import Reading
from trustvlm.types import Queries

_REMEDY = "register it, or leave it out and divide the other values by their sum"


def is_external(space: SpaceRecord) -> bool:
    """Whether the probabilities of the space's labels come with the queries."""
    return parse_spec(space.classifier).is_external


def no_classifier(space: SpaceRecord, verb: str) -> InvalidInput:
    """The error of queries that say nothing of the labels."""
    if is_external(space):
        return InvalidInput(
            f"queries.probabilities: the classifier of space {space.name!r} is external, so that "
            f"{verb} needs the probabilities that it gives for the labels; none were given"
        )
    return InvalidInput(
        f"queries.classifier: {verb} needs classifier embeddings; only verifier embeddings were "
        f"given"
    )


def no_text_search(space: SpaceRecord) -> InvalidInput:
    """The error of a search of an external space by what its classifier would embed."""
    return InvalidInput(
        f"queries: space {space.name!r} has an external classifier, so that it has no search by "
        f"text; search with images or verifier embeddings, of kind prototype or support"
    )


def require_logits(space: SpaceRecord, rules: Sequence[str]) -> None:
    """Make sure that probabilities are enough for each rule, where the space has no logits.

    Raises:
        InvalidInput: one looks at the logits themselves.
    """
    if is_external(space) and (needy := [name for name in rules if RULES[name].absolute]):
        can = ", ".join(name for name, rule in RULES.items() if not rule.absolute)
        raise InvalidInput(
            f"rule: {needy[0]!r} looks at the logits themselves, which the probabilities of an "
            f"external classifier do not determine; expected one of {can}"
        )


def with_vectors(home: Home, space: SpaceRecord, queries: Queries) -> Queries:
    """The queries, with classifier embeddings in place of probabilities.

    Raises:
        InvalidInput: no probabilities, embeddings beside them, or a space with an encoder.
        NotFound: a name that is no label of the space.
    """
    outputs = outputs_of(queries)
    if outputs is None:
        return queries
    if not is_external(space):
        raise InvalidInput(
            f"queries.probabilities: the classifier of space {space.name!r} is "
            f"{space.classifier!r}; a space that takes probabilities is made with "
            f"classifier='external'"
        )
    if queries.classifier is not None:
        raise InvalidInput("queries: expected classifier embeddings or probabilities, not both")
    home.calls.check("queries", len(outputs), "queries")
    places = home.answer(space.name, lambda reading: _places(reading, outputs))
    vectors = probability_vectors(outputs.spread(places, space.classifier_dim - 1, queries.sources))
    return replace(
        queries, classifier=vectors, probabilities=None, log_probabilities=None, outputs=None
    )


def _places(reading: Reading, outputs: Outputs) -> Mapping[str, int]:
    """Label name → output, of all labels of the space by their names, and of those that `outputs`
    names as they are spelled there. Raises NotFound: one is no label."""
    space = reading.view.space
    places: Mapping[str, int] = reading.once(
        "outputs", lambda: labels.outputs_by_name(reading.connection, space.id)
    )
    names = [name for name in outputs.names if name is not None]
    if missing := [name for name in names if name not in places and normal(name) not in places]:
        meant = unknown(reading.connection, space.id, missing)
        raise NotFound(f"queries.probabilities: {not_found_text(meant, space.name, _REMEDY)}")
    spelled = {name: places[normal(name)] for name in names if name not in places}
    return places if not spelled else {**places, **spelled}
