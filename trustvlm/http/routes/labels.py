"""Labels: list, register, change, remove, restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from trustvlm.errors import InvalidInput
from trustvlm.http.guard.addressed import SLASH
from trustvlm.http.routes.answers import answer, written
from trustvlm.http.routes.openapi import READ, WRITE, takes
from trustvlm.http.wire.bodies import FORM, JSON, Received, of_json, read_body
from trustvlm.http.wire.parameters import content_type
from trustvlm.http.wire.schemas import (
    AliasBody,
    LabelBody,
    LabelContents,
    NamesBody,
    NewLabelForm,
    PatchBody,
    PicturedLabel,
    RegisterBody,
    SyncBody,
)
from trustvlm.http.work.process import Serving, refuse_unknown, serving_of
from trustvlm.service.registration.sync import Contents
from trustvlm.types import LabelInput, LabelRow, RegisterResult
from trustvlm.types.answers import CheckedLabels, LabelPage, PicturedLabelRow, Revision

__all__ = ["as_inputs", "checked_result", "name_of", "router"]

router = APIRouter(tags=["labels"])
Page = Annotated[int, Query(ge=1, le=1_000)]
_BEHIND = {
    "name": "after:",
    "id": "after-id:",
}  # begins a cursor of that order; the last name or id of the page follows


def name_of(label: str) -> str:
    """A label's name as it stood in the path, slashes included."""
    return label.replace(SLASH, "/")


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
    """Labels as the service takes them."""
    return [LabelInput(**vars(label)) for label in labels]


def _pictured(form: Received[NewLabelForm]) -> list[LabelInput]:
    """The labels of a form, each with its image files."""
    body, images = form.body, form.images or []
    if (body.name is None) == (body.labels is None):
        raise InvalidInput("body: expected a name or labels, one of them")
    if body.name is not None:
        return [LabelInput(body.name, images=images, prompt=body.prompt)]
    if body.prompt is not None:
        raise InvalidInput("prompt: expected among the fields of each of the labels")
    try:
        labels: list[PicturedLabel] = of_json(list[PicturedLabel], body.labels or "")
    except InvalidInput as error:
        raise InvalidInput(f"labels: {error}") from error
    if (expected := sum(label.images for label in labels)) != len(images):
        raise InvalidInput(f"labels: they have {expected} images, but {len(images)} files came")
    inputs, start = [], 0
    for label in labels:
        files = images[start : start + label.images]
        start += label.images
        inputs.append(LabelInput(**vars(label) | {"images": files or None}))
    return inputs


def _named(names: Sequence[str] | None) -> list[LabelBody]:
    return [LabelBody(name=name) for name in names or ()]


def _after(cursor: str | None, order: str) -> str | None:
    if cursor is None:
        return None
    if not cursor.startswith(_BEHIND[order]):
        raise InvalidInput(
            f"cursor: expected the next_cursor of an earlier page with order={order}, got "
            f"{cursor!r:.60}"
        )
    return cursor.removeprefix(_BEHIND[order])


@router.post(
    "/v1/spaces/{space}/check-labels",
    dependencies=READ,
    openapi_extra=takes(NamesBody, JSON),
    response_model=CheckedLabels,
)
async def check_labels(request: Request, space: str) -> Response:
    """Check names before many images are sent; 404 names one that is no label,
    and what was meant."""
    serving, received = serving_of(request), await read_body(request, NamesBody, JSON)
    await refuse_unknown(serving, space, "names", received.body.names)
    return answer(CheckedLabels(len(set(received.body.names))))


@router.post(
    "/v1/spaces/{space}/sync",
    dependencies=WRITE,
    openapi_extra=takes(SyncBody, JSON),
    response_model=RegisterResult,
)
async def sync(request: Request, space: str) -> Response:
    """Make a space equal to a folder: remove what these labels do not have. What the space lacks is
    registered before.

    It can be restored until it is purged. Refused where space and folder have nothing in common.
    """
    home, received = serving_of(request).home, await read_body(request, SyncBody, JSON)
    body, has = received.body, _contents(received.body.labels)
    if not body.remove and not body.dry_run:
        raise InvalidInput("remove: false is allowed with dry_run only; POST …/labels registers")

    def work() -> RegisterResult:
        how = {"dry_run": body.dry_run, "sync": body.remove, "bring_back": body.bring_back}
        return home.sync_contents(space, has, **how)

    return await written(request, work, digest=received.digest, repeatable=True)


def _contents(labels: Sequence[LabelContents]) -> Contents:
    """What labels have, by content. Raises InvalidInput: another number of sources than of
    contents."""
    images: dict[str, dict[bytes, str | None]] = {}
    silent, unread = set(), set()
    for label in labels:
        sources = label.sources or [None] * len(label.contents)
        if len(sources) != len(label.contents):
            raise InvalidInput(
                f"labels: {label.name!r} has {len(label.contents)} contents, but {len(sources)} "
                f"sources"
            )
        if label.unread:
            unread.add(label.name)
        if label.contents or label.unread:
            mine = images.setdefault(label.name, {})
            mine.update(zip(map(bytes.fromhex, label.contents), sources, strict=True))
        else:
            silent.add(label.name)
    return Contents(images, silent - images.keys(), unread)


async def _by_id(serving: Serving, space: str, cursor: str | None, limit: int) -> Response:
    """A page of labels in the order of their ids."""
    after = _after(cursor, "id") or "0"
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise InvalidInput(
            f"cursor: expected the next_cursor of an earlier page with order=id, got {cursor!r:.60}"
        )
    rows = await serving.reading.run(
        lambda: serving.home.label_page_by_id(space, after=int(after), limit=limit + 1)
    )
    following = f"{_BEHIND['id']}{rows[limit - 1].id}" if len(rows) > limit else None
    return answer(LabelPage(tuple(rows[:limit]), following))


@router.get("/v1/spaces/{space}/labels", dependencies=READ, response_model=LabelPage)
async def list_labels(
    request: Request,
    space: str,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": "^after(-id)?:"})] = None,
    limit: Page = 100,
    q: Annotated[str | None, Query(min_length=1, max_length=500)] = None,
    match: Literal["prefix", "contains"] | None = None,
    unverified: bool = False,
    order: Literal["name", "id"] = "name",
    thumbnails: Annotated[int, Query(ge=0, le=12)] = 0,
) -> Response:
    """A page of labels, by name; `q`: whose name contains it (ASCII letters in any case) or, with
    `match=prefix`, begins with it (as it is).

    `order=id`: all of them, oldest first. `thumbnails`: each with the ids of so many of its support
    images, as `supports`. Refused are the combinations that are not served: `order=id` with `q`,
    `unverified` or `thumbnails`; `match` without `q`; and the cursor of a page of another order.
    """
    if match is not None and q is None:
        raise InvalidInput("match: says how the text of q is compared; it needs q")
    if order == "id":
        if narrowed := [
            name
            for name, given in (("q", q), ("unverified", unverified), ("thumbnails", thumbnails))
            if given
        ]:
            raise InvalidInput(
                f"order: id cannot be combined with {', '.join(narrowed)}; omit order, or list "
                f"all labels"
            )
        return await _by_id(serving_of(request), space, cursor, limit)
    home, after = serving_of(request).home, _after(cursor, "name")
    wanted: dict[str, Any] = {
        match or "contains": q,
        "unverified": unverified,
        "after": after,
        "limit": limit + 1,
    }
    page = await serving_of(request).reading.run(
        lambda: home.label_page(space, thumbnails=thumbnails, **wanted)
    )
    rows = [
        PicturedLabelRow(**vars(row), supports=tuple(ids)) if thumbnails else row
        for row, ids in page
    ]
    following = _BEHIND["name"] + rows[limit - 1].name if len(rows) > limit else None
    return answer(LabelPage(tuple(rows[:limit]), following))


@router.post(
    "/v1/spaces/{space}/labels",
    dependencies=WRITE,
    openapi_extra=takes(RegisterBody, JSON, FORM, form=NewLabelForm),
    response_model=RegisterResult,
)
async def register(request: Request, space: str) -> Response:
    """Register labels: new ones, or more support images of those that are there. Repeating it
    changes nothing."""
    service = serving_of(request).service
    if content_type(request) == FORM:
        form = await read_body(request, NewLabelForm, FORM)
        inputs, digest = _pictured(form), form.digest
        given = {
            name: getattr(form.body, name)
            for name in ("unreadable", "keep_originals", "bring_back")
        } | form.reading
    else:
        received = await read_body(request, RegisterBody, JSON)
        given = {"bring_back": received.body.bring_back}
        if (received.body.labels is None) == (received.body.names is None):
            raise InvalidInput("body: expected labels or names, one of them")
        inputs, digest = (
            as_inputs(received.body.labels or _named(received.body.names)),
            received.digest,
        )
    encoders = any(one.images is not None or one.text_vector is None for one in inputs)

    unreadable = given.pop("unreadable", "refuse")

    def work() -> RegisterResult:
        return checked_result(service.register(space, inputs, **given), unreadable)

    return await written(request, work, digest=digest, encoders=encoders, repeatable=True)


@router.get("/v1/spaces/{space}/labels/{label}", dependencies=READ, response_model=LabelRow)
async def show_label(request: Request, space: str, label: str) -> Response:
    """One label."""
    serving = serving_of(request)
    return answer(await serving.reading.run(lambda: serving.home.get_label(space, name_of(label))))


@router.patch(
    "/v1/spaces/{space}/labels/{label}",
    dependencies=WRITE,
    openapi_extra=takes(PatchBody, JSON),
    response_model=Revision,
)
async def update_label(request: Request, space: str, label: str) -> Response:
    """Change a label's name, prompt or text vector."""
    service, received = serving_of(request).service, await read_body(request, PatchBody, JSON)
    changes = vars(received.body)
    return await written(
        request,
        lambda: Revision(service.update_label(space, name_of(label), **changes)),
        digest=received.digest,
        encoders=received.body.text_vector is None,
    )


@router.delete("/v1/spaces/{space}/labels/{label}", dependencies=WRITE, response_model=Revision)
async def remove_label(request: Request, space: str, label: str, purge: bool = False) -> Response:
    """Remove a label with its support images; it can be restored, unless it is purged.

    Purging takes several transactions. Where the service dies within them, the same request does
    the rest of it, or finds nothing; a label that was registered under that name in between is
    another one, and would be purged.
    """
    service = serving_of(request).service
    return await written(
        request,
        lambda: Revision(service.remove_label(space, name_of(label), purge=purge)),
        digest=b"%d" % purge,
        repeatable=purge,
    )


@router.post(
    "/v1/spaces/{space}/labels/{label}/restore", dependencies=WRITE, response_model=Revision
)
async def restore_label(request: Request, space: str, label: str) -> Response:
    """Bring back the label of that name that was removed last, with the support images it had."""
    service = serving_of(request).service
    return await written(request, lambda: Revision(service.restore_label(space, name_of(label))))


@router.post(
    "/v1/spaces/{space}/labels/{label}/alias",
    dependencies=WRITE,
    openapi_extra=takes(AliasBody, JSON),
    response_model=Revision,
)
async def alias(request: Request, space: str, label: str) -> Response:
    """Make a label a further name of another one: from then on they are one label, and the other
    one is the answer."""
    service, received = serving_of(request).service, await read_body(request, AliasBody, JSON)
    return await written(
        request,
        lambda: Revision(service.alias(space, name_of(label), received.body.of)),
        digest=received.digest,
    )


@router.delete(
    "/v1/spaces/{space}/labels/{label}/alias", dependencies=WRITE, response_model=Revision
)
async def unalias(request: Request, space: str, label: str) -> Response:
    """Make an alias a label of its own again."""
    service = serving_of(request).service
    return await written(request, lambda: Revision(service.unalias(space, name_of(label))))
