"""Stores where a space's encoders are now: unchanged weights at another place."""

from __future__ import annotations

from dataclasses import replace

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.upkeep import reembed_runs
from trustvlm.encoders import parse_spec
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.space_encoders import encoder_of
from trustvlm.service.registration.spaces import space_row
from trustvlm.types import SpaceRow
from trustvlm.types.messages.commands import suggested


def repoint(home: Home, space_name: str, classifier: str | None, verifier: str | None) -> SpaceRow:
    """See :meth:`TrustService.repoint_space`."""
    sides = {"classifier": classifier, "verifier": verifier}
    specs = {side: parse_spec(spec).text for side, spec in sides.items() if spec is not None}
    if not specs:
        raise InvalidInput("repoint_space: expected a classifier, a verifier or both")
    space = home.space(space_name)
    for side, spec in specs.items():
        if side == "verifier" and "same" in (space.verifier, spec):
            raise InvalidInput(
                f"verifier: that of space {space_name!r} is {space.verifier!r}, and cannot be "
                f"repointed; got {spec!r}"
            )
        home.encoders.open(spec)  # NotFound where nothing is at that place
        repointed = replace(space, **{side: spec})  # type: ignore[arg-type]
        encoder_of(home, repointed, side)  # other weights, preprocessing or pooling: Conflict
    with home.catalog.write("space.repoint") as connection:
        spaces.require_same(connection, space)
        job = reembed_runs.find(connection, space.id)
        if job is not None and job.state == "staged":
            raise Conflict(
                f"space {space_name!r} is being re-embedded: finish that "
                f"({suggested('space reembed', space_name, options='--finish')}) or abort it "
                f"('--abort') first"
            )
        spaces.set_encoders(connection, space.id, specs)
    return space_row(home, space_name)
