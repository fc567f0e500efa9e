"""The two engines give the same verdicts: two products of whole matrices, and a pass over rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from thresholds import set_thresholds
from worlds import IMAGE_DIM, TEXT_DIM, make_space

import trustvlm
from trustvlm import RULES, LabelInput, Queries
from trustvlm.scoring import vectors
from trustvlm.service.query import columns
from trustvlm.softmax import dense

NAMES = ("label", "rival", "nearest_prototype", "corrected_from", "agrees", "unverified", "unknown")
NUMBERS = ("trust", "text_confidence", "image_similarity", "nearest_similarity", "rival_trust")


def changed_space(service: trustvlm.TrustService, labels: int, rng: np.random.Generator) -> None:
    """A space of labels with and without support images, some removed, some further names of others.

    Where all labels are candidates, some have the vectors of others; equals on the edge of the
    candidates would be a matter of chance."""
    texts, images = rng.normal(size=(labels, TEXT_DIM)), rng.normal(size=(labels, IMAGE_DIM))
    for twin in range(1, labels if labels <= 64 else 0, 7):
        texts[twin], images[twin] = texts[twin - 1], images[twin - 1]
    make_space(service, logit_scale=float(rng.choice([60.0, 100.0])))
    inputs = [
        LabelInput(f"label {i}", texts[i], image_vectors=images[i][None] if i % 5 else None)
        for i in range(labels)
    ]
    service.register("s", inputs)
    for gone in range(3, labels, 11):
        service.remove_label("s", f"label {gone}")
    for name in range(5, labels - 1, 10):  # those without images
        if name % 11 != 3 and (name + 1) % 11 != 3:
            service.alias("s", f"label {name}", of=f"label {name + 1}")


@contextmanager
def both_engines(home: Path) -> Iterator[tuple[trustvlm.TrustService, trustvlm.TrustService]]:
    """The home opened for the dense engine, and for the streamed one."""
    with trustvlm.open(home) as dense:
        set_thresholds(home, dense_labels=1)
        with trustvlm.open(home) as streamed:
            yield dense, streamed


def assert_equal(dense: trustvlm.Verdicts, streamed: trustvlm.Verdicts) -> None:
    """Numbers within 1e-4; names but where the best two differ by less than that."""
    for column in NUMBERS:
        one, other = getattr(dense, column), getattr(streamed, column)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4, err_msg=column)
    for column in NAMES:
        np.testing.assert_array_equal(
            getattr(dense, column), getattr(streamed, column), err_msg=column
        )
    np.testing.assert_array_equal(dense.top_labels, streamed.top_labels)
    np.testing.assert_allclose(dense.top_confidence, streamed.top_confidence, atol=1e-4)


@settings(max_examples=3, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    labels=st.sampled_from([2, 9, 40, 90, 200, 700]),
    seed=st.integers(0, 10_000),
    top_k=st.sampled_from([1, 5, 20]),
    part=st.booleans(),
)
def test_dense_and_streamed_verdicts_are_equal(
    labels: int, seed: int, top_k: int, part: bool
) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with trustvlm.open(home, create=True) as service:
            changed_space(service, labels, rng)
            rows = list(service.list_labels("s"))
        queries = Queries(rng.normal(size=(30, TEXT_DIM)), rng.normal(size=(30, IMAGE_DIM)))
        mask = np.arange(len(rows)) % 3 != 1 if part and len(rows) > 3 else None
        with both_engines(home) as engines:
            for service in engines:  # the changes below are followed
                service.score("s", queries)
            name = rows[0].name
            engines[0].update_label("s", name, text_vector=rng.normal(size=TEXT_DIM))
            engines[0].add_support("s", name, image_vectors=rng.normal(size=(2, IMAGE_DIM)))
            for rule in RULES:
                # The streamed engine pools only the further names of candidates in these two.
                if rule in ("entropy", "doctor") and labels > 64:
                    continue
                one, other = (
                    service.score("s", queries, rule=rule, top_k=top_k, labels=mask)
                    for service in engines
                )
                assert_equal(one, other)


@pytest.mark.parametrize("labels", [pytest.param(9, marks=pytest.mark.slow), 200])
def test_verdicts_without_the_compiled_library_are_equal(
    home: Path, monkeypatch: pytest.MonkeyPatch, labels: int
) -> None:
    rng = np.random.default_rng(labels)
    with trustvlm.open(home, create=True) as service:
        changed_space(service, labels, rng)
        queries = Queries(rng.normal(size=(30, TEXT_DIM)), rng.normal(size=(30, IMAGE_DIM)))
        compiled = {rule: service.score("s", queries, rule=rule) for rule in RULES}
        for module in (columns, dense, vectors):
            monkeypatch.setattr(module, "library", lambda: None)
        for rule in RULES:
            assert_equal(service.score("s", queries, rule=rule), compiled[rule])


@pytest.mark.parametrize("rule", [
    pytest.param("msp", marks=pytest.mark.slow), "trustvlm",
    pytest.param("posterior", marks=pytest.mark.slow), "posterior_star",
])  # fmt: skip
def test_a_tie_goes_to_the_smaller_name_in_both(home: Path, rule: str) -> None:
    rng = np.random.default_rng(3)
    text, image = rng.normal(size=TEXT_DIM), rng.normal(size=IMAGE_DIM)
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        names = [f"name {i:03d}" for i in rng.permutation(150)]
        inputs = [LabelInput(name, text, image_vectors=image[None]) for name in names]
        service.register("s", inputs)
    queries = Queries(
        text + rng.normal(size=(4, TEXT_DIM)), image + rng.normal(size=(4, IMAGE_DIM))
    )
    with both_engines(home) as engines:
        for service in engines:
            verdicts = service.score("s", queries, rule=rule)
            assert verdicts.label.tolist() == ["name 000"] * 4
            assert verdicts.rival.tolist() == ["name 001"] * 4
            assert verdicts.top_labels[0].tolist() == [f"name {i:03d}" for i in range(5)]
