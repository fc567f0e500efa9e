"""Pickling and copying: answers may leave their process; open services and clients may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, SupportsIndex

from trustvlm.errors import StaysHere, Unavailable
from trustvlm.types import Evidence


class Unpicklable:
    """A base class of objects that cannot be pickled or copied. `_instead`: a sentence with the
    reason and the remedy."""

    _instead: str

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Raises StaysHere always."""
        raise StaysHere(self._instead)


@dataclass(frozen=True)
class EvidenceNotPickled:
    """Stands in pickled verdicts for the reader of their evidence, which needs its service or
    client."""

    def __call__(self, i: int, k: int) -> Evidence:
        """Raises Unavailable always."""
        raise Unavailable(
            "pickled verdicts do not keep their evidence: read it before pickling, with "
            "verdicts.rows(evidence=3), or score again here"
        )


class LocalReader:
    """A base class of readers of evidence: copies of verdicts share the reader, pickles omit it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> LocalReader:
        return self

    def __reduce__(self) -> tuple[type[EvidenceNotPickled], tuple[()]]:
        return EvidenceNotPickled, ()
