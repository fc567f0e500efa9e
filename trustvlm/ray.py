"""A callable class for pipelines of Ray Data, or of others that map batches.

>>> import ray
>>> from trustvlm.ray import Scorer
>>> scored = ray.data.read_parquet("vectors/").map_batches(  # doctest: +SKIP
...     Scorer, fn_constructor_kwargs={"home": "/data/home", "space": "birds"}, concurrency=8
... )

Files that are done once, and no more, need no pipeline: :func:`trustvlm.bulk.score`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trustvlm.bulk.api import opening_of
from trustvlm.bulk.inputs.columns import SIDES
from trustvlm.bulk.tables import verdict_table
from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.columns import IMAGE_COLUMNS, folded
from trustvlm.system.files.default_home import default_home
from trustvlm.types import Queries, Verdicts
from trustvlm.types.messages.meant import did_you_mean

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Scorer"]


class Scorer:
    """Adds verdicts to batches of vectors or images.

    It opens the home when it is made, as Ray does in each of its actors, and keeps it open. Leave
    Ray Data a core for its readers: with actors on all of them it waits for ever.

    Args:
        home: the home; None: with `database_url` this machine's cache, else the default home.
        database_url: where the catalog is, if not in the home.
        space: the space to score in.
        rule, params, top_k: as for :meth:`trustvlm.TrustService.score`.
        claimed: the column of labels that the rows are claimed to have, None for none: verdicts
            then say whether these can be accepted (docs/claims.md).
        prefix: put before the names of the added columns, where the batch has some of their names.
        device: where models run: "cpu", "cuda" or "cuda:N".

    Raises:
        InvalidInput, NotFound, Unavailable: as :func:`trustvlm.open`.
    """

    def __init__(
        self,
        home: str | None = None,
        database_url: str | None = None,
        space: str = "",
        rule: str | None = None,
        *,
        params: Mapping[str, float | None] | None = None,
        top_k: int = 5,
        claimed: str | None = None,
        prefix: str = "",
        device: str | None = None,
    ) -> None:
        if not isinstance(space, str) or not space:
            raise InvalidInput("space: expected the name of a space, got none")
        place = default_home() if home is None else home
        opening = opening_of(place, database_url=database_url, device=device)
        self._service = opening.service()
        self._space, self._prefix, self._claimed = space, prefix, claimed
        self._options = {"rule": rule, "params": params, "top_k": top_k}
        self._service.get_space(space)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with the columns of :meth:`trustvlm.Verdicts.to_arrow` added, and `failure`,
        which says why a row has no verdict.

        Args:
            batch: (n, …) arrays by name: classifier, verifier or both, (n, d) or n vectors; or
                images in a column image, bytes, path, file …: paths, bytes of image files, or
                pixels (height, width, 3) of uint8.

        Raises:
            InvalidInput: no such column, vectors that cannot be scored, or names of columns that
                the batch has already.
        """
        sides = [side for side in SIDES if side in batch]
        table = self._of_vectors(batch, sides) if sides else self._of_images(batch)
        added = {f"{self._prefix}{name}": values for name, values in _arrays(table).items()}
        if both := sorted({*batch} & {*added}):
            raise InvalidInput(
                f"batch: it has a column {both[0]!r} already; name the added ones otherwise: "
                f"prefix='trust_'"
            )
        return {**batch, **added}

    def _of_vectors(self, batch: Mapping[str, Any], sides: Sequence[str]) -> pyarrow.Table:
        vectors = {side: _matrix(batch[side]) for side in sides}
        queries = Queries(vectors.get("classifier"), vectors.get("verifier"))
        rows = len(vectors[sides[0]])
        return self._table(self._score(queries, batch, range(rows)), {}, rows)

    def _of_images(self, batch: Mapping[str, Any]) -> pyarrow.Table:
        usual = (*IMAGE_COLUMNS, "bytes")
        names = {folded(name): name for name in batch}
        column = next((names[one] for one in usual if one in names), None)
        if column is None:
            raise InvalidInput(
                f"batch: expected columns classifier or verifier, or a column of images (image, "
                f"bytes, path …); got {', '.join(batch)}"
            )
        made = self._service.embed(self._space, [_image(value) for value in batch[column]])
        reasons = [reason for _, reason in made.failures]
        failures = dict(zip(made.failed, reasons, strict=True))
        verdicts = self._score(made.queries, batch, made.places)
        return self._table(verdicts, failures, len(batch[column]), np.array(made.places, np.int64))

    def _score(self, queries: Queries, batch: Mapping[str, Any], places: Sequence[int]) -> Verdicts:
        """The verdicts of the rows of a batch that stand at these places, with their claims."""
        if self._claimed is not None:
            if self._claimed not in batch:
                raise InvalidInput(
                    f"claimed: the batch has no column {self._claimed!r}; it has "
                    f"{', '.join(batch)}{did_you_mean(self._claimed, list(batch))}"
                )
            names = [batch[self._claimed][place] for place in places]
            queries = replace(queries, claimed=names)
        verdicts: Verdicts = self._service.score(
            self._space, queries, review=False, **self._options
        )
        return verdicts

    @staticmethod
    def _table(
        verdicts: Verdicts, failures: Mapping[int, str], rows: int, places: Any = None
    ) -> pyarrow.Table:
        where = np.arange(rows, dtype=np.int64) if places is None else places
        return verdict_table(verdicts, [""] * rows, where, failures).drop_columns(["source"])


def _matrix(values: Any) -> Any:
    """(n, d) of an array, or of n vectors."""
    array = np.asarray(values)
    return np.stack([np.asarray(row) for row in array]) if array.dtype == object else array


def _image(value: Any) -> Any:
    """An image as the encoders take it; arrays are pixels."""
    if isinstance(value, np.ndarray):
        from PIL import Image

        return Image.fromarray(value)
    return value


def _arrays(table: pyarrow.Table) -> dict[str, Any]:
    """Columns as arrays; lists, and values that may be missing, as arrays of objects."""
    from pyarrow import types

    arrays: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if types.is_floating(column.type):
            arrays[name] = column.to_numpy()
            continue
        if column.null_count or types.is_list(column.type):
            arrays[name] = np.empty(len(column), object)
            for place, value in enumerate(column.to_pylist()):
                arrays[name][place] = value
        else:
            arrays[name] = column.to_numpy()
    return arrays
