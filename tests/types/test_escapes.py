"""Escapes: two different texts are never written alike, and a shell reads them back."""

from __future__ import annotations

import ast
import os
import re
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trustvlm.types.messages.commands import word
from trustvlm.types.messages.stored_text import printable, storable, stored_text

ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
TEXTS = st.text(st.sampled_from("\\xuU5cé0\0\n\x1b\u202e\ufffd\ud800\U000e0001�"), max_size=12)


def read_back(text: str) -> str:
    return ESCAPE.sub(lambda match: str(ast.literal_eval(f"'{match[0]}'")), text)


@given(TEXTS)
@example("C:\\Users\\new")
@example("\\x41")
@example("\\\x1b")
def test_what_was_escaped_can_be_read_back(text: str) -> None:
    assert read_back(printable(text)) == text
    assert printable(text).isprintable()
    assert read_back(storable(text)) == text
    assert "\0" not in storable(text)
    storable(text).encode()


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("C:\\Users\\new\\test.jpg", "zoë", "鳥", "a\\b", "\ufffd"):
        assert printable(name) == storable(name) == name
    assert printable("\\x41") == "\\x5cx41"
    assert printable("a\x1b\u202e") == "a\\x1b\\u202e"
    assert storable("a\x1b\u202e") == "a\x1b\u202e"
    assert stored_text("x" * 9, 5) == "xxxx…"


@pytest.mark.parametrize(
    "name", ["a\x1b[31m", "it's\n\\x41", "\udc80.jpg", "\u202eabc1", "\u3000a"]
)
def test_bash_reads_an_escaped_word(name: str) -> None:
    printed = subprocess.run(
        ["bash", "-c", f"printf %s {word(name)}"], stdout=subprocess.PIPE, check=True
    ).stdout
    assert word(name).isprintable()
    assert printed == os.fsencode(name)
