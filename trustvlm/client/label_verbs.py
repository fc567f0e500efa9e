"""The verbs that change and list labels and support images; part of the facade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from trustvlm.client import register as registering
from trustvlm.client.codec import read, reading_fields, text_rows
from trustvlm.client.connection import Connected
from trustvlm.client.queries import unknown
from trustvlm.client.transport import json_body, path_of
from trustvlm.client.verdict_log import VerdictLog
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.given import given_labels
from trustvlm.reading.hold_out import HoldOut
from trustvlm.types import LabelInput, LabelRow, RegisterResult
from trustvlm.types.answers import LabelCount, LabelPage, RemovedList
from trustvlm.types.arrays import id_list, texts
from trustvlm.types.attributes.filters import FilterLike, as_filter
from trustvlm.types.attributes.values import plain_attributes
from trustvlm.types.bounds import flags, whole
from trustvlm.types.registration import RemovedLabels
from trustvlm.types.rows import ChangePage, HistoryPage, HistoryRow
from trustvlm.types.taxonomy import MOST_PARENTS, Taxonomy

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images, ImagesByLabel, ImageSource

PAGE = 1_000


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
        args = (self._wire, space, given, on_commit, progress, form)
        chosen = {"replace": True} if replace else {}
        if sync:
            return registering.synchronise(*args, chosen)
        return registering.register(*args, chosen | ({"bring_back": True} if bring_back else {}))

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
        content = {"text_vector": vector, "prompt": prompt, "new_name": new_name}
        described = _described(attributes, merge)
        return self._revision(
            "PATCH", path_of("spaces", space, "labels", label), content | described
        )

    def update_support(
        self, space: str, support_id: int, *, attributes: Mapping[str, Any], merge: bool = False
    ) -> int:
        """Give a support image these attributes in place of all that it has, {} for none; with
        `merge` change these keys alone, None takes one away. The space's new revision. Raises
        NotFound, InvalidInput."""
        path = path_of("spaces", space, "supports", str(_ids([support_id])[0]))
        return self._revision("PATCH", path, _described(attributes, merge))

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
        return self._revision("POST", path_of("spaces", space, "labels", label, "restore"))

    def alias(self, space: str, label: str, of: str) -> int:
        """Make a label a further name of the label `of`; the space's new revision. Raises NotFound,
        Conflict."""
        return self._revision(
            "POST", path_of("spaces", space, "labels", label, "alias"), {"of": of}
        )

    def unalias(self, space: str, label: str) -> int:
        """Make an alias a label of its own again; the new revision. Raises NotFound, Conflict."""
        return self._revision("DELETE", path_of("spaces", space, "labels", label, "alias"))

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
        path = path_of("spaces", space, "taxonomy")
        return self._revision("PUT", path, {"parents": dict(parents)})

    def taxonomy(self, space: str) -> Taxonomy:
        """The space's taxonomy: every label that has a parent and every node above one, by name.
        Raises NotFound."""
        return read(Taxonomy, self._wire.ask("GET", path_of("spaces", space, "taxonomy")))

    def remove_support(self, space: str, ids: Sequence[int]) -> int:
        """Remove support images by id; the space's new revision. Raises NotFound (then none was
        removed)."""
        return self._revision(
            "POST", path_of("spaces", space, "remove-supports"), {"ids": _ids(ids)}
        )

    def restore_support(self, space: str, ids: Sequence[int]) -> int:
        """Bring back removed support images; the space's new revision. Raises NotFound, Conflict
        (then none came back)."""
        return self._revision(
            "POST", path_of("spaces", space, "restore-supports"), {"ids": _ids(ids)}
        )

    def removed(self, space: str) -> RemovedList:
        """The trash of a space: removed labels, and support images removed from labels that are
        not removed, as long as they can be restored. Raises NotFound."""
        return read(RemovedList, self._wire.ask("GET", path_of("spaces", space, "removed")))

    def list_labels(
        self, space: str, *, filter: FilterLike | None = None, vectors: bool = False
    ) -> Iterator[LabelRow]:
        """Every label of the space, or those whose attributes a filter keeps, in order of id, a
        page of 1,000 at a time; with `vectors`, each with its text prototype (d_t,) and its
        prototype (d_v,). Raises NotFound, InvalidInput."""
        flags(vectors=vectors)
        chosen: list[tuple[str, Any]] = [("vectors", "true")] if vectors else []
        chosen += [] if filter is None else [("filter", as_filter(filter).text)]
        page = self._page(space, *chosen)  # unknown spaces are refused now
        return self._labels(space, page, chosen)

    def _labels(
        self, space: str, page: LabelPage, chosen: list[tuple[str, Any]]
    ) -> Iterator[LabelRow]:
        yield from page.labels
        while page.next_cursor is not None:
            page = self._page(space, ("cursor", page.next_cursor), *chosen)
            yield from page.labels

    def count_labels(self, space: str, *, filter: FilterLike | None = None) -> int:
        """How many labels the space has, or a filter keeps. Raises NotFound, InvalidInput."""
        body = {} if filter is None else {"filter": as_filter(filter).to_dict()}
        path = path_of("spaces", space, "count-labels")
        return read(LabelCount, self._wire.ask("POST", path, body=json_body(body))).labels

    def remove_labels(
        self, space: str, labels: Sequence[str] | None = None, *, filter: FilterLike | None = None
    ) -> RemovedLabels:
        """Remove labels by name, or those that a filter keeps, with their support images. Raises
        NotFound, InvalidInput, Conflict."""
        if (labels is None) == (filter is None):
            raise InvalidInput("remove_labels: expected labels or a filter, one of them")
        content: dict[str, Any]
        if filter is not None:
            content = {"filter": as_filter(filter).to_dict()}
        else:
            content = {"labels": texts(labels, "labels", "a list of label names")}
        path = path_of("spaces", space, "remove-labels")
        answer = self._wire.ask("POST", path, body=json_body(content), write=True)
        return read(RemovedLabels, answer)

    def _page(self, space: str, *query: tuple[str, Any]) -> LabelPage:
        options = [("order", "id"), ("limit", PAGE), *query]
        return read(
            LabelPage, self._wire.ask("GET", path_of("spaces", space, "labels"), query=options)
        )

    def history(self, space: str, since: int = 0) -> Iterator[HistoryRow]:
        """The revisions of a space after `since`, oldest first; see
        :meth:`TrustService.history`."""
        page = self._history(space, whole("since", since))  # unknown spaces are refused now
        return self._revisions(space, page)

    def _revisions(self, space: str, page: HistoryPage) -> Iterator[HistoryRow]:
        yield from page.revisions
        while page.next_since is not None:
            page = self._history(space, page.next_since)
            yield from page.revisions

    def _history(self, space: str, since: int) -> HistoryPage:
        path, options = path_of("spaces", space, "history"), [("since", since), ("limit", PAGE)]
        return read(HistoryPage, self._wire.ask("GET", path, query=options))

    def verdict_log(self, space: str) -> VerdictLog:
        """The verdict log of a space: what it answered, once the log is switched on."""
        return VerdictLog(self._wire, space)

    def changes(
        self, space: str, since: int = 0, *, limit: int = 1_000, cursor: str | None = None
    ) -> ChangePage:
        """The labels and support images that changed after revision `since`, each once, as it is
        now; see :meth:`TrustService.changes`."""
        options: list[tuple[str, Any]] = [("since", whole("since", since))]
        options += [("limit", whole("limit", limit, bounds="changes"))]
        options += [] if cursor is None else [("cursor", cursor)]
        path = path_of("spaces", space, "changes")
        return read(ChangePage, self._wire.ask("GET", path, query=options))

    def get_label(self, space: str, label: str, *, vectors: bool = False) -> LabelRow:
        """One label as it is listed; `vectors` as for :meth:`list_labels`. Raises NotFound."""
        flags(vectors=vectors)
        query = [("vectors", "true")] if vectors else []
        path = path_of("spaces", space, "labels", label)
        return read(LabelRow, self._wire.ask("GET", path, query=query))

    def unknown_labels(self, space: str, names: Iterable[str | None]) -> dict[str, str | None]:
        """Those of `names` (None aside) that are no labels of the space, each with the label that
        was probably meant, or None.

        Sends two requests if all n names are labels, and about 2·log₂(n) more for each name that is
        none. Raises NotFound: no such space.
        """
        self._wire.ask("GET", path_of("spaces", space))
        return unknown(self._wire, space, list(dict.fromkeys(n for n in names if n is not None)))

    def thumbnail(self, support_id: int) -> bytes | None:
        """The JPEG thumbnail of a support image; None when it came as a vector or is gone."""
        path = path_of("supports", str(_ids([support_id])[0]), "thumbnail")
        try:
            return self._wire.fetch("GET", path).content
        except NotFound:
            return None


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
