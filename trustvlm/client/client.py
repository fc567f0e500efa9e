"""The facade: every verb of a service elsewhere, each a line over the file that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.client import queries as query_verbs
from trustvlm.client.codec import back_off_value, reading_fields, rule_options
from trustvlm.client.label_verbs import LabelVerbs
from trustvlm.client.measuring_verbs import MeasuringVerbs
from trustvlm.client.search import search, search_options
from trustvlm.client.support_verbs import SupportVerbs
from trustvlm.errors import InvalidInput
from trustvlm.reading.given import given_queries
from trustvlm.types import Embedded, Hits, Queries, SpaceRow, Verdicts
from trustvlm.types.answers import RemovedSpace, SpaceList
from trustvlm.types.arrays import names_or_mask, texts
from trustvlm.types.attributes.filters import Filter, FilterLike, as_filter
from trustvlm.types.bounds import callbacks, flags, number, whole
from trustvlm.types.messages.placed import placed
from trustvlm.types.options import BackOff
from trustvlm.types.tables.projection import Projection

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images, ImageSource


@placed
class Client(LabelVerbs, MeasuringVerbs, SupportVerbs):
    """A :class:`trustvlm.TrustService` that another machine serves, with equal verbs, arguments,
    answers and errors.

    A context manager; safe to use from several threads. Every call is repeated while the service is
    busy (429, 503) or its connection breaks, with growing pauses and never before the service wants
    it; it does a write once, however often it is repeated. Errors are those of trustvlm.errors,
    with the `request_id` under which the service's log has the request.

    The verbs for the person who runs the service are missing: indexes, purges, verification,
    backups, moving and re-embedding spaces.
    """

    def create_space(
        self,
        name: str,
        *,
        classifier: str | None = None,
        verifier: str | None = None,
        templates: Sequence[str] | None = None,
        logit_scale: float | None = None,
        preset: str | None = None,
        recipe: str = "flat",
    ) -> SpaceRow:
        """Create a label space; see :meth:`TrustService.create_space`. Needs a key of scope admin.

        Raises:
            Forbidden: an encoder that the service's operator does not allow (setting
                serve_encoders). Else as in the library.
        """
        if templates is not None:
            templates = texts(templates, "templates", "a list of texts")
        if logit_scale is not None:
            logit_scale = number("logit_scale", logit_scale)
        return self._wire.write(
            SpaceRow, "POST", "spaces", name=name, classifier=classifier, verifier=verifier,
            templates=templates, logit_scale=logit_scale, preset=preset, recipe=recipe,
        )  # fmt: skip

    def get_space(self, name: str) -> SpaceRow:
        """The space's row with its counts. Raises NotFound."""
        return self._wire.get(SpaceRow, "spaces", name)

    def list_spaces(self) -> Iterator[SpaceRow]:
        """Every space that the key opens, by name."""
        return iter(self._wire.get(SpaceList, "spaces").spaces)

    def remove_space(self, name: str) -> None:
        """Remove a space; it can be restored until the undo window has passed. Raises NotFound."""
        self._wire.write(RemovedSpace, "DELETE", "spaces", name)

    def restore_space(self, name: str) -> None:
        """Bring back the space of that name that was removed last. Raises NotFound, Conflict."""
        self._wire.write(SpaceRow, "POST", "spaces", name, "restore")

    def embed(
        self,
        space: str,
        images: Sequence[ImageSource] | Iterator[ImageSource],
        *,
        progress: Callable[[int], None] | None = None,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
    ) -> Embedded:
        """Encode images once as queries of this space; unreadable ones are reported and left out.

        They are uploaded 32 (8 MB) at a time; `progress` is called with a number of images after
        these were encoded.
        """
        callbacks(progress=progress)
        return query_verbs.embed(
            self._wire, space, images, progress, reading_fields(image_range, accept_truncated)
        )

    def score(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        *,
        rule: str | None = None,
        top_k: int = 5,
        labels: Sequence[str] | npt.NDArray[np.bool_] | Filter | Mapping[str, Any] | None = None,
        params: Mapping[str, float | None] | None = None,
        revision: int | None = None,
        review: bool | None = None,
        back_off: BackOff | None = None,
        on_error: str = "raise",
    ) -> Verdicts:
        """Label and trust of every query at one revision of the space; see
        :meth:`TrustService.score`.

        Images are embedded first, see :meth:`embed`. Of more queries than go into a request (16 MB
        of embeddings), those that were answered at an earlier revision than others are requested
        again. `Verdicts.evidence` asks the service when it is called.

        Raises:
            Busy: the space changes faster than the queries can be answered. Else as in the library.
        """
        named: list[str] | Filter | None
        if labels is None or isinstance(labels, Filter | Mapping):
            named = None if labels is None else as_filter(labels, "labels")
        else:
            named = self._names(space, labels)
        given = given_queries(queries, stream=True)
        options = [*rule_options(rule, params), ("top_k", whole("top_k", top_k))]
        options += [("back_off", back_off_value(back_off))]
        if review is not None:
            flags(review=review)
            options.append(("review", bool(review)))
        return query_verbs.score(self._wire, space, given, options, named, revision, on_error)

    def search(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        *,
        kind: str = "support",
        k: int = 10,
        filter: FilterLike | None = None,
        min_similarity: float | None = None,
        vectors: bool = False,
        revision: int | None = None,
        on_error: str = "raise",
    ) -> Hits:
        """The k nearest support images, prototypes or text prototypes of every query; see
        :meth:`TrustService.search`.

        k is at most 1,000.
        """
        given = given_queries(queries, text=True, stream=True)
        chosen = None if filter is None else as_filter(filter)
        options = search_options(kind, k, min_similarity, vectors)
        return search(self._wire, space, given, options, chosen, revision, on_error)

    def project(self, space: str, *, limit: int = 2_000) -> Projection:
        """Support images and stored images of known label in two dimensions, for a map; see
        :meth:`TrustService.project`."""
        points = whole("limit", limit, bounds="points")
        return self._wire.get(Projection, "spaces", space, "projection", limit=points)

    def _names(self, space: str, labels: Sequence[str] | npt.NDArray[np.bool_]) -> list[str]:
        """The labels by name; a mask costs listing all of them."""
        mask = names_or_mask(labels, "labels")
        if isinstance(mask, list):
            return mask
        names = [row.name for row in self.list_labels(space)]
        if mask.shape != (len(names),):
            expected = f"one value for each of the {len(names)} labels, in the order of list_labels"
            raise InvalidInput(f"labels: a mask needs {expected}; got shape {mask.shape}")
        return [names[i] for i in np.flatnonzero(mask).tolist()]
