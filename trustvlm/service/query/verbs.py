"""The verbs that embed, score and search queries, and draw a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.reading.given import given_queries
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.inputs.encode import embed, image_limits
from trustvlm.service.query.score import score
from trustvlm.service.query.search import search
from trustvlm.service.query.stored import project
from trustvlm.types import Embedded, Hits, Queries, Verdicts
from trustvlm.types.arrays import sources
from trustvlm.types.attributes.filters import Filter, FilterLike
from trustvlm.types.bounds import callbacks, flags
from trustvlm.types.options import BackOff
from trustvlm.types.tables.projection import Projection

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images, ImageSource


class QueryVerbs(OpenHome):
    """Embedding, scoring, searching and projecting."""

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
        Of an iterator only the images that are being encoded are held.

        `image_range` and `accept_truncated`: how they are read, see :class:`Queries`.
        """
        callbacks(progress=progress)
        home = self._ready()
        row = home.space(space)
        limits = image_limits(home, image_range, accept_truncated)
        given = images if isinstance(images, Iterator) else sources(images, "images")
        return embed(home, row, given, progress, limits)

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
        """Label and trust of every query, with evidence, at one revision of the space.

        Args:
            queries: embeddings or images as :class:`Queries`; or images alone: a folder (images in
                it and below, by name), a path, bytes, a PIL image, a file that is open for reading
                bytes, or a list or iterator of these; or a .csv, .tsv, .parquet or .tar file of
                images, a table or a data set (:func:`trustvlm.read_images`).
            rule: one of :data:`trustvlm.RULES`; None: that of the calibration in force, else
                :data:`trustvlm.DEFAULT_RULE`.
            top_k: number of labels of largest text confidence to list.
            labels: only these labels take part: names, a mask in the order of
                :meth:`list_labels`, or a :class:`trustvlm.Filter` over their attributes, also as
                {"region": "EU", "size": {"gte": 3}}.
            params: the rule's parameters, e.g. {"lambda": 1.0, "temperature": 0.01}.
            revision: the revision that the space must have, e.g. that of a mask of labels.
            review: True puts the images that are not accepted, and a random share of all (setting
                review_share), into the review queue of the space: see :meth:`review`. None does so
                only through a service, where the space collects what comes in; False never, and the
                verdict log does not get these answers, either.
            back_off: a number t: `node` is the label if its probability is at or above t, else the
                finest node of the taxonomy above it whose probability is. True: t is the threshold
                of the calibration in force, if that backs off, else 0.95. None: as the calibration
                in force does; False: never, and a calibration that backs off does not decide.
            on_error: "raise" refuses the call where an image cannot be read; "skip" leaves such
                images out and names them in `failures`.

        Raises:
            NotFound: unknown space, label, file or folder. InvalidInput: wrong shapes, NaN, unknown
            rule or parameter, verifier embeddings missing, or a space without labels. Conflict: the
            space is at another revision.
        """
        if review is not None:
            flags(review=review)
        home = self._writable() if review else self._ready()
        given = queries if type(queries) is Queries else given_queries(queries, stream=True)
        return score(
            home, space, given, rule, top_k, labels, params, revision, review, on_error,
            back_off=back_off, logged=True,
        )  # fmt: skip

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
        """The k nearest support images, prototypes or text prototypes of every query.

        Args:
            queries: as for :meth:`score`, and, in :class:`Queries`, texts, ids of support images
                (`like_supports`) or names of labels (`like_labels`), which are no hits of
                themselves; a string alone is refused, as it may be a path or a text.
            kind: "support" or "prototype" (verifier embeddings are compared; support images also by
                classifier embedding or text, where theirs are stored) or "text" (classifier
                embeddings against text prototypes).
            filter: only what it keeps is searched, by attributes of the labels; a support image
                has those of its label, and its own in place of those with the same key.
            min_similarity: from −1 to 1: of the k nearest that the filter keeps, only those that
                are at least this similar (but for 1e-6 of rounding); the others are padding.
            vectors: with each hit the vector that was compared, see :class:`Hits`; at most
                20,000,000 numbers.
            revision: the revision that the space must have.
            on_error: as for :meth:`score`.

        Raises:
            NotFound: unknown space. InvalidInput: wrong shapes, unknown kind, or embeddings of the
                wrong encoder.
            Conflict: the space is at another revision.
        """
        home = self._ready()
        given = given_queries(queries, text=True, stream=True)
        return search(
            home, space, given, kind, k, filter, revision, on_error,
            min_similarity=min_similarity, vectors=vectors,
        )  # fmt: skip

    def project(self, space: str, *, limit: int = 2_000) -> Projection:
        """Support images and stored images of known label in two dimensions, for a map.

        Similar verifier embeddings lie near to each other: t-SNE after PCA, the same for the same
        images. Observations are the images of the last calibration and randomly drawn feedback;
        `error` says whether the space gives them a wrong label now. The places are kept until the
        space changes.

        Args:
            limit: number of points, at most 10,000 (about 20 seconds; 2,000 take 3). Of more images
                a part is shown.

        Raises:
            NotFound: no such space. InvalidInput: a limit out of range.
        """
        return project(self._ready(), space, limit)
