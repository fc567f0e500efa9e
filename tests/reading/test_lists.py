"""Lists of names: what is read, in which order, and what is refused rather than read line by
line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runner import Cli

from trustvlm.errors import InvalidInput
from trustvlm.reading.lists import read_names

TWO = [("cat", None), ("dog", None)]
PROMPTED = [("cat", "a cat, sitting"), ("dog", None)]


def names(path: Path, content: str | bytes) -> list[tuple[str, str | None]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(one.name, one.prompt) for one in read_names(path).names]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("cat\ndog\n", TWO),
        ("\n  cat \r\n\r\ndog", TWO),
        ("\ufeffcat\rdog\r", TWO),
        ("# my labels\ncat\n#\ndog\n", TWO),
        ('"cat"\n"dog"\n', TWO),
        ("name\ncat\ndog\n", TWO),
        ("Label\r\ncat\r\ndog\r\n", TWO),
        ("cat\ta cat, sitting\ndog\n", PROMPTED),
        ("cat\ta cat, sitting\ndog\t\n", PROMPTED),
        # Tables
        ('name,prompt\ncat,"a cat, sitting"\ndog,\n', PROMPTED),
        ('Name ; Prompt\r\n"cat";a cat, sitting\r\ndog\r\n', PROMPTED),
        ("\ufeffNAME;TEXT\r\ncat;a cat, sitting\r\ndog;\r\n;;\r\n", PROMPTED),
        ("sep=;\nclass name;prompt\ncat;a cat, sitting\ndog;", PROMPTED),
        ("label\tprompt\ncat\ta cat, sitting\ndog\t", PROMPTED),
        ("prompt,name,\n'a',cat,\n,dog,\n", [("cat", "'a'"), ("dog", None)]),
        ("# made by hand\nindex,label\n1,dog\n0,cat\n", TWO),
        ("class;\ncat;\ndog;\n", TWO),
        ("name|prompt\ncat|a cat, sitting\ndog|\n", PROMPTED),
        ("name,id\ndog,10\ncat,9\n", TWO),
        ('name,prompt\n"a ""big"" cat","two\nlines"\n', [('a "big" cat', "two\nlines")]),
        ('name,prompt\n"cat, tabby",\n', [("cat, tabby", None)]),
        # JSON
        ('["cat", "dog"]', TWO),
        ('\ufeff\n[ "cat",\r\n"dog" ]\n', TWO),
        ('{"0": "cat", "1": "dog"}', TWO),
        ('{"10": "dog", "9": "cat"}', TWO),
        ('{"dog": 1, "cat": 0}', TWO),
        ('{"cat": 1, "dog": 2}', TWO),
        ('{"1": ["n02", "dog"], "0": ["n01", "cat"]}', TWO),
        ('[{"name": "cat", "prompt": "a cat, sitting"}, {"name": "dog"}]', PROMPTED),
        ('[{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog", '
         '"supercategory": "animal"}]', TWO),
        ('["a: b", "- c", "1. d", "e.jpg", "# '
         'f"]', [(name, None) for name in ("a: b", "- c", "1. d", "e.jpg", "# f")]),
        # Names that look odd one by one
        ("tench, Tinca tinca\ngoldfish\n", [("tench, Tinca tinca", None), ("goldfish", None)]),
        ("[red]\n[blue]\n", [("[red]", None), ("[blue]", None)]),
        ("<unk>\ncat\n", [("<unk>", None), ("cat", None)]),
        ("#sunset\n#1 fan\n", [("#sunset", None), ("#1 fan", None)]),
        ("0\n1\n2\n", [("0", None), ("1", None), ("2", None)]),
        ("1 euro\n2 euro\n5 euro\n", [("1 euro", None), ("2 euro", None), ("5 euro", None)]),
        ("737-200\nBoeing 747\n7.62 "
         "mm\n", [("737-200", None), ("Boeing 747", None), ("7.62 mm", None)]),
        ("Boeing 707\nBoeing 727\n", [("Boeing 707", None), ("Boeing 727", None)]),
        ("E. coli\nS. aureus\n", [("E. coli", None), ("S. aureus", None)]),
        ("Star Wars: A New "
         "Hope\nAlien\nJaws\n", [("Star Wars: A New Hope", None), ("Alien", None), ("Jaws", None)]),
        ("1,2-dichloroethane\nwater\n", [("1,2-dichloroethane", None), ("water", None)]),
        ("St. Bernard\nAra ararauna L.\n7:30 "
         "bus\n", [("St. Bernard", None), ("Ara ararauna L.", None), ("7:30 bus", None)]),
        ("Forêt\n森\n", [("Forêt", None), ("森", None)]),
    ],
)  # fmt: skip
def test_lists_that_are_read(
    tmp_path: Path, content: str, expected: list[tuple[str, str | None]]
) -> None:
    assert names(tmp_path / "names", content) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_a_file_names_itself(tmp_path: Path, encoding: str) -> None:
    assert names(
        tmp_path / "names.csv", "name;prompt\r\nForêt;\r\nMäuse;x\r\n".encode(encoding)
    ) == [("Forêt", None), ("Mäuse", "x")]
    big = "\ufeffcat\ndog".encode("utf-16-be")
    assert names(tmp_path / "names.csv", big) == TWO


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,label\na.jpg,cat\nb.jpg,dog\n", "a table of images and their labels (columns "
                                               "file, label)"),
        ("label;image_path\ncat;x/1.png\n", "a table of images and their labels"),
        ("filename\tclass\n1.png\tcat\n", "a table of images and their labels"),
        ("x,y\na.jpg,cat\nb.jpg,dog\n", "a list of image files"),
        ("a.jpg cat\nb.jpg dog\n", "a list of image files"),
        ("train/cat/1.JPEG 0\ntrain/dog/2.JPEG 1\n", "a list of image files"),
        ("cat.png\ndog.png\n", "a list of image files"),
        ("name,size\ncat,1\n", "expected the column name and, optionally, prompt (or text), "
                               "index, parent, attributes and attr.KEY; got name, size"),
        ("label,name\ncat,dog\n", "got label, name"),
        ("name,name\ncat,dog\n", "got name, name"),
        ("cat,animal\ndog,animal\n", "a table whose header is not recognized"),
        ("cat;0\ndog;1\n", "a map of names to numbers"),
        ("cat, 0\ndog, 1\n", "a map of names to numbers"),
        ("cat\t0\ndog\t1\n", "a map of names to numbers"),
        ("0,cat\n1,dog\n", "a table whose header is not recognized"),
        ("0\tcat\n1\tdog\n", "a numbered list"),
        ("0 tench\n1 goldfish\n", "a numbered list"),
        ("0: tench\n1: goldfish\n", "key: value"),
        ("1. tench\n2. goldfish\n", "a numbered list"),
        ("1) tench\n2) goldfish\n", "a numbered list"),
        ("(1) tench\n(2) goldfish\n", "a numbered list"),
        ("001.ak47\n002.american-flag\n", "a numbered list"),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "a map of WordNet ids to names"),
        ("n01440764\ttench\nn01443537\tgoldfish\n", "a map of WordNet ids to names"),
        ("| cat | 0 |\n| dog | 1 |\n", "a table whose header is not recognized"),
        ("- cat\n- dog\n", "a list with bullets"),
        ("# Labels\n\n* cat\n* dog\n", "a list with bullets"),
        ("---\ncat\n", "YAML"),
        ("names:\n  0: cat\n  1: dog\n", "YAML"),
        ("# data\npath: ../x\nnc: 2\nnames:\n- cat\n- dog\n", "YAML"),
        ("names: [cat,\n  dog]\n", "YAML"),
        ("names = ['cat',\n  'dog']\n", "YAML, JSON or program text"),
        ("CLASSES = (\n  'cat',\n  'dog',\n)\n", "program text"),
        ("['cat', 'dog']", "JSON that cannot be read"),
        ('["cat", "dog"', "JSON that cannot be read"),
        ('[\n"cat",\n"dog"\n', "JSON that cannot be read"),
        ('{"0": "cat",}', "JSON that cannot be read"),
        ('{"name": "cat"}\n{"name": "dog"}\n', "JSON lines (NDJSON)"),
        ('["cat"]\n["dog"]\n', "JSON lines (NDJSON)"),
        ("[cat, dog]\n", "a list in brackets"),
        ("('cat', 'dog')\n", "a list in brackets"),
        ("cat,dog,bird\n", "a table whose header is not recognized"),
        ("cat, dog, bird\n", "one line of several names"),
        ("cat,\ndog,\n", "lines that end with commas"),
        ('"cat",\n"dog",\n', "lines that end with commas"),
        ("item {\n  id: 1\n  name: 'cat'\n}\n", "key: value"),
        ("item {\n  name 'cat'\n}\n", "a nested structure"),
        ("[labels]\ncat = 0\ndog = 1\n", "settings (key = value)"),
        ("<?xml version='1.0'?>\n<labels><label>cat</label></labels>\n", "XML or HTML"),
        ("<!DOCTYPE html>\n<ul><li>cat</li></ul>\n", "XML or HTML"),
        ('<label name="cat"/>\n<label name="dog"/>\n', "XML or HTML"),
        ("0 1\n2 3\n", "rows of numbers"),
        ("0.25\n-1.5e-3\n", "rows of numbers"),
        ("+1 1:0.5 2:0.3\n-1 1:0.1 7:2\n", "rows of numbered features (libsvm)"),
        ("1\n00:00:01,000 --> 00:00:02,000\nHello\n", "subtitles"),
        ("2026-01-01 12:00:00 INFO start\n2026-01-01 12:00:01 INFO "
         "end\n", "lines with dates or times"),
        ("https://a.org/cat\nhttps://a.org/dog\n", "a list of addresses"),
        ("diff --git a/b b/b\n+cat\n-dog\n", "differences between files"),
        ("Dear all,\nplease find attached the labels.\nBest, Anna\n", "sentences"),
        ("The labels that stand in the file which was sent to all of\nyou last "
         "week\n", "sentences"),
        ("/a/airfield 0\n/a/alley 1\n", "a map of names to numbers"),
        ("tench 1\ngreat white shark 2\n", "a map of names to numbers"),
        ("/a/abbey\n/a/airport\n", "a list of paths"),
        ("a) cat\nb) dog\nc) cow\n", "a numbered list"),
        ("cat -> 0\ndog -> 1\n", "a map of names to numbers"),
        ("cat -> Katze\ndog -> Hund\n", "a mapping (a -> b)"),
        ("'cat'\n'dog'\n", "names in single quotes"),
        ("\\item cat\n\\item dog\n", "LaTeX"),
        ("cat      animal\noak      plant\n", "columns separated by spaces"),
        ("// names\n[\n'cat'\n]\n", "program text"),
        ("INSERT INTO labels VALUES (1,'cat');\nINSERT INTO labels VALUES "
         "(2,'dog');\n", "lines that end with commas"),
        # JSON of another make
        ('{"cat": "a cat", "dog": "a dog"}', "got an object with the keys 'cat', 'dog'"),
        ('{"cat": 120, "dog": 80}', "got an object with the keys"),
        ('{"names": ["cat", "dog"]}', "got an object with the keys 'names'"),
        ('{"cat": 0, "dog": 0, "cow": 1}', "the class number 0 occurs twice"),
        ('{"0": "cat", "00": "dog"}', "the class number 0 occurs twice"),
        ('{"0": "cat", "0": "dog"}', "the key '0' is given twice"),
        ('{"0": 1.5}', "got an object"),
        ('{"0": ""}', "class 0: expected a text"),
        ('{"0": "cat", "1": null}', "got an object"),
        ("[1, 2]", "item 1: expected a name"),
        ('["cat", " "]', "item 2: expected a text"),
        ('[{"file": "a.jpg", "label": "cat"}]', "item 1: expected a name, or an object with name"),
        ('[{"name": "cat", "file": "a.jpg"}]', "item 1: expected a name, or an object with name"),
        ('[["n01", "cat"]]', "item 1: expected a name"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "found none"),
        ("{}", "found none"),
        ("", "found none"),
        ("\n \n\t\n", "found none"),
        ("# only a comment\n", "found none"),
        ("name,prompt\n", "found none"),
        # Tables that are not sound
        ("name,prompt\ncat,a cat, "
         "sitting\n", "line 2: expected 2 columns, got 3; a cell with ',' in it needs quotes"),
        ("name,prompt\n,a cat\n", "line 2: expected a name, got an empty cell"),
        ("id,name\nx,cat\n", "line 2: expected the number of a class, got 'x'"),
        ("id,name\n1,cat\n1,dog\n", "the class number 1 occurs twice"),
        ('name,prompt\n"cat,a cat\n', "line 2: expected valid CSV"),
        ("a\tb\tc\n", "line 1: expected a name, or a name, a tab and a prompt; got 2 tabs"),
    ],
)  # fmt: skip
def test_files_of_another_kind_are_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        names(tmp_path / "names", content)
    assert str(error.value).startswith(f"{tmp_path}/names")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04rest", "this is a zip archive (.npz, .xlsx"),
        (b"PAR1rest", "this is a Parquet file"),
        (b"\x93NUMPY\x01\x00", "this is an array of numpy"),
        (b"\xd0\xcf\x11\xe0rest", "this is an old Office file"),
        (b"SQLite format 3\0", "this is an SQLite file"),
        (b"\x89PNG\r\n\x1a\n", "this is an image"),
        (b"%PDF-1.4", "this is a PDF"),
        (b"\x1f\x8b\x08", "this is a gzip file"),
        ("Forêt\n".encode("latin-1"), "line 1: expected UTF-8 text, got another encoding"),
        (b"cat\nM\xe4use\n", "line 2: expected UTF-8 text"),
        ("cat\ndog\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b"cat\nd\0g\n", "line 2: expected a list of names"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        names(tmp_path / "names", content)
    assert said in str(error.value)


def test_repeated_names_are_said_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    for content, places in [
        ("cat\ncrane\n\ncrane\ndog\n", "line 2, line 4"),
        ("name,prompt\ncat,\ncrane,\ncrane,x\ndog,\n", "line 3, line 4"),
        ('["cat", "crane", "crane", "dog"]', "item 2, item 3"),
        ('{"0": "cat", "134": "crane", "517": "crane", "600": "dog"}', "class 134, class 517"),
    ]:
        path.write_text(content, encoding="utf-8")
        found = read_names(path)
        assert len(found.names) == 4
        assert found.notes == [
            f"{path}: the name 'crane' occurs 2 times ({places}); it becomes one label",
            f"{path}: 4 entries make 3 labels; class numbers after a repeated name no longer "
            f"match the positions in the file",
        ]


def test_a_list_on_the_command_line(tmp_path: Path) -> None:
    cli, path = Cli(tmp_path / "home"), tmp_path / "names"
    cli("space", "create", "s", "--classifier", "precomputed:4")
    path.write_text("cat\nd\u202eg\n", encoding="utf-8")
    assert f"{path}, line 2: " in cli("register", "s", "--labels", path, code=2)
    path.write_text(json.dumps(["cat", "x" * 501]))
    assert f"{path}, item 2: expected at most 500 characters" in cli(
        "register", "s", "--labels", path, code=2
    )
    path.write_text("cat\n---\n- dog\n- cow\n")
    assert "got what looks like a list with bullets" in cli(
        "register", "s", "--labels", path, code=2
    )
    assert cli("label", "list", "s", "--format", "jsonl") == ""
