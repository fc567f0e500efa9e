"""Public records: a brief repr whatever they hold, JSON, and a hash."""

from __future__ import annotations

import dataclasses
import json
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trustvlm
import trustvlm.types
from trustvlm import LabelInput, Queries
from trustvlm.service.indexes.stats import IndexStats
from trustvlm.types import Embedded
from trustvlm.types.json_form import Answer

MANY = 100_000


def answers(kind: type = Answer) -> Iterator[type]:
    """Every class of answers."""
    for module in pkgutil.walk_packages(trustvlm.types.__path__, "trustvlm.types."):
        import_module(module.name)
    for one in kind.__subclasses__():
        yield one
        yield from answers(one)


def fields_of(kind: type, *parts: str) -> list[str]:
    """The fields whose types have one of these parts."""
    return [
        one.name
        for one in dataclasses.fields(kind)
        if any(str(one.type).startswith(part) or f"[{part}" in str(one.type) for part in parts)
    ]


@pytest.mark.parametrize("kind", sorted({*answers(), IndexStats}, key=lambda kind: kind.__name__))
def test_answers_can_be_hashed_and_shown(kind: Any) -> None:
    hashed = {one.name for one in dataclasses.fields(kind) if one.hash is not False}
    unhashable = fields_of(kind, "dict[", "Mapping[", "list[", "Attributes")
    assert not hashed.intersection(unhashable) or kind.__hash__ is object.__hash__
    long = set(fields_of(kind, "list[")) | {
        one.name for one in dataclasses.fields(kind) if "...]" in str(one.type)
    }
    if long:
        assert kind.__repr__.__module__ != kind.__module__, f"{kind} has the repr of a dataclass"


def test_what_is_given_is_shown_in_brief() -> None:
    array = np.zeros((MANY, 4), np.float32)
    queries = Queries(
        classifier=array, verifier=torch.zeros(MANY, 2), images=[b"x" * 10_000] * MANY,
        claimed=["airport"] * MANY, probabilities=[{str(i): 0.001 for i in range(1_000)}] * 30,
    )  # fmt: skip
    said = repr(queries)
    assert len(said) <= 2_000
    assert said.startswith(
        "Queries(classifier=<ndarray (100000, 4) float32>, verifier=<Tensor (100000, 2) "
        "torch.float32>, images=[b'xxx"
    )
    assert repr(Queries(claimed=["a", None])) == "Queries(claimed=['a', None])"
    assert repr(LabelInput("a", text_vector=array)) == (
        "LabelInput(name='a', text_vector=<ndarray (100000, 4) float32>)"
    )
    claims = repr(Queries(claimed=["airport"] * MANY))
    ten = ", ".join(["'airport'"] * 10)
    assert claims == f"Queries(claimed=[{ten}, … 100,000 in all])"
    embedded = Embedded(Queries(classifier=array), ["a.png"] * MANY, [("b.png", "empty")] * MANY)
    assert len(repr(embedded)) <= 2_000


def test_answers_of_a_home_are_json_and_members_of_sets(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("s", classifier="precomputed:2")
        service.register(
            "s",
            [LabelInput("a", text_vector=[1.0, 0.0], image_vectors=[[1.0, 0.5], [1.0, 0.2]],
                        attributes={"region": ["EU"]})],
        )  # fmt: skip
        backup = service.backup(tmp_path / "b.zip")
        queries = Queries(verifier=[[1.0, 0.0]])
        made = [
            backup,
            service.index_stats("s"),
            service.export_space("s", tmp_path / "exported"),
            *service.tune_index("s"),
            *service.suggest_recipe("s"),
            *service.list_labels("s", vectors=True),
            *service.search("s", queries)[0],
            *service.score("s", Queries(classifier=[[1.0, 0.0]])).evidence(0).label,
            service.verify("s"),
        ]
    made.append(trustvlm.restore(tmp_path / "b.zip", tmp_path / "other"))
    assert len(set(made)) == len(made)
    for answer in made:
        assert json.loads(json.dumps(answer.to_dict())), answer
        assert len(repr(answer)) <= 2_000
    assert backup.to_dict()["catalog"]["spaces"][0]["name"] == "s"
