"""An evaluation as one HTML page that asks nothing of the network."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trustvlm.selective.plots import (
    MAX_LABELS_SHOWN,
    label_chart,
    reliability_diagram,
    risk_coverage,
    shot_curve,
)
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
    return environment.from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    ).render(
        e=evaluation,
        answer=in_words(evaluation),
        left_out=left_out_in_words(evaluation.left_out),
        reasons=_reasons(evaluation),
        plots={
            name: None if plot is None else Markup(plot) for name, plot in plots.items()
        },  # matplotlib escapes
        pct=_percent,
        pct_of=_percent_of,
        milli=_thousandths,
        signed=_signed,
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
    best = best_rule(evaluation)
    outcome = evaluation[best]
    share = _percent(outcome.coverage_at_risk.value)
    words = f"{_percent(outcome.accuracy.value)} of the images are labelled rightly. "
    if outcome.coverage_at_risk.value > 0:
        words += (
            f"Accepting the {share} that {best} trusts most leaves "
            f"{_percent(evaluation.risk)} errors or fewer"
        )
    else:
        words += f"No threshold of {best} leaves {_percent(evaluation.risk)} errors or fewer"
    if evaluation.text and evaluation.text != best:
        alone = _percent(evaluation[evaluation.text].coverage_at_risk.value)
        words += f"; with {evaluation.text}, which looks at the text alone, it is {alone}"
    if outcome.coverage_at_risk.reason:
        words += (
            f". That is so on these images: {outcome.coverage_at_risk.reason} what it is on others"
        )
    return words + "."


def _wrong(item: WrongImage, support_image: Pictures, query_image: Pictures) -> dict[str, Any]:
    sides = [("like", item.label, item.evidence.label), ("rival", item.rival, item.evidence.rival)]
    return {
        "item": item,
        "image": _data(query_image(item.source)),
        "sides": [
            (
                side,
                name,
                [
                    {"similarity": near.similarity, "image": _data(support_image(near.id))}
                    for near in found
                ],
            )
            for side, name, found in sides
        ],
    }


def _data(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.3g} %"


def _reasons(evaluation: Evaluation) -> list[str]:
    """Why metrics have no interval, each reason once with the metrics it is of."""
    names = {
        "AUROC": "auroc",
        "FPR95": "fpr95",
        "against msp": "versus_msp",
        "coverage at risk": "coverage_at_risk",
    }
    outcome = evaluation[best_rule(evaluation)]
    found: dict[str, list[str]] = {}
    for name, field in names.items():
        reason = getattr(outcome, field).reason
        if reason is not None:
            found.setdefault(reason, []).append(name)
    return [f"{', '.join(of)} ({reason})" for reason, of in found.items()]


def _percent_of(value: Estimate) -> str:
    if math.isnan(value.value) or math.isnan(value.low):
        return _percent(value.value)
    return f"{_percent(value.value)} [{100 * value.low:.3g}, {100 * value.high:.3g}]"


def _thousandths(value: Estimate) -> str:
    return f"{1000 * value.value:.1f}" + _bounds(value, "")


def _signed(value: Estimate) -> str:
    return "–" if math.isnan(value.value) else f"{1000 * value.value:+.1f}" + _bounds(value, "+")


def _bounds(value: Estimate, sign: str) -> str:
    return (
        ""
        if math.isnan(value.low)
        else f" [{1000 * value.low:{sign}.1f}, {1000 * value.high:{sign}.1f}]"
    )
