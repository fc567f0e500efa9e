"""Evaluation: metrics with intervals, by label and by support images, as a table, JSON and a
page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from cli_runner import Cli
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.selective.metrics import aurc
from trustvlm.selective.report import render_html, risk_coverage, winners

NASTY = "<script>alert('$x_1$')</script>"


@pytest.fixture
def space(
    service: trustvlm.TrustService,
) -> tuple[trustvlm.TrustService, World, Queries, list[str]]:
    world = World(["airport", "beach", "bridge", "desert", NASTY, "harbour"])
    make_space(service)
    service.register("s", world.inputs(5))
    service.register("s", [LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
    rng = np.random.default_rng(3)
    truth = np.repeat(np.arange(6), 20)
    queries = Queries(
        world.text[truth] + 1.3 * rng.normal(size=(120, TEXT_DIM)),
        world.images[truth] + 0.6 * rng.normal(size=(120, IMAGE_DIM)),
    )
    return service, world, queries, [world.names[i] for i in truth]


def test_figures_are_those_of_the_verdicts(space: tuple) -> None:
    service, _, queries, truth = space
    found = service.evaluate("s", queries, truth)
    assert (found.space, found.images, found.labels, found.supports) == ("s", 120, 6, 0)
    assert (found.text, found.image, found.fused) == ("msp", "image", "posterior")
    assert {outcome.rule for outcome in found.rules} == set(trustvlm.RULES)
    for outcome in found.rules:
        verdicts = service.score("s", queries, rule=outcome.rule)
        right = verdicts.label == np.array(truth, dtype=object)
        assert outcome.accuracy.value == right.mean()
        assert outcome.aurc.value == pytest.approx(aurc(verdicts.trust, right), abs=1e-12)
        assert outcome.aurc.low <= outcome.aurc.value <= outcome.aurc.high
        assert (
            (outcome.ece is not None)
            == trustvlm.RULES[outcome.rule].probability
            == (outcome.reliability is not None)
        )
    assert found["msp"].versus_msp.value == 0
    assert [outcome.aurc.value for outcome in found.rules] == sorted(
        outcome.aurc.value for outcome in found.rules
    )
    assert (
        sum(label.images for label in found.per_label)
        == sum(label.predicted for label in found.per_label)
        == 120
    )
    assert all(
        label.standing == "no support images" for label in found.per_label if label.label == "bare"
    )
    trusts = [image.trust for image in found.wrong]
    assert trusts == sorted(trusts, reverse=True)
    assert all(image.truth != image.label for image in found.wrong)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["images"] == 120


def test_the_curve_ends_where_the_space_is(space: tuple) -> None:
    """With all support images the curve's point is the evaluation's own; without any, fused is
    text."""
    service, world, queries, truth = space
    for name, number in (
        ("airport", 3),
        ("beach", 3),
    ):  # 8 of these: more than 4, of which half of the labels have 5
        service.add_support(
            "s", name, image_vectors=world.supports(world.names.index(name), number)
        )
    found = service.evaluate("s", queries, truth, rules=["msp", "posterior", "image"], draws=2)
    point = {(shot.shots, shot.rule): shot for shot in found.shots}
    assert {shots for shots, _ in point} == {0, 1, 2, 4}
    assert point[0, "posterior"].mean == pytest.approx(found["msp"].aurc.value, abs=1e-9)
    assert all(shot.low <= shot.mean <= shot.high for shot in found.shots)
    assert not service.evaluate("s", queries, truth, draws=0).shots


def test_support_images_are_left_out(space: tuple) -> None:
    service, world, queries, truth = space
    image = world.supports(0, 1)
    service.add_support("s", "airport", image_vectors=image)
    both = Queries(
        np.vstack([queries.classifier, world.text[:1]]), np.vstack([queries.verifier, image])
    )
    found = service.evaluate("s", both, [*truth, "airport"], rules=["msp"])
    assert (found.images, found.supports) == (120, 1)
    with pytest.raises(trustvlm.InvalidInput, match="not support images"):
        service.evaluate("s", Queries(world.text[:1], image), ["airport"])


def test_images_of_no_label_and_all_right(space: tuple) -> None:
    service, world, _, _ = space
    sure = Queries(world.text, world.images)
    right = service.evaluate("s", sure, world.names, rules=["msp", "posterior"], draws=0)
    assert right["msp"].accuracy.value == 1
    assert math.isnan(right["msp"].auroc.value)
    assert right.to_dict()["rules"][0]["auroc"]["value"] is None
    assert right.wrong == ()
    assert "No image was labelled wrongly" in render_html(right)
    none = service.evaluate("s", sure, [None] * 6, rules=["msp"], draws=0)
    assert (none["msp"].accuracy.value, none.labels) == (0, 0)
    text_only = service.evaluate("s", Queries(world.text), world.names)
    assert (text_only.fused, text_only.image, text_only.shots) == (None, None, ())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rules": ["magic"]}, trustvlm.InvalidInput, "expected one of msp"),
        ({"rules": []}, trustvlm.InvalidInput, "list of rule names"),
        ({"rules": "msp"}, trustvlm.InvalidInput, "list of rule names"),
        ({"risk": 2.0}, trustvlm.InvalidInput, "risk"),
        ({"coverage": 0.0}, trustvlm.InvalidInput, "coverage"),
        ({"draws": -1}, trustvlm.InvalidInput, "draws"),
        ({"truth": ["ghost"] * 120}, trustvlm.NotFound, "no label 'ghost'"),
        ({"truth": ["airport"]}, trustvlm.InvalidInput, "expected 120 names"),
    ],
)
def test_bad_arguments(space: tuple, options: dict, error: type[Exception], message: str) -> None:
    service, _, queries, truth = space
    with pytest.raises(error, match=message):
        service.evaluate("s", queries, **{"truth": truth} | options)


def test_the_page_is_whole_and_escapes_names(space: tuple, tmp_path: Path) -> None:
    service, _, queries, truth = space
    found = service.evaluate("s", queries, truth, draws=2)
    with pytest.raises(trustvlm.ReadOnly):
        service.write_report(found, tmp_path / "missing" / "report.html")
    service.write_report(found, tmp_path / "linked.html", page="https://me:secret@trust.example/a")
    linked = (tmp_path / "linked.html").read_text(encoding="utf-8")
    assert linked.count("<svg") == 3
    assert "<script" not in linked
    assert "&lt;script&gt;" in linked
    assert not re.search(r"src=\"(?!data:)", linked)
    links = set(re.findall(r'href="([^"#]*)(?:#([^"]*))?"', linked.replace("xlink:", "")))
    assert {address for address, _ in links} <= {"https://trust.example/a/", ""}
    assert ("https://trust.example/a/", f"/s/labels/{quote(NASTY, safe='')}") in links
    for wrong in ("javascript:alert(1)", "example.com", "", "https://"):
        with pytest.raises(trustvlm.InvalidInput, match="page: expected the address"):
            service.write_report(found, tmp_path / "report.html", page=wrong)


def test_the_page_answers_first_and_cuts_long_tables(space: tuple) -> None:
    service, _, queries, truth = space
    found = service.evaluate("s", queries, truth, draws=0)
    one, pair, advice = found.per_label[0], found.confusions[0], found.label_advice[0]
    many = range(10_000)
    large = replace(
        found,
        per_label=tuple(replace(one, label=f"label {i}", error_share=i / 9_999) for i in many),
        confusions=tuple(replace(pair, truth=f"label {i}") for i in many),
        label_advice=tuple(replace(advice, label=f"label {i}") for i in many),
    )
    page = render_html(large)
    assert len(page) < 400_000
    assert page.index("10,000 labels to fix: label 0, ") < page.index("<h2>")
    for rest in ("9,980 more labels to fix", "9,970 more labels", "9,980 more pairs"):
        assert f"and {rest};" in page
    shares = [float(x) for x in re.findall(r"([\d.]+) %<span class=\"bar\"", page)][:30]
    assert shares[0] == 100
    assert shares == sorted(shares, reverse=True)
    assert "href" not in page.replace("xlink:href", "")
    assert not re.search(r"src=\"(?!data:)", page)


def test_every_rule_is_drawn_and_the_best_are_named(space: tuple) -> None:
    service, _, queries, truth = space
    found = service.evaluate("s", queries, truth, draws=0)
    for correcting in (False, True):
        shares = winners(found, correcting=correcting)
        assert sum(shares.values()) == pytest.approx(1)
        assert all(rule.endswith("_star") == correcting for rule in shares)
        for coverage in (0.2, 0.5, 0.9):
            risks = {
                rule.rule: np.interp(coverage, *np.array(rule.curve).T)
                for rule in found.rules
                if rule.rule.endswith("_star") == correcting
            }
            assert min(risks[rule] for rule in shares) == min(risks.values())
    plot = risk_coverage(found)
    drawn = [rule.rule for rule in found.rules if f">{rule.rule}<" in plot]
    assert {"msp", "posterior", *winners(found, correcting=False)} <= set(drawn)
    assert ">other rules<" in plot
    alone = service.evaluate("s", queries, truth, draws=0, rules=["posterior_star"])
    assert winners(alone, correcting=False) == {}
    page = render_html(alone)
    assert "<h2>Label by label" not in page
    assert "No image was labelled wrongly" not in page


def test_the_command(space: tuple, tmp_path: Path, cli: Cli) -> None:
    _, _, queries, truth = space
    np.savez(
        tmp_path / "labelled.npz",
        classifier=queries.classifier,
        verifier=queries.verifier,
        truth=np.array(truth),
    )
    table = cli(
        "evaluate",
        "s",
        "--vectors",
        tmp_path / "labelled.npz",
        "--report",
        tmp_path / "page.html",
        "--draws",
        "1",
    )
    assert "120 images of 6 labels" in table
    assert 'href="http://127.0.0.1:8000/#/s/labels/' in (tmp_path / "page.html").read_text("utf-8")
    assert "add --report" in cli("evaluate", "s", "--page", "http://h/", code=2)
    assert "posterior_star" in table
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    values = json.loads(
        cli(
            "evaluate",
            "s",
            "--vectors",
            tmp_path / "labelled.npz",
            "--rules",
            "msp, posterior",
            "--json",
        )
    )
    assert {rule["rule"] for rule in values["rules"]} == {"msp", "posterior"}
    names, places = np.unique(truth, return_inverse=True)
    np.savez(
        tmp_path / "indexed.npz",
        image_vectors=queries.verifier,
        classifier_image_vectors=queries.classifier,
        label_names=names,
        image_labels=places,
    )
    again = json.loads(
        cli(
            "evaluate",
            "s",
            "--vectors",
            tmp_path / "indexed.npz",
            "--rules",
            "msp,posterior",
            "--json",
        )
    )
    assert again["rules"] == values["rules"]
    np.savez(tmp_path / "bare.npz", classifier=queries.classifier)
    assert "true label of each image" in cli(
        "evaluate", "s", "--vectors", tmp_path / "bare.npz", code=2
    )
