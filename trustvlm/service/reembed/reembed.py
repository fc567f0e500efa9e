"""Embedding a space anew: new encoders beside the old ones, and one short transaction that changes
over.

The new embeddings are made in a space of their own, label by label and durably, while the old one
goes on answering and changing. Its changes are followed by revision; the cut-over happens only at a
revision at which everything has been followed.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import reembed_runs
from trustvlm.catalog.upkeep.reembed_rows import renew_truth
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord
from trustvlm.encoders import parse_spec
from trustvlm.errors import Busy, Conflict, InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import encodes_texts
from trustvlm.service.memory.evidence_fit import refit
from trustvlm.service.reembed.carry import carry_calibrations, carry_observations
from trustvlm.service.reembed.sources import Originals, Sources, given_vectors
from trustvlm.service.reembed.stage import Progress, stage_labels
from trustvlm.service.registration.spaces import check_scale, pinned
from trustvlm.types.evaluation import MissingOriginal, Reembedding

__all__ = ["abort_reembed", "discard_old", "reembed_space", "reembed_status", "restore_space"]

MOST_PASSES = 50
"""Passes over what was changed meanwhile, each over less than the one before, before giving up."""

_LOCK = "reembed.lock"
_SHOWN = 5


def reembed_space(
    home: Home,
    name: str,
    classifier: str | None,
    verifier: str | None,
    templates: Sequence[str] | None,
    logit_scale: float | None,
    originals_from: Sequence[Path],
    text_vectors: Mapping[str, npt.ArrayLike] | None,
    image_vectors: Mapping[int, npt.ArrayLike] | None,
    classifier_image_vectors: Mapping[int, npt.ArrayLike] | None,
    drop_missing: bool,
    progress: Progress | None,
) -> Reembedding:
    """See :meth:`TrustService.reembed_space`."""
    with _alone(home):
        old, job = _begun(home, name, classifier, verifier, templates, logit_scale)
        with home.catalog.read() as connection:
            new = spaces.find_by_id(connection, job.other_id)
        given = given_vectors(new, text_vectors, image_vectors, classifier_image_vectors)
        sources = Sources(old, new, Originals(home, originals_from), given)
        again = True  # what an earlier run found missing may be there now
        for _ in range(MOST_PASSES):
            _catch_up(home, job, sources, again, progress)
            again = False
            carry_observations(home, job, sources)
            refit(home.catalog, name + spaces.STAGED)
            _require_whole(home, name, job, drop_missing)
            if (done := _cut_over(home, name, job, drop_missing)) is not None:
                home.caches.forget(name)
                return done
    raise Conflict(
        f"space {name!r} changes faster than it can be followed; run 'trustvlm space "
        f"reembed {name} --finish' later"
    )


def reembed_status(home: Home, name: str) -> Reembedding:
    """See :meth:`TrustService.reembed_status`."""
    with home.catalog.read() as connection:
        space = spaces.find(connection, name)
        job = reembed_runs.find(connection, space.id)
        if job is None:
            return Reembedding(name, "none", space.classifier, space.verifier)
        labels, supports = reembed_runs.counts(connection, job)
        if job.state == "kept":
            return Reembedding(name, "kept", space.classifier, space.verifier, labels, supports)
        new = spaces.find_by_id(connection, job.other_id)
        missing = tuple(
            MissingOriginal(*row) for row in reembed_runs.missing_supports(connection, job)
        )
        texts = tuple(reembed_runs.missing_labels(connection, job))
        behind = space.revision != job.synced
        return Reembedding(
            name, "staged", new.classifier, new.verifier, labels, supports, missing, texts, behind
        )


def abort_reembed(home: Home, name: str) -> None:
    """See :meth:`TrustService.abort_reembed`."""
    with home.catalog.write("reembed.drop") as connection:
        job = _require(connection, name, "staged", "nothing is being re-embedded in it")
        reembed_runs.forget(connection, job)
    home.caches.discard(job.other_id)


def discard_old(home: Home, name: str) -> None:
    """See :meth:`TrustService.discard_old`."""
    with home.catalog.write("reembed.drop") as connection:
        job = _require(connection, name, "kept", "it keeps no old embeddings")
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


def _require(connection: Any, name: str, state: str, otherwise: str) -> ReembedRecord:
    job = reembed_runs.find(connection, spaces.find(connection, name).id)
    if job is None or job.state != state:
        raise NotFound(f"space {name!r}: {otherwise}")
    return job


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One process at a time embeds a space of this home anew; the lock goes with the process.

    Raises:
        Busy: another one is at it.
    """
    with (home.folder / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"another process or thread is embedding a space of {home.folder} anew; wait for "
                f"it, or stop it"
            ) from error
        yield


def _begun(
    home: Home,
    name: str,
    classifier: str | None,
    verifier: str | None,
    templates: Sequence[str] | None,
    logit_scale: float | None,
) -> tuple[SpaceRecord, ReembedRecord]:
    """The space, and what was begun beside it: now, or by an earlier call that asked for the
    same."""
    with home.catalog.read() as connection:
        old = spaces.find(connection, name)
        job = reembed_runs.find(connection, old.id)
        begun = None if job is None else spaces.find_by_id(connection, job.other_id)
    if job is not None and job.state == "kept":
        raise Conflict(
            f"space {name!r} still keeps the embeddings from before it was last re-embedded; "
            f"discard them first: "
            f"'trustvlm space reembed {name} --discard-old' (or put them back: 'trustvlm space "
            f"restore {name}')"
        )
    if job is None or begun is None:
        if classifier is None and verifier is None and templates is None:
            raise InvalidInput(
                "reembed: expected a classifier, a verifier or templates that are to be the new "
                "ones; got none"
            )
        values = pinned(
            home, classifier or old.classifier, verifier or old.verifier, templates or old.templates
        )
        values["logit_scale"] = _scale(home, old, values, logit_scale)
        with home.catalog.write("reembed.begin") as connection:
            if (
                spaces.find(connection, name).id != old.id
                or reembed_runs.find(connection, old.id) is not None
            ):
                raise Conflict(
                    f"space {name!r} was removed, or is being re-embedded by another process, "
                    f"since the call began"
                )
            return old, reembed_runs.stage(connection, old, values | {"recipe": old.recipe})
    asked = {"classifier": classifier, "verifier": verifier}
    for side, spec in asked.items():
        if spec is not None and parse_spec(spec).text != getattr(begun, side):
            raise Conflict(
                f"space {name!r} is being re-embedded with the {side} {getattr(begun, side)!r}, "
                f"not {spec!r}; finish that "
                f"('trustvlm space reembed {name} --finish') or abort it ('--abort')"
            )
    if templates is not None and tuple(templates) != begun.templates:
        raise Conflict(
            f"space {name!r} is being re-embedded with other templates; finish that, or abort "
            f"it ('--abort')"
        )
    return old, job


def _scale(home: Home, old: SpaceRecord, values: Mapping[str, Any], given: float | None) -> float:
    """The logit scale: as given, else that of another classifier, else as it is."""
    if given is not None:
        return check_scale(given)
    if values["classifier_identity"] == old.classifier_identity or not encodes_texts(
        values["classifier"]
    ):
        return old.logit_scale
    own = home.encoders.open(values["classifier"]).logit_scale
    return old.logit_scale if own is None else own


def _catch_up(
    home: Home, job: ReembedRecord, sources: Sources, again: bool, progress: Progress | None
) -> None:
    """Passes over what changed since the last one, until one finds nothing."""
    for _ in range(MOST_PASSES):
        with home.catalog.read() as connection:
            space = spaces.find_by_id(connection, job.space_id)
            now = reembed_runs.find(connection, job.space_id)
            if now is None or now.state != "staged":
                raise Conflict(f"embedding space {space.name!r} anew was aborted during the call")
            if now.synced == space.revision and not again:
                return
            since = now.synced if space.log_start <= now.synced else 0
            wanted = set(reembed_runs.touched(connection, job.space_id, since))
            wanted |= set(reembed_runs.incomplete(connection, job)) if again else set()
        again = False
        stage_labels(home, job, sources, sorted(wanted), progress)
        with home.catalog.write("reembed.follow") as connection:
            reembed_runs.set_synced(connection, job.id, space.revision)
    raise Conflict("the space changes faster than it can be followed; run the command again later")


def _require_whole(home: Home, name: str, job: ReembedRecord, drop_missing: bool) -> None:
    """Raises Conflict, naming them, where labels or support images have no new embedding."""
    with home.catalog.read() as connection:
        texts = reembed_runs.missing_labels(connection, job)
        images = [] if drop_missing else reembed_runs.missing_supports(connection, job)
    if texts:
        raise Conflict(
            f"space {name!r} keeps its old encoders: nothing gives {len(texts)} of its labels a "
            f"text embedding of the new "
            f"classifier ({_some([repr(text) for text in texts])}); pass text vectors for them "
            f"('--text-vectors FILE.npz')"
        )
    if images:
        listed = _some(
            [f"{row[0]} of {row[1]!r}" + (f" from {row[2]}" if row[2] else "") for row in images]
        )
        raise Conflict(
            f"space {name!r} keeps its old encoders: {len(images)} of its support images have "
            f"no original ({listed}); "
            f"'trustvlm space reembed {name} --status' lists them; pass --from DIR with their "
            f"files, or --drop-missing to "
            f"leave them behind"
        )


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", …" if items[_SHOWN:] else "")


def _cut_over(home: Home, name: str, job: ReembedRecord, drop_missing: bool) -> Reembedding | None:
    """Change over in one transaction; None where the space has changed since it was last
    followed."""
    with home.catalog.read() as connection:
        seen = spaces.find_by_id(connection, job.space_id).revision
        label_ids = reembed_runs.mapped(connection, job.id, "label")
        support_count = reembed_runs.counts(connection, job)[1]
        missing = tuple(
            MissingOriginal(*row) for row in reembed_runs.missing_supports(connection, job)
        )
    if missing and not drop_missing:
        return None
    with home.catalog.write("reembed.cut_over") as connection:
        begun = time.perf_counter()
        now, old = reembed_runs.find(connection, job.space_id), spaces.find(connection, name)
        if now is None or (now.id, now.state, old.id) != (job.id, "staged", job.space_id):
            raise Conflict(
                f"embedding space {name!r} anew was aborted, or the space removed, during the "
                f"call; nothing changed"
            )
        if not seen == old.revision == now.synced:
            return None
        calibrations = carry_calibrations(connection, job, label_ids)
        carried, left = renew_truth(connection, job)
        new = spaces.find_by_id(connection, job.other_id)
        reembed_runs.swap(connection, now, name, max(old.revision, new.revision) + 1)
    took = time.perf_counter() - begun
    return Reembedding(
        space=name,
        state="kept",
        classifier=new.classifier,
        verifier=new.verifier,
        labels=len(label_ids),
        supports=support_count,
        missing=missing,
        calibrations=calibrations,
        observations=carried,
        observations_left=left,
        cut_over_s=took,
    )
