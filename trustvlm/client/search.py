"""Searching over HTTP, in as many requests as the number of queries needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trustvlm.client.codec import hits_of, name_array, npz_body
from trustvlm.client.queries import Arrays, answers_of, embedded_queries, only_one_kind
from trustvlm.client.transport import Wire, json_body, path_of
from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import no_claims, no_sources
from trustvlm.reading.outputs.probabilities import no_probabilities
from trustvlm.types import Hits, Queries
from trustvlm.types.arrays import id_list, texts
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.bounds import choice, flags, number, whole
from trustvlm.types.options import KINDS

MOST_VALUES = 2_000_000
"""Numbers of the vectors that one answer brings."""
_LIKE = ("like_supports", "like_labels")


def search_options(
    kind: str, k: int, min_similarity: float | None, vectors: bool
) -> dict[str, Any]:
    """What is searched for, as the service takes it. Raises InvalidInput."""
    flags(vectors=vectors)
    options: dict[str, Any] = {"kind": choice("kind", kind, KINDS), "k": whole("k", k)}
    if min_similarity is not None:
        options["min_similarity"] = number("min_similarity", min_similarity)
    return options | ({"vectors": True} if vectors else {})


def search(
    wire: Wire, space: str, queries: Queries, options: dict[str, Any], chosen: Filter | None,
    revision: int | None, on_error: str,
) -> Hits:  # fmt: skip
    """See :meth:`Client.search`; `options`: of :func:`search_options`."""
    no_claims(queries.claimed, "search")
    no_sources(queries, "search")
    no_probabilities(queries, "search")
    path, k, vectors = path_of("spaces", space, "search"), options["k"], "vectors" in options
    expected = None if revision is None else whole("revision", revision)
    if (named := _named(queries)) is not None:
        some = {} if chosen is None else {"filter": chosen.to_dict()}
        answer = wire.ask("POST", path, body=json_body(options | some | named), revision=expected)
        return hits_of([(answer, len(next(iter(named.values()))))], k, vectors)
    embedded = embedded_queries(wire, space, queries, on_error)
    beside: Arrays = {} if chosen is None else {"filter": name_array([chosen.text])}
    most = None
    if vectors:
        widths = (rows.shape[-1] for rows in embedded.arrays.values() if rows.ndim == 2)
        width = max(widths, default=1)  # none: no image could be read
        most = max(1, MOST_VALUES // (k * max(width, 1)))
    answers = answers_of(
        wire, path, embedded.arrays, expected, lambda part: npz_body(part | beside),
        list(options.items()), most,
    )  # fmt: skip
    hits = hits_of(answers, k, vectors, embedded.notes)
    return replace(hits, failures=embedded.failures)


def _named(queries: Queries) -> dict[str, list[Any]] | None:
    """The field of the request that holds texts, ids or names to search with; None: there are
    vectors or images."""
    like = [name for name in _LIKE if getattr(queries, name) is not None]
    kinds = (queries.images, queries.text, queries.classifier, queries.verifier)
    if like and len(like) + sum(part is not None for part in kinds) > 1:
        raise InvalidInput(
            "queries: pass vectors, images, text, like_supports or like_labels, not several of them"
        )
    if queries.like_supports is not None:
        what = "queries.like_supports"
        return {
            "like_supports": id_list(queries.like_supports, what, "a list of support image ids")
        }
    if queries.like_labels is not None:
        what = "queries.like_labels"
        return {"like_labels": texts(queries.like_labels, what, "a list of label names")}
    if queries.text is None:
        return None
    only_one_kind(queries)
    given = [queries.text] if isinstance(queries.text, str) else queries.text
    return {"text": texts(given, "queries.text", "a list of texts")}
