"""Label spaces: list, create, show, remove, restore; their trash; encoders for new ones."""

from __future__ import annotations

from fastapi import Depends, Request, Response

from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.encoders.specs.presets import PRESETS
from trustvlm.encoders.specs.presets import preset as preset_named
from trustvlm.errors import Forbidden, InvalidInput
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.options import ServeOptions
from trustvlm.http.routes.answers import reads, writes, written
from trustvlm.http.routes.openapi import router_of
from trustvlm.http.wire.parameters import check_request
from trustvlm.http.wire.schemas import SpaceBody
from trustvlm.http.work.process import Serving
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

router = router_of("spaces")


@reads(router.get, "/v1/spaces")
def list_spaces(serving: Serving, request: Request) -> SpaceList:
    """The spaces that the key opens, by name, the scope of the key, and the name of its only
    space, null where it opens all."""
    caller, rows = request.state.caller, serving.service.list_spaces()
    opened = tuple(row for row in rows if caller.space in (None, row.name))
    return SpaceList(opened, caller.scope, caller.space)


@writes(router.post, "/v1/spaces", scope="admin", status=201, encoders=True)
def create_space(serving: Serving, request: Request, body: SpaceBody) -> SpaceRow:
    """Create a space, of precomputed embeddings or with encoders that the operator allows."""
    key_space = request.state.caller.space
    if key_space is not None and key_space != body.name:
        raise Forbidden(f"this key opens the space {key_space!r} only")
    check_encoders(body, serving.options)
    return serving.service.create_space(**vars(body))


def check_encoders(body: SpaceBody, options: ServeOptions) -> None:
    """Let clients name no file of the server, and load no encoder but those of the operator. Raises
    Forbidden: another encoder. InvalidInput: no encoder is given."""
    if body.classifier is None and body.preset is None:
        raise InvalidInput(
            "classifier: expected an encoder such as 'precomputed:512', or a preset, got neither"
        )
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


@reads(router.get, "/v1/encoders", scope="admin")
def list_encoders(serving: Serving) -> EncoderList:
    """The encoders and presets that spaces can be made with, besides precomputed ones."""
    options = serving.options

    def offered(name: str) -> OfferedPreset:
        chosen = PRESETS[name]
        try:
            check_encoders(SpaceBody(name=name, preset=name), options)
            reason = None
        except Forbidden as error:
            reason = str(error)
        return OfferedPreset(name, chosen.classifier, chosen.verifier, reason)

    encoders = tuple(sorted(parse_spec(spec).text for spec in options.encoders))
    return EncoderList(encoders, tuple(map(offered, PRESETS)))


@reads(router.get, "/v1/spaces/{space}/removed")
def list_removed(serving: Serving, space: str) -> RemovedList:
    """The trash of a space: its removed labels, and support images removed from labels that are
    there; they can be restored."""
    return serving.home.removed_rows(space)


@writes(router.delete, "/v1/spaces/{space}/removed", repeatable=True)
def empty_trash(serving: Serving, space: str) -> EmptiedTrash:
    """Delete for good what was removed from a space: it cannot be restored any more."""
    return EmptiedTrash(serving.home.empty_trash(space))


@reads(router.get, "/v1/spaces/{space}")
def show_space(serving: Serving, space: str) -> SpaceDetails:
    """A space with its counts, and how many of its labels have no support image."""
    return SpaceDetails(
        **vars(serving.service.get_space(space)),
        unverified_count=serving.home.unverified_count(space),
        classifier_supports=serving.home.has_classifier_supports(space),
    )


@writes(router.delete, "/v1/spaces/{space}", scope="admin")
def remove_space(serving: Serving, space: str) -> RemovedSpace:
    """Remove a space; it can be restored until the undo window has passed."""
    serving.service.remove_space(space)
    return RemovedSpace(space)


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
