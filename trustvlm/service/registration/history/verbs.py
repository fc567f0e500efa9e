"""The verbs that say what happened to a space, and what it answered."""

from __future__ import annotations

from collections.abc import Iterator

from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.registration.history.history import changes, history
from trustvlm.service.registration.history.verdict_log import HomeVerdictLog
from trustvlm.types.rows import ChangePage, HistoryRow


class HistoryVerbs(OpenHome):
    """The log of a space's revisions, what changed since one of them, and the log of answers."""

    def verdict_log(self, space: str) -> VerdictLog:
        """The verdict log of a space: what it answered, once the log is switched on."""
        return HomeVerdictLog(space, self._ready, self._writable, self.place)

    def history(self, space: str, since: int = 0) -> Iterator[HistoryRow]:
        """The revisions of a space after `since`, oldest first: when, by whom and by which kind of
        change each was made.

        The log holds the last 100,000 revisions, and none from before the home had a log (schema
        0012). It holds no names of labels: what is purged leaves nothing in it.

        Raises:
            NotFound: no such space. InvalidInput: a negative revision.
        """
        return history(self._ready(), space, since)

    def changes(
        self, space: str, since: int = 0, *, limit: int = 1_000, cursor: str | None = None
    ) -> ChangePage:
        """The labels and support images that changed after revision `since`, each once, as it is
        now: what a copy elsewhere must apply to be equal to the space.

        To follow a space, read page after page until `next_cursor` is None, apply them, and begin
        the next time with `since` set to the `revision` of the first page. Where `epoch` is another
        one than before, begin again with `since` 0.

        Args:
            since: 0 lists everything, removed and purged rows too.
            limit: rows of a page, at most 10,000.
            cursor: `next_cursor` of the page before, with the same `since`.

        Raises:
            NotFound: no such space. InvalidInput: a number out of range, or no such cursor.
        """
        return changes(self._ready(), space, since, limit, cursor)
