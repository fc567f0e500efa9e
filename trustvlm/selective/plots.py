"""The plots of an evaluation, as SVG. matplotlib is imported where it is used: it takes a
second."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from trustvlm.types.evaluation import Evaluation, LabelOutcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_LABELS_SHOWN", "label_chart", "reliability_diagram", "risk_coverage", "shot_curve"]

MAX_LABELS_SHOWN = 30

# The palette of Okabe & Ito: colour-blind eyes tell it apart.
_TEXT, _IMAGE, _FUSED, _PAPER, _STAR = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
_DASHES = {_TEXT: "--", _IMAGE: ":", _FUSED: "-", _PAPER: "-.", _STAR: "-"}
_GREY = "#999999"
_STANDINGS = {
    "profits": _FUSED,
    "stays untrustworthy": "#D55E00",
    "no support images": _IMAGE,
    "as before": _GREY,
}


def risk_coverage(evaluation: Evaluation) -> str:
    """How many of the accepted images are wrong, by how many are accepted."""

    def draw(axes: Axes) -> None:
        for rule, colour in _colours(evaluation).items():
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


def label_chart(evaluation: Evaluation) -> str | None:
    """Share of wrong images among those that each label was given, the worst labels first; None
    when none is wrong."""
    shown = [one for one in evaluation.per_label if one.right < one.predicted][:MAX_LABELS_SHOWN]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for place, label in enumerate(shown):
            share, wrong = _wrong_share(label), label.predicted - label.right
            axes.barh(place, share, color=_STANDINGS.get(label.standing, _GREY), height=0.7)
            text = f" {wrong} of {label.predicted}"
            axes.annotate(text, (share, place), va="center", fontsize=8)
        axes.set_yticks(range(len(shown)), [_short(label.label) for label in shown])
        axes.invert_yaxis()
        axes.set_xlim(0, min(115, 1.25 * max(map(_wrong_share, shown))))
        axes.set_xlabel("wrong among the images that were given this label (%)")
        standings = {label.standing for label in shown}
        for standing, colour in _STANDINGS.items():
            if standing in standings:
                axes.barh(0, 0, color=colour, label=standing)

    return _svg(draw, height=1.2 + 0.28 * len(shown))


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
    axes.plot(*percent, _DASHES[colour], color=colour, label=rule, **style)


def _wrong_share(label: LabelOutcome) -> float:
    return 100 * (label.predicted - label.right) / label.predicted


def _short(name: str) -> str:
    """A name that fits beside a bar, with nothing in it that matplotlib reads as mathematics."""
    return (name if len(name) <= 28 else name[:27] + "…").replace("$", r"\$")


def _svg(draw: Callable[[Axes], None], height: float = 3.8) -> str:
    """The SVG of one figure; text stays text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "trustvlm", "font.size": 10}):
        figure = Figure(figsize=(6.4, height), layout="constrained")
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
