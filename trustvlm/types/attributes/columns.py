"""Columns of attribute values, and the rows that a filter keeps: pure, vectorised.

A row has a number; rows are only added, in order. A value of a list counts as the row's as the
value of a single one does: a condition holds of a row if it holds of one of its values.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.types.arrays import Bools, Int64s
from trustvlm.types.attributes.filters import Condition, Group, Node

Path = tuple[str, ...]
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def value_at(attributes: Mapping[str, Any], path: Path) -> Any:
    """The value under a key, or under keys of objects inside each other; None without."""
    value: Any = attributes
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


class _Grown:
    """A growable array; what was read of it never changes."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._data, self._n = values, len(values)

    @property
    def all(self) -> npt.NDArray[Any]:
        """The values so far."""
        return self._data[: self._n]

    def extend(self, values: Sequence[Any]) -> None:
        need = self._n + len(values)
        if need > len(self._data):
            larger = np.empty(need + need // 4 + 16, self._data.dtype)
            larger[: self._n] = self.all
            self._data = larger
        self._data[self._n : need] = values
        self._n = need


class Column:
    """The values of one key: for each kind, the rows and what they hold, in order of rows."""

    _KINDS = (("number", np.float64), ("text", np.int64), ("truth", np.bool_))

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        """An empty column, or the one that gave `arrays` with :meth:`to_arrays`."""
        given = arrays or {}
        self._codes: dict[str, int] = {}
        self._has = _Grown(given.get("has", np.empty(0, np.int64)))
        self._rows: dict[str, _Grown] = {}
        self._values: dict[str, _Grown] = {}
        for kind, dtype in self._KINDS:
            self._rows[kind] = _Grown(given.get(f"{kind}.rows", np.empty(0, np.int64)))
            self._values[kind] = _Grown(given.get(f"{kind}.values", np.empty(0, dtype)))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The column but for its texts, whose numbers are in "text.values": see :attr:`texts`."""
        arrays = {"has": self._has.all}
        for kind, _ in self._KINDS:
            arrays[f"{kind}.rows"] = self._rows[kind].all
            arrays[f"{kind}.values"] = self._values[kind].all
        return arrays

    @property
    def texts(self) -> list[str]:
        """The different texts, by number."""
        return list(self._codes)

    @texts.setter
    def texts(self, texts: Sequence[str]) -> None:
        self._codes = {text: code for code, text in enumerate(texts)}

    def extend(self, rows: Iterable[tuple[int, Any]]) -> None:
        """Add (row, value) pairs of rows behind those that there are; None: no value."""
        has = list[int]()
        by_kind: dict[str, tuple[list[int], list[Any]]] = {
            kind: ([], []) for kind, _ in self._KINDS
        }
        codes = self._codes
        for row, value in rows:
            if value is None:
                continue
            has.append(row)
            for one in value if type(value) is list else (value,):
                if type(one) is str:
                    kind, stored = "text", codes.setdefault(one, len(codes))
                elif type(one) is bool:
                    kind, stored = "truth", one
                elif type(one) in (int, float):
                    kind, stored = "number", one
                else:
                    continue
                by_kind[kind][0].append(row)
                by_kind[kind][1].append(stored)
        self._has.extend(has)
        for kind, (places, values) in by_kind.items():
            self._rows[kind].extend(places)
            self._values[kind].extend(values)

    def holds(self, condition: Condition, start: int, stop: int) -> Bools:
        """(stop − start,) whether a condition on this key holds of each row from `start` on."""
        mask = np.zeros(stop - start, np.bool_)
        if condition.operator == "exists":
            rows = self._has.all
            low, high = np.searchsorted(rows, (start, stop))
            mask[rows[low:high] - start] = True
            return mask if condition.operands[0] else ~mask
        for kind, test in self._tests(condition):
            rows, values = self._rows[kind].all, self._values[kind].all
            low, high = np.searchsorted(rows, (start, stop))
            mask[rows[low:high][test(values[low:high])] - start] = True
        return mask

    def _tests(
        self, condition: Condition
    ) -> list[tuple[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]]:
        """(kind, values → which of them fit) of a condition."""
        operands = condition.operands
        if condition.operator != "in":
            (bound,), compare = operands, _COMPARE[condition.operator]
            if isinstance(bound, str):
                fits = np.array([compare(text, bound) for text in self._codes], np.bool_)
                return [("text", lambda codes: fits[codes])] if len(fits) else []
            return [("number", lambda numbers: compare(numbers, float(bound)))]
        tests: list[tuple[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]] = []
        codes = [self._codes[one] for one in operands if type(one) is str and one in self._codes]
        if codes:
            wanted = np.zeros(len(self._codes), np.bool_)
            wanted[codes] = True
            tests.append(("text", lambda values: wanted[values]))
        numbers = [float(one) for one in operands if type(one) in (int, float)]
        if len(numbers) == 1:
            tests.append(("number", lambda values: values == numbers[0]))
        elif numbers:
            tests.append(("number", lambda values: np.isin(values, numbers)))
        truths = [one for one in operands if type(one) is bool]
        if truths:
            tests.append(("truth", lambda values: np.isin(values, truths)))
        return tests

    def kept(self, moved: Int64s) -> None:
        """Give each row the number `moved` has for it; rows with −1 go."""
        rows = moved[self._has.all]
        self._has = _Grown(np.sort(rows[rows >= 0]))
        for kind, _ in self._KINDS:
            rows = moved[self._rows[kind].all]
            order = np.argsort(rows, kind="stable")
            order = order[rows[order] >= 0]
            self._values[kind] = _Grown(self._values[kind].all[order])
            self._rows[kind] = _Grown(rows[order])


def combined(node: Node, leaf: Callable[[Condition], Bools]) -> Bools:
    """What a filter keeps, where `leaf` says what each of its conditions keeps."""
    if isinstance(node, Condition):
        return leaf(node)
    if isinstance(node, Group):
        first, *others = node.parts
        mask = combined(first, leaf).copy()
        for part in others:
            if node.word == "and":
                mask &= combined(part, leaf)
            else:
                mask |= combined(part, leaf)
        return mask
    return ~combined(node.part, leaf)


def holds_of_nothing(node: Node) -> bool:
    """Whether a filter holds of what has no attributes."""

    def leaf(condition: Condition) -> Bools:
        missing = condition.operator == "exists" and not condition.operands[0]
        return np.array([missing], np.bool_)

    return bool(combined(node, leaf)[0])
