"""The plots of an evaluation, as SVG. matplotlib is imported where it is used: it takes a
second."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from trustvlm.types.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe & Ito: colour-blind eyes tell it apart.
_TEXT, _IMAGE, _FUSED, _PAPER, _STAR = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
_DASHES = {_TEXT: "--", _IMAGE: ":", _FUSED: "-", _PAPER: "-.", _STAR: "-"}
_GREY = "#999999"
_MORE = ("#D55E00", "#7B4AA8", "#3D3D3D", "#8C6D1F")
"""Colours of winners that have none of these."""

_COVERAGES = tuple(percent / 100 for percent in range(1, 101))


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
