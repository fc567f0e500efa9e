"""The review queue as a file, and answers from one: CSV for spreadsheets, JSON for Label Studio
(https://labelstud.io/guide/task_format).

They work with the queue of a home and with that of a service elsewhere alike.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustvlm.errors import InvalidInput, NotFound, ReadOnly, TrustVLMError
from trustvlm.types.bounds import choice
from trustvlm.types.messages.meant import GIVE_NONE, did_you_mean
from trustvlm.types.review import FORMATS, ReviewExport, ReviewImport, ReviewItem, ReviewPage

NONE_OF_THEM = "(none of the labels)"
"""Stands in files for the answer that no label is right."""

COLUMNS = ("id", "tray", "state", "source", "predicted", "probability", "decision", "truth")
_PAGE = 1_000
_MOST_BYTES = 256 * 2**20
_CONTROL, _IMAGE = "label", "image"
"""The names of the control tag and of the object tag in Label Studio's configuration."""
_FORMULA = ("=", "+", "-", "@")


class QueueFiles(ABC):
    """What a review queue can do with files, by its other methods."""

    @abstractmethod
    def items(
        self,
        *,
        tray: str | None = None,
        state: str | None = "open",
        limit: int = 100,
        cursor: int | None = None,
    ) -> ReviewPage:
        """A page of items, oldest first."""

    @abstractmethod
    def picture(self, item: int) -> bytes | None:
        """The small JPEG of an item; None: it has none."""

    @abstractmethod
    def answer(self, item: int, truth: str | None, *, use_as_support: bool = False) -> ReviewItem:
        """Say the right label of an item; None: none of the labels."""

    def export(
        self,
        path: str | Path,
        *,
        format: str = "csv",
        tray: str | None = None,
        state: str | None = "open",
    ) -> int:
        """Write items to a file, to answer them elsewhere; how many.

        Args:
            path: the file, which is replaced. format: "csv" (a column `truth` to fill in) or
                "label-studio" (tasks with predictions; the picture of each is in it).

        Raises:
            InvalidInput: no such format, tray or state. ReadOnly: the file cannot be written.
        """
        exported = self._exported(format, tray, state)
        try:
            Path(path).write_text(
                exported.content, encoding="utf-8", errors="backslashreplace", newline=""
            )
        except OSError as error:
            raise ReadOnly(f"{path} cannot be written: {error.strerror}") from error
        return exported.items

    def import_answers(self, path: str | Path) -> ReviewImport:
        """Store the answers of a file that :meth:`export` wrote and a person, or Label Studio
        (export format JSON), filled in: each by itself, so that one that cannot be stored stops no
        other.

        Raises:
            NotFound: no such file. InvalidInput: another kind of file. ReadOnly.
        """
        return import_text(self, _read(Path(path)), str(path))

    def _exported(self, format: str, tray: str | None, state: str | None) -> ReviewExport:
        return items_text(self, format, tray, state)


def items_text(queue: QueueFiles, format: str, tray: str | None, state: str | None) -> ReviewExport:
    """Items as the text of the file that :meth:`QueueFiles.export` writes. Raises InvalidInput."""
    choice("format", format, FORMATS)
    items = list(_all(queue, tray, state))
    if format == "csv":
        return ReviewExport(len(items), _csv(items))
    tasks = [_task(queue, item) for item in items]
    text = json.dumps(tasks, ensure_ascii=False, indent=1, allow_nan=False)
    return ReviewExport(len(items), text)


def import_text(
    queue: QueueFiles,
    text: str,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReviewImport:
    """Store the answers of the text of a file, as :meth:`QueueFiles.import_answers` does.

    Args:
        name: what messages call the file. progress: called with (answers done, answers in all).

    Raises:
        InvalidInput: it is none of the two formats.
    """
    text = text.removeprefix("\ufeff")
    of_form = _of_label_studio if text.lstrip()[:1] in ("[", "{") else _of_csv
    answers = list(of_form(name, text))
    items = {item.id: item for item in _all(queue, None, None)}
    answered = same = unanswered = 0
    failures: list[tuple[int, str]] = []
    for done, one in enumerate(answers):
        progress(done, len(answers))
        item = items.get(one.item)
        if (problem := one.problem or _mismatch(one, item)) is not None:
            failures.append((one.item, problem))
        elif not one.given:
            unanswered += 1
        else:
            try:
                queue.answer(one.item, one.truth)
            except TrustVLMError as error:
                reason = str(error).replace(GIVE_NONE, f'write "{NONE_OF_THEM}"')
                failures.append((one.item, reason))
                continue
            before = item is not None and item.state == "answered"
            answered, same = answered + (not before), same + before
    return ReviewImport(answered, same, unanswered, tuple(failures))


def _all(queue: QueueFiles, tray: str | None, state: str | None) -> Iterator[ReviewItem]:
    cursor = None
    while True:
        page = queue.items(tray=tray, state=state, limit=_PAGE, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return


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


def _csv(items: Sequence[ReviewItem]) -> str:
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


def _task(queue: QueueFiles, item: ReviewItem) -> dict[str, Any]:
    """An item as a task with a prediction and, once it is answered, an annotation."""
    picture = queue.picture(item.id) if item.has_picture else None
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


def _mismatch(answer: Answer, item: ReviewItem | None) -> str | None:
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


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidInput(f"{path}: expected at most {_MOST_BYTES >> 20} MB of answers")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"no file {path}") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: expected text in UTF-8") from error


def _of_csv(name: str, text: str) -> Iterator[Answer]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = {"id", "truth"} - set(rows.fieldnames or ())
        if missing:
            raise InvalidInput(
                f"{name}: expected the columns id and truth, as 'trustvlm review export' writes "
                f"them, or JSON of Label Studio; there is no {' and no '.join(sorted(missing))}"
                + did_you_mean(min(missing), rows.fieldnames or ())
            )
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
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name}: expected JSON: {error}") from error
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], 1):
        what = f"{name}, task {number}"
        data = task.get("data") if isinstance(task, Mapping) else None
        if not isinstance(data, Mapping) or "review_id" not in data:
            raise InvalidInput(
                f"{what}: expected a task that 'trustvlm review export' wrote, with "
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
