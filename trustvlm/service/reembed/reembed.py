"""Re-embedding a space: the new embeddings are staged in a space beside it, and one short
transaction replaces the one by the other.

The old space answers and changes meanwhile. The labels that change are staged again; the cut-over
happens only at a revision whose changes are all staged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.attributes.rows import copy_attributes
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.upkeep import reembed_rows, reembed_runs
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import Busy, Conflict, InvalidInput, NotFound
from trustvlm.service.home.home import Home, only_one
from trustvlm.service.inputs.space_encoders import encodes_texts
from trustvlm.service.reembed.sources import Sources
from trustvlm.service.reembed.stage import Progress, stage_changes, stage_observations
from trustvlm.service.registration.external.outputs import check_external
from trustvlm.service.registration.spaces import check_scale, pinned
from trustvlm.types.backups import MissingOriginal, Reembedding
from trustvlm.types.messages.commands import suggested

PASSES = 500
"""Passes over what changed meanwhile, each over less than the one before, before giving up."""

_SHOWN = 5


@contextmanager
def exclusive(home: Home) -> Iterator[None]:
    """Let one process at a time re-embed a space of this catalog; the lock ends with the process.

    Raises:
        Busy: another one does.
    """
    with only_one(home, "reembed") as is_alone:
        if not is_alone:
            raise Busy(
                f"another process or thread is re-embedding a space of {home.catalog.location}; "
                f"wait for it, or stop it"
            )
        yield


def begin(
    home: Home,
    name: str,
    specs: Mapping[str, str | None],
    templates: Sequence[str] | None,
    logit_scale: float | None,
) -> tuple[SpaceRecord, SpaceRecord, ReembedRecord]:
    """Begin a run, or continue that of an earlier call: the old space, the new space, the run.

    Args:
        specs: "classifier" and "verifier" → spec of the new encoder, None: as it is.

    Raises:
        Conflict: the run has other encoders or templates, or the old embeddings of the last run are
            still kept. InvalidInput: nothing is to be new.
    """
    with home.catalog.read() as connection:
        old = spaces.find(connection, name)
        job = reembed_runs.find(connection, old.id)
        new = None if job is None else spaces.find_by_id(connection, job.other_id)
    if job is None or new is None:
        return _begin_run(home, old, specs, templates, logit_scale)
    if job.state == "kept":
        raise Conflict(
            f"space {name!r} still keeps the embeddings from before it was last re-embedded; "
            f"discard them first: {suggested('space reembed', name, options='--discard-old')} (or "
            f"put them back: {suggested('space restore', name)})"
        )
    finish = suggested("space reembed", name, options="--finish")
    for side, spec in specs.items():
        current = getattr(new, side)
        if spec is not None and parse_spec(spec).text != current:
            raise Conflict(
                f"space {name!r} is being re-embedded with the {side} {current!r}, not {spec!r}; "
                f"finish that ({finish}) or abort it ('--abort')"
            )
    if templates is not None and tuple(templates) != new.templates:
        raise Conflict(
            f"space {name!r} is being re-embedded with other templates; finish that ({finish}) "
            f"or abort it ('--abort')"
        )
    return old, new, job


def _begin_run(
    home: Home,
    old: SpaceRecord,
    specs: Mapping[str, str | None],
    templates: Sequence[str] | None,
    logit_scale: float | None,
) -> tuple[SpaceRecord, SpaceRecord, ReembedRecord]:
    if templates is None and not any(specs.values()):
        raise InvalidInput(
            "reembed: expected a classifier, a verifier or templates that are to be the new "
            "ones; got none"
        )
    check_external(old, specs["classifier"], templates, logit_scale)
    values = pinned(
        home,
        specs["classifier"] or old.classifier,
        specs["verifier"] or old.verifier,
        templates or old.templates,
    )
    values |= {"logit_scale": _scale(home, old, values, logit_scale), "recipe": old.recipe}
    with home.catalog.write("reembed.begin") as connection:
        if (
            spaces.find(connection, old.name).id != old.id
            or reembed_runs.find(connection, old.id) is not None
        ):
            raise Conflict(
                f"space {old.name!r} was removed, or is being re-embedded by another process, "
                f"since the call began"
            )
        job = reembed_runs.begin(connection, old, values)
        return old, spaces.find_by_id(connection, job.other_id), job


def _scale(home: Home, old: SpaceRecord, values: Mapping[str, Any], scale: float | None) -> float:
    """The logit scale: the given one, else that of a new classifier, else the old one."""
    if scale is not None:
        return check_scale(scale)
    classifier = values["classifier"]
    if values["classifier_identity"] == old.classifier_identity or not encodes_texts(classifier):
        return old.logit_scale
    scale = home.encoders.open(classifier).logit_scale
    return old.logit_scale if scale is None else scale


def cut_over(
    home: Home,
    name: str,
    job: ReembedRecord,
    sources: Sources,
    drop_missing: bool,
    progress: Progress | None,
) -> Reembedding:
    """Stage everything, pass by pass, and replace the space when nothing is left to stage.

    Raises:
        Conflict: originals or texts are missing, the run was aborted, or the space changes all the
            time.
    """
    for number in range(PASSES):
        # What was missing in an earlier call may be there now.
        changed = stage_changes(home, job, sources, progress, incomplete=number == 0)
        stage_observations(home, job, sources)
        if changed:
            continue
        with home.catalog.read() as connection:
            missing = _require_complete(connection, name, job, drop_missing)
        home.background_fit.refit(name + spaces.STAGED)
        if (result := _replace(home, name, job, missing)) is not None:
            home.caches.forget(name)
            return result
    raise Conflict(
        f"space {name!r} changes faster than it can be followed; run "
        f"{suggested('space reembed', name, options='--finish')} later"
    )


def _require_complete(
    connection: Connection, name: str, job: ReembedRecord, drop_missing: bool
) -> tuple[MissingOriginal, ...]:
    """The support images without new embeddings. Raises Conflict, naming them, unless they may be
    dropped, and for labels without text embedding."""
    if texts := reembed_rows.missing_labels(connection, job):
        raise Conflict(
            f"space {name!r} keeps its old encoders: nothing gives {len(texts)} of its labels a "
            f"text embedding of the new classifier ({_some(list(map(repr, texts)))}); pass text "
            f"vectors for them ('--text-vectors FILE.npz')"
        )
    missing = _missing(connection, job)
    if missing and not drop_missing:
        listed = [
            f"{image.id} of {image.label!r}" + (f" from {image.source}" if image.source else "")
            for image in missing
        ]
        status = suggested("space reembed", name, options="--status")
        raise Conflict(
            f"space {name!r} keeps its old encoders: {len(missing)} of its support images have "
            f"no original ({_some(listed)}); {status} lists them; "
            f"pass --from DIR with their files, or --drop-missing to leave them behind"
        )
    return missing


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", …" if items[_SHOWN:] else "")


def _missing(connection: Connection, job: ReembedRecord) -> tuple[MissingOriginal, ...]:
    return tuple(MissingOriginal(*row) for row in reembed_rows.missing_supports(connection, job))


def _replace(
    home: Home, name: str, job: ReembedRecord, missing: tuple[MissingOriginal, ...]
) -> Reembedding | None:
    """Replace the space in one transaction; None where it changed since the last pass."""
    with home.catalog.write("reembed.cut_over") as connection:
        start = time.perf_counter()
        now, old = reembed_runs.find(connection, job.space_id), spaces.find(connection, name)
        if now is None or (now.id, now.state, old.id) != (job.id, "staged", job.space_id):
            raise Conflict(
                f"re-embedding of space {name!r} was aborted, or the space removed, during the "
                f"call; nothing changed"
            )
        if old.revision != now.synced:
            return None
        calibrations = reembed_rows.copy_calibrations(connection, job)
        reembed_rows.renew_observations(connection, job)
        observations = reembed_rows.observation_count(connection, job.other_id)
        left = reembed_rows.observation_count(connection, job.space_id) - observations
        label_count, support_count = reembed_runs.counts(connection, job)
        new = spaces.find_by_id(connection, job.other_id)
        revision = max(old.revision, new.revision) + 1
        copy_attributes(connection, now.id, job.space_id, job.other_id, revision)
        edges.copy(connection, job.space_id, job.other_id, revision)
        reembed_rows.copy_marks(connection, job)
        reembed_runs.swap(connection, now, name, revision)
    return Reembedding(
        name, "kept", new.classifier, new.verifier, label_count, support_count, missing,
        calibrations=calibrations, observations=observations, observations_left=left,
        cut_over_s=time.perf_counter() - start,
    )  # fmt: skip


def reembed_status(home: Home, name: str) -> Reembedding:
    """See :meth:`TrustService.reembed_status`."""
    with home.read(name) as (connection, space):
        job = reembed_runs.find(connection, space.id)
        if job is None:
            return Reembedding(name, "none", space.classifier, space.verifier)
        counts = reembed_runs.counts(connection, job)
        if job.state == "kept":
            return Reembedding(name, "kept", space.classifier, space.verifier, *counts)
        new = spaces.find_by_id(connection, job.other_id)
        missing = _missing(connection, job)
        texts = tuple(reembed_rows.missing_labels(connection, job))
        behind = space.revision != job.synced
        return Reembedding(
            name, "staged", new.classifier, new.verifier, *counts, missing, texts, behind
        )


def remove_beside(home: Home, name: str, state: str, otherwise: str) -> None:
    """Remove the space beside a space, for the next purge. Raises NotFound, saying `otherwise`,
    where none is in that state."""
    with home.catalog.write("reembed.drop") as connection:
        job = reembed_runs.find(connection, spaces.find(connection, name).id)
        if job is None or job.state != state:
            raise NotFound(f"space {name!r}: {otherwise}")
        reembed_runs.forget(connection, job)
    home.caches.discard(job.other_id)


def restore_space(home: Home, name: str) -> None:
    """See :meth:`TrustService.restore_space`."""
    with home.catalog.write("space.restore") as connection:
        try:
            space = spaces.find(connection, name)
        except NotFound:
            spaces.restore(connection, name)
            return
        job = reembed_runs.find(connection, space.id)
        if job is None or job.state != "kept":
            spaces.restore(connection, name)  # says why it cannot
            return
        before = spaces.find_by_id(connection, job.other_id)
        reembed_runs.put_back(connection, job, name, max(before.revision, space.revision) + 1)
    home.caches.forget(name)
