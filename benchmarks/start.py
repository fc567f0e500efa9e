"""A large space from end to end: bulk registration, start of a process, one more label, a query,
and the memory of it all.

    python -m benchmarks.start [--labels 1e4,1e5] [--bulk]

Every label has a prototype (one support image of 768 dimensions) and a text vector of 512. One
thread. Prints a table, writes results/start.json and a plot of cost against N. With --bulk it first
measures two bulk registrations of their own, for the largest N: N labels without support images,
and N / 10 labels with eight each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.labels import memory
from benchmarks.report import arguments, header, on_one_thread, store
from benchmarks.synthetic import DIM, Labels
from trustvlm.service.memory.passes import leading_rows
from trustvlm.service.query.candidates import CANDIDATES as LEADERS
from trustvlm.softmax.leading import similarities

RESULTS = Path(__file__).parent / "results" / "start.json"
VERIFIER, SLICE, SUPPORTS = 768, 20_000, 16


def verifier_vectors(start: int, stop: int, each: int) -> np.ndarray:
    """(labels, each, 768) float32."""
    return np.random.default_rng([3, start, each]).standard_normal(
        (stop - start, each, VERIFIER), dtype=np.float32
    )


def open_space(home: Path) -> trustvlm.TrustService:
    service = trustvlm.open(home, create=True)
    service.create_space(
        "space", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{VERIFIER}"
    )
    return service


def register_all(service: trustvlm.TrustService, count: int, each: int) -> float:
    """Seconds of registering `count` labels with `each` support images, without making up the
    vectors."""
    labels, seconds = Labels(count), 0.0
    for start in range(0, count, SLICE):
        stop = min(start + SLICE, count)
        texts = labels.text(start, stop)
        images = verifier_vectors(start, stop, each) if each else [None] * (stop - start)
        inputs = [
            trustvlm.LabelInput(f"label {start + i}", text, image_vectors=images[i])
            for i, text in enumerate(texts)
        ]
        begin = time.perf_counter()
        service.register("space", inputs)
        seconds += time.perf_counter() - begin
    return seconds


def queries(count: int, batch: int, seed: int = 1) -> trustvlm.Queries:
    images, truth = Labels(count).images(batch, seed)
    label_part = np.stack(
        [
            verifier_vectors(t - t % SLICE, min(t - t % SLICE + SLICE, count), 1)[t % SLICE, 0]
            for t in truth.tolist()
        ]
    )
    noise = np.random.default_rng(seed).standard_normal(label_part.shape)
    return trustvlm.Queries(images, label_part + noise)


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """The largest anonymous memory, MB, while the block runs."""
    figures, stop = {"anonymous_mb": 0.0}, threading.Event()

    def look() -> None:
        while not stop.wait(0.02):
            figures["anonymous_mb"] = max(figures["anonymous_mb"], memory()["anonymous_mb"])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield figures
    finally:
        stop.set()
        thread.join()


FIRST_VERDICT = """
import time; began = time.perf_counter()
import sys, json, numpy as np, trustvlm
asked = np.load(sys.argv[2])
with trustvlm.open(sys.argv[1]) as service:
    queries = trustvlm.Queries(asked["classifier"], asked["verifier"])
    label = service.score("space", queries).label[0]
    print(time.perf_counter() - began)
"""


def start_seconds(home: Path, given: trustvlm.Queries, folder: Path) -> list[float]:
    """From the start of a process to its first verdict, interpreter included; three times."""
    vectors = folder / "asked.npz"
    np.savez(vectors, classifier=given.classifier, verifier=given.verifier)
    taken = []
    for _ in range(4):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", FIRST_VERDICT, str(home), str(vectors)],
            check=True,
            capture_output=True,
        )
        taken.append(time.perf_counter() - begin)
    return taken[1:]  # the first one warms up the page cache


def median_ms(call: Callable[[], Any], repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(taken)


def passes_of(service: trustvlm.TrustService, given: trustvlm.Queries) -> Callable[[], None]:
    """What scoring these queries cannot do without: the passes over text prototypes and prototypes,
    and the float32 rows of their candidates, of each side for the leaders of both. The rest of a
    call is its overhead."""
    with service._home.snapshot("space") as reading:
        view = reading.view
    text, image = (
        np.asarray(vectors, np.float64)
        / np.linalg.norm(np.asarray(vectors, np.float64), axis=1, keepdims=True)
        for vectors in (given.classifier, given.verifier)
    )

    def run() -> None:
        tables = view.text, view.prototypes
        likely = leading_rows(tables[0], text, 100.0, LEADERS, view.device)
        nearest = leading_rows(tables[1], image, 1.0, LEADERS, view.device, sums=False)
        for leading, one, other, vectors in (
            (likely, *tables, image),
            (nearest, *reversed(tables), text),
        ):
            ids = one.ids[leading.slots[:, :LEADERS]]
            similarities(other.exact, other.slots(ids.ravel()).reshape(ids.shape), vectors)

    return run


def some_of(given: trustvlm.Queries, batch: int) -> trustvlm.Queries:
    return trustvlm.Queries(
        np.asarray(given.classifier)[:batch], np.asarray(given.verifier)[:batch]
    )


def measured(count: int, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"labels": count}
    folder.mkdir()
    home = folder / "home"
    given = queries(count, 256)
    with open_space(home) as service:
        figures["register_all_s"] = register_all(service, count, 1)
        begin = time.perf_counter()
        with watched() as peak:
            service.score("space", some_of(given, 1))
        figures["first_query_ever_s"], figures["first_query_ever_peak"] = (
            time.perf_counter() - begin,
            peak["anonymous_mb"],
        )
    figures["start_to_first_verdict_s"] = statistics.median(
        start_seconds(home, some_of(given, 1), folder)
    )
    figures["bytes"] = {
        path.name: path.stat().st_size for path in home.rglob("*") if path.is_file()
    }
    code = [sys.executable, "-m", "benchmarks.start", "--inside", str(home), "--labels", str(count)]
    done = subprocess.run(code, check=True, capture_output=True, text=True)
    return figures | json.loads(done.stdout)


def inside(home: Path, count: int) -> dict[str, Any]:
    """Child: what a process that has nothing else to do needs for queries, one more label, and a
    compaction."""
    figures: dict[str, Any] = {}
    given = queries(count, 256)
    with trustvlm.open(home) as service, watched() as peak:
        for batch, repeats in ((1, 15), (32, 5), (256, 3)):
            some = some_of(given, batch)
            passes = median_ms(passes_of(service, some), repeats)
            total = median_ms(lambda some=some: service.score("space", some), repeats)  # type: ignore[misc]
            figures[f"score_{batch}_ms"], figures[f"passes_{batch}_ms"] = total, passes
        one = some_of(given, 1)
        taken, after = [], []
        for number in range(20):
            new = trustvlm.LabelInput(
                f"new {number}",
                np.asarray(given.classifier)[number],
                image_vectors=verifier_vectors(number, number + 1, SUPPORTS)[0],
            )
            begin = time.perf_counter()
            service.register("space", [new])
            middle = time.perf_counter()
            verdict = service.score(
                "space",
                some_of(trustvlm.Queries(new.text_vector[None], given.verifier[number][None]), 1),
            )  # type: ignore[index, call-overload]
            after.append(1000 * (time.perf_counter() - middle))
            taken.append(1000 * (middle - begin))
            if verdict.top_labels[0, 0] != new.name:
                raise SystemExit(
                    f"the query after registering {new.name} does not see it: "
                    f"{verdict.top_labels[0]}"
                )
        usual = median_ms(lambda: service.score("space", one), 15)
        figures |= {
            "register_one_ms": statistics.median(taken),
            "next_query_ms": statistics.median(after),
            "usual_query_ms": usual,
        }
        figures["serving"] = memory()
        begin = time.perf_counter()
        service.rebuild_index("space")
        service.score("space", one)
        figures["compaction_s"] = time.perf_counter() - begin
    figures["peak_anonymous_mb"], figures["after"] = peak["anonymous_mb"], memory()
    return figures


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument(
        "--labels", default="1e4,1e5", help="how many labels, with commas between them"
    )
    parser.add_argument("--bulk", action="store_true", help="also the two bulk registrations")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = sorted({int(float(count)) for count in options.labels.split(",")})
    if options.inside:
        print(json.dumps(inside(options.inside, counts[0])))
        return
    on_one_thread("start")
    report: dict[str, Any] = {**header("start")}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TRUSTVLM_SCRATCH")) as name:
        if options.bulk:
            for what, labels, each in (
                ("text_only_s", counts[-1], 0),
                ("eight_images_each_s", counts[-1] // 10, 8),
            ):
                with (
                    tempfile.TemporaryDirectory(dir=name) as folder,
                    open_space(Path(folder)) as service,
                ):
                    report[f"bulk_{what}"] = register_all(service, labels, each)
        report["rows"] = [measured(count, Path(name) / str(count)) for count in counts]
    show(report)
    store(options.json, report)
    plot(report["rows"], options.json.with_suffix(".png"))


SHOWN = {
    "register_all_s": "registering all, s",
    "first_query_ever_s": "first query ever, s",
    "start_to_first_verdict_s": "process start to first verdict, s",
    "score_1_ms": "one query, ms",
    "passes_1_ms": "of that its passes, ms",
    "score_256_ms": "256 queries, ms",
    "passes_256_ms": "of that their passes, ms",
    "register_one_ms": "one more label, ms",
    "next_query_ms": "the query after it, ms",
    "usual_query_ms": "a usual one then, ms",
    "compaction_s": "compaction, s",
    "peak_anonymous_mb": "most anonymous memory, MB",
}


def show(report: dict[str, Any]) -> None:
    table = Table(title="A large space from end to end, on one thread")
    table.add_column("")
    for row in report["rows"]:
        table.add_column(f"{row['labels']:,} labels", justify="right")
    for name, what in SHOWN.items():
        table.add_row(what, *(f"{row[name]:,.1f}" for row in report["rows"]))
    console = Console(width=120)
    console.print(table)
    console.print({name: value for name, value in report.items() if name != "rows"})


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Times against the number of labels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for name in (
        "start_to_first_verdict_s",
        "score_1_ms",
        "score_256_ms",
        "register_one_ms",
        "next_query_ms",
    ):
        unit = 1000 if name.endswith("_s") else 1
        label = SHOWN[name].rpartition(",")[0]
        axis.plot(
            [row["labels"] for row in rows],
            [unit * row[name] for row in rows],
            "o-",
            ms=4,
            label=label,
        )
    axis.set(xscale="log", yscale="log", xlabel="labels", ylabel="ms, one thread")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
