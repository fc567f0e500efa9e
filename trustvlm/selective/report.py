"""An evaluation as one HTML page that asks nothing of the network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trustvlm.selective.plots import (
    MAX_LABELS_SHOWN,
    label_chart,
    reliability_diagram,
    risk_coverage,
    shot_curve,
)
from trustvlm.types import Neighbour
from trustvlm.types.evaluation import Estimate, Evaluation, WrongImage
from trustvlm.types.verdicts import left_out_in_words

__all__ = ["best_rule", "in_words", "render_html"]

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_NAMES = 20

Pictures = Callable[[Any], bytes | None]


def render_html(
    evaluation: Evaluation,
    *,
    support_image: Pictures = lambda _: None,
    query_image: Pictures = lambda _: None,
) -> str:
    """The page.

    Args:
        support_image: id of a support image → its JPEG thumbnail, or None. query_image: source of
            an evaluated image → JPEG, or None where it is no file that can be read.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    plots = {
        "risk_coverage": risk_coverage(evaluation),
        "reliability": reliability_diagram(evaluation),
        "shots": shot_curve(evaluation),
        "labels": label_chart(evaluation),
    }
    bare = [label.label for label in evaluation.per_label if not label.support_count]
    with_errors = sum(label.right < label.predicted for label in evaluation.per_label)
    environment = Environment(autoescape=True, trim_blocks=True)  # names may hold anything
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        e=evaluation,
        answer=in_words(evaluation),
        left_out=left_out_in_words(evaluation.left_out),
        reasons=_reasons(evaluation),
        # matplotlib escapes
        plots={name: None if plot is None else Markup(plot) for name, plot in plots.items()},
        pct=_percent,
        pct_of=_percent_of,
        milli=_thousandths,
        signed=lambda estimate: _thousandths(estimate, "+"),
        more_labels=max(0, with_errors - MAX_LABELS_SHOWN),
        bare=bare[:_NAMES],
        bare_more=max(0, len(bare) - _NAMES),
        wrong=[_wrong(item, support_image, query_image) for item in evaluation.wrong],
    )


def best_rule(evaluation: Evaluation) -> str:
    """The rule that the finding is about: the fused one, else the one on images, else the one on
    text."""
    return evaluation.fused or evaluation.image or evaluation.text or evaluation.rules[0].rule


def in_words(evaluation: Evaluation) -> str:
    """The finding in two sentences, and a third where the images are too few to say more."""
    best, text = best_rule(evaluation), evaluation.text
    outcome, errors = evaluation[best], f"at most {_percent(evaluation.risk)} errors"
    coverage = outcome.coverage_at_risk
    words = f"{_percent(outcome.accuracy.value)} of the images are labelled rightly. "
    if coverage.value > 0:
        words += f"Accepting the {_percent(coverage.value)} that {best} trusts most leaves {errors}"
    else:
        words += f"No threshold of {best} leaves {errors}"
    if text and text != best:
        alone = _percent(evaluation[text].coverage_at_risk.value)
        words += f"; with {text}, which looks at the text alone, it is {alone}"
    if coverage.reason:
        words += f". That is so on these images: {coverage.reason} what it is on others"
    return words + "."


def _wrong(item: WrongImage, support_image: Pictures, query_image: Pictures) -> dict[str, Any]:
    def pictured(images: Sequence[Neighbour]) -> list[dict[str, Any]]:
        return [
            {"similarity": one.similarity, "image": _data(support_image(one.id))} for one in images
        ]

    return {
        "item": item,
        "image": _data(query_image(item.source)),
        "sides": [
            ("like", item.label, pictured(item.evidence.label)),
            ("rival", item.rival, pictured(item.evidence.rival)),
        ],
    }


def _data(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _reasons(evaluation: Evaluation) -> list[str]:
    """Why metrics have no interval, each reason once with the metrics it is of."""
    outcome = evaluation[best_rule(evaluation)]
    estimates = {
        "AUROC": outcome.auroc, "FPR95": outcome.fpr95, "against msp": outcome.versus_msp,
        "coverage at risk": outcome.coverage_at_risk,
    }  # fmt: skip
    metrics: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        if estimate.reason is not None:
            metrics.setdefault(estimate.reason, []).append(name)
    return [f"{', '.join(names)} ({reason})" for reason, names in metrics.items()]


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.3g} %"


def _percent_of(estimate: Estimate) -> str:
    if math.isnan(estimate.value) or math.isnan(estimate.low):
        return _percent(estimate.value)
    return f"{_percent(estimate.value)} [{100 * estimate.low:.3g}, {100 * estimate.high:.3g}]"


def _thousandths(estimate: Estimate, sign: str = "") -> str:
    if math.isnan(estimate.value):
        return "–"
    value, low, high = (
        f"{1000 * number:{sign}.1f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"
