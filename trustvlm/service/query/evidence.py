"""Evidence: the nearest support images of the predicted label, of its rival and of a claimed label,
read on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.attributes import rows as attributes
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.scoring.vectors import as_unit, unit_rows
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import query_vectors
from trustvlm.system.pickling import LocalReader
from trustvlm.types import Evidence, Neighbour, Queries
from trustvlm.types.arrays import Floats, Int64s
from trustvlm.types.attributes.values import attributes_of
from trustvlm.types.bounds import whole


class EvidenceGone(Unavailable):
    """The evidence of these verdicts can no longer be read."""


@dataclass(frozen=True, eq=False)
class EvidenceReader(LocalReader):
    """A function (i, k) → evidence of verdict i, of n. Unavailable after a purge.

    Attributes:
        space_id, epoch, revision: what is read: a space at a revision of a catalog's epoch.
        aliases: label id → its aliases at that revision.
        label_ids, rival_ids, claimed_ids: (n,) of the verdicts; −1: none. verifier: (n, d) their
            unit queries, d = `dim`.
        from_caller: a caller named all this, who may name any label: those of other spaces show
            nothing.
    """

    home: Home
    space_id: int
    epoch: str
    revision: int
    dim: int
    aliases: Mapping[int, Sequence[int]]
    label_ids: Int64s
    rival_ids: Int64s
    verifier: Floats | None
    claimed_ids: Int64s | None = None
    from_caller: bool = False

    def _nearest(self, label_id: int, query: Floats, k: int) -> tuple[Neighbour, ...]:
        """The k support images of a label (−1: of none) nearest to a unit query; Unavailable after
        a purge."""
        if label_id < 0:
            return ()
        members = [label_id, *self.aliases.get(label_id, ())]
        with self.home.catalog.read() as connection:
            if self.home.catalog.epoch(connection) != self.epoch:
                raise EvidenceGone(
                    "the catalog was restored or repaired since these verdicts were made; score "
                    "again"
                )
            if purge.supports_lost(connection, self.space_id, members, self.revision):
                raise EvidenceGone(
                    "support images of these verdicts were purged since; score again"
                )
            only = self.space_id if self.from_caller else None
            ids, sources, embeddings = supports.as_of(
                connection, members, self.revision, self.dim, space_id=only
            )
            if not ids:
                return ()
            similarity = unit_rows(embeddings.astype(np.float64)) @ query
            order = np.lexsort((np.array(ids), -similarity))[:k].tolist()
            texts = attributes.contents(connection, attributes.SUPPORTS, [ids[i] for i in order])
        return tuple(
            Neighbour(ids[i], sources[i], float(similarity[i]), attributes_of(texts.get(ids[i])))
            for i in order
        )

    def __call__(self, i: int, k: int) -> Evidence:
        self.home.check_open()
        k = whole("k", k)
        if self.verifier is None:
            return Evidence((), ())
        query = self.verifier[i]
        nearest = partial(self._nearest, query=query, k=k)
        label, rival = nearest(int(self.label_ids[i])), nearest(int(self.rival_ids[i]))
        if self.claimed_ids is None:
            return Evidence(label, rival)
        claimed = int(self.claimed_ids[i])
        same = claimed == self.label_ids[i]
        return Evidence(label, rival, label if same else nearest(claimed))

    def state(self, start: int, stop: int) -> dict[str, Any]:
        """What :func:`evidence_of` needs, besides the revision, to read the evidence of verdicts
        start … stop."""
        sides = (self.label_ids, self.rival_ids, self.claimed_ids)
        labels = {i for ids in sides if ids is not None for i in ids[start:stop].tolist()}
        aliases = {
            str(label): list(self.aliases[label]) for label in sorted(labels & self.aliases.keys())
        }
        return {"space": self.space_id, "epoch": self.epoch, "aliases": aliases}


def evidence_of(
    home: Home,
    space_name: str,
    queries: Queries,
    label_ids: Sequence[int],
    rival_ids: Sequence[int],
    state: Mapping[str, Any],
    revision: int,
    k: int,
    claimed_ids: Sequence[int] | None = None,
) -> list[Evidence]:
    """See :meth:`TrustService.evidence_of`."""
    space = home.space(space_name)
    space_id, epoch, aliases = _checked(state)
    if space_id != space.id:
        raise EvidenceGone(
            f"space {space_name!r} was made or re-embedded since these verdicts were made; "
            f"score again"
        )
    if revision > space.revision:
        raise InvalidInput(f"revision: space {space_name!r} is at {space.revision}, got {revision}")
    verifier = query_vectors(home, space, queries, as_unit)[1]
    count = len(label_ids)
    claims = count if claimed_ids is None else len(claimed_ids)
    if claims != count:
        raise InvalidInput(f"claimed_ids: expected {count} of them, as of label_ids, got {claims}")
    if len(rival_ids) != count or (verifier is not None and len(verifier) != count):
        queried = "no" if verifier is None else len(verifier)
        raise InvalidInput(
            f"label_ids, rival_ids and queries belong together; got {count}, {len(rival_ids)} "
            f"and {queried} of them"
        )
    reader = EvidenceReader(
        home, space.id, epoch, revision, space.verifier_dim, aliases,
        label_ids=np.array(label_ids, np.int64),
        rival_ids=np.array(rival_ids, np.int64),
        verifier=verifier,
        claimed_ids=None if claimed_ids is None else np.array(claimed_ids, np.int64),
        from_caller=True,
    )  # fmt: skip
    return [reader(i, k) for i in range(count)]


def _checked(state: Mapping[str, Any]) -> tuple[int, str, dict[int, list[int]]]:
    """(space id, epoch, aliases) of what :meth:`EvidenceReader.state` gave to a caller."""
    try:
        aliases = {
            int(label): [_integer(one) for one in others]
            for label, others in state["aliases"].items()
        }
        ids = [one for label, others in aliases.items() for one in (label, *others)]
        if not all(0 < one < 2**63 for one in ids):
            raise ValueError("no id")
        return _integer(state["space"]), str(state["epoch"]), aliases
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidInput(
            "state: expected the evidence_state that came with the verdicts"
        ) from error


def _integer(value: object) -> int:
    """A number of JSON without a fraction. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError("no id")
    return int(value)
