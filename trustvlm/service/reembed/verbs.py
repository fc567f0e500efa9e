"""The verbs that re-embed a space."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy.typing as npt

from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.reembed import reembed
from trustvlm.service.reembed.sources import GivenVectors, Originals, Sources
from trustvlm.service.registration.spaces import repoint
from trustvlm.types import SpaceRow
from trustvlm.types.backups import Reembedding
from trustvlm.types.bounds import callbacks, flags, path_of


class ReembedVerbs(OpenHome):
    """New encoders for an existing space."""

    def reembed_space(
        self,
        space: str,
        *,
        classifier: str | None = None,
        verifier: str | None = None,
        templates: Sequence[str] | None = None,
        logit_scale: float | None = None,
        originals_from: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        text_vectors: Mapping[str, npt.ArrayLike] | None = None,
        image_vectors: Mapping[int, npt.ArrayLike] | None = None,
        classifier_image_vectors: Mapping[int, npt.ArrayLike] | None = None,
        drop_missing: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Reembedding:
        """Give a space other encoders or templates: embed everything beside it, then replace it in
        one transaction.

        Until then the space answers and changes as before; what changes is staged again. Repeating
        an interrupted call continues it. Support images are taken from the originals that the home
        keeps (`keep_originals` of :meth:`register`) or from files with equal content; where an
        encoder stays, its embeddings are copied. Texts are encoded from names, prompts and
        templates; a text that came as a vector needs a new one, unless the classifier stays.

        Afterwards rows have new ids, calibrations are stale (nothing is accepted until
        :meth:`recalibrate` or :meth:`calibrate`), and the old embeddings stay until
        :meth:`discard_old`; :meth:`restore_space` puts them back.

        Args:
            classifier, verifier, templates: the new ones; None: as they are, or (continuing) as the
                interrupted call had them.
            logit_scale: None: that of the new classifier.
            originals_from: folders that are searched for the image files, by content.
            text_vectors: label name → (d_t,) or (templates, d_t).
            image_vectors: support image id → (d_v,), for precomputed verifiers.
            classifier_image_vectors: support image id → (d_t,).
            drop_missing: leave support images without original behind, with the old embeddings.
            progress: called with a number of images after these were encoded.

        Raises:
            Conflict: originals or text vectors are missing (the message names some,
            :meth:`reembed_status` all), an interrupted call had other encoders, or old embeddings
            are still kept. Busy: another process re-embeds a space. NotFound, InvalidInput,
            Unavailable: as :meth:`create_space`.
        """
        flags(drop_missing=drop_missing)
        callbacks(progress=progress)
        home = self._writable()
        if isinstance(originals_from, str | os.PathLike):
            originals_from = [originals_from]
        folders = [path_of("originals_from", folder) for folder in originals_from]
        with reembed.exclusive(home):
            specs = {"classifier": classifier, "verifier": verifier}
            old, new, job = reembed.begin(home, space, specs, templates, logit_scale)
            vectors = GivenVectors(new, text_vectors, image_vectors, classifier_image_vectors)
            originals = Originals(home, folders)
            sources = Sources(old, new, vectors, originals)
            return reembed.cut_over(home, space, job, sources, drop_missing, progress)

    def repoint_space(
        self, space: str, *, classifier: str | None = None, verifier: str | None = None
    ) -> SpaceRow:
        """Store where the weights of a space's encoders are now, as specs; the space's row.

        They must be the weights that the space was made with. Nothing else changes, not even the
        revision: embeddings, calibrations and snapshots stay unchanged.

        Raises:
            NotFound: no such space, or nothing at that place. Conflict: other weights,
            preprocessing or pooling (:meth:`reembed_space` takes those), or the space is being
            re-embedded. InvalidInput: malformed, or neither given.
        """
        return repoint(self._writable(), space, classifier, verifier)

    def reembed_status(self, space: str) -> Reembedding:
        """How far the re-embedding of a space is, and what it lacks. Raises NotFound."""
        return reembed.reembed_status(self._ready(), space)

    def abort_reembed(self, space: str) -> None:
        """Give up re-embedding a space; it stays as it is. Raises NotFound when nothing is under
        way."""
        reembed.remove_beside(
            self._writable(), space, "staged", "nothing is being re-embedded in it"
        )

    def discard_old(self, space: str) -> None:
        """Delete, with the next purge, the embeddings from before a space was re-embedded. Raises
        NotFound without any."""
        reembed.remove_beside(self._writable(), space, "kept", "it keeps no old embeddings")

    def restore_space(self, name: str) -> None:
        """Bring back the space of that name that was removed last; or, of one that was re-embedded,
        its old embeddings, as they were then (the new ones are removed). Raises NotFound, or
        Conflict when the name is in use."""
        reembed.restore_space(self._writable(), name)
