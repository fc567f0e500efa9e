"""Reading what clients send: JSON, an .npz file, or a form with image files, into one body and its
arrays."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from fastapi import Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from trustvlm.errors import InvalidInput, TooLarge
from trustvlm.http.wire.npz import read_arrays
from trustvlm.http.wire.parameters import accepted_type, not_taken
from trustvlm.http.wire.problems import unfit
from trustvlm.http.wire.temporary import no_temporary
from trustvlm.types import Queries

__all__ = [
    "ARRAYS",
    "FORM",
    "JSON",
    "NPZ",
    "Asked",
    "ImageFile",
    "of_json",
    "options_of",
    "read_body",
    "refuse_repeats",
]

JSON, NPZ, FORM = "application/json", "application/x-npz", "multipart/form-data"
MOST_FILES = 256
MOST_VALUES = 2_000_000
"""Of a JSON body: each takes 80 bytes while it is read, however few it has."""
_LARGE = 64 * 1024
ARRAYS = ("classifier", "verifier", "image_vectors", "classifier_image_vectors", "text_vector")
_READING = {"image_range": None, "accept_truncated": False}
_STRINGS = ("truth", "labels", "sources")

B = TypeVar("B", bound=BaseModel)
T = TypeVar("T")


class ImageFile(bytes):
    """The bytes of an image file, with the name that it came under."""

    filename: str = ""


@dataclass(frozen=True, eq=False)
class Asked(Generic[B]):
    """What a request asks.

    Attributes:
        body: its fields. arrays: embeddings by name, of an .npz body. images: the files of a form.
        digest: of all that was sent, the same for a repeated request.
    """

    body: B
    arrays: dict[str, Any]
    images: list[ImageFile] | None
    digest: bytes

    def rows(self, name: str) -> Any:
        """The embeddings of that name, however they came; None: they did not."""
        return self.arrays[name] if name in self.arrays else getattr(self.body, name, None)

    @property
    def reading(self) -> dict[str, Any]:
        """How the image files are to be read, as the verbs take it.

        Raises:
            InvalidInput: it is said, and there are no image files.
        """
        given = {name: getattr(self.body, name, default) for name, default in _READING.items()}
        if self.images is None and (
            named := [name for name, default in _READING.items() if given[name] != default]
        ):
            raise InvalidInput(f"{named[0]}: applies to image files, and the request has none")
        return given

    def queries(self) -> Queries:
        """The embeddings or image files as queries."""
        how = self.reading
        if self.images is not None:
            return Queries(images=self.images, **how)
        return Queries(
            self.rows("classifier"), self.rows("verifier"), text=getattr(self.body, "text", None)
        )


async def read_body(request: Request, model: type[B], *accepted: str) -> Asked[B]:
    """The body of a request, as one of the `accepted` content types.

    Raises:
        UnsupportedType: another content type. InvalidInput: not what the model says. TooLarge: too
            many values.
    """
    kind = accepted_type(request, *accepted)
    if kind == FORM:
        return await _form(request, model)
    data = await request.body()
    digest = hashlib.sha256(data + request.url.query.encode()).digest()
    if kind == JSON:
        if data.count(b",") >= MOST_VALUES:
            raise TooLarge(
                f"the body has more than {MOST_VALUES} values, the limit of JSON; send vectors "
                f"as {NPZ}"
            )
        return Asked(await _away(len(data), lambda: of_json(model, data)), {}, None, digest)
    most = 4 * request.app.state.serving.options.body_bytes
    arrays = await _away(len(data), lambda: read_arrays(data, most))
    fields = {
        name: [text or None for text in arrays.pop(name).tolist()]
        for name in _STRINGS
        if name in arrays
    }
    taken = [name for name in model.model_fields if name in (*ARRAYS, *_STRINGS)]
    if unknown := sorted({*arrays, *fields}.difference(taken)):
        raise not_taken(unknown[0], "not an array of this body", taken)
    options = _fields(model, request.query_params.multi_items())
    if both := sorted(fields.keys() & options.keys()):
        raise InvalidInput(f"{both[0]}: given twice, as an array and in the query")
    return Asked(
        _checked(model, lambda: model.model_validate(fields | options)), arrays, None, digest
    )


async def _away(size: int, work: Callable[[], Any]) -> Any:
    """Do what takes long in a thread, so that other requests go on."""
    if size < _LARGE:
        return work()
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work)


def of_json(model: type[B], data: bytes) -> B:
    """A JSON body; a name that comes twice in one object is refused, because one of the two values
    would be dropped."""
    body = _checked(model, lambda: model.model_validate_json(data, strict=True))
    if any(
        data.count(b'"%s"' % name.encode()) > count for name, count in Counter(_names(body)).items()
    ):
        refuse_repeats(data)  # it may stand in a text only
    return body


def refuse_repeats(data: bytes | str) -> None:
    """Refuse JSON that is valid but for a name that comes twice in one object.

    Raises:
        InvalidInput: it does.
    """
    json.loads(data, object_pairs_hook=_once_each)


def _names(value: Any) -> Iterator[str]:
    """The names of all objects within a body; lists of numbers are passed over."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in value.model_fields_set}
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list) and value and not isinstance(value[0], float | int | str):
        for one in value:
            yield from _names(one)


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise InvalidInput(f"{name[:80]}: given twice in one JSON object")


def _checked(model: type[BaseModel], read: Callable[[], T]) -> T:
    try:
        return read()
    except ValidationError as error:
        raise unfit(error, model) from error
    except InvalidInput:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"body: expected JSON, got something else ({type(error).__name__})"
        ) from error


async def _form(request: Request, model: type[B]) -> Asked[B]:
    most = request.app.state.serving.options.body_bytes
    digest = hashlib.sha256(request.url.query.encode())
    images, fields = [], []
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=MOST_FILES,
        max_fields=10_000,
        max_part_size=most,
    )
    opened: list[Any] = (
        parser._files_to_close_on_error
    )  # of a form that ends too early, it closes none
    try:
        form = await parser.parse()
        if len(opened) > sum(isinstance(value, UploadFile) for _, value in form.multi_items()):
            raise InvalidInput("body: the form ends in the middle of a file")
        for name, value in form.multi_items():
            data = (
                await value.read()
                if isinstance(value, UploadFile)
                else value.encode(errors="surrogatepass")
            )
            digest.update(
                hashlib.sha256(name.encode(errors="surrogatepass")).digest()
                + hashlib.sha256(data).digest()
            )
            if not isinstance(value, UploadFile):
                fields.append((name, value))
            elif name == "images":
                images.append(_named(data, value.filename))
            else:
                raise InvalidInput(f"{name[:80]}: expected image files under the name 'images'")
    except OSError as error:
        raise no_temporary(error) from error
    except MultiPartException as error:
        raise InvalidInput(f"body: {error.message}") from error
    except (ValueError, KeyError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            "body: expected multipart/form-data, got something else or a damaged one"
        ) from error
    finally:
        for file in opened:
            file.close()
    given = _fields(model, [*request.query_params.multi_items(), *fields])
    if not images:
        raise InvalidInput("images: expected at least one image file, got none")
    return Asked(_checked(model, lambda: model.model_validate(given)), {}, images, digest.digest())


def _named(data: bytes, filename: str | None) -> ImageFile:
    """A file with its name, as far as it is one: never a path."""
    image = ImageFile(data)
    name = PurePath((filename or "").replace("\\", "/")).name[-200:]
    image.filename = (
        "".join(c if c.isprintable() else "?" for c in name).encode(errors="replace").decode()
    )
    return image


def _fields(model: type[BaseModel], items: list[tuple[str, str]]) -> dict[str, Any]:
    """Form fields or query parameters as a body: lists are repeated, objects are JSON, an empty
    truth is none."""
    options = options_of(model)
    values: dict[str, Any] = {}
    for name, value in items:
        if name not in options:
            if name == "images":
                raise InvalidInput("images: expected image files, each with a filename, got text")
            raise not_taken(name, "not a field of this request", options)
        field = model.model_fields[name]
        if _is(list, field.annotation):
            values.setdefault(name, []).append(value or None)
        elif name in values:
            raise InvalidInput(f"{name}: expected one value, got several")
        elif _is(dict, field.annotation):
            values[name] = _of_text(name, field.annotation, value)
        else:
            values[name] = value
    return values


def _of_text(name: str, kind: Any, text: str) -> Any:
    """The JSON of a form field."""
    try:
        value = TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise InvalidInput(f"{name}: {unfit(error)}") from error
    refuse_repeats(text)
    return value


def _is(kind: type, annotation: Any) -> bool:
    """Whether a field holds values of this kind, or one of its kinds is it."""
    return get_origin(annotation) is kind or any(_is(kind, one) for one in _kinds(annotation))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()


def options_of(model: type[BaseModel]) -> list[str]:
    """The fields of a body that a form, or the query beside arrays, may hold: all but the
    embeddings."""
    return [name for name in model.model_fields if name not in ARRAYS]
