"""An evaluation as one HTML page that asks nothing of the network."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from trustvlm.errors import InvalidInput
from trustvlm.selective.advice import labels_in_words
from trustvlm.selective.plots import reliability_diagram, risk_coverage, shot_curve, winners
from trustvlm.types import Neighbour
from trustvlm.types.evaluation import Estimate, Evaluation, LabelOutcome, WrongImage
from trustvlm.types.tables.probability import chance, percent
from trustvlm.types.verdicts import left_out_in_words

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_FIXES, _LABELS, _PAIRS, _NAMES = 20, 30, 20, 20  # rows that are shown

STANDINGS = {
    "profits": "helps",
    "as before": "changes little",
    "stays untrustworthy": "does not help enough",
}
"""What the images show about the trust in a label → what that says of its image evidence."""

Pictures = Callable[[Any], bytes | None]


def render_html(
    evaluation: Evaluation,
    *,
    support_image: Pictures = lambda _: None,
    query_image: Pictures = lambda _: None,
    page: str | None = None,
) -> str:
    """The page.

    Args:
        support_image: id of a support image → its JPEG thumbnail, or None. query_image: source of
            an evaluated image → JPEG, or None where it is no file that can be read.
        page: address of the page of a service, which names of labels link to.

    Raises:
        InvalidInput: `page` is no address.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    page = None if page is None else _address(page)
    plots = {
        "risk_coverage": risk_coverage(evaluation),
        "reliability": reliability_diagram(evaluation),
        "shots": shot_curve(evaluation),
    }
    bare = [label.label for label in evaluation.per_label if not label.support_count]
    fused = evaluation.fused
    environment = Environment(autoescape=True, trim_blocks=True)  # names may hold anything
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        e=evaluation,
        labels_answer=_labels_answer(evaluation),
        answer=in_words(evaluation),
        left_out=left_out_in_words(evaluation.left_out),
        reasons=_reasons(evaluation),
        # matplotlib escapes
        plots={name: None if plot is None else Markup(plot) for name, plot in plots.items()},
        page=page,
        link=partial(_link, page or "", evaluation.space),
        fixes=evaluation.label_advice[:_FIXES],
        labels=sorted(evaluation.per_label, key=_worst_first)[:_LABELS],
        confusions=evaluation.confusions[:_PAIRS],
        best_keeping=_winners(evaluation, correcting=False),
        best_correcting=_winners(evaluation, correcting=True),
        standings=STANDINGS,
        own_probability=fused is not None and evaluation[fused].reliability is not None,
        share=percent,
        chance=chance,
        width=lambda share: "0" if math.isnan(share) else f"{100 * share:.1f}%",
        shell=shlex.quote,
        pct=_setting,
        pct_of=_percent_of,
        milli=_thousandths,
        signed=lambda estimate: _thousandths(estimate, "+"),
        bare=bare[:_NAMES],
        bare_more=max(0, len(bare) - _NAMES),
        wrong=[_wrong(item, support_image, query_image) for item in evaluation.wrong],
    )


def _address(page: str) -> str:
    """The address with one slash behind it and without a password. Raises InvalidInput: it is none
    of a web page."""
    parts = urlsplit(page) if isinstance(page, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInput(
            f"page: expected the address of a service, such as http://127.0.0.1:8000/, got "
            f"{page!r:.100}"
        )
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/"


def _link(page: str, space: str, label: str) -> str:
    """The address of a label on the page."""
    return f"{page}#/{quote(space, safe='')}/labels/{quote(label, safe='')}"


def _labels_answer(evaluation: Evaluation) -> str:
    """Which labels can be trusted, and which are to be fixed; nothing where no rule keeps
    labels."""
    if not evaluation.per_label:
        return ""
    return labels_in_words(evaluation.per_label, evaluation.risk, evaluation.label_advice)


def _worst_first(label: LabelOutcome) -> tuple[float, int, str]:
    share = -1.0 if math.isnan(label.error_share) else label.error_share
    return -share, -label.predicted, label.label


def _winners(evaluation: Evaluation, *, correcting: bool) -> str:
    shares = winners(evaluation, correcting=correcting).items()
    return ", ".join(f"{rule} ({percent(share, 0)} of the coverages)" for rule, share in shares)


def best_rule(evaluation: Evaluation) -> str:
    """The rule that the finding is about: the fused one, else the one on images, else the one on
    text."""
    return evaluation.fused or evaluation.image or evaluation.text or evaluation.rules[0].rule


def in_words(evaluation: Evaluation) -> str:
    """The finding in two sentences, and a third where the images are too few to say more."""
    best, text = best_rule(evaluation), evaluation.text
    outcome, errors = evaluation[best], f"at most {_setting(evaluation.risk)} errors"
    coverage = outcome.coverage_at_risk
    words = f"{percent(outcome.accuracy.value)} of the images are labelled rightly. "
    if coverage.value > 0:
        words += f"Accepting the {percent(coverage.value)} that {best} trusts most leaves {errors}"
    else:
        words += f"No threshold of {best} leaves {errors}"
    if text and text != best:
        alone = percent(evaluation[text].coverage_at_risk.value)
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


def _setting(share: float) -> str:
    """A share that was asked for, with no more digits than it needs."""
    return f"{100 * share:g} %"


def _percent_of(estimate: Estimate) -> str:
    if math.isnan(estimate.value) or math.isnan(estimate.low):
        return percent(estimate.value)
    return f"{percent(estimate.value)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _thousandths(estimate: Estimate, sign: str = "") -> str:
    if math.isnan(estimate.value):
        return "–"
    value, low, high = (
        f"{1000 * number:{sign}.1f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"
