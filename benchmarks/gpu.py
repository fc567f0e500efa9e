"""What a GPU makes of indexes, of passes over labels, and of the way from pictures to verdicts.

    python -m benchmarks.gpu [--small]      # less than ten minutes; needs a GPU, but with --small

Parity: answers of every recipe that has a GPU form, against float64. IVF: recall and queries a
second on the GPU and on the CPU. Passes: 10⁶ and 10⁷ labels, as a share of the card's bandwidth.
Pipeline: encoding and scoring. --small takes seconds; without a GPU it runs on the CPU, with the
stand-in of benchmarks/gpu_stand_in.py for FAISS: that shows that the script works, and no figure.
Prints tables and writes results/gpu.json; without a GPU it says so and writes nothing. It takes
14 GB of memory, and as much on the GPU; of a smaller one it leaves the 10⁷ labels out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import pipeline
from benchmarks.gpu_stand_in import stand_in
from benchmarks.report import arguments, header, store
from benchmarks.synthetic import DIM, Labels
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import Recipe, load_recipe
from trustvlm.softmax.leading import ExactRows
from trustvlm.softmax.quantize import Segment, to_bfloat16
from trustvlm.softmax.streamed import streamed_rows

RESULTS = Path(__file__).parent / "results" / "gpu.json"
RECIPES, LISTED = ("flat", "flat-fp16", "ivf-flat", "ivf-sq8"), ("ivf-flat", "ivf-sq8")
SCALE, LEADERS, K = 100.0, 64, 10
SCRATCH = 3 << 30
"""Bytes beside the rows that a pass may take on a GPU: blocks of logits, and copies of them."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    parity: int
    rows: int
    labels: tuple[int, ...]
    batches: tuple[int, ...]
    scored: int
    repeats: int


FULL = Sizes(100_000, 1_000_000, (1_000_000, 10_000_000), (1, 32, 1_024), 100_000, 7)
SMALL = Sizes(2_000, 3_000, (2_000, 20_000), (1, 32), 50, 1)


def best(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest call after a first one."""
    call()
    return min(pipeline.seconds(call, repeats))


def built(recipe: Recipe, rows: np.ndarray, device: str) -> LiveIndex:
    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(rows), 50_000):
            part = rows[start : start + 50_000]
            yield np.arange(start, start + len(part)), part

    return LiveIndex.build(recipe, DIM, len(rows), blocks, device=device)


def parity(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Each recipe, all of whose lists are searched, after rows were taken out and others came."""
    rows, queries = Labels(sizes.parity).text(), Labels(sizes.parity).images(max(sizes.batches))[0]
    gone = np.arange(0, len(rows), 7)
    for name in RECIPES:
        recipe = load_recipe(name)
        if recipe.training:
            training = dict(recipe.training) | {"from_rows": 0}
            recipe = replace(recipe, training=training, search={"nprobe": 2_048})
        index = built(recipe, rows, "cuda")
        index.remove(gone)
        index.add(gone[:50] + len(rows), rows[gone[:50]])
        index.settle()
        view = index.view()
        ids, similarity = view.search(queries, K)
        kept = np.concatenate([np.setdiff1d(np.arange(len(rows)), gone), gone[:50] + len(rows)])
        exact = queries.astype(np.float64) @ rows[kept % len(rows)].T.astype(np.float64)
        order = np.argsort(-exact, axis=1)[:, :K]
        expected = np.take_along_axis(exact, np.searchsorted(kept, ids), axis=1)
        nearest = np.take_along_axis(exact, order, axis=1)
        yield {
            "recipe": name,
            "on_gpu": view.on_gpu,
            "same_ids": float((ids == kept[order]).mean()),
            "largest_error": float(np.abs(similarity - expected).max()),
            "largest_loss": float((nearest - expected).max()),
            "allowed_error": recipe.max_error,
        }


def listed(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Recall and speed of IVF on the GPU and on the CPU, with the recipe's own parameters."""
    rows, queries = Labels(sizes.rows).text(), Labels(sizes.rows).images(max(sizes.batches))[0]
    nearest, _ = built(load_recipe("flat"), rows, "cuda").view().search(queries, K)
    for name in LISTED:
        recipe = load_recipe(name)
        if sizes is SMALL:
            recipe = replace(recipe, training=dict(recipe.training) | {"from_rows": 0})
        begin = time.perf_counter()
        index = built(recipe, rows, "cuda")
        taken, arrays = time.perf_counter() - begin, index.view().to_arrays()
        views = {"gpu": index.view(), "cpu": LiveIndex.from_arrays(recipe, DIM, arrays).view()}
        del arrays
        for where, view in views.items():
            ids, _ = view.search(queries, K)
            shared = (ids[:, :, np.newaxis] == nearest[:, np.newaxis]).any(axis=2)
            yield {
                "recipe": name,
                "where": where,
                "rows": len(rows),
                "on_gpu": view.on_gpu,
                "build_seconds": taken,
                "recall": float(shared.mean()),
            } | {
                f"queries_per_second_{batch}": batch
                / best(
                    lambda view=view, batch=batch: view.search(queries[:batch], K), sizes.repeats
                )
                for batch in sizes.batches
            }


def free_bytes(device: str) -> int:
    """Bytes that can be taken on the device; on the CPU, which only tries the script, 2^40."""
    import torch

    return 1 << 40 if device == "cpu" else int(torch.cuda.mem_get_info()[0])


def bandwidth(device: str, small: bool) -> float:
    """Bytes a second that the device's memory moves in a copy, read and written."""
    import torch

    size = min(1 << (24 if small else 32), free_bytes(device) // 4)
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)

    def copied() -> None:
        target.copy_(source)
        float(target[0])  # waits for the device

    return 2 * 4 * len(source) / best(copied, 5)


def passes(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """The pass over the 16-bit rows of a space, which lie on the device."""
    first = Labels(sizes.labels[0])
    rows, queries = first.text(), first.images(max(sizes.batches))[0].astype(np.float64)
    moved = bandwidth(device, sizes is SMALL)
    centre = rows.mean(axis=0)
    short = to_bfloat16(rows - centre)
    few = queries[:8]
    logits = SCALE * few @ rows.T.astype(np.float64)
    top = logits.max(axis=1)
    log_z = top + np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1))
    for labels in sizes.labels:
        times = labels // len(rows)
        needed, free = times * short.nbytes + SCRATCH, free_bytes(device)
        if needed > free:
            print(f"{labels:,} labels left out: they take {needed:,} bytes, the GPU has {free:,}")
            continue
        segment = Segment(0, np.tile(short, (times, 1)), centre)
        exact = ExactRows.in_memory(np.tile(rows, (times, 1)))

        def run(queries: np.ndarray, segment: Segment = segment, exact: ExactRows = exact) -> Any:
            return streamed_rows([segment], exact, queries, SCALE, LEADERS, device=device)

        moments = run(few).moments
        error = float(np.abs(moments.log_z - np.log(times) - log_z).max())
        for batch in sizes.batches:
            seconds = best(lambda batch=batch: run(queries[:batch]), sizes.repeats)
            yield {
                "labels": labels,
                "batch": batch,
                "milliseconds": 1000 * seconds,
                "queries_per_second": batch / seconds,
                "share_of_bandwidth": segment.rows.nbytes / seconds / moved,
                "bandwidth_GB_per_second": moved / 1e9,
                "error_of_log_partition": error,
            }


def card() -> dict[str, Any] | None:
    """What torch says of the GPU; None without one."""
    import faiss
    import torch

    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(0)
    return {
        "gpu": about.name,
        "gpu_bytes": about.total_memory,
        "torch": torch.__version__,
        "faiss": faiss.__version__,
        "faiss_gpus": faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0,
    }


def show(name: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0], title=name)
    for row in rows:
        cells = (
            f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()
        )
        table.add_row(*cells)
    Console(width=160).print(table)


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--small", action="store_true", help="seconds, on a CPU as well")
    options = parser.parse_args()
    gpu, sizes = card(), SMALL if options.small else FULL
    if gpu is None and not options.small:
        print("skipped: torch sees no GPU on this machine (--small runs on a CPU)")
        return
    device = "cpu" if gpu is None else "cuda"
    report: dict[str, Any] = {**header("gpu"), "card": gpu or "none: a stand-in on the CPU"}
    with stand_in() if gpu is None else nullcontext():
        parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
            "parity": lambda: parity(sizes),
            "ivf": lambda: listed(sizes),
            "passes": lambda: passes(sizes, device),
            "pipeline": lambda: scored(sizes, device),
        }
        for name, part in parts.items():
            report[name] = list(part())
            if report[name]:
                show(name, report[name])
            store(options.json, report)  # what is measured stays if a later part fails


def scored(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Pictures in, verdicts out."""
    with tempfile.TemporaryDirectory() as name:
        small = sizes is SMALL
        yield pipeline.measured(sizes.scored, Path(name), sizes.repeats, device, small=small)


if __name__ == "__main__":
    main()
