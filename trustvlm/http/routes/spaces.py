"""Label spaces: list, create, show, remove, restore; their trash; encoders for new ones."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from trustvlm.encoders import parse_spec
from trustvlm.encoders import preset as preset_named
from trustvlm.encoders.specs.presets import PRESETS
from trustvlm.errors import Forbidden, InvalidInput
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.options import ServeOptions
from trustvlm.http.routes.answers import answer, read, written
from trustvlm.http.routes.openapi import route
from trustvlm.http.wire.bodies import JSON, read_body
from trustvlm.http.wire.parameters import check_request
from trustvlm.http.wire.schemas import SpaceBody
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types import SpaceRow
from trustvlm.types.answers import (
    EmptiedTrash,
    EncoderList,
    OfferedPreset,
    RemovedList,
    RemovedSpace,
    SpaceDetails,
    SpaceList,
)

router = APIRouter(tags=["spaces"])


@router.get("/v1/spaces", **route("read", SpaceList))
async def list_spaces(request: Request) -> Response:
    """The spaces that the key opens, by name."""
    key_space = request.state.caller.space

    def work(serving: Serving) -> SpaceList:
        rows = serving.service.list_spaces()
        return SpaceList(tuple(row for row in rows if key_space in (None, row.name)))

    return await read(request, work)


@router.post("/v1/spaces", **route("admin", SpaceRow, SpaceBody, JSON, status=201))
async def create_space(request: Request) -> Response:
    """Create a space, of precomputed embeddings or with encoders that the operator allows."""
    received = await read_body(request, SpaceBody, JSON)
    key_space = request.state.caller.space
    if key_space is not None and key_space != received.body.name:
        raise Forbidden(f"this key opens the space {key_space!r} only")
    check_encoders(received.body, serving_of(request).options)

    def work(serving: Serving) -> SpaceRow:
        return serving.service.create_space(**vars(received.body))

    return await written(request, work, digest=received.digest, status=201, encoders=True)


def check_encoders(body: SpaceBody, options: ServeOptions) -> None:
    """Let clients name no file of the server, and load no encoder but those of the operator. Raises
    Forbidden: another encoder. InvalidInput: no encoder is given."""
    if body.classifier is None and body.preset is None:
        raise InvalidInput("classifier: expected an encoder such as 'precomputed:512', or a preset")
    chosen = None if body.preset is None else preset_named(body.preset)
    given = {
        "classifier": body.classifier or (chosen.classifier if chosen else None),
        "verifier": body.verifier or (chosen.verifier if chosen else None),
    }
    allowed = {parse_spec(spec).text for spec in options.encoders}
    for side, spec in given.items():
        meant = parse_spec("same" if spec is None else spec)
        if meant.kind not in ("same", "precomputed", "external") and meant.text not in allowed:
            names = ", ".join(sorted(allowed)) or "none"
            raise Forbidden(
                f"{side}: expected 'precomputed:<dim>' or an encoder of the server's setting "
                f"serve_encoders ({names}), got {spec!r:.80}"
            )


@router.get("/v1/encoders", **route("admin", EncoderList))
async def list_encoders(request: Request) -> Response:
    """The encoders and presets that spaces can be made with, besides precomputed ones."""
    options = serving_of(request).options

    def offered(name: str) -> OfferedPreset:
        chosen = PRESETS[name]
        try:
            check_encoders(SpaceBody(name=name, preset=name), options)
            reason = None
        except Forbidden as error:
            reason = str(error)
        return OfferedPreset(name, chosen.classifier, chosen.verifier, reason)

    encoders = tuple(sorted(parse_spec(spec).text for spec in options.encoders))
    return answer(EncoderList(encoders, tuple(map(offered, PRESETS))))


@router.get("/v1/spaces/{space}/removed", **route("read", RemovedList))
async def list_removed(request: Request, space: str) -> Response:
    """The trash of a space: its removed labels, and support images removed from labels that are
    there; they can be restored."""
    return await read(request, lambda serving: serving.home.removed_rows(space))


@router.delete("/v1/spaces/{space}/removed", **route("write", EmptiedTrash))
async def empty_trash(request: Request, space: str) -> Response:
    """Delete for good what was removed from a space: it cannot be restored any more."""

    def work(serving: Serving) -> EmptiedTrash:
        return EmptiedTrash(serving.home.empty_trash(space))

    return await written(request, work, repeatable=True)


@router.get("/v1/spaces/{space}", **route("read", SpaceDetails))
async def show_space(request: Request, space: str) -> Response:
    """A space with its counts, and how many of its labels have no support image."""

    def work(serving: Serving) -> SpaceDetails:
        row = serving.service.get_space(space)
        return SpaceDetails(
            **vars(row),
            unverified_count=serving.home.unverified_count(space),
            classifier_supports=serving.home.has_classifier_supports(space),
        )

    return await read(request, work)


@router.delete("/v1/spaces/{space}", **route("admin", RemovedSpace))
async def remove_space(request: Request, space: str) -> Response:
    """Remove a space; it can be restored until the undo window has passed."""

    def work(serving: Serving) -> RemovedSpace:
        serving.service.remove_space(space)
        return RemovedSpace(space)

    return await written(request, work)


@router.post(
    "/v1/spaces/{space}/restore",
    dependencies=[Depends(Scope("admin", space_exists=False)), Depends(check_request)],
    response_model=SpaceRow,
)
async def restore_space(request: Request, space: str) -> Response:
    """Bring back the space of that name that was removed last."""

    def work(serving: Serving) -> SpaceRow:
        serving.service.restore_space(space)
        return serving.service.get_space(space)

    return await written(request, work)
