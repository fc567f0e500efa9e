"""The verbs that create and change spaces, labels, support images and aliases, and list them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trustvlm.catalog.rows import label_pages, labels, supports
from trustvlm.catalog.rows import spaces as space_rows
from trustvlm.catalog.rows.attributes.rows import SUPPORTS
from trustvlm.catalog.rows.likeness import unknown
from trustvlm.errors import NotFound
from trustvlm.reading.claims import label_names
from trustvlm.reading.given import given_labels
from trustvlm.reading.hold_out import HoldOut
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.inputs.encode import image_limits
from trustvlm.service.registration import edit_labels, filtered, spaces, synonyms
from trustvlm.service.registration import taxonomy as tree
from trustvlm.service.registration.attributes import Attributes
from trustvlm.service.registration.encode_chunk import RegisterOptions
from trustvlm.service.registration.register import register
from trustvlm.service.registration.sync import register_with
from trustvlm.types import LabelInput, LabelRow, RegisterResult, SpaceRow
from trustvlm.types.attributes.filters import FilterLike, as_filter
from trustvlm.types.bounds import callbacks, flags, identifier
from trustvlm.types.registration import RemovedLabels
from trustvlm.types.taxonomy import Taxonomy

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images, ImagesByLabel, ImageSource


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
            classifier: encoder spec of the vision-language model, e.g. "open_clip:ViT-B-16/openai",
                "transformers:google/siglip-base-patch16-224" or "precomputed:512"; a name that can
                mean one only, such as "ViT-B/32", stands for it.
            verifier: encoder spec of the image encoder, or "same" (the default): the image tower of
                the classifier.
            templates: prompts with {} for the name; by default "a photo of a {}.".
            logit_scale: s of the softmax; by default that of the model, 100 for precomputed
                embeddings.
            preset: "small", "paper" (the reference set-up of TrustVLM) or "large"; the other
                arguments replace parts of it.
            recipe: index recipe, one of :func:`trustvlm.index.list_recipes`.

        Raises:
            Conflict: the name is in use. InvalidInput: an argument out of range or of the wrong
            form. NotFound: unknown recipe, model or preset. Unavailable: missing weights.
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
        home = self._writable()
        with home.catalog.write("space.remove") as connection:
            space_rows.remove(connection, name)
        home.caches.forget(name)

    def register(
        self,
        space: str,
        inputs: Iterable[LabelInput] | Images | ImagesByLabel | LabelledImages,
        *,
        on_commit: Callable[[list[str]], None] | None = None,
        progress: Callable[[int], None] | None = None,
        keep_originals: bool = False,
        bring_back: bool = False,
        replace: bool = False,
        sync: bool = False,
        dry_run: bool = False,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
        hold_out: float | None = None,
        seed: int = 0,
    ) -> RegisterResult:
        """Register labels and their support images.

        Everything is validated first: a bad vector refuses all; an unreadable image is reported in
        `failures` and left out (with its label, if that is new and has no other image). Images are
        encoded outside the transaction; then labels with their vectors are committed in chunks (at
        most 1,000 labels, 16 MB or 1,000 images to encode, but a label at least), each durable
        before `on_commit(names)` is called. Repeating an interrupted call completes it, and
        repeating a finished one changes nothing. Pairs of labels with nearly the same meaning are
        reported in `near_synonyms`.

        Args:
            inputs: new labels, or existing labels with more support images: a list of
                :class:`LabelInput`, or a mapping of names to images (as :meth:`score` takes them),
                to verifier embeddings, or to None for a name alone; or images with labels: a folder
                with a sub-folder for each label, a .csv, .tsv, .parquet or .tar file, a table or a
                data set (:func:`trustvlm.read_images`).
            progress: called with a number of images after these were encoded.
            keep_originals: keep the image files in the home, also those of existing support images,
                so that :meth:`reembed_space` can embed them again.
            bring_back: also add images that were removed from their label and not yet purged;
                otherwise they are only reported, in `taken_out`.
            replace: labels that exist get the text vector, prompt, attributes and parent that the
                call gives them, in place of what they have; what it does not give, and their
                support images, stay. Otherwise other values are refused.
            sync: afterwards the space has the support images of `inputs` and no others. Other
                support images are removed, with labels that lose all of theirs (both can be
                restored); images that changed their label are moved. Labels without support images
                and labels with an unreadable image (`kept`) stay.
            dry_run: change nothing; the result lists the changes. Images are not decoded.
            image_range, accept_truncated: how the images are read, see :class:`Queries`.
            hold_out: leave out about this share of the images of each label, chosen by their
                content and `seed`; :meth:`evaluate` and :meth:`calibrate` then measure on them. A
                label with one image keeps it.

        Raises:
            NotFound: no such space. Conflict: without `replace`, a label exists with another text
            vector, prompt, parent or attributes.
            InvalidInput: an invalid name or vector; with `sync`, inputs that have nothing in common
            with the space. Unavailable: the home cannot be written now.
        """
        flags(keep_originals=keep_originals, bring_back=bring_back, replace=replace)
        flags(sync=sync, dry_run=dry_run)
        callbacks(on_commit=on_commit, progress=progress)
        home = self._writable()
        if keep_originals:
            home.originals.prepare(home.catalog)
        given = given_labels(inputs, home.calls.images)
        split = HoldOut.of(hold_out, seed)
        inputs = given if split is None else split.support(given)
        options = RegisterOptions(
            image_limits(home, image_range, accept_truncated),
            on_commit,
            progress,
            keep_originals=keep_originals,
            bring_back=bring_back,
            replace=replace,
        )
        result = register_with(home, space, inputs, options, sync=sync, dry_run=dry_run)
        return result if dry_run else synonyms.reported(home, space, result)

    def add_support(
        self,
        space: str,
        label: str,
        *,
        images: Sequence[ImageSource] | None = None,
        image_vectors: npt.ArrayLike | None = None,
        classifier_image_vectors: npt.ArrayLike | None = None,
        image_attributes: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        keep_originals: bool = False,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
    ) -> RegisterResult:
        """Add support images to an existing label, see :meth:`register`; `image_attributes` as in
        :class:`LabelInput`. Raises NotFound."""
        flags(keep_originals=keep_originals)
        home = self._writable()
        if keep_originals:
            home.originals.prepare(home.catalog)
        addition = LabelInput(
            label,
            images=images,
            image_vectors=image_vectors,
            classifier_image_vectors=classifier_image_vectors,
            image_attributes=image_attributes,
        )
        limits = image_limits(home, image_range, accept_truncated)
        options = RegisterOptions(
            limits, must_exist=True, bring_back=True, keep_originals=keep_originals
        )
        return register(home, space, [addition], options)

    def update_label(
        self,
        space: str,
        label: str,
        *,
        text_vector: npt.ArrayLike | None = None,
        prompt: str | None = None,
        new_name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        merge: bool = False,
    ) -> int:
        """Change a label's text vector, prompt, name or attributes; the space's new revision.

        A text prototype that was encoded from the name is encoded again from `new_name`; one given
        as a vector stays. `attributes` take the place of all that the label has, {} takes them
        away; with `merge` they change these keys alone, and None takes one away. Raises NotFound,
        Conflict (the new name is in use), InvalidInput.
        """
        return edit_labels.update_label(
            self._writable(), space, label, text_vector, prompt, new_name, attributes, merge
        )

    def update_support(
        self, space: str, support_id: int, *, attributes: Mapping[str, Any], merge: bool = False
    ) -> int:
        """Give a support image these attributes in place of all that it has, {} for none; with
        `merge` change these keys alone, None takes one away. The space's new revision. Raises
        NotFound, InvalidInput."""
        support_id, given = identifier("support image", support_id), Attributes(attributes, merge)
        home = self._writable()
        with home.write("support.update", space) as (connection, record):
            if not supports.find_alive(connection, record.id, [support_id]):
                raise NotFound(f"no support image {support_id} in space {space!r}")
            revision = space_rows.advance(connection, record.id, supports=1, effect="none")
            given.put(connection, SUPPORTS, record.id, revision, support_id)
        return revision

    def remove_label(self, space: str, label: str, *, purge: bool = False) -> int:
        """Remove a label with its support images; the space's new revision.

        It can be restored within the undo window; with `purge` its vectors and thumbnails are
        deleted for good at once. Raises NotFound.
        """
        flags(purge=purge)
        return edit_labels.remove_label(self._writable(), space, label, purged=purge)

    def restore_label(self, space: str, label: str) -> int:
        """Restore the label of this name that was removed last, with its support images; the new
        revision. Raises NotFound, or Conflict when the name is in use again."""
        return edit_labels.restore_label(self._writable(), space, label)

    def alias(self, space: str, label: str, of: str) -> int:
        """Make a label an alias of the label `of`; the space's new revision.

        The two are then one label: they share probability and support images, `of` is the answer,
        and either name counts as correct. :meth:`unalias` undoes it. Raises NotFound, or Conflict
        where a chain of aliases would arise.
        """
        return synonyms.alias(self._writable(), space, label, of)

    def unalias(self, space: str, label: str) -> int:
        """Make an alias a separate label again, with the support images that it brought; the new
        revision. Raises NotFound, or Conflict when it is no alias."""
        return synonyms.unalias(self._writable(), space, label)

    def set_parents(self, space: str, parents: Mapping[str, str | None]) -> int:
        """Change the space's taxonomy: put each label or node under a node; the space's new
        revision.

        Args:
            parents: name of a label or node → name of the node that it is to stand under; None:
                under none. A name that is no node yet becomes one. All are stored, or none.

        Raises:
            NotFound: a name is neither a label nor a node, and no parent of another one in
            `parents`. InvalidInput: a name would stand under itself, or is a further name of a
            label.
        """
        return tree.set_parents(self._writable(), space, parents)

    def taxonomy(self, space: str) -> Taxonomy:
        """The space's taxonomy: every label that has a parent and every node above one, by name.
        Raises NotFound."""
        return tree.taxonomy(self._ready(), space)

    def near_synonyms(
        self, space: str, labels: Sequence[str] | None = None
    ) -> list[tuple[str, str, float]]:
        """Pairs of labels (of `labels` with any other, or of all) whose text prototypes have a
        cosine of 0.95 or more, nearest first.

        They halve each other's probability and make each other's verdicts close calls;
        :meth:`alias` joins two into one. Raises NotFound.
        """
        return synonyms.near_synonyms(self._ready(), space, labels)

    def list_labels(
        self, space: str, *, filter: FilterLike | None = None, vectors: bool = False
    ) -> Iterator[LabelRow]:
        """Every label of the space, or those whose attributes a filter keeps, in order of id; with
        `vectors`, each with its text prototype (d_t,) and its prototype (d_v,).

        Raises NotFound, InvalidInput (no filter)."""
        flags(vectors=vectors)
        home = self._ready()
        if filter is not None:
            return filtered.filtered_rows(home, space, as_filter(filter), vectors)
        return filtered.label_rows(home, space, vectors)

    def count_labels(self, space: str, *, filter: FilterLike | None = None) -> int:
        """How many labels the space has, or a filter keeps. Raises NotFound, InvalidInput."""
        home = self._ready()
        if filter is None:
            return spaces.space_row(home, space).label_count
        return len(filtered.label_ids(home, space, as_filter(filter)))

    def remove_labels(
        self, space: str, labels: Sequence[str] | None = None, *, filter: FilterLike | None = None
    ) -> RemovedLabels:
        """Remove labels by name, or those that a filter keeps, with their support images, 200 a
        transaction: an interrupted call by filter is completed by repeating it.
        :meth:`restore_label` brings each back within the undo window.

        Raises:
            NotFound: unknown space, or a name that is no label; then none is removed. InvalidInput:
            neither names nor a filter, or both. Conflict: a label has an alias that is not among
            them.
        """
        home = self._writable()
        return filtered.remove_labels(
            home, space, filtered.chosen_labels(home, space, labels, filter)
        )

    def get_label(self, space: str, label: str, *, vectors: bool = False) -> LabelRow:
        """One label as it is listed; `vectors` as for :meth:`list_labels`. Raises NotFound."""
        flags(vectors=vectors)
        with self._ready().read(space) as (connection, record):
            row_id = labels.find(connection, record.id, label).id
            [row] = label_pages.rows_of(connection, [row_id])
            [row] = label_pages.with_vectors(connection, [row], record.dims) if vectors else [row]
        return row

    def unknown_labels(self, space: str, names: Iterable[str | None]) -> dict[str, str | None]:
        """Those of `names` (None aside) that are no labels of the space, each with the label that
        was probably meant, or None. Raises InvalidInput, NotFound: no such space."""
        listed = label_names(names)
        with self._ready().catalog.read() as connection:
            record = space_rows.find(connection, space)
            return unknown(connection, record.id, [name for name in listed if name is not None])

    def thumbnail(self, support_id: int) -> bytes | None:
        """The JPEG thumbnail of a support image; None when it came as a vector or is removed."""
        support_id = identifier("support image", support_id)
        with self._ready().catalog.read() as connection:
            return supports.thumbnail(connection, support_id)

    def remove_support(self, space: str, ids: Sequence[int]) -> int:
        """Remove support images by id, all or none; the space's new revision. Raises NotFound."""
        return edit_labels.remove_support(self._writable(), space, ids)

    def restore_support(self, space: str, ids: Sequence[int]) -> int:
        """Restore removed support images, all or none; the space's new revision. Raises NotFound or
        Conflict."""
        return edit_labels.restore_support(self._writable(), space, ids)
