"""Evaluating rules on labelled images: a table, JSON, an HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, as_json, details, row_writer, say
from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.printing.suggested import completed
from trustvlm.cli.reading.claims import claimed_option
from trustvlm.cli.reading.hold_out import hold_out_options
from trustvlm.cli.reading.labelled import LabelledOptions, labelled_options
from trustvlm.cli.reading.options import SPACE, file, flag, json_flag, number, text
from trustvlm.cli.session import Session
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import percent

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut
    from trustvlm.types.evaluation import Evaluation

_LABELS = 10

PAGE = "http://127.0.0.1:8000/"
"""Where 'trustvlm serve' listens unless it is told otherwise."""


def _percent(estimate: dict[str, Any]) -> str:
    return percent(estimate["value"])


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


def _standing(row: Mapping[str, Any]) -> str:
    """What a label's errors say of its image evidence."""
    from trustvlm.selective.report import STANDINGS

    return STANDINGS.get(row["standing"], str(row["standing"]))


PEERS = [
    Column("system", "system", "bold"),
    Column("AURC ×1000", lambda row: _interval(row["aurc"]), right=True),
    Column("source", "source", narrow="words"),
    Column("what differs here", "ours", narrow="words", rank=1),
]
FIXES = [
    Column("label", "label", "bold"),
    Column("error share", lambda row: percent(row["error_share"]), right=True),
    Column("what to do", "advice", narrow="words"),
    Column("why", "reason", narrow="words", rank=1),
    Column("command", lambda row: completed(row["command"]), narrow="words", rank=2),
]
LABELS = [
    Column("label", "label", "bold"),
    Column("error share", lambda row: percent(row["error_share"]), right=True),
    Column("given to", "predicted", right=True, rank=2),
    Column("wrong", lambda row: str(row["predicted"] - row["right"]), right=True, rank=3),
    Column("missed", lambda row: str(row["images"] - row["right"]), right=True, rank=4),
    Column("support images", "support_count", right=True, rank=1),
    Column("image evidence", _standing),
]


@click.command()
@SPACE
@labelled_options
@claimed_option
@hold_out_options(
    "Measure only on this share of the images of each label, those that 'trustvlm register' leaves "
    "out with the same option."
)
@click.option(
    "--rules", metavar="NAMES", help="Rules to compare, separated by commas.  [default: all]"
)
@number("--risk", default=0.05, help="Report how much can be accepted at this share of errors.")
@number("--coverage", default=0.8, help="Report the errors in this share, the most trusted images.")
@number(
    "--draws",
    default=5,
    help="Random parts of the support images, for the curve over their number; 0: no curve.",
)
@flag("--peers", help="Compare other systems, too: trust score, Tip-Adapter, a trained head …")
@file("--report", metavar="FILE.html", help="Write a page with answers, plots and pictures.")
@text(
    "--page",
    metavar="URL",
    help="Where the labels of the report link to: the address of 'trustvlm serve'.  [default: "
    f"--url, else {PAGE}]",
)
@json_flag(help="Print everything as JSON.")
@click.pass_obj
def evaluate(
    session: Session,
    /,
    space: str,
    labelled: LabelledOptions,
    split: HoldOut | None,
    claimed: str | None,
    rules: str | None,
    report: Path | None,
    page: str | None,
    json_: bool,
    **options: Any,
) -> None:
    """Compare the rules on labelled images.

    FOLDER has a sub-folder of images for each label; or it is a table (.csv, .tsv, .parquet, with
    the columns file and label) or a .tar shard. Shows which labels can be trusted, which are to be
    fixed and how, how well each rule tells right labels from wrong ones, and what support images
    are worth. Support images in FOLDER are left out. With --claimed, right is a claim that equals
    the true label.
    """
    if page is not None and report is None:
        raise click.UsageError("--page is for the labels of a report: add --report FILE.html.")
    if rules is not None:
        options["rules"] = [name.strip() for name in rules.split(",") if name.strip()]
    with session.reading() as service:
        images = labelled.read(service, space, split, claimed)
        options["sources"] = images.sources
        evaluation = service.evaluate(space, images.queries, images.truth, **options)
        evaluation = replace(evaluation, failures=images.unread())
        if report is not None:
            service.write_report(_placed(evaluation), report, page=page or session.url or PAGE)
    click.echo(as_json(evaluation.to_dict())) if json_ else _print(evaluation)
    if report is not None:
        note(f"report: {report}")


def _placed(evaluation: Evaluation) -> Evaluation:
    """The evaluation with --home or --url in the commands of its advice, where one was typed."""
    advice = (replace(one, command=completed(one.command)) for one in evaluation.label_advice)
    return replace(evaluation, label_advice=tuple(advice))


def _print(evaluation: Evaluation) -> None:
    from trustvlm.selective.advice import labels_in_words
    from trustvlm.selective.report import best_rule, in_words
    from trustvlm.types.verdicts import left_out_in_words

    values = evaluation.to_dict()
    shares = {"support images": evaluation.supports, "copies of others": evaluation.duplicates}
    shares["images of removed labels"] = evaluation.gone
    shares["images that could not be read"] = len(evaluation.failures)
    shares["images without a claim that is a label"] = evaluation.unclaimed
    out = ", ".join(f"{number:,} {what}" for what, number in shares.items() if number)
    out = f" (left out: {out})" if out else ""
    images = f"{count(evaluation.images, 'image')} of {count(evaluation.labels, 'label')}{out}"
    advice = evaluation.label_advice
    if evaluation.per_label:
        say(labels_in_words(evaluation.per_label, evaluation.risk, advice))
    say(f"{images}. {in_words(evaluation)}\n")
    if advice:
        row_writer("table", FIXES).write(values["label_advice"][:_LABELS])
        if len(advice) > _LABELS:
            click.echo(f"and {len(advice) - _LABELS:,} more; --json lists all")
        click.echo()
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
    if evaluation.peers:
        click.echo("\nOther systems, in small implementations after their papers:")
        row_writer("table", PEERS).write(values["peers"])
    worst = [row for row in values["per_label"] if row["right"] < row["predicted"]][:_LABELS]
    if worst:
        click.echo(
            "\nLabels with most errors, and whether image evidence helps to tell them from right "
            "answers:"
        )
        row_writer("table", LABELS).write(worst)
