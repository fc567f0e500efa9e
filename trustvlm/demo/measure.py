"""The demo's measurement: ten labels registered one at a time, held-out images scored under every
rule of the paper."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.demo.data import LABELS, label_images
from trustvlm.demo.specs import MODELS, SPACE, TEMPLATES, classifier_spec, verifier_spec
from trustvlm.errors import Conflict, NotFound
from trustvlm.selective.metrics import aurc, auroc, fpr_at_tpr
from trustvlm.types import LabelInput, Queries, Verdicts
from trustvlm.types.arrays import Int64s, Objects

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types.calibration import Calibration
    from trustvlm.types.evaluation import Evaluation

RULES_SHOWN = ("msp", "image", "trustvlm", "trustvlm_star", "posterior", "posterior_star")

MAX_RISK, CONFIDENCE = 0.05, 0.9
"""What the demo asks its calibration to promise."""


@dataclass(frozen=True)
class Figures:
    """What one rule achieves, as fractions in [0, 1]; NaN where a figure is undefined because no
    prediction is wrong."""

    accuracy: float
    aurc: float
    auroc: float
    fpr95: float


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out images, encoded once.

    Attributes:
        queries: their embeddings by both encoders.
        paths: (n,) their files.
        truth: (n,) object array of their label names.
    """

    queries: Queries
    paths: tuple[Path, ...]
    truth: Objects


def prepare_space(service: TrustService, models: Path = MODELS) -> bool:
    """Make the space of the digits, unless it is there already; return whether it was made.

    Raises:
        Conflict: there is a space of that name with other encoders or templates.
    """
    classifier, verifier = classifier_spec(models), verifier_spec(models)
    try:
        space = service.get_space(SPACE)
    except NotFound:
        service.create_space(
            SPACE, classifier=classifier, verifier=verifier, templates=list(TEMPLATES)
        )
        return True
    if (space.classifier, space.verifier, space.templates) != (classifier, verifier, TEMPLATES):
        raise Conflict(
            f"this home has a space {SPACE!r} already, and it is not this demo's (classifier "
            f"{space.classifier!r}, "
            f"expected {classifier!r}): run the demo with another --home"
        )
    return False


def register_labels(service: TrustService, images: Path, echo: Callable[[str], object]) -> None:
    """Register the ten labels with the support images below `images`, one at a time, with a line on
    each."""
    for label in LABELS:
        start = time.perf_counter()
        result = service.register(
            SPACE, [LabelInput(label, images=label_images(images / "support", label))]
        )
        took = 1000 * (time.perf_counter() - start)
        what = (
            f"{result.added_supports} support images" if result.added_supports else "already there"
        )
        echo(f"  {label:<6} {what:<18} {took:6.0f} ms   revision {result.revision}")
        for source, reason in result.failures:
            echo(f"    {source}: {reason}")


def embed_held_out(service: TrustService, images: Path) -> HeldOut:
    """Encode the held-out images below `images` with both encoders; unreadable ones are left
    out."""
    paths = [path for label in LABELS for path in label_images(images / "held-out", label)]
    embedded = service.embed(SPACE, paths)
    read = tuple(Path(source) for source in embedded.sources)
    return HeldOut(
        embedded.queries, read, np.array([path.parent.name for path in read], dtype=object)
    )


def score(service: TrustService, held_out: HeldOut, rule: str) -> Verdicts:
    """Verdicts among the ten labels, also where more labels were registered since."""
    return service.score(SPACE, held_out.queries, rule=rule, labels=LABELS)


@dataclass(frozen=True)
class Kept:
    """A calibration on one half of the held-out images, and what became of its promise on the other
    half."""

    calibration: Calibration
    images: int
    accepted: int
    wrong: int


def calibrate(service: TrustService, held_out: HeldOut) -> Kept:
    """Calibrate on every second held-out image, and let the calibration decide about the others."""
    rows = np.arange(len(held_out.paths))
    half, others = _rows(held_out, rows[::2]), _rows(held_out, rows[1::2])
    # From the files: their bytes divide the images into those that choose and those that prove, and
    # are equal on every machine; embeddings are not.
    images = Queries(images=half.paths)
    made = service.calibrate(
        SPACE, images, half.truth.tolist(), max_risk=MAX_RISK, confidence=CONFIDENCE
    )
    verdicts = service.score(SPACE, others.queries)
    accepted = np.array([answer is True for answer in verdicts.accepted], dtype=bool)
    wrong = accepted & np.asarray(verdicts.label != others.truth, dtype=bool)
    return Kept(made, len(accepted), int(accepted.sum()), int(wrong.sum()))


def evaluate(service: TrustService, held_out: HeldOut) -> Evaluation:
    """Every rule on the held-out images, with the curve over support images."""
    sources = [str(path) for path in held_out.paths]
    return service.evaluate(
        SPACE, held_out.queries, held_out.truth.tolist(), sources=sources, draws=3
    )


def _rows(held_out: HeldOut, rows: Int64s) -> HeldOut:
    queries = held_out.queries
    part = Queries(np.asarray(queries.classifier)[rows], np.asarray(queries.verifier)[rows])
    return HeldOut(part, tuple(held_out.paths[row] for row in rows.tolist()), held_out.truth[rows])


def figures_of(verdicts: Verdicts, truth: Objects) -> Figures:
    """Accuracy and how well trust tells right from wrong."""
    right = np.asarray(verdicts.label == truth, dtype=bool)
    trust = verdicts.trust
    return Figures(
        float(right.mean()), aurc(trust, right), auroc(trust, right), fpr_at_tpr(trust, right)
    )
