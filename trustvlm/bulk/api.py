"""The functions of bulk work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trustvlm.bulk.files import RECORD, finished_files, running, stored_key
from trustvlm.bulk.run import Given, run
from trustvlm.bulk.space_facts import Options
from trustvlm.bulk.tally import Tally
from trustvlm.bulk.units import difference
from trustvlm.bulk.work import Opening
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.settings import Settings
from trustvlm.system.files.default_home import expanded
from trustvlm.types.bounds import path_of
from trustvlm.types.bulk import BulkReport, BulkStatus

Input = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def opening_of(home: str | os.PathLike[str], **given: Any) -> Opening:
    """How workers open a home; what the environment or the settings of the home say of its catalog
    holds for workers elsewhere, too."""
    folder = expanded(path_of("home", home))
    address = Settings.of(folder, database_url=given.pop("database_url", None)).database_url
    return Opening(
        str(folder), database_url=None if address is None else address.get_secret_value(), **given
    )


def score(
    home: str | os.PathLike[str],
    space: str,
    input: Input,
    out: str | os.PathLike[str],
    *,
    rule: str | None = None,
    params: Mapping[str, float | None] | None = None,
    top_k: int = 5,
    labels: Sequence[str] | None = None,
    claimed: str | os.PathLike[str] | Sequence[str | None] | None = None,
    image_range: tuple[float, float] | None = None,
    accept_truncated: bool = False,
    on: str = "here",
    actors: int | None = None,
    num_gpus: float = 0.0,
    shard: str | None = None,
    rows: int | None = None,
    exclude: Sequence[str] = (),
    keep_embeddings: bool = False,
    redo: bool = False,
    database_url: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    read_only: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> BulkReport:
    """Score an input of any size into a folder of Parquet files, one for each unit of the input.

    A file appears whole; a call that is repeated after an interruption does what is missing. Its
    rows have the columns of :meth:`trustvlm.Verdicts.to_arrow`, behind `source` (the name of the
    image or row), and `failure`: why a row has no verdict.

    Args:
        home, database_url, device, precision, batch_size, workers, read_only: as for
            :func:`trustvlm.open`.
        input: a folder of images, of .parquet files or of .tar shards; such a file; a .csv or .tsv
            table of images; a list of files, one a line (.txt); or a list of paths of images.
            Parquet files hold vectors (in the columns classifier and verifier) or images (paths or
            bytes).
        out: the folder; it is made when missing.
        rule, params, top_k, labels: as for :meth:`TrustService.score`; image_range,
            accept_truncated: as for :class:`Queries`.
        claimed: where it stands what each row is claimed to be (see :class:`Queries`), so that its
            verdict is about that label: the name of a column of the Parquet files or of the table
            of images; a table (.csv, .tsv, .parquet) with the columns file and label, whose files
            are names of rows or their ends; or, for image files in their order, a text file with a
            label a line, or a list with a label name or None for each.
        on: who works: "here" (this process), "processes:N", "ray" (a cluster of this machine, or
            the one that RAY_ADDRESS names) or "ray:ADDRESS".
        actors: how many of Ray; None: one a core, or as many as GPUs allow. num_gpus: GPUs of each.
        shard: "i/n" does every n-th unit from the i-th, so that n calls, anywhere, do all.
        rows: of a unit; None: 98,304 rows of vectors, 2,048 images. A shard is one unit.
        exclude: patterns of files and folders to leave out of a folder of images.
        keep_embeddings: store the embeddings of images, too, in the folder "_embeddings" of `out`:
            a later call with another rule, calibration or set of labels encodes nothing.
        redo: make files again whose settings or input have changed, and those of an earlier
            revision of the space; without it the former are a Conflict, and the latter stay.
        progress: called with (rows done, rows in all or None). note: called with sentences on what
            was left out of a folder.

    Raises:
        NotFound, InvalidInput: as :meth:`TrustService.score`. Conflict: files of other settings, or
            of another input, are in `out`.
        Unavailable: the output cannot be written, or workers end again and again.
    """
    options = Options(rule, params, top_k, labels, image_range, accept_truncated, claimed)
    opening = opening_of(
        home, database_url=database_url, device=device, precision=precision, batch_size=batch_size,
        workers=workers, read_only=read_only,
    )  # fmt: skip
    given = Given(
        "score", opening, space, input, path_of("out", out), options, on, actors, num_gpus, shard,
        rows, exclude, keep_embeddings, redo,
    )  # fmt: skip
    return run(given, progress, note)


def embed(
    home: str | os.PathLike[str],
    space: str,
    input: Input,
    out: str | os.PathLike[str],
    *,
    image_range: tuple[float, float] | None = None,
    accept_truncated: bool = False,
    on: str = "here",
    actors: int | None = None,
    num_gpus: float = 0.0,
    shard: str | None = None,
    rows: int | None = None,
    exclude: Sequence[str] = (),
    redo: bool = False,
    database_url: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    read_only: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> BulkReport:
    """Encode images with the encoders of a space into a folder of Parquet files, which
    :func:`score` takes as input.

    Rows have the columns `source`, `classifier` and `verifier` (lists of float32, as far as the
    space encodes images) and `failure`: why an image could not be read.

    Args:
        home, space, input, out, image_range, accept_truncated, on, actors, num_gpus, shard, rows,
            exclude, redo, database_url, device, precision, batch_size, workers, read_only,
            progress, note: as for :func:`score`.

    Raises:
        InvalidInput: the space's encoders are precomputed, or the input holds vectors. Others: as
        :func:`score`.
    """
    options = Options(image_range=image_range, accept_truncated=accept_truncated)
    opening = opening_of(
        home, database_url=database_url, device=device, precision=precision, batch_size=batch_size,
        workers=workers, read_only=read_only,
    )  # fmt: skip
    given = Given(
        "embed", opening, space, input, path_of("out", out), options, on, actors, num_gpus, shard,
        rows, exclude, False, redo,
    )  # fmt: skip
    return run(given, progress, note)


def status(out: str | os.PathLike[str]) -> BulkStatus:
    """How far the work in a folder is; asking disturbs no worker.

    Raises:
        NotFound: there is no bulk work in it. Conflict: it has a file that bulk work did not write.
    """
    folder = path_of("out", out)
    record = _record(folder)
    settings, tally, done, other = record["settings"], Tally(), 0, 0
    for _, path in finished_files(folder):
        if difference(stored_key(path) or {}, settings) is None:
            done += 1
            tally.add(Tally.read(path))
        else:
            other += 1
    return BulkStatus(
        work=settings["work"],
        space=settings["space"],
        input=record["input"],
        rule=settings.get("rule"),
        units=record["units"],
        done=done,
        other=other,
        running=running(folder),
        rows=tally.rows,
        total_rows=record["rows"],
        failed=tally.failed,
        **tally.range(),
        verdicts=tally.verdicts() if settings["work"] == "score" else None,
    )


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if {"settings", "input", "units", "rows"} <= set(record):
            return dict(record)
    except FileNotFoundError as error:
        raise NotFound(f"no bulk work in {folder}: it has no file {RECORD}") from error
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path}: expected the record of bulk work: {error}") from error
    raise InvalidInput(f"{path}: expected the record of bulk work, got other JSON")
