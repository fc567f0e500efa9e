"""The review queue as a file, and answers from one: CSV for spreadsheets, JSON for Label Studio
(https://labelstud.io/guide/task_format)."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.sets.columns import only_column
from trustvlm.reading.tables import DELIMITERS, cells_of, first_line
from trustvlm.reading.text import read_json, read_text
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.meant import did_you_mean
from trustvlm.types.review import ReviewItem

NONE_OF_THEM = "(none of the labels)"
"""Stands in files for the answer that no label is right."""

COLUMNS = ("id", "tray", "state", "source", "predicted", "probability", "decision", "truth")
_CONTROL, _IMAGE = "label", "image"
"""The names of the control tag and of the object tag in Label Studio's configuration."""
_FORMULA = ("=", "+", "-", "@")


class Answer(NamedTuple):
    """A row of a file: the item, what it was predicted to be, and the answer.

    Attributes:
        problem: why the row has no answer that can be used; None: it has one, or none.
        given: whether there is an answer; `truth` None then means none of the labels.
    """

    item: int
    predicted: str | None
    given: bool
    truth: str | None
    problem: str | None = None


def csv_text(items: Sequence[ReviewItem]) -> str:
    """Rows for spreadsheets: what these would compute has an apostrophe in front."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for item in items:
        row = {name: getattr(item, name) for name in COLUMNS} | {"truth": _said(item)}
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return buffer.getvalue()


def _said(item: ReviewItem) -> str | None:
    """The answer of an item as files have it."""
    if item.state != "answered":
        return None
    return NONE_OF_THEM if item.truth is None else item.truth


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip("'").startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _text(cell: str) -> str:
    """The text of a cell that :func:`_cell` made."""
    bare = cell.lstrip("'")
    return cell[1:] if bare != cell and bare.startswith(_FORMULA) else cell


def tasks_text(items: Sequence[ReviewItem], picture: Callable[[int], bytes | None]) -> str:
    """Tasks for Label Studio; `picture`: the small JPEG of an item."""
    tasks = [_task(item, picture(item.id) if item.has_picture else None) for item in items]
    return json.dumps(tasks, ensure_ascii=False, indent=1, allow_nan=False)


def _task(item: ReviewItem, picture: bytes | None) -> dict[str, Any]:
    """An item as a task with a prediction and, once it is answered, an annotation."""
    image = item.source if picture is None else _data_uri(picture)
    data = {_IMAGE: image, "review_id": item.id, "source": item.source, "tray": item.tray}
    data |= {"predicted": item.predicted, "decision": item.decision}
    prediction: dict[str, Any] = {"model_version": item.rule, "result": [_choice(item.predicted)]}
    if item.probability is not None:
        prediction["score"] = item.probability
    task: dict[str, Any] = {"data": data, "predictions": [prediction]}
    if (said := _said(item)) is not None:
        task["annotations"] = [{"result": [_choice(said)]}]
    return task


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _choice(label: str) -> dict[str, Any]:
    value = {"choices": [label]}
    return {"from_name": _CONTROL, "to_name": _IMAGE, "type": "choices", "value": value}


def mismatch(answer: Answer, item: ReviewItem | None) -> str | None:
    """Why an answer belongs to no item of the queue: ids alone would let a file of one space answer
    the items of another."""
    if item is None:
        return f"no review item {answer.item} in this space"
    if answer.predicted not in (None, item.predicted):
        return (
            f"review item {item.id} was predicted to be {item.predicted!r}, in the file "
            f"{answer.predicted!r}: the file is of another space"
        )
    return None


def read_answers(path: Path) -> str:
    """The text of a file of answers. Raises NotFound, InvalidInput."""
    if not path.exists():
        raise NotFound(f"no file {path}")
    return read_text(path, "answers as CSV or JSON")


def unstored(answers: Sequence[Answer], items: Mapping[int, ReviewItem]) -> list[Answer]:
    """The answers about these items of a queue that the queue does not have."""
    return [
        one
        for one in answers
        if (item := items.get(one.item)) is not None
        and (item.state != "answered" or item.truth != one.truth)
    ]


def answers_of(name: str, text: str) -> Iterator[Answer]:
    """The answers of the text of a file, which messages call `name`. Raises InvalidInput: it is
    none of the two formats."""
    text = text.removeprefix("\ufeff")
    of_form = _of_label_studio if text.lstrip()[:1] in ("[", "{") else _of_csv
    return of_form(name, text)


def _of_csv(name: str, text: str) -> Iterator[Answer]:
    _, line = first_line(text)
    separator = max(DELIMITERS, key=lambda one: len(cells_of(line, one)))
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = rows.fieldnames or ()
        missing = {"id", "truth"} - set(header)
        if missing:
            export = suggested("review export")
            raise InvalidInput(
                f"{name}: expected the columns id and truth, as {export} writes "
                f"them, or JSON of Label Studio; there is no {' and no '.join(sorted(missing))}"
                + did_you_mean(min(missing), header)
            )
        for column in ("id", "truth", "predicted"):
            if column in header:
                only_column(name, header, header, column)
        for number, row in enumerate(rows, 2):
            item = _identifier(row["id"], f"{name}, line {number}")
            truth = _text((row["truth"] or "").strip())
            predicted = row.get("predicted")
            yield _answer(item, None if predicted is None else _text(predicted), truth or None)
    except csv.Error as error:
        raise InvalidInput(f"{name}: {error}") from error


def _answer(item: int, predicted: str | None, truth: str | None) -> Answer:
    return Answer(item, predicted, truth is not None, None if truth == NONE_OF_THEM else truth)


def _identifier(value: object, what: str) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and 0 < int(text[:19]) < 2**63):
        raise InvalidInput(f"{what}: expected the id of a review item, got {text!r:.60}")
    return int(text)


def _of_label_studio(name: str, text: str) -> Iterator[Answer]:
    tasks = read_json(text, name)
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], 1):
        what = f"{name}, task {number}"
        data = task.get("data") if isinstance(task, Mapping) else None
        if not isinstance(data, Mapping) or "review_id" not in data:
            raise InvalidInput(
                f"{what}: expected a task that {suggested('review export')} wrote, with "
                f"data.review_id; export from Label Studio as JSON, not as JSON-MIN"
            )
        item, predicted = _identifier(data["review_id"], what), data.get("predicted")
        predicted = None if predicted is None else str(predicted)
        truths = list(dict.fromkeys(_annotated(task.get("annotations") or ())))
        if len(truths) > 1:
            problem = f"its annotations disagree: {', '.join(map(repr, truths))}"
            yield Answer(item, predicted, True, None, problem)
        else:
            yield _answer(item, predicted, truths[0] if truths else None)


def _annotated(annotations: object) -> Iterator[str]:
    """The choices of annotations that were not cancelled."""
    for annotation in annotations if isinstance(annotations, list) else ():
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or ():
            value = result.get("value") if isinstance(result, Mapping) else None
            choices = value.get("choices") if isinstance(value, Mapping) else None
            yield from (str(one) for one in choices or ())
