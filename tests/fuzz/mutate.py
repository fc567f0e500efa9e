"""Damaged copies of good files: what each input is, follows from its number alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["mutated"]

_ENDS = (7, 8, 15, 16, 24, 31, 32, 63, 64)  # bits of the numbers in files
_NUMBERS = (0, 1, 2, 3, *(2**bits - 1 for bits in _ENDS), *(2**bits for bits in _ENDS))


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the `seeds` after one to six damages; in one of twenty cases none."""
    data = bytearray(rng.choice(seeds))
    if rng.random() < 0.05:
        return bytes(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        rng.choice(_DAMAGES)(data, seeds, rng)
    return bytes(data)


def _at(data: bytearray, rng: random.Random) -> int:
    """A place; half of the time near the front, where headers are."""
    end = max(len(data), 1)
    return rng.randrange(min(end, 128)) if rng.random() < 0.5 else rng.randrange(end)


def _flip(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8, 32))):
        if data:
            data[_at(data, rng)] ^= 1 << rng.randrange(8)


def _set(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        if data:
            data[_at(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))


def _truncate(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    del data[_at(data, rng) :]


def _grow(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    data += rng.choice((bytes(1000), b"\xff" * 1000, rng.randbytes(1000), bytes(data)))


def _copy(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    start, size, to = _at(data, rng), rng.choice((1, 4, 16, 64, 1024)), _at(data, rng)
    block = bytes(data[start : start + size]) * rng.choice((1, 1, 2, 100))
    if rng.random() < 0.5:
        data[to:to] = block
    else:
        data[to : to + len(block)] = block


def _cut(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    start = _at(data, rng)
    del data[start : start + rng.choice((1, 2, 4, 16, 256))]


def _splice(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(seeds)
    if rng.random() < 0.5:
        data[_at(data, rng) :] = other[_at(bytearray(other), rng) :]
    else:
        start = _at(bytearray(other), rng)
        to = _at(data, rng)
        data[to:to] = other[start : start + rng.choice((8, 64, 1024))]


def _number(data: bytearray, seeds: Sequence[bytes], rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(_NUMBERS) + rng.choice((-1, 0, 0, 1))
    at = _at(data, rng)
    data[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))  # type: ignore[arg-type]


_DAMAGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip, _set, _truncate, _grow, _copy, _cut, _splice, _number, _number, _flip,
)  # fmt: skip
