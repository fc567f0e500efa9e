"""Reads what clients send: JSON, an .npz file, or a form with image files, into one body and its
arrays."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Generic, TypeVar, cast, get_type_hints

import numpy.typing as npt
from fastapi import Request
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from trustvlm.errors import InvalidInput, TooLarge
from trustvlm.http.wire.image_files import MOST_FILES, ImageFile, base64_images, image_file
from trustvlm.http.wire.npz import read_arrays
from trustvlm.http.wire.parameters import accepted_type, not_taken
from trustvlm.http.wire.refusals import unfit
from trustvlm.http.wire.repeats import check_body
from trustvlm.types import Queries
from trustvlm.types.json_form import adapter
from trustvlm.types.options import Options, ReadingOptions

JSON, NPZ, FORM = "application/json", "application/x-npz", "multipart/form-data"
REF = "#/components/schemas/{model}"
MOST_FIELDS = 10_000
MOST_VALUES = 2_000_000
"""Of a JSON body: each takes 80 bytes while it is read, however few it has."""
_LARGE = 64 * 1024
PROBABILITIES = ("probabilities", "log_probabilities")
ARRAYS = (
    "classifier", "verifier", "image_vectors", "classifier_image_vectors", "text_vector",
    *PROBABILITIES,
)  # fmt: skip
_READING = tuple(field.name for field in fields(ReadingOptions))
_STRINGS = ("truth", "labels", "sources", "claimed", "filter", "outputs")

_FORM_FIELDS: dict[type[Options], dict[str, dict[str, Any]]] = {}

B = TypeVar("B", bound=Options)


@dataclass(frozen=True, eq=False)
class Received(Generic[B]):
    """What a request brings.

    Attributes:
        body: its fields. arrays: embeddings by name, of an .npz body.
        images: the files of a form or of a JSON body.
        hashed: makes :attr:`digest`.
    """

    body: B
    arrays: dict[str, Any]
    images: list[ImageFile] | None
    hashed: Callable[[], bytes]

    @cached_property
    def digest(self) -> bytes:
        """A hash of all that was sent, equal for a repeated request."""
        return self.hashed()

    def rows(self, name: str) -> Any:
        """The embeddings of that name, from either kind of body; None without any."""
        return self.arrays[name] if name in self.arrays else getattr(self.body, name, None)

    @property
    def reading(self) -> dict[str, Any]:
        """How the image files are read, as the verbs take it. Raises InvalidInput."""
        given = {name: getattr(self.body, name, _default(name)) for name in _READING}
        for name, value in given.items():
            if self.images is None and value != _default(name):
                raise InvalidInput(f"{name}: applies to image files, and the request has none")
        return given

    def queries(self) -> Queries:
        """The embeddings or image files as queries."""
        reading = self.reading
        outputs: dict[str, Any] = {name: self.rows(name) for name in (*PROBABILITIES, "outputs")}
        if self.images is not None:
            if getattr(self.body, "thumbnails", None) is not None:
                raise InvalidInput("thumbnails: they are made of the image files of the request")
            return Queries(images=self.images, claimed=self._claimed, **reading, **outputs)
        text = getattr(self.body, "text", None)
        classifier, verifier = self.rows("classifier"), self.rows("verifier")
        pictures = self._thumbnails()
        names = ("like_supports", "like_labels")
        given = outputs | {name: getattr(self.body, name, None) for name in names}
        return Queries(
            classifier, verifier, text=text, thumbnails=pictures, claimed=self._claimed, **given
        )

    @property
    def _claimed(self) -> list[str | None] | None:
        return getattr(self.body, "claimed", None)

    def _thumbnails(self) -> list[bytes | None] | None:
        """The pictures that come beside embeddings. Raises InvalidInput: no base64."""
        given = getattr(self.body, "thumbnails", None)
        if given is None:
            return None
        try:
            return [None if one is None else b64decode(one, validate=True) for one in given]
        except ValueError as error:
            raise InvalidInput(f"thumbnails: expected JPEG files in base64: {error}") from error


def _default(name: str) -> Any:
    return getattr(ReadingOptions, name)


async def read_body(request: Request, kind: type[B], *accepted: str) -> Received[B]:
    """The body of a request, as one of the `accepted` content types.

    Raises:
        UnsupportedType: another content type. InvalidInput: not what `kind` says. TooLarge: too
            many values.
    """
    content = accepted_type(request, *accepted)
    if content == FORM:
        return await _form(request, kind)
    data = await _whole(request)

    def hashed() -> bytes:
        return hashlib.sha256(data + _query(request)).digest()

    if content == JSON:
        if len(data) > MOST_VALUES and data.count(b",") >= MOST_VALUES:
            raise TooLarge(
                f"the body has more than {MOST_VALUES} values, the limit of JSON; send vectors "
                f"as {NPZ}"
            )
        body = await _away(len(data), lambda: of_json(kind, data))
        images = await _away(len(data), lambda: _images(body))
        return Received(body, {}, images, hashed)
    most = 4 * request.app.state.serving.options.body_bytes
    arrays = await _away(len(data), lambda: read_arrays(data, most))
    strings: dict[str, Any] = {
        name: _names(arrays.pop(name), name) for name in _STRINGS if name in arrays
    }
    if "filter" in strings:  # one text
        strings["filter"] = strings["filter"][0] if strings["filter"] else None
    names = (field.name for field in fields(cast(Any, kind)))
    taken = [name for name in names if name in (*ARRAYS, *_STRINGS)]
    if unknown := sorted({*arrays, *strings}.difference(taken)):
        raise not_taken(unknown[0], "not an array of this body", taken)
    options = _options(kind, request.query_params.multi_items())
    if both := sorted(strings.keys() & options.keys()):
        raise InvalidInput(f"{both[0]}: given twice, as an array and in the query")
    return Received(_checked(kind, strings | options), arrays, None, hashed)


def _names(array: npt.NDArray[Any], what: str) -> list[str | None]:
    """Names of an array of strings, the empty one is None; or of an array without dimensions that
    holds a JSON list of names and nulls, as the client sends them. Raises InvalidInput."""
    if array.dtype.kind != "U":
        raise InvalidInput(f"{what}: expected strings, got an array of {array.dtype}")
    if array.ndim == 1:
        return [text or None for text in array.tolist()]
    try:
        names = json.loads(str(array))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what}: expected strings, or one that is a JSON list") from error
    if not isinstance(names, list):
        raise InvalidInput(f"{what}: expected a JSON list of strings, got {names!r:.60}")
    return names


def _images(body: Any) -> list[ImageFile] | None:
    """The image files of a JSON body. Raises InvalidInput: embeddings come beside them, too."""
    given = getattr(body, "images", None)
    if given is None:
        return None
    if both := [name for name in ARRAYS[:4] if getattr(body, name, None) is not None]:
        raise InvalidInput(f"images: expected images or {both[0]}, got both")
    return base64_images(given)


async def _whole(request: Request) -> bytes:
    """All pieces of the body. Raises ClientDisconnect: the client leaves before its end."""
    pieces, more = [], True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _query(request: Request) -> bytes:
    query: bytes = request.scope["query_string"]
    return query


async def _away(size: int, work: Callable[[], Any]) -> Any:
    """Do what takes long in a thread, so that other requests go on."""
    return work() if size < _LARGE else await run_in_threadpool(work)


def of_json(kind: Any, data: bytes | str, field: str | None = None) -> Any:
    """A JSON body, or the JSON value of a `field` of a form. Raises InvalidInput: it is not what
    `kind` says, or a name comes twice in it."""
    text = data if isinstance(data, bytes) else data.encode(errors="surrogatepass")
    try:
        body = adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise unfit(error, kind, field) from error
    except (ValueError, RecursionError) as error:
        problem = f"expected JSON, got something else ({type(error).__name__})"
        raise InvalidInput(f"{field or 'body'}: {problem}") from error
    check_body(body, text, field)
    return body


def _checked(kind: type[B], values: dict[str, Any]) -> B:
    try:
        body: B = adapter(kind).validate_python(values)
    except ValidationError as error:
        raise unfit(error, kind) from error
    return body


class _Form:
    """The parts of a form as they come; all of it stays in memory, which the gate bounds."""

    def __init__(self, content_type: str) -> None:
        self.images: list[ImageFile] = []
        self.fields: list[tuple[str, str]] = []
        self.digest = hashlib.sha256()
        self.complete = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if boundary is None:
            raise FormParserError("Missing boundary in multipart.")
        in_memory = {"MAX_MEMORY_FILE_SIZE": float("inf")}
        self._parser = FormParser(
            FORM, self._field, self._file, self._end, boundary, config=in_memory
        )

    def feed(self, data: bytes) -> None:
        """Read on."""
        self._parser.write(data)

    def _part(self, name: bytes | None, data: bytes) -> str:
        self.digest.update(hashlib.sha256(name or b"").digest() + hashlib.sha256(data).digest())
        return (name or b"").decode()

    def _field(self, field: Field) -> None:
        name = self._part(field.field_name, field.value or b"")
        self.fields.append((name, (field.value or b"").decode()))
        if len(self.fields) > MOST_FIELDS:
            raise InvalidInput(f"body: Too many fields. Maximum number of fields is {MOST_FIELDS}.")

    def _file(self, file: File) -> None:
        file.file_object.seek(0)
        data = file.file_object.read()
        name = self._part(file.field_name, data)
        if name != "images":
            raise InvalidInput(f"{name[:80]}: expected image files under the name 'images'")
        self.images.append(image_file(data, file.file_name or b""))
        if len(self.images) > MOST_FILES:
            raise InvalidInput(f"body: Too many files. Maximum number of files is {MOST_FILES}.")

    def _end(self) -> None:
        self.complete = True


async def _form(request: Request, kind: type[B]) -> Received[B]:
    try:
        form = _Form(request.headers["content-type"])
        form.digest.update(_query(request))
        async for piece in request.stream():
            form.feed(piece)
    except FormParserError as error:
        raise InvalidInput(f"body: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput("body: expected names and values of a form in UTF-8") from error
    if not form.complete:
        raise InvalidInput("body: the form ends before its last boundary")
    options = _options(kind, [*request.query_params.multi_items(), *form.fields], form=True)
    if not form.images:
        raise InvalidInput("images: expected at least one image file, got none")
    return Received(_checked(kind, options), {}, form.images, form.digest.digest)


def _options(
    kind: type[Options], items: list[tuple[str, str]], *, form: bool = False
) -> dict[str, Any]:
    """Form fields or query parameters as a body: lists are repeated, objects and probabilities are
    JSON, an empty value of a list is null."""
    taken = list(form_fields(kind)) if form else options_of(kind)
    values: dict[str, Any] = {}
    for name, value in items:
        if name not in taken:
            if name == "images":
                raise InvalidInput("images: expected image files, each with a filename, got text")
            raise not_taken(name, "not a field of this request", taken)
        shape = form_fields(kind)[name].get("type")
        if shape == "array" and name not in PROBABILITIES:
            if _is_list(value):
                raise InvalidInput(
                    f"{name}: expected one value in each field of this name, got the JSON list "
                    f"{value!r:.60}; repeat the field"
                )
            values.setdefault(name, []).append(value or None)
        elif name in values:
            raise InvalidInput(f"{name}: expected one value, got several")
        elif shape in ("object", "array"):
            values[name] = of_json(get_type_hints(kind, include_extras=True)[name], value, name)
        else:
            values[name] = value
    return values


def _is_list(text: str) -> bool:
    """Whether a text is a JSON list of texts, or of null."""
    if not text.startswith("["):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and all(isinstance(one, str | None) for one in value)


def schema_of(kind: type[Options]) -> dict[str, Any]:
    """The JSON Schema of a body, with what it refers to under "$defs"."""
    return adapter(kind).json_schema(ref_template=REF)


def form_fields(kind: type[Options]) -> dict[str, dict[str, Any]]:
    """The JSON Schema of each field that a form may hold; there is no null in a form."""
    if kind not in _FORM_FIELDS:
        properties = schema_of(kind)["properties"].items()
        _FORM_FIELDS[kind] = {
            name: without_null(schema)
            for name, schema in properties
            if name in PROBABILITIES or name not in (*ARRAYS, "images")
        }
    return _FORM_FIELDS[kind]


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The first alternative of a schema that is not null."""
    return next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)


def options_of(kind: type[Options]) -> list[str]:
    """The fields of a body that the query beside arrays or a form may hold: those of a form, but
    for probabilities."""
    return [name for name in form_fields(kind) if name not in (*PROBABILITIES, "outputs")]
