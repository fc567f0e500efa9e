"""c̃ kept up to date change by change equals c̃ computed afresh, also where the sample is only a part of the space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import IMAGE_DIM, TEXT_DIM, World, assert_same_verdicts, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.service import imputation

BARE = Queries(np.ones(TEXT_DIM), np.ones(IMAGE_DIM))


def assumed(service: trustvlm.TrustService) -> float:
    """c̃, as the rule `image` gives it to a label without support images."""
    verdict = service.score("s", BARE, rule="image")
    assert (verdict.label[0], verdict.unverified[0]) == ("bare", True)
    return float(verdict.trust[0])


@pytest.mark.parametrize(("sample", "competitors"), [(2_048, 4_096), (20, 6)])
def test_incremental_equals_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int, competitors: int) -> None:
    monkeypatch.setattr(imputation, "MAX_SAMPLE", sample)
    monkeypatch.setattr(imputation, "MAX_COMPETITORS", competitors)
    rng = np.random.default_rng(11)
    world = World([f"label {i}" for i in range(25)], 11)
    world.text -= world.text @ np.ones((TEXT_DIM, TEXT_DIM)) / TEXT_DIM  # away from the label that is asked about
    present: dict[str, list[int]] = {}
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service, logit_scale=50.0)
        service.register("s", [LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
        assert assumed(service) == 0.0
        for step in range(60):
            i = int(rng.integers(len(world.names)))
            name = world.names[i]
            if name not in present:
                shots = int(rng.integers(0, 4))
                vectors = world.supports(i, shots) if shots else None
                present[name] = list(service.register("s", [LabelInput(name, world.text[i], image_vectors=vectors)]).ids)
            elif rng.random() < 0.4:
                service.remove_label("s", name, purge=bool(rng.random() < 0.3))
                del present[name]
            elif present[name] and rng.random() < 0.5:
                service.remove_support("s", [present[name].pop()])
            else:
                present[name] += service.add_support("s", name, image_vectors=world.supports(i, 1)).ids
            with trustvlm.open(tmp_path / "home") as fresh:
                assert assumed(service) == pytest.approx(assumed(fresh), abs=1e-6), step


def test_one_image_per_label_and_one_label(service: trustvlm.TrustService, world: World) -> None:
    make_space(service, logit_scale=50.0)
    service.register("s", [LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
    first = world.images[0]
    service.register("s", [LabelInput("a", text_vector=-np.ones(TEXT_DIM), image_vectors=[first])])
    assert assumed(service) == pytest.approx(0.25)  # (1 + 0) / 2 for the own label, 0 for the other that is not there
    second = world.images[1]
    service.register("s", [LabelInput("b", text_vector=np.eye(TEXT_DIM)[0] - 1, image_vectors=[second])])
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert assumed(service) == pytest.approx(((1 + cosine) / 2 + cosine) / 2, abs=1e-6)


def test_order_of_registration_does_not_matter(tmp_path: Path, world: World) -> None:
    inputs = [*world.inputs(3)[:4], *[LabelInput(n, text_vector=world.text[i]) for i, n in enumerate(world.names) if i > 3]]
    queries = Queries(np.repeat(world.text, 2, axis=0) + 0.01, np.repeat(world.images, 2, axis=0) + 0.01)
    with trustvlm.open(tmp_path / "one", create=True) as one, trustvlm.open(tmp_path / "two", create=True) as two:
        for service, order in ((one, inputs), (two, inputs[::-1])):
            make_space(service)
            for item in order:
                service.register("s", [item])
                service.score("s", queries)
        assert one.score("s", queries).unverified.any()
        assert_same_verdicts(one.score("s", queries), two.score("s", queries))
