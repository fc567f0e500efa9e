"""What the HTTP server keeps in an open home, and reads from it, besides the verbs of a user."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trustvlm.catalog.rows import label_pages, labels, spaces, supports
from trustvlm.catalog.rows.review import states
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep.trash import removed_rows
from trustvlm.errors import NotFound
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.home.purge import purge_now
from trustvlm.service.inputs.outputs import with_vectors
from trustvlm.service.inputs.space_encoders import encoder_of, encodes_images
from trustvlm.service.query.collect import can_collect, collect
from trustvlm.service.query.evidence import evidence_of
from trustvlm.service.registration.filtered import label_page
from trustvlm.service.registration.sync import Contents, preview, sync_contents
from trustvlm.service.server.api_keys import ApiKeys
from trustvlm.service.server.label_records import LabelRecords
from trustvlm.service.server.observations import Observations
from trustvlm.service.server.own_work import OwnWork
from trustvlm.types import Evidence, LabelRow, Queries, RegisterResult
from trustvlm.types.answers import LabelDetails, RemovedList


@dataclass(frozen=True)
class SpaceState:
    """One space.

    Attributes:
        space, revision: its name and revision. lag: revisions that this process has not read; 0
            where it has no cache.
        labels, prototypes: in the cache. replayed: labels read since the last snapshot.
            snapshot_bytes: 0 without one.
        calibrated, stale: whether a calibration is in force, and whether the space has changed
            since in what it is about.
    """

    space: str
    revision: int
    lag: int
    labels: int
    prototypes: int
    replayed: int
    snapshot_bytes: int
    calibrated: bool
    stale: bool


class ServerHome(OwnWork, ApiKeys, Observations):
    """The server's side of an open service, whose home it shares: keys, calls, jobs, workers, pages
    of labels and the state of spaces."""

    def __init__(self, service: OpenHome) -> None:
        super().__init__(service._home)
        self.label_records = LabelRecords(self._ready)

    @property
    def is_closed(self) -> bool:
        """Whether the service was closed."""
        return self._home.closed.is_set()

    def version(self) -> Hashable:
        """Equal for two calls only if nothing was committed to the home between them; None: that
        cannot be told."""
        return self._ready().catalog.version()

    def without_folders(self, text: str) -> str:
        """`text` for those who do not run the service: HOME stands for the folder of the home and
        for that of its catalog, ORIGINALS for the setting originals_folder, SNAPSHOTS for
        snapshot_store."""
        home, file = self._home, self._home.catalog.location.file
        words = {str(home.folder): "HOME"} | ({} if file is None else {str(file.parent): "HOME"})
        if home.originals.shared is not None:
            words[str(home.originals.shared)] = "ORIGINALS"
        if home.caches.store is not None:
            words |= dict.fromkeys(home.caches.store.addresses, "SNAPSHOTS")
        for place in sorted(words, key=len, reverse=True):
            if place.strip("/"):
                text = text.replace(place, words[place])
        return text

    # Spaces, labels and support images

    def get_label_space(self, space: str) -> SpaceRecord:
        """The space's row without counts. Raises NotFound."""
        return self._ready().space(space)

    def space_states(self) -> list[SpaceState]:
        """The revision of each space, and the revision and size of this process's caches."""
        states = []
        home = self._ready()
        with home.catalog.read() as connection:
            for space in spaces.list_records(connection):
                name, space_id, revision = space.name, space.id, space.revision
                cache = home.caches.peek(name)
                labels, prototypes = (0, 0) if cache is None else cache.sizes
                calibration = in_force(connection, space)
                path = home.caches.path(space_id)
                state = SpaceState(
                    space=name,
                    revision=revision,
                    lag=0 if cache is None else max(0, revision - cache.revision),
                    labels=labels,
                    prototypes=prototypes,
                    replayed=0 if cache is None else cache.replayed,
                    snapshot_bytes=path.stat().st_size if path.is_file() else 0,
                    calibrated=calibration is not None,
                    stale=calibration is not None and calibration.stale,
                )
                states.append(state)
        return states

    def unverified_count(self, space: str) -> int:
        """How many labels of a space have no support image. Raises NotFound."""
        home = self._ready()
        with home.catalog.read() as connection:
            row = spaces.find(connection, space)
            return home.counts.of(connection, home.catalog.epoch(connection), row).unverified

    def load_encoders(self, space: str) -> None:
        """Open the encoders of a space before they are needed, and compare them with those that it
        was made with.

        Raises:
            NotFound: no such space. Conflict: another encoder. Unavailable: weights that are not on
                this machine.
        """
        home = self._ready()
        record = home.space(space)
        for side, spec in (("classifier", record.classifier), ("verifier", record.verifier)):
            if encodes_images(spec):
                encoder_of(home, record, side)

    def has_classifier_supports(self, space: str) -> bool:
        """Whether support images of a space can be compared with texts and classifier embeddings.
        Raises NotFound."""
        with self._ready().read(space) as (connection, record):
            return label_pages.has_classifier_supports(connection, record.id)

    def get_label(self, space: str, label: str, *, vectors: bool = False) -> LabelDetails:
        """One label, with its further names; with `vectors`, its prototypes. Raises NotFound."""
        with self._ready().read(space) as (connection, record):
            row_id = labels.find(connection, record.id, label).id
            row = label_pages.rows_of(connection, [row_id])[0]
            aliases = label_pages.aliases_of(connection, row.id)
            if vectors:
                row = label_pages.with_vectors(connection, [row], record.dims)[0]
        return LabelDetails(**vars(row), aliases=tuple(aliases))

    def label_page(
        self,
        space: str,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str | None = None,
        contains: str | None = None,
        unverified: bool = False,
        thumbnails: int = 0,
    ) -> list[tuple[LabelRow, list[int]]]:
        """Up to `limit` labels behind the name `after`, by name, each with the ids of its first
        `thumbnails` support images. Raises NotFound.

        Args:
            prefix, contains: what their names begin with, or contain. unverified: only those
                without support images.
        """
        with self._ready().catalog.read() as connection:
            rows = label_pages.label_page(
                connection,
                spaces.find(connection, space).id,
                after=after,
                limit=limit,
                prefix=prefix,
                contains=contains,
                unverified=unverified,
            )
            return label_pages.with_images(connection, rows, thumbnails)

    def label_page_by_images(
        self, space: str, *, after: tuple[int, int] | None, limit: int, thumbnails: int = 0
    ) -> list[tuple[LabelRow, list[int]]]:
        """Up to `limit` labels that come after (number of support images, id), those with the most
        support images first; as :meth:`label_page` gives them. Raises NotFound."""
        with self._ready().read(space) as (connection, record):
            rows = label_pages.label_page_by_images(connection, record.id, after, limit)
            return label_pages.with_images(connection, rows, thumbnails)

    def removed_rows(self, space: str, *, limit: int = 1_000) -> RemovedList:
        """The newest removed labels and support images of a space that can be restored. Raises
        NotFound."""
        home = self._ready()
        with home.read(space) as (connection, record):
            removed, more = removed_rows(connection, record.id, home.undo_window, limit)
        return RemovedList(tuple(removed), more, home.undo_window.total_seconds())

    def empty_trash(self, space: str) -> int:
        """Delete for good the removed labels and support images of a space; how many. Raises
        NotFound."""
        home = self._writable()
        with home.catalog.read() as connection:
            space_id = spaces.find(connection, space).id
        return purge_now(home, space_id=space_id)

    def label_page_by_id(
        self, space: str, *, after: int, limit: int, vectors: bool = False
    ) -> list[LabelRow]:
        """Up to `limit` labels with ids above `after`, in the order of
        :meth:`TrustService.list_labels`; with `vectors`, their prototypes. Raises NotFound."""
        return label_page(self._ready(), space, after, limit, vectors)

    def sync_contents(
        self,
        space: str,
        contents: Contents,
        *,
        dry_run: bool = False,
        sync: bool = True,
        bring_back: bool = False,
    ) -> RegisterResult:
        """The second half of :meth:`TrustService.register` with `sync`, after what the space lacked
        was registered: remove the support images that are not in `contents`. With `dry_run`: what
        both halves would change.

        Raises:
            NotFound: no such space. InvalidInput: `contents` and the space have nothing in common.
        """
        if dry_run:
            record = self.get_label_space(space)
            return preview(self._ready(), record, contents, bring_back=bring_back, sync=sync)
        return sync_contents(self._writable(), space, contents)

    def support_picture(self, space: str, support_id: int) -> bytes:
        """The JPEG thumbnail of a support image of this space. Raises NotFound: there is none, or
        it came as a vector."""
        with self._ready().read(space) as (connection, record):
            owners = supports.find_alive(connection, record.id, [support_id])
            picture = supports.thumbnail(connection, support_id) if owners else None
        if picture is None:
            why = "it was registered as a vector" if owners else "no such support image"
            raise NotFound(f"no thumbnail of support image {support_id} in space {space!r}: {why}")
        return picture

    def first_supports(self, label_ids: Sequence[int], most: int) -> dict[int, list[int]]:
        """label id → ids of its first support images, at most `most`; those without a picture are
        left out."""
        with self._ready().catalog.read() as connection:
            first = label_pages.first_supports(connection, label_ids, most)
            ids = [number for some in first.values() for number in some]
            pictured = label_pages.pictured_supports(connection, ids)
        return {label: [one for one in some if one in pictured] for label, some in first.items()}

    def support_space(self, support_id: int) -> str:
        """The name of the space that a support image belongs to. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            space = label_pages.support_space(connection, support_id)
        if space is None:
            raise NotFound(f"no support image {support_id}")
        return space

    def evidence_of(
        self,
        space: str,
        queries: Queries,
        label_ids: Sequence[int],
        rival_ids: Sequence[int],
        *,
        state: Mapping[str, Any],
        revision: int,
        k: int,
        claimed_ids: Sequence[int] | None = None,
    ) -> list[Evidence]:
        """The evidence of verdicts of an earlier call, as `Verdicts.evidence` gives it.

        Args:
            queries: their embeddings. label_ids, rival_ids, claimed_ids: of the verdicts. state,
                revision: came with the verdicts.

        Raises:
            NotFound, InvalidInput. Unavailable: the support images were purged since, or the space
            was replaced.
        """
        ids = label_ids, rival_ids
        return evidence_of(self._ready(), space, queries, *ids, state, revision, k, claimed_ids)

    def with_vectors(self, space: str, queries: Queries) -> Queries:
        """Queries with embeddings in place of the probabilities of an external classifier. Raises
        NotFound, InvalidInput."""
        home = self._ready()
        return with_vectors(home, home.space(space), queries)

    # The verdict log and the review queue

    def watch_verdict_log(self, counted: Callable[[str, int, int], None]) -> None:
        """Call `counted` with (space, rows stored, rows dropped) after each write of verdict
        logs."""
        self._home.verdict_writer.counted = counted

    def collects(self, space: str, queries: Queries) -> bool:
        """Whether a space collects scored images for review, and queries of this kind have the
        embeddings for it; cheap after a call that scored some. Raises NotFound."""

        home = self._ready()
        return not home.catalog.read_only and home.answer(
            space,
            lambda reading: (
                can_collect(reading.view.space, queries)
                and reading.once(
                    "collects", lambda: states.collects(reading.connection, reading.view.space.id)
                )
            ),
        )

    def collect(self, space: str, queries: Queries, verdicts: Sequence[Mapping[str, Any]]) -> None:
        """Put images that were scored into the review queue, by their embeddings and the rows of
        their verdicts. Raises NotFound, Conflict, InvalidInput: an embedding of each is missing."""
        home = self._writable()
        decisions = [row["decision"] for row in verdicts]
        collect(home, home.space(space), queries, decisions, verdicts.__getitem__)
