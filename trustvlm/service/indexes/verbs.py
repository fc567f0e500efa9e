"""The verbs that show, rebuild and tune the indexes of a space."""

from __future__ import annotations

from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.indexes.attributes import index_attribute
from trustvlm.service.indexes.stats import IndexStats, index_stats, rebuild_index
from trustvlm.service.indexes.suggest import MILLISECONDS, Suggestion, suggest_recipe
from trustvlm.service.indexes.tune import Tuned, tune_index
from trustvlm.types.bounds import flags


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
        return index_attribute(self._writable(), space, key, remove=remove)

    def suggest_recipe(self, space: str, *, milliseconds: float = MILLISECONDS) -> list[Suggestion]:
        """The cost of each index recipe in this space, and which one searches within
        `milliseconds`. Raises NotFound, InvalidInput."""
        return suggest_recipe(self._ready(), space, milliseconds)
