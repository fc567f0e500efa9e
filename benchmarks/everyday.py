"""What `service.score` and `service.search` cost beside plain NumPy that computes the same.

    python -m benchmarks.everyday [--sizes 10,100,1000,10000] [--queries 1,16,256,1024]
    [--rules msp,trustvlm,posterior] [--seconds 1.0] [--json FILE] [--compare FILE]

Spaces of N labels with a text prototype (512-d) and a prototype (768-d) each; vectors are random
directions, images near their label's. Plain NumPy normalises the queries, makes both products, and
takes softmax, label, trust (p + c) and the nearest prototype; for a search, one product and the ten
largest of each row. Both take turns in one process on one thread, and the table shows the ratio of
their shortest times, which other work on the machine disturbs least, and the shortest time itself.
The bars of the project: 256 and 1,024 queries at most 1.5 times plain NumPy for `msp` and
`trustvlm`, 2.5 times for `posterior`; one query at most 0.3 ms more up to 1,000 labels, and 1.2
times at 10,000. With --compare the run fails when a ratio is more than twice that of the file,
which must have all that was measured. Other sizes go into a file of their own (--json):
results/everyday-large.json has 100,000 labels.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store

CLASSIFIER, VERIFIER, SCALE = 512, 768, 100.0
NEAREST = 10
RESULTS = Path(__file__).resolve().parent / "results" / "everyday.json"
TOO_SMALL_MS = 0.3
"""A single query that costs less than this beside its products is never reported as slower."""


def directions(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 random unit vectors."""
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class World:
    """A space "space" of `size` labels, and queries near its labels."""

    def __init__(self, service: trustvlm.TrustService, size: int, queries: int) -> None:
        rng = np.random.default_rng(size)
        self.service = service
        self.texts = directions(rng, size, CLASSIFIER)
        self.images = directions(rng, size, VERIFIER)
        service.create_space(
            "space",
            classifier=f"precomputed:{CLASSIFIER}",
            verifier=f"precomputed:{VERIFIER}",
            logit_scale=SCALE,
        )
        service.register(
            "space",
            [
                trustvlm.LabelInput(f"label {i}", text, image_vectors=image[np.newaxis])
                for i, (text, image) in enumerate(zip(self.texts, self.images, strict=True))
            ],
        )
        owner = rng.integers(size, size=queries)
        self.classifier = 3 * (self.texts[owner] + 2 * directions(rng, queries, CLASSIFIER))
        self.verifier = 2 * (self.images[owner] + directions(rng, queries, VERIFIER))

    def plain_score(self, n: int) -> tuple[np.ndarray, ...]:
        """(label, trust, nearest prototype) of the first n queries."""
        classifier, verifier = self.classifier[:n], self.verifier[:n]
        classifier = classifier / np.linalg.norm(classifier, axis=1, keepdims=True)
        verifier = verifier / np.linalg.norm(verifier, axis=1, keepdims=True)
        p = np.float32(SCALE) * (classifier @ self.texts.T)
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        similarity = verifier @ self.images.T
        label, at = p.argmax(axis=1), np.arange(n)
        return label, p[at, label] + similarity[at, label], similarity.argmax(axis=1)

    def plain_search(self, n: int) -> tuple[np.ndarray, ...]:
        """(prototypes, similarities) of the nearest ten, best first, for the first n queries."""
        verifier = self.verifier[:n] / np.linalg.norm(self.verifier[:n], axis=1, keepdims=True)
        similarity = verifier @ self.images.T
        k, at = min(NEAREST, len(self.images)), np.arange(n)[:, np.newaxis]
        nearest = np.argpartition(similarity, -k, axis=1)[:, -k:]
        nearest = nearest[at, np.argsort(-similarity[at, nearest], axis=1)]
        return nearest, similarity[at, nearest]

    def score(self, n: int, rule: str) -> trustvlm.Verdicts:
        """The service's verdicts on the first n queries."""
        queries = trustvlm.Queries(self.classifier[:n], self.verifier[:n])
        return self.service.score("space", queries, rule=rule)

    def search(self, n: int) -> trustvlm.Hits:
        """The service's nearest ten prototypes of the first n queries."""
        queries = trustvlm.Queries(verifier=self.verifier[:n])
        return self.service.search("space", queries, kind="prototype", k=NEAREST)


def shortest(seconds: float, *calls: Callable[[], object]) -> list[float]:
    """The shortest time of each call in seconds; they take turns for that long."""
    best, until = [float("inf")] * len(calls), time.perf_counter() + seconds
    for _ in range(3):
        for call in calls:
            call()
    rounds = 0
    while time.perf_counter() < until or rounds < 5:
        rounds += 1
        for place, call in enumerate(calls):
            began = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - began)
    return best


def measured(world: World, n: int, rules: list[str], seconds: float) -> list[dict[str, Any]]:
    """A row for every rule, and one for searching."""
    label, _, _ = world.plain_score(n)
    verdicts = world.score(n, "msp")
    assert (verdicts.label == np.array([f"label {i}" for i in label], dtype=object)).mean() > 0.99
    rows = []
    plain, *times = shortest(
        seconds * (1 + len(rules)),
        lambda: world.plain_score(n),
        *[lambda rule=rule: world.score(n, rule) for rule in rules],
    )
    plain_search, search = shortest(seconds, lambda: world.plain_search(n), lambda: world.search(n))
    pairs = [
        *zip(rules, times, [plain] * len(rules), strict=True),
        ("search", search, plain_search),
    ]
    for work, ours, numpy in pairs:
        rows.append(
            {
                "work": work,
                "labels": len(world.texts),
                "queries": n,
                "plain_ms": round(1e3 * numpy, 4),
                "ms": round(1e3 * ours, 4),
                "ratio": round(ours / numpy, 3),
            }
        )
    return rows


def table_of(rows: list[dict[str, Any]]) -> Table:
    """A line for every work and number of labels, a column for every number of queries."""
    counts = sorted({row["queries"] for row in rows})
    table = Table("work", "labels", *[f"{n} queries" for n in counts])
    cells = {(row["work"], row["labels"], row["queries"]): row for row in rows}
    for work, labels in dict.fromkeys((row["work"], row["labels"]) for row in rows):
        line = [cells[work, labels, n] for n in counts]
        table.add_row(work, str(labels), *[f"{c['ratio']:.2f}× ({c['ms']:.2f} ms)" for c in line])
    return table


def doubled(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[str]:
    """The work whose ratio is more than twice the earlier one, or that was not measured earlier, in
    words."""
    before = {(row["work"], row["labels"], row["queries"]): row["ratio"] for row in earlier}
    lines = []
    for row in rows:
        key = (row["work"], row["labels"], row["queries"])
        small = row["ms"] - row["plain_ms"] < TOO_SMALL_MS and row["queries"] == 1
        if key not in before:
            lines.append(f"{key}: {row['ratio']} times plain NumPy, not in the earlier report")
        elif row["ratio"] > 2 * before[key] and not small:
            lines.append(f"{key}: {row['ratio']} times plain NumPy, {before[key]} before")
    return lines


def main() -> None:
    """Measure, print, store; exit with status 1 where a ratio has doubled."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--sizes", default="10,100,1000,10000")
    parser.add_argument("--queries", default="1,16,256,1024")
    parser.add_argument("--rules", default="msp,trustvlm,posterior")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument(
        "--compare", type=Path, help="an earlier report whose ratios may not double"
    )
    options = parser.parse_args()
    counts = [int(float(n)) for n in options.queries.split(",")]
    rows: list[dict[str, Any]] = []
    for size in (int(float(n)) for n in options.sizes.split(",")):
        with (
            tempfile.TemporaryDirectory() as folder,
            trustvlm.open(Path(folder) / "home", create=True) as service,
        ):
            world = World(service, size, max(counts))
            for n in counts:
                rows += measured(world, n, options.rules.split(","), options.seconds)
    Console(width=120).print(table_of(rows))
    if options.compare is not None:
        earlier = json.loads(options.compare.read_text(encoding="utf-8"))["rows"]
        lines = doubled(rows, earlier)
        print("\n".join(lines) or "no ratio has doubled")
        sys.exit(1 if lines else 0)
    store(options.json, {**header("everyday"), "threads": 1, "rows": rows})


if __name__ == "__main__":
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    if any(os.environ.get(name) != "1" for name in threads):  # read when NumPy is loaded
        os.environ.update(dict.fromkeys(threads, "1"))
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.everyday", *sys.argv[1:]])
    main()
