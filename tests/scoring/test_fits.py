"""What the support images say (τ, c̃) after any changes equals the same computed afresh, for small
and large spaces."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_sql import run_sql
from thresholds import set_thresholds
from worlds import IMAGE_DIM, TEXT_DIM, World, assert_same_verdicts, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.service.memory import support_fit
from trustvlm.types.thresholds import Thresholds

pytestmark = pytest.mark.both_back_ends(slow=True)

BARE = Queries(np.ones(TEXT_DIM), np.ones(IMAGE_DIM))


def assumed(service: trustvlm.TrustService) -> float:
    """c̃, as the rule `image` gives it to a label without support images."""
    verdict = service.score("s", BARE, rule="image")
    assert (verdict.label[0], verdict.unverified[0]) == ("bare", True)
    return float(verdict.trust[0])


@pytest.mark.both_back_ends(slow=True)
@pytest.mark.parametrize(
    ("sample", "competitors"),
    [
        pytest.param(2_048, 4_096, marks=pytest.mark.slow),
        pytest.param(20, 6, marks=pytest.mark.slow),
        (12, 3),
    ],
)
def test_incremental_equals_fresh(tmp_path: Path, sample: int, competitors: int) -> None:
    set_thresholds(tmp_path / "home", fit_sample=sample, fit_competitors=competitors)
    rng = np.random.default_rng(11)
    world = World([f"label {i}" for i in range(25)], 11)
    world.text -= (
        world.text @ np.ones((TEXT_DIM, TEXT_DIM)) / TEXT_DIM
    )  # away from the label that is asked about
    present: dict[str, list[int]] = {}
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service, logit_scale=50.0)
        service.register("s", [LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
        assert assumed(service) == 0.0
        for step in range(60 if sample > 12 else 25):
            i = int(rng.integers(len(world.names)))
            name = world.names[i]
            if name not in present:
                shots = int(rng.integers(0, 4))
                vectors = world.supports(i, shots) if shots else None
                present[name] = list(
                    service.register(
                        "s", [LabelInput(name, world.text[i], image_vectors=vectors)]
                    ).ids
                )
            elif rng.random() < 0.4:
                service.remove_label("s", name, purge=bool(rng.random() < 0.3))
                del present[name]
            elif present[name] and rng.random() < 0.5:
                service.remove_support("s", [present[name].pop()])
            else:
                present[name] += service.add_support(
                    "s", name, image_vectors=world.supports(i, 1)
                ).ids
            with trustvlm.open(tmp_path / "home") as fresh:
                assert assumed(service) == pytest.approx(assumed(fresh), abs=1e-6), step
            if step % 7 == 3:  # the images of an alias are its label's
                alias, name = sorted(present)[:2]
                service.alias("s", alias, name)
                assumed(service)
                present[alias] += service.add_support(
                    "s", alias, image_vectors=world.supports(i, 1)
                ).ids
                with trustvlm.open(tmp_path / "home") as fresh:
                    assert assumed(service) == pytest.approx(assumed(fresh), abs=1e-6), step
                service.unalias("s", alias)


def test_one_image_per_label_and_one_label(service: trustvlm.TrustService, world: World) -> None:
    make_space(service, logit_scale=50.0)
    service.register("s", [LabelInput("bare", text_vector=np.ones(TEXT_DIM))])
    first = world.images[0]
    service.register("s", [LabelInput("a", text_vector=-np.ones(TEXT_DIM), image_vectors=[first])])
    assert assumed(service) == pytest.approx(
        0.25
    )  # (1 + 0) / 2 for the own label, 0 for the other that is not there
    second = world.images[1]
    service.register(
        "s", [LabelInput("b", text_vector=np.eye(TEXT_DIM)[0] - 1, image_vectors=[second])]
    )
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert assumed(service) == pytest.approx(((1 + cosine) / 2 + cosine) / 2, abs=1e-6)


@pytest.mark.only_sqlite("two homes have a catalog each")
def test_order_of_registration_does_not_matter(tmp_path: Path, world: World) -> None:
    inputs = [
        *world.inputs(3)[:4],
        *[LabelInput(n, text_vector=world.text[i]) for i, n in enumerate(world.names) if i > 3],
    ]
    queries = Queries(
        np.repeat(world.text, 2, axis=0) + 0.01, np.repeat(world.images, 2, axis=0) + 0.01
    )
    with (
        trustvlm.open(tmp_path / "one", create=True) as one,
        trustvlm.open(tmp_path / "two", create=True) as two,
    ):
        for service, order in ((one, inputs), (two, inputs[::-1])):
            make_space(service)
            for item in order:
                service.register("s", [item])
                service.score("s", queries)
        assert one.score("s", queries).unverified.any()
        assert_same_verdicts(one.score("s", queries), two.score("s", queries))


def test_verdicts_say_which_fit_served(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register(
        "s", [LabelInput(n, text_vector=world.text[i]) for i, n in enumerate(world.names)]
    )
    queries = world.queries()
    bare = service.score("s", queries)
    assert (bare.image_evidence, bare.tau, bare.tau_revision) == ("none", None, None)
    np.testing.assert_array_equal(bare.trust, bare.text_confidence)
    service.register("s", world.inputs(1))
    single = service.score("s", queries)
    assert (single.image_evidence, single.tau, single.tau_revision) == ("default", 0.08, None)
    revision = service.register("s", world.inputs(4)).revision
    fitted = service.score("s", queries)
    assert (fitted.image_evidence, fitted.tau_revision, fitted.params["tau"]) == (
        "fitted",
        revision,
        fitted.tau,
    )
    service.register(
        "s", [LabelInput("sea", text_vector=np.ones(TEXT_DIM))]
    )  # no support image: the same fit
    assert service.score("s", queries).tau_revision == revision
    given = service.score("s", queries, params={"tau": 0.3})
    assert (given.image_evidence, given.tau, given.tau_revision) == ("given", 0.3, None)
    assert not np.allclose(given.trust, fitted.trust)
    assert service.score("s", queries, rule="msp").image_evidence is None


def test_useless_support_images_are_switched_off(
    service: trustvlm.TrustService, world: World
) -> None:
    rng = np.random.default_rng(5)
    make_space(service)
    service.register(
        "s",
        [
            LabelInput(
                name, text_vector=world.text[i], image_vectors=rng.normal(size=(4, IMAGE_DIM))
            )
            for i, name in enumerate(world.names)
        ],
    )
    verdicts = service.score("s", world.queries())
    assert verdicts.image_evidence == "off"
    np.testing.assert_array_equal(verdicts.trust, verdicts.text_confidence)
    assert all("image evidence is off" in reason for reason in verdicts.reason)


def test_a_large_space_is_answered_with_the_fit_there_is(tmp_path: Path) -> None:
    """Beyond the limits neither a write nor a query waits for a fit: it comes in the background,
    and verdicts say which."""
    world = World([f"label {i}" for i in range(12)], 3)
    queries = world.queries()
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        first = service.register("s", world.inputs(3)).revision
        assert service.score("s", queries).tau_revision == first
    set_thresholds(tmp_path / "home", fit_on_write_labels=4, fit_in_call_labels=4)
    with trustvlm.open(tmp_path / "home") as service:
        second = service.add_support("s", "label 3", image_vectors=world.supports(3, 2)).revision
        assert service.score("s", queries).tau_revision == first
        calibration = service.calibrate(
            "s", queries, np.repeat(world.names, 3).tolist(), rule="posterior"
        )
        assert calibration.revision == second
        until = time.monotonic() + 30
        while (
            served := service.score("s", queries)
        ).tau_revision != second and time.monotonic() < until:
            time.sleep(0.05)
        assert served.tau_revision == second
        assert (
            service.recalibrate("s").threshold == calibration.threshold
        )  # it did not use the first fit
    set_thresholds(tmp_path / "home", fit_in_call_labels=4)
    with trustvlm.open(tmp_path / "home") as fresh:
        again = fresh.score("s", queries)
        assert (again.tau, again.tau_revision) == (served.tau, second)


def test_what_came_after_a_fit_in_the_background_is_fitted_too(tmp_path: Path) -> None:
    """A query looks at what was registered since this service stored a fit, though nothing that the
    fit looked at changed."""
    world, home = World([f"label {i}" for i in range(12)], 3), tmp_path / "home"
    set_thresholds(home, fit_on_write_labels=1, fit_quiet_s=1.0)
    inputs, queries = world.inputs(3), world.queries()
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        revision = service.register("s", inputs[:4]).revision
        until = time.monotonic() + 30
        while run_sql(home, "SELECT max(revision) FROM fits") != [(revision,)]:
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.1)  # it is stored, and the thread that made it remembers what it looked at
        last = service.register("s", inputs[4:]).revision
        served = service.score("s", queries)
        assert served.tau_revision == last
        with trustvlm.open(home, read_only=True) as fresh:
            expected = fresh.score("s", queries)
            assert served.tau == pytest.approx(expected.tau, rel=1e-9)
            assert_same_verdicts(served, expected)


def test_closing_does_not_lose_a_fit(tmp_path: Path) -> None:
    set_thresholds(tmp_path / "home", fit_on_write_labels=1, fit_in_call_labels=1)
    world = World([f"label {i}" for i in range(6)], 3)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        revision = service.register("s", world.inputs(3)).revision
    with trustvlm.open(tmp_path / "home") as service:
        assert service.score("s", world.queries()).tau_revision == revision


@pytest.mark.slow  # by default: test_incremental_equals_fresh
@pytest.mark.only_sqlite("the catalog is copied with its home")
def test_new_labels_beyond_the_sample_leave_the_fit_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large space few new labels belong to the sample: for the others nothing of it is read,
    and the fit is the same that a look at everything makes."""
    world = World([f"label {i}" for i in range(40)], 3)
    inputs, queries, home = world.inputs(3), world.queries(), tmp_path / "home"
    set_thresholds(home, fit_sample=12, fit_competitors=6, fit_on_write_labels=4)
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", inputs[:20])
    looked: list[str] = []
    sample = support_fit.sample_of

    def counted(*args: Any) -> Any:
        looked.append("")
        return sample(*args)

    monkeypatch.setattr(support_fit, "sample_of", counted)
    unread = 0
    for number, item in enumerate(inputs[20:]):
        looked.clear()
        with trustvlm.open(home) as service:  # closing does what waits
            service.register("s", [item])
            if number % 5 == 4:
                service.remove_label("s", inputs[number].name, purge=number % 2 == 0)
        unread += not looked
        copied = shutil.copytree(home, tmp_path / f"copy {number}")
        run_sql(copied, "DELETE FROM fits")
        with trustvlm.open(home) as service, trustvlm.open(copied) as fresh:
            served, expected = service.score("s", queries), fresh.score("s", queries)
        assert served.tau == pytest.approx(expected.tau, abs=1e-12), number
        np.testing.assert_allclose(served.trust, expected.trust, atol=1e-9)
    assert 5 <= unread < 20


def test_a_fit_of_a_space_that_is_purged_meanwhile_is_dropped(tmp_path: Path) -> None:
    """The fit is computed between two transactions; the space may go in between."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", World(["one", "two"]).inputs(2))

        class Purging:
            """The catalog, whose space goes before the next write."""

            def __init__(self, catalog: Any) -> None:
                self.read, self._write = catalog.read, catalog.write

            def write(self, change: str) -> Any:
                service.remove_space("s")
                service.purge(older_than=timedelta(0))
                return self._write(change)

        run_sql(tmp_path / "home", "DELETE FROM fits")
        catalog: Any = Purging(service._home.catalog)
        support_fit.refit(catalog, "s", Thresholds())
        assert list(service.list_spaces()) == []
