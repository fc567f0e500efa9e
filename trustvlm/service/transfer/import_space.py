"""Making a space of exported files, in durable chunks that stay invisible until the last one is
stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.rows import counts, export, labels, spaces, supports
from trustvlm.catalog.rows.labels import NewLabel
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store.vectors import pack
from trustvlm.catalog.upkeep import copy_catalog, purge
from trustvlm.errors import InvalidInput
from trustvlm.service.home.home import Home
from trustvlm.service.home.names import check_space_name
from trustvlm.service.registration.plan import CHUNK_BYTES, chunked
from trustvlm.service.registration.prototypes import prototype_of, renew_prototypes
from trustvlm.service.registration.taxonomy import check_acyclic
from trustvlm.service.transfer.export_format import LABELS, SUPPORTS, TAXONOMY, SpaceManifest
from trustvlm.service.transfer.read_export import (
    read_label_rows,
    read_manifest,
    read_support_rows,
    read_tree,
)
from trustvlm.types import SpaceRow
from trustvlm.types.arrays import Float32s

_ALIASES_AT_A_TIME = 200


@dataclass
class _LabelWithImages:
    """A label, the label that it is an alias of, and its support images by content hash."""

    label: NewLabel
    alias_of: str | None
    images: dict[bytes, NewSupport]

    @property
    def size(self) -> int:
        """Its bytes in the catalog, about."""
        vectors = 4 * len(self.label.text_prototype) * (1 + len(self.images))
        return vectors + sum(
            image.embedding.nbytes + len(image.thumbnail or b"") + len(image.attributes or "")
            for image in self.images.values()
        )


@dataclass
class _Pending:
    """What can be checked only when all labels are stored.

    Attributes:
        aliases: name → the label it is a further name of.
        prototypes: label name → (prototype, support count) that its own support images do not give:
            with those of its aliases they must.
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
    with home.catalog.write("import.begin") as connection:
        space = export.begin(connection, manifest.values() | {"name": name})
    try:
        pending = _Pending()
        with closing(_labels_with_images(folder, manifest)) as rows:
            most = home.thresholds.transaction_labels
            for chunk in chunked(rows, lambda row: row.size, CHUNK_BYTES, most):
                with home.catalog.write("import.chunk") as connection:
                    _insert(connection, space, chunk, pending, folder)
                if progress is not None:
                    progress(len(chunk))
        _set_aliases(home, space, pending, folder)
        _check_prototypes(home, space, pending, folder)
        _insert_tree(home, space, folder, manifest)
        with home.catalog.write("import.reveal") as connection:
            export.reveal(connection, space.id, name)
            copy_catalog.renew_epoch(connection)  # see CatalogState
            space = spaces.find(connection, name)
            home.background_fit.supports_changed(connection, space, space.revision)
            return spaces.row_of(space, counts.count(connection, space.id))
    except BaseException:
        _discard(home, space)
        raise


def _labels_with_images(folder: Path, manifest: SpaceManifest) -> Generator[_LabelWithImages]:
    """Each label with its support images, which stand in the same order.

    Raises:
        InvalidInput: they do not.
    """
    path = folder / SUPPORTS
    with (
        closing(read_label_rows(folder, manifest)) as label_rows,
        closing(read_support_rows(folder, manifest)) as support_rows,
    ):
        following = next(support_rows, None)
        for label, alias_of in label_rows:
            images: dict[bytes, NewSupport] = {}
            while following is not None and following[0] == label.name:
                image = following[1]
                if image.content_hash in images:
                    raise InvalidInput(f"{path}: label {label.name!r} has one support image twice")
                images[image.content_hash] = image
                following = next(support_rows, None)
            yield _LabelWithImages(label, alias_of, images)
        if following is not None:
            raise InvalidInput(
                f"{path}: support images of {following[0]!r:.60} are out of order, or it is not "
                f"in {LABELS}"
            )


def _insert(
    connection: Connection,
    space: SpaceRecord,
    chunk: Sequence[_LabelWithImages],
    pending: _Pending,
    folder: Path,
) -> None:
    """Insert labels with their support images, each with the prototype that these give."""
    export.find(connection, space.id)
    names = [row.label.name for row in chunk]
    twice = [
        *labels.find_many(connection, space.id, names),
        *(name for name, times in Counter(names).items() if times > 1),
    ]
    if twice:
        raise InvalidInput(f"{folder / LABELS}: label {twice[0]!r} comes twice")
    new_labels = []
    for row in chunk:
        label, images = row.label, list(row.images.values())
        prototype = prototype_of(label.name, images)
        stated = (_packed(label.prototype), label.support_count)
        if row.alias_of is not None:
            pending.aliases[label.name] = row.alias_of
        elif (_packed(prototype), len(images)) != stated:
            pending.prototypes[label.name] = stated
        new_labels.append(replace(label, prototype=prototype, support_count=len(images)))
    image_count = sum(len(row.images) for row in chunk)
    revision = spaces.advance(connection, space.id, labels=len(new_labels), supports=image_count)
    ids = labels.insert_many(connection, space.id, revision, new_labels)
    owned = [
        (label_id, image)
        for label_id, row in zip(ids, chunk, strict=True)
        for image in row.images.values()
    ]
    supports.insert_many(connection, space.id, revision, owned)


def _set_aliases(home: Home, space: SpaceRecord, pending: _Pending, folder: Path) -> None:
    """Raises InvalidInput: an alias of no label, or of an alias."""
    # Those of one label together, so that its prototype is made once.
    pairs = sorted(pending.aliases.items(), key=lambda pair: pair[::-1])
    for start in range(0, len(pairs), _ALIASES_AT_A_TIME):
        part = pairs[start : start + _ALIASES_AT_A_TIME]
        with home.catalog.write("import.chunk") as connection:
            records = labels.find_many(
                connection, space.id, sorted({name for pair in part for name in pair})
            )
            for name, target in part:
                if target not in records or target in pending.aliases:
                    raise InvalidInput(
                        f"{folder / LABELS}: {name!r} is an alias of {target!r:.60}, which is none "
                        f"of its labels"
                    )
            revision = spaces.advance(connection, space.id, labels=len(part))
            for name, target in part:
                labels.set_alias(connection, records[name].id, records[target].id, revision)
                labels.set_prototype(connection, records[name].id, revision, None, 0)
            renew_prototypes(connection, space, [records[name].id for _, name in part], revision)


def _check_prototypes(home: Home, space: SpaceRecord, pending: _Pending, folder: Path) -> None:
    """Raises InvalidInput: a prototype is not the one that its support images, with those of its
    aliases, give."""
    waiting, step = sorted(pending.prototypes), home.thresholds.transaction_labels
    for start in range(0, len(waiting), step):
        names = waiting[start : start + step]
        with home.catalog.read() as connection:
            records = labels.find_many(connection, space.id, names)
            prototyped = [name for name in names if records[name].support_count]
            ids = [records[name].id for name in prototyped]
            vectors = labels.prototypes(connection, ids, space.verifier_dim)
        stored: dict[str, tuple[bytes | None, int]] = {
            name: (pack(vector), records[name].support_count)
            for name, vector in zip(prototyped, vectors, strict=True)
        }
        for name in names:
            if stored.get(name, (None, 0)) != pending.prototypes[name]:
                raise InvalidInput(
                    f"{folder / LABELS}: the prototype of {name!r} is not the one that its "
                    f"support images give"
                )


def _insert_tree(home: Home, space: SpaceRecord, folder: Path, manifest: SpaceManifest) -> None:
    """Raises InvalidInput: the taxonomy is no tree, or a name stands under two."""
    tree = dict[str, str | None]()
    for child, parent in read_tree(folder, manifest):
        if child in tree:
            raise InvalidInput(f"{folder / TAXONOMY}: {child!r:.60} has two parents")
        tree[child] = parent
    if not tree:
        return
    with home.catalog.write("import.chunk") as connection:
        export.find(connection, space.id)
        check_acyclic(connection, space.id, tree)
        revision = spaces.advance(connection, space.id, effect="nodes")
        edges.store(connection, space.id, revision, tree)


def _packed(vector: Float32s | None) -> bytes | None:
    return None if vector is None else pack(vector)


def _discard(home: Home, space: SpaceRecord) -> None:
    """Delete what an import that failed has written; it was never visible."""
    while True:
        with home.catalog.write("import.discard") as connection:
            if not purge.purge_of_space(connection, space.id):
                return
