"""The service's own tests, run through the client: the same assertions over the same routes that
everybody uses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import test_evaluate
import test_promise
import test_register
import test_score
from fastapi import FastAPI
from served_client import application, client_of
from worlds import World

from trustvlm.client import Client

pytestmark = pytest.mark.only_sqlite("the application is opened once, over a file")

QUICK = {
    test_register: (
        "test_result_counts_what_happened",
        "test_prototype_is_the_normalised_mean_of_raw_embeddings",
        "test_text_vectors_of_templates_are_normalised_averaged_normalised",
        "test_removing_what_was_added_restores_the_earlier_verdicts",
        "test_removed_label_comes_back_as_it_was",
        "test_label_that_loses_its_last_support_image_is_unverified",
        "test_existing_label_takes_supports_and_refuses_another_text",
        "test_one_name_twice_in_a_call_is_one_label",
        "test_update_label",
        "test_spaces_come_and_go",
        "test_a_bad_vector_leaves_nothing_behind",
        "test_what_a_precomputed_space_cannot_do",
    ),
    test_score: (
        "test_ties_go_to_the_smaller_name",
        "test_evidence_is_the_nearest_support_images",
        "test_rows_are_json",
        "test_no_queries_is_legal",
        "test_any_float_dtype_and_scale_gives_the_same",
        "test_verifier_may_be_left_out_where_it_is_not_needed",
        "test_bad_options",
        "test_nothing_to_score_against",
        "test_parameters_may_be_numpy_numbers_or_none",
        "test_parameters_are_used",
        "test_search_against_brute_force",
        "test_search_follows_changes",
        "test_search_that_cannot_be",
    ),
    test_evaluate: ("test_support_images_are_left_out", "test_bad_arguments"),
    test_promise: (
        "test_calibration_decides_and_goes_stale",
        "test_too_few_images_and_bad_arguments",
    ),
}
SLOW = {
    test_promise: ("test_feedback_calibrates_only_when_random_and_monitors",),
    test_register: (
        "test_unusual_names_are_names",
        "test_any_order_gives_the_same_bits_and_verdicts",
        "test_bad_names",
    ),
    test_score: (
        "test_subset_by_names_and_by_mask",
        "test_starred_rule_finds_the_best_label_beyond_the_candidates",
        "test_half_precision_recipe_changes_no_verdict",
        "test_starred_rule_with_one_prototype",
    ),
    test_evaluate: (
        "test_figures_are_those_of_the_verdicts",
        "test_the_curve_ends_where_the_space_is",
        "test_images_of_no_label_and_all_right",
    ),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    with application(tmp_path_factory.mktemp("contract") / "home") as running:
        yield running


@pytest.fixture
def service(app: FastAPI) -> Iterator[Client]:
    """A client of a home without spaces."""
    with client_of(app) as client:
        yield client
    with client_of(app) as client:  # the test may have closed its own
        for space in client.list_spaces():
            client.remove_space(space.name)


@pytest.fixture
def space(request: pytest.FixtureRequest, service: Client, world: World) -> Any:
    """What the fixture of this name makes in the file that the test is from."""
    module = test_evaluate if request.function.__module__ == "test_evaluate" else test_promise
    arguments = (service,) if module is test_evaluate else (service, world)
    return module.space.__wrapped__(*arguments)  # type: ignore[attr-defined]


def slow(test: Callable[..., None]) -> Callable[..., None]:
    @pytest.mark.slow
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        test(*arguments, **named)

    return run


globals().update({name: getattr(module, name) for module, names in QUICK.items() for name in names})
globals().update(
    {name: slow(getattr(module, name)) for module, names in SLOW.items() for name in names}
)


@pytest.mark.parametrize(
    "rule",
    [
        rule if rule in ("posterior", "entropy") else pytest.param(rule, marks=pytest.mark.slow)
        for rule in test_score.OF_ORACLE
    ],
)
@pytest.mark.parametrize(
    ("count", "bare", "shots"),
    [pytest.param(1, 0.0, 2, marks=pytest.mark.slow), (20, 0.5, 3)],
    ids=["a label without a rival", "half of the labels bare"],
)
def test_verdicts_equal_the_dense_formulas(
    service: Any, rule: str, count: int, bare: float, shots: int
) -> None:
    test_score.test_verdicts_equal_the_dense_formulas(service, rule, count, bare, shots)
