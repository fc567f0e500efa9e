"""Recipes: the files that ship, and every way a file can be wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.recipe import list_recipes, load_recipe, read_recipe
from trustvlm.system import resources

GOOD = """
description = "A graph."
factory = "HNSW32"
exact = false
max_error = 1e-5
bytes_per_value = 4.5
"""


def test_those_that_ship() -> None:
    recipes = list_recipes()
    names = [recipe.name for recipe in recipes]
    assert {"flat", "flat-fp16"} <= set(names)
    assert names == sorted(path.stem for path in resources.folder("indexes").glob("*.toml"))
    assert [load_recipe(name) for name in names] == recipes
    flat, half = load_recipe("flat"), load_recipe("flat-fp16")
    assert (flat.factory, flat.exact, flat.max_error, flat.bytes_per_value) == (
        "Flat",
        True,
        1e-5,
        4.0,
    )
    assert (half.factory, half.exact, half.max_error, half.bytes_per_value) == (
        "SQfp16",
        False,
        1e-3,
        2.0,
    )
    for recipe in recipes:
        assert recipe.description
        json.dumps(dataclasses.asdict(recipe))


@pytest.mark.parametrize("name", ["ivf", "", "../indexes/flat", "flat.toml", "FLAT"])
def test_unknown_names_the_known(name: str) -> None:
    with pytest.raises(NotFound, match=r"flat, flat-fp16"):
        load_recipe(name)


def test_training_and_search_parameters(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        GOOD + '[search]\nefSearch = 64\n[training]\nfrom_rows = 100_000\n[measured]\nwhere = "2 '
        'cores"\nms = 0.5\n'
    )
    recipe = read_recipe(path)
    assert recipe.name == "mine"
    assert recipe.search == {"efSearch": 64}
    assert recipe.training == {"from_rows": 100_000}
    assert recipe.params == {
        "search": {"efSearch": 64},
        "training": {"from_rows": 100_000},
        "measured": {"where": "2 cores", "ms": 0.5},
    }
    path.write_text(GOOD)
    assert read_recipe(path).params == {}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD.replace('factory = "HNSW32"', ""), "factory"),
        (GOOD.replace('"HNSW32"', "32"), "factory"),
        (GOOD.replace('"A graph."', '"  "'), "description"),
        (GOOD.replace("false", "0"), "exact"),
        (GOOD.replace("1e-5", "true"), "max_error"),
        (GOOD.replace("1e-5", "-1.0"), "max_error"),
        (GOOD.replace("1e-5", "nan"), "max_error"),
        (GOOD.replace("4.5", '"4"'), "bytes_per_value"),
        (GOOD + "nprobe = 4", "nprobe"),
        (GOOD + "search = 4", "search"),
        (GOOD + '[search]\nnprobe = "4"', "search.nprobe"),
        (GOOD + "[search]\nnprobe = true", "search.nprobe"),
        (GOOD + "[trainng]\nfrom_rows = 4", "trainng"),
        (GOOD + "[training]\nrows = 4", "training.rows"),
        (GOOD + "[training]\nrows_per_list = 4", "from_rows"),
        (GOOD + "[training]\nfrom_rows = 4\nlists_per_root = 4", "{lists}"),
        (GOOD.replace("HNSW32", "IVF{lists},Flat"), "{lists}"),
        (GOOD + "= 4", "TOML"),
    ],
)
def test_malformed(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=key) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)


def test_not_text_and_not_there(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="TOML"):
        read_recipe(path)
    with pytest.raises(NotFound):
        read_recipe(tmp_path / "absent.toml")
