"""An evaluation image by image and threshold by threshold, on what comes in and on what is stored,
here and over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_service import Http, served
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.selective.metrics import risk_coverage_curve
from trustvlm.selective.risk import risk_upper_bound, risk_upper_bounds
from trustvlm.service.measuring.outcome import MOST_ITEMS


def noisy(world: World, each: int = 20, seed: int = 3) -> tuple[Queries, list[str | None]]:
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(world.names)), each)
    text = world.text[truth] + 1.3 * rng.normal(size=(len(truth), TEXT_DIM))
    return Queries(text, world.images[truth] + 0.6 * rng.normal(size=(len(truth), IMAGE_DIM))), [
        world.names[i] for i in truth
    ]


@pytest.fixture
def space(service: trustvlm.TrustService, world: World) -> trustvlm.TrustService:
    make_space(service)
    service.register("s", world.inputs(5))
    return service


@pytest.mark.parametrize("rule", ["image", "trustvlm_star"])
def test_items_and_thresholds_are_those_of_the_verdicts(
    space: trustvlm.TrustService, world: World, rule: str
) -> None:
    queries, truth = noisy(world)
    sources = [f"{i}.png" for i in range(len(truth))]
    found = space.evaluate(
        "s", queries, truth, rules=[rule], draws=0, items=True, sources=sources, confidence=0.8
    )
    verdicts = space.score("s", queries, rule=rule)
    outcome = found[rule]
    assert found.items is not None
    assert outcome.items is not None
    assert outcome.thresholds is not None
    assert [(one.index, one.source, one.truth) for one in found.items] == list(
        zip(range(120), sources, truth, strict=True)
    )
    assert [one.label for one in outcome.items] == verdicts.label.tolist()
    assert [one.right for one in outcome.items] == (
        verdicts.label == np.array(truth, object)
    ).tolist()
    np.testing.assert_allclose([one.trust for one in outcome.items], verdicts.trust, atol=1e-5)
    trust, right = (
        np.array([one.trust for one in outcome.items]),
        np.array([one.right for one in outcome.items]),
    )
    curve = risk_coverage_curve(trust, right)
    assert [one.threshold for one in outcome.thresholds] == curve.threshold.tolist()
    for one, coverage, risk in zip(outcome.thresholds, curve.coverage, curve.risk, strict=True):
        assert one.accepted == (trust >= one.threshold).sum() == round(coverage * 120)
        assert one.errors == (~right[trust >= one.threshold]).sum()
        assert one.errors / one.accepted == pytest.approx(risk)
        assert one.risk_bound == pytest.approx(risk_upper_bound(one.accepted, one.errors, 0.8))
    assert found.confidence == 0.8


def test_they_come_only_where_they_are_asked_for(
    space: trustvlm.TrustService, world: World
) -> None:
    found = space.evaluate("s", *noisy(world), rules=["msp"], draws=0)
    assert (found.items, found.confidence, found["msp"].items, found["msp"].thresholds) == (
        None,
        None,
        None,
        None,
    )


def test_support_images_have_no_item(space: trustvlm.TrustService, world: World) -> None:
    queries, truth = noisy(world)
    support = world.supports(0, 1)
    space.add_support("s", world.names[0], image_vectors=support)
    both = Queries(
        np.vstack([world.text[:1], queries.classifier]), np.vstack([support, queries.verifier])
    )
    found = space.evaluate("s", both, [world.names[0], *truth], rules=["msp"], draws=0, items=True)
    assert found.items is not None
    assert [one.index for one in found.items] == list(range(1, 121))
    assert found.items[0].source == "image 1"


def test_a_rule_is_evaluated_with_the_parameters_it_is_to_have(
    space: trustvlm.TrustService, world: World
) -> None:
    queries, truth = noisy(world)
    given = {"trustvlm": {"lambda": 3.0}}
    found = space.evaluate(
        "s", queries, truth, rules=["msp", "trustvlm"], params=given, draws=0, items=True
    )
    assert found["trustvlm"].params["lambda"] == 3.0
    items = found["trustvlm"].items
    assert items is not None
    expected = space.score("s", queries, rule="trustvlm", params=given["trustvlm"]).trust
    np.testing.assert_allclose([one.trust for one in items], expected, atol=1e-5)
    assert not np.allclose(expected, space.score("s", queries, rule="trustvlm").trust)
    with pytest.raises(trustvlm.InvalidInput, match="'image' is none of the rules evaluated: msp"):
        space.evaluate("s", queries, truth, rules=["msp"], params={"image": {}})
    with pytest.raises(trustvlm.InvalidInput, match="lambda"):
        space.evaluate(
            "s", queries, truth, rules=["trustvlm"], params={"trustvlm": {"lambada": 1.0}}
        )


def test_too_many_items_and_bad_confidence(space: trustvlm.TrustService, world: World) -> None:
    space.create_space(
        "t", classifier=f"precomputed:{TEXT_DIM}", verifier=f"precomputed:{IMAGE_DIM}"
    )
    space.register(
        "t",
        [
            LabelInput("one", text_vector=np.ones(TEXT_DIM)),
            LabelInput("two", text_vector=-np.ones(TEXT_DIM)),
        ],
    )
    rows = MOST_ITEMS // 2 + 1
    rng = np.random.default_rng(0)
    queries = Queries(rng.normal(size=(rows, TEXT_DIM)))
    with pytest.raises(
        trustvlm.InvalidInput, match=r"at most 100,000 pairs .* got 2 x 50,001; name fewer rules"
    ):
        space.evaluate("t", queries, [None] * rows, rules=["msp", "entropy"], items=True, draws=0)
    with pytest.raises(
        trustvlm.InvalidInput,
        match=r"confidence: expected a number from 1e-06 to 0[.]999999, got 1",
    ):
        space.evaluate("s", *noisy(world), confidence=1)


def test_bounds_of_many_are_those_of_each() -> None:
    accepted, errors = np.array([0, 1, 5, 45, 1_000_000]), np.array([0, 1, 0, 0, 1234])
    pairs = zip(accepted.tolist(), errors.tolist(), strict=True)
    assert risk_upper_bounds(accepted, errors, 0.9).tolist() == [
        risk_upper_bound(*pair, 0.9) for pair in pairs
    ]
    assert risk_upper_bounds(accepted, errors, 0.9)[3] == pytest.approx(1 - 0.1 ** (1 / 45))


def test_stored_images_are_evaluated_like_those_that_were_stored(
    space: trustvlm.TrustService, world: World
) -> None:
    queries, truth = noisy(world)
    with pytest.raises(trustvlm.InvalidInput, match="no calibration images yet"):
        space.evaluate_stored("s")
    space.calibrate("s", queries, truth, sources=[f"{i}.png" for i in range(120)], max_risk=0.2)
    fresh = space.evaluate("s", queries, truth, draws=0, items=True)
    stored = space.evaluate_stored("s", items=True)
    assert {one.rule: one.aurc.value for one in stored.rules} == pytest.approx(
        {one.rule: one.aurc.value for one in fresh.rules}, abs=1e-6
    )
    assert stored.items is not None
    assert (stored.items[7].source, stored.items[7].truth) == ("7.png", truth[7])
    counted = space.count_observations("s")
    assert (counted.calibration, counted.random, counted.chosen, counted.usable) == (120, 0, 0, 120)


def test_stored_images_follow_their_labels(space: trustvlm.TrustService, world: World) -> None:
    queries, truth = noisy(world)
    space.calibrate("s", queries, truth, max_risk=0.2)
    space.update_label(
        "s", "beach", new_name="strand", text_vector=world.text[world.names.index("beach")]
    )
    space.remove_label("s", "airport")
    found = space.evaluate_stored("s", rules=["msp"], items=True)
    assert (found.images, found.gone) == (100, 20)
    assert found.items is not None
    assert "strand" in {one.truth for one in found.items}
    assert not {"beach", "airport"} & {one.truth for one in found.items}


def test_feedback_counts_by_how_it_was_drawn(space: trustvlm.TrustService, world: World) -> None:
    queries, truth = noisy(world, each=2)
    half = Queries(queries.classifier[:6], queries.verifier[:6])
    rest = Queries(queries.classifier[6:], queries.verifier[6:])
    space.feedback("s", half, truth[:6], sampling="random")
    space.feedback("s", rest, truth[6:])
    counted = space.count_observations("s")
    assert (counted.calibration, counted.random, counted.chosen, counted.usable) == (0, 6, 6, 6)
    assert space.evaluate_stored("s", rules=["msp"]).images == 6


def test_recalibrating_may_ask_for_something_else(
    space: trustvlm.TrustService, world: World
) -> None:
    queries, truth = noisy(world, each=60)
    first = space.calibrate("s", queries, truth, rule="posterior", max_risk=0.2)
    again = space.recalibrate("s", max_risk=0.1, confidence=0.8)
    assert (again.rule, again.asked_rule, again.max_risk, again.confidence) == (
        "posterior",
        "posterior",
        0.1,
        0.8,
    )
    other = space.recalibrate("s", rule="trustvlm", params={"lambda": 3.0})
    assert (other.rule, other.params["lambda"], other.max_risk) == ("trustvlm", 3.0, 0.1)
    assert [one.id for one in space.list_calibrations("s")] == [other.id, again.id, first.id]
    with pytest.raises(trustvlm.InvalidInput, match="params: name the rule"):
        space.recalibrate("s", params={"lambda": 3.0})
    with pytest.raises(trustvlm.InvalidInput, match="max_risk"):
        space.recalibrate("s", max_risk=2)


# Over HTTP


@pytest.fixture
def http(tmp_path: Path, world: World) -> Iterator[Http]:
    with served(tmp_path / "home") as running:
        make_space(running.service)
        running.service.register("s", world.inputs(5))
        yield running


def as_json(queries: Queries, truth: list[str | None]) -> dict[str, Any]:
    sides = {
        name: np.asarray(getattr(queries, name)).tolist() for name in ("classifier", "verifier")
    }
    return sides | {"truth": truth}


def test_items_over_http(http: Http, world: World) -> None:
    queries, truth = noisy(world)
    body = as_json(queries, truth) | {
        "rules": ["trustvlm"],
        "items": True,
        "params": {"trustvlm": {"lambda": 3.0}},
    }
    done = http.job(http("POST", "/v1/spaces/s/evaluate", json=body, status=202))
    expected = http.service.evaluate(
        "s", queries, truth, rules=["trustvlm"], params=body["params"], items=True, draws=0
    ).to_dict()
    assert done["result"]["items"] == expected["items"]
    assert done["result"]["rules"][0]["thresholds"] == expected["rules"][0]["thresholds"]
    assert done["result"]["rules"][0]["items"] == expected["rules"][0]["items"]
    plain = http.job(
        http(
            "POST",
            "/v1/spaces/s/evaluate",
            json=as_json(queries, truth) | {"rules": ["msp"]},
            status=202,
        )
    )
    assert plain["result"]["items"] is None


def test_stored_images_over_http(http: Http, world: World) -> None:
    where = "/v1/spaces/s/observations"
    origins = ("calibration", "random", "chosen", "claims", "usable")
    assert http("GET", where) == dict.fromkeys(origins, 0)
    ended = http.job(http("POST", f"{where}/evaluate", json={}, status=202))
    assert (ended["state"], ended["error"]["kind"]) == ("failed", "InvalidInput")
    body = as_json(*noisy(world, each=60)) | {"max_risk": 0.2, "rule": "posterior"}
    assert (
        http.job(http("POST", "/v1/spaces/s/calibrate", json=body, status=202))["state"] == "done"
    )
    assert http("GET", where)["usable"] == 360
    found = http.job(
        http("POST", f"{where}/evaluate", json={"rules": ["msp"], "items": True}, status=202)
    )["result"]
    assert len(found["items"]) == len(found["rules"][0]["items"]) == 360
    made = http.job(http("POST", f"{where}/calibrate", json={"max_risk": 0.15}, status=202))[
        "result"
    ]
    assert (made["max_risk"], made["confidence"], made["asked_rule"]) == (0.15, 0.9, "posterior")
    assert http("GET", "/v1/spaces/s/calibrations")["calibrations"][0]["id"] == made["id"]
    http("POST", f"{where}/calibrate", json={"max_risk": 1.5}, status=422)
    http("POST", "/v1/spaces/t/observations/evaluate", json={}, status=404)
    for verb, body in (
        ("evaluate", {"rules": ["magic"]}),
        ("calibrate", {"rule": "magic"}),
    ):  # refused now, not by a job
        error = http("POST", f"/v1/spaces/s/observations/{verb}", json=body, status=422)["error"][
            "message"
        ]
        assert "expected one of " in error
        assert error.endswith("got 'magic'")


def test_pages_of_labels_with_their_support_images(http: Http) -> None:
    found = http("GET", "/v1/spaces/s/labels?thumbnails=3&limit=2")
    names = [row["name"] for row in found["labels"]]
    for row in found["labels"]:
        own = http("GET", f"/v1/spaces/s/labels/{row['name']}/supports")["supports"]
        assert row["supports"] == [support["id"] for support in own][:3]
    gone = found["labels"][0]["supports"][0]
    http("DELETE", f"/v1/spaces/s/supports/{gone}")
    after = http("GET", "/v1/spaces/s/labels?thumbnails=12&limit=2")["labels"]
    assert len(after[0]["supports"]) == 4
    assert gone not in after[0]["supports"]
    more = http(
        "GET", "/v1/spaces/s/labels", params={"thumbnails": 1, "cursor": found["next_cursor"]}
    )["labels"]
    assert not set(names) & {row["name"] for row in more}
    assert all("supports" not in row for row in http("GET", "/v1/spaces/s/labels")["labels"])
    http("GET", "/v1/spaces/s/labels?thumbnails=13", status=422)
    http("GET", "/v1/spaces/s/labels?thumbnails=1&order=id", status=422)
