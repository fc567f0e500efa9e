"""Labels: list, register, change, remove, restore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, Literal, cast

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool

from trustvlm.errors import InvalidInput
from trustvlm.http.routes.answers import has_images, name_of, reads, writes, written
from trustvlm.http.routes.label_page import CURSOR, PageRequest, label_page
from trustvlm.http.routes.openapi import SPACE, route, router_of
from trustvlm.http.wire.bodies import FORM, JSON, Received, of_json, read_body
from trustvlm.http.wire.image_files import MOST_FILES, base64_images
from trustvlm.http.wire.label_bodies import (
    AliasBody,
    CountBody,
    FilterBody,
    LabelBody,
    LabelContents,
    NamesBody,
    NewLabelForm,
    PatchBody,
    PicturedLabel,
    PutLabelBody,
    RegisterBody,
    SyncBody,
)
from trustvlm.http.wire.parameters import content_type
from trustvlm.http.work.process import Serving, require_labels
from trustvlm.service.home.names import check_name
from trustvlm.service.registration.sync import Contents
from trustvlm.types import LabelInput, RegisterResult
from trustvlm.types.answers import CheckedLabels, LabelCount, LabelDetails, LabelPage, Revision
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.registration import RemovedLabels
from trustvlm.types.rows import LabelErrors
from trustvlm.types.taxonomy import ParentOptions, Taxonomy

LABELS = f"{SPACE}/labels"
LABEL = LABELS + "/{label}"
TAXONOMY = f"{SPACE}/taxonomy"
_REGISTER = ("keep_originals", "bring_back", "replace")
router = router_of("labels")


def checked_result(result: RegisterResult, unreadable: str = "refuse") -> RegisterResult:
    """What a registration changed.

    Raises:
        InvalidInput: nothing, because no image could be read; unless `unreadable` is "report".
    """
    changed = result.added_labels or result.added_supports or result.skipped_duplicates
    if unreadable == "refuse" and result.failures and not changed:
        source, reason = result.failures[0]
        count = len(result.failures)
        raise InvalidInput(f"images: {source}: {reason} (none of {count} can be read)")
    return result


def as_inputs(labels: Sequence[LabelBody]) -> list[LabelInput]:
    """Labels as the service takes them. Raises InvalidInput: images that are no base64, or more of
    them than a request may hold."""
    if (count := sum(len(label.images or ()) for label in labels)) > MOST_FILES:
        raise InvalidInput(f"labels: expected at most {MOST_FILES} images together, got {count}")
    inputs = []
    for label in labels:
        given = vars(label)
        if label.images is not None:
            what = f"labels: {label.name!r:.80}: images"
            given = given | {"images": base64_images(label.images, what)}
        inputs.append(LabelInput(**given))
    return inputs


def _form_inputs(form: Received[NewLabelForm]) -> list[LabelInput]:
    """The labels of a form, each with its image files."""
    body, images = form.body, form.images or []
    if (body.name is None) == (body.labels is None):
        raise InvalidInput("body: expected a name or labels, one of them")
    if body.name is not None:
        described: dict[str, Any] = {"prompt": body.prompt, "attributes": body.attributes}
        return [LabelInput(body.name, images=images, **described)]
    for name in ("prompt", "attributes"):
        if getattr(body, name) is not None:
            raise InvalidInput(f"{name}: expected among the fields of each of the labels")
    labels: list[PicturedLabel] = of_json(list[PicturedLabel], body.labels or "", "labels")
    if (expected := sum(label.images for label in labels)) != len(images):
        raise InvalidInput(f"labels: they have {expected} images, but {len(images)} files came")
    files = iter(images)
    return [
        LabelInput(**vars(label) | {"images": list(islice(files, label.images)) or None})
        for label in labels
    ]


@reads(router.post, f"{SPACE}/check-labels")
def check_labels(serving: Serving, space: str, body: NamesBody) -> CheckedLabels:
    """Check names before many images are sent; 404 names one that is no label,
    and what was meant."""
    require_labels(serving, space, "names", body.names)
    return CheckedLabels(len(set(body.names)))


@writes(router.post, f"{SPACE}/sync", repeatable=True)
def sync(serving: Serving, space: str, body: SyncBody) -> RegisterResult:
    """Make a space equal to a folder: remove what these labels do not have. What the space lacks is
    registered before.

    It can be restored until it is purged. Refused where space and folder have nothing in common.
    """
    contents = _contents(body.labels)
    if not body.remove and not body.dry_run:
        raise InvalidInput("remove: false is allowed with dry_run only; POST …/labels registers")
    return serving.home.sync_contents(
        space, contents, dry_run=body.dry_run, sync=body.remove, bring_back=body.bring_back
    )


def _contents(labels: Sequence[LabelContents]) -> Contents:
    """The content of labels. Raises InvalidInput: another number of sources than of contents."""
    images: dict[str, dict[bytes, str | None]] = {}
    silent, unread = set(), set()
    for label in labels:
        check_name(label.name, "labels")
        sources = label.sources or [None] * len(label.contents)
        if len(sources) != len(label.contents):
            raise InvalidInput(
                f"labels: {label.name!r} has {len(label.contents)} contents, but {len(sources)} "
                f"sources"
            )
        if label.unread:
            unread.add(label.name)
        if label.contents or label.unread:
            hashes = map(bytes.fromhex, label.contents)
            images.setdefault(label.name, {}).update(zip(hashes, sources, strict=True))
        else:
            silent.add(label.name)
    return Contents(images, silent - images.keys(), unread)


@reads(router.get, LABELS)
def list_labels(
    serving: Serving,
    space: str,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": CURSOR})] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    q: Annotated[str | None, Query(min_length=1, max_length=500)] = None,
    match: Literal["prefix", "contains"] | None = None,
    unverified: bool = False,
    order: Literal["name", "id", "images", "errors", "share"] = "name",
    thumbnails: Annotated[int, Query(ge=0, le=12)] = 0,
    predictions: bool = False,
    filter: Annotated[str | None, Query(min_length=1, max_length=20_000)] = None,
    vectors: bool = False,
) -> LabelPage:
    """A page of labels, by name; `q`: whose name contains it (ASCII letters in any case) or, with
    `match=prefix`, begins with it (as it is).

    `order=id`: all of them, oldest first. `order=images`: all of them, most support images first.
    `order=errors`, `order=share`: those that stored images of known label are of or get, most
    errors or the largest share of predictions first. `thumbnails`: each with the ids of up to this
    number of its support images, as `supports`. `predictions`: each with what the stored images
    (the newest, at most 2,000) say of it. Refused combinations: `q` or `unverified` with an order
    other than by name; `thumbnails` or `predictions` with `order=id`; `filter` or `vectors` with
    another order, `name` included; `match` without `q`; and the cursor of a page of another order.
    `filter`, with `order=id`: those whose attributes it keeps, as JSON or as text; `vectors`, with
    `order=id`: each with its prototypes.
    """
    shown = (thumbnails, predictions)
    wanted = PageRequest(cursor, limit, q, match, unverified, order, *shown, filter, vectors)
    return label_page(serving.home, space, wanted)


@router.post(LABELS, **route("write", RegisterResult, RegisterBody, JSON, FORM, form=NewLabelForm))
async def register(request: Request, space: str) -> Response:
    """Register labels: new ones, or more support images of those that are there. Repeating it
    changes nothing."""
    options: dict[str, Any]
    unreadable = "refuse"
    if content_type(request) == FORM:
        form = await read_body(request, NewLabelForm, FORM)
        inputs, digest, unreadable = _form_inputs(form), form.digest, form.body.unreadable
        kept = {name: getattr(form.body, name) for name in _REGISTER}
        options = kept | form.reading
    else:
        received = await read_body(request, RegisterBody, JSON)
        body, digest = received.body, received.digest
        if (body.labels is None) == (body.names is None):
            raise InvalidInput("body: expected labels or names, one of them")
        given = body.labels or [LabelBody(name=name) for name in body.names or ()]
        inputs = await run_in_threadpool(as_inputs, given)
        images = [image for label in inputs for image in label.images or ()]
        unreadable = body.unreadable
        options = {name: getattr(body, name) for name in _REGISTER}
        options |= replace(received, images=cast(Any, images) or None).reading
    encoders = any(label.images is not None or label.text_vector is None for label in inputs)

    def work(serving: Serving) -> RegisterResult:
        return checked_result(serving.service.register(space, inputs, **options), unreadable)

    return await written(request, work, digest=digest, encoders=encoders, repeatable=True)


@reads(router.post, f"{SPACE}/count-labels")
def count_labels(serving: Serving, space: str, body: CountBody) -> LabelCount:
    """How many labels the space has, or a filter keeps."""
    chosen = None if body.filter is None else Filter(body.filter)
    count = serving.service.count_labels(space, filter=chosen)
    return LabelCount(count, None if chosen is None else chosen.to_dict())


@writes(router.post, f"{SPACE}/remove-labels", repeatable=True)
def remove_labels(serving: Serving, space: str, body: FilterBody) -> RemovedLabels:
    """Remove labels by name, or those that a filter keeps, with their support images; each can be
    restored. Repeating it with a filter completes it."""
    return serving.service.remove_labels(space, body.labels, filter=body.filter)


@reads(router.get, LABEL)
def show_label(serving: Serving, space: str, label: str, vectors: bool = False) -> LabelDetails:
    """One label, with its further names; `vectors`: with its prototypes."""
    return serving.home.get_label(space, label, vectors=vectors)


@reads(router.get, f"{LABEL}/errors")
def list_label_errors(
    serving: Serving, space: str, label: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> LabelErrors:
    """Stored images of known label (of the newest, at most 2,000) that get this label and are of
    another one, and those of this label that get another one; up to `limit` of each."""
    return serving.home.label_records.errors(space, label, limit)


def _puts_images_or_text(received: Received[PutLabelBody]) -> bool:
    return has_images(received) or received.body.text_vector is None


@writes(router.put, LABEL, encoders=_puts_images_or_text, repeatable=True)
def put_label(
    serving: Serving, space: str, label: str, received: Received[PutLabelBody]
) -> RegisterResult:
    """Create a label, or give it this text vector, prompt, attributes and parent in place of those
    that it has; what is left out stays. Support images that it has already are skipped, others
    added. Repeating it changes nothing."""
    given = LabelInput(label, **vars(received.body) | {"images": received.images})
    return checked_result(serving.service.register(space, [given], replace=True))


def _changes_text(received: Received[PatchBody]) -> bool:
    body = received.body
    return body.text_vector is None and (body.new_name is not None or body.prompt is not None)


@writes(router.patch, LABEL, encoders=_changes_text)
def update_label(serving: Serving, space: str, label: str, body: PatchBody) -> Revision:
    """Change a label's name, prompt, text vector or attributes."""
    return Revision(serving.service.update_label(space, label, **vars(body)))


@router.delete(LABEL, **route("write", Revision))
async def remove_label(request: Request, space: str, label: str, purge: bool = False) -> Response:
    """Remove a label with its support images; it can be restored, unless it is purged.

    Purging takes several transactions. Where the service dies within them, the same request does
    the rest of it, or finds nothing; a label that was registered under that name in between is
    another one, and would be purged.
    """

    def work(serving: Serving) -> Revision:
        return Revision(serving.service.remove_label(space, name_of(label), purge=purge))

    return await written(request, work, b"%d" % purge, repeatable=purge)


@writes(router.post, f"{LABEL}/restore")
def restore_label(serving: Serving, space: str, label: str) -> Revision:
    """Bring back the label of that name that was removed last, with the support images it had."""
    return Revision(serving.service.restore_label(space, label))


@writes(router.post, f"{LABEL}/alias")
def alias(serving: Serving, space: str, label: str, body: AliasBody) -> Revision:
    """Make a label a further name of another one: from then on they are one label, and the other
    one is the answer."""
    return Revision(serving.service.alias(space, label, body.of))


@writes(router.delete, f"{LABEL}/alias")
def unalias(serving: Serving, space: str, label: str) -> Revision:
    """Make an alias a separate label again."""
    return Revision(serving.service.unalias(space, label))


@reads(router.get, TAXONOMY)
def show_taxonomy(serving: Serving, space: str) -> Taxonomy:
    """Every label that has a parent and every node above one, by name."""
    return serving.service.taxonomy(space)


@writes(router.put, TAXONOMY)
def set_parents(serving: Serving, space: str, body: ParentOptions) -> Revision:
    """Put labels or nodes under nodes (null: under none), all or none of them; the others stay
    where they are."""
    return Revision(serving.service.set_parents(space, body.parents))
