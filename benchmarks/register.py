"""What registering one more label costs, and the query after it, in spaces of 1e3, 1e4 and 1e5 labels.

    python -m benchmarks.register [--sizes 1e3,1e4,1e5] [--repeats 30] [--json FILE]

Each space holds N text-only labels (512-d); the label that is added brings 16 vectors (768-d). Vectors are random
directions, the same in every run. The spaces take turns, so that a noise of the machine falls on all of them. The query
that follows is about the new label, so that it shows that the label is there. Registering must not depend on N; the query
looks at every label (exact softmax) and may. The bar of the project: registering at 1e5 takes less than twice as long as
at 1e3.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm

CLASSIFIER, VERIFIER = 512, 768
SUPPORTS = 16
WARM_UP = 5
RESULTS = Path(__file__).resolve().parent / "results" / "register.json"


def directions(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 random unit vectors."""
    found = rng.standard_normal((n, dim)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


class Space:
    """A space of `size` text-only labels in a home of its own, to which labels are added one by one."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self.added = 0
        self._rng = np.random.default_rng(size)
        self._service = trustvlm.open(folder / str(size), create=True)
        self._service.create_space("space", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}")
        began = time.perf_counter()
        self._service.register("space", self._base())
        self.base_s = time.perf_counter() - began
        began = time.perf_counter()
        self._service.score("space", trustvlm.Queries(directions(self._rng, 1, CLASSIFIER)), rule="msp")
        self.load_s = time.perf_counter() - began

    def _base(self) -> Iterator[trustvlm.LabelInput]:
        for start in range(0, self.size, 10_000):
            texts = directions(self._rng, min(10_000, self.size - start), CLASSIFIER)
            yield from (trustvlm.LabelInput(f"label {start + i}", text) for i, text in enumerate(texts))

    def step(self) -> tuple[float, float]:
        """Seconds to register one label, and of the query after it."""
        name = f"new {self.added}"
        self.added += 1
        text, images = directions(self._rng, 1, CLASSIFIER), directions(self._rng, SUPPORTS, VERIFIER)
        label = trustvlm.LabelInput(name, text[0], image_vectors=images)
        query = trustvlm.Queries(text, images[:1])
        began = time.perf_counter()
        result = self._service.register("space", [label])
        registered = time.perf_counter()
        verdicts = self._service.score("space", query)
        scored = time.perf_counter()
        if verdicts.label[0] != name or verdicts.unverified[0] or verdicts.revision != result.revision:
            sys.exit(f"the query after registering {name!r} does not show it: {verdicts.label[0]!r}")
        return registered - began, scored - registered

    def close(self) -> None:
        self._service.close()


def summary(values: list[float]) -> dict[str, float]:
    """Milliseconds: median, and the quartiles to show how noisy it was."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median_ms": round(1e3 * middle, 3), "q1_ms": round(1e3 * low, 3), "q3_ms": round(1e3 * high, 3)}


def measure(sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """One row per size."""
    with tempfile.TemporaryDirectory() as folder:
        spaces = [Space(Path(folder), size) for size in sizes]
        times: dict[int, list[tuple[float, float]]] = {space.size: [] for space in spaces}
        os.sync()  # else the disk is still busy with the bases when the first labels are synced
        for turn in range(WARM_UP + repeats):
            for space in spaces:
                seconds = space.step()
                if turn >= WARM_UP:
                    times[space.size].append(seconds)
        for space in spaces:
            space.close()
        return [
            {
                "labels": space.size,
                "register": summary([register for register, _ in times[space.size]]),
                "next_query": summary([query for _, query in times[space.size]]),
                "base_s": round(space.base_s, 2),
                "first_query_s": round(space.load_s, 2),
            }
            for space in spaces
        ]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("trustvlm", "numpy", "sqlalchemy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1e3,1e4,1e5", help="numbers of labels, with commas between them")
    parser.add_argument("--repeats", type=int, default=30, help="labels added to each space")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures go")
    options = parser.parse_args()
    sizes = sorted({int(float(size)) for size in options.sizes.split(",")})
    rows = measure(sizes, options.repeats)
    ratio = rows[-1]["register"]["median_ms"] / rows[0]["register"]["median_ms"]
    table = Table(title=f"Registering one label with {SUPPORTS} vectors (median of {options.repeats}; quartiles)")
    for column in ("labels before", "register", "next query", "registering the base", "first query"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = [
            f"{row[k]['median_ms']:.1f} ms ({row[k]['q1_ms']:.1f}–{row[k]['q3_ms']:.1f})" for k in ("register", "next_query")
        ]
        table.add_row(f"{row['labels']:,}", *cells, f"{row['base_s']:.1f} s", f"{row['first_query_s']:.2f} s")
    console = Console(width=110)
    console.print(table)
    console.print(f"register, {sizes[-1]:,} : {sizes[0]:,} labels = {ratio:.2f} (must be under 2)")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "benchmark": "register",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "setup": {"text_dim": CLASSIFIER, "image_dim": VERIFIER, "supports": SUPPORTS, "repeats": options.repeats},
        "rows": rows,
        "ratio": round(ratio, 3),
    }
    options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
