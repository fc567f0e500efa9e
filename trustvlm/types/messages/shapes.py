"""What is wrong with the shape of an array, and the change of one line that mends it."""

from __future__ import annotations

from collections.abc import Mapping


def expected_rows(shape: tuple[int, ...], columns: int) -> str:
    """That (n, columns) is expected, the shape that came, and its remedy where there is one."""
    return f"expected shape (n, {columns}), got {shape}{remedy(shape, columns)}"


def remedy(shape: tuple[int, ...], columns: int) -> str:
    """How an array of this shape becomes one of (n, columns), behind a semicolon; empty: nobody
    knows."""
    if len(shape) == 3 and shape[2] == columns and 1 in shape[:2]:
        return "; pass values[0]" if shape[0] == 1 else "; pass values[:, 0]"
    if len(shape) == 3 and shape[2] == columns:
        return "; pass one vector for each image, as values[:, 0] or values.mean(axis=1) gives"
    if len(shape) == 4:
        return "; pixels are no embeddings, pass them as images"
    if len(shape) == 2 and shape[0] == columns:
        return "; pass values.T"
    return ""


def unequal(counts: Mapping[str, int]) -> str:
    """That there are different numbers of rows of what comes with each query."""
    parts = (
        f"{number} row{'s' * (number != 1)} of probabilities"
        if side == "probabilities"
        else f"{number} {side} embedding{'s' * (number != 1)}"
        for side, number in counts.items()
    )
    return f"queries: {', but '.join(parts)}; expected one of each for every query"
