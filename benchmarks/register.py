"""What registering one more label costs, and the query after it, in spaces of 1e3, 1e4 and 1e5
labels.

    python -m benchmarks.register [--sizes 1e3,1e4,1e5] [--supports 0,2] [--repeats 30] [--json
    FILE]

Each space holds N labels (512-d), without support images and with two each (768-d), from which τ is
fitted; the label that is added brings 16. Vectors are random directions, images near their label's,
the same in every run. The spaces take turns, so that a noise of the machine falls on all of them,
with a pause in which the one that was changed is refitted. The query that follows is about the new
label, so that it shows that the label is there. Registering must not depend on N, nor on the fit;
the query looks at every label (exact softmax) and may. Then, once the fit is made, a query of one
image and of 64 by the rules `posterior` and `trustvlm` in turn: the median of the ratios. The bars
of the project: registering at 1e5 takes less than twice as long as at 1e3, with support images as
without; at 1e5 labels `posterior` takes at most 1.15 times as long as `trustvlm`.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store

CLASSIFIER, VERIFIER = 512, 768
SUPPORTS = 16
WARM_UP = 5
PAUSE_S = 0.8
RESULTS = Path(__file__).resolve().parent / "results" / "register.json"


def directions(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """(n, dim) float32 random unit vectors."""
    found = rng.standard_normal((n, dim)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


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
        began = time.perf_counter()
        self._service.score(
            "space", trustvlm.Queries(directions(self._rng, 1, CLASSIFIER)), rule="msp"
        )
        self.load_s = time.perf_counter() - began

    def _base(self) -> Iterator[trustvlm.LabelInput]:
        for start in range(0, self.size, 10_000):
            texts = directions(self._rng, min(10_000, self.size - start), CLASSIFIER)
            for i, text in enumerate(texts):
                images = self._images(self.supports) if self.supports else None
                yield trustvlm.LabelInput(f"label {start + i}", text, image_vectors=images)

    def _images(self, count: int) -> np.ndarray:
        """(count, 768) images of one label: a random direction, and as much again of their own."""
        found: np.ndarray = directions(self._rng, 1, VERIFIER) + directions(
            self._rng, count, VERIFIER
        )
        return found

    def step(self) -> tuple[float, float]:
        """Seconds to register one label, and of the query after it."""
        name = f"new {self.added}"
        self.added += 1
        text, images = directions(self._rng, 1, CLASSIFIER), self._images(SUPPORTS)
        label = trustvlm.LabelInput(name, text[0], image_vectors=images)
        query = trustvlm.Queries(text, images[:1])
        began = time.perf_counter()
        result = self._service.register("space", [label])
        registered = time.perf_counter()
        verdicts = self._service.score("space", query)
        scored = time.perf_counter()
        if (
            verdicts.label[0] != name
            or verdicts.unverified[0]
            or verdicts.revision != result.revision
        ):
            sys.exit(
                f"the query after registering {name!r} does not show it: {verdicts.label[0]!r}"
            )
        return registered - began, scored - registered

    def ratio(self, images: int, repeats: int) -> dict[str, float]:
        """Milliseconds of a query of `images` images by `posterior` and by `trustvlm`, in turn,
        and the median of the ratios."""
        self._service.close()  # waits for the fit
        self._service = trustvlm.open(self._home)
        query = trustvlm.Queries(
            directions(self._rng, images, CLASSIFIER), directions(self._rng, images, VERIFIER)
        )
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


def summary(values: list[float]) -> dict[str, float]:
    """Milliseconds: median, and the quartiles to show how noisy it was."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {
        "median_ms": round(1e3 * middle, 3),
        "q1_ms": round(1e3 * low, 3),
        "q3_ms": round(1e3 * high, 3),
    }


def measure(sizes: list[int], supports: list[int], repeats: int) -> list[dict[str, Any]]:
    """One row per size and number of support images."""
    with tempfile.TemporaryDirectory() as folder:
        spaces = [Space(Path(folder), size, count) for count in supports for size in sizes]
        times: dict[Space, list[tuple[float, float]]] = {space: [] for space in spaces}
        os.sync()  # else the disk is still busy with the bases when the first labels are synced
        for turn in range(WARM_UP + repeats):
            for space in spaces:
                seconds = space.step()
                time.sleep(PAUSE_S)
                if turn >= WARM_UP:
                    times[space].append(seconds)
        ratios = {space: [space.ratio(images, repeats) for images in (1, 64)] for space in spaces}
        for space in spaces:
            space.close()
        return [
            {
                "labels": space.size,
                "supports": space.supports,
                "register": summary([register for register, _ in times[space]]),
                "next_query": summary([query for _, query in times[space]]),
                "rules": ratios[space],
                "base_s": round(space.base_s, 2),
                "first_query_s": round(space.load_s, 2),
            }
            for space in spaces
        ]


def ratios_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios that the project has bars for, by what they compare."""
    at = {(row["labels"], row["supports"]): row for row in rows}
    small, large = min(row["labels"] for row in rows), max(row["labels"] for row in rows)
    found = {}
    for supports in sorted({row["supports"] for row in rows}):
        few, many = (at[size, supports]["register"]["median_ms"] for size in (small, large))
        found[f"register, {supports} images a label, {large:,} : {small:,} labels"] = round(
            many / few, 3
        )
        for rules in at[large, supports]["rules"]:
            found[
                f"posterior : trustvlm, {supports} images a label, {large:,} labels, "
                f"{rules['images']} queries"
            ] = rules["ratio"]
    return found


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """ms against the number of labels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for supports in sorted({row["supports"] for row in rows}):
        own = [row for row in rows if row["supports"] == supports]
        for what, style in (("register", "o-"), ("next_query", "s--")):
            axis.plot(
                [row["labels"] for row in own],
                [row[what]["median_ms"] for row in own],
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
        "--supports", default="0,2", help="support images of each label, with commas between them"
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
        "next query",
        "registering the base",
        "first query",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        cells = [
            f"{row[k]['median_ms']:.1f} ms ({row[k]['q1_ms']:.1f}–{row[k]['q3_ms']:.1f})"
            for k in ("register", "next_query")
        ]
        table.add_row(
            f"{row['labels']:,}",
            str(row["supports"]),
            *cells,
            f"{row['base_s']:.1f} s",
            f"{row['first_query_s']:.2f} s",
        )
    console = Console(width=120)
    console.print(table)
    ratios = ratios_of(rows)
    for what, ratio in ratios.items():
        console.print(
            f"{what}: {ratio:.2f} (must be "
            f"{'under 2' if what.startswith('register') else 'at most 1.15'})"
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
