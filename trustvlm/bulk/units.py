"""A unit: the part of the input that becomes one file of the output, and the key that says what the
file was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

CALL_ROWS = 16_384
"""Rows that are scored in one call: a multiple of every batch of the engines, so that the calls of
a unit give the numbers of one call over its rows."""
VECTOR_ROWS, IMAGE_ROWS = 6 * CALL_ROWS, 2_048
"""Rows of a unit, unless the caller says otherwise."""

Kind = Literal["vectors", "rows", "shard", "files"]


@dataclass(frozen=True)
class Unit:
    """A part of the input.

    Attributes:
        name: of its file, without the suffix; with "/" where the input is in sub-folders.
        kind: rows of a Parquet file of vectors, rows of one of images, a tar shard, or image files.
        path: of the file that holds it; of image files, the folder or list that they come from.
        start, stop: its rows; of a shard, stop is 0: they are counted when it is read.
        images: paths of image files. claims: what these are claimed to be; None: nothing, or the
            claims are read with the rows.
        stamp: sizes and times of its files: equal for an input that nothing has touched.
    """

    name: str
    kind: Kind
    path: str
    start: int
    stop: int
    images: tuple[str, ...] = ()
    stamp: str = ""
    claims: tuple[str | None, ...] | None = None

    @property
    def rows(self) -> int | None:
        """Number of rows; None: not known before it is read."""
        return None if self.kind == "shard" else self.stop - self.start

    def input_key(self, digest: str) -> dict[str, Any]:
        """What the key of its file says of the input; `digest`: of its content."""
        rows = [self.start, self.stop]
        return {"name": self.name, "rows": rows, "stamp": self.stamp, "digest": digest}


@dataclass(frozen=True)
class Plan:
    """All units of an input.

    Attributes:
        origin: what the input is. sides: of vectors, the columns classifier and verifier that there
            are; none for images.
        notes: what was left out of folders, in words.
    """

    origin: str
    units: tuple[Unit, ...]
    sides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """Number of rows; None: not known before they are read."""
        counts = [unit.rows for unit in self.units]
        return None if None in counts else sum(count for count in counts if count is not None)


_WORDS = {
    "epoch": "the state of the catalog (it was restored, imported or repaired)",
    "encoders": "the encoders",
    "reading": "how images are read",
    "params": "the parameters of the rule",
    "labels": "the labels that take part",
    "claimed": "the claims",
    "top_k": "the number of listed labels",
    "version": "the version of trustvlm",
}


def difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """In which setting two keys differ, in words; None: in none. What they say of the input and of
    the space's revision is not compared."""
    for name in sorted({*stored, *wanted} - {"input", "revision"}):
        if stored.get(name) != wanted.get(name):
            if name in _WORDS:
                return f"{_WORDS[name]} differ{'s' if name in ('epoch', 'version') else ''}"
            before, now = _shown(stored.get(name)), _shown(wanted.get(name))
            return f"its {name.replace('_', ' ')} is {before}, now {now}"
    return None


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value!r:.80}"
