"""Divides an input into units."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from trustvlm.bulk.inputs.claims import Claims
from trustvlm.bulk.inputs.columns import check_vectors, image_columns, vector_columns
from trustvlm.bulk.units import IMAGE_ROWS, VECTOR_ROWS, Plan, Unit
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.images import IMAGE_SUFFIXES, ImageFinder, every_file, is_folder
from trustvlm.reading.parquet import ParquetFiles
from trustvlm.reading.sets.csv_file import csv_images
from trustvlm.reading.sets.read import expanded
from trustvlm.reading.text import read_text
from trustvlm.types.bounds import path_of
from trustvlm.types.messages.array_files import read_with

_PARQUET, _SHARD, _TABLES = ".parquet", ".tar", (".csv", ".tsv")
_EXPECTED = (
    "a folder of images, of .parquet files or of .tar shards; such a file; a .csv or .tsv table of "
    "images; or a list of files, one a line (.txt)"
)

Dims = Mapping[str, int]
"""Dimensions of the vectors of each side."""


def plan_of(
    given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    dims: Dims,
    rows: int | None = None,
    exclude: Sequence[str] = (),
    claims: Claims | None = None,
) -> Plan:
    """The units of an input.

    Args:
        given: a folder, a file or a list of image files.
        dims: of the vectors, for Parquet files of vectors.
        rows: of a unit. exclude: patterns of names in folders of images to leave out.
        claims: where the claims of its rows stand.

    Raises:
        NotFound: no such file. InvalidInput: an input of another kind, without rows, or of several
            kinds; claims that its rows cannot have.
    """
    if not isinstance(given, str | os.PathLike):
        _refuse_exclude(exclude)
        plan = _of_images("a list", Path(), [os.fspath(path) for path in given], rows, claims)
    else:
        plan = _of_path(path_of("input", given), dims, rows, exclude, claims)
    if not plan.units:
        raise InvalidInput(f"IN: {plan.origin} has no rows; expected {_EXPECTED}")
    return plan


def _of_path(
    path: Path, dims: Dims, rows: int | None, exclude: Sequence[str], claims: Claims | None
) -> Plan:
    files = [path] if path.suffix.lower() != _SHARD else expanded(path)
    if files == [path] and is_folder(path):
        if inner := [file for file in every_file(path) if _is_input(file, path)]:
            _refuse_exclude(exclude)
            return _of_files(str(path), path, inner, dims, rows, claims)
        finder = ImageFinder(exclude)
        images = finder.images(path)
        return _of_images(str(path), path, images, rows, claims, tuple(finder.remarks()))
    _refuse_exclude(exclude)
    if path.suffix.lower() in (_PARQUET, _SHARD):
        return _of_files(str(path), None, files, dims, rows, claims)
    if path.suffix.lower() in _TABLES:
        return _of_table(path, rows, claims)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _of_images(str(path), path.parent, [str(path)], rows, claims)
    return _of_list(path, dims, rows, claims)


def _of_table(path: Path, rows: int | None, claims: Claims | None) -> Plan:
    """The units of the images of a CSV or TSV file, which may have a column of claims."""
    column = None if claims is None else claims.column
    listed = list(csv_images(path, None, column, None))
    if column is not None:
        claims = Claims(f"{path}: {column}", by_place=tuple(row.label for row in listed))
    return _of_images(str(path), path.parent, [str(row.image) for row in listed], rows, claims)


def _refuse_exclude(exclude: Sequence[str]) -> None:
    if exclude:
        raise InvalidInput("exclude: is for folders of images; leave it out here")


def _is_input(file: Path, folder: Path) -> bool:
    """Whether a file below a folder is an input: one of these kinds that is not set aside by "_" or
    "." at the beginning of a name."""
    parts = file.relative_to(folder).parts
    aside = any(part.startswith(("_", ".")) for part in parts)
    return file.suffix.lower() in (_PARQUET, _SHARD) and not aside


def _of_list(path: Path, dims: Dims, rows: int | None, claims: Claims | None) -> Plan:
    """The units of the files that a text names, one a line; paths start at its folder."""
    if read_with(path) is not None:
        columns = "write its vectors into a .parquet file with the columns classifier and verifier"
        raise InvalidInput(f"{path}: expected no file of arrays; {columns}")
    lines = read_text(path, _EXPECTED).split("\n")
    names = [str(path.parent / line.strip()) for line in lines if line.strip()]
    kinds = {Path(name).suffix.lower() for name in names}
    if kinds & {_PARQUET, _SHARD}:
        return _of_files(str(path), None, [Path(name) for name in names], dims, rows, claims)
    if names and not any(map(os.path.lexists, names[:1_000])):
        raise InvalidInput(
            f"{path}: none of the files exists, of {min(len(names), 1_000):,} looked at; the "
            f"first: {names[0]}; paths start at the folder {path.parent}; expected {_EXPECTED}"
        )
    return _of_images(str(path), path.parent, names, rows, claims)


# Images in files


def _of_images(
    origin: str, base: Path, images: Sequence[str], rows: int | None, claims: Claims | None,
    notes: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    size = rows or IMAGE_ROWS
    claimed = claims.of_images(images) if claims is not None and images else None
    units = []
    for number, start in enumerate(range(0, len(images), size)):
        some = tuple(images[start : start + size])
        stamp = _stamp_of_images(base, some)
        name = f"images-{number:05d}"
        said = None if claimed is None else claimed[start : start + size]
        units.append(Unit(name, "files", origin, start, start + len(some), some, stamp, said))
    return Plan(origin, tuple(units), (), notes)


def _stamp_of_images(base: Path, images: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for image in images:
        digest.update(
            f"{os.path.relpath(image, base)}\0{stamp_of(image)}\0".encode(errors="replace")
        )
    return digest.hexdigest()


def stamp_of(path: str | Path) -> str:
    """Size and time of a file; "gone" where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return "gone"
    return f"{status.st_size}-{status.st_mtime_ns}"


# Files of rows


def _of_files(
    origin: str, folder: Path | None, files: Sequence[Path], dims: Dims, rows: int | None,
    claims: Claims | None,
) -> Plan:  # fmt: skip
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) > 1:
        raise InvalidInput(
            f"IN: {origin} has files of several kinds ({', '.join(kinds)}); expected {_EXPECTED}"
        )
    for file in files:
        if not file.is_file():
            raise NotFound(f"no file {file}")
    named = list(_named(files, folder))
    if kinds == [_SHARD]:
        if claims is not None:
            claims.require_of_shards()
        return Plan(origin, tuple(_shard(name, file, rows) for name, file in named))
    return _of_parquet(origin, named, dims, rows, claims)


def _named(files: Sequence[Path], folder: Path | None) -> Iterator[tuple[str, Path]]:
    """Each file with the name of its units. Raises InvalidInput: two have one name."""
    names: dict[str, Path] = {}
    for file in files:
        name = str(
            (Path(file.name) if folder is None else file.relative_to(folder)).with_suffix("")
        )
        if (other := names.setdefault(name, file)) is not file:
            raise InvalidInput(f"IN: {other} and {file} would have files of one name; rename one")
        yield name, file


def _shard(name: str, file: Path, rows: int | None) -> Unit:
    if rows is not None:
        raise InvalidInput("rows: a shard is one unit with all of its rows; leave it out here")
    return Unit(f"{name}-00000", "shard", str(file), 0, 0, stamp=stamp_of(file))


def _of_parquet(
    origin: str, named: Sequence[tuple[str, Path]], dims: Dims, rows: int | None,
    claims: Claims | None,
) -> Plan:  # fmt: skip
    first: tuple[str, ...] | None = None
    units: list[Unit] = []
    with closing(ParquetFiles()) as parquet:
        for name, file in named:
            stamp = stamp_of(file)
            facts = parquet.facts(file)
            sides = vector_columns(facts.schema.names)
            if sides:
                check_vectors(file, facts.schema, {side: dims[side] for side in sides})
            else:
                image_columns(file, facts.schema)
            if claims is not None:
                claims.require_of_parquet(file, facts.schema)
            if first is not None and sides != first:
                other = f"{', '.join(first) or 'images'} in {named[0][1]}"
                raise InvalidInput(f"IN: {file} has {', '.join(sides) or 'images'}, but {other}")
            first = sides
            kind: Any = "vectors" if sides else "rows"
            size = rows or (VECTOR_ROWS if sides else IMAGE_ROWS)
            for number, start in enumerate(range(0, facts.rows, size)):
                stop = min(start + size, facts.rows)
                units.append(
                    Unit(f"{name}-{number:05d}", kind, str(file), start, stop, stamp=stamp)
                )
    return Plan(origin, tuple(units), first or ())
