"""What columns of text and JSON hold: what every database stores. SQLite would take more, and such
a catalog could move nowhere else."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import LargeBinary, String
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from trustvlm.catalog.store.names import brief
from trustvlm.errors import InvalidInput


class Unstorable(InvalidInput, DontWrapMixin):
    """A value that no column of its type holds; SQLAlchemy lets it pass as it is."""


class StoredText(TypeDecorator[str]):
    """A text without NUL characters, to be stored or looked up.

    Raises:
        InvalidInput: the text holds one.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if isinstance(value, str) and "\0" in value:
            raise Unstorable(
                f"{brief(value)} holds the character U+0000 (NUL), which no stored text may hold"
            )
        return value


def no_text(error: UnicodeEncodeError) -> InvalidInput:
    """The error of a text that cannot be encoded: only lone surrogates cannot be."""
    return InvalidInput(
        f"{error.object!r:.80} is not text that can be stored or looked up (it holds lone "
        f"surrogates)"
    )


def json_text(value: Any) -> str:
    """The JSON of `value`, to be stored.

    Raises:
        InvalidInput: it holds NaN or an infinity, which are no JSON.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise Unstorable(
            f"expected numbers that JSON can hold, got NaN or an infinity in {value!s:.80}"
        ) from error


class as_bytes(FunctionElement[bytes]):
    """The value of a column of text, JSON or time as the bytes of its text in UTF-8."""

    type = LargeBinary()
    inherit_cache = True


@compiles(as_bytes)
def _as_blob(element: as_bytes, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(as_bytes, "postgresql")
def _as_bytea(element: as_bytes, compiler: SQLCompiler, **options: Any) -> str:
    # A cast of text to bytes would read its backslashes as escapes, and there is none of JSON.
    return f"convert_to(CAST({compiler.process(element.clauses, **options)} AS TEXT), 'UTF8')"
