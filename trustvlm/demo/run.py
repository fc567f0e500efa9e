"""The demo's run: real images through registration and scoring, and a home that further commands
can use."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.demo.data import ELEVENTH, write_images
from trustvlm.demo.measure import (
    CONFIDENCE,
    MAX_RISK,
    RULES_SHOWN,
    Figures,
    HeldOut,
    Kept,
    calibrate,
    embed_held_out,
    evaluate,
    figures_of,
    prepare_space,
    register_labels,
    score,
)
from trustvlm.demo.sheet import Case, draw_sheet
from trustvlm.demo.specs import SPACE
from trustvlm.errors import ReadOnly
from trustvlm.selective.intervals import proportion_interval
from trustvlm.system.terminal_table import Shape, Table, terminal_width
from trustvlm.types import Neighbour, Verdict, Verdicts
from trustvlm.types.arrays import Floats
from trustvlm.types.tables.probability import chance, percent, probability_line, promise

if TYPE_CHECKING:
    from trustvlm.service import TrustService

Echo = Callable[[str], object]

_PAGE = "http://127.0.0.1:8000/"
_SHOWN = 5
_EVIDENCE = 3
_LEGEND = """AURC: mean error rate among the n most trusted, over all n.
FPR95: share of the wrong labels that pass a threshold which 95 % of the right ones pass."""
_FIGURES = [
    Shape("rule"),
    *(Shape(title, right=True) for title in ("accuracy", "AURC ×1000", "AUROC", "FPR95")),
]
_CASES = [
    *(Shape("file"), Shape("decision"), Shape("probability", right=True)),
    *(Shape("label"), Shape("truth")),
    *(Shape("text", right=True, rank=4), Shape("image", right=True, rank=3)),
    *(Shape("prototype", rank=5), Shape("evidence", rank=1), Shape("rival's evidence", rank=2)),
]


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        home: the home it ran in.
        images: how many held-out images were scored.
        figures: rule → accuracy, AURC, AUROC and FPR95, as fractions.
        most_trusted, least_trusted: five cases each under the calibration, the most telling first.
        kept: a calibration on one half of them, and what became of its promise on the other half.
        sheet: the contact sheet, a PNG file. report: the evaluation, an HTML page.
        seconds: how long the run took.
    """

    home: Path
    images: int
    figures: Mapping[str, Figures]
    most_trusted: tuple[Case, ...]
    least_trusted: tuple[Case, ...]
    kept: Kept
    sheet: Path
    report: Path
    seconds: float


def run_demo(
    home: Path, *, echo: Echo = print, device: str | None = None, precision: str | None = None
) -> DemoResult:
    """Register ten labels of handwritten digits one at a time, score the held-out ones and show
    what trust is worth.

    Works offline, and again on the same home: what is already there stays.

    Args:
        home: made if it is not there; gets a space "digits", a folder `images` and
            `contact-sheet.png`.
        echo: takes each piece of output, without a newline at its end.
        device, precision: as in :func:`trustvlm.open`.

    Raises:
        Conflict: the home has another space "digits". ReadOnly: it cannot be written.
    """
    import trustvlm

    start = time.perf_counter()
    echo("Loading torch, faiss and two small models (a few seconds) …")
    with (
        _one_thread(),
        trustvlm.open(home, create=True, device=device, precision=precision, workers=0) as service,
    ):
        _register(service, home / "images", echo)
        held_out, verdicts = _score(service, home / "images", echo)
        figures = {rule: figures_of(verdict, held_out.truth) for rule, verdict in verdicts.items()}
        echo(_figures_table(figures))
        echo(_LEGEND)
        kept = calibrate(service, held_out)
        echo(_promise(kept))
        decided = service.score(SPACE, held_out.queries)
        # Ties are in the order of the images.
        most = _cases(decided, held_out, -decided.trust)
        least = _cases(decided, held_out, decided.trust)
        columns = (
            (f"The {len(most)} most trusted", most),
            (f"The {len(least)} least trusted", least),
        )
        caption = probability_line(
            decided.probability_source,
            decided.rule,
            decided.calibration_id,
            decided.stale_since,
            SPACE,
        )
        for heading, cases in columns:
            echo(f"\n{heading} ({caption}; ! = the label is wrong):\n")
            echo(_cases_table(cases))
        sheet = home / "contact-sheet.png"
        _write_sheet(service, sheet, caption, columns)
        report = home / "report.html"
        service.write_report(evaluate(service, held_out), report, page=_PAGE)
    echo(f"The cases as pictures, with their evidence: {sheet}")
    echo(f"Which labels to fix, all rules compared, and the most trusted errors: {report}")
    echo(_next_commands(home, least[0].image))
    seconds = time.perf_counter() - start
    echo(f"\nDone in {seconds:.0f} s.")
    images = len(held_out.paths)
    return DemoResult(home, images, figures, most, least, kept, sheet, report, seconds)


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread: models this small only wait for each other's threads, ten times as long
    on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _register(service: TrustService, images: Path, echo: Echo) -> None:
    made = prepare_space(service)
    try:
        written = write_images(images)
    except OSError as error:
        raise ReadOnly(f"{images} cannot be written: {error.strerror or error}") from error
    what = f"{written} images written to" if written else "already in"
    echo(f"Real scans of handwritten digits, from scikit-learn: {what} {images}")
    echo(
        f"Label space {SPACE!r} {'created' if made else 'is already there'}. Registering "
        f"its labels one at a time:"
    )
    register_labels(service, images, echo)


def _score(service: TrustService, images: Path, echo: Echo) -> tuple[HeldOut, dict[str, Verdicts]]:
    start = time.perf_counter()
    held_out = embed_held_out(service, images)
    took = time.perf_counter() - start
    verdicts = {rule: score(service, held_out, rule) for rule in RULES_SHOWN}
    echo(
        f"\n{len(held_out.paths)} held-out images, encoded once by both models in "
        f"{took:.1f} s, scored under six rules:\n"
    )
    return held_out, verdicts


def _cases(verdicts: Verdicts, held_out: HeldOut, rank: Floats) -> tuple[Case, ...]:
    """The cases of the smallest `rank`."""
    paths, truth = held_out.paths, held_out.truth
    return tuple(
        Case(paths[i], str(truth[i]), verdicts[i], verdicts.evidence(i, _EVIDENCE))
        for i in np.argsort(rank, kind="stable")[:_SHOWN].tolist()
    )


def _promise(kept: Kept) -> str:
    made = kept.calibration
    lines = [
        f"\nCalibrating on every second held-out image, to promise: "
        f"{promise(MAX_RISK, CONFIDENCE)}.",
        f"  rule {made.rule}: {made.reason}",
    ]
    if made.correcting_rule is not None and made.rule != made.correcting_rule:
        lines.append(
            f"  it keeps the classifier's labels; with --may-correct, {made.correcting_rule} "
            f"would correct {made.corrected} labels, {made.corrected_rightly} rightly and "
            f"{made.corrected_wrongly} wrongly"
        )
    if kept.accepted:
        low, high = proportion_interval(kept.wrong, kept.accepted, 0.95)
        lines.append(
            f"  the other {kept.images} images: {kept.accepted} accepted, {kept.wrong} of them "
            f"wrong ({percent(kept.accepted / kept.images)} accepted, "
            f"{percent(kept.wrong / kept.accepted, 2)} of these wrong). The promise is about all "
            f"images to come, and so few say: {percent(low)} to {percent(high)} (95 % interval)"
        )
    return "\n".join(lines)


def _figures_table(figures: Mapping[str, Figures]) -> str:
    rows = [
        (
            rule,
            percent(values.accuracy),
            f"{1000 * values.aurc:.2f}",
            percent(values.auroc),
            percent(values.fpr95),
        )
        for rule, values in figures.items()
    ]
    return _rendered(_FIGURES, rows)


def _cases_table(cases: Sequence[Case]) -> str:
    return _rendered(_CASES, [_case_cells(case, case.verdict) for case in cases])


def _case_cells(case: Case, verdict: Verdict) -> tuple[str, ...]:
    terms = verdict.text_confidence, verdict.image_similarity
    return (
        case.image.name,
        verdict.decision,
        chance(verdict.probability),
        verdict.label,
        case.truth if case.right else f"{case.truth} !",
        *("–" if one is None else f"{one:.3f}" for one in terms),
        str(verdict.nearest_prototype),
        _names(case.evidence.label),
        _names(case.evidence.rival),
    )


def _names(neighbours: Sequence[Neighbour]) -> str:
    return " ".join(Path(neighbour.source or "?").stem for neighbour in neighbours[:2])


def _rendered(shapes: Sequence[Shape], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(str, Table(shapes, terminal_width()).lines(rows))) + "\n"


def _write_sheet(
    service: TrustService, path: Path, caption: str, columns: Sequence[tuple[str, Sequence[Case]]]
) -> None:
    try:
        draw_sheet(
            path,
            "Can this label be trusted? Handwritten digits",
            caption,
            columns,
            service.thumbnail,
        )
    except OSError as error:
        raise ReadOnly(f"{path} cannot be written: {error.strerror or error}") from error


def _activation() -> str:
    """What to do first where this installation's `trustvlm` is not the shell's, as after `make
    demo`."""
    activate = Path(sys.prefix, "bin", "activate")
    if shutil.which("trustvlm") or not activate.is_file():
        return ""
    if activate.is_relative_to(Path.cwd()):
        activate = activate.relative_to(Path.cwd())
    return f" (after `. {shlex.quote(str(activate))}`)"


def _next_commands(home: Path, doubtful: Path) -> str:
    prefix = f"trustvlm --home {shlex.quote(str(home))}"
    nine, eleventh, unknown = (
        shlex.quote(str(Path(home, "images", *parts)))
        for parts in (("held-out", "nine"), ("eleventh",), ("eleventh-held-out", ELEVENTH))
    )
    return f"""
Try next{_activation()}:
  {prefix} score {SPACE} {nine}
  {prefix} search {SPACE} --image {shlex.quote(str(doubtful))}
Something that the space does not know, and after its label was registered:
  {prefix} score {SPACE} {unknown}
  {prefix} register {SPACE} {eleventh}
  {prefix} score {SPACE} {unknown}
In a browser, at {_PAGE}:
  {prefix} serve"""
