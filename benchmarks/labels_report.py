"""How the figures of :mod:`benchmarks.labels` are summed up, drawn and printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import DIM

__all__ = ["headline", "plot", "show"]


def headline(report: dict[str, Any]) -> dict[str, float]:
    """The figures that have a bar, from the rows of a report."""
    ms = {
        (row["labels"], row["contestant"], int(batch)): t
        for row in report["rows"]
        for batch, t in row["ms"].items()
    }
    figures = {}
    for size in sorted({key[0] for key in ms}):
        rate = size * DIM * 2 / ms[size, "ours", 1] / 1e6
        figures[f"1 query, {size:,} labels: share of read bandwidth"] = (
            rate / report["limits"]["read_gb_s"]
        )
        for batch, pair in report["paired"][str(size)].items():
            what = f"{batch} queries, {size:,} labels: {pair['against']} / ours, in turn"
            figures[what] = pair["best"]
    if {100_000, 1_000_000} <= {key[0] for key in ms}:
        for batch in sorted({key[2] for key in ms}):
            figures[f"{batch} queries: 1e6 / 1e5"] = (
                ms[1_000_000, "ours", batch] / ms[100_000, "ours", batch]
            )
    worst = [of[what] for size in report["errors"].values() for of in size.values() for what in of]
    figures["largest error of top probability and log-partition"] = max(worst)
    return figures


def plot(report: dict[str, Any], contestants: Mapping[str, str], path: Path) -> None:
    """ms a query against N."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True)
    for axis, batch in zip(axes, (1, 256), strict=True):
        for contender, what in contestants.items():
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


def show(report: dict[str, Any], batches: Sequence[int]) -> None:
    """Print the figures."""
    console = Console(width=128)
    table = Table(title=f"A pass over N labels of {DIM} dimensions on one thread, ms")
    for column in (
        "labels",
        "contestant",
        *(f"{batch} queries" for batch in batches),
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
            f"{row['ms'][str(batch)]:.2f}" if str(batch) in row["ms"] else "–" for batch in batches
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
