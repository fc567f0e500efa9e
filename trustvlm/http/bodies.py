"""Reading what clients send: JSON, an .npz file, or a form with image files, into one body and its arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from trustvlm.errors import InvalidInput, TooLarge
from trustvlm.http.npz import read_arrays
from trustvlm.http.problems import unfit
from trustvlm.types import Queries

__all__ = ["ARRAYS", "FORM", "JSON", "NPZ", "Asked", "ImageFile", "read_body"]

JSON, NPZ, FORM = "application/json", "application/x-npz", "multipart/form-data"
MOST_FILES = 256
MOST_VALUES = 2_000_000
"""Of a JSON body: each takes 80 bytes while it is read, however few it has."""
_LARGE = 64 * 1024
ARRAYS = ("classifier", "verifier", "image_vectors", "classifier_image_vectors", "text_vector")
_STRINGS = ("truth", "labels", "sources")

B = TypeVar("B", bound=BaseModel)


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

    def queries(self) -> Queries:
        """The embeddings or image files as queries."""
        if self.images is not None:
            return Queries(images=self.images)
        return Queries(self.rows("classifier"), self.rows("verifier"), text=getattr(self.body, "text", None))


async def read_body(request: Request, model: type[B], *accepted: str) -> Asked[B]:
    """The body of a request, as one of the `accepted` content types.

    Raises:
        InvalidInput: another content type, or not what the model says. TooLarge: too many values.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in accepted:
        raise InvalidInput(f"content-type: expected {' or '.join(accepted)}, got {kind or 'none'!r}")
    if kind == FORM:
        return await _form(request, model)
    data = await request.body()
    digest = hashlib.sha256(data + request.url.query.encode()).digest()
    if kind == JSON:
        if data.count(b",") >= MOST_VALUES:
            raise TooLarge(f"the body has more than {MOST_VALUES} values, the limit of JSON; send vectors as {NPZ}")
        return Asked(
            await _away(len(data), lambda: _checked(lambda: model.model_validate_json(data, strict=True))), {}, None, digest
        )
    most = 4 * request.app.state.serving.options.body_bytes
    arrays = await _away(len(data), lambda: read_arrays(data, most))
    if unknown := sorted(set(arrays) - {*ARRAYS, *_STRINGS}):
        raise InvalidInput(f"body: unknown array {unknown[0]!r}; expected {', '.join((*ARRAYS, *_STRINGS))}")
    fields = {name: [text or None for text in arrays.pop(name).tolist()] for name in _STRINGS if name in arrays}
    fields |= _fields(model, request.query_params.multi_items())
    return Asked(_checked(lambda: model.model_validate(fields)), arrays, None, digest)


async def _away(size: int, work: Callable[[], Any]) -> Any:
    """Do what takes long in a thread, so that other requests go on."""
    if size < _LARGE:
        return work()
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work)


def _checked(read: Callable[[], B]) -> B:
    try:
        return read()
    except ValidationError as error:
        raise unfit(error) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"body: expected JSON, got something else ({type(error).__name__})") from error


async def _form(request: Request, model: type[B]) -> Asked[B]:
    most = request.app.state.serving.options.body_bytes
    digest = hashlib.sha256(request.url.query.encode())
    images, fields = [], []
    parser = MultiPartParser(request.headers, request.stream(), max_files=MOST_FILES, max_fields=10_000, max_part_size=most)
    opened: list[Any] = parser._files_to_close_on_error  # of a form that ends too early, it closes none
    try:
        form = await parser.parse()
        if len(opened) > sum(isinstance(value, UploadFile) for _, value in form.multi_items()):
            raise InvalidInput("body: the form ends in the middle of a file")
        for name, value in form.multi_items():
            data = await value.read() if isinstance(value, UploadFile) else value.encode(errors="surrogatepass")
            digest.update(hashlib.sha256(name.encode(errors="surrogatepass")).digest() + hashlib.sha256(data).digest())
            if not isinstance(value, UploadFile):
                fields.append((name, value))
            elif name == "images":
                images.append(_named(data, value.filename))
            else:
                raise InvalidInput(f"{name[:80]}: expected image files under the name 'images'")
    except MultiPartException as error:
        raise InvalidInput(f"body: {error.message}") from error
    except (ValueError, KeyError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput("body: expected multipart/form-data, got something else or a damaged one") from error
    finally:
        for file in opened:
            file.close()
    if not images:
        raise InvalidInput("images: expected at least one image file, got none")
    given = _fields(model, [*request.query_params.multi_items(), *fields])
    return Asked(_checked(lambda: model.model_validate(given)), {}, images, digest.digest())


def _named(data: bytes, filename: str | None) -> ImageFile:
    """A file with its name, as far as it is one: never a path."""
    image = ImageFile(data)
    name = PurePath((filename or "").replace("\\", "/")).name[-200:]
    image.filename = "".join(c if c.isprintable() else "?" for c in name).encode(errors="replace").decode()
    return image


def _fields(model: type[BaseModel], items: list[tuple[str, str]]) -> dict[str, Any]:
    """Form fields or query parameters as a body: lists are repeated, objects are JSON, an empty truth is none."""
    found: dict[str, Any] = {}
    for name, value in items:
        field = model.model_fields.get(name)
        if name in ARRAYS or field is None:
            known = ", ".join(one for one in model.model_fields if one not in ARRAYS)
            raise InvalidInput(f"{name[:80]}: no such field here; there are {known}")
        if "list" in str(field.annotation):
            found.setdefault(name, []).append(value or None)
        elif "dict" in str(field.annotation):
            found[name] = _checked(lambda value=value: json.loads(value))  # type: ignore[misc]
        elif name in found:
            raise InvalidInput(f"{name}: given twice")
        else:
            found[name] = value
    return found
