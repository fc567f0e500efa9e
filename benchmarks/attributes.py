"""Filters over attributes: what a filtered query costs beside an unfiltered one, with a mask that
is kept, with one that is made for it, and with columns that have to be read first; what a filtered
search costs, and whether it returns all that exist; and, with --baseline CHECKOUT, what a home
without attributes costs beside that checkout, in turns.

    python -m benchmarks.attributes                              # 20,000 labels, about a minute
    python -m benchmarks.attributes --labels 1000000 --dim 64    # on a quiet machine
"""

from __future__ import annotations

import json
import os
import subprocess
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

REGIONS = ("EU", "US", "AS", "AF", "OC")
CHUNK = 20_000
ROUNDS = 9


def vectors(dim: int, *seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def make(home: Path, labels: int, dim: int, *, described: bool) -> None:
    """A home with one support image a label; half of the labels are in Europe."""
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier=f"precomputed:{dim}", verifier=f"precomputed:{dim}")
        for start in range(0, labels, CHUNK):
            count = min(CHUNK, labels - start)
            texts, images = vectors(dim, 1, start, n=count), vectors(dim, 2, start, n=count)
            inputs = []
            for place in range(count):
                number = start + place
                attributes: dict[str, Any] | None = None
                if described:
                    region = "EU" if number % 2 else REGIONS[number % len(REGIONS)]
                    attributes = {"region": region, "size": number % 1000, "code": f"c{number}"}
                inputs.append(
                    trustvlm.LabelInput(
                        f"label {number:07d}",
                        text_vector=texts[place],
                        image_vectors=images[place : place + 1],
                        attributes=attributes,
                    )
                )
            service.register("s", inputs)


def best(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The shortest time of some rounds, in milliseconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(1_000 * (time.perf_counter() - begin))
    return min(times)


def filtered(home: Path, dim: int, labels: int) -> dict[str, Any]:
    """The figures of one home with attributes."""
    query = trustvlm.Queries(vectors(dim, 3, n=1), vectors(dim, 4, n=1))
    chosen = trustvlm.Filter({"region": "EU"})
    figures: dict[str, Any] = {}
    with trustvlm.open(home) as service:

        def score(**options: Any) -> Any:
            return service.score("s", query, **options)

        score()
        time.sleep(1 if labels < 10**5 else 20)  # a snapshot of a large space is being written
        figures["unfiltered_ms"] = best(score)
        figures["first_ms"] = best(lambda: score(labels=chosen), 1)
        figures["warm_ms"] = best(lambda: score(labels=chosen))
        bounds = iter(range(ROUNDS))
        figures["cold_ms"] = best(
            lambda: score(labels={"region": "EU", "size": {"gte": next(bounds)}}), 1
        )  # reads the column "size", too
        figures["cold_ms"] = best(
            lambda: score(labels={"region": "EU", "size": {"gte": next(bounds)}}), ROUNDS - 1
        )
        figures["unfiltered_ms"] = min(figures["unfiltered_ms"], best(score))
        figures["warm_ms"] = min(figures["warm_ms"], best(lambda: score(labels=chosen)))
        probe = trustvlm.Queries(verifier=query.verifier)
        service.search("s", probe)
        figures["search_ms"] = best(lambda: service.search("s", probe))
        for share, condition in (("half", {"region": "EU"}), ("rare", {"size": 7})):
            service.search("s", probe, filter=condition)
            took = best(lambda condition=condition: service.search("s", probe, filter=condition))
            hits = service.search("s", probe, k=10, filter=condition)
            figures[f"search_{share}_ms"] = took
            figures[f"search_{share}_hits"] = int((hits.ids >= 0).sum())
    return figures


# A home without attributes, beside another checkout

_WORKER = """
import sys, time
import numpy as np, trustvlm
home, dim = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(5)
asked = trustvlm.Queries(rng.standard_normal((1, dim)), rng.standard_normal((1, dim)))
probe = trustvlm.Queries(verifier=asked.verifier)
works = {"score": lambda s: s.score("s", asked), "search": lambda s: s.search("s", probe),
         "list": lambda s: list(s.list_labels("s"))}
with trustvlm.open(home) as service:
    for work in works.values():
        work(service)
    print("ready", flush=True)
    for line in sys.stdin:
        work, times = works[line.strip()], []
        for _ in range(3 if line.strip() == "list" else 40):
            begin = time.perf_counter()
            work(service)
            times.append(1_000 * (time.perf_counter() - begin))
        print(min(times), flush=True)
"""


def plain(folder: Path, baseline: Path, labels: int, dim: int) -> dict[str, float]:
    """How many times as long a home without attributes takes as in the other checkout: the two
    take turns, and the shortest time of each counts."""
    workers = {}
    root = Path(__file__).resolve().parents[1]
    for name, checkout in (("this", root), ("baseline", baseline)):
        home, environment = folder / name, os.environ | {"PYTHONPATH": str(checkout)}
        command = [sys.executable, "-c", _MAKE, str(home), str(labels), str(dim)]
        subprocess.run(command, check=True, cwd=checkout, env=environment)
        command = [sys.executable, "-c", _WORKER, str(home), str(dim)]
        workers[name] = subprocess.Popen(
            command, cwd=checkout, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    times: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
    for worker in workers.values():
        assert worker.stdout is not None
        worker.stdout.readline()
    for _ in range(7):
        for name, worker in workers.items():
            for what in ("score", "search", "list"):
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write(f"{what}\n")
                worker.stdin.flush()
                times[name].setdefault(what, []).append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    return {what: min(times["this"][what]) / min(times["baseline"][what]) for what in times["this"]}


_MAKE = """
import sys
import numpy as np, trustvlm
home, labels, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(1)
with trustvlm.open(home, create=True) as service:
    service.create_space("s", classifier=f"precomputed:{dim}", verifier=f"precomputed:{dim}")
    service.register("s", [
        trustvlm.LabelInput(f"label {number:07d}", text_vector=rng.standard_normal(dim),
                            image_vectors=rng.standard_normal((1, dim)))
        for number in range(labels)
    ])
"""


def main() -> None:
    parser = arguments(__doc__, Path("benchmarks/results/attributes.json"))
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--baseline", type=Path, help="another checkout, for homes without any")
    parser.add_argument("--plain-labels", type=int, default=5_000)
    given = parser.parse_args()
    report = header("attributes") | {"labels": given.labels, "dim": given.dim}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        make(Path(folder, "home"), given.labels, given.dim, described=True)
        report["make_s"] = time.perf_counter() - begin
        report |= filtered(Path(folder, "home"), given.dim, given.labels)
        if given.baseline is not None:
            ratios = plain(Path(folder), given.baseline.resolve(), given.plain_labels, given.dim)
            report["plain_ratio"] = ratios
    report["warm_ratio"] = report["warm_ms"] / report["unfiltered_ms"]
    report["cold_extra_ms"] = report["cold_ms"] - report["unfiltered_ms"]
    table = Table("what", "measured", "bar")
    table.add_row("an unfiltered query", f"{report['unfiltered_ms']:.2f} ms", "")
    table.add_row("the first filtered one: reads the column", f"{report['first_ms']:.1f} ms", "")
    table.add_row("a filtered one, mask kept", f"× {report['warm_ratio']:.2f}", "≤ × 1.3")
    table.add_row("a filtered one, mask made", f"+ {report['cold_extra_ms']:.1f} ms", "≤ + 100 ms")
    table.add_row("a search of support images", f"{report['search_ms']:.2f} ms", "")
    for share in ("half", "rare"):
        line = f"{report[f'search_{share}_ms']:.2f} ms, {report[f'search_{share}_hits']} hits"
        table.add_row(f"filtered, {share}", line, "10 hits")
    for what, ratio in report.get("plain_ratio", {}).items():
        table.add_row(f"without attributes: {what}", f"× {ratio:.3f}", "≤ × 1.03")
    Console().print(table)
    store(given.json, report)
    print(json.dumps({name: report[name] for name in ("warm_ratio", "cold_extra_ms")}))


if __name__ == "__main__":
    main()
