"""Evaluating rules on labelled images: a table, JSON, an HTML report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, as_json, details, row_writer, say
from trustvlm.cli.printing.safe_text import note, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.reading.labelled import labelled_images, labelled_options
from trustvlm.cli.session import Session
from trustvlm.reading.naming import Naming

if TYPE_CHECKING:
    from trustvlm.types.evaluation import Evaluation

__all__ = ["evaluate"]

_LABELS = 10


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(estimate: dict[str, Any], scale: float = 1000.0, unit: str = "") -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{scale * value:.1f}{unit}" + (
        "" if low is None else f" [{scale * low:.1f}, {scale * high:.1f}]"
    )


def _with_reason(estimate: dict[str, Any], scale: float = 100.0, unit: str = " %") -> str:
    return _interval(estimate, scale, unit) + (
        f" ({estimate['reason']})" if estimate["reason"] else ""
    )


RULE_COLUMNS = [
    Column("rule", lambda row: row["rule"], lambda row: "bold"),
    Column("looks at", lambda row: row["kind"], rank=6),
    Column("accuracy", lambda row: _percent(row["accuracy"]["value"]), right=True),
    Column("AURC ×1000", lambda row: _interval(row["aurc"]), right=True),
    Column("against msp", lambda row: _interval(row["versus_msp"]), right=True, rank=2),
    Column("AUROC", lambda row: _percent(row["auroc"]["value"]), right=True, rank=1),
    Column("FPR95", lambda row: _percent(row["fpr95"]["value"]), right=True, rank=4),
    Column(
        "coverage at risk",
        lambda row: _percent(row["coverage_at_risk"]["value"]),
        right=True,
        rank=3,
    ),
    Column(
        "ECE", lambda row: "–" if row["ece"] is None else f"{row['ece']:.3f}", right=True, rank=5
    ),
]

INTERVALS: dict[str, Callable[[dict[str, Any]], str]] = {
    "accuracy": lambda row: _with_reason(row["accuracy"]),
    "AURC ×1000": lambda row: _with_reason(row["aurc"], 1000.0, ""),
    "against msp": lambda row: _with_reason(row["versus_msp"], 1000.0, ""),
    "AUROC": lambda row: _with_reason(row["auroc"]),
    "FPR95": lambda row: _with_reason(row["fpr95"]),
    "coverage at risk": lambda row: _with_reason(row["coverage_at_risk"]),
    "risk at coverage": lambda row: _with_reason(row["risk_at_coverage"]),
}

LABEL_COLUMNS = [
    Column("label", lambda row: row["label"], lambda row: "bold"),
    Column("given to", lambda row: str(row["predicted"]), right=True, rank=2),
    Column("wrong", lambda row: str(row["predicted"] - row["right"]), right=True),
    Column("support images", lambda row: str(row["support_count"]), right=True, rank=1),
    Column("standing", lambda row: row["standing"]),
]


@click.command()
@click.argument("space", type=utf8)
@labelled_options
@click.option(
    "--rules", metavar="NAMES", help="Rules to compare, separated by commas.  [default: all]"
)
@click.option(
    "--risk",
    type=Bounded("risk"),
    default=0.05,
    show_default=True,
    help="Report the coverage at this risk.",
)
@click.option(
    "--coverage",
    type=Bounded("coverage"),
    default=0.8,
    show_default=True,
    help="Report the risk at this coverage.",
)
@click.option(
    "--draws",
    type=Bounded("draws"),
    default=5,
    show_default=True,
    help="Draws of support images for the curve; 0: no curve.",
)
@click.option(
    "--report",
    metavar="FILE.html",
    type=click.Path(path_type=Path),
    help="Write a page with plots and pictures.",
)
@click.option("--json", "json_", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def evaluate(
    session: Session,
    /,
    space: str,
    folder: Path | None,
    vectors: Path | None,
    no_label: tuple[str, ...],
    naming: Naming,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    rules: str | None,
    report: Path | None,
    json_: bool,
    **options: Any,
) -> None:
    """Compare the rules on labelled images.

    FOLDER has a sub-folder of images for each label. Shows how well each rule tells right labels
    from wrong ones, which labels stay untrustworthy, and what support images are worth. Support
    images in FOLDER are left out.
    """
    names = None if rules is None else [name.strip() for name in rules.split(",") if name.strip()]
    with session.reading() as service:
        images = labelled_images(
            service, space, folder, vectors, no_label, naming, exclude, reading
        )
        found = service.evaluate(
            space, images.queries, images.truth, rules=names, sources=images.sources, **options
        )
        if report is not None:
            service.write_report(found, report)
    if json_:
        click.echo(as_json(found.to_dict()))
    else:
        _print(found)
    if report is not None:
        note(f"report: {report}")


def _print(found: Evaluation) -> None:
    from trustvlm.selective.report import best_rule, in_words
    from trustvlm.types.verdicts import left_out_in_words

    values = found.to_dict()
    out = {
        "support images": found.supports,
        "copies of others": found.duplicates,
        "images of removed labels": found.gone,
    }
    left_out = ", ".join(f"{count} {what}" for what, count in out.items() if count)
    left_out = f" (left out: {left_out})" if left_out else ""
    say(f"{found.images} images of {found.labels} labels{left_out}. {in_words(found)}\n")
    row_writer("table", RULE_COLUMNS).write(values["rules"])
    click.echo(f"ECE: {found.ece_binning}")
    best = next(row for row in values["rules"] if row["rule"] == best_rule(found))
    click.echo(f"\n{best['rule']}, with 95 % intervals:")
    details({name: shown(best) for name, shown in INTERVALS.items()})
    if found.left_out:
        click.echo(f"not compared: {left_out_in_words(found.left_out)}")
    worst = [row for row in values["per_label"] if row["right"] < row["predicted"]][:_LABELS]
    if worst:
        click.echo("\nLabels with most errors:")
        row_writer("table", LABEL_COLUMNS).write(worst)
