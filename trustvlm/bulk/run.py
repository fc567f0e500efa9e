"""Bulk work from its arguments to its report: plan, compare with what is there, do the rest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trustvlm.bulk.files import KEPT, RECORD, finished_files, stored_key, sweep, write_text
from trustvlm.bulk.inputs.claims import Claims, claims_given
from trustvlm.bulk.inputs.plan import plan_of
from trustvlm.bulk.runners import runner_of
from trustvlm.bulk.space_facts import Options, Space, space_facts
from trustvlm.bulk.tally import Tally
from trustvlm.bulk.units import Plan, Unit
from trustvlm.bulk.work import REDO, Done, Job, Opening, is_done
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.reading.parquet import ParquetFiles
from trustvlm.types.bounds import callbacks, flags, whole
from trustvlm.types.bulk import BulkReport, FailedUnit, Work

Progress = Callable[[int, int | None], None]


def _shard_of(text: str | None) -> slice:
    """The places of the units of the part that "i/n" names, every n-th one; None: all. Raises
    InvalidInput."""
    if text is None:
        return slice(None)
    number, _, count = str(text).partition("/")
    digits = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (number, count))
    if not digits or not 1 <= int(number) <= int(count):
        raise InvalidInput(f"shard: expected I/N with I from 1 to N, such as 1/4; got {text!r:.80}")
    return slice(int(number) - 1, None, int(count))


@dataclass(frozen=True)
class Given:
    """The arguments of a call; see :func:`trustvlm.bulk.score`."""

    work: Work
    opening: Opening
    space: str
    input: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    out: Path
    options: Options
    on: str
    actors: int | None
    num_gpus: float
    shard: str | None
    rows: int | None
    exclude: Sequence[str]
    keep_embeddings: bool
    redo: bool


def run(
    given: Given, progress: Progress | None, note: Callable[[str], None] = lambda line: None
) -> BulkReport:
    """Do the work of a call, and report it.

    Args:
        progress: called with (rows done, rows in all; None: not known).
        note: called with a sentence for each kind of file that was left out of folders.

    Raises:
        InvalidInput, NotFound, Conflict, Unavailable: see :func:`trustvlm.bulk.score`.
    """
    begun = time.monotonic()
    shard, out = _shard_of(given.shard), given.out.absolute()
    rows = None if given.rows is None else whole("rows", given.rows)
    flags(keep_embeddings=given.keep_embeddings, redo=given.redo)
    flags(accept_truncated=given.options.accept_truncated)
    callbacks(progress=progress, note=note)
    runner = runner_of(given.on, given.actors, given.num_gpus)
    claims = claims_given(given.options.claimed)
    _require_apart(given.input, out)
    with closing(given.opening.service()) as service:
        space = space_facts(service, given.space)
        plan = plan_of(given.input, space.dims, rows, given.exclude, claims)
        for line in plan.notes:
            note(line)
        space.check(given.work, plan, keep=given.keep_embeddings)
        settings = space.key(service, given.work, plan, given.options, claims)
        job = _job(given, out, settings, space, plan, claims)
    units = plan.units[shard]
    sweep(out)
    todo = _to_do(job, plan, units, redo=given.redo)
    _write_record(job, plan)
    counter = _Counter(progress, [unit for unit in units if unit in todo])
    answers = runner.run(job, todo, counter.advance)
    finished = [job.path(unit) for unit in units if unit not in todo]
    report = _report(job, len(units), answers, finished, begun)
    if job.claims is not None and job.claims.by_file and report.rows and not _claimed(report):
        note(str(job.claims.of_no_row(f"the {report.rows:,} rows (column source)")))
    return report


def _claimed(report: BulkReport) -> int:
    """Rows with a claim."""
    verdicts = report.verdicts
    return 0 if verdicts is None else verdicts.claimed + verdicts.not_a_label


def _require_apart(given: Any, out: Path) -> None:
    """Raises InvalidInput for an output in a folder that is the input."""
    if isinstance(given, str | os.PathLike) and Path(given).is_dir():
        folder = Path(given).resolve()
        if folder in (out.resolve(), *out.resolve().parents):
            raise InvalidInput(f"out: {out} lies in the input {given}; name a folder outside of it")
    if out.exists() and not out.is_dir():
        raise InvalidInput(f"out: {out} is a file, expected a folder")


def _job(
    given: Given, out: Path, settings: Mapping[str, Any], space: Space, plan: Plan,
    claims: Claims | None,
) -> Job:  # fmt: skip
    sides = plan.sides or space.encoded
    in_units = any(unit.claims is not None for unit in plan.units)
    return Job(
        work=given.work,
        opening=given.opening,
        space=given.space,
        out=str(out),
        options=given.options.of_score,
        reading=given.options.reading,
        dims={side: space.dims[side] for side in sides},
        keep_embeddings=given.keep_embeddings,
        redo=given.redo,
        settings=settings,
        kept_settings=space.kept_key(given.options),
        revision=space.record.revision,
        claims=None if in_units else claims,
    )


def _to_do(job: Job, plan: Plan, units: Sequence[Unit], *, redo: bool) -> list[Unit]:
    """The units that have no file yet, or one that is to be made again; files of no unit are
    deleted with `redo`.

    Raises:
        Conflict: files that were made in another way, or from another input.
    """
    out, names = Path(job.out), {unit.name for unit in plan.units}
    foreign = [path for name, path in finished_files(out) if name not in names]
    for path in foreign:
        stored_key(path)  # refused where it is none of ours
    if foreign and not redo:
        raise Conflict(
            f"{foreign[0]}: it holds rows of an input that is not there any more, or is divided "
            f"otherwise; {REDO}"
        )
    with closing(ParquetFiles()) as parquet:
        todo = [unit for unit in units if not is_done(job, unit, parquet)]
    for path in foreign:
        path.unlink(missing_ok=True)
        (out / KEPT / path.relative_to(out)).unlink(missing_ok=True)
    return todo


def _write_record(job: Job, plan: Plan) -> None:
    """Say in the folder what the work is, for `status`."""
    record = {
        "settings": dict(job.settings), "input": plan.origin, "units": len(plan.units),
        "rows": plan.rows,
    }  # fmt: skip
    path = Path(job.out) / RECORD
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


class _Counter:
    """Reports to a caller how many rows are done, out of how many."""

    def __init__(self, progress: Progress | None, units: Sequence[Unit]) -> None:
        counts = [unit.rows for unit in units]
        self._total = None if None in counts else sum(count or 0 for count in counts)
        self._progress, self._done = progress, 0
        self.advance(0)

    def advance(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)


def _report(
    job: Job, units: int, answers: Iterator[Done], finished: Sequence[Path], begun: float
) -> BulkReport:
    tally, failed, written, done, cpu = Tally(), list[FailedUnit](), 0, 0, 0.0
    for answer in answers:
        if answer.tally is None:
            failed.append(FailedUnit(answer.unit, answer.reason or ""))
            continue
        tally.add(answer.tally)
        written += answer.written
        cpu += answer.cpu
        done += answer.written > 0
    for path in finished:
        tally.add(Tally.read(path))
    seconds = time.monotonic() - begun
    return BulkReport(
        work=job.work,
        space=job.space,
        out=job.out,
        units=units,
        done_before=units - done - len(failed),
        done_now=done,
        rows=tally.rows,
        failed=tally.failed,
        failed_units=tuple(sorted(failed, key=lambda one: one.unit)),
        **tally.range(),
        seconds=seconds,
        cpu_seconds=cpu,
        rows_a_second=written / seconds if written else None,
        verdicts=tally.verdicts() if job.work == "score" else None,
    )
