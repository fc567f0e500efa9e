"""Trust split into its text and its image term: what the rule says without images, and what they
add."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from http_service import Http, served
from worlds import IMAGE_DIM, TEXT_DIM, World

import trustvlm
from trustvlm.scoring.rules import DEFAULT_RULE, RULES


@pytest.fixture
def space(tmp_path: Path, world: World) -> Iterator[Http]:
    """Six labels with four support images each, and one with none."""
    with served(tmp_path / "home") as http:
        spec = {
            "classifier": f"precomputed:{TEXT_DIM}",
            "verifier": f"precomputed:{IMAGE_DIM}",
            "logit_scale": 10.0,
        }
        http.service.create_space("s", **spec)
        http.service.register("s", world.inputs(4))
        http.service.register("s", [trustvlm.LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
        yield http


def asked(queries: trustvlm.Queries, **more: object) -> dict[str, object]:
    sides = {
        side: np.asarray(getattr(queries, side)).tolist() for side in ("classifier", "verifier")
    }
    return sides | more


@pytest.mark.parametrize("rule", RULES)
def test_the_terms_are_the_trust_without_images_and_what_they_add(
    space: Http, world: World, rule: str
) -> None:
    queries = world.queries(6)
    answer = space("POST", "/v1/spaces/s/score", json=asked(queries, rule=rule, terms=True))
    kind = RULES[rule].kind
    verdicts = answer["verdicts"]
    assert len(verdicts) == 36
    for verdict in verdicts:
        low, high = verdict["terms"]["range"] or (-np.inf, np.inf)
        for side, trust in (("label", verdict["trust"]), ("rival", verdict["rival_trust"])):
            text, image = verdict["terms"][side]["text"], verdict["terms"][side]["image"]
            assert (text is None, image is None) == (kind == "image", kind == "text")
            assert (text or 0.0) + (image or 0.0) == pytest.approx(trust, abs=1e-12)
            assert low <= trust <= high
    if kind == "fused":
        # λ = 0 is the rule without images, computed by the rule itself; the same label and rival
        # only where both stay.
        plain = space.service.score("s", queries, rule=rule, params={"lambda": 0.0})
        same = [i for i, verdict in enumerate(verdicts) if verdict["label"] == plain.label[i]]
        assert len(same) > 10
        for i in same:
            assert verdicts[i]["terms"]["label"]["text"] == pytest.approx(plain.trust[i], abs=1e-9)
            if verdicts[i]["rival"] == plain.rival[i]:
                assert verdicts[i]["terms"]["rival"]["text"] == pytest.approx(
                    plain.rival_trust[i], abs=1e-9
                )
        assert any(abs(verdict["terms"]["label"]["image"]) > 0.01 for verdict in verdicts)


def test_the_terms_of_the_papers_sum_are_p_and_the_weighted_similarity(
    space: Http, world: World
) -> None:
    queries = world.queries(3)
    body = asked(queries, rule="trustvlm", params={"lambda": 2.5}, terms=True)
    for verdict in space("POST", "/v1/spaces/s/score", json=body)["verdicts"]:
        assert verdict["terms"]["range"] == [-2.5, 3.5]
        assert verdict["terms"]["label"]["text"] == verdict["text_confidence"]
        if not verdict["unverified"]:
            assert verdict["terms"]["label"]["image"] == pytest.approx(
                2.5 * verdict["image_similarity"], abs=1e-12
            )


def test_without_prototypes_images_add_nothing_to_a_posterior(tmp_path: Path, world: World) -> None:
    with served(tmp_path / "home") as http:
        http.service.create_space(
            "s", classifier=f"precomputed:{TEXT_DIM}", verifier=f"precomputed:{IMAGE_DIM}"
        )
        http.service.register("s", world.inputs(0))
        queries = world.queries(2)
        for verdict in http("POST", "/v1/spaces/s/score", json=asked(queries, terms=True))[
            "verdicts"
        ]:
            assert verdict["terms"]["label"] == {"text": verdict["text_confidence"], "image": 0.0}


def test_a_single_label_has_no_rival_to_split(tmp_path: Path) -> None:
    with served(tmp_path / "home") as http:
        http.service.create_space("s", classifier="precomputed:2")
        http.service.register(
            "s", [trustvlm.LabelInput("a", text_vector=[1, 0], image_vectors=[[1, 0]])]
        )
        body = {"classifier": [[1.0, 0.5]], "rule": "trustvlm", "terms": True}
        (verdict,) = http("POST", "/v1/spaces/s/score", json=body)["verdicts"]
        assert verdict["rival"] is None
        assert verdict["terms"]["rival"] is None
        assert verdict["terms"]["label"]["text"] == 1.0


def test_terms_come_only_where_they_are_asked_for_and_to_each_of_several_callers_its_own(
    space: Http, world: World
) -> None:
    queries = world.queries(2)
    rows = asked(queries)
    assert all(
        "terms" not in verdict
        for verdict in space("POST", "/v1/spaces/s/score", json=rows)["verdicts"]
    )
    single = [
        {side: [rows[side][i]] for side in rows} | {"terms": True}
        for i in range(len(rows["classifier"]))
    ]  # type: ignore[index, arg-type]
    requests = [{"method": "POST", "url": "/v1/spaces/s/score", "json": body} for body in single]
    together = [answer.json()["verdicts"][0] for answer in space.together(requests)]
    alone = space("POST", "/v1/spaces/s/score", json=rows | {"terms": True})["verdicts"]
    for one, other in zip(together, alone, strict=True):
        assert one["label"] == other["label"]
        assert one["terms"]["label"]["text"] == pytest.approx(
            other["terms"]["label"]["text"], abs=1e-5
        )


def test_a_probability_has_the_scale_of_one() -> None:
    for rule in RULES.values():
        assert not rule.probability or rule.trust_range(rule.parameters) == (0.0, 1.0)


def test_the_rules_can_be_listed(space: Http) -> None:
    answer = space("GET", "/v1/rules")
    assert answer["default"] == DEFAULT_RULE
    assert {row["name"]: row["kind"] for row in answer["rules"]} == {
        name: rule.kind for name, rule in RULES.items()
    }
    assert next(row for row in answer["rules"] if row["name"] == "trustvlm") == {
        "name": "trustvlm", "kind": "fused", "parameters": {"lambda": 1.0}, "probability": False,
    }  # fmt: skip
