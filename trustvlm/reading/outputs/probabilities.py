"""The probabilities that another classifier gives for the labels of a space: checked, and in one
form, whichever form they come in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.types import Queries
from trustvlm.types.arrays import Bools, Float64s, optional_texts, real_array
from trustvlm.types.messages.shapes import remedy

TOLERANCE = 1e-3
"""How far the sum of a row may be from 1, where its values are not rounded to a few decimals."""
_DECIMALS = (4, 3, 2)
_LOGITS = "logits come as an array, with outputs"
_EACH = "a label name for each column, or None for the probability of all other labels together"


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a classifier says of n queries.

    Attributes:
        names: of U labels, each once; None: the column of the rest, which all labels share that a
            row does not name.
        values: (n, U) probabilities; NaN: the row does not name this label.
    """

    names: tuple[str | None, ...]
    values: Float64s

    def __len__(self) -> int:
        return len(self.values)

    def spread(
        self, places: Mapping[str, int], count: int, sources: Sequence[object] | None = None
    ) -> Float64s:
        """(n, count) the probability of each output: 0 for one that no label has.

        Args:
            places: label name → its output, of all labels. sources: names of the rows, for
                messages.
        """
        named = [at for at, name in enumerate(self.names) if name is not None]
        columns = [places[str(self.names[at])] for at in named]
        live = np.zeros(count, np.bool_)
        live[list(places.values())] = True
        given = np.full((len(self), count), np.nan)
        given[:, columns] = self.values[:, named]
        others = np.isnan(given) & live
        rest = np.zeros(len(self))
        if None in self.names:
            rest = np.nan_to_num(self.values[:, self.names.index(None)])
        number = others.sum(axis=1)
        lost = (number == 0) & (rest > TOLERANCE)
        lost[lost] = rest[lost] > rounding(self.values[lost][:, named])
        if lost.any():
            row = int(lost.argmax())
            source = None if sources is None else sources[row]
            raise InvalidInput(
                f"queries.probabilities: {source or f'row {row}'} names every label of the space, "
                f"with the sum {1 - rest[row]:.4g}; expected the sum 1; divide its values by their "
                f"sum"
            )
        share = (rest / np.maximum(number, 1))[:, np.newaxis]
        spread: Float64s = np.where(others, share, np.nan_to_num(given))
        spread /= spread.sum(axis=1, keepdims=True)
        return spread


def outputs_of(queries: Queries) -> Outputs | None:
    """The probabilities of queries; None: they have none.

    Raises:
        InvalidInput: both kinds of them, another shape, names that do not fit the columns, or rows
            that are no probabilities.
    """
    both = queries.probabilities is not None and queries.log_probabilities is not None
    logs = queries.log_probabilities is not None
    given: Any = queries.log_probabilities if logs else queries.probabilities
    what = "queries.log_probabilities" if logs else "queries.probabilities"
    if both or given is None:
        if both:
            raise InvalidInput("queries: expected probabilities or log_probabilities, not both")
        if queries.outputs is not None:
            raise InvalidInput("queries.outputs: names of columns come with probabilities")
        return None
    if isinstance(given, Mapping):
        raise InvalidInput(
            f"{what}: expected {{label: probability}} for each query, got one mapping; put it in a "
            f"list: [{{…}}]"
        )
    if _is_rows(given):
        if queries.outputs is not None:
            raise InvalidInput(
                f"queries.outputs: {what} name the labels themselves, row by row; leave it out"
            )
        return _of_rows(given, what, logs)
    return _of_columns(given, queries.outputs, what, logs)


def in_one_form(queries: Queries, places: Sequence[int] | None = None) -> Queries:
    """The queries, their probabilities as an array with names of columns; with `places`, only these
    rows of it. Raises InvalidInput, see :func:`outputs_of`."""
    outputs = outputs_of(queries)
    if outputs is None:
        return queries
    values = outputs.values if places is None else outputs.values[list(places)]
    return replace(
        queries, probabilities=values, outputs=list(outputs.names), log_probabilities=None
    )


def beside_images(given: Queries, embedded: Queries, came: int, places: Sequence[int]) -> Queries:
    """The embeddings of images with the probabilities that came beside these.

    Args:
        given: the queries that came. came: how many images. places: of the embedded ones.

    Raises:
        InvalidInput: another number of probabilities, or see :func:`outputs_of`.
    """
    outputs = outputs_of(given)
    if outputs is None:
        return embedded
    if len(outputs) != came:
        raise InvalidInput(
            f"queries.probabilities: expected {came} rows, one for each image, got {len(outputs)}"
        )
    values, names = outputs.values[list(places)], list(outputs.names)
    return replace(embedded, probabilities=values, log_probabilities=None, outputs=names)


def no_probabilities(queries: Queries, verb: str) -> None:
    """Raises InvalidInput: queries have probabilities, and the verb does nothing with them."""
    if queries.probabilities is not None or queries.log_probabilities is not None:
        raise InvalidInput(
            f"queries.probabilities: {verb} compares embeddings and takes no probabilities"
        )


def rounding(values: Float64s) -> Float64s:
    """(n,) how far the sum of each row of (n, U) probabilities may be from 1 because they were
    rounded to two, three or four decimals: half a unit of the last one for each value above 0; at
    least TOLERANCE."""
    most = np.full(len(values), TOLERANCE)
    number = (values > 0).sum(axis=1)
    for decimals in _DECIMALS:
        scaled = values * 10.0**decimals
        rounded = (np.isnan(scaled) | (np.abs(scaled - np.round(scaled)) < 1e-3)).all(axis=1)
        half = 0.5 * 10.0**-decimals + 1e-6
        most[rounded] = np.maximum(TOLERANCE, half * number[rounded])
    return most


def row_problem(values: Collection[float]) -> str | None:
    """What is wrong with the probabilities of some labels of an image; None: nothing is."""
    row = np.array([list(values)], np.float64)
    return _problem(row[0], exact=False) if _wrong(row, exact=False).any() else None


def _wrong(array: Float64s, *, exact: bool, rounded: bool = True) -> Bools:
    """(n,) the row has negative values or another sum than 1; unless `exact`, it may be less."""
    excess = np.nansum(array, axis=1) - 1
    excess = np.abs(excess) if exact else excess
    wrong: Bools = excess > TOLERANCE
    if rounded:
        wrong[wrong] = excess[wrong] > rounding(array[wrong])
    return wrong | (array < 0).any(axis=1)


def _problem(row: Float64s, *, exact: bool, logs: bool = False) -> str:
    """What was expected of a wrong row, what it has, and what mends it."""
    total, least = float(np.nansum(row)), float(np.nanmin(row, initial=0.0))
    got = f"{least:.4g}" if least < 0 else f"the sum {total:.6g}"
    remedy = _LOGITS if logs else "logits go into log_probabilities"
    if least >= 0 and not logs:
        per_cent = 90 < total < 110
        remedy = f"{remedy}; divide others by {'100 (per cent)' if per_cent else 'their sum'}"
    expected = "the sum 1" if exact else "a sum of at most 1"
    return f"expected values of at least 0 with {expected}, got {got}; {remedy}"


def _is_rows(given: Any) -> bool:
    return isinstance(given, list | tuple) and any(isinstance(row, Mapping) for row in given)


def _of_rows(given: Sequence[Any], what: str, logs: bool) -> Outputs:
    """Rows of {label: probability}, each of the labels that it names."""
    names: dict[str, int] = {}
    for place, row in enumerate(given):
        if not isinstance(row, Mapping):
            raise InvalidInput(
                f"{what}: row {place}: expected {{label: probability}} as in the other rows, got "
                f"{type(row).__name__}"
            )
        for name in row:
            if not isinstance(name, str) or not name:
                raise InvalidInput(f"{what}: row {place}: expected label names, got {name!r:.60}")
            names.setdefault(name, len(names))
    values = np.full((len(given), len(names) + 1), np.nan)
    for place, row in enumerate(given):
        numbers = real_array(list(row.values()) or np.zeros(0), f"{what}: row {place}")
        values[place, [names[name] for name in row]] = numbers
        if np.isnan(numbers).any():
            raise InvalidInput(f"{what}: row {place} has NaN; leave out labels without a value")
    values = _checked(values, what, logs, exact=False)
    values[:, -1] = np.maximum(1 - np.nansum(values[:, :-1], axis=1), 0.0)
    return Outputs((*names, None), values)


def _of_columns(given: Any, outputs: Any, what: str, logs: bool) -> Outputs:
    if outputs is None:
        outputs = _names_of_columns(given)
    if outputs is None:
        raise InvalidInput(
            f"queries.outputs: expected the label of each column of {what} (for scikit-learn, "
            f"model.classes_), got none"
        )
    names = [name or None for name in optional_texts(outputs, "queries.outputs", _EACH)]
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InvalidInput(f"queries.outputs: {twice!r:.80} comes twice")
    array = real_array(_without_none(given), what)
    array = np.array(array[np.newaxis] if array.ndim == 1 and array.size else array, np.float64)
    if array.size == 0:
        array = array.reshape(len(array), len(names))
    if array.ndim != 2 or array.shape[1] != len(names):
        raise InvalidInput(
            f"{what}: expected shape (n, {len(names)}), a value for each name of outputs; got "
            f"{array.shape}{remedy(array.shape, len(names))}"
        )
    if (empty := np.isnan(array).any(axis=1)).any() and None not in names:
        raise InvalidInput(
            f"{what}: row {int(empty.argmax())} has NaN (in JSON null), which leaves a label out; "
            f"that takes a column of the rest, named None in outputs (in JSON null, in a form an "
            f"empty field)"
        )
    if logs:
        peak = np.nanmax(array, axis=1, keepdims=True, initial=-np.inf)
        if not np.isfinite(peak).all():
            raise InvalidInput(f"{what}: expected a finite value in each row, and none of +inf")
        array = np.exp(array - peak)
        return Outputs(tuple(names), array / np.nansum(array, axis=1, keepdims=True))
    return Outputs(tuple(names), _checked(array, what, logs, exact=True))


def _names_of_columns(table: Any) -> list[str] | None:
    """The names of a table's columns; None: it is no table, or its columns have other names."""
    columns = list(getattr(table, "column_names", getattr(table, "columns", ())))  # of pyarrow
    return columns if columns and all(isinstance(name, str) for name in columns) else None


def _without_none(given: Any) -> Any:
    """Rows of JSON, in which null stands for NaN."""
    if not isinstance(given, list | tuple):
        return given
    return [
        [np.nan if value is None else value for value in row]
        if isinstance(row, list | tuple)
        else row
        for row in given
    ]


def _checked(values: Float64s, what: str, logs: bool, *, exact: bool) -> Float64s:
    """Probabilities, of their logarithms too. Raises InvalidInput: negative or infinite values, or
    rows of another sum than 1; unless `exact`, it may be less."""
    if np.isposinf(values).any() or (np.isneginf(values).any() and not logs):
        raise InvalidInput(f"{what}: expected finite values")
    array: Float64s = np.exp(values) if logs else values
    if (wrong := _wrong(array, exact=exact, rounded=not logs)).any():
        row = int(wrong.argmax())
        raise InvalidInput(f"{what}: row {row}: {_problem(array[row], exact=exact, logs=logs)}")
    return array
