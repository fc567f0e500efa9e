"""Queries in bodies of requests: embeddings, or the probabilities of another classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from trustvlm.types.messages.stored_text import MAX_SOURCE
from trustvlm.types.options import Options, UpTo, says

Vector = list[float]
Rows = list[Vector]
Name = Annotated[str, UpTo(2_000)]
Claim = Annotated[str, UpTo(100_000)]
Source = Annotated[str, UpTo(MAX_SOURCE)]


def _rows_of(encoder: str) -> Any:
    return Field(description=f"(n, d) embeddings, not normalised, of the space's {encoder}")


@dataclass(frozen=True, kw_only=True)
class QueryBody(Options):
    """Queries as embeddings."""

    classifier: Annotated[Rows | None, _rows_of("classifier")] = None
    verifier: Annotated[Rows | None, _rows_of("verifier")] = None


Probabilities = list[list[float | None]] | list[dict[Name, float]]


@dataclass(frozen=True, kw_only=True)
class ProbabilityBody(QueryBody):
    """Queries as embeddings; in a space with an external classifier, the probabilities that it
    gives for the labels take the place of its embeddings."""

    probabilities: Annotated[
        Probabilities | None,
        says(
            "(n, N) of the labels `outputs`, each row with the sum 1; or for each query an object "
            "of some labels, of whose rest the other labels have equal shares"
        ),
    ] = None
    log_probabilities: Annotated[
        Probabilities | None, says("in place of these, their logarithms")
    ] = None
    outputs: Annotated[
        list[Name | None] | None,
        says("the label of each column; null: the probability of all labels that a row leaves out"),
    ] = None
