"""Changes, removes and restores labels and support images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
from sqlalchemy.exc import IntegrityError

from trustvlm.catalog.rows import labels, spaces, supports
from trustvlm.catalog.rows.attributes.rows import LABELS
from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.catalog.rows.likeness import likest_removed
from trustvlm.catalog.rows.spaces import Effect, SpaceRecord
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store.names import brief, meant
from trustvlm.catalog.store.vectors import pack, unpack
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.scoring.prototypes import text_prototype
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.home.home import Home
from trustvlm.service.home.names import check_name
from trustvlm.service.home.purge import purge_now
from trustvlm.service.inputs.space_encoders import (
    cut_message,
    encode_prompts,
    encoder_of,
    prompts_of,
)
from trustvlm.service.registration.attributes import Attributes
from trustvlm.service.registration.external.outputs import no_text_side
from trustvlm.service.registration.plan import check_prompt
from trustvlm.service.registration.prototypes import follow_supports
from trustvlm.service.registration.taxonomy import check_node_name
from trustvlm.types import LabelInput
from trustvlm.types.arrays import Float32s, id_list
from trustvlm.types.bounds import flags, got
from trustvlm.types.messages.commands import suggested

log = logging.getLogger("trustvlm")


def update_label(
    home: Home,
    space_name: str,
    name: str,
    text_vector: npt.ArrayLike | None,
    prompt: str | None,
    new_name: str | None,
    attributes: Mapping[str, Any] | None,
    merge: bool,
) -> int:
    """See :meth:`TrustService.update_label`."""
    flags(merge=merge)
    described = None if attributes is None else Attributes(attributes, merge)
    if described is None and merge:
        raise InvalidInput("merge: it says how attributes change; pass attributes")
    if text_vector is None and prompt is None and new_name is None:
        if described is None:
            raise InvalidInput(
                "update_label: expected text_vector, prompt, new_name or attributes; got none of "
                "them"
            )
        return _describe(home, space_name, name, described)
    if text_vector is not None and prompt is not None:
        raise InvalidInput("update_label: pass a prompt or a text_vector, not both")
    with home.read(space_name) as (connection, space):
        before = labels.find(connection, space.id, name)
    given = LabelInput(before.name, text_vector, prompt=prompt)
    no_text_side(space, f"label {name!r}", given)
    target = before.name if new_name is None else check_name(new_name, "new_name")
    source, new_prompt, text = _new_text(home, space, before, target, given)
    with home.catalog.write("label.update") as connection:
        spaces.require_same(connection, space)
        now = labels.find(connection, space.id, name)
        if (now.id, now.revision) != (before.id, before.revision):
            raise Conflict(
                f"label {name!r} was changed by another call meanwhile; look at it and try again"
            )
        if target != before.name and labels.find_many(connection, space.id, [target]):
            raise Conflict(f"label {target!r} exists already in space {space.name!r}")
        check_node_name(connection, space.id, before.name, target)
        alike = (target, pack(text)) == (before.name, before.text_prototype)
        kept = alike and (new_prompt, source) == (before.prompt, before.text_source)
        if kept and described is None:
            return spaces.find(connection, space.name).revision
        effect: Effect = "none" if alike else "verdicts"
        revision = spaces.advance(connection, space.id, labels=1, effect=effect)
        if target != before.name:
            edges.rename(connection, space.id, before.name, target, revision)
        if not kept:
            labels.set_text(
                connection, before.id, revision, name=target, prompt=new_prompt,
                text_source=source, text_prototype=text,
            )  # fmt: skip
        if described is not None:
            described.put(connection, LABELS, space.id, revision, before.id)
        if not alike:
            home.background_fit.supports_changed(connection, space, revision)  # of names, too
    return revision


def _new_text(
    home: Home, space: SpaceRecord, before: LabelRecord, name: str, given: LabelInput
) -> tuple[str, str | None, Float32s]:
    """(source, prompt, text prototype) of a label that gets a name and, if given, another text."""
    if given.text_vector is not None:
        dim = space.classifier_dim
        matrix = as_matrix(given.text_vector, dim, "text_vector", allow_empty=False)
        return "vector", None, text_prototype(matrix)
    source, prompt = before.text_source, before.prompt
    if given.prompt is not None:
        source, prompt = "prompt", check_prompt(space, before.name, given.prompt)
    elif source in ("vector", "output"):
        return source, prompt, unpack([before.text_prototype], space.classifier_dim)[0]
    return source, prompt, _encoded(home, space, name, prompt)


def _describe(home: Home, space_name: str, name: str, attributes: Attributes) -> int:
    """Change nothing of a label but its attributes: its vectors and what is made of them stay."""
    with home.write("label.update", space_name) as (connection, space):
        label = labels.find(connection, space.id, name)
        revision = spaces.advance(connection, space.id, labels=1, effect="none")
        attributes.put(connection, LABELS, space.id, revision, label.id)
    return revision


def _encoded(home: Home, space: SpaceRecord, name: str, prompt: str | None) -> Float32s:
    """The text prototype of a label, encoded from its prompt or name."""
    prompts = {name: prompts_of(name, prompt, space.templates)}
    texts, cut = encode_prompts(encoder_of(home, space, "classifier"), prompts)
    if cut:
        log.warning("%s", cut_message(cut))
    return texts[name]


def remove_support(home: Home, space_name: str, ids: Sequence[int]) -> int:
    """See :meth:`TrustService.remove_support`."""
    ids = checked_ids(ids)
    with home.write("support.remove", space_name) as (connection, space):
        owners = supports.find_alive(connection, space.id, ids)
        missing = [support_id for support_id in ids if support_id not in owners]
        removed = supports.find_removed(connection, space.id, missing, of_live_labels=False)
        if removed:
            restore = suggested("support restore", space_name, files="ID")
            label = suggested("label restore", space_name, files="LABEL")
            raise NotFound(
                f"no support image {some_of(removed)} in space {space_name!r}: removed already; "
                f"{restore} restores it, {label} its label"
            )
        if missing:
            raise NotFound(
                f"no support image with this id in space {space_name!r}: {some_of(missing)}"
            )
        if not ids:
            return space.revision
        revision = spaces.advance(connection, space.id, supports=len(ids))
        supports.remove(connection, ids, revision)
        follow_supports(home, connection, space, owners.values(), revision)
    return revision


def restore_support(home: Home, space_name: str, ids: Sequence[int]) -> int:
    """See :meth:`TrustService.restore_support`."""
    ids = checked_ids(ids)
    with home.write("support.restore", space_name) as (connection, space):
        owners = supports.find_removed(connection, space.id, ids)
        missing = [support_id for support_id in ids if support_id not in owners]
        if alive := supports.find_alive(connection, space.id, missing):
            raise NotFound(f"no removed support image: {some_of(alive)} is not removed")
        if missing:
            restore = suggested("label restore", space_name, files="LABEL")
            reason = f"it never existed, it has been purged, or its label is removed ({restore})"
            raise NotFound(f"no removed support image {some_of(missing)}: {reason}")
        if not ids:
            return space.revision
        revision = spaces.advance(connection, space.id, supports=len(ids))
        try:
            supports.restore(connection, ids, revision)
        except IntegrityError as error:
            raise Conflict(
                "one of these support images has been registered again meanwhile; nothing was "
                "restored"
            ) from error
        follow_supports(home, connection, space, owners.values(), revision)
    return revision


def remove_label(home: Home, space_name: str, name: str, *, purged: bool) -> int:
    """See :meth:`TrustService.remove_label`."""
    with home.write("label.remove", space_name) as (connection, space):
        label = labels.find(connection, space.id, name)
        if len(labels.groups(connection, [label.id])) > 1:
            raise Conflict(
                f"label {name!r} has aliases; remove or unalias them first "
                f"({suggested('label list', space_name)} shows them)"
            )
        revision = spaces.advance(connection, space.id, labels=1, supports=label.support_count)
        supports.remove_of_labels(connection, [label.id], revision)
        labels.remove(connection, [label.id], revision)
        changed = [] if label.alias_of is None else [label.alias_of]
        follow_supports(home, connection, space, changed, revision)
    if purged:
        purge_now(home, label_id=label.id)
    return revision


def restore_label(home: Home, space_name: str, name: str) -> int:
    """See :meth:`TrustService.restore_label`."""
    with home.write("label.restore", space_name) as (connection, space):
        label = labels.find_last_removed(connection, space.id, name)
        if labels.find_many(connection, space.id, [name]):
            older = (
                "it is not removed"
                if label is None
                else "remove it before the older one can be restored"
            )
            raise Conflict(f"label {name!r} exists in space {space_name!r}; {older}")
        if label is None:
            guess = likest_removed(connection, space.id, name)
            hint = meant(guess, "it never existed, or it has been purged")
            raise NotFound(f"no removed label {brief(name)} to restore: {hint}")
        assert label.removed_revision is not None
        lost = label.alias_of is not None and purge.supports_lost(
            connection, space.id, [label.id], label.removed_revision - 1
        )
        revision = spaces.advance(connection, space.id, labels=1, supports=label.support_count)
        labels.restore(connection, label.id, revision)
        if label.alias_of is not None and not labels.is_alive(connection, label.alias_of):
            labels.set_alias(connection, label.id, None, revision)
        restored = supports.restore_of_label(connection, label.id, label.removed_revision, revision)
        if lost or restored < label.support_count:
            raise NotFound(
                f"label {name!r} is partly purged and cannot be restored; register it again"
            )
        follow_supports(home, connection, space, [label.id], revision)
    return revision


def checked_ids(ids: object) -> list[int]:
    """Ids of support images, each once. Raises InvalidInput."""
    distinct = list(dict.fromkeys(id_list(ids, "ids", "a list of support image ids")))
    if any(not 0 < support_id < 2**63 for support_id in distinct):
        raise InvalidInput(f"ids: expected positive 64-bit ids, got {got(ids)}")
    return distinct


def some_of(ids: Iterable[int]) -> str:
    """The first ids, for a message."""
    ids = list(ids)
    return ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if ids[5:] else "")
