"""Scoring and searching: every number against a plain NumPy computation over all labels."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import RULES, LabelInput, Queries

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: test_equal_back_ends.py


def unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


OF_ORACLE = [name for name, rule in RULES.items() if not rule.discriminant]  # those: test_lda.py


class Oracle:
    """The rules by their formulas, dense and in float64, over labels of which some have no support
    images."""

    def __init__(
        self, names: list[str], text: np.ndarray, supports: list[np.ndarray | None], scale: float
    ) -> None:
        self.names, self.text, self.scale = names, unit(text.astype(np.float32)), scale
        self.supports = [
            None if s is None else s.astype(np.float32).astype(np.float64) for s in supports
        ]
        self.prototypes = np.array(
            [
                np.full(IMAGE_DIM, np.nan) if s is None else unit(s.mean(axis=0))
                for s in self.supports
            ]
        )

    def imputed(self) -> float:
        own, other = [], []
        for label, images in enumerate(self.supports):
            for i in range(0 if images is None else len(images)):
                similarity = self.prototypes @ unit(images[i])
                similarity[label] = np.nan
                other.append(np.nanmax(similarity))
                if len(images) > 1:
                    own.append(unit(np.delete(images, i, axis=0).mean(axis=0)) @ unit(images[i]))
        if not other:
            return 0.0
        best_other = np.mean(other)
        return ((np.mean(own) if own else (1 + best_other) / 2) + best_other) / 2

    def fit(self) -> float | None:
        """τ by leaving out every support image in turn; None where the guard switches image
        evidence off."""
        rows, own = [], []
        for label, images in enumerate(self.supports):
            for i in range(len(images) if images is not None and len(images) > 1 else 0):
                similarity = self.prototypes @ unit(images[i])
                similarity[label] = unit(np.delete(images, i, axis=0).mean(axis=0)) @ unit(
                    images[i]
                )
                rows.append(similarity[~np.isnan(similarity)])
                own.append(similarity[label])
        labels = int((~np.isnan(self.prototypes[:, 0])).sum())
        if not rows or labels < 2:
            return 0.08
        best = (-np.inf, None, 0.0)
        top = np.max(rows, axis=1)
        rival = np.array([row[row != mine].max() for row, mine in zip(rows, own, strict=True)])
        told_apart = bool((np.array(own) == top).all())
        smoothing = 1 / (len(rows) + 2) if told_apart else 0.0
        for tau in np.geomspace(0.003, 0.5, 60):
            sums = np.exp((np.array(rows) - top[:, np.newaxis]) / tau).sum(axis=1)
            target = (1 - smoothing) * np.array(own) + smoothing * rival
            likelihood = (target - top) / tau - np.log(sums)
            if likelihood.mean() >= best[0]:
                best = likelihood.mean(), tau, likelihood.std(ddof=1) / np.sqrt(len(rows))
        on = best[0] + np.log(labels) >= 2 * best[2]
        return min(1.5 * best[1], 0.08 if told_apart else np.inf) if on else None

    def posterior(self, p: np.ndarray, c: np.ndarray, among: np.ndarray) -> np.ndarray:
        tau = self.fit()
        seen = ~np.isnan(c[0])
        if tau is None or not seen.any():
            return p
        general = np.exp(c[:, seen] / tau).mean(axis=1, keepdims=True)
        rest = np.where(among, 0, p).sum(axis=1, keepdims=True)
        share = (seen & ~among).sum(axis=1, keepdims=True) / np.maximum(
            (~among).sum(axis=1, keepdims=True), 1
        )
        known, bare = np.where(among & seen, p, 0), np.where(among & ~seen, p, 0)
        joint = np.where(seen, known * np.exp(c / tau), 0)
        mass, fused = (
            known.sum(axis=1, keepdims=True) + rest * share,
            joint.sum(axis=1, keepdims=True) + rest * share * general,
        )
        unknown = bare.sum(axis=1, keepdims=True) + rest * (1 - share)
        if not unknown.all():
            return joint / fused
        kappa = 1 / np.sqrt(
            1 + np.pi * 100 / 8 * ((bare / unknown) ** 2).sum(axis=1, keepdims=True)
        )
        odds = mass / unknown * (fused / mass / general * np.e) ** kappa
        return odds / (1 + odds) * joint / fused + 1 / (1 + odds) * bare / unknown

    def votes(self, z: np.ndarray) -> np.ndarray:
        """Shares of the labels among the 20 nearest support images, weighted by
        e^(similarity/0.07)."""
        owner = np.array(
            [
                label
                for label, images in enumerate(self.supports)
                if images is not None
                for _ in images
            ]
        )
        similarity = (
            z @ unit(np.concatenate([images for images in self.supports if images is not None])).T
        )
        found = np.zeros((len(z), len(self.names)))
        for row, near in enumerate(np.argsort(-similarity, axis=1)[:, :20]):
            np.add.at(found[row], owner[near], np.exp(similarity[row, near] / 0.07))
        return found / found.sum(axis=1, keepdims=True)

    def verdicts(
        self, queries: Queries, rule: str, weight: float = 1.0, temperature: float = 0.01
    ) -> dict[str, np.ndarray]:
        logits = self.scale * unit(queries.classifier) @ self.text.T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        c = unit(queries.verifier) @ self.prototypes.T
        filled = np.where(np.isnan(c), self.imputed(), c)
        powers = np.where(
            np.isnan(c), 0, np.exp((c - np.nanmax(c, axis=1, keepdims=True)) / temperature)
        )
        softmax = powers / powers.sum(axis=1, keepdims=True)
        at = np.arange(len(p))
        # The candidates: the 64 text leaders and the 64 nearest prototypes.
        among = np.zeros(p.shape, bool)
        for table in (p, np.where(np.isnan(c), -np.inf, c)):
            leaders = np.argsort(-table, axis=1, kind="stable")[:, :64]
            there = np.zeros(p.shape, bool)
            np.put_along_axis(
                there, leaders, np.isfinite(np.take_along_axis(table, leaders, axis=1)), axis=1
            )
            among |= there

        def other(table: np.ndarray) -> np.ndarray:
            found = np.empty(table.shape)
            for j in range(table.shape[1]):
                found[:, j] = np.delete(table, j, axis=1).max(axis=1)
            return found

        def of_query(trust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return p, np.repeat(trust[:, np.newaxis], p.shape[1], axis=1)

        def far(similarity: np.ndarray) -> np.ndarray:
            return np.sqrt(2 - 2 * similarity)

        star = p + weight * softmax
        quantity, trust = {
            "msp": lambda: (p, p),
            "max_logit": lambda: (logits, logits),
            "margin": lambda: (p, p - other(p)),
            "entropy": lambda: of_query((p * np.log(np.maximum(p, 1e-300))).sum(axis=1)),
            "energy": lambda: of_query(np.log(np.exp(logits).sum(axis=1))),
            "doctor": lambda: of_query(1 - (1 - (p**2).sum(axis=1)) / (p**2).sum(axis=1)),
            "image": lambda: (filled, filled),
            "knn": lambda: (self.votes(unit(queries.verifier)),) * 2,
            "ratio": lambda: (
                filled,
                far(np.maximum(other(np.where(np.isnan(c), -1, c)), -1)) / far(filled),
            ),
            "trustvlm": lambda: (p + weight * filled,) * 2,
            "trustvlm_star": lambda: (star, star + weight * filled),
            "posterior": lambda: (self.posterior(p, c, among),) * 2,
            "posterior_star": lambda: (self.posterior(p, c, among),) * 2,
        }[rule]()
        relabelled = np.where(among, quantity, -np.inf) if rule == "posterior_star" else quantity
        chosen = (relabelled if rule.endswith("star") else p).argmax(axis=1)
        others = np.where(among, quantity, -np.inf)
        others[at, chosen] = -np.inf
        rival = others.argmax(axis=1)
        names = np.array(self.names, dtype=object)
        return {
            "label": names[chosen],
            "trust": trust[at, chosen],
            "text_confidence": p[at, chosen],
            "image_similarity": c[at, chosen],
            "rival": names[rival],
            "rival_trust": trust[at, rival],
            "nearest_prototype": names[np.nanargmax(c, axis=1)],
            "nearest_similarity": np.nanmax(c, axis=1),
            "unverified": np.isnan(c[at, chosen]),
        }


def build(
    service: trustvlm.TrustService,
    count: int,
    *,
    bare: float,
    seed: int,
    recipe: str = "flat",
    shots: int = 3,
) -> tuple[Oracle, Queries]:
    """A space of `count` labels of which a share `bare` has no support images, its oracle, and
    queries."""
    rng = np.random.default_rng(seed)
    world = World([f"label {i:05d}" for i in range(count)], seed)
    supports = [None if rng.random() < bare else world.supports(i, shots) for i in range(count)]
    make_space(service, f"n{count}", recipe=recipe, logit_scale=25.0)
    service.register(
        f"n{count}",
        [
            LabelInput(name, text_vector=world.text[i], image_vectors=supports[i])
            for i, name in enumerate(world.names)
        ],
    )
    picked = rng.integers(0, count, 40)
    queries = Queries(
        world.text[picked] + 0.8 * rng.normal(size=(40, TEXT_DIM)),
        world.images[picked] + 0.8 * rng.normal(size=(40, IMAGE_DIM)),
    )
    return Oracle(world.names, world.text, supports, 25.0), queries


@pytest.mark.only_sqlite("the tests below score over both what this one computes")
@pytest.mark.parametrize("rule", OF_ORACLE)
@pytest.mark.parametrize(
    ("count", "bare", "shots"),
    [
        (1, 0.0, 2),
        pytest.param(2, 0.0, 3, marks=pytest.mark.slow),
        (20, 0.5, 3),
        pytest.param(64, 0.3, 1, marks=pytest.mark.slow),
        (65, 0.0, 2),
        pytest.param(500, 0.5, 3, marks=pytest.mark.slow),
    ],
)
def test_verdicts_equal_the_dense_formulas(
    service: trustvlm.TrustService, rule: str, count: int, bare: float, shots: int
) -> None:
    oracle, queries = build(service, count, bare=bare, seed=count, shots=shots)
    if count == 1:
        verdicts = service.score("n1", queries, rule=rule)
        assert set(verdicts.rival) == {None}
        assert set(verdicts.rival_id) == {-1}
        assert np.isnan(verdicts.rival_trust).all()
        np.testing.assert_allclose(verdicts.text_confidence, 1.0)
        return
    expected = oracle.verdicts(queries, rule)
    verdicts = service.score(f"n{count}", queries, rule=rule)
    for column, values in expected.items():
        found = getattr(verdicts, column)
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found, values, atol=1e-5, rtol=1e-5, err_msg=column)
        else:
            np.testing.assert_array_equal(found, values, err_msg=column)
    np.testing.assert_array_equal(
        verdicts.agrees, expected["nearest_prototype"] == expected["label"]
    )
    assert not verdicts.approximate
    assert verdicts.error_bound == 0.0


def test_starred_rule_finds_the_best_label_beyond_the_candidates(
    service: trustvlm.TrustService,
) -> None:
    """Flat distributions: the label that wins the sum may be first in neither list; the search goes
    on until it is sure."""
    rng = np.random.default_rng(3)
    world = World([f"l{i:04d}" for i in range(1_500)], 3)
    make_space(service, logit_scale=0.5)
    supports = [world.supports(i, 1) for i in range(1_500)]
    service.register(
        "s",
        [
            LabelInput(n, text_vector=world.text[i], image_vectors=supports[i])
            for i, n in enumerate(world.names)
        ],
    )
    queries = Queries(rng.normal(size=(20, TEXT_DIM)), rng.normal(size=(20, IMAGE_DIM)))
    expected = Oracle(world.names, world.text, supports, 0.5).verdicts(
        queries, "trustvlm_star", temperature=2.0
    )
    verdicts = service.score("s", queries, rule="trustvlm_star", params={"temperature": 2.0})
    np.testing.assert_array_equal(verdicts.label, expected["label"])
    np.testing.assert_allclose(verdicts.trust, expected["trust"], atol=1e-5)


def test_half_precision_recipe_changes_no_verdict(service: trustvlm.TrustService) -> None:
    oracle, queries = build(service, 300, bare=0.2, seed=9, recipe="flat-fp16")
    expected = oracle.verdicts(queries, "trustvlm")
    verdicts = service.score("n300", queries, rule="trustvlm")
    np.testing.assert_array_equal(verdicts.label, expected["label"])
    np.testing.assert_array_equal(verdicts.nearest_prototype, expected["nearest_prototype"])
    np.testing.assert_allclose(
        verdicts.trust, expected["trust"], atol=1e-5
    )  # codes only find candidates
    np.testing.assert_allclose(
        verdicts.nearest_similarity, expected["nearest_similarity"], atol=1e-5
    )


def test_subset_by_names_and_by_mask(service: trustvlm.TrustService) -> None:
    oracle, queries = build(service, 200, bare=0.4, seed=4)
    chosen = np.random.default_rng(0).permutation(200)[:90]
    mask = np.zeros(200, bool)
    mask[chosen] = True
    names = [oracle.names[i] for i in chosen]
    part = Oracle(
        [n for n, m in zip(oracle.names, mask, strict=True) if m],
        oracle.text[mask],
        [s for s, m in zip(oracle.supports, mask, strict=True) if m],
        25.0,
    )
    part.imputed, part.fit = oracle.imputed, oracle.fit  # type: ignore[method-assign]  # c̃ and τ belong to the space
    for rule in OF_ORACLE:
        expected = part.verdicts(queries, rule)
        for labels in (names, mask):
            verdicts = service.score("n200", queries, rule=rule, labels=labels)
            np.testing.assert_array_equal(verdicts.label, expected["label"])
            np.testing.assert_array_equal(verdicts.nearest_prototype, expected["nearest_prototype"])
            if rule == "knn":  # looks at support images of all labels
                continue
            np.testing.assert_array_equal(verdicts.rival, expected["rival"])
            np.testing.assert_allclose(verdicts.trust, expected["trust"], atol=1e-5, rtol=1e-5)


def test_ties_go_to_the_smaller_name(service: trustvlm.TrustService) -> None:
    make_space(service)
    same_text, same_image = np.arange(1, TEXT_DIM + 1), np.arange(1, IMAGE_DIM + 1)
    for name in ("zebra", "apple", "mango"):
        service.register("s", [LabelInput(name, text_vector=same_text, image_vectors=[same_image])])
    for rule in trustvlm.RULES:
        verdict = service.score("s", Queries(same_text + 0.1, same_image), rule=rule)
        assert (verdict.label[0], verdict.rival[0], verdict.nearest_prototype[0]) == (
            "apple",
            "mango",
            "apple",
        )
        assert verdict.top_labels[0].tolist() == ["apple", "mango", "zebra"]
        assert verdict.text_confidence[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "count", [65, *(pytest.param(n, marks=pytest.mark.slow) for n in (64, 200, 1_200))]
)
def test_more_ties_than_candidates_still_go_to_the_smallest_name(
    service: trustvlm.TrustService, count: int
) -> None:
    make_space(service)
    same_text, same_image = np.arange(1, TEXT_DIM + 1), np.arange(1, IMAGE_DIM + 1)
    names = [f"n{i:04d}" for i in range(count)]
    order = np.random.default_rng(count).permutation(count)
    service.register(
        "s",
        [LabelInput(names[i], text_vector=same_text, image_vectors=[same_image]) for i in order],
    )
    for rule in trustvlm.RULES:
        verdict = service.score("s", Queries([same_text + 0.1] * 2, [same_image] * 2), rule=rule)
        assert verdict.label.tolist() == verdict.nearest_prototype.tolist() == ["n0000"] * 2
        assert verdict.top_labels[1].tolist() == names[:5]
        if (
            rule != "knn"
        ):  # its votes come from twenty of the support images that are all equally near
            assert verdict.rival.tolist() == ["n0001"] * 2


def test_starred_rule_with_one_prototype(service: trustvlm.TrustService) -> None:
    """The only label with support images has all of the image softmax: it wins whatever the text
    says."""
    oracle, _ = build(service, 10, bare=1.0, seed=1)
    rng = np.random.default_rng(0)
    service.add_support("n10", oracle.names[3], image_vectors=rng.normal(size=(2, IMAGE_DIM)))
    queries = Queries(rng.normal(size=(200, TEXT_DIM)), rng.normal(size=(200, IMAGE_DIM)))
    verdicts = service.score("n10", queries, rule="trustvlm_star")
    sure = verdicts.text_confidence < 1  # where p rounds to 1 for another label the two are equal
    assert set(verdicts.label[sure]) == {oracle.names[3]}


def test_evidence_after_a_purge_is_refused_not_wrong(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    added = service.register("s", world.inputs(5))
    query = Queries(world.text[2], world.images[2])
    before = service.score("s", query)
    service.remove_support("s", added.ids[10:13])
    after = service.score("s", query)
    service.purge(older_than=timedelta(0))
    with pytest.raises(trustvlm.Unavailable, match="purged"):
        before.evidence(0)
    assert len(after.evidence(0, k=9).label) == 2


def test_evidence_is_the_nearest_support_images(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    supports = [world.supports(i, 6) for i in range(6)]
    result = service.register(
        "s",
        [
            LabelInput(n, text_vector=world.text[i], image_vectors=supports[i])
            for i, n in enumerate(world.names)
        ],
    )
    query = Queries(world.text[2], world.images[2])
    verdicts = service.score("s", query)
    evidence = verdicts.evidence(0, k=4)
    similarity = unit(supports[2]) @ unit(world.images[2])
    best = np.argsort(-similarity)[:4]
    np.testing.assert_allclose([n.similarity for n in evidence.label], similarity[best], atol=1e-6)
    assert [n.id for n in evidence.label] == [result.ids[12 + i] for i in best]
    assert len(evidence.rival) == 4
    # It is of the verdicts' revision, whatever comes later.
    service.add_support("s", "bridge", image_vectors=[world.images[2]])
    service.remove_support("s", [evidence.label[0].id])
    assert verdicts.evidence(0, k=4) == evidence
    assert service.score("s", query).evidence(0, k=1).label[0].similarity == pytest.approx(1.0)


def test_rows_are_json(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", [*world.inputs(2)[:3], LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
    verdicts = service.score(
        "s", Queries([np.ones(TEXT_DIM), world.text[0]], [world.images[0]] * 2)
    )
    rows = json.loads(json.dumps(list(verdicts.rows(evidence=2)), allow_nan=False))
    assert rows[0]["label"] == "bare"
    assert rows[0]["unverified"] is True
    assert rows[0]["image_similarity"] is None
    assert rows[0]["accepted"] is None
    assert rows[0]["evidence"]["label"] == []
    assert len(rows[1]["evidence"]["label"]) == 2


def test_no_queries_is_legal(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    empty = Queries(np.empty((0, TEXT_DIM)), np.empty((0, IMAGE_DIM)))
    for rule in trustvlm.RULES:
        verdicts = service.score("s", empty, rule=rule)
        assert len(verdicts) == 0
        assert verdicts.top_labels.shape == (0, 5)
        assert list(verdicts.rows()) == []
    assert service.search("s", empty, kind="prototype", k=3).ids.shape == (0, 3)


def test_any_float_dtype_and_scale_gives_the_same(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    queries = world.queries()
    expected = service.score("s", queries)
    half = service.score("s", Queries(np.float16(queries.classifier), np.float16(queries.verifier)))
    np.testing.assert_allclose(half.trust, expected.trust, atol=2e-2)
    scaled = service.score(
        "s", Queries(np.asarray(queries.classifier) * 1e-20, np.asarray(queries.verifier) * 1e20)
    )
    np.testing.assert_allclose(scaled.trust, expected.trust, atol=1e-5)


def test_verifier_may_be_left_out_where_it_is_not_needed(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    queries = world.queries()
    full = service.score("s", queries, rule="msp")
    text_only = service.score("s", Queries(queries.classifier), rule="msp")
    np.testing.assert_array_equal(full.label, text_only.label)
    np.testing.assert_allclose(full.trust, text_only.trust)
    assert set(text_only.nearest_prototype) == {None}
    assert not text_only.unverified.any()
    assert text_only.evidence(0) == trustvlm.Evidence((), ())
    with pytest.raises(
        trustvlm.InvalidInput, match=r"rule 'posterior' needs verifier embeddings of 24 values"
    ):
        service.score("s", Queries(queries.classifier))
    make_space(service, "same", verifier="same")
    service.register(
        "same",
        [
            LabelInput(n, text_vector=world.text[i], image_vectors=[world.text[i]])
            for i, n in enumerate(world.names)
        ],
    )
    np.testing.assert_array_equal(
        service.score("same", Queries(queries.classifier)).label, full.label
    )


BAD_QUERIES = [
    (Queries(), "expected classifier or verifier embeddings"),
    (Queries(verifier=np.ones(IMAGE_DIM)), "needs classifier embeddings"),
    (Queries(np.ones((2, TEXT_DIM)), np.ones((3, IMAGE_DIM))), "2 classifier embeddings, but 3"),
    (Queries(np.ones(3), np.ones(IMAGE_DIM)), r"expected shape \(n, 16\)"),
    (Queries(np.full(TEXT_DIM, np.nan), np.ones(IMAGE_DIM)), "NaN"),
    (Queries(np.zeros(TEXT_DIM), np.ones(IMAGE_DIM)), "norm zero"),
    (Queries(images=["x.jpg"]), "cannot encode images"),
    (Queries(text=["x"]), "cannot encode text"),
    (np.ones(TEXT_DIM), r"expected trustvlm.Queries\(…\), got ndarray"),
    (Queries(np.ones(TEXT_DIM), images=["x.jpg"]), "not several"),
]


@pytest.mark.only_sqlite("the arguments are at fault")
@pytest.mark.parametrize(("queries", "message"), BAD_QUERIES)
def test_bad_queries(
    service: trustvlm.TrustService, world: World, queries: Queries, message: str
) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    with pytest.raises(trustvlm.InvalidInput, match=message):
        service.score("s", queries)


@pytest.mark.only_sqlite("the arguments are at fault")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "nope"}, "expected one of msp, max_logit, margin, entropy"),
        ({"rule": "msp", "params": {"lambda": 1.0}}, "has no parameter 'lambda'"),
        ({"params": {"temperature": 1.0}}, "has no parameter 'temperature'"),
        ({"params": {"lambda": float("nan")}}, "lambda: expected a number"),
        ({"params": {"lambda": -1}}, "lambda: expected a number"),
        ({"rule": "trustvlm_star", "params": {"temperature": 0}}, "temperature: expected a number"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2.5}, "top_k"),
        ({"labels": []}, "at least one label"),
        ({"labels": 3}, "list of names"),
        ({"rule": ["msp"]}, "expected one of"),
        ({"params": [1]}, "expected a mapping"),
        ({"params": {"lambda": "1"}}, "lambda: expected a number"),
        ({"labels": "airport"}, "list of names"),
        ({"labels": np.ones(3, bool)}, "one value for each of the 6 labels"),
        ({"labels": np.zeros(6, bool)}, "at least one label"),
    ],
)
def test_bad_options(
    service: trustvlm.TrustService, world: World, options: dict, message: str
) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    with pytest.raises(trustvlm.InvalidInput, match=message):
        service.score("s", world.queries(), **options)


def test_nothing_to_score_against(service: trustvlm.TrustService, world: World) -> None:
    with pytest.raises(trustvlm.NotFound, match="there is no space yet"):
        service.score("s", world.queries())
    make_space(service)
    with pytest.raises(trustvlm.InvalidInput, match="no labels yet"):
        service.score("s", world.queries())
    service.register("s", world.inputs(1))
    with pytest.raises(trustvlm.NotFound, match="no label 'ghost'"):
        service.score("s", world.queries(), labels=["airport", "ghost"])
    service.close()
    with pytest.raises(trustvlm.Unavailable, match="closed"):
        service.score("s", world.queries())


def test_parameters_may_be_numpy_numbers_or_none(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service, logit_scale=np.float32(10))
    service.register("s", world.inputs(2))
    given = {"lambda": np.float32(0.5), "temperature": None, "tau": None}
    assert service.score("s", world.queries(), rule="trustvlm", params=given).params == {
        "lambda": 0.5
    }


def test_parameters_are_used(service: trustvlm.TrustService) -> None:
    oracle, queries = build(service, 30, bare=0.2, seed=2)
    for rule, params in [
        ("trustvlm", {"lambda": 0.1}),
        ("trustvlm_star", {"lambda": 0.3, "temperature": 0.1}),
    ]:
        expected = oracle.verdicts(queries, rule, params["lambda"], params.get("temperature", 0.01))
        verdicts = service.score("n30", queries, rule=rule, params=params)
        np.testing.assert_allclose(verdicts.trust, expected["trust"], atol=1e-5)
        assert verdicts.params == params


def test_search_against_brute_force(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    rng = np.random.default_rng(8)
    supports = [world.supports(i, 5) for i in range(6)]
    others = [rng.normal(size=(5, TEXT_DIM)) for _ in range(6)]
    result = service.register(
        "s",
        [
            LabelInput(
                n,
                text_vector=world.text[i],
                image_vectors=supports[i],
                classifier_image_vectors=others[i],
            )
            for i, n in enumerate(world.names)
        ],
    )
    queries = world.queries(2)
    tables = {
        "support": unit(queries.verifier) @ unit(np.concatenate(supports)).T,
        "prototype": unit(queries.verifier) @ unit(np.array([s.mean(axis=0) for s in supports])).T,
        "text": unit(queries.classifier) @ unit(world.text).T,
    }
    for kind, table in tables.items():
        hits = service.search("s", queries, kind=kind, k=4)
        best = np.argsort(-table, axis=1)[:, :4]
        np.testing.assert_allclose(
            hits.similarity, np.take_along_axis(table, best, axis=1), atol=1e-5
        )
        owners = best // 5 if kind == "support" else best
        np.testing.assert_array_equal(hits.labels, np.array(world.names, dtype=object)[owners])
        ids = np.array(result.ids if kind == "support" else result.label_ids)
        np.testing.assert_array_equal(hits.ids, ids[best])
    by_classifier = service.search("s", Queries(classifier=queries.classifier), kind="support", k=3)
    table = unit(queries.classifier) @ unit(np.concatenate(others)).T
    np.testing.assert_allclose(by_classifier.similarity, -np.sort(-table, axis=1)[:, :3], atol=1e-5)
    padded = service.search("s", queries, kind="prototype", k=9)
    assert (padded.ids[:, 6:] == -1).all()
    assert np.isneginf(padded.similarity[:, 6:]).all()
    assert (padded.labels[:, 6:] == None).all()  # noqa: E711
    assert len(list(padded.rows())) == 6 * len(padded)


def test_search_follows_changes(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    probe = Queries(verifier=world.images[3])
    assert service.search("s", probe, k=1).labels[0, 0] == "desert"
    added = service.add_support("s", "beach", image_vectors=[world.images[3]])
    hits = service.search("s", probe, k=1)
    assert (hits.ids[0, 0], hits.labels[0, 0]) == (added.ids[0], "beach")
    service.remove_support("s", added.ids)
    assert service.search("s", probe, k=1).labels[0, 0] == "desert"
    service.restore_support("s", added.ids)
    assert service.search("s", probe, k=1).labels[0, 0] == "beach"
    service.remove_label("s", "beach")
    assert "beach" not in set(service.search("s", probe, k=20).labels[0])


def test_search_that_cannot_be(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    both = world.queries(1)
    for queries, options, message in [
        (both, {"kind": "nope"}, "expected one of support, prototype, text"),
        (both, {"k": 0}, "k: expected"),
        (Queries(classifier=both.classifier), {"kind": "support"}, "stored classifier embedding"),
        (Queries(classifier=both.classifier), {"kind": "prototype"}, "verifier embeddings"),
        (Queries(verifier=both.verifier), {"kind": "text"}, "classifier embeddings"),
        (Queries(text=["sea"]), {"kind": "text"}, "cannot encode text"),
    ]:
        with pytest.raises(trustvlm.InvalidInput, match=message):
            service.search("s", queries, **options)
