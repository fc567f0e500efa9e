"""The nearest rows of a search."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, SupportsIndex, get_type_hints

import numpy as np

from trustvlm.types.arrays import Float32s, Float64s, Int64s, Objects
from trustvlm.types.json_form import Answer, Attributes
from trustvlm.types.registration import UnreadImage
from trustvlm.types.tables.columns import Column
from trustvlm.types.tables.glance import HTML_ROWS, Glance, Place
from trustvlm.types.tables.tabular import Tabular


@dataclass(frozen=True, repr=False)
class Hit(Answer):
    """One of the nearest rows of a query, counted from 0; ranks are counted from 1. JSON has
    `vector` only where vectors are requested."""

    __pydantic_config__: ClassVar[Any] = {"json_schema_serialization_defaults_required": False}

    query: int
    rank: int
    id: int
    similarity: float
    label: str
    source: str | None
    attributes: Attributes = field(default_factory=dict, hash=False)
    vector: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Hits(Tabular):
    """The k nearest rows of n queries, best first; padded with −1, −inf and None.

    `hits[i]` and iteration give the hits of one query, as a tuple of :class:`trustvlm.Hit` without
    the padding; :meth:`to_arrow` and :meth:`to_pandas` have one row for each hit of all queries.

    Attributes:
        kind: "support" (ids of support images), "prototype" or "text" (ids of labels).
        ids: (n, k) int64.
        similarity: (n, k) cosine similarity.
        labels: (n, k) label names.
        sources: (n, k) where each support image came from; None for the other kinds.
        revision: the space's revision of the hits.
        notes: a sentence for each kind of change that made image queries readable for the encoders.
        failures: (source, reason) of each image that could not be read and has no hits; only with
            on_error="skip".
        approximate: some of the nearest may be missing, or in another order. error_bound: largest
            error of a similarity.
        recall: share of the 10 nearest that the index finds, measured when it was built or tuned,
            on rows that were not in it; None where every row is compared.
        attributes: (n, k) those of each support image or label, a mapping; None: padding.
        vectors: (n, k, d) where they are requested, else None: raw embeddings of support images,
            those that the queries were compared with, or prototypes of labels, of length 1; NaN:
            padding.
    """

    kind: str
    ids: Int64s
    similarity: Float64s
    labels: Objects
    sources: Objects
    revision: int
    notes: tuple[str, ...] = ()
    approximate: bool = False
    error_bound: float = 0.0
    recall: float | None = None
    failures: tuple[UnreadImage, ...] = ()
    attributes: Objects | None = None
    vectors: Float32s | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: SupportsIndex) -> tuple[Hit, ...]:
        """The hits of query i, best first. Raises IndexError: there is no such query."""
        place = operator.index(i)
        if not -len(self) <= place < len(self):
            raise IndexError(f"query {place} of {len(self)}")
        return self._hits(place % len(self))

    def __iter__(self) -> Iterator[tuple[Hit, ...]]:
        for i in range(len(self)):
            yield self._hits(i)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain dict per hit: query, rank, id, similarity, label, source, attributes, and
        vector where vectors are requested; padding is left out."""
        for query in range(len(self)):
            yield from self._rows(query)

    def _rows(self, query: int) -> Iterator[dict[str, Any]]:
        for rank in np.flatnonzero(self.ids[query] >= 0).tolist():
            row = {
                "query": query,
                "rank": rank + 1,
                "id": int(self.ids[query, rank]),
                "similarity": float(self.similarity[query, rank]),
                "label": self.labels[query, rank],
                "source": self.sources[query, rank],
                "attributes": self._attributes(query, rank),
            }
            if self.vectors is not None:
                row["vector"] = tuple(self.vectors[query, rank].tolist())
            yield row

    def _attributes(self, query: int, rank: int) -> Any:
        return {} if self.attributes is None else self.attributes[query, rank]

    def _hits(self, query: int) -> tuple[Hit, ...]:
        return tuple(Hit(**row) for row in self._rows(query))

    def _table(self) -> tuple[dict[str, Column], int]:
        query, rank = np.nonzero(self.ids >= 0)
        values = {
            "query": query,
            "rank": rank + 1,
            "id": self.ids[query, rank],
            "similarity": self.similarity[query, rank],
            "label": self.labels[query, rank],
            "source": self.sources[query, rank],
        }
        hints = get_type_hints(Hit)
        texts = [
            json.dumps(self._attributes(*place), ensure_ascii=False)
            for place in zip(query.tolist(), rank.tolist(), strict=True)
        ]
        columns = {name: Column(hints[name], array) for name, array in values.items()}
        return columns | {"attributes": Column(str, texts)}, len(query)

    def _glance(self) -> Glance:
        total = int(np.count_nonzero(self.ids >= 0))
        columns = ("query", "rank", "similarity", "label", "source", "id")
        rows = []
        for row in islice(self.rows(), HTML_ROWS):
            row["source"] = None if row["source"] is None else Place(row["source"])
            rows.append(tuple(row[name] for name in columns))
        of = f"of {len(self):,} quer{'y' if len(self) == 1 else 'ies'}"
        line = f"{total:,} hits {of} among {_KINDS.get(self.kind, self.kind)} at revision"
        return Glance((f"{line} {self.revision} of the space",), columns, rows, total)


_KINDS = {"support": "support images", "prototype": "prototypes", "text": "text prototypes"}
