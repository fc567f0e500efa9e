"""From arguments to what is sent: arrays as .npz, image files as forms, options as query parameters
or fields."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.client.images import File
from trustvlm.client.transport import Body
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.types.array_input import optional_texts, real_array
from trustvlm.types.bounds import flags, value_range

__all__ = [
    "Fields", "finite", "form_body", "matrix", "npz_body", "options_query", "reading_fields",
    "rule_options", "text_rows", "truth_array", "whole",
]  # fmt: skip

Fields = Sequence[tuple[str, Any]]


def matrix(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """Embeddings as an array of real numbers, a single one as one row; the service checks the rest.

    Raises:
        InvalidInput: not that.
    """
    array = real_array(values, what)
    if not array.ndim:
        raise InvalidInput(f"{what}: expected an array of shape (n, d), got a single number")
    return array[np.newaxis] if array.ndim == 1 and array.size else array


def finite(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """The same for what is sent as JSON, which has neither NaN nor infinity."""
    array = matrix(values, what)
    bad = (
        ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if array.size
        else np.zeros(0, np.bool_)
    )
    if bad.any():
        raise InvalidInput(f"{what}: row {int(bad.argmax())} has NaN or infinite values")
    return array


def text_rows(values: npt.ArrayLike, what: str) -> list[Any]:
    """A text vector, or those of several templates, as JSON."""
    array = real_array(values, what)
    found: list[Any] = finite(array, what).reshape(array.shape).tolist()
    return found


def whole(value: Any, what: str) -> int:
    """A whole number. Raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidInput(f"{what}: expected a whole number, got {value!r}")
    return int(value)


def as_revision(value: object) -> int:
    """`value` as the revision of a space. Raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise InvalidInput(
            f"revision: expected a whole number from 0 up (a verdict's .revision), got {value!r}"
        )
    return int(value)


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
    return [
        ("rule", rule),
        ("params", {str(name): None if v is None else float(v) for name, v in params.items()}),
    ]


def options_query(fields: Fields) -> list[tuple[str, Any]]:
    """Options as query parameters or form fields: None is left out, a list repeated, a mapping
    JSON."""
    found: list[tuple[str, Any]] = []
    for name, value in fields:
        if isinstance(value, Mapping):
            found.append((name, json.dumps(value)))
        elif isinstance(value, list | tuple):
            found += [(name, "" if one is None else one) for one in value]
        elif value is not None:
            found.append((name, str(value).lower() if isinstance(value, bool) else value))
    return found


def reading_fields(
    image_range: tuple[float, float] | None, accept_truncated: bool
) -> list[tuple[str, Any]]:
    """How image files are read, as form fields. Raises InvalidInput: the range is none."""
    flags(accept_truncated=accept_truncated)
    return [
        ("image_range", value_range("image_range", image_range)),
        ("accept_truncated", bool(accept_truncated)),
    ]


def truth_array(values: Sequence[str | None], what: str) -> npt.NDArray[np.str_]:
    """Names or None as an array of strings, in which None is the empty one.

    Raises:
        InvalidInput: something else. NotFound: a name that no label can have, and that the array
            would change.
    """
    names = optional_texts(values, what, "one name for each query, or None")
    for value in names:
        if value is not None and (not value or value.endswith("\0")):
            raise NotFound(f"{what}: no label {value!r}; give None for images of no label")
    return np.array([value or "" for value in names], dtype=np.str_)


def npz_body(arrays: Mapping[str, npt.NDArray[Any]]) -> Body:
    """Arrays as numpy.savez writes them; strings, whose cells are as wide as the longest, are
    compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = (
                zipfile.ZIP_DEFLATED if array.dtype.kind == "U" else zipfile.ZIP_STORED
            )
            with archive.open(info, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return Body("application/x-npz", [out.getvalue()])


def form_body(fields: Fields, files: Sequence[File]) -> Body:
    """A form with image files."""
    boundary = uuid.uuid4().hex
    return Body(f"multipart/form-data; boundary={boundary}", list(_parts(boundary, fields, files)))


def _parts(boundary: str, fields: Fields, files: Sequence[File]) -> Iterator[bytes]:
    for name, value in options_query(fields):
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        yield str(value).encode(errors="surrogatepass") + b"\r\n"
    for file in files:
        name = (
            file.name.replace('"', "%22")
            .replace("\r", "%0D")
            .replace("\n", "%0A")
            .encode(errors="replace")
            .decode()
        )
        head = f'Content-Disposition: form-data; name="images"; filename="{name}"'
        yield f"--{boundary}\r\n{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        yield file.data
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
