"""Evaluating rules on labelled images: a table, JSON, an HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.commands.options import SPACE, file, json_flag, number
from trustvlm.cli.printing.formats import Column, as_json, details, row_writer, say
from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.reading.labelled import LabelledOptions, labelled_options
from trustvlm.cli.session import Session

if TYPE_CHECKING:
    from trustvlm.types.evaluation import Evaluation

__all__ = ["evaluate"]

_LABELS = 10


def _percent(estimate: dict[str, Any]) -> str:
    return "–" if estimate["value"] is None else f"{100 * estimate['value']:.1f} %"


def _interval(estimate: dict[str, Any], scale: float = 1000.0, unit: str = "") -> str:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None:
        return "–"
    interval = "" if low is None else f" [{scale * low:.1f}, {scale * high:.1f}]"
    return f"{scale * value:.1f}{unit}{interval}"


def _with_reason(estimate: dict[str, Any], scale: float, unit: str) -> str:
    reason = f" ({estimate['reason']})" if estimate["reason"] else ""
    return _interval(estimate, scale, unit) + reason


RULES = [
    Column("rule", "rule", "bold"),
    Column("looks at", "kind", rank=6),
    Column("accuracy", lambda row: _percent(row["accuracy"]), right=True),
    Column("AURC ×1000", lambda row: _interval(row["aurc"]), right=True),
    Column("against msp", lambda row: _interval(row["versus_msp"]), right=True, rank=2),
    Column("AUROC", lambda row: _percent(row["auroc"]), right=True, rank=1),
    Column("FPR95", lambda row: _percent(row["fpr95"]), right=True, rank=4),
    Column("coverage at risk", lambda row: _percent(row["coverage_at_risk"]), right=True, rank=3),
    Column(
        "ECE", lambda row: "–" if row["ece"] is None else f"{row['ece']:.3f}", right=True, rank=5
    ),
]

INTERVALS = {
    "accuracy": ("accuracy", 100.0, " %"),
    "AURC ×1000": ("aurc", 1000.0, ""),
    "against msp": ("versus_msp", 1000.0, ""),
    "AUROC": ("auroc", 100.0, " %"),
    "FPR95": ("fpr95", 100.0, " %"),
    "coverage at risk": ("coverage_at_risk", 100.0, " %"),
    "risk at coverage": ("risk_at_coverage", 100.0, " %"),
}
"""Heading → name of the estimate, its scale and unit."""

LABELS = [
    Column("label", "label", "bold"),
    Column("given to", "predicted", right=True, rank=2),
    Column("wrong", lambda row: str(row["predicted"] - row["right"]), right=True),
    Column("support images", "support_count", right=True, rank=1),
    Column("standing", "standing"),
]


@click.command()
@SPACE
@labelled_options
@click.option(
    "--rules", metavar="NAMES", help="Rules to compare, separated by commas.  [default: all]"
)
@number("--risk", default=0.05, help="Report the coverage at this risk.")
@number("--coverage", default=0.8, help="Report the risk at this coverage.")
@number("--draws", default=5, help="Draws of support images for the curve; 0: no curve.")
@file("--report", metavar="FILE.html", help="Write a page with plots and pictures.")
@json_flag(help="Print everything as JSON.")
@click.pass_obj
def evaluate(
    session: Session,
    /,
    space: str,
    labelled: LabelledOptions,
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
    if rules is not None:
        options["rules"] = [name.strip() for name in rules.split(",") if name.strip()]
    with session.reading() as service:
        images = labelled.read(service, space)
        options["sources"] = images.sources
        evaluation = service.evaluate(space, images.queries, images.truth, **options)
        if report is not None:
            service.write_report(evaluation, report)
    click.echo(as_json(evaluation.to_dict())) if json_ else _print(evaluation)
    if report is not None:
        note(f"report: {report}")


def _print(evaluation: Evaluation) -> None:
    from trustvlm.selective.report import best_rule, in_words
    from trustvlm.types.verdicts import left_out_in_words

    values = evaluation.to_dict()
    shares = {"support images": evaluation.supports, "copies of others": evaluation.duplicates}
    shares["images of removed labels"] = evaluation.gone
    out = ", ".join(f"{count} {what}" for what, count in shares.items() if count)
    out = f" (left out: {out})" if out else ""
    images = f"{evaluation.images} images of {evaluation.labels} labels{out}"
    say(f"{images}. {in_words(evaluation)}\n")
    row_writer("table", RULES).write(values["rules"])
    click.echo(f"ECE: {evaluation.ece_binning}")
    best = next(row for row in values["rules"] if row["rule"] == best_rule(evaluation))
    click.echo(f"\n{best['rule']}, with 95 % intervals:")
    details(
        {
            title: _with_reason(best[name], scale, unit)
            for title, (name, scale, unit) in INTERVALS.items()
        }
    )
    if evaluation.left_out:
        click.echo(f"not compared: {left_out_in_words(evaluation.left_out)}")
    worst = [row for row in values["per_label"] if row["right"] < row["predicted"]][:_LABELS]
    if worst:
        click.echo("\nLabels with most errors:")
        row_writer("table", LABELS).write(worst)
