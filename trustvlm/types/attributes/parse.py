"""The text form of filters: region = "EU" and (size >= 3 or not marine exists)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from trustvlm.errors import InvalidInput

MAX_CHARACTERS = 100_000
"""Characters of the text of a filter."""
_DEEPEST = 100  # parentheses; the JSON that is made has a limit of its own

_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<sign><=|>=|!=|==|=|<|>|\(|\)|\[|\]|,)"
    r"|(?P<word>[^\s()\[\],=<>!\"']+))",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_WORDS = ("and", "or", "not", "in", "exists")


class _Token(NamedTuple):
    """A piece of the text. `kind`: "text", "sign", "word", or "end"."""

    kind: str
    value: str
    at: int


def parse_text(text: str, what: str) -> dict[str, Any]:
    """The JSON of a filter that is written as text.

    Raises:
        InvalidInput: it is none; the message says what was expected, and where.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"{what}: expected at most {MAX_CHARACTERS:,} characters")
    if not text.strip():
        raise InvalidInput(f'{what}: expected a condition such as region = "EU", got nothing')
    return _Parser(text, what).filter()


class _Parser:
    """Reads one filter, word by word."""

    def __init__(self, text: str, what: str) -> None:
        self._what, self._text = what, text
        self._tokens = self._split(text)
        self._place = self._depth = 0

    def filter(self) -> dict[str, Any]:
        """All of the text."""
        made = self._either()
        if self._next.kind != "end":
            raise self._expected("and, or, or the end")
        return made

    def _split(self, text: str) -> list[_Token]:
        tokens, at, end = list[_Token](), 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise InvalidInput(
                    f"{self._what}: {text[at:].strip()!r:.40} cannot be read (from character "
                    f"{at + 1} on); a text stands in quotes"
                )
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            at = match.end()
        return [*tokens, _Token("end", "", len(text))]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += token.kind != "end"
        return token

    def _is(self, *values: str) -> bool:
        token = self._next
        return token.kind in ("word", "sign") and token.value.lower() in values

    def _expected(self, expected: str) -> InvalidInput:
        token = self._next
        arrived = "the end" if token.kind == "end" else f"{token.value:.40}"
        place = f"at character {token.at + 1} of {self._text!r:.80}"
        return InvalidInput(f"{self._what}: expected {expected}, got {arrived} {place}")

    def _either(self) -> dict[str, Any]:
        return self._joined("or", lambda: self._joined("and", self._one))

    def _joined(self, word: str, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        parts = [part()]
        while self._is(word):
            self._take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else {word: parts}

    def _one(self) -> dict[str, Any]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InvalidInput(f"{self._what}: expected at most {_DEEPEST} levels of parentheses")
        try:
            if self._is("not"):
                self._take()
                return {"not": self._one()}
            if not self._is("("):
                return self._condition()
            self._take()
            inside = self._either()
            if not self._is(")"):
                raise self._expected(")")
            self._take()
            return inside
        finally:
            self._depth -= 1

    def _condition(self) -> dict[str, Any]:
        if self._next.kind not in ("text", "word") or self._is(*_WORDS):
            raise self._expected("a key")
        key = self._plain(self._take())
        negated = self._is("not")
        if negated:
            self._take()
        if self._is("exists"):
            self._take()
            return {key: {"exists": not negated}}
        if self._is("in"):
            self._take()
            condition: dict[str, Any] = {key: {"in": self._list()}}
            return {"not": condition} if negated else condition
        if negated or not self._is("=", "==", "!=", *_RANGES):
            raise self._expected("in or exists" if negated else "=, !=, <, <=, >, >=, in or exists")
        sign = self._take().value
        value = self._value()
        if sign in _RANGES:
            return {key: {_RANGES[sign]: value}}
        return {"not": {key: {"eq": value}}} if sign == "!=" else {key: {"eq": value}}

    def _list(self) -> list[Any]:
        ends = {"(": ")", "[": "]"}
        if not self._is(*ends):
            raise self._expected("a list such as (1, 2)")
        end = ends[self._take().value]
        values = []
        while not self._is(end):
            values.append(self._value())
            if self._is(","):
                self._take()
            elif not self._is(end):
                raise self._expected(f", or {end}")
        self._take()
        return values

    def _value(self) -> Any:
        token = self._next
        if token.kind not in ("text", "word") or self._is(*_WORDS):
            raise self._expected("a value")
        self._take()
        if token.kind == "text":
            return self._plain(token)
        try:
            value = json.loads(token.value.lower(), parse_constant=_no_constant)
        except ValueError:
            return token.value
        return token.value if value is None else value

    @staticmethod
    def _plain(token: _Token) -> str:
        if token.kind == "word":
            return token.value
        return _ESCAPE.sub(r"\1", token.value[1:-1])


def _no_constant(text: str) -> Any:
    raise ValueError(text)
