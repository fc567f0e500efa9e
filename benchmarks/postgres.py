"""What a catalog in PostgreSQL costs, beside one in an SQLite file, in the same run.

    python -m benchmarks.postgres [--labels 1e4] [--bulk 1e5] [--repeats 40] [--database-url URL]
    [--json FILE]

Without a URL, of an empty database, it starts a server of its own, which syncs to the same disk as
the SQLite file (PostgreSQL must be installed). Both catalogs get the same labels, 512-d, with a
support image each, 768-d. Measured in turn, so that a noise of the machine falls on both:
registering one more label with 16 images, durable when the call returns; the query after it, which
sees it; a query of a space that has not changed. At last a bulk registration of labels with an
image each into an empty space. The bars of the project: registering one label takes at most 1.5
times as long as with SQLite; an unchanged query at most 1 ms more; the bulk registration at most
1.5 times as long.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "postgres.json"
CLASSIFIER, VERIFIER = 512, 768
IMAGES = 16
WARM_UP = 5
AT_ONCE = 5_000
PAUSE_S = 0.8  # until what follows a registration in the background is done
BARS = {"register one: ratio": 1.5, "unchanged query: ms more": 1.0, "bulk: ratio": 1.5}


class Space:
    """A space in a catalog of its own, to which labels are added."""

    def __init__(self, home: Path, database_url: str | None, labels: int) -> None:
        self._service = trustvlm.open(home, create=True, database_url=database_url)
        self._random = np.random.default_rng(0)
        self._number = 0
        self._make("grown")
        self._register("grown", labels, images=1)

    def _make(self, name: str) -> None:
        dims = {"classifier": f"precomputed:{CLASSIFIER}", "verifier": f"precomputed:{VERIFIER}"}
        self._service.create_space(name, **dims)

    def _vectors(self, count: int, dim: int) -> np.ndarray:
        return self._random.standard_normal((count, dim), dtype=np.float32)

    def _register(self, name: str, count: int, images: int) -> float:
        """Register labels with new vectors; the seconds that it took, without making these."""
        seconds = 0.0
        for start in range(0, count, AT_ONCE):
            some = min(AT_ONCE, count - start)
            texts = self._vectors(some, CLASSIFIER)
            pictures = self._vectors(some * images, VERIFIER).reshape(some, images, VERIFIER)
            labels = [
                trustvlm.LabelInput(
                    f"label {self._number + i}", text_vector=texts[i], image_vectors=pictures[i]
                )
                for i in range(some)
            ]
            self._number += some
            seconds += timed(lambda given=labels: self._service.register(name, given))
        return seconds

    def step(self) -> dict[str, float]:
        """Seconds of one more label, of the query after it, and of the same query again."""
        query = trustvlm.Queries(self._vectors(1, CLASSIFIER), self._vectors(1, VERIFIER))
        score = lambda: self._service.score("grown", query)  # noqa: E731
        register = self._register("grown", 1, IMAGES)
        return {
            "register one": register,
            "next query": timed(score),
            "unchanged query": timed(score),
        }

    def bulk(self, count: int) -> float:
        """Seconds of the registration of `count` labels in a new space."""
        self._make("bulk")
        return self._register("bulk", count, images=1)

    def close(self) -> None:
        self._service.close()


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def own_server() -> Iterator[str]:
    """The URL of an empty database of a server that ends with the block."""
    sys.path.insert(0, str(ROOT.parent / "tests" / "support"))
    import postgres

    if (reason := postgres.missing()) is not None:
        sys.exit(f"give a --database-url: {reason}")
    with postgres.server(place=Path(tempfile.gettempdir())) as server:
        yield server.create("benchmark")


def measure(
    folder: Path, url: str, labels: int, bulk: int, repeats: int
) -> dict[str, dict[str, float]]:
    """What was measured → back end → median in milliseconds, or seconds of the bulk."""
    spaces = {
        "SQLite": Space(folder / "file", None, labels),
        "PostgreSQL": Space(folder / "node", url, labels),
    }
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in spaces}
    for turn in range(WARM_UP + repeats):
        for name, space in spaces.items():
            step = space.step()
            time.sleep(PAUSE_S)
            if turn >= WARM_UP:
                steps[name].append(step)
    figures: dict[str, dict[str, float]] = {
        f"{what} (ms)": {
            name: round(1e3 * statistics.median(step[what] for step in steps[name]), 3)
            for name in spaces
        }
        for what in ("register one", "next query", "unchanged query")
    }
    if bulk:
        figures["bulk (s)"] = {name: round(s.bulk(bulk), 2) for name, s in spaces.items()}
    for space in spaces.values():
        space.close()
    return figures


def compared(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures that the project has bars for."""
    unchanged = figures["unchanged query (ms)"]
    ratios = {"unchanged query: ms more": unchanged["PostgreSQL"] - unchanged["SQLite"]}
    for what, row in (("register one", "register one (ms)"), ("bulk", "bulk (s)")):
        if row in figures:
            ratios[f"{what}: ratio"] = figures[row]["PostgreSQL"] / figures[row]["SQLite"]
    return {name: round(value, 3) for name, value in ratios.items()}


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--labels", default="1e4", help="labels of the space that grows")
    parser.add_argument("--bulk", default="1e5", help="labels that are registered in bulk; or 0")
    parser.add_argument("--repeats", type=int, default=40, help="labels added one by one")
    parser.add_argument("--database-url", help="of an empty database of PostgreSQL")
    options = parser.parse_args()
    labels, bulk = int(float(options.labels)), int(float(options.bulk))
    given = options.database_url
    server = own_server() if given is None else nullcontext(given)
    with server as url, tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), url, labels, bulk, options.repeats)
    table = Table(title=f"{labels:,} labels, {bulk:,} in bulk; medians of {options.repeats}")
    for column in ("what", "SQLite", "PostgreSQL"):
        table.add_column(column)
    for what, row in figures.items():
        table.add_row(what, f"{row['SQLite']:.2f}", f"{row['PostgreSQL']:.2f}")
    Console().print(table)
    ratios = compared(figures)
    for name, value in ratios.items():
        print(f"{name}: {value:.2f} (bar: {BARS[name]})")
    report: dict[str, Any] = header("postgres") | {"labels": labels, "bulk": bulk}
    store(options.json, report | {"figures": figures, "compared": ratios, "bars": BARS})


if __name__ == "__main__":
    main()
