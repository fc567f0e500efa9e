"""Arguments of the wrong kind, at every verb of the library and the client: an error of ours, and
nothing done."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served_client import application, client_of

import trustvlm
from trustvlm import InvalidInput, LabelInput, Queries, bulk
from trustvlm.client import Client

KINDS = {"library": trustvlm.TrustService, "client": Client}
ROWS = np.eye(4)[:3]
NAMES = ["a", "b", "c"]
NEEDED: dict[str, Any] = {
    "space": "s", "name": "s", "label": "a", "of": "b", "queries": Queries(ROWS + 0.125,
    ROWS + 0.125), "truth": NAMES,
    "ids": [10**6], "images": [], "inputs": [], "support_id": 1, "calibration_id": 1, "job_id": "x",
}  # fmt: skip
WRONG: dict[str, Any] = {
    "a number": 5, "NaN": float("nan"), "too large": 10**400, "bytes": b"x", "a list": [1],
    "a set": {1}, "an object": object(),
    "a tensor": torch.ones(2), "an array": np.ones(3), "a type": int, "text": "zz",
    "masked": np.ma.masked,
    "a mapping": {"a": 1},
}  # fmt: skip
VERBS = (
    "create_space", "get_space", "register", "add_support", "update_label", "remove_label",
    "restore_label", "alias", "unalias",
    "remove_support", "restore_support", "list_labels", "list_supports", "thumbnail", "score",
    "search", "evaluate",
    "evaluate_stored", "calibrate", "recalibrate", "feedback", "monitor", "list_calibrations",
    "remove_calibration",
    "count_observations", "get_job",
)  # fmt: skip
OF_LIBRARY = ("near_synonyms", "index_stats", "tune_index", "suggest_recipe")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with (
        application(tmp_path_factory.mktemp("arguments") / "home") as app,
        client_of(app, retries=0) as client,
    ):
        service = app.state.serving.service
        service.create_space(
            "s", classifier="precomputed:4", verifier="precomputed:4", logit_scale=2.0
        )
        service.register(
            "s",
            [
                LabelInput(n, text_vector=r, image_vectors=r)
                for n, r in zip(NAMES, ROWS, strict=True)
            ],
        )
        yield {"library": service, "client": client}


def cases() -> list[tuple[str, str]]:
    client = [("client", verb) for verb in VERBS]
    return [("library", verb) for verb in (*VERBS, *OF_LIBRARY) if verb != "get_job"] + client


@pytest.mark.parametrize(("who", "verb"), cases())
def test_wrong_kinds_are_errors_of_ours(doors: dict[str, Any], who: str, verb: str) -> None:
    door = doors[who]
    parameters = inspect.signature(getattr(KINDS[who], verb)).parameters
    for name in [name for name in parameters if name != "self"]:
        for value in WRONG.values():
            if name == "progress" and callable(value):
                continue  # the verb calls it, and hands on what it raises
            given = required(who, verb)
            given |= {"draws": 0} if "draws" in parameters else {}
            with suppress(trustvlm.TrustVLMError):  # any other error fails the test
                found = getattr(door, verb)(**given | {name: value})
                if hasattr(found, "__next__"):
                    list(found)


def annotated(*words: str) -> list[tuple[str, str, str]]:
    """(door, verb, parameter) of each parameter whose annotation has one of these words."""
    return [
        (who, verb, name)
        for who, kind in KINDS.items()
        for verb, method in inspect.getmembers(kind, inspect.isfunction)
        if not verb.startswith("_")
        for name, parameter in inspect.signature(method).parameters.items()
        if any(word in str(parameter.annotation) for word in words)
    ]


def required(who: str, verb: str) -> dict[str, Any]:
    """Arguments for the parameters of a verb that have no default."""
    parameters = inspect.signature(getattr(KINDS[who], verb)).parameters
    return {
        key: NEEDED.get(key)
        for key, p in parameters.items()
        if p.default is p.empty and key != "self"
    }


async def awaited(*_: Any) -> None: ...


@pytest.mark.parametrize(
    ("who", "verb", "name"), annotated("Callable[[", "Progress |", "OnCommit |")
)
def test_what_cannot_be_called_is_refused_before_the_work(
    doors: dict[str, Any], who: str, verb: str, name: str
) -> None:
    for value, said in ((3, "got 3"), ("print", "got 'print'"), (awaited, "got async def")):
        with pytest.raises(InvalidInput, match=f"^{name}: expected a function to call.*{said}"):
            getattr(doors[who], verb)(**required(who, verb) | {name: value})


@pytest.mark.parametrize("verb", [bulk.score, bulk.embed, trustvlm.restore])
def test_what_cannot_be_called_is_refused_beside_the_service(verb: Any, tmp_path: Path) -> None:
    places = ("b.zip", tmp_path) if verb is trustvlm.restore else (tmp_path, "s", ".", "out")
    with pytest.raises(InvalidInput, match=r"^progress: expected a function to call"):
        verb(*places, progress=3)


@pytest.mark.parametrize("who", ["library", "client"])
@pytest.mark.parametrize("value", ["false", "no", 0, 1, None, np.array([True, False])])
def test_yes_is_not_what_a_text_says(doors: dict[str, Any], who: str, value: Any) -> None:
    """ "false" would count as yes: what would be deleted or promoted on it is refused."""
    door, queries = doors[who], NEEDED["queries"]
    before = door.get_space("s")
    for name, call in {
        "purge": lambda: door.remove_label("s", "a", purge=value),
        "promote": lambda: door.feedback("s", queries, NAMES, promote=value),
        "sync": lambda: door.register("s", [LabelInput("a")], sync=value),
        "dry_run": lambda: door.register("s", [LabelInput("a")], dry_run=value),
        "keep_originals": lambda: door.add_support(
            "s", "a", image_vectors=ROWS, keep_originals=value
        ),
        "items": lambda: door.evaluate("s", queries, NAMES, items=value),
        "peers": lambda: door.evaluate("s", queries, NAMES, peers=value),
        "accept_truncated": lambda: door.embed("s", [], accept_truncated=value),
    }.items():
        with pytest.raises(InvalidInput, match=rf"^{name}: expected True or False"):
            call()
    assert door.get_space("s") == before
