"""Nearest support images: our recipes against FAISS, usearch, hnswlib, LanceDB and Chroma, on one
thread at equal recall.

    pip install -e '.[bench]'
    python -m benchmarks.search [--full]

Compares 10,000 vectors; --full also 100,000, and a million of what is built in minutes. A
contestant that is not installed is skipped, with the reason.

Every contestant runs in a process of its own: adds all vectors, searches ever further until it
finds 95 % of the 10 nearest (where it can), and is timed one query at a time. Prints a table,
writes results/search.json and results/search.png.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.labels import memory
from benchmarks.report import ONE_THREAD, arguments, header, on_one_thread, store
from trustvlm.index.live import LiveIndex
from trustvlm.index.recall import Nearest
from trustvlm.index.recipe import load_recipe
from trustvlm.index.snapshot import write_snapshot
from trustvlm.index.snapshot_header import SnapshotKey

RESULTS = Path(__file__).parent / "results" / "search.json"
DIM, K, QUERIES, WANTED = 768, 10, 200, 0.95
EACH = 10  # support images a label
SHARES = {"common": 0.3, "group": 0.1, "sub-group": 0.15, "label": 0.2, "image": 0.25}
OURS = ("flat", "flat-fp16", "ivf-flat", "ivf-sq8", "hnsw")
PEERS = {
    "faiss": "faiss",
    "usearch": "usearch",
    "hnswlib": "hnswlib",
    "lancedb": "lancedb",
    "chroma": "chromadb",
}
SLOW = ("hnsw", "usearch", "hnswlib", "lancedb", "chroma")  # a million rows take many minutes each
BLOCK = 8_192
_ENERGY = np.sqrt(np.arange(1, DIM + 1, dtype=np.float32) ** -0.5)


def blocks(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Unit vectors of support images, ten a label, labels in groups of groups: as an image encoder
    arranges them."""

    def directions(many: int, *key: int) -> np.ndarray:
        result = (
            np.random.default_rng([7, *key]).standard_normal((many, DIM), dtype=np.float32)
            * _ENERGY
        )
        return result / np.linalg.norm(result, axis=1, keepdims=True)

    common, groups, within = directions(1, 1), directions(32, 2), directions(1_024, 3)
    for start in range(0, count, BLOCK):
        label = np.arange(start, min(start + BLOCK, count)) // EACH
        private = directions(BLOCK // EACH + 2, 4, start)[
            label - label[0]
        ]  # labels at a border differ a little: no matter
        image = directions(len(label), 5, start, seed)
        parts = (common, groups[label % 32], within[label % 1_024], private, image)
        rows = sum(
            np.float32(share**0.5) * part
            for share, part in zip(SHARES.values(), parts, strict=True)
        )
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prepare(folder: Path, count: int) -> None:
    """The vectors, the queries (new images of the same labels), and which rows are nearest to
    them."""
    with (folder / "rows.f32").open("wb") as file:
        for block in blocks(count):
            file.write(block.tobytes())
    every = max(1, count // QUERIES)
    queries = np.concatenate(
        [block[(-i * BLOCK) % every :: every] for i, block in enumerate(blocks(count, seed=1))]
    )[:QUERIES]
    rows = rows_of(folder)
    pieces = (
        (np.arange(at, min(at + BLOCK, count)), rows[at : at + BLOCK])
        for at in range(0, count, BLOCK)
    )
    truth, milliseconds = Nearest(queries, K), 0.0
    for ids, piece in pieces:
        begin = time.perf_counter()
        queries[:1] @ piece.T
        milliseconds += 1000 * (time.perf_counter() - begin)
        truth.show(ids, np.asarray(piece))
    np.savez(folder / "queries.npz", queries=queries, truth=truth.ids, exact=milliseconds)


def rows_of(folder: Path) -> np.ndarray:
    return np.memmap(folder / "rows.f32", np.float32, "r").reshape(-1, DIM)


Search = Callable[[np.ndarray, int], np.ndarray]
"""(one query (1, d), how far to search) → ids."""


class Contestant:
    """What is measured: `add` everything, `search` one query, `save` to a folder. `steps` are how
    far to search, in order."""

    steps: tuple[int, ...] = (0,)

    def add(self, rows: np.ndarray) -> None: ...
    def search(self, query: np.ndarray, step: int) -> np.ndarray: ...
    def save(self, folder: Path) -> None: ...


class Ours(Contestant):
    def __init__(self, name: str, folder: Path) -> None:
        self.recipe = load_recipe(name)
        if not self.recipe.exhaustive:
            self.steps = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048)

    def add(self, rows: np.ndarray) -> None:
        pieces = [
            (np.arange(at, min(at + BLOCK, len(rows))), rows[at : at + BLOCK])
            for at in range(0, len(rows), BLOCK)
        ]
        self.index = LiveIndex.build(self.recipe, DIM, len(rows), lambda: pieces)

    def search(self, query: np.ndarray, step: int) -> np.ndarray:
        view = self.index.view()
        if step:
            view = view.with_parameters({"nprobe": step, "efSearch": step})
        return view.search(query, K)[0][0]

    def save(self, folder: Path) -> None:
        key = SnapshotKey("benchmark", 1, 1, "x", "x", "x")
        write_snapshot(folder / "index", key, self.index.view().to_arrays())


class Faiss(Contestant):
    def __init__(self, name: str, folder: Path) -> None:
        import faiss

        self.faiss, self.index = faiss, faiss.IndexFlatIP(DIM)

    def add(self, rows: np.ndarray) -> None:
        for at in range(0, len(rows), BLOCK):
            self.index.add(np.asarray(rows[at : at + BLOCK]))

    def search(self, query: np.ndarray, step: int) -> np.ndarray:
        return self.index.search(query, K)[1][0]

    def save(self, folder: Path) -> None:
        self.faiss.write_index(self.index, str(folder / "index"))


class Usearch(Contestant):
    steps = (16, 32, 64, 96, 128, 192, 256, 512, 1024)

    def __init__(self, name: str, folder: Path) -> None:
        from usearch.index import Index

        self.index = Index(ndim=DIM, metric="ip", dtype="f32", connectivity=32, expansion_add=40)

    def add(self, rows: np.ndarray) -> None:
        for at in range(0, len(rows), BLOCK):
            block = np.asarray(rows[at : at + BLOCK])
            self.index.add(np.arange(at, at + len(block)), block, threads=1)

    def search(self, query: np.ndarray, step: int) -> np.ndarray:
        self.index.expansion_search = step
        return np.asarray(self.index.search(query[0], K, threads=1).keys, dtype=np.int64)

    def save(self, folder: Path) -> None:
        self.index.save(str(folder / "index"))


class Hnswlib(Contestant):
    steps = (16, 32, 64, 96, 128, 192, 256, 512, 1024)

    def __init__(self, name: str, folder: Path) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=DIM)

    def add(self, rows: np.ndarray) -> None:
        self.index.init_index(max_elements=len(rows), M=32, ef_construction=40)
        for at in range(0, len(rows), BLOCK):
            block = np.asarray(rows[at : at + BLOCK])
            self.index.add_items(block, np.arange(at, at + len(block)), num_threads=1)

    def search(self, query: np.ndarray, step: int) -> np.ndarray:
        self.index.set_ef(step)
        return self.index.knn_query(query, k=K, num_threads=1)[0][0].astype(np.int64)

    def save(self, folder: Path) -> None:
        self.index.save_index(str(folder / "index"))


class Lance(Contestant):
    """Its embedded database as its guide has it: IVF-PQ with refinement where there are enough
    rows, else a scan."""

    steps = (8, 16, 32, 64, 128, 256, 512)

    def __init__(self, name: str, folder: Path) -> None:
        import lancedb

        self.folder = folder
        self.database = lancedb.connect(str(folder))

    def add(self, rows: np.ndarray) -> None:
        import pyarrow as pa

        def batches() -> Iterator[pa.RecordBatch]:
            for at in range(0, len(rows), BLOCK):
                block = np.asarray(rows[at : at + BLOCK])
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), DIM)
                yield pa.RecordBatch.from_arrays(
                    [pa.array(np.arange(at, at + len(block))), vectors], schema=schema
                )

        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), DIM))])
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self.table = self.database.create_table("rows", reader)
        if len(rows) >= 10_000:
            lists = max(1, round(np.sqrt(len(rows))))
            self.table.create_index(
                "dot", num_partitions=lists, num_sub_vectors=DIM // 8, vector_column_name="vector"
            )

    def search(self, query: np.ndarray, step: int) -> np.ndarray:
        result = (
            self.table.search(query[0])
            .distance_type("dot")
            .nprobes(step)
            .refine_factor(10)
            .select(["id"])
            .limit(K)
        )
        return result.to_arrow()["id"].to_numpy()

    def save(self, folder: Path) -> None:
        pass  # it is on disk already


class Chroma(Contestant):
    steps = (16, 32, 64, 96, 128, 192, 256, 512)

    def __init__(self, name: str, folder: Path) -> None:
        import chromadb

        settings = chromadb.config.Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(str(folder), settings=settings)
        graph = {"space": "ip", "max_neighbors": 32, "ef_construction": 40, "num_threads": 1}
        self.rows = self.client.create_collection(
            "rows", embedding_function=None, configuration={"hnsw": graph}
        )
        self.step = 0

    def add(self, rows: np.ndarray) -> None:
        for at in range(0, len(rows), 4_096):
            block = np.asarray(rows[at : at + 4_096])
            self.rows.add(ids=[str(i) for i in range(at, at + len(block))], embeddings=block)

    def search(self, query: np.ndarray, step: int) -> np.ndarray:
        if step != self.step:
            self.rows.modify(configuration={"hnsw": {"ef_search": step}})
            self.step = step
        result = self.rows.query(query_embeddings=query, n_results=K, include=[])["ids"][0]
        return np.array([int(i) for i in result], dtype=np.int64)

    def save(self, folder: Path) -> None:
        pass  # it is on disk already


KINDS: dict[str, type[Contestant]] = {
    "faiss": Faiss, "usearch": Usearch, "hnswlib": Hnswlib, "lancedb": Lance, "chroma": Chroma,
}  # fmt: skip


def run_one(name: str, folder: Path) -> dict[str, Any]:
    """Child: everything about one contestant."""
    stored = np.load(folder / "queries.npz")
    queries, truth = stored["queries"], stored["truth"]
    rows = rows_of(folder)
    before = memory()["anonymous_mb"]
    with tempfile.TemporaryDirectory(dir=folder) as private:
        subject = KINDS.get(name, Ours)(name, Path(private))  # type: ignore[call-arg]
        begin = time.perf_counter()
        subject.add(rows)
        build = time.perf_counter() - begin
        result: dict[str, Any] = {}
        for step in subject.steps:
            got, taken = [], []
            subject.search(queries[:1], step)
            for query in queries:
                begin = time.perf_counter()
                got.append(subject.search(query[np.newaxis], step))
                taken.append(time.perf_counter() - begin)
            shares = [len(np.intersect1d(a, b)) / K for a, b in zip(got, truth, strict=True)]
            result = {
                "recall": float(np.mean(shares)),
                "ms": 1000 * float(np.median(taken)),
                "step": step,
            }
            if result["recall"] >= WANTED:
                break
        subject.save(Path(private))
        disk = sum(path.stat().st_size for path in Path(private).rglob("*") if path.is_file())
    return result | {
        "rows_per_second": len(rows) / build,
        "build_s": build,
        "disk_mb": disk / 1e6,
        "anonymous_mb": memory()["anonymous_mb"] - before,
    }


def missing(name: str) -> str | None:
    """Why a contestant cannot take part."""
    module = PEERS.get(name)
    if module is None or find_spec(module) is not None:
        return None
    return f"{module} is not installed: pip install -e '.[bench]'"


def measured(sizes: list[int], names: list[str]) -> list[dict[str, Any]]:
    result = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TRUSTVLM_SCRATCH")) as name:
            folder = Path(name)
            prepare(folder, size)
            exact = float(np.load(folder / "queries.npz")["exact"])
            for contender in names:
                row: dict[str, Any] = {"rows": size, "contestant": contender, "exact_ms": exact}
                why = missing(contender)
                if why is None and contender in SLOW and size > 100_000:
                    why = "left out at this size: it takes many minutes to build on one core"
                if why is not None:
                    result.append(row | {"skipped": why})
                    continue
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.search",
                    "--one",
                    contender,
                    "--folder",
                    name,
                ]
                done = subprocess.run(
                    command, capture_output=True, text=True, env=os.environ | ONE_THREAD
                )
                if done.returncode:
                    row["skipped"] = f"failed: {done.stderr.strip().splitlines()[-1][:200]}"
                else:
                    row |= json.loads(done.stdout.splitlines()[-1])
                result.append(row)
                print(result[-1], file=sys.stderr)
    return result


def show(report: dict[str, Any]) -> None:
    table = Table(
        title=f"The {K} nearest of N vectors of {DIM} dimensions, one thread, one query at a "
        f"time, recall ≥ {WANTED:g}"
    )
    for column in (
        "vectors",
        "contestant",
        "recall",
        "ms",
        "× exact",
        "rows/s in",
        "disk MB",
        "memory MB",
    ):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for row in report["rows"]:
        cells = [f"{row['rows']:,}", row["contestant"]]
        if "skipped" in row:
            table.add_row(*cells, *["–"] * 6)
            continue
        cells += [f"{row['recall']:.3f}", f"{row['ms']:.2f}", f"{row['exact_ms'] / row['ms']:.1f}"]
        table.add_row(
            *cells, *(f"{row[key]:,.0f}" for key in ("rows_per_second", "disk_mb", "anonymous_mb"))
        )
    console = Console(width=120)
    console.print(table)
    for row in report["rows"]:
        if "skipped" in row:
            console.print(f"{row['contestant']} at {row['rows']:,}: {row['skipped']}")


def plot(report: dict[str, Any], path: Path) -> None:
    """ms a query against N."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 4.4))
    for name in dict.fromkeys(row["contestant"] for row in report["rows"]):
        points = [
            (row["rows"], row["ms"])
            for row in report["rows"]
            if row["contestant"] == name and "ms" in row
        ]
        if points:
            ours = name in OURS
            axes.plot(
                *zip(*points, strict=True),
                marker="o",
                ms=3,
                lw=2.2 if ours else 1,
                ls="-" if ours else "--",
                label=name,
            )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="vectors",
        ylabel=f"ms a query, one thread, recall@{K} ≥ {WANTED:g}",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--full", action="store_true", help="10,000, 100,000 and a million vectors")
    parser.add_argument("--only", nargs="*", choices=[*OURS, *PEERS], help="these contestants")
    parser.add_argument("--one", choices=[*OURS, *PEERS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.folder)))
        return
    on_one_thread("search")
    report: dict[str, Any] = {**header("search")}
    sizes = [10_000, 100_000, 1_000_000] if options.full else [10_000]
    report["rows"] = measured(sizes, options.only or [*OURS, *PEERS])
    show(report)
    store(options.json, report)
    plot(report, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
