"""What imports come as: lines of JSON, read as they are sent, or a Parquet file, which is kept
until it was read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import Request

from trustvlm.errors import InvalidInput
from trustvlm.http.routes.labels import as_inputs
from trustvlm.http.wire.bodies import of_json
from trustvlm.http.wire.schemas import LabelBody
from trustvlm.http.work.process import serving_of
from trustvlm.service.transfer.label_file import LabelFile
from trustvlm.types import LabelInput

__all__ = ["NDJSON", "PARQUET", "SOURCES"]

NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"
CHUNK_LINES, CHUNK_BYTES, LINE_BYTES = 500, 8 * 2**20, 8 * 2**20


async def of_lines(request: Request, after: int, skip: int) -> AsyncGenerator[list[LabelInput]]:
    """The labels of a body of lines behind the first `skip`, some hundred at a time, while it is
    being sent.

    `after`: how many lines of the import it does not have.

    Raises:
        InvalidInput: a line that is no label, or one without end; or fewer lines than were
            committed before.
    """
    lines: list[bytes] = []
    number, size = after, 0
    async for line in _lines(request):
        number += 1
        if number <= after + skip:
            continue
        lines.append(line)
        size += len(line)
        if len(lines) == CHUNK_LINES or size >= CHUNK_BYTES:
            yield _labels(lines, number)
            lines, size = [], 0
    if lines:
        yield _labels(lines, number)
    if number < after + skip:
        raise InvalidInput(
            f"the stream has {number} lines, but {after + skip} were committed before: it is "
            f"another one"
        )


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """The lines of a body as they come, without empty ones."""
    rest = b""
    async for piece in request.stream():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > LINE_BYTES:
            raise InvalidInput(f"a line has more than {LINE_BYTES} bytes, the limit")
    if rest.strip():
        yield rest


def _labels(lines: list[bytes], last: int) -> list[LabelInput]:
    first = last - len(lines) + 1
    return as_inputs([_label(line, first + place) for place, line in enumerate(lines)])


def _label(line: bytes, number: int) -> LabelBody:
    try:
        label: LabelBody = of_json(LabelBody, line)
        return label
    except InvalidInput as error:
        raise InvalidInput(f"line {number}: {error}") from error


async def of_parquet(request: Request, after: int, skip: int) -> AsyncGenerator[list[LabelInput]]:
    """The labels of a Parquet file behind the first `skip` rows, some hundred at a time, once all
    of it was sent.

    `after`: how many rows of the import it does not have.

    Raises:
        InvalidInput: it is none, or fewer rows than were committed before. TooLarge, Overloaded,
        Unavailable: see :class:`trustvlm.http.work.spool.Spool`.
    """
    serving = serving_of(request)
    with serving.spool.file() as received:
        await received.fill(request.stream())
        rows = LabelFile(received.file, skip)
        try:
            while (labels := await serving.reading.run(rows.read)) is not None:
                yield labels
        finally:
            rows.close()


SOURCES = {NDJSON: of_lines, PARQUET: of_parquet}
