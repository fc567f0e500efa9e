"""The facade: every verb of an open home, each a line over the file that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows import spaces as space_rows
from trustvlm.catalog.rows import supports as support_rows
from trustvlm.service.home.purge import purge_removed
from trustvlm.service.indexes.stats import IndexStats, index_stats, rebuild_index
from trustvlm.service.indexes.suggest import MILLISECONDS, Suggestion, suggest_recipe
from trustvlm.service.indexes.tune import Tuned, tune_index
from trustvlm.service.inputs.encode import Embedded, as_sources, embed, reading
from trustvlm.service.measuring.verbs import Measuring
from trustvlm.service.query.score import score
from trustvlm.service.query.search import search
from trustvlm.service.reembed.reembed import restore_space
from trustvlm.service.reembed.verbs import Reembedder
from trustvlm.service.registration import edit_labels as label_verbs
from trustvlm.service.registration import spaces as space_verbs
from trustvlm.service.registration.register import register
from trustvlm.service.registration.sync import register_with
from trustvlm.service.registration.synonyms import alias, near_synonyms, reported, unalias
from trustvlm.service.server.server_home import Serving
from trustvlm.service.transfer.verbs import Moving
from trustvlm.service.verify import verify
from trustvlm.types import (
    Hits,
    LabelInput,
    LabelRow,
    Queries,
    RegisterResult,
    SpaceRow,
    SupportRow,
    Verdicts,
)
from trustvlm.types.bounds import flags, identifier
from trustvlm.types.verification import VerifyReport

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = ["TrustService"]


class TrustService(Measuring, Reembedder, Moving, Serving):
    """An open home. Made by :func:`trustvlm.open`; a context manager; safe to use from several
    threads.

    Not usable in a forked child (it says so): open the home anew there. Other processes may use the
    same home; each sees what the others committed at its next call.
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
        """Create a label space and pin its encoders.

        Args:
            name: unique among the live spaces.
            classifier: encoder spec of the vision-language model, e.g. "open_clip:ViT-B-16/openai"
                or "precomputed:512".
            verifier: encoder spec of the image encoder, or "same" (the default): the classifier's
                own image tower.
            templates: prompts with {} where the name goes; by default "a photo of a {}.".
            logit_scale: s of the softmax; by default the model's own, 100 for precomputed
                embeddings.
            preset: "paper" for the reference set-up of TrustVLM; what is given besides wins over
                it.
            recipe: index recipe, one of :func:`trustvlm.index.list_recipes`.

        Raises:
            Conflict: the name is taken. InvalidInput: an argument cannot be right. NotFound:
            unknown recipe, model or preset. Unavailable: weights that are not on this machine.
        """
        args = (name, classifier, verifier, templates, logit_scale, preset, recipe)
        return space_verbs.create_space(self._writable(), *args)

    def get_space(self, name: str) -> SpaceRow:
        """The space's row with its counts. Raises NotFound."""
        return space_verbs.space_row(self._ready(), name)

    def list_spaces(self) -> Iterator[SpaceRow]:
        """Every space, by name."""
        return iter(space_verbs.space_rows(self._ready()))

    def remove_space(self, name: str) -> None:
        """Remove a space; its name is free at once. It can be restored until the undo window has
        passed. Raises NotFound."""
        with self._writable().catalog.write("space.remove") as connection:
            space_rows.remove(connection, name)
        self._home.caches.forget(name)

    def restore_space(self, name: str) -> None:
        """Bring back the space of that name that was removed last; or, of one that was re-embedded,
        its old embeddings, as they were then (the new ones are removed). Raises NotFound, or
        Conflict when the name is in use."""
        restore_space(self._writable(), name)

    def register(
        self,
        space: str,
        inputs: Iterable[LabelInput],
        *,
        on_commit: Callable[[list[str]], None] | None = None,
        progress: Callable[[int], None] | None = None,
        keep_originals: bool = False,
        bring_back: bool = False,
        sync: bool = False,
        dry_run: bool = False,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
    ) -> RegisterResult:
        """Register labels and their support images.

        Everything is validated first: one bad vector and nothing is written; an unreadable image is
        reported in `failures` and the rest goes in (a new label without a readable image stays
        out). Encoding happens outside the transaction; then whole labels are committed in chunks
        (at most 1,000 labels or 16 MB), each durable before `on_commit(names)` is called. Repeating
        an interrupted call completes it, and repeating a finished one changes nothing. Pairs of
        labels that mean nearly the same are reported in `near_synonyms`.

        Args:
            inputs: new labels, or labels that exist already and get more support images.
            progress: called with a number of images after these were encoded.
            keep_originals: keep the image files in the home, so that :meth:`reembed_space` can
                embed them anew; also those of support images that are there already.
            bring_back: also add images that were removed from their label and not yet purged;
                otherwise they are only reported, in `taken_out`.
            sync: afterwards the space has the support images of `inputs` and no others. Other
                support images are removed, and labels that lose all of theirs (both can be
                restored); images that changed their label are moved. Labels without support images
                stay, and so do labels with an unreadable image (`kept`).
            dry_run: change nothing; the result says what would change. Images are not decoded.
            image_range, accept_truncated: how the images are read, see :class:`Queries`.

        Raises:
            NotFound: no such space. Conflict: a label exists with another text vector or prompt.
            InvalidInput: a name or vector that cannot be right; with `sync`, inputs that have
            nothing in common with the space. Unavailable: the home cannot be written now.
        """
        flags(keep_originals=keep_originals, bring_back=bring_back, sync=sync, dry_run=dry_run)
        how: dict[str, Any] = {
            "on_commit": on_commit,
            "progress": progress,
            "keep_originals": keep_originals,
        }
        how |= {"image_range": image_range, "accept_truncated": accept_truncated}
        asked = {"bring_back": bring_back, "sync": sync, "dry_run": dry_run}
        result = register_with(self._writable(), space, inputs, **asked, **how)
        if dry_run:
            return result
        return reported(self._home, space, result)

    def add_support(
        self,
        space: str,
        label: str,
        *,
        images: Sequence[ImageSource] | None = None,
        image_vectors: npt.ArrayLike | None = None,
        classifier_image_vectors: npt.ArrayLike | None = None,
        keep_originals: bool = False,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
    ) -> RegisterResult:
        """Add support images to a label that exists. Raises NotFound when it does not, else as
        :meth:`register`."""
        flags(keep_originals=keep_originals)
        addition = LabelInput(
            label,
            images=images,
            image_vectors=image_vectors,
            classifier_image_vectors=classifier_image_vectors,
        )
        how: Any = {
            "keep_originals": keep_originals,
            "image_range": image_range,
            "accept_truncated": accept_truncated,
        }
        return register(
            self._writable(), space, [addition], must_exist=True, bring_back=True, **how
        )

    def update_label(
        self,
        space: str,
        label: str,
        *,
        text_vector: npt.ArrayLike | None = None,
        prompt: str | None = None,
        new_name: str | None = None,
    ) -> int:
        """Change a label's text vector, prompt or name; the space's new revision.

        A text prototype that was encoded from the name is encoded anew from `new_name`; one given
        as a vector stays.

        Raises:
            NotFound, Conflict (the new name is taken), InvalidInput.
        """
        return label_verbs.update_label(
            self._writable(), space, label, text_vector, prompt, new_name
        )

    def remove_label(self, space: str, label: str, *, purge: bool = False) -> int:
        """Remove a label with its support images; the space's new revision.

        It can be restored within the undo window; with `purge` its vectors and thumbnails are
        deleted at once, for good. Raises NotFound.
        """
        flags(purge=purge)
        return label_verbs.remove_label(self._writable(), space, label, purge_now=purge)

    def restore_label(self, space: str, label: str) -> int:
        """Bring back the label of that name that was removed last, with the support images it had;
        the new revision.

        Raises:
            NotFound: it was never removed, or is purged. Conflict: the name is in use again.
        """
        return label_verbs.restore_label(self._writable(), space, label)

    def alias(self, space: str, label: str, of: str) -> int:
        """Make a label a further name of the label `of`; the space's new revision.

        The two are one label from then on: they share probability and support images, `of` is the
        answer, and either name counts as correct. :meth:`unalias` undoes it.

        Raises:
            NotFound, or Conflict where a chain of aliases would arise.
        """
        return alias(self._writable(), space, label, of)

    def unalias(self, space: str, label: str) -> int:
        """Make an alias a label of its own again, with the support images it brought; the new
        revision. Raises NotFound, or Conflict when it is none."""
        return unalias(self._writable(), space, label)

    def near_synonyms(
        self, space: str, labels: Sequence[str] | None = None
    ) -> list[tuple[str, str, float]]:
        """Pairs of labels (of `labels` with any, or all) whose text prototypes have a cosine of
        0.95 or more, nearest first.

        They halve each other's probability and make each other's verdicts close calls;
        :meth:`alias` makes one of two. Raises NotFound.
        """
        return near_synonyms(self._ready(), space, labels)

    def remove_support(self, space: str, ids: Sequence[int]) -> int:
        """Remove support images by id; the space's new revision. Raises NotFound (then none was
        removed)."""
        return label_verbs.remove_support(self._writable(), space, ids)

    def restore_support(self, space: str, ids: Sequence[int]) -> int:
        """Bring back removed support images; the space's new revision. Raises NotFound or Conflict
        (then none came back)."""
        return label_verbs.restore_support(self._writable(), space, ids)

    def purge(self, *, older_than: timedelta | None = None) -> int:
        """Delete for good what was removed, or put into quarantine, longer ago than the undo window
        (or `older_than`); how many rows went. Backups made before keep what they hold."""
        return purge_removed(self._writable(), older_than)

    def verify(
        self,
        space: str | None = None,
        *,
        repair: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Look at every row and snapshot of a space, or of the whole home: is all as it was
        written, and does it agree?

        Args:
            repair: make anew what is derived and put what is damaged into quarantine; nothing is
                deleted. The report then says what was mended, and what still is damaged.
            progress: called with (rows looked at, rows in all).

        Raises:
            NotFound. ReadOnly: a repair of a home that cannot be written.
        """
        return verify(
            self._writable() if repair else self._ready(), space, mend=repair, progress=progress
        )

    def list_labels(self, space: str) -> Iterator[LabelRow]:
        """Every label of the space, in order of id. Raises NotFound."""
        parts = self._ready()
        parts.space(space)  # unknown spaces are refused now, not when the first row is asked for
        return label_verbs.list_labels(parts, space)

    def list_supports(self, space: str, label: str) -> list[SupportRow]:
        """The support images of a label and of its further names, in order of id. Raises
        NotFound."""
        with self._ready().catalog.read() as connection:
            found = label_rows.find(connection, space_rows.find(connection, space).id, label)
            return support_rows.list_group(connection, found.id)

    def thumbnail(self, support_id: int) -> bytes | None:
        """The JPEG thumbnail of a support image; None when it came as a vector or is gone."""
        support_id = identifier("support image", support_id)
        with self._ready().catalog.read() as connection:
            return support_rows.thumbnail(connection, support_id)

    def embed(
        self,
        space: str,
        images: Sequence[ImageSource],
        *,
        progress: Callable[[int], None] | None = None,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
    ) -> Embedded:
        """Encode images once as queries of this space; unreadable ones are reported and left out.

        `image_range` and `accept_truncated` say how they are read, see :class:`Queries`.
        """
        parts = self._ready()
        row = parts.space(space)
        limits = reading(parts, row, image_range, accept_truncated)
        return embed(parts, row, as_sources(images, "images"), progress, limits)

    def score(
        self,
        space: str,
        queries: Queries,
        *,
        rule: str | None = None,
        top_k: int = 5,
        labels: Sequence[str] | npt.NDArray[np.bool_] | None = None,
        params: Mapping[str, float | None] | None = None,
        revision: int | None = None,
    ) -> Verdicts:
        """Label and trust of every query, with evidence, at one revision of the space.

        Args:
            queries: embeddings or images.
            rule: one of :data:`trustvlm.RULES`; None: that of the calibration in force, else
                :data:`trustvlm.DEFAULT_RULE`.
            top_k: how many labels of largest text confidence to list.
            labels: only these labels take part, as names or as a mask in the order of
                :meth:`list_labels`.
            params: the rule's parameters, e.g. {"lambda": 1.0, "temperature": 0.01}.
            revision: the revision that the space must have, e.g. that at which a mask of labels was
                made.

        Raises:
            NotFound: unknown space or label. InvalidInput: wrong shapes, NaN, unknown rule or
            parameter, verifier embeddings missing, or a space without labels. Conflict: the space
            is at another revision.
        """
        return score(self._ready(), space, queries, rule, top_k, labels, params, revision)

    def search(
        self,
        space: str,
        queries: Queries,
        *,
        kind: str = "support",
        k: int = 10,
        revision: int | None = None,
    ) -> Hits:
        """The k nearest support images, prototypes or text prototypes of every query.

        Args:
            kind: "support" or "prototype" (verifier embeddings are compared; support images also by
                classifier embedding or text, where theirs are stored) or "text" (classifier
                embeddings against text prototypes).
            revision: the revision that the space must have.

        Raises:
            NotFound: unknown space. InvalidInput: wrong shapes, unknown kind, or embeddings of the
                wrong encoder.
            Conflict: the space is at another revision.
        """
        return search(self._ready(), space, queries, kind, k, revision)

    def index_stats(self, space: str) -> IndexStats:
        """Sizes and state of the space's index and snapshot. Raises NotFound."""
        return index_stats(self._ready(), space)

    def rebuild_index(self, space: str, *, recipe: str | None = None) -> IndexStats:
        """Build the space's indexes anew from the catalog, under another recipe if given, and write
        their snapshots.

        Other processes go on with what they have until it is done. Raises NotFound, and Unavailable
        on a full disk.
        """
        return rebuild_index(self._writable(), space, recipe)

    def tune_index(self, space: str, *, recall: float = 0.95, k: int = 10) -> list[Tuned]:
        """Find how far the space's indexes must search, store that, and prove that it is enough.

        An index that does not compare every row is built again without 768 of them: 512 of these
        tune it, the others prove it (`Tuned.recall`, with its interval). That takes as long as
        building the index, and its memory once more.

        Args:
            recall: share of the k nearest that is to be found; `Tuned.reached` says whether the
                proof reaches it.

        Raises:
            NotFound, InvalidInput. Conflict: the recipe cannot reach `recall`, or it was changed
            meanwhile; nothing is stored.
        """
        return tune_index(self._writable(), space, recall, k)

    def suggest_recipe(self, space: str, *, milliseconds: float = MILLISECONDS) -> list[Suggestion]:
        """What each index recipe would cost in this space, and which to take for searches of so
        many milliseconds.

        Raises NotFound, InvalidInput.
        """
        return suggest_recipe(self._ready(), space, milliseconds)
