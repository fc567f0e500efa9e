"""Making a space equal to what a call has: what would change, and taking out what the call does not
have.

Only support images are compared, by content. A label without any stays, since no folder can show
it: known by its text only, or a further name of another label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import contents, labels, spaces, supports
from trustvlm.catalog.rows.contents import ContentRow
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders import ImageLimits, UnreadableImage, hash_image, source_name
from trustvlm.errors import InvalidInput
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import reading
from trustvlm.service.registration.edit_labels import remove_label, remove_support
from trustvlm.service.registration.plan import PlannedLabel, plan
from trustvlm.service.registration.register import labels_of_call, register
from trustvlm.types import LabelInput
from trustvlm.types.registration import KeptLabel, KnownImage, RegisterResult, UnreadImage

__all__ = ["Contents", "Surplus", "preview", "register_with", "surplus", "sync_contents"]

_AT_ONCE = 1_000  # support images that one transaction takes out


@dataclass(frozen=True)
class Contents:
    """What the labels of a call have.

    Attributes:
        images: label name → content hash of each of its support images → what the image is called.
        silent: labels without images in the call: their support images stay.
        unread: labels with an image that could not be read.
    """

    images: Mapping[str, Mapping[bytes, str | None]]
    silent: Set[str] = frozenset()
    unread: Set[str] = frozenset()


@dataclass(frozen=True)
class Surplus:
    """What a space has and a call has not; see :class:`RegisterResult`. `ids`: support images of
    labels that stay."""

    ids: list[int] = field(default_factory=list)
    moved: list[KnownImage] = field(default_factory=list)
    removed: list[KnownImage] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    kept: list[KeptLabel] = field(default_factory=list)


def register_with(
    home: Home,
    space_name: str,
    inputs: Iterable[LabelInput],
    *,
    bring_back: bool,
    sync: bool,
    dry_run: bool,
    **options: Any,
) -> RegisterResult:
    """See :meth:`TrustService.register`; `options` are those of
    :func:`trustvlm.service.registration.register.register`."""
    if not sync and not dry_run:
        return register(home, space_name, inputs, bring_back=bring_back, **options)
    inputs = labels_of_call(home, inputs)
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
    limits = reading(
        home, space, options.get("image_range"), options.get("accept_truncated", False)
    )
    planned = plan(space, inputs, home.calls)
    if dry_run:
        has, failures = _look(limits, planned.values())
        given = sum(
            len(planned[name].hashes) + len(planned[name].images) for name in has.images
        ) - len(failures)
        done = preview(home, space, has, bring_back=bring_back, sync=sync)
        skipped = given - done.added_supports - (0 if bring_back or sync else len(done.taken_out))
        return replace(
            done, skipped_duplicates=skipped, failures=tuple(map(UnreadImage._make, failures))
        )
    has, _ = _look(limits, planned.values())
    with home.catalog.read() as connection:
        surplus(connection, space, has)  # refused before anything is written
    done = register(home, space_name, inputs, bring_back=True, **options)
    unreadable = {source for source, _ in done.failures}
    unread = {
        label.name
        for label in planned.values()
        if any(source_name(image) in unreadable for image in label.images)
    }
    after = sync_contents(home, space_name, replace(has, unread={*has.unread, *unread}))
    gone = {image.id for image in after.moved}
    return replace(
        done,
        revision=after.revision,
        elsewhere=tuple(image for image in done.elsewhere if image.id not in gone),
        **{name: getattr(after, name) for name in ("moved", "removed", "removed_labels", "kept")},
    )


def _as_fields(found: Surplus) -> dict[str, Any]:
    lists: dict[str, list[Any]] = {
        "moved": found.moved,
        "removed": found.removed,
        "removed_labels": found.labels,
        "kept": found.kept,
    }
    return {name: tuple(value) for name, value in lists.items()}


def _look(
    limits: ImageLimits, planned: Iterable[PlannedLabel]
) -> tuple[Contents, list[tuple[str, str]]]:
    """(what the labels of a call have, (source, reason) of each image that cannot be read); nothing
    is decoded."""
    images: dict[str, dict[bytes, str | None]] = {}
    silent, unread, failures = set(), set(), []
    for label in planned:
        if not label.hashes and not label.images:
            silent.add(label.name)
            continue
        mine: dict[bytes, str | None] = dict.fromkeys(label.hashes)
        for source in label.images:
            try:
                mine.setdefault(hash_image(source, limits), source_name(source))
            except UnreadableImage as error:
                failures.append((source_name(source), error.reason))
                unread.add(label.name)
        images[label.name] = mine
    return Contents(images, silent, unread), failures


def surplus(connection: Connection, space: SpaceRecord, has: Contents) -> Surplus:
    """What the space has and the call has not.

    Raises:
        InvalidInput: they have nothing in common: it would take out everything.
    """
    stored = contents.every(connection, space.id)
    wanted = {content: name for name, mine in has.images.items() for content in mine}
    if not has.images or (stored and not any(row.content_hash in wanted for row in stored)):
        raise InvalidInput(
            f"sync: none of the {len(stored):,} support images of space {space.name!r} is in "
            f"the call, so that all of them "
            f"would be removed; check the folder, or run 'trustvlm space remove' to remove "
            f"everything"
        )
    of_label: dict[int, list[ContentRow]] = {}
    for row in stored:
        of_label.setdefault(row.label_id, []).append(row)
    found = Surplus()
    live = contents.labels_of(connection, space.id)
    named = has.images.keys() | has.silent
    further: dict[int, list[str]] = {}  # names of a label, by its id
    for label in live:
        if label.alias_of is not None:
            further.setdefault(label.alias_of, []).append(label.name)
    going: set[int] = set()
    for label in live:
        mine = of_label.get(label.id, [])
        if mine and label.name in has.silent:
            found.kept.append(KeptLabel(label.name, "the call has no images of it"))
        elif label.name in has.images:
            _of_staying(
                found,
                label.name,
                [row for row in mine if row.content_hash not in has.images[label.name]],
                has,
                wanted,
            )
        elif mine and label.name not in named:
            others = [name for name in further.get(label.id, ()) if name in named]
            if others:
                found.kept.append(KeptLabel(label.name, f"{others[0]!r} is a further name of it"))
            else:
                going.add(label.id)
                found.moved.extend(
                    _known(row, wanted) for row in mine if row.content_hash in wanted
                )
    aliases = [
        label.name
        for label in live
        if label.alias_of is not None and going & {label.id, label.alias_of}
    ]
    # These first: a label that has further names cannot be removed.
    found.labels.extend(
        [*aliases, *(label.name for label in live if label.alias_of is None and label.id in going)]
    )
    return found


def _of_staying(
    found: Surplus, name: str, extra: list[ContentRow], has: Contents, wanted: Mapping[bytes, str]
) -> None:
    if extra and name in has.unread:
        reason = (
            f"some of its images cannot be read; support images that may be these: {len(extra):,}"
        )
        found.kept.append(KeptLabel(name, reason))
        return
    for row in extra:
        found.ids.append(row.id)
        (found.moved if row.content_hash in wanted else found.removed).append(_known(row, wanted))


def _known(row: ContentRow, wanted: Mapping[bytes, str]) -> KnownImage:
    return KnownImage(row.source, wanted.get(row.content_hash), row.label, row.id)


def sync_contents(home: Home, space_name: str, has: Contents) -> RegisterResult:
    """Remove what the space has and `has` has not; what the space lacks is to be registered before.
    See :func:`surplus`."""
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        extra = surplus(connection, space, has)
    revision = _take_out(home, space, extra)
    return RegisterResult(
        0, 0, 0, (), space.revision if revision is None else revision, **_as_fields(extra)
    )


def _take_out(home: Home, space: SpaceRecord, found: Surplus) -> int | None:
    """Remove it, so that it can be restored; the new revision, None where there was nothing to
    remove."""
    revision = None
    for start in range(0, len(found.ids), _AT_ONCE):
        revision = remove_support(home, space.name, found.ids[start : start + _AT_ONCE])
    for name in found.labels:
        revision = remove_label(home, space.name, name, purge_now=False)
    return revision


def preview(
    home: Home, space: SpaceRecord, has: Contents, *, bring_back: bool, sync: bool
) -> RegisterResult:
    """What a call would change; images are compared by content and not decoded: a damaged one is
    not noticed."""
    names = [*has.images, *has.silent]
    with home.catalog.read() as connection:
        known = labels.find_many(connection, space.id, names)
        ids = [record.id for record in known.values()]
        present = supports.hashes(connection, ids)
        gone = contents.taken_out(connection, ids, present)
        extra = surplus(connection, space, has) if sync else Surplus()
        twins = contents.elsewhere(connection, space.id, has.images)
    moving = {(image.label, image.id) for image in extra.moved}
    pairs = [
        (name, known[name].id if name in known else -1, content, source)
        for name, mine in has.images.items()
        for content, source in mine.items()
    ]
    taken = [
        KnownImage(source, name, name, gone[i, content])
        for name, i, content, source in pairs
        if (i, content) in gone
    ]
    out = set() if bring_back or sync else {(image.label, image.id) for image in taken}
    fresh = Counter(
        name
        for name, i, content, _ in pairs
        if (i, content) not in present and (name, gone.get((i, content))) not in out
    )
    added = sum(fresh.values())
    return RegisterResult(
        added_labels=sum(
            name not in known
            for name in (*has.silent, *(name for name, mine in has.images.items() if mine))
        ),
        added_supports=added,
        skipped_duplicates=len(pairs) - added - len(out),
        failures=(),
        revision=space.revision,
        label_ids=(),
        elsewhere=tuple(image for image in twins if (image.label, image.id) not in moving),
        taken_out=tuple(taken),
        to_add=tuple(
            (name, fresh[name])
            for name in names
            if fresh[name] or (name not in known and name in has.silent)
        ),
        dry_run=True,
        **_as_fields(extra),
    )
