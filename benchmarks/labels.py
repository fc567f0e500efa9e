"""What a pass over N labels costs: ours, dense and blocked torch, NumPy and FAISS, on one thread.

    python -m benchmarks.labels [--full]        # minutes; with --full up to a million labels

Every contestant runs in a process of its own; the ratios to torch come from a process where both
take turns. "ours" is the pass of the service: rows of a mapped snapshot, top 64 with exact logits
from its float32 rows, log-partition and moments. Prints a table, writes results/labels.json and
results/labels.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labels_report import headline, plot, show
from benchmarks.report import ONE_THREAD, arguments, header, on_one_thread, store
from benchmarks.synthetic import DIM, Labels, quantiles
from trustvlm.catalog.rows.label_changes import LabelChange
from trustvlm.index.recipe import load_recipe
from trustvlm.index.rows import RowView
from trustvlm.index.snapshot_header import SnapshotKey
from trustvlm.service.memory.passes import leading_rows
from trustvlm.service.memory.snapshots import Content, load, write

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


def our_pass(
    view: RowView, queries: np.ndarray, device: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(log-partition, top probability) of a batch, as the service computes them."""
    leading = leading_rows(view, queries.astype(np.float64), SCALE, LEADERS, device)
    assert leading.moments is not None
    return leading.moments.log_z, np.exp(leading.logits[:, 0] - leading.moments.log_z)


def contestant(name: str, folder: Path) -> Callable[[np.ndarray], Any]:
    """What handles a batch of queries."""
    if name.startswith("ours"):
        view = snapshot_view(folder, 1 if name == "ours" else 10**9)
        return lambda queries: our_pass(view, queries)
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


def run_one(name: str, folder: Path, batches: list[int], seconds: float) -> dict[str, Any]:
    """Child: time a contestant; what memory it has taken."""
    queries = np.load(folder / "queries.npy")
    handle = contestant(name, folder)
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
    figures = {"read_gb_s": values.numel() * 8 / best(values.sum) / 1e9}
    del values
    one, other = torch.randn(256, DIM), torch.randn(BLOCK, DIM)
    work = 2 * 256 * DIM * BLOCK / 1e9
    figures["float32_gflop_s"] = work / best(lambda: one @ other.T)
    short, shorter = one.bfloat16(), other.bfloat16()
    figures["bfloat16_gflop_s"] = work / best(lambda: short @ shorter.T)
    return figures


def best(call: Callable[[], Any], repeats: int = 15) -> float:
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def errors(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """Largest errors against float64: with the compiled library, few queries and many, and with
    torch."""
    rows = np.memmap(folder / "rows.f32", np.float32, "r").reshape(-1, DIM)
    queries = np.load(folder / "queries.npy")[:count].astype(np.float64)
    maximum, total = np.full(len(queries), -np.inf), np.zeros(len(queries))
    for start in range(0, len(rows), BLOCK):
        logits = SCALE * queries @ rows[start : start + BLOCK].T.astype(np.float64)
        larger = np.maximum(maximum, logits.max(axis=1))
        total = total * np.exp(maximum - larger) + np.exp(logits - larger[:, np.newaxis]).sum(
            axis=1
        )
        maximum = larger
    log_z = maximum + np.log(total)
    worst = {}
    view = snapshot_view(folder, 1)
    for batch, device in ((1, None), (256, None), (256, "cpu")):
        parts = [queries[at : at + batch] for at in range(0, len(queries), batch)]
        got = [our_pass(view, part, device) for part in parts]
        ours, top = (np.concatenate(side) for side in zip(*got, strict=True))
        way = "library" if device is None else "torch"
        worst[f"{way}, {batch} at a time"] = {
            "log_partition": float(np.abs(ours - log_z).max()),
            "top_probability": float(np.abs(top - np.exp(maximum - log_z)).max()),
        }
    return worst


def paired(folder: Path, batches: Sequence[int], size: int, seconds: float) -> dict[str, Any]:
    """How many times as long torch takes, both in turn in this process: best and median. One query
    is compared with the dense pass, more with the blocked one."""
    queries, ratios = np.load(folder / "queries.npy"), {}
    ours = contestant("ours", folder)
    for batch in batches:
        name = "torch" if batch == 1 and size <= DENSE_LIMIT else "torch-blocks"
        theirs, some = contestant(name, folder), queries[:batch]
        taken: list[tuple[float, float]] = []
        while len(taken) < 7 or (sum(map(sum, taken)) < 2 * seconds and len(taken) < 200):
            pair = []
            for handle in (ours, theirs):
                begin = time.process_time()
                handle(some)
                pair.append(time.process_time() - begin)
            taken.append((pair[0], pair[1]))
        one, other = np.array(taken[1:]).T
        ratios[str(batch)] = {
            "against": name,
            "best": float(other.min() / one.min()),
            "median": float(np.median(other / one)),
        }
    return ratios


def child(*arguments: str) -> Any:
    """What this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.labels", *arguments]
    environment = os.environ | ONE_THREAD
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def measured(sizes: list[int], queries: int, seconds: float) -> dict[str, Any]:
    rows, ratios, wrong, shapes = [], {}, {}, {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TRUSTVLM_SCRATCH")) as name:
            folder = Path(name)
            prepare(folder, size, max(queries, 512))
            options = ["--folder", name, "--seconds", str(seconds)]
            for contender in CONTESTANTS:
                dense = contender in ("torch", "numpy")
                batches = [batch for batch in BATCHES if not (dense and batch * size > DENSE_LIMIT)]
                figures = child("--one", contender, "--batches", json.dumps(batches), *options)
                rows.append({"labels": size, "contestant": contender} | figures)
                print(rows[-1], file=sys.stderr)
            batches = json.dumps(BATCHES)
            ratios[str(size)] = child("--one", "paired", "--batches", batches, *options)
            wrong[str(size)] = errors(folder, queries)
            shapes[str(size)] = quantiles(Labels(size), images=200)
    return {"rows": rows, "paired": ratios, "errors": wrong, "synthetic": shapes}


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument(
        "--full", action="store_true", help="up to a million labels, 1,000 queries for the errors"
    )
    parser.add_argument("--one", choices=(*CONTESTANTS, "paired"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="how long each contestant is timed for each batch size",
    )
    options = parser.parse_args()
    if options.one == "paired":
        size = (options.folder / "rows.f32").stat().st_size // (4 * DIM)
        print(json.dumps(paired(options.folder, options.batches, size, options.seconds)))
        return
    if options.one:
        print(json.dumps(run_one(options.one, options.folder, options.batches, options.seconds)))
        return
    on_one_thread("labels")
    sizes = [1_000, 10_000, 100_000] + ([1_000_000] if options.full else [])
    report: dict[str, Any] = {**header("labels"), "limits": limits()}
    report |= measured(sizes, 1_000 if options.full else 200, options.seconds)
    report["headline"] = headline(report)
    show(report, BATCHES)
    store(options.json, report)
    plot(report, CONTESTANTS, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
