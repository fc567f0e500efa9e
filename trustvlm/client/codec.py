"""From arguments to what is sent, and from answers to dataclasses: arrays as .npz, image files as
forms, options as query parameters or fields."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, cast, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from trustvlm.client.images import File
from trustvlm.client.transport import Body, Fields, options_query
from trustvlm.errors import InvalidInput
from trustvlm.types import CALL_COLUMNS, VERDICT_COLUMNS, Hits, Verdicts
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects, optional_texts, real_array
from trustvlm.types.bounds import flags, number, value_range
from trustvlm.types.messages.commands import placed_in
from trustvlm.types.messages.shapes import remedy
from trustvlm.types.messages.stored_text import MAX_SOURCE, clipped
from trustvlm.types.tables.verdict import CLAIM_CALL_COLUMNS, CLAIM_COLUMNS

_QUOTED = str.maketrans({'"': '\\"', "\\": "\\\\", "\r": "%0D", "\n": "%0A"})
"""A file's name between quotes; no header holds a line end."""
# What is sent


def matrix(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """Embeddings as an array of real numbers, a single one as one row; the service checks the rest.
    Raises InvalidInput."""
    array = real_array(values, what)
    if not array.ndim:
        raise InvalidInput(f"{what}: expected an array of shape (n, d), got a single number")
    if array.ndim > 2:
        hint = remedy(array.shape, array.shape[-1])
        raise InvalidInput(f"{what}: expected shape (n, d), got {array.shape}{hint}")
    return array[np.newaxis] if array.ndim == 1 and array.size else array


def finite(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """:func:`matrix` for what is sent as JSON, which has neither NaN nor infinity."""
    array = matrix(values, what)
    if array.size:
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if bad.any():
            raise InvalidInput(f"{what}: row {int(bad.argmax())} has NaN or infinite values")
    return array


def text_rows(values: npt.ArrayLike, what: str) -> list[Any]:
    """A text vector, or those of several templates, as JSON."""
    array = real_array(values, what)
    return cast(list[Any], finite(array, what).reshape(array.shape).tolist())


def rule_options(
    rule: str | None, params: Mapping[str, float | None] | None
) -> list[tuple[str, Any]]:
    """A rule and its parameters as options. Raises InvalidInput."""
    if rule is not None and not isinstance(rule, str):
        raise InvalidInput(f"rule: expected one of the names of trustvlm.RULES, got {rule!r:.60}")
    if params is None:
        return [("rule", rule)]
    if not isinstance(params, Mapping):
        raise InvalidInput(f"params: expected a mapping of names to numbers, got {params!r:.60}")
    for name, value in params.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise InvalidInput(f"params: {name}: expected a number, got {value!r:.60}")
    plain = {str(name): None if v is None else float(v) for name, v in params.items()}
    return [("rule", rule), ("params", plain)]


def back_off_value(back_off: object) -> bool | float | None:
    """From which probability on a verdict backs off. Raises InvalidInput."""
    if back_off is None or isinstance(back_off, bool | np.bool_):
        return None if back_off is None else bool(back_off)
    return number("back_off", back_off)


def reading_fields(
    image_range: tuple[float, float] | None, accept_truncated: bool
) -> list[tuple[str, Any]]:
    """How image files are read, as form fields. Raises InvalidInput: the range is none."""
    flags(accept_truncated=accept_truncated)
    return [
        ("image_range", value_range("image_range", image_range)),
        ("accept_truncated", bool(accept_truncated)),
    ]


def truth_array(values: Sequence[str | None], what: str) -> Objects:
    """Names or None as :func:`name_array` has them. Raises InvalidInput: something else."""
    return name_array(optional_texts(values, what, "one name for each query, or None"))


def name_array(names: Sequence[str | None]) -> Objects:
    """Names or None for :func:`npz_body`."""
    return _objects(names, (len(names),))


def source_array(names: Sequence[str | None]) -> Objects:
    """What images are called or None, as :func:`name_array`, each as long as one is stored."""
    return name_array([None if one is None else clipped(one, MAX_SOURCE) for one in names])


def npz_body(arrays: Mapping[str, npt.NDArray[Any]]) -> Body:
    """Arrays as numpy.savez writes them. Names go as the text of a JSON list, compressed: an array
    of strings holds neither None nor a NUL at an end, and makes each cell as wide as the
    longest."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, given in arrays.items():
            named = given.dtype == object
            array = np.array(json.dumps(given.tolist())) if named else given
            info = zipfile.ZipInfo(f"{name}.npy")
            if named:
                info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return {"content": out.getvalue(), "headers": {"content-type": "application/x-npz"}}


def form_body(fields: Fields, files: Sequence[File]) -> Body:
    """A form with image files; httpx makes none whose files may have an empty name."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in options_query(fields):
        parts.append((f'name="{name}"'.encode(), str(value).encode(errors="surrogatepass")))
    for file in files:
        head = b'name="images"; filename="%b"\r\nContent-Type: application/octet-stream'
        parts.append((head % _file_name(file.name), file.data))
    start = f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
    content = b"".join(start + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return {"content": content + f"--{boundary}--\r\n".encode(), "headers": headers}


def _file_name(name: str) -> bytes:
    """A name between quotes; a path's bytes that are no UTF-8 are sent as they are."""
    quoted = name.translate(_QUOTED)
    try:
        return quoted.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # halves of characters that no path has
        return quoted.encode(errors="surrogatepass")


# What comes back


_DTYPES = {Int64s: np.int64, Float64s: np.float64, Bools: np.bool_}
_HINTS = get_type_hints(Verdicts)


def _claims(answer: Mapping[str, Any]) -> bool:
    """Whether the answer is to queries with claims."""
    return CLAIM_CALL_COLUMNS[0] in answer


def _names(answer: Mapping[str, Any]) -> tuple[str, ...]:
    return VERDICT_COLUMNS + CLAIM_COLUMNS if _claims(answer) else VERDICT_COLUMNS


def _kind(name: str) -> Any:
    """The annotation of a column, without None."""
    hint = _HINTS[name]
    return next((one for one in get_args(hint) if one in _DTYPES), hint)


def _columns(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one answer to a score request, as arrays."""
    rows, top_k = answer["verdicts"], answer["top_k"]
    columns: dict[str, Any] = {}
    for name in _names(answer):
        cells = [row[name] for row in rows]
        if name == "reason":  # some advise a command
            cells = [placed_in(text) for text in cells]
        shape = (len(rows), top_k) if name.startswith("top_") else (len(rows),)
        if (kind := _kind(name)) in _DTYPES:  # None becomes NaN
            columns[name] = np.array(cells, _DTYPES[kind]).reshape(shape)
        else:
            columns[name] = _objects(cells, shape)
    return columns


def _objects(values: Sequence[Any], shape: tuple[int, ...]) -> Objects:
    array = np.empty(shape, dtype=object)
    if len(shape) == 1:
        for place, value in enumerate(values):  # a path stays one cell
            array[place] = tuple(value) if isinstance(value, list) else value
    elif array.size:
        array[:] = values
    return array


def merged_verdicts(answers: Sequence[Mapping[str, Any]], **others: Any) -> Verdicts:
    """The verdicts of answers of one revision, one after the other; `others`: their remaining
    fields."""
    parts = [_columns(answer) for answer in answers]
    columns: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in _names(answers[0])
    }
    shared = (*CALL_COLUMNS, "params", *(CLAIM_CALL_COLUMNS if _claims(answers[0]) else ()))
    call: dict[str, Any] = {name: answers[0][name] for name in shared}
    call["approximate"] = any(answer["approximate"] for answer in answers)
    call["error_bound"] = max(float(answer["error_bound"]) for answer in answers)
    return Verdicts(**columns, **call, **others)


def hits_of(
    answers: Sequence[tuple[Mapping[str, Any], int]],
    k: int,
    vectors: bool = False,
    notes: Sequence[str] = (),
) -> Hits:
    """The hits of (answer, its number of queries), padded to k; with `vectors`, with theirs."""
    shape = sum(count for _, count in answers), k
    columns: dict[str, npt.NDArray[Any]] = {
        "id": np.full(shape, -1, np.int64),
        "similarity": np.full(shape, -np.inf),
        **{name: np.full(shape, None, object) for name in ("label", "source", "attributes")},
    }
    if vectors:
        some = (hit for answer, _ in answers for hit in answer["hits"][:1])
        width = max((len(hit["vector"]) for hit in some), default=0)
        columns["vector"] = np.full((*shape, width), np.nan, np.float32)
    start = 0
    for answer, count in answers:
        for hit in answer["hits"]:
            place = start + hit["query"], hit["rank"] - 1
            for name, column in columns.items():
                column[place] = hit[name]
        start += count
    first = answers[0][0]
    return Hits(
        first["kind"], columns["id"], columns["similarity"], columns["label"], columns["source"],
        first["revision"], tuple(notes), attributes=columns["attributes"],
        vectors=columns.get("vector"),
        **{name: first[name] for name in ("approximate", "error_bound", "recall")},
    )  # fmt: skip
