"""The pictures of an evaluation, as SVG. matplotlib is imported where it is used: it takes a
second."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from trustvlm.types.evaluation import Evaluation, LabelOutcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["label_chart", "reliability_diagram", "risk_coverage", "shot_curve"]

# Okabe & Ito's palette: told apart by colour-blind eyes, too.
_TEXT, _IMAGE, _FUSED, _PAPER, _STAR = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
_DASHES = {_TEXT: "--", _IMAGE: ":", _FUSED: "-", _PAPER: "-.", _STAR: "-"}
MAX_LABELS_SHOWN = 30


def _lines(evaluation: Evaluation) -> dict[str, str]:
    """Rule → colour of the few that are drawn."""
    wanted = {
        evaluation.text: _TEXT,
        evaluation.image: _IMAGE,
        "trustvlm": _PAPER,
        evaluation.fused: _FUSED,
    }
    wanted |= {"posterior_star": _STAR}
    there = {outcome.rule for outcome in evaluation.rules}
    return {rule: colour for rule, colour in wanted.items() if rule in there and rule is not None}


def risk_coverage(evaluation: Evaluation) -> str:
    """How many of the accepted images are wrong, by how many are accepted."""

    def draw(axes: Axes) -> None:
        for rule, colour in _lines(evaluation).items():
            points = evaluation[rule].curve
            x, y = [100 * c for c, _ in points], [100 * r for _, r in points]
            axes.plot(
                x,
                y,
                _DASHES[colour],
                color=colour,
                linewidth=2.2 if rule == evaluation.fused else 1.6,
                label=rule,
            )
        axes.axhline(100 * evaluation.risk, color="#888888", linewidth=0.8)
        axes.annotate(
            f"{100 * evaluation.risk:g} % wrong",
            (1, 100 * evaluation.risk),
            va="bottom",
            color="#555555",
            fontsize=8,
        )
        axes.set(
            xlabel="accepted: share of all images, most trusted first (%)",
            ylabel="of these, wrong (%)",
        )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, None)
        axes.legend(frameon=False)

    return _svg(draw)


def reliability_diagram(evaluation: Evaluation) -> str | None:
    """Whether a probability of 80 % is right in 80 % of the cases; None without a rule that is a
    probability."""
    lines = {
        rule: colour for rule, colour in _lines(evaluation).items() if evaluation[rule].reliability
    }
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color="#888888", linewidth=0.8)
        axes.annotate("as it should be", (4, 8), color="#555555", fontsize=8, rotation=30)
        for rule, colour in lines.items():
            bins = evaluation[rule].reliability or ()
            x, y = [100 * p for p, _, _ in bins], [100 * a for _, a, _ in bins]
            axes.plot(x, y, _DASHES[colour], color=colour, marker="o", markersize=4, label=rule)
        axes.set(
            xlabel="probability that the rule gives (%)",
            ylabel="share that is right (%)",
            xlim=(0, 101),
            ylim=(0, 101),
        )
        axes.legend(frameon=False)

    return _svg(draw)


def shot_curve(evaluation: Evaluation) -> str | None:
    """AURC by the number of support images a label; None where it was not measured."""
    if not evaluation.shots:
        return None

    def draw(axes: Axes) -> None:
        numbers = sorted({point.shots for point in evaluation.shots})
        for rule, colour in _lines(evaluation).items():
            least = (
                1 if evaluation[rule].kind == "image" else 0
            )  # without support images such a rule says nothing
            points = [
                point for point in evaluation.shots if point.rule == rule and point.shots >= least
            ]
            if not points:
                continue
            x = [numbers.index(point.shots) for point in points]
            axes.fill_between(
                x,
                [1000 * p.low for p in points],
                [1000 * p.high for p in points],
                color=colour,
                alpha=0.18,
            )
            axes.plot(
                x,
                [1000 * p.mean for p in points],
                _DASHES[colour],
                color=colour,
                marker="o",
                markersize=4,
                label=rule,
            )
        axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
        axes.set(xlabel="support images a label", ylabel="AURC ×1000 (lower is better)")
        axes.set_ylim(0, None)
        axes.legend(frameon=False)

    return _svg(draw)


def label_chart(evaluation: Evaluation) -> str | None:
    """Share of wrong images among those that each label was given, the worst labels first; None
    when none is wrong."""
    shown = [label for label in evaluation.per_label if label.right < label.predicted][
        :MAX_LABELS_SHOWN
    ]
    if not shown:
        return None
    colours = {"profits": _FUSED, "stays untrustworthy": "#D55E00", "no support images": _IMAGE}

    def draw(axes: Axes) -> None:
        names = [_short(label.label) for label in shown]
        for place, label in enumerate(shown):
            wrong = 100 * (label.predicted - label.right) / label.predicted
            axes.barh(place, wrong, color=colours.get(label.standing, "#999999"), height=0.7)
            axes.annotate(
                f" {label.predicted - label.right} of {label.predicted}",
                (wrong, place),
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(shown)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, min(115, 1.25 * max(_wrong_share(label) for label in shown)))
        axes.set_xlabel("wrong among the images that were given this label (%)")
        named = {label.standing for label in shown}
        for standing in ("profits", "stays untrustworthy", "no support images", "as before"):
            if standing in named:
                axes.barh(0, 0, color=colours.get(standing, "#999999"), label=standing)
        axes.legend(frameon=False, loc="lower right")

    return _svg(draw, height=1.2 + 0.28 * len(shown))


def _wrong_share(label: LabelOutcome) -> float:
    return 100 * (label.predicted - label.right) / label.predicted


def _short(name: str) -> str:
    """A name that fits beside a bar, with nothing in it that matplotlib reads as mathematics."""
    return (name if len(name) <= 28 else name[:27] + "…").replace("$", r"\$")


def _svg(draw: Any, height: float = 3.8) -> str:
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
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    found = out.getvalue()
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", found[found.index("<svg") :], count=1)
