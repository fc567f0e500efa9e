"""An evaluation as one HTML page that asks nothing of the network, with plots as SVG. matplotlib is
imported where it is used: it takes a second."""

from __future__ import annotations

import base64
import io
import math
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from trustvlm.errors import InvalidInput
from trustvlm.selective.advice import labels_in_words
from trustvlm.types import Neighbour
from trustvlm.types.evaluation import Estimate, Evaluation, LabelOutcome, WrongImage
from trustvlm.types.tables.probability import chance, percent
from trustvlm.types.verdicts import left_out_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_FIXES, _LABELS, _PAIRS, _NAMES = 20, 30, 20, 20  # rows that are shown

STANDINGS = {
    "profits": "helps",
    "as before": "changes little",
    "stays untrustworthy": "does not help enough",
}
"""What the images show about the trust in a label → what that says of its image evidence."""

Pictures = Callable[[Any], bytes | None]

# The palette of Okabe & Ito: colour-blind eyes tell it apart.
_TEXT, _IMAGE, _FUSED, _PAPER, _STAR = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
_DASHES = {_TEXT: "--", _IMAGE: ":", _FUSED: "-", _PAPER: "-.", _STAR: "-"}
_GREY = "#999999"
_MORE = ("#D55E00", "#7B4AA8", "#3D3D3D", "#8C6D1F")
"""Colours of winners that have none of these."""

_COVERAGES = tuple(percent / 100 for percent in range(1, 101))


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


def winners(evaluation: Evaluation, *, correcting: bool) -> dict[str, float]:
    """Rule → share of the coverages, from 1 % to 100 %, at which fewest of the accepted are wrong,
    of those rules that keep labels, or of those that may correct them (starred). Where several are
    equal, the one of least AURC."""
    import numpy as np

    rules = [one for one in evaluation.rules if one.rule.endswith("_star") == correcting]
    if not rules:
        return {}
    curves = [np.array(one.curve).T for one in rules]
    risks = np.array([np.interp(_COVERAGES, coverage, risk) for coverage, risk in curves])
    best = np.argmax(risks <= risks.min(axis=0) + 1e-9, axis=0)
    places, counts = np.unique(best, return_counts=True)
    shares = {rules[i].rule: n / len(best) for i, n in zip(places, counts.tolist(), strict=True)}
    return dict(sorted(shares.items(), key=lambda one: -one[1]))


def risk_coverage(evaluation: Evaluation) -> str:
    """How many of the accepted images are wrong, by how many are accepted: each rule that is best
    somewhere, and the rules on text and on both, in colour; the others in grey."""

    def draw(axes: Axes) -> None:
        coloured = _coloured(evaluation)
        others = [one for one in evaluation.rules if one.rule not in coloured]
        for place, one in enumerate(others):
            name = "_" if place else "other rules"
            _line(axes, name, _GREY, one.curve, linewidth=0.7)
        for rule, colour in coloured.items():
            width = 2.2 if rule == evaluation.fused else 1.6
            _line(axes, rule, colour, evaluation[rule].curve, linewidth=width)
        limit = 100 * evaluation.risk
        axes.axhline(limit, color="#888888", linewidth=0.8)
        axes.annotate(f"{limit:g} % wrong", (1, limit), va="bottom", color="#555555", fontsize=8)
        axes.set(
            xlabel="accepted: share of all images, most trusted first (%)",
            ylabel="of these, wrong (%)",
            xlim=(0, 100),
            ylim=(0, None),
        )

    return _svg(draw)


def reliability_diagram(evaluation: Evaluation) -> str | None:
    """Whether a probability of 80 % is right in 80 % of the cases; None without a rule that is a
    probability."""
    bins = {rule: evaluation[rule].reliability or () for rule in _colours(evaluation)}
    if not any(bins.values()):
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color="#888888", linewidth=0.8)
        axes.annotate("as it should be", (4, 8), color="#555555", fontsize=8, rotation=30)
        for rule, colour in _colours(evaluation).items():
            if bins[rule]:
                points = ((probability, right) for probability, right, _ in bins[rule])
                _line(axes, rule, colour, points, marker="o", markersize=4)
        axes.set(
            xlabel="probability that the rule gives (%)",
            ylabel="share that is right (%)",
            xlim=(0, 101),
            ylim=(0, 101),
        )

    return _svg(draw)


def shot_curve(evaluation: Evaluation) -> str | None:
    """AURC by the number of support images a label; None where it was not measured."""
    if not evaluation.shots:
        return None
    numbers = sorted({point.shots for point in evaluation.shots})

    def draw(axes: Axes) -> None:
        for rule, colour in _colours(evaluation).items():
            # Without support images a rule on images alone says nothing.
            least = 1 if evaluation[rule].kind == "image" else 0
            points = [p for p in evaluation.shots if p.rule == rule and p.shots >= least]
            if points:
                x = [numbers.index(point.shots) for point in points]
                low, high = ([1000 * getattr(p, end) for p in points] for end in ("low", "high"))
                axes.fill_between(x, low, high, color=colour, alpha=0.18)
                mean = [1000 * point.mean for point in points]
                marks: dict[str, Any] = {"marker": "o", "markersize": 4}
                axes.plot(x, mean, _DASHES[colour], color=colour, label=rule, **marks)
        axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
        axes.set(
            xlabel="support images a label", ylabel="AURC ×1000 (lower is better)", ylim=(0, None)
        )

    return _svg(draw)


def _coloured(evaluation: Evaluation) -> dict[str, str]:
    """Rule → colour of those that are highlighted in the curves of risk and coverage."""
    best = [*winners(evaluation, correcting=False), *winners(evaluation, correcting=True)]
    named = [rule for rule in (evaluation.text, evaluation.fused) if rule is not None]
    colours = _colours(evaluation)
    more = iter(_MORE)
    chosen = {rule: colours.get(rule) or next(more, None) for rule in dict.fromkeys(named + best)}
    return {rule: colour for rule, colour in chosen.items() if colour is not None}


def _colours(evaluation: Evaluation) -> dict[str, str]:
    """Rule → colour of the few that are drawn."""
    colours = {
        evaluation.text: _TEXT, evaluation.image: _IMAGE, "trustvlm": _PAPER,
        evaluation.fused: _FUSED, "posterior_star": _STAR,
    }  # fmt: skip
    rules = {outcome.rule for outcome in evaluation.rules}
    return {rule: colour for rule, colour in colours.items() if rule is not None and rule in rules}


def _line(
    axes: Axes, rule: str, colour: str, points: Iterable[tuple[float, float]], **style: Any
) -> None:
    """A rule's line through points of two shares."""
    x, y = zip(*points, strict=True)
    percent = [[100 * value for value in values] for values in (x, y)]
    axes.plot(*percent, _DASHES.get(colour, "-"), color=colour, label=rule, **style)


def _svg(draw: Callable[[Axes], None]) -> str:
    """The SVG of one figure; text stays text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "trustvlm", "font.size": 10}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg[svg.index("<svg") :], count=1)
