"""Makes a space equal to the images of a call: shows what would change, removes what the call does
not have.

Only support images are compared, by content. Labels without support images stay, because no folder
can show them: those known by their text only, and aliases.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import contents
from trustvlm.catalog.rows.contents import LabelledContent, NamedLabel
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders.images.decode import hash_image
from trustvlm.errors import InvalidInput
from trustvlm.reading.image_files import ImageLimits, UnreadableImage, source_name
from trustvlm.service.home.home import Home
from trustvlm.service.registration.edit_labels import remove_label, remove_support
from trustvlm.service.registration.encode_chunk import RegisterOptions, stored_images
from trustvlm.service.registration.plan import PlannedLabel, plan
from trustvlm.service.registration.register import labels_of_call, register
from trustvlm.types import LabelInput
from trustvlm.types.messages.commands import suggested
from trustvlm.types.registration import KeptLabel, KnownImage, RegisterResult, UnreadImage

_IN_RESULT = ("moved", "removed", "removed_labels", "kept")
_CHUNK = 1_000  # support images that one transaction removes


@dataclass(frozen=True)
class Contents:
    """The images of the labels of a call.

    Attributes:
        images: label name → content hash of each of its images → name of the image.
        silent: labels without images in the call: their support images stay.
        unread: labels with an image that could not be read.
    """

    images: Mapping[str, Mapping[bytes, str | None]]
    silent: Set[str] = frozenset()
    unread: Set[str] = frozenset()


@dataclass(frozen=True)
class Surplus:
    """What a space has and a call does not have; see :class:`RegisterResult`.

    Attributes:
        ids: support images of labels that stay.
    """

    ids: list[int] = field(default_factory=list)
    moved: list[KnownImage] = field(default_factory=list)
    removed: list[KnownImage] = field(default_factory=list)
    removed_labels: list[str] = field(default_factory=list)
    kept: list[KeptLabel] = field(default_factory=list)

    def in_result(self) -> dict[str, Any]:
        """The fields of a :class:`RegisterResult`."""
        return {name: tuple(getattr(self, name)) for name in _IN_RESULT}


def register_with(
    home: Home,
    space_name: str,
    inputs: Iterable[LabelInput],
    options: RegisterOptions,
    *,
    sync: bool,
    dry_run: bool,
) -> RegisterResult:
    """See :meth:`TrustService.register`."""
    if not sync and not dry_run:
        return register(home, space_name, inputs, options)
    if dry_run and options.replace:
        raise InvalidInput("replace: dry_run shows support images only; leave one of the two out")
    inputs = labels_of_call(home, inputs)
    space = home.space(space_name)
    planned = plan(space, inputs, home.calls)
    call, failures = _contents(options.limits, planned.values())
    if dry_run:
        bring_back = options.bring_back
        result = preview(home, space, call, bring_back=bring_back, sync=sync)
        images = sum(len(label.hashes) + len(label.images) for label in planned.values())
        stay_out = 0 if bring_back or sync else len(result.taken_out)
        skipped = images - len(failures) - result.added_supports - stay_out
        return replace(result, skipped_duplicates=skipped, failures=tuple(failures))
    with home.catalog.read() as connection:
        _surplus(connection, space, call)  # refused before anything is written
    result = register(home, space_name, inputs, replace(options, bring_back=True))
    unreadable = {source for source, _ in result.failures}
    unread = {
        label.name
        for label in planned.values()
        if any(source_name(image) in unreadable for image in label.images)
    }
    extra = sync_contents(home, space_name, replace(call, unread=call.unread | unread))
    moved = {image.id for image in extra.moved}
    elsewhere = tuple(image for image in result.elsewhere if image.id not in moved)
    of_sync = {name: getattr(extra, name) for name in (*_IN_RESULT, "revision")}
    return replace(result, elsewhere=elsewhere, **of_sync)


def _contents(
    limits: ImageLimits, planned: Iterable[PlannedLabel]
) -> tuple[Contents, list[UnreadImage]]:
    """The contents of the labels of a call, and the images that cannot be read; nothing is
    decoded."""
    images: dict[str, dict[bytes, str | None]] = {}
    silent, unread, failures = set(), set(), []
    for label in planned:
        if not label.hashes and not label.images:
            silent.add(label.name)
            continue
        images[label.name] = dict.fromkeys(label.hashes)
        for source in label.images:
            name = source_name(source)
            try:
                images[label.name].setdefault(hash_image(source, limits), name)
            except UnreadableImage as error:
                failures.append(UnreadImage(name, error.reason))
                unread.add(label.name)
    return Contents(images, silent, unread), failures


def _surplus(connection: Connection, space: SpaceRecord, call: Contents) -> Surplus:
    """What the space has and the call does not have.

    Raises:
        InvalidInput: they have nothing in common: everything would be removed.
    """
    stored = contents.every(connection, space.id)
    names = {content: name for name, of_label in call.images.items() for content in of_label}
    if not call.images or (stored and not any(row.content_hash in names for row in stored)):
        raise InvalidInput(
            f"sync: none of the {len(stored):,} support images of space {space.name!r} is in the "
            f"call, so that all of them would be removed; check the folder, or run "
            f"{suggested('space remove', space.name)} to remove everything"
        )
    rows_of: dict[int, list[LabelledContent]] = defaultdict(list)
    for row in stored:
        rows_of[row.label_id].append(row)
    live = contents.labels_of(connection, space.id)
    aliases: dict[int, list[str]] = defaultdict(list)
    for label in live:
        if label.alias_of is not None:
            aliases[label.alias_of].append(label.name)
    extra, removed_ids = Surplus(), set()
    for label in live:
        rows = rows_of[label.id]
        if label.name in call.images:
            missing = [row for row in rows if row.content_hash not in call.images[label.name]]
            _remove_images(extra, label.name, missing, call, names)
        elif rows and (reason := _reason_to_keep(label, aliases[label.id], call)):
            extra.kept.append(KeptLabel(label.name, reason))
        elif rows:
            removed_ids.add(label.id)
            extra.moved.extend(_image_of(row, names) for row in rows if row.content_hash in names)
    # Aliases first: a label that has some cannot be removed.
    for label in sorted(live, key=lambda label: label.alias_of is None):
        if removed_ids & {label.id, label.alias_of}:
            extra.removed_labels.append(label.name)
    return extra


def _reason_to_keep(label: NamedLabel, aliases: list[str], call: Contents) -> str | None:
    """Why a label stays that has support images and that the call has no images of; None: it does
    not."""
    if label.name in call.silent:
        return "the call has no images of it"
    named = [alias for alias in aliases if alias in call.images or alias in call.silent]
    return f"{named[0]!r} is a further name of it" if named else None


def _remove_images(
    extra: Surplus,
    name: str,
    rows: list[LabelledContent],
    call: Contents,
    names: Mapping[bytes, str],
) -> None:
    """Add support images of a label that stays to the surplus."""
    if rows and name in call.unread:
        reason = (
            f"some of its images cannot be read; support images that may be these: {len(rows):,}"
        )
        extra.kept.append(KeptLabel(name, reason))
        return
    for row in rows:
        extra.ids.append(row.id)
        (extra.moved if row.content_hash in names else extra.removed).append(_image_of(row, names))


def _image_of(row: LabelledContent, names: Mapping[bytes, str]) -> KnownImage:
    return KnownImage(row.source, names.get(row.content_hash), row.label, row.id)


def sync_contents(home: Home, space_name: str, call: Contents) -> RegisterResult:
    """Remove what the space has and the call does not have, so that it can be restored. What the
    space lacks is registered before. See :func:`_surplus`."""
    with home.read(space_name) as (connection, space):
        extra = _surplus(connection, space, call)
    revision = space.revision
    for start in range(0, len(extra.ids), _CHUNK):
        revision = remove_support(home, space.name, extra.ids[start : start + _CHUNK])
    for name in extra.removed_labels:
        revision = remove_label(home, space.name, name, purged=False)
    return RegisterResult(0, 0, 0, (), revision, **extra.in_result())


def preview(
    home: Home, space: SpaceRecord, call: Contents, *, bring_back: bool, sync: bool
) -> RegisterResult:
    """What a call would change. Images are compared by content and not decoded: a damaged one is
    not noticed."""
    names = [*call.images, *call.silent]
    with home.catalog.read() as connection:
        stored = stored_images(connection, space, names)
        extra = _surplus(connection, space, call) if sync else Surplus()
        twins = contents.elsewhere(connection, space.id, call.images)
    fresh: Counter[str] = Counter()
    taken_out: list[KnownImage] = []
    for name, of_label in call.images.items():
        for content, source in of_label.items():
            key = stored.key(name, content)
            removed_id = stored.taken_out.get(key)
            if removed_id is not None:
                taken_out.append(KnownImage(source, name, name, removed_id))
            if key not in stored.present and (removed_id is None or bring_back or sync):
                fresh[name] += 1
    added = fresh.total()
    stay_out = 0 if bring_back or sync else len(taken_out)
    moving = {(image.label, image.id) for image in extra.moved}
    new = {name for name in names if name not in stored.labels}
    return RegisterResult(
        added_labels=sum(name in call.silent or bool(call.images[name]) for name in new),
        added_supports=added,
        skipped_duplicates=sum(map(len, call.images.values())) - added - stay_out,
        failures=(),
        revision=space.revision,
        label_ids=(),
        elsewhere=tuple(image for image in twins if (image.label, image.id) not in moving),
        taken_out=tuple(taken_out),
        to_add=tuple(
            (name, fresh[name])
            for name in names
            if fresh[name] or (name in new and name in call.silent)
        ),
        dry_run=True,
        **extra.in_result(),
    )
