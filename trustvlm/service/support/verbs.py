"""The verbs that list, clean and extend support images."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING

from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import are_labelled_by_claims
from trustvlm.reading.given import given_labelled, given_queries, named_queries
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.support import listing
from trustvlm.service.support.audit import audit, audit_given, claims_as_truth
from trustvlm.service.support.propose import propose, remove_proposed
from trustvlm.types import Queries, SupportRow
from trustvlm.types.attributes.filters import FilterLike, as_filter
from trustvlm.types.bounds import flags, whole
from trustvlm.types.registration import RemovedSupports
from trustvlm.types.support.audit import Audit, MovedSupports
from trustvlm.types.support.proposals import Proposals, RemovedProposals

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images


class SupportVerbs(OpenHome):
    """Listing, removing, auditing, moving and proposing support images of an open home."""

    def audit(
        self,
        space: str,
        queries: Queries | Images | LabelledImages | None = None,
        truth: Sequence[str | None] | EllipsisType | None = ...,
        *,
        sources: Sequence[str | None] | None = None,
        limit: int | None = None,
        cursor: int | None = None,
        on_error: str = "raise",
    ) -> Audit:
        """Which labelled images probably have a wrong label, and which label they look like.

        Each image is judged with its own label made without it: −log of the probability of its
        label, from the text softmax over the labels that have images and the leave-one-out evidence
        of the rule `lda` (docs/support-images.md). An image whose label has a probability below 1
        in 20 is flagged. Images of a label that has no other one are not judged, but counted.

        Args:
            queries, truth, sources: labelled images that are not registered, as for
                :meth:`evaluate`; they are judged together with the support images of the space. By
                default the support images themselves are judged. `Queries.claimed` takes the place
                of truth; a claim that is no label counts as an image of no label.
            limit: most rows; None: all. cursor: the `next_cursor` of the page before.
            on_error: "skip" leaves out images that cannot be read, and names them in `failures`.

        Raises:
            NotFound: unknown space, or a truth that is no label. InvalidInput: wrong shapes, NaN,
            verifier embeddings missing, truth without queries, or beside claims.
        """
        home = self._ready()
        if queries is None:
            if truth not in (..., None) or sources is not None:
                raise InvalidInput("truth, sources: they belong to queries, and none were given")
            return audit(home, space, limit, cursor)
        if isinstance(queries, Queries) and are_labelled_by_claims(queries, truth):
            queries, truth = claims_as_truth(home, space, queries)
        given, names, sources = given_labelled(queries, ... if truth is None else truth, sources)
        return audit_given(home, space, given, names, sources, on_error, limit, cursor)

    def propose(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        *,
        accept: bool = False,
        review: bool = False,
        few: int = 4,
        sources: Sequence[str | None] | None = None,
        on_error: str = "raise",
    ) -> Proposals:
        """Propose support images for labels that have none or few, from images without labels.

        Images that are unlike every support image are left out, as are support images and images
        whose true label is stored. Proposed are the up to 8 most probable images of a label, if
        their probability is 0.5 or more and 6 of their 10 nearest images of the call get the same
        label; a label that would get fewer than 4 gets none (docs/support-images.md).

        Args:
            queries: images, or embeddings of both encoders, as for :meth:`score`. They should be
                many: neighbours are looked for among them.
            accept: make the proposals support images at once, marked as proposed:
                :meth:`remove_proposed` removes them together. review: put them into the tray
                "proposal" of the review queue, where a person accepts each. By default nothing is
                stored.
            few: labels with fewer support images than this get proposals.
            sources: names of the images. on_error: as for :meth:`score`.

        Raises:
            NotFound: unknown space. InvalidInput: wrong shapes, NaN, embeddings of one
            encoder only, or a space without labels.
        """
        home = self._writable() if accept or review else self._ready()
        given, names = named_queries(given_queries(queries), sources)
        return propose(
            home, space, given, names, accept=accept, review=review, few=few, on_error=on_error
        )

    def remove_proposed(self, space: str, *, label: str | None = None) -> RemovedProposals:
        """Remove the support images that were proposed, of one label or of all; they can be
        restored. Raises NotFound: unknown space or label."""
        return remove_proposed(self._writable(), space, label)

    def list_supports(
        self,
        space: str,
        label: str | None = None,
        *,
        ids: Sequence[int] | None = None,
        filter: FilterLike | None = None,
        vectors: bool = False,
        after: int = 0,
        limit: int | None = None,
    ) -> list[SupportRow]:
        """Support images: those of a label and its aliases, or of the whole space, in order of id.

        Args:
            ids: these support images, in this order, in place of the arguments below.
            filter: only those that it keeps: each has the attributes of the label that it was
                registered under, and its own in place of those with the same key.
            vectors: with their raw embeddings, (d_v,) and (d_t,) numbers each.
            after: only larger ids: that of the last row of the page before. limit: most rows, up to
                1,000,000; None: all.

        Raises:
            NotFound: unknown space, label or id. InvalidInput: no filter, or a number out of range.
        """
        flags(vectors=vectors)
        after = whole("after", after, bounds="revision")
        most = None if limit is None else whole("limit", limit)
        home = self._ready()
        if ids is None:
            chosen = None if filter is None else as_filter(filter)
            return listing.list_supports(home, space, label, chosen, vectors, after, most)
        if (label, filter, limit, after) != (None, None, None, 0):
            raise InvalidInput("ids: expected without label, filter, after and limit")
        return listing.supports_by_id(home, space, ids, vectors)

    def count_supports(
        self, space: str, label: str | None = None, *, filter: FilterLike | None = None
    ) -> int:
        """How many support images the space has, or a label, or a filter keeps of them; see
        :meth:`list_supports`. Raises NotFound, InvalidInput."""
        chosen = None if filter is None else as_filter(filter)
        return listing.count_supports(self._ready(), space, label, chosen)

    def remove_supports(
        self, space: str, label: str | None = None, *, filter: FilterLike | None = None
    ) -> RemovedSupports:
        """Remove the support images of a label, or those that a filter keeps, or both: of the
        label, what the filter keeps. 1,000 a transaction: an interrupted call is completed by
        repeating it. :meth:`restore_support` takes the ids of the answer.

        Raises:
            NotFound: unknown space or label. InvalidInput: neither a label nor a filter.
        """
        chosen = None if filter is None else as_filter(filter)
        return listing.remove_supports(self._writable(), space, label, chosen)

    def move_support(self, space: str, ids: Sequence[int], label: str) -> MovedSupports:
        """Give support images to another label, all of them or none.

        They are removed from their labels, and can be restored there. An image that `label` has
        already is not added again; the id is that of its image.

        Raises:
            NotFound: unknown space, label or id, or a removed support image. InvalidInput: an image
            that is one of `label`.
        """
        return listing.move_support(self._writable(), space, ids, label)

    def keep_support(self, space: str, ids: Sequence[int], *, keep: bool = True) -> int:
        """Store that support images are right: :meth:`audit` flags them no more. With `keep` False,
        that is taken back. Returns the space's revision, which stays the same.

        Raises:
            NotFound: unknown space or id, or a removed support image.
        """
        flags(keep=keep)
        return listing.keep_support(self._writable(), space, ids, bool(keep))
