"""What bulk work gains from two workers, beside one process over the same files, in one run.

    python -m benchmarks.bulk [--labels 1e4] [--files 64] [--rows 1024] [--repeats 2] [--json FILE]

A space of labels with an image each (512-d), and Parquet files of vectors (512-d both), scored with
the rule trustvlm: by this process, by two processes and, where Ray is installed, by two actors of a
Ray cluster of this machine, in turn. Pace and CPU time are those of the rows after each worker's
first file: the start of workers, which a long job does not notice, is left out (its CPU time is
that of a run over as many files), and listed. Run it with OMP_NUM_THREADS=1 on two idle cores. The
bars of the project: two actors, and two processes, are at least 1.8 times as fast as one process,
with at most 1.1 times its CPU time a row.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

import trustvlm
import trustvlm.bulk
from benchmarks.report import arguments, header, store

RESULTS = Path(__file__).resolve().parent / "results" / "bulk.json"
DIM = 512
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "one process": (1, {"on": "here"}),
    "2 processes": (2, {"on": "processes:2"}),
    "2 Ray actors": (2, {"on": "ray", "actors": 2}),
}
LEAST_PACE, MOST_CPU = 1.8, 1.1


def make(folder: Path, labels: int, files: int, rows: int) -> None:
    """A home, and a folder of vectors."""
    random = np.random.default_rng(0)
    with trustvlm.open(folder / "home", create=True) as service:
        service.create_space("s", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}")
        for start in range(0, labels, 2_000):
            vectors = random.standard_normal((2, min(2_000, labels - start), DIM), np.float32)
            service.register(
                "s",
                [
                    trustvlm.LabelInput(f"label {start + i}", text_vector=t, image_vectors=v[None])
                    for i, (t, v) in enumerate(zip(*vectors, strict=True))
                ],
            )
    (folder / "in").mkdir()
    for number in range(files):
        sides = {
            side: pa.FixedSizeListArray.from_arrays(
                pa.array(random.standard_normal(rows * DIM, np.float32)), DIM
            )
            for side in ("classifier", "verifier")
        }
        pq.write_table(pa.table(sides), folder / "in" / f"part-{number:03d}.parquet")


def measured(folder: Path, name: str, attempt: int) -> dict[str, float]:
    """Pace (rows a second), CPU time a row (ms), and seconds until each worker has a file done."""
    workers, options = WAYS[name]
    marks: list[tuple[int, float]] = []

    def mark(done: int, total: int | None) -> None:
        if done:
            marks.append((done, time.perf_counter()))

    def score(given: Any, out: str) -> Any:
        options_of_all = {"rule": "trustvlm", "progress": mark}
        where = (folder / "home", "s", given, folder / f"{out} {name} {attempt}")
        return trustvlm.bulk.score(*where, **options_of_all, **options)

    few = folder / f"few {workers}.txt"
    few.write_text("".join(f"in/part-{number:03d}.parquet\n" for number in range(workers)))
    start = score(few, "few")
    marks.clear()
    begun = time.perf_counter()
    report = score(folder / "in", "out")
    (first, started), (last, ended) = marks[workers - 1], marks[-1]
    return {
        "rows a second": (last - first) / (ended - started),
        "CPU ms a row": 1e3 * (report.cpu_seconds - start.cpu_seconds) / (report.rows - start.rows),
        "start s": started - begun,
    }


def main() -> int:
    """Measure, print a table, store the figures; 1 where a bar is missed."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--labels", type=float, default=1e4)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    report = header("bulk")
    names = [name for name in WAYS if "Ray" not in name or find_spec("ray") is not None]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), int(given.labels), given.files, given.rows)
        for attempt in range(given.repeats):
            for name, some in figures.items():
                some.append(measured(Path(folder), name, attempt))
    median = {
        name: {what: statistics.median(one[what] for one in some) for what in some[0]}
        for name, some in figures.items()
    }
    one = median["one process"]
    table = Table("who", "rows a second", "pace", "CPU ms a row", "CPU", "start s")
    missed = False
    for name, some in median.items():
        pace = some["rows a second"] / one["rows a second"]
        cpu = some["CPU ms a row"] / one["CPU ms a row"]
        some |= {"pace": pace, "CPU ratio": cpu}
        missed |= name != "one process" and (pace < LEAST_PACE or cpu > MOST_CPU)
        table.add_row(
            name, f"{some['rows a second']:,.0f}", f"{pace:.2f} ×", f"{some['CPU ms a row']:.3f}",
            f"{cpu:.2f} ×", f"{some['start s']:.1f}",
        )  # fmt: skip
    Console().print(table)
    report |= {"labels": int(given.labels), "rows": given.files * given.rows}
    report |= {"bars": {"pace": LEAST_PACE, "CPU": MOST_CPU}, "figures": median, "runs": figures}
    store(given.json, report)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
