"""What a pass over N labels costs: ours, dense and blocked torch, NumPy and FAISS, on one thread.

    python -m benchmarks.labels [--full]        # minutes; with --full up to a million labels

Every contestant runs in a process of its own. "ours" is the pass of the service: rows of a mapped
snapshot, top 64 with exact logits from its float32 rows, log-partition and moments. Prints a table,
writes results/labels.json and results/labels.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.report import arguments, header, store
from benchmarks.synthetic import DIM, Labels, quantiles
from trustvlm.catalog.rows.label_changes import LabelChange
from trustvlm.index.recipe import load_recipe
from trustvlm.index.rows import RowView
from trustvlm.index.snapshot import SnapshotKey
from trustvlm.service.memory.passes import leading_rows
from trustvlm.service.memory.snapshots import Content, load, write
from trustvlm.softmax.kernel_speed import measure
from trustvlm.softmax.kernels import KERNELS, Kernels

RESULTS = Path(__file__).parent / "results" / "labels.json"
SCALE, LEADERS, BLOCK = 100.0, 64, 4_096
BATCHES = (1, 32, 256)
CONTESTANTS = {
    "ours": "16-bit rows, mapped",
    "ours-float32": "float32 rows in memory",
    "torch": "dense float32 softmax and topk",
    "torch-blocks": "float32 in preallocated blocks of 4,096 rows, running log-sum-exp",
    "numpy": "dense float32",
    "faiss": "IndexFlatIP, top 64 only",
}
DENSE_LIMIT = (
    64_000_000  # logits: beyond it the dense ways take more than a few hundred MB, and are left out
)
KEY = SnapshotKey("benchmark", 1, 1, "flat", "synthetic", "synthetic")


def blocks_of(labels: Labels) -> Iterator[LabelChange]:
    for start in range(0, labels.count, 8_192):
        stop = min(start + 8_192, labels.count)
        ids = list(range(start + 1, stop + 1))
        nothing = np.empty((0, 1), np.float32)
        yield LabelChange(
            ids, [f"label {i}" for i in ids], labels.text(start, stop), [], nothing, [], []
        )


def prepare(folder: Path, count: int, queries: int) -> None:
    """Everything that the contestants read."""
    labels = Labels(count)
    content = Content(count, 0, blocks_of(labels))
    write(folder / "snapshot", KEY, (DIM, 1), load_recipe("flat"), content, half=True)
    with (folder / "rows.f32").open("wb") as file:
        for change in blocks_of(labels):
            file.write(change.text.tobytes())
    vectors, _ = labels.images(queries)
    np.save(folder / "queries.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def snapshot_view(folder: Path, half_from: int) -> RowView:
    return load(
        folder / "snapshot", KEY, (DIM, 1), load_recipe("flat"), "cpu", half_from
    ).text.view()


def our_pass(view: RowView, kernels: Kernels, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log-partition, top probability) of a batch, as the service computes them."""
    leading = leading_rows(view, queries.astype(np.float64), SCALE, LEADERS, kernels)
    assert leading.moments is not None
    return leading.moments.log_z, np.exp(leading.logits[:, 0] - leading.moments.log_z)


def contestant(name: str, folder: Path, kernels: Kernels) -> Callable[[np.ndarray], Any]:
    """What handles a batch of queries."""
    if name.startswith("ours"):
        view = snapshot_view(folder, 1 if name == "ours" else 10**9)
        return lambda queries: our_pass(view, kernels, queries)
    rows = np.fromfile(folder / "rows.f32", np.float32).reshape(-1, DIM)
    if name == "numpy":
        return lambda queries: numpy_dense(rows, queries)
    if name == "faiss":
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(DIM)
        index.add(rows)
        del rows
        return lambda queries: index.search(queries, LEADERS)
    import torch

    torch.set_num_threads(1)
    matrix = torch.from_numpy(rows)
    return {"torch": torch_dense, "torch-blocks": torch_blocks}[name](matrix)


def numpy_dense(rows: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = np.float32(SCALE) * (queries @ rows.T)
    top = np.argpartition(logits, -LEADERS, axis=1)[:, -LEADERS:]
    maximum = logits.max(axis=1)
    return maximum + np.log(np.exp(logits - maximum[:, np.newaxis]).sum(axis=1)), top


def torch_dense(matrix: Any) -> Callable[[np.ndarray], Any]:
    import torch

    def run(queries: np.ndarray) -> Any:
        logits = SCALE * torch.from_numpy(queries) @ matrix.T
        return logits.softmax(dim=1).topk(LEADERS, dim=1)

    return run


def torch_blocks(matrix: Any) -> Callable[[np.ndarray], Any]:
    """The best that one writes with torch in an afternoon: no fresh memory, one pass; no top k."""
    import torch

    def run(queries: np.ndarray) -> Any:
        scaled = SCALE * torch.from_numpy(queries)
        out, work = torch.empty(len(queries), BLOCK), torch.empty(len(queries), BLOCK)
        maximum = torch.full((len(queries),), -torch.inf)
        total = torch.zeros(len(queries))
        for start in range(0, len(matrix), BLOCK):
            block = matrix[start : start + BLOCK]
            logits = torch.mm(scaled, block.T, out=out) if len(block) == BLOCK else scaled @ block.T
            larger = torch.maximum(maximum, logits.amax(dim=1))
            total *= torch.exp(maximum - larger)
            shifted = torch.sub(logits, larger[:, None], out=work if len(block) == BLOCK else None)
            total += torch.exp_(shifted).sum(dim=1)
            maximum = larger
        return maximum + torch.log(total)

    return run


def run_one(
    name: str, folder: Path, batches: list[int], seconds: float, kernels: Kernels
) -> dict[str, Any]:
    """Child: time a contestant; what memory it has taken."""
    queries = np.load(folder / "queries.npy")
    handle = contestant(name, folder, kernels)
    times: dict[str, float] = {}
    for batch in batches:
        handle(queries[:batch])
        taken: list[float] = []
        while len(taken) < 3 or (sum(taken) < seconds and len(taken) < 50):
            at = (len(taken) * batch) % (len(queries) - batch + 1)
            begin = time.perf_counter()
            handle(queries[at : at + batch])
            taken.append(time.perf_counter() - begin)
        times[str(batch)] = 1000 * float(np.median(taken))
    return {"ms": times} | memory()


def memory() -> dict[str, float]:
    """MB of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    wanted = {"anonymous_mb": "RssAnon", "resident_mb": "VmRSS", "peak_mb": "VmHWM"}
    return {name: int(lines[key].split()[0]) / 1024 for name, key in wanted.items()}


def limits() -> dict[str, float]:
    """What this machine can do on one thread: GB/s of reading, GFLOP/s of matrix products."""
    import torch

    torch.set_num_threads(1)
    values = torch.ones(64_000_000, dtype=torch.int64)  # not zeros: their pages need not be memory
    found = {"read_gb_s": values.numel() * 8 / best(values.sum) / 1e9}
    del values
    one, other = torch.randn(256, DIM), torch.randn(BLOCK, DIM)
    work = 2 * 256 * DIM * BLOCK / 1e9
    found["float32_gflop_s"] = work / best(lambda: one @ other.T)
    short, shorter = one.bfloat16(), other.bfloat16()
    found["bfloat16_gflop_s"] = work / best(lambda: short @ shorter.T)
    eight, eighths = (
        torch.randint(-127, 128, part.shape, dtype=torch.int8) for part in (one, other)
    )
    found["int8_gop_s"] = work / best(lambda: torch._int_mm(eight, eighths.T))
    return found


def best(call: Callable[[], Any], repeats: int = 15) -> float:
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def errors(folder: Path, queries: int) -> dict[str, dict[str, float]]:
    """Largest errors of every kernel against float64."""
    rows = np.memmap(folder / "rows.f32", np.float32, "r").reshape(-1, DIM)
    asked = np.load(folder / "queries.npy")[:queries].astype(np.float64)
    maximum, total = np.full(len(asked), -np.inf), np.zeros(len(asked))
    for start in range(0, len(rows), BLOCK):
        logits = SCALE * asked @ rows[start : start + BLOCK].T.astype(np.float64)
        larger = np.maximum(maximum, logits.max(axis=1))
        total = total * np.exp(maximum - larger) + np.exp(logits - larger[:, np.newaxis]).sum(
            axis=1
        )
        maximum = larger
    log_z = maximum + np.log(total)
    found = {}
    view = snapshot_view(folder, 1)
    for kernel, batch in (
        ("scan", 1),
        ("scan", 8),
        ("widen", 256),
        ("bfloat16", 1),
        ("bfloat16", 64),
        ("int8", 64),
        ("int8", 256),
    ):
        kernels = Kernels(((batch, kernel),))
        got = [
            our_pass(view, kernels, asked[at : at + batch]) for at in range(0, len(asked), batch)
        ]
        ours, top = (np.concatenate(parts) for parts in zip(*got, strict=True))
        found[f"{kernel}, {batch} at a time"] = {
            "log_partition": float(np.abs(ours - log_z).max()),
            "top_probability": float(np.abs(top - np.exp(maximum - log_z)).max()),
        }
    return found


def measured(sizes: list[int], queries: int, seconds: float) -> dict[str, Any]:
    kernels = measure()
    rows, wrong, shapes = [], {}, {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TRUSTVLM_SCRATCH")) as name:
            folder = Path(name)
            prepare(folder, size, max(queries, 512))
            for contender in CONTESTANTS:
                dense = contender in ("torch", "numpy")
                batches = [batch for batch in BATCHES if not (dense and batch * size > DENSE_LIMIT)]
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.labels",
                    "--one",
                    contender,
                    "--folder",
                    name,
                ]
                command += [
                    "--batches",
                    json.dumps(batches),
                    "--seconds",
                    str(seconds),
                    "--kernels",
                    json.dumps(kernels.steps),
                ]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD
                )
                rows.append({"labels": size, "contestant": contender} | json.loads(done.stdout))
                print(rows[-1], file=sys.stderr)
            wrong[str(size)] = errors(folder, queries)
            shapes[str(size)] = quantiles(Labels(size), images=200)
    return {"kernels": kernels.steps, "rows": rows, "errors": wrong, "synthetic": shapes}


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def headline(report: dict[str, Any]) -> dict[str, float]:
    """The bars of the issue, from the rows."""
    ms = {
        (row["labels"], row["contestant"], int(batch)): t
        for row in report["rows"]
        for batch, t in row["ms"].items()
    }
    found = {}
    for size in sorted({key[0] for key in ms}):
        rate = size * DIM * 2 / ms[size, "ours", 1] / 1e6
        found[f"1 query, {size:,} labels: share of read bandwidth"] = (
            rate / report["limits"]["read_gb_s"]
        )
        if (size, "torch", 1) in ms:
            found[f"1 query, {size:,} labels: dense torch / ours"] = (
                ms[size, "torch", 1] / ms[size, "ours", 1]
            )
        found[f"256 queries, {size:,} labels: blocked torch / ours"] = (
            ms[size, "torch-blocks", 256] / ms[size, "ours", 256]
        )
    if {100_000, 1_000_000} <= {key[0] for key in ms}:
        for batch in BATCHES:
            found[f"{batch} queries: 1e6 / 1e5"] = (
                ms[1_000_000, "ours", batch] / ms[100_000, "ours", batch]
            )
    worst = [of[what] for size in report["errors"].values() for of in size.values() for what in of]
    found["largest error of top probability and log-partition"] = max(worst)
    return found


def plot(report: dict[str, Any], path: Path) -> None:
    """ms a query against N."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True)
    for axis, batch in zip(axes, (1, 256), strict=True):
        for contender, what in CONTESTANTS.items():
            points = [
                (row["labels"], row["ms"][str(batch)] / batch)
                for row in report["rows"]
                if row["contestant"] == contender and str(batch) in row["ms"]
            ]
            if points:
                ours = contender.startswith("ours")
                axis.plot(
                    *zip(*points, strict=True),
                    marker="o",
                    ms=3,
                    lw=2.2 if ours else 1,
                    label=f"{contender}: {what}",
                )
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="labels",
            title=f"{batch} quer{'y' if batch == 1 else 'ies'} at a time",
        )
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms a query, one thread")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=8, frameon=False
    )
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument(
        "--full", action="store_true", help="up to a million labels, 1,000 queries for the errors"
    )
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="how long each contestant is timed for each batch size",
    )
    parser.add_argument("--kernels", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kernels = Kernels(
            tuple((most, kernel) for most, kernel in options.kernels if kernel in KERNELS)
        )
        print(
            json.dumps(
                run_one(options.one, options.folder, options.batches, options.seconds, kernels)
            )
        )
        return
    if not all(
        os.environ.get(name) == "1" for name in ONE_THREAD
    ):  # NumPy reads these when it is imported
        os.execve(
            sys.executable,
            [sys.executable, "-m", "benchmarks.labels", *sys.argv[1:]],
            os.environ | ONE_THREAD,
        )
    sizes = [1_000, 10_000, 100_000] + ([1_000_000] if options.full else [])
    report: dict[str, Any] = {**header("labels"), "limits": limits()}
    report |= measured(sizes, 1_000 if options.full else 200, options.seconds)
    report["headline"] = headline(report)
    show(report)
    store(options.json, report)
    plot(report, options.json.with_suffix(".png"))


def show(report: dict[str, Any]) -> None:
    console = Console(width=128)
    table = Table(
        title="A pass over N labels of 512 dimensions on one thread, ms (best 16-bit kernels: "
        + str(report["kernels"])
        + ")"
    )
    for column in (
        "labels",
        "contestant",
        *(f"{batch} queries" for batch in BATCHES),
        "GB/s at 1",
        "anonymous MB",
    ):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for row in report["rows"]:
        size = 2 if row["contestant"] == "ours" else 4
        rate = (
            row["labels"] * DIM * size / row["ms"]["1"] / 1e6 if "1" in row["ms"] else float("nan")
        )
        cells = [
            f"{row['ms'][str(batch)]:.2f}" if str(batch) in row["ms"] else "–" for batch in BATCHES
        ]
        table.add_row(
            f"{row['labels']:,}",
            row["contestant"],
            *cells,
            f"{rate:.1f}",
            f"{row['anonymous_mb']:.0f}",
        )
    console.print(table)
    console.print("limits:", {name: round(value, 1) for name, value in report["limits"].items()})
    for size, of in report["errors"].items():
        console.print(
            f"errors at {int(size):,} labels:",
            {k: {w: float(f"{v:.2g}") for w, v in e.items()} for k, e in of.items()},
        )
    for size, shape in report["synthetic"].items():
        console.print(
            f"{int(size):,} labels:", {k: [round(x, 3) for x in v] for k, v in shape.items()}
        )
    for what, value in report["headline"].items():
        console.print(f"{what}: {value:.3g}")


if __name__ == "__main__":
    main()
