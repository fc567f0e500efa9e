"""Making a space of exported files, in durable chunks that nobody sees before the last one is
in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.rows import counts, export, labels, spaces, supports
from trustvlm.catalog.rows.labels import NewLabel
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.vectors import pack
from trustvlm.catalog.upkeep import copy_catalog, purge
from trustvlm.errors import InvalidInput
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.names import check_space_name
from trustvlm.service.registration.plan import CHUNK_BYTES, CHUNK_LABELS, chunked
from trustvlm.service.registration.prototypes import prototype_of, renew_prototypes
from trustvlm.service.transfer import sandbox_child
from trustvlm.service.transfer.export_format import LABELS, SUPPORTS
from trustvlm.service.transfer.read_export import (
    GivenLabel,
    batch_rows,
    labels_of,
    read_manifest,
    supports_of,
)
from trustvlm.types import SpaceRow
from trustvlm.types.arrays import Float32s

__all__ = ["import_space"]

_ALIASES_AT_A_TIME = 200

Whole = tuple[GivenLabel, list[NewSupport]]


@dataclass
class _Remaining:
    """What can be checked only when all labels are in.

    Attributes:
        aliases: name → the label it is a further name of.
        prototypes: label name → (prototype, support count) that its own support images do not give:
            its aliases' must.
    """

    aliases: dict[str, str] = field(default_factory=dict)
    prototypes: dict[str, tuple[bytes | None, int]] = field(default_factory=dict)


def import_space(
    home: Home, folder: Path, name: str | None, progress: Callable[[int], None] | None
) -> SpaceRow:
    """See :meth:`TrustService.import_space`."""
    folder = folder.absolute()
    manifest = read_manifest(folder)
    name = check_space_name(manifest.name if name is None else name, "space")
    with home.catalog.read() as connection:
        export.require_free(connection, name)
    sandbox_child.require_readable(folder, batch_rows(manifest))
    with home.catalog.write("import.begin") as connection:
        space = export.begin(connection, manifest.values() | {"name": name})
    try:
        remaining = _Remaining()
        for chunk in _chunks(
            space, _whole_labels(labels_of(folder, manifest), supports_of(folder, manifest), folder)
        ):
            with home.catalog.write("import.chunk") as connection:
                _insert(connection, space, chunk, remaining, folder)
            if progress is not None:
                progress(len(chunk))
        _set_aliases(home, space, remaining, folder)
        with home.catalog.write("import.reveal") as connection:
            export.reveal(connection, space.id, name)
            copy_catalog.renew_epoch(connection)  # see CatalogState
            space = spaces.find(connection, name)
            home.fitter.supports_changed(connection, space, space.revision)
            return spaces.row_of(space, counts.count(connection, space.id))
    except BaseException:
        _discard(home, space)
        raise


def _whole_labels(
    given: Iterator[GivenLabel], pictured: Iterator[tuple[str, NewSupport]], folder: Path
) -> Iterator[Whole]:
    """Each label with its support images, which stand in the same order.

    Raises:
        InvalidInput: they do not.
    """
    following = next(pictured, None)
    for label in given:
        own: dict[bytes, NewSupport] = {}
        while following is not None and following[0] == label.name:
            if following[1].content_hash in own:
                raise InvalidInput(
                    f"{folder / SUPPORTS}: label {label.name!r} has one support image twice"
                )
            own[following[1].content_hash] = following[1]
            following = next(pictured, None)
        yield label, list(own.values())
    if following is not None:
        raise InvalidInput(
            f"{folder / SUPPORTS}: support images of {following[0]!r:.60} are out of order, or "
            f"it is not in {LABELS}"
        )


def _chunks(space: SpaceRecord, whole: Iterator[Whole]) -> Iterator[list[Whole]]:
    """Whole labels in transactions of the size that a registration has."""
    vector_bytes = 4 * (space.classifier_dim + space.verifier_dim)

    def size(label: Whole) -> int:
        return vector_bytes * (1 + len(label[1])) + sum(
            len(image.thumbnail or b"") for image in label[1]
        )

    return chunked(whole, size, CHUNK_BYTES, CHUNK_LABELS)


def _insert(
    connection: Connection,
    space: SpaceRecord,
    chunk: list[Whole],
    remaining: _Remaining,
    folder: Path,
) -> None:
    """Insert whole labels, each with the prototype that its support images give."""
    export.find(connection, space.id)
    names = [label.name for label, _ in chunk]
    twice = [
        *labels.find_many(connection, space.id, names),
        *(name for name, times in Counter(names).items() if times > 1),
    ]
    if twice:
        raise InvalidInput(f"{folder / LABELS}: label {twice[0]!r} comes twice")
    rows = []
    for label, own in chunk:
        prototype = prototype_of(label.name, own)
        if label.alias_of is not None:
            remaining.aliases[label.name] = label.alias_of
        elif (_bytes(prototype), len(own)) != (_bytes(label.prototype), label.support_count):
            remaining.prototypes[label.name] = (_bytes(label.prototype), label.support_count)
        rows.append(
            NewLabel(
                label.name,
                label.prompt,
                label.text_source,
                label.text_prototype,
                prototype,
                len(own),
            )
        )
    revision = spaces.advance(connection, space.id)
    ids = labels.insert_many(connection, space.id, revision, rows)
    pairs = [
        (label_id, support)
        for label_id, (_, own) in zip(ids, chunk, strict=True)
        for support in own
    ]
    supports.insert_many(connection, space.id, revision, pairs)


def _set_aliases(home: Home, space: SpaceRecord, remaining: _Remaining, folder: Path) -> None:
    """Make aliases of the labels that are some, then compare the prototypes that follow from them.

    Raises:
        InvalidInput: an alias of nothing, or a prototype that does not follow from its support
            images.
    """
    wanted = sorted(
        remaining.aliases.items(), key=lambda pair: pair[::-1]
    )  # those of one label together
    for start in range(0, len(wanted), _ALIASES_AT_A_TIME):
        part = wanted[start : start + _ALIASES_AT_A_TIME]
        with home.catalog.write("import.chunk") as connection:
            found = labels.find_many(
                connection, space.id, sorted({name for pair in part for name in pair})
            )
            for name, of in part:
                if of not in found or of in remaining.aliases:
                    raise InvalidInput(
                        f"{folder / LABELS}: {name!r} is an alias of {of!r:.60}, which is none "
                        f"of its labels"
                    )
            revision = spaces.advance(connection, space.id)
            for name, of in part:
                labels.set_alias(connection, found[name].id, found[of].id, revision)
                labels.set_prototype(connection, found[name].id, revision, None, 0)
            renew_prototypes(connection, space, [found[of].id for _, of in part], revision)
    pending = sorted(remaining.prototypes)
    for start in range(0, len(pending), CHUNK_LABELS):
        names = pending[start : start + CHUNK_LABELS]
        with home.catalog.read() as connection:
            found = labels.find_many(connection, space.id, names)
            prototyped = [name for name in names if found[name].support_count]
            vectors = labels.prototypes(
                connection, [found[name].id for name in prototyped], space.verifier_dim
            )
        got = {
            name: (pack(vector), found[name].support_count)
            for name, vector in zip(prototyped, vectors, strict=True)
        }
        wrong = [name for name in names if got.get(name, (None, 0)) != remaining.prototypes[name]]
        if wrong:
            raise InvalidInput(
                f"{folder / LABELS}: the prototype of {wrong[0]!r} is not the one that its "
                f"support images give"
            )


def _bytes(vector: Float32s | None) -> bytes | None:
    return None if vector is None else pack(vector)


def _discard(home: Home, space: SpaceRecord) -> None:
    """Delete what an import that failed has written; nobody has seen it."""
    while True:
        with home.catalog.write("import.discard") as connection:
            if not purge.purge_of_space(connection, space.id):
                return
