"""What people see of an answer: short lines in a console, escaped HTML in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from trustvlm.types.tables.glance import Chance, Decision, Glance, Place, Share, as_html, as_text
from trustvlm.types.tables.probability import chance, percent

HOSTILE = "<script>alert('1')</script>\"&\x1b[31m\u202e\n" + "x" * 300


class Reader(HTMLParser):
    """The tags of a fragment, which must be closed in order, and its text."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(fragment)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def glance(rows: int, text: str = "label") -> Glance:
    cells = [(Decision("accept"), Share(0.25), text, 0.5, None) for _ in range(min(rows, 60))]
    columns = ("decision", "probability", "label", "trust", "rival")
    return Glance((f"{rows} rows", text), columns, cells, rows)


@pytest.mark.parametrize("rows", [0, 1, 9, 1_000_000])
@pytest.mark.parametrize("text", ["label", HOSTILE])
def test_text_is_short_and_printable(rows: int, text: str) -> None:
    shown = as_text(glance(rows, text))
    assert len(shown) <= 2_000
    assert all(line.isprintable() for line in shown.split("\n"))
    assert len(shown.split("\n")) <= 12
    assert ("more" in shown) == (rows > 8)


def test_text_leads_with_the_columns_and_their_first_rows() -> None:
    assert as_text(glance(9)).split("\n")[:4] == [
        "9 rows",
        "label",
        "decision  probability  label   trust  rival",
        "accept         25.0 %  label  0.5000      –",
    ]
    assert as_text(glance(9)).endswith("\n… 1 more")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "100.0 %"), (0.99996, ">99.9 %"), (0.9994, "99.9 %"), (0.0, "0.0 %"),
        (1e-300, "<0.1 %"), (0.0006, "0.1 %"), (float("nan"), "–"), (0.5, "50.0 %"),
    ],
)  # fmt: skip
def test_what_is_not_certain_never_looks_so(value: float, shown: str) -> None:
    assert as_text(Glance((), ("p",), [(Share(value),)], 1)).split("\n")[1].strip() == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.0, ">99.9 %"), (0.0, "<0.1 %"), (0.5, "50.0 %"), (0.998, "99.8 %")]
)
def test_a_probability_is_never_certain(value: float, shown: str) -> None:
    assert as_text(Glance((), ("p",), [(Chance(value),)], 1)).split("\n")[1].strip() == shown
    assert chance(value) == shown
    assert percent(0.99996, 0) == ">99 %"
    assert chance(None) == chance(float("nan")) == percent(None) == "–"


def test_small_numbers_are_not_zero() -> None:
    assert as_text(Glance((), ("trust",), [(2e-7,)], 1)).split("\n")[1].strip() == "2.0e-07"


def test_of_a_path_the_end_is_shown() -> None:
    path = Place("/a/very/long/folder/with/many/parts/image.png")
    assert as_text(Glance((), ("source",), [(path,)], 1)) == "source\n…th/many/parts/image.png"
    assert path in as_html(Glance((), ("source",), [(path,)], 1))


def test_html_escapes_what_comes_from_outside() -> None:
    fragment = as_html(glance(1, HOSTILE))
    read = Reader(fragment)
    assert set(read.tags) <= {"div", "table", "thead", "tbody", "tr", "th", "td", "span"}
    assert {name for name, _ in read.attributes} <= {"style", "title", "aria-hidden"}
    assert "<script>alert('1')</script>\"&" in read.text
    assert not {"\x1b", "\u202e"} & set(fragment)


def test_html_has_at_most_fifty_rows_with_bars_and_colours() -> None:
    read = Reader(as_html(glance(1_000)))
    assert read.tags.count("tr") == 51
    assert "… 950 more" in read.text
    styles = " ".join(value or "" for _, value in read.attributes)
    assert "width:25.0%" in styles
    assert "background:#1a7f37" in styles
