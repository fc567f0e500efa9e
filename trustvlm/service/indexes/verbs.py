"""The verbs that show, rebuild and tune the indexes of a space."""

from __future__ import annotations

from trustvlm.catalog.rows import counts, supports
from trustvlm.catalog.rows.attributes import rows
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.recipe import list_recipes
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.indexes.stats import IndexStats, index_stats, rebuild_index
from trustvlm.service.indexes.suggest import MILLISECONDS, Suggestion, estimate
from trustvlm.service.indexes.tune import Tuned, tune_index
from trustvlm.types.attributes.filters import key_path
from trustvlm.types.bounds import flags, number

MOST_INDEXED = 64
"""Indexed keys of a space."""


class IndexVerbs(OpenHome):
    """Indexes of a space: statistics, recipe and tuning."""

    def index_stats(self, space: str) -> IndexStats:
        """Sizes and state of the space's index and snapshot. Raises NotFound."""
        return index_stats(self._ready(), space)

    def rebuild_index(self, space: str, *, recipe: str | None = None) -> IndexStats:
        """Build the space's indexes again from the catalog, with another recipe if given, and write
        their snapshots.

        Other processes use the old indexes until then. Raises NotFound, and Unavailable on a full
        disk.
        """
        return rebuild_index(self._writable(), space, recipe)

    def tune_index(self, space: str, *, recall: float = 0.95, k: int = 10) -> list[Tuned]:
        """Tune how far the space's indexes search, store that, and test that it is enough.

        An index that does not compare every row is built again without 768 of them: 512 of these
        tune it, the others test it (`Tuned.recall`, with its interval). That takes the time and the
        memory of one more index.

        Args:
            recall: share of the k nearest rows that a search must return; `Tuned.reached` tells
                whether it does in the test.

        Raises:
            NotFound: no such space. InvalidInput: a number out of range. Conflict: the recipe
            cannot reach `recall`, or it was changed meanwhile; nothing is stored.
        """
        return tune_index(self._writable(), space, recall, k)

    def index_attribute(self, space: str, key: str, *, remove: bool = False) -> list[str]:
        """Index a key of the labels' attributes ("taxon.order" inside an object), or no longer;
        the indexed keys.

        Its values are kept in a file, which every process reads at the first filter in place of
        all rows, and which follows the catalog. Raises NotFound, InvalidInput, Unavailable.
        """
        flags(remove=remove)
        key_path(key, "key")
        home = self._writable()
        with home.write("space.attribute", space) as (connection, record):
            keys = rows.indexed_keys(connection, record.id)
            if remove and not rows.remove_indexed_key(connection, record.id, key):
                indexed = ", ".join(keys) or "none"
                raise NotFound(f"key: {key!r} is not indexed; indexed keys: {indexed}")
            if not remove and key not in keys:
                if len(keys) >= MOST_INDEXED:
                    raise InvalidInput(f"key: expected at most {MOST_INDEXED} indexed keys")
                rows.add_indexed_key(connection, record.id, key)
        files = home.caches.attributes
        with home.read(space) as (connection, record):
            files.write(connection, record, home.catalog.epoch(connection))
            keys = rows.indexed_keys(connection, record.id)
        files.check(record.id, record.revision)
        return keys

    def suggest_recipe(self, space: str, *, milliseconds: float = MILLISECONDS) -> list[Suggestion]:
        """The cost of each index recipe in this space, and which one searches within
        `milliseconds`. Raises NotFound, InvalidInput."""
        milliseconds = number("milliseconds", milliseconds)
        with self._ready().read(space) as (connection, record):
            labels = counts.count(connection, record.id).labels
            count = max(supports.count(connection, record.id), labels)
        return estimate(list_recipes(), count, record.verifier_dim, milliseconds, record.recipe)
