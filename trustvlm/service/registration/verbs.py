"""The verbs that create and change spaces, labels, support images and aliases, and list them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy.typing as npt

from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.registration import edit_labels, listing, spaces, synonyms
from trustvlm.service.registration.register import register
from trustvlm.service.registration.sync import register_with
from trustvlm.types import LabelInput, LabelRow, RegisterResult, SpaceRow, SupportRow
from trustvlm.types.bounds import flags

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = ["RegistrationVerbs"]


class RegistrationVerbs(OpenHome):
    """Spaces, labels, support images and aliases."""

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
        return spaces.create_space(
            self._writable(), name, classifier, verifier, templates, logit_scale, preset, recipe
        )

    def get_space(self, name: str) -> SpaceRow:
        """The space's row with its counts. Raises NotFound."""
        return spaces.space_row(self._ready(), name)

    def list_spaces(self) -> Iterator[SpaceRow]:
        """Every space, by name."""
        return iter(spaces.space_rows(self._ready()))

    def remove_space(self, name: str) -> None:
        """Remove a space; its name is free at once. It can be restored until the undo window has
        passed. Raises NotFound."""
        spaces.remove_space(self._writable(), name)

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
                embed them again; also those of support images that exist already.
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
        home = self._writable()
        result = register_with(
            home,
            space,
            inputs,
            bring_back=bring_back,
            sync=sync,
            dry_run=dry_run,
            on_commit=on_commit,
            progress=progress,
            keep_originals=keep_originals,
            image_range=image_range,
            accept_truncated=accept_truncated,
        )
        return result if dry_run else synonyms.reported(home, space, result)

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
        return register(
            self._writable(),
            space,
            [addition],
            must_exist=True,
            bring_back=True,
            keep_originals=keep_originals,
            image_range=image_range,
            accept_truncated=accept_truncated,
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

        A text prototype that was encoded from the name is encoded again from `new_name`; one given
        as a vector stays.

        Raises:
            NotFound, Conflict (the new name is taken), InvalidInput.
        """
        return edit_labels.update_label(
            self._writable(), space, label, text_vector, prompt, new_name
        )

    def remove_label(self, space: str, label: str, *, purge: bool = False) -> int:
        """Remove a label with its support images; the space's new revision.

        It can be restored within the undo window; with `purge` its vectors and thumbnails are
        deleted at once, for good. Raises NotFound.
        """
        flags(purge=purge)
        return edit_labels.remove_label(self._writable(), space, label, purge_now=purge)

    def restore_label(self, space: str, label: str) -> int:
        """Bring back the label of that name that was removed last, with the support images it had;
        the new revision.

        Raises:
            NotFound: it was never removed, or is purged. Conflict: the name is in use again.
        """
        return edit_labels.restore_label(self._writable(), space, label)

    def alias(self, space: str, label: str, of: str) -> int:
        """Make a label an alias of the label `of`; the space's new revision.

        The two are one label from then on: they share probability and support images, `of` is the
        answer, and either name counts as correct. :meth:`unalias` undoes it.

        Raises:
            NotFound, or Conflict where a chain of aliases would arise.
        """
        return synonyms.alias(self._writable(), space, label, of)

    def unalias(self, space: str, label: str) -> int:
        """Make an alias a label of its own again, with the support images it brought; the new
        revision. Raises NotFound, or Conflict when it is none."""
        return synonyms.unalias(self._writable(), space, label)

    def near_synonyms(
        self, space: str, labels: Sequence[str] | None = None
    ) -> list[tuple[str, str, float]]:
        """Pairs of labels (of `labels` with any, or all) whose text prototypes have a cosine of
        0.95 or more, nearest first.

        They halve each other's probability and make each other's verdicts close calls;
        :meth:`alias` makes one of two. Raises NotFound.
        """
        return synonyms.near_synonyms(self._ready(), space, labels)

    def list_labels(self, space: str) -> Iterator[LabelRow]:
        """Every label of the space, in order of id. Raises NotFound."""
        return listing.list_labels(self._ready(), space)

    def unknown_labels(self, space: str, names: Iterable[str | None]) -> dict[str, str | None]:
        """Those of `names` (None aside) that are no labels of the space, each with the label that
        was probably meant, or None. Raises NotFound: no such space."""
        return listing.unknown_labels(self._ready(), space, names)

    def list_supports(self, space: str, label: str) -> list[SupportRow]:
        """The support images of a label and its aliases, in order of id. Raises NotFound."""
        return listing.list_supports(self._ready(), space, label)

    def thumbnail(self, support_id: int) -> bytes | None:
        """The JPEG thumbnail of a support image; None when it came as a vector or is removed."""
        return listing.thumbnail(self._ready(), support_id)

    def remove_support(self, space: str, ids: Sequence[int]) -> int:
        """Remove support images by id; the space's new revision. Raises NotFound (then none was
        removed)."""
        return edit_labels.remove_support(self._writable(), space, ids)

    def restore_support(self, space: str, ids: Sequence[int]) -> int:
        """Bring back removed support images; the space's new revision. Raises NotFound or Conflict
        (then none came back)."""
        return edit_labels.restore_support(self._writable(), space, ids)
