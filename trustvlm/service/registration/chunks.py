"""Cutting work into transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["chunked"]

T = TypeVar("T")


def chunked(
    items: Iterable[T], size: Callable[[T], int], most: int, items_at_most: int | None = None
) -> Iterator[list[T]]:
    """The items in their order, in chunks whose sizes add up to `most`; a larger item is a chunk of
    its own."""
    chunk: list[T] = []
    total = 0
    for item in items:
        more = size(item)
        if chunk and (len(chunk) == items_at_most or total + more > most):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += more
    if chunk:
        yield chunk
