"""The verbs that change and list labels and support images; part of the facade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trustvlm.client import register as registering
from trustvlm.client.codec import reading_fields, text_rows
from trustvlm.client.connection import Connected
from trustvlm.client.queries import unknown
from trustvlm.client.queues import RemoteVerdictLog
from trustvlm.client.transport import path_of
from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import label_names
from trustvlm.reading.given import given_labels
from trustvlm.reading.hold_out import HoldOut
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.types import LabelInput, LabelRow, RegisterResult, SpaceRow
from trustvlm.types.answers import LabelCount, LabelPage, RemovedList
from trustvlm.types.arrays import id_list, texts
from trustvlm.types.attributes.filters import FilterLike, as_filter
from trustvlm.types.attributes.values import plain_attributes
from trustvlm.types.bounds import callbacks, flags, whole
from trustvlm.types.registration import RemovedLabels
from trustvlm.types.rows import ChangePage, HistoryPage, HistoryRow
from trustvlm.types.taxonomy import MOST_PARENTS, Taxonomy

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images, ImagesByLabel, ImageSource


class LabelVerbs(Connected):
    """Labels and support images of a service elsewhere."""

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
        """Register labels and their support images; see :meth:`TrustService.register`.

        Up to 1,000 labels (8 MB) go in one request, which is validated as a whole first. More of
        them, from any iterable, go in several, which are committed one after the other; a broken
        one is repeated, and is done once. Repeating an interrupted call completes it. Image files
        are read as their turn comes and sent 128 (8 MB) at a time.

        Args:
            on_commit: called with the names that were committed. progress: called with a number of
                images after these were taken in. keep_originals: keep the image files in the
                service's home.
            image_range, accept_truncated: how the images are read, see :class:`Queries`.
            hold_out, seed: leave out the images that :meth:`evaluate` measures on with the same
                two arguments.
        """
        flags(keep_originals=keep_originals, bring_back=bring_back, replace=replace)
        flags(sync=sync, dry_run=dry_run)
        callbacks(on_commit=on_commit, progress=progress)
        if dry_run and replace:
            raise InvalidInput(
                "replace: dry_run shows support images only; leave one of the two out"
            )
        given = given_labels(inputs)
        if (split := HoldOut.of(hold_out, seed)) is not None:
            given = split.support(given)
        if dry_run:
            contents = registering.contents_of(given)
            return registering.preview(
                self._wire, space, contents, sync=sync, bring_back=bring_back
            )
        form = _form_fields(keep_originals, image_range, accept_truncated)
        options = {"replace": replace, "bring_back": bring_back}
        chosen = {name: True for name, is_on in options.items() if is_on}
        call = registering.Call(self._wire, space, on_commit, progress, form, chosen)
        return (registering.synchronise if sync else registering.register)(call, given)

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
        """Add support images to a label that exists. Raises NotFound when it does not, else as
        :meth:`register`."""
        flags(keep_originals=keep_originals)
        form = _form_fields(keep_originals, image_range, accept_truncated)
        vectors = image_vectors, classifier_image_vectors
        args = (self._wire, space, label, images, *vectors, image_attributes)
        return registering.add_support(*args, form)

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
        """Change a label's text vector, prompt, name or attributes, with `merge` these keys of them
        alone (None takes one away); the space's new revision. Raises NotFound, Conflict,
        InvalidInput."""
        vector = None if text_vector is None else text_rows(text_vector, "text_vector")
        return self._revision(
            "PATCH", space, "labels", label, text_vector=vector, prompt=prompt, new_name=new_name,
            **_described(attributes, merge),
        )  # fmt: skip

    def update_support(
        self, space: str, support_id: int, *, attributes: Mapping[str, Any], merge: bool = False
    ) -> int:
        """Give a support image these attributes in place of all that it has, {} for none; with
        `merge` change these keys alone, None takes one away. The space's new revision. Raises
        NotFound, InvalidInput."""
        (number,) = _ids([support_id])
        described = _described(attributes, merge)
        return self._revision("PATCH", space, "supports", str(number), **described)

    def remove_label(self, space: str, label: str, *, purge: bool = False) -> int:
        """Remove a label with its support images, for good with `purge`; the space's new revision.
        Raises NotFound."""
        flags(purge=purge)
        path = path_of("spaces", space, "labels", label)
        query = [("purge", "true")] if purge else []
        return int(self._wire.ask("DELETE", path, query=query, write=True)["revision"])

    def restore_label(self, space: str, label: str) -> int:
        """Bring back the label of that name that was removed last; the new revision. Raises
        NotFound, Conflict."""
        return self._revision("POST", space, "labels", label, "restore")

    def alias(self, space: str, label: str, of: str) -> int:
        """Make a label a further name of the label `of`; the space's new revision. Raises NotFound,
        Conflict."""
        return self._revision("POST", space, "labels", label, "alias", of=of)

    def unalias(self, space: str, label: str) -> int:
        """Make an alias a label of its own again; the new revision. Raises NotFound, Conflict."""
        return self._revision("DELETE", space, "labels", label, "alias")

    def set_parents(self, space: str, parents: Mapping[str, str | None]) -> int:
        """Put each label or node under a node of the space's taxonomy (None: under none); the
        space's new revision. Raises NotFound, InvalidInput."""
        if not isinstance(parents, Mapping):
            raise InvalidInput(f"parents: expected a mapping, got {type(parents).__name__}")
        if not parents:
            return self.taxonomy(space).revision
        if len(parents) > MOST_PARENTS:
            raise InvalidInput(
                f"parents: expected at most {MOST_PARENTS:,} of them in a request, got "
                f"{len(parents):,}; change more with the home ('trustvlm label parent --file')"
            )
        return self._revision("PUT", space, "taxonomy", parents=dict(parents))

    def taxonomy(self, space: str) -> Taxonomy:
        """The space's taxonomy: every label that has a parent and every node above one, by name.
        Raises NotFound."""
        return self._wire.get(Taxonomy, "spaces", space, "taxonomy")

    def remove_support(self, space: str, ids: Sequence[int]) -> int:
        """Remove support images by id; the space's new revision. Raises NotFound (then none was
        removed)."""
        return self._revision("POST", space, "remove-supports", ids=_ids(ids))

    def restore_support(self, space: str, ids: Sequence[int]) -> int:
        """Bring back removed support images; the space's new revision. Raises NotFound, Conflict
        (then none came back)."""
        return self._revision("POST", space, "restore-supports", ids=_ids(ids))

    def removed(self, space: str) -> RemovedList:
        """The trash of a space: removed labels, and support images removed from labels that are
        not removed, as long as they can be restored. Raises NotFound."""
        return self._wire.get(RemovedList, "spaces", space, "removed")

    def list_labels(
        self, space: str, *, filter: FilterLike | None = None, vectors: bool = False
    ) -> Iterator[LabelRow]:
        """Every label of the space, or those whose attributes a filter keeps, in order of id, a
        page of 1,000 at a time; with `vectors`, each with its text prototype (d_t,) and its
        prototype (d_v,). Raises NotFound, InvalidInput."""
        flags(vectors=vectors)
        query: dict[str, Any] = {"order": "id", "vectors": vectors or None}
        query["filter"] = None if filter is None else as_filter(filter).text
        pages = self._wire.pages(LabelPage, ("spaces", space, "labels"), "labels", None, **query)
        first = next(pages)  # what the service refuses is refused now
        return (row for page in chain([first], pages) for row in page.labels)

    def count_labels(self, space: str, *, filter: FilterLike | None = None) -> int:
        """How many labels the space has, or a filter keeps. Raises NotFound, InvalidInput."""
        chosen = None if filter is None else as_filter(filter).to_dict()
        return self._wire.find(LabelCount, "spaces", space, "count-labels", filter=chosen).labels

    def remove_labels(
        self, space: str, labels: Sequence[str] | None = None, *, filter: FilterLike | None = None
    ) -> RemovedLabels:
        """Remove labels by name, or those that a filter keeps, with their support images. Raises
        NotFound, InvalidInput, Conflict."""
        if (labels is None) == (filter is None):
            raise InvalidInput("remove_labels: expected labels or a filter, one of them")
        names = None if labels is None else texts(labels, "labels", "a list of label names")
        chosen = None if filter is None else as_filter(filter).to_dict()
        return self._wire.write(
            RemovedLabels, "POST", "spaces", space, "remove-labels", labels=names, filter=chosen
        )

    def history(self, space: str, since: int = 0) -> Iterator[HistoryRow]:
        """The revisions of a space after `since`, oldest first; see
        :meth:`TrustService.history`."""
        path, begin = ("spaces", space, "history"), whole("since", since)
        pages = self._wire.pages(HistoryPage, path, "revisions", None, "since", since=begin)
        first = next(pages)
        return (row for page in chain([first], pages) for row in page.revisions)

    def verdict_log(self, space: str) -> VerdictLog:
        """The verdict log of a space: what it answered, once the log is switched on."""
        return RemoteVerdictLog(self._wire, space, self.place)

    def changes(
        self, space: str, since: int = 0, *, limit: int = 1_000, cursor: str | None = None
    ) -> ChangePage:
        """The labels and support images that changed after revision `since`, each once, as it is
        now; see :meth:`TrustService.changes`."""
        query = {"since": whole("since", since), "limit": whole("limit", limit, bounds="changes")}
        return self._wire.get(ChangePage, "spaces", space, "changes", **query, cursor=cursor)

    def get_label(self, space: str, label: str, *, vectors: bool = False) -> LabelRow:
        """One label as it is listed; `vectors` as for :meth:`list_labels`. Raises NotFound."""
        flags(vectors=vectors)
        parts = ("spaces", space, "labels", label)
        return self._wire.get(LabelRow, *parts, vectors=vectors or None)

    def unknown_labels(self, space: str, names: Iterable[str | None]) -> dict[str, str | None]:
        """Those of `names` (None aside) that are no labels of the space, each with the label that
        was probably meant, or None.

        Sends two requests if all n names are labels, and about 2·log₂(n) more for each name that is
        none. Raises InvalidInput, NotFound: no such space.
        """
        distinct = dict.fromkeys(name for name in label_names(names) if name is not None)
        self._wire.get(SpaceRow, "spaces", space)
        return unknown(self._wire, space, list(distinct))

    def thumbnail(self, support_id: int) -> bytes | None:
        """The JPEG thumbnail of a support image; None when it came as a vector or is gone."""
        return self._wire.picture("supports", str(_ids([support_id])[0]), "thumbnail")


def _form_fields(
    keep_originals: bool, image_range: tuple[float, float] | None, accept_truncated: bool
) -> list[tuple[str, Any]]:
    """What is done with image files, as form fields."""
    kept = ("keep_originals", bool(keep_originals))
    return [kept, *reading_fields(image_range, accept_truncated)]


def _ids(ids: object) -> list[int]:
    return id_list(ids, "ids", "a list of support image ids")


def _described(attributes: Mapping[str, Any] | None, merge: bool) -> dict[str, Any]:
    """The fields of a body that changes attributes. Raises InvalidInput."""
    flags(merge=merge)
    if not merge or not isinstance(attributes, Mapping):
        plain = plain_attributes(attributes, "attributes")
        return {"attributes": plain} | ({"merge": True} if merge else {})
    gone = {key: None for key, value in attributes.items() if value is None}
    values = {key: value for key, value in attributes.items() if value is not None}
    return {"attributes": (plain_attributes(values, "attributes") or {}) | gone, "merge": True}
