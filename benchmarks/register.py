"""What registering one more label costs, and the query after it, in spaces of 1e3, 1e4 and 1e5
labels.

    python -m benchmarks.register [--sizes 1e3,1e4,1e5] [--supports 0,1] [--repeats 30] [--json
    FILE]

Each space holds N labels (512-d), without support images and with one each (768-d), from which τ is
fitted; the label that is added brings 16. Vectors are random directions, images near their label's,
the same in every run. First a query right after the labels were registered in bulk, in the service
that registered them and, without a snapshot, in one that opens the home afterwards. Then labels are
added one by one. The spaces take turns, so that a noise of the machine falls on all of them, with
a pause in which the one that was changed is refitted. The query that follows is about the new
label, so that it shows that the label is there; it is compared with one of an unchanged space right
before. Registering must not depend on N, nor on the fit; the query looks at every label (exact
softmax) and may. At last, once the fit is made, a query of one image and of 64 by the rules
`posterior` and `trustvlm` in turn: the median of the ratios. The bars of the project: registering
at 1e5 labels takes at most 1.3 times as long as at 1e3, with support images as without, and 5 ms
of the processor; the next query takes at most 1.2 times as long as a usual one; the first query
after the bulk registration of 1e5 labels 2 s; at 1e5 labels `posterior` takes at most 1.15 times as
long as `trustvlm`.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store

CLASSIFIER, VERIFIER = 512, 768
SUPPORTS = 16
WARM_UP = 5
PAUSE_S = 0.8
BARS = {"register": 1.3, "next query": 1.2, "posterior": 1.15}
RESULTS = Path(__file__).resolve().parent / "results" / "register.json"


def directions(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 random unit vectors."""
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


class Times(NamedTuple):
    """Seconds by the clock and of the processor."""

    wall: float
    cpu: float


class Step(NamedTuple):
    """What one more label costs, between a query before and the one that sees it."""

    usual: Times
    register: Times
    next_query: Times


def timed(call: Callable[[], object]) -> Times:
    """What a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


class Space:
    """A space of `size` labels with `supports` images each in a home of its own, to which labels
    are added one by one."""

    def __init__(self, folder: Path, size: int, supports: int) -> None:
        self.size, self.supports = size, supports
        self.added = 0
        self._rng = np.random.default_rng(size)
        self._home = folder / f"{size}-{supports}"
        self._service = trustvlm.open(self._home, create=True)
        self._service.create_space(
            "space", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}"
        )
        began = time.perf_counter()
        self._service.register("space", self._base())
        self.base_s = time.perf_counter() - began
        self.first_s = self._timed(self._query()).wall
        self._service.close()  # waits for the snapshot
        for snapshot in self._home.rglob("*.snapshot"):
            snapshot.unlink()
        self._service = trustvlm.open(self._home)
        self.opened_s = self._timed(self._query()).wall
        self._service.close()
        self._service = trustvlm.open(self._home)

    def _query(self, count: int = 1) -> trustvlm.Queries:
        return trustvlm.Queries(
            directions(self._rng, count, CLASSIFIER), directions(self._rng, count, VERIFIER)
        )

    def _timed(self, query: trustvlm.Queries) -> Times:
        return timed(lambda: self._service.score("space", query))

    def _base(self) -> Iterator[trustvlm.LabelInput]:
        for start in range(0, self.size, 10_000):
            texts = directions(self._rng, min(10_000, self.size - start), CLASSIFIER)
            for i, text in enumerate(texts):
                images = self._images(self.supports) if self.supports else None
                yield trustvlm.LabelInput(f"label {start + i}", text, image_vectors=images)

    def _images(self, count: int) -> np.ndarray:
        """(count, 768) images of one label: a random direction, and as much again of their own."""
        images: np.ndarray = directions(self._rng, 1, VERIFIER) + directions(
            self._rng, count, VERIFIER
        )
        return images

    def step(self) -> Step:
        """Register one label between two queries."""
        name = f"new {self.added}"
        self.added += 1
        text, images = directions(self._rng, 1, CLASSIFIER), self._images(SUPPORTS)
        label = trustvlm.LabelInput(name, text[0], image_vectors=images)
        about_it = trustvlm.Queries(text, images[:1])
        self._timed(self._query())  # after the pause
        usual = self._timed(self._query())
        register = timed(lambda: self._service.register("space", [label]))
        next_query = self._timed(about_it)
        verdicts = self._service.score("space", about_it)
        if verdicts.label[0] != name or verdicts.unverified[0]:
            sys.exit(
                f"the query after registering {name!r} does not show it: {verdicts.label[0]!r}"
            )
        return Step(usual, register, next_query)

    def ratio(self, images: int, repeats: int) -> dict[str, float]:
        """Milliseconds of a query of `images` images by `posterior` and by `trustvlm`, in turn,
        and the median of the ratios."""
        self._service.close()  # waits for the fit
        self._service = trustvlm.open(self._home)
        query = self._query(images)
        times: dict[str, list[float]] = {"posterior": [], "trustvlm": []}
        for turn in range(WARM_UP + repeats):
            for rule, seconds in times.items():
                began = time.perf_counter()
                self._service.score("space", query, rule=rule)
                if turn >= WARM_UP:
                    seconds.append(time.perf_counter() - began)
        ratios = np.divide(times["posterior"], times["trustvlm"])
        medians = {
            f"{rule}_ms": round(1e3 * statistics.median(seconds), 3)
            for rule, seconds in times.items()
        }
        return {"images": images, **medians, "ratio": round(float(np.median(ratios)), 3)}

    def close(self) -> None:
        self._service.close()


def summary(times: list[Times]) -> dict[str, float]:
    """Milliseconds: median, and the quartiles to show how noisy it was; and of the processor."""
    low, middle, high = statistics.quantiles([one.wall for one in times], n=4)
    cpu = [one.cpu for one in times]
    return {
        "median_ms": round(1e3 * middle, 3),
        "q1_ms": round(1e3 * low, 3),
        "q3_ms": round(1e3 * high, 3),
        "cpu_ms": round(1e3 * statistics.median(cpu), 3),
        "least_cpu_ms": round(1e3 * min(cpu), 3),
    }


def measure(sizes: list[int], supports: list[int], repeats: int) -> list[dict[str, Any]]:
    """One row per size and number of support images."""
    with tempfile.TemporaryDirectory() as folder:
        spaces = [Space(Path(folder), size, count) for count in supports for size in sizes]
        steps: dict[Space, list[Step]] = {space: [] for space in spaces}
        os.sync()  # else the disk is still busy with the bases when the first labels are synced
        for turn in range(WARM_UP + repeats):
            for space in spaces:
                step = space.step()
                time.sleep(PAUSE_S)
                if turn >= WARM_UP:
                    steps[space].append(step)
        ratios = {space: [space.ratio(images, repeats) for images in (1, 64)] for space in spaces}
        for space in spaces:
            space.close()
        return [
            {
                "labels": space.size,
                "supports": space.supports,
                **{
                    what: summary([getattr(step, what) for step in steps[space]])
                    for what in Step._fields
                },
                "next_to_usual": statistics.median(
                    step.next_query.wall / step.usual.wall for step in steps[space]
                ),
                "rules": ratios[space],
                "base_s": round(space.base_s, 2),
                "first_query_s": round(space.first_s, 2),
                "first_query_opened_s": round(space.opened_s, 2),
            }
            for space in spaces
        ]


def ratios_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios that the project has bars for, by what they compare."""
    at = {(row["labels"], row["supports"]): row for row in rows}
    small, large = min(row["labels"] for row in rows), max(row["labels"] for row in rows)
    figures = {}
    for supports in sorted({row["supports"] for row in rows}):
        few, many = (at[size, supports]["register"]["median_ms"] for size in (small, large))
        figures[f"register, {supports} images a label, {large:,} : {small:,} labels"] = round(
            many / few, 3
        )
        figures[f"next query : usual one, {supports} images a label, {large:,} labels"] = round(
            at[large, supports]["next_to_usual"], 3
        )
        for rules in at[large, supports]["rules"]:
            figures[
                f"posterior : trustvlm, {supports} images a label, {large:,} labels, "
                f"{rules['images']} queries"
            ] = rules["ratio"]
    return figures


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """ms against the number of labels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for supports in sorted({row["supports"] for row in rows}):
        of_kind = [row for row in rows if row["supports"] == supports]
        for what, style in (("register", "o-"), ("next_query", "s--")):
            axis.plot(
                [row["labels"] for row in of_kind],
                [row[what]["median_ms"] for row in of_kind],
                style,
                ms=4,
                label=f"{what.replace('_', ' ')}, {supports} support images a label",
            )
    axis.set(xscale="log", yscale="log", xlabel="labels before", ylabel="ms, median")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument(
        "--sizes", default="1e3,1e4,1e5", help="numbers of labels, with commas between them"
    )
    parser.add_argument(
        "--supports", default="0,1", help="support images of each label, with commas between them"
    )
    parser.add_argument("--repeats", type=int, default=30, help="labels added to each space")
    options = parser.parse_args()
    sizes = sorted({int(float(size)) for size in options.sizes.split(",")})
    rows = measure(
        sizes, sorted({int(count) for count in options.supports.split(",")}), options.repeats
    )
    table = Table(
        title=f"Registering one label with {SUPPORTS} vectors (median of {options.repeats}; "
        f"quartiles)"
    )
    for column in (
        "labels before",
        "images each",
        "register",
        "its processor time",
        "usual query",
        "next query",
        "registering the base",
        "first query",
        "in another process",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        register, *queries = (
            f"{row[k]['median_ms']:.1f} ms ({row[k]['q1_ms']:.1f}–{row[k]['q3_ms']:.1f})"
            for k in ("register", "usual", "next_query")
        )
        processor = f"{row['register']['cpu_ms']:.1f} ms"
        table.add_row(
            f"{row['labels']:,}",
            str(row["supports"]),
            register,
            processor,
            *queries,
            f"{row['base_s']:.1f} s",
            f"{row['first_query_s']:.2f} s",
            f"{row['first_query_opened_s']:.2f} s",
        )
    console = Console(width=160)
    console.print(table)
    ratios = ratios_of(rows)
    for what, ratio in ratios.items():
        console.print(
            f"{what}: {ratio:.2f} (must be at most "
            f"{next(bar for start, bar in BARS.items() if what.startswith(start))})"
        )
        report = {
            **header("register"),
            "setup": {
                "text_dim": CLASSIFIER,
                "image_dim": VERIFIER,
                "supports": SUPPORTS,
                "repeats": options.repeats,
            },
            "rows": rows,
            "ratios": ratios,
        }
    store(options.json, report)
    plot(rows, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
