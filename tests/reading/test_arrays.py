"""What vectors, masks, names and ids come in: each holder is read as it is, or refused by name with
what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from served_client import application, client_of

import trustvlm
from trustvlm import InvalidInput, LabelInput, Queries
from trustvlm.selective.metrics import aurc, auroc
from trustvlm.selective.ranking import ece

DIM = 4
ROWS = np.array([[1.0, 0.0, 0.5, 0.0], [0.0, 2.0, 0.0, 0.25], [0.0, 0.0, -4.0, 0.0]])
"""Exact in every float dtype of 8 bits and more."""
NAMES = ["one", "two", "three"]
TENSOR = torch.tensor(ROWS, dtype=torch.float32)


class OnlyDlpack:
    """A tensor of a library that NumPy knows only through the protocol."""

    def __dlpack__(self, **options: Any) -> Any:
        return ROWS.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return ROWS.__dlpack_device__()


class OnlyArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(ROWS, dtype=ml_dtypes.bfloat16)  # as JAX and TensorFlow give


READ: dict[str, Callable[[], Any]] = {
    **{
        f"torch {d}": lambda d=d: TENSOR.to(d)
        for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    },
    "torch float8": lambda: TENSOR.to(torch.float8_e4m3fn),
    "torch with a gradient": lambda: TENSOR.clone().requires_grad_(),
    "torch bfloat16 with a gradient": lambda: TENSOR.to(torch.bfloat16).requires_grad_() * 1,
    "torch parameter": lambda: torch.nn.Parameter(TENSOR),
    "torch inference": lambda: torch.inference_mode()(lambda: TENSOR * 1)(),
    "torch negative view": lambda: torch._neg_view(-TENSOR),
    "torch conjugate view": lambda: torch.complex(torch.zeros_like(TENSOR), -TENSOR).conj().imag,
    "torch transposed": lambda: TENSOR.T.contiguous().T,
    "torch steps": lambda: torch.stack([TENSOR, TENSOR], dim=1).reshape(-1, DIM)[::2],
    "list of torch rows": lambda: list(TENSOR.to(torch.bfloat16).requires_grad_()),
    "lists of torch numbers": lambda: [list(row) for row in TENSOR.to(torch.bfloat16)],
    "tuple of torch rows": lambda: TENSOR.unbind(),
    **{
        f"ml_dtypes {d.__name__}": lambda d=d: ROWS.astype(d)
        for d in (ml_dtypes.bfloat16, ml_dtypes.float8_e5m2)
    },
    "list of ml_dtypes rows": lambda: list(ROWS.astype(ml_dtypes.bfloat16)),
    **{
        f"numpy {d}": lambda d=d: ROWS.astype(d)
        for d in ("f2", "f4", "f8", ">f4", ">f8", "longdouble")
    },
    "numpy objects": lambda: ROWS.astype(object),
    "numpy objects of rows": lambda: rows_of_objects(),
    "numpy matrix": lambda: ROWS.view(np.matrix),
    "numpy read-only": lambda: np.broadcast_to(ROWS, ROWS.shape),
    "numpy steps": lambda: np.repeat(ROWS, 2, axis=1)[:, ::2],
    "numpy masked, nothing masked": lambda: np.ma.MaskedArray(ROWS),
    "lists": ROWS.tolist,
    "tuples": lambda: tuple(map(tuple, ROWS.tolist())),
    "list of rows": lambda: list(ROWS),
    "array module": lambda: [memoryview(row) for row in ROWS],
    "dlpack": OnlyDlpack,
    "__array__": OnlyArray,
    "pandas table": lambda: pd.DataFrame(ROWS, index=[5, 5, 7]),
    "pandas table of mixed columns": lambda: pd.DataFrame(ROWS).astype(
        {0: "float32", 1: "Float64", 2: "double[pyarrow]"}
    ),
    "pandas column of lists": lambda: pd.Series(ROWS.tolist(), index=[2, 1, 0]),
    "pandas column of arrays": lambda: pd.DataFrame({"v": list(ROWS)})["v"],
    "pandas column of tensors": lambda: pd.Series(list(TENSOR)),
    "pandas table of one column of lists": lambda: pd.DataFrame({"v": ROWS.tolist()}),
    "pandas column of pyarrow lists": lambda: pd.Series(
        ROWS.tolist(), dtype=pd.ArrowDtype(pa.list_(pa.float32()))
    ),
    "pyarrow fixed lists": lambda: pa.array(ROWS.tolist(), pa.list_(pa.float32(), DIM)),
    "pyarrow fixed half lists": lambda: pa.array(
        list(ROWS.astype(np.float16)), pa.list_(pa.float16(), DIM)
    ),
    "pyarrow lists": lambda: pa.array(ROWS.tolist()),
    "pyarrow large lists": lambda: pa.array(ROWS.tolist(), pa.large_list(pa.float64())),
    "pyarrow chunks": lambda: pa.chunked_array(
        [pa.array(ROWS[:1].tolist()), pa.array(ROWS[1:].tolist())]
    ),
    "pyarrow column of a table": lambda: pa.table({"v": ROWS.tolist()})["v"],
    "pyarrow table": lambda: pa.table({str(i): ROWS[:, i] for i in range(DIM)}),
    "list of pyarrow rows": lambda: list(pa.array(ROWS.tolist())),
    "pyarrow tensors": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS),
    "polars column of lists": lambda: pl.Series(ROWS.tolist()),
    "polars column of arrays": lambda: pl.Series(ROWS.tolist(), dtype=pl.Array(pl.Float32, DIM)),
    "polars table": lambda: pl.DataFrame(ROWS),
    "polars column of a table": lambda: pl.DataFrame({"v": ROWS.tolist()})["v"],
}


def rows_of_objects() -> Any:
    found = np.empty(3, dtype=object)
    found[:] = list(ROWS)
    return found


def masked() -> Any:
    found = np.ma.MaskedArray(ROWS.copy())
    found[1, 2] = np.ma.masked
    return found


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (masked, r"row 1 has masked values; .*\.filled"),
    "list of masked "
    "rows": (lambda: list(masked()), r"row 1: row 2 has masked|row 1.* masked values"),
    "torch complex": (lambda: TENSOR.to(torch.complex64), "expected real numbers, got dtype "
                                                          "complex64"),
    "torch bool": (lambda: TENSOR > 0, "expected real numbers, got dtype bool"),
    "torch sparse": (lambda: TENSOR.to_sparse(), r"call \.to_dense\(\)"),
    "torch sparse rows": (lambda: [row.to_sparse() for row in TENSOR], r"call \.to_dense\(\)"),
    "torch meta": (lambda: TENSOR.to("meta"), "device 'meta'"),
    "torch nested": (lambda: torch.nested.nested_tensor([TENSOR[0], TENSOR[1, :2]],
    layout=torch.jagged), "ragged"),
    "torch NaN": (lambda: TENSOR / TENSOR, "row 0 has NaN"),
    "bfloat16 infinity": (lambda: TENSOR.to(torch.bfloat16) * torch.inf, "row 0 has NaN or inf"),
    "scipy sparse": (lambda: scipy.sparse.csr_matrix(ROWS), r"call \.toarray\(\)"),
    "scipy sparse array": (lambda: scipy.sparse.coo_array(ROWS), r"call \.toarray\(\)"),
    "generator": (lambda: (row for row in ROWS), r"got a generator; make it a list"),
    "map": (lambda: map(list, ROWS), "make it a list"),
    "set": (lambda: {1.0, 2.0}, "got a set; make it a list"),
    "dictionary": (lambda: {"a": ROWS}, "got a dict"),
    "none among them": (lambda: [ROWS[0].tolist(), None], "row 1 is missing"),
    "none inside": (lambda: [[1.0, None, 0.0, 0.0]], "row 0 is missing"),
    "ragged": (lambda: [[1.0, 2, 3, 4], [1.0]], r"ragged sequence \(row 1 has shape \(1,\), row "
                                                r"0 has \(4,\)\)"),
    "ragged tensors": (lambda: [TENSOR[0], TENSOR[1, :3]], "ragged"),
    "complex": (lambda: ROWS + 1j, "got dtype complex128"),
    "text": (lambda: ROWS.astype(str), "expected real numbers"),
    "text among numbers": (lambda: [[1.0, "a", 0.0, 0.0]], "expected real numbers"),
    "text among "
    "objects": (lambda: np.array([[1.0, "a", 0.0, 0.0]], dtype=object), "got a str in row 0"),
    "bytes": (lambda: b"abcd", "expected real numbers"),
    "bools": (lambda: ROWS > 0, "expected real numbers, got dtype bool"),
    "dates": (lambda: np.zeros((2, DIM), "M8[s]"), "expected real numbers"),
    "bfloat16 that was "
    "saved": (lambda: ROWS.astype(ml_dtypes.bfloat16).view("V2"), "convert to float32 before "
                                                                  "saving"),
    "lazy polars": (lambda: pl.DataFrame(ROWS).lazy(), r"call \.collect\(\)"),
    "fields": (lambda: np.zeros(2, [("x", "f4"), ("y", "f4")]), "structured array with the "
                                                                "fields x, y"),
    "a table more": (lambda: ROWS[None], r"got \(1, 3, 4\); pass values\[0\]"),
    "an axis more": (lambda: ROWS[:, None], r"got \(3, 1, 4\); pass values\[:, 0\]"),
    "vectors of patches": (lambda: np.ones((3, 5, 4)), r"values\.mean\(axis=1\)"),
    "pixels": (lambda: np.ones((3, 2, 8, 8)), "pass them as images"),
    "a number": (lambda: 1.0, r"expected shape \(n, 4\), got \(\)|got a single number"),
    "a tensor number": (lambda: torch.tensor(1.0), r"expected shape \(n, 4\), got \(\)|got a "
                                                   r"single number"),
    "an object": (object, "got an object"),
    "a large number": (lambda: [[10**400, 0, 0, 0]], "too large|expected"),
    "pandas null rows": (lambda: pd.Series([ROWS[0].tolist(), None]), "row 1 is missing"),
    "pandas NA": (lambda: pd.DataFrame(ROWS).astype("Float64").mask(ROWS < 0), "row 2 has NaN|row "
                                                                               "2 "
                                                                               "is missing"),
    "pandas names": (lambda: pd.DataFrame({i: ["a"] for i in range(DIM)}), "expected real numbers"),
    "pyarrow null rows": (lambda: pa.array([ROWS[0].tolist(), None]), "row 1 is missing"),
    "pyarrow null "
    "numbers": (lambda: pa.array([*ROWS[:2].tolist(), [1.0, None, 0.0, 0.0]]), "row 2 has NaN"),
    "polars null rows": (lambda: pl.Series([ROWS[0].tolist(), None]), "row 1 is missing"),
    "polars null "
    "arrays": (lambda: pl.Series([*ROWS[:2].tolist(), None], dtype=pl.Array(pl.Float64, DIM)),
    "row 2 has "
                                                                                               "NaN"),
    "__array__ that "
    "fails": (lambda: Failing(), r"Failing that NumPy cannot read \(use \.get\(\)\); pass a "
                                 r"NumPy array"),
}  # fmt: skip


class Failing:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("use .get()")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The library and a client of it, over one home with a space of three labels."""
    with application(tmp_path_factory.mktemp("arrays") / "home") as app, client_of(app) as client:
        service = app.state.serving.service
        fill(service)
        yield {"library": service, "client": client}


def fill(service: trustvlm.TrustService) -> None:
    service.create_space(
        "s", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}", logit_scale=2.0
    )
    inputs = [
        LabelInput(n, text_vector=row, image_vectors=row)
        for n, row in zip(NAMES, ROWS, strict=True)
    ]
    service.register("s", inputs)


@pytest.fixture(params=["library", "client"])
def door(request: pytest.FixtureRequest, doors: dict[str, Any]) -> Any:
    return doors[request.param]


@pytest.mark.parametrize("holder", READ)
def test_vectors_are_read_as_they_are(door: Any, holder: str) -> None:
    values = READ[holder]()
    expected = door.score("s", Queries(ROWS, ROWS))
    got = door.score("s", Queries(values, values))
    assert got.label.tolist() == NAMES
    np.testing.assert_array_equal(got.trust, expected.trust)
    hits = door.search("s", Queries(verifier=values), k=1)
    assert hits.labels[:, 0].tolist() == NAMES


@pytest.mark.parametrize(
    "holder",
    [
        # Each is read in the test above; what holds them meets the verbs in some of them.
        pytest.param(holder, marks=[pytest.mark.slow] * bool(number % 6))
        for number, holder in enumerate(READ)
    ],
)
def test_what_is_registered_is_the_same(tmp_path: Path, holder: str) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        fill(service)
        values = READ[holder]()
        result = service.register(
            "s", [LabelInput("four", text_vector=values, image_vectors=values)]
        )
        assert result.added_supports == 3
        again = service.add_support(
            "s", "four", image_vectors=ROWS, classifier_image_vectors=values
        )
        assert (again.added_supports, again.skipped_duplicates) == (0, 3)
        assert (
            service.register("s", [LabelInput("four", text_vector=ROWS)]).added_labels == 0
        )  # else Conflict
        service.update_label("s", "one", text_vector=values)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_named(door: Any, case: str) -> None:
    make, said = REFUSED[case]
    before = door.get_space("s")
    # What the service finds has the name of the field that was sent, without the argument's.
    with pytest.raises(InvalidInput, match=rf"^(queries\.)?classifier: .*({said})"):
        door.score("s", Queries(make(), ROWS))
    with pytest.raises(InvalidInput, match=rf"^(queries\.)?verifier: .*({said})"):
        door.search("s", Queries(verifier=make()))
    for field in ("text_vector", "image_vectors", "classifier_image_vectors"):
        given = {"image_vectors": ROWS, "text_vector": ROWS[0]} | {field: make()}
        with pytest.raises(InvalidInput, match=rf"^label 'new': {field}: .*({said})"):
            door.register(
                "s", [LabelInput("good", text_vector=ROWS[0]), LabelInput("new", **given)]
            )
    with pytest.raises(InvalidInput, match=rf"image_vectors: .*({said})"):
        door.add_support("s", "one", image_vectors=make())
    with pytest.raises(InvalidInput, match=rf"^text_vector: .*({said})"):
        door.update_label("s", "one", text_vector=make())
    with pytest.raises(InvalidInput, match=rf"^(queries\.)?classifier: .*({said})"):
        door.evaluate("s", Queries(make(), ROWS), NAMES)
    assert door.get_space("s") == before


def test_one_vector_of_a_column_is_one_query(door: Any) -> None:
    for one in (
        TENSOR[0],
        pd.Series(ROWS[0]),
        pa.array(ROWS[0]),
        pl.Series(ROWS[0]),
        ROWS[0].tolist(),
        list(TENSOR[0]),
    ):
        assert door.score("s", Queries(one, one)).label.tolist() == ["one"]


def test_no_rows_are_no_queries(door: Any) -> None:
    for none in (
        [],
        np.empty((0, DIM)),
        TENSOR[:0],
        pd.DataFrame(np.empty((0, DIM))),
        pl.DataFrame(np.empty((0, DIM))),
    ):
        assert len(door.score("s", Queries(none, none))) == 0


# Masks and names

MASK = [True, False, True]


@pytest.mark.parametrize(
    "labels",
    [
        MASK, tuple(MASK), np.array(MASK), torch.tensor(MASK), pd.Series(MASK, index=[9, 9, 9]),
        pd.array(MASK, dtype="boolean"),
        pd.Series(MASK, dtype=object), pa.array(MASK), pa.chunked_array([MASK]), pl.Series(MASK),
        np.array(MASK, dtype=object),
        ["one", "three"], ("one", "three"), np.array(["one", "three"]), np.array(["one", "three"],
        dtype=object),
        pd.Series(["one", "three"]), pd.Series(["one", "three"], dtype="category"), pd.Index(["one",
        "three"]),
        pa.array(["one", "three"]), pa.array(["one", "three"]).dictionary_encode(),
        pl.Series(["one", "three"]),
        list(pa.array(["one", "three"])), {"one", "three"}, {"one": 1, "three": 3}.keys(),
        np.array(["one", "three"], dtype=np.dtypes.StringDType()),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_labels_are_chosen_by_any_mask_or_column(door: Any, labels: Any) -> None:
    assert set(door.score("s", Queries(ROWS, ROWS), labels=labels).label) == {"one", "three"}


def test_labels_are_chosen_by_a_generator(door: Any) -> None:
    assert set(
        door.score("s", Queries(ROWS, ROWS), labels=(name for name in ("one", "three"))).label
    ) == {"one", "three"}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (pd.Series([True, None, False], dtype="boolean"), "row 1 is missing"),
        (pa.array([True, None, False]), "row 1 is missing"),
        (np.ma.MaskedArray(MASK, mask=[0, 1, 0]), "row 1 has masked values"),
        (pd.Series(["one", None]), "row 1 is missing"),
        (pa.array(["one", None]), "row 1 is missing"),
        ([True, 0, 1], "got an int in row 1"),
        (torch.tensor([1, 0, 1]), "expected a list of names, a boolean mask .*, got an int"),
        (np.array([1.0, 0.0, 1.0]), "expected a list of names, a boolean mask"),
        (np.array([MASK]), r"got shape \(1, 3\)"),
        (torch.tensor(MASK[:2]), r"got shape \(2,\)"),
        (pd.DataFrame({"a": MASK}), "got shape"),
        ('region = "EU"', r"expected a list of names, a boolean mask or trustvlm.Filter\('…'\)"),
        (b"one", "expected a list of names"),
        (7, "expected a list of names"),
        (list, "expected a list of names"),
        ([b"one"], "got a bytes in row 0"),
    ],
)
def test_masks_and_names_that_cannot_be(door: Any, labels: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^labels: .*{said}"):
        door.score("s", Queries(ROWS, ROWS), labels=labels)


@pytest.mark.parametrize(
    "truth",
    [
        tuple(NAMES), np.array(NAMES), np.array(NAMES, dtype=object), pd.Series(NAMES, index=[7, 8,
        9]), pd.Index(NAMES),
        pd.Series(NAMES, dtype="category"), pa.array(NAMES), pa.chunked_array([NAMES]),
        pl.Series(NAMES),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_truths_come_in_any_column(door: Any, truth: Any) -> None:
    report = door.evaluate(
        "s",
        Queries(ROWS + 0.125, ROWS + 0.125),
        truth,
        rules=pd.Series(["msp"]),
        sources=truth,
        draws=0,
    )
    assert report["msp"].accuracy.value == 1
    assert door.feedback("s", Queries(ROWS + 0.125, ROWS + 0.125), truth, sources=truth).right == 3


def test_none_in_a_truth_is_an_image_of_no_label(door: Any) -> None:
    for truth in (
        ["one", None, "three"],
        pa.array(["one", None, "three"]),
        pl.Series(["one", None, "three"]),
    ):
        report = door.evaluate(
            "s", Queries(ROWS + 0.125, ROWS + 0.125), truth, rules=["msp"], draws=0
        )
        assert report["msp"].accuracy.value == pytest.approx(2 / 3)
        assert door.feedback("s", Queries(ROWS + 0.125, ROWS + 0.125), truth).right == 2


SOME = {
    "pandas": lambda: pd.Series(["one", None, "two"]),
    "pandas of objects": lambda: pd.Series(["one", float("nan"), "two"], dtype=object),
    "pandas.NA": lambda: pd.Series(["one", pd.NA, "two"], dtype="string"),
    "pyarrow": lambda: pa.array(["one", None, "two"]),
    "a generator": lambda: (name for name in ("one", None, "two")),
}


@pytest.mark.parametrize("column", SOME)
def test_what_is_missing_among_names_and_claims_is_none(door: Any, column: str) -> None:
    """Also in an iterator, which the client and the service read more than once."""
    queries = Queries(ROWS, ROWS, sources=SOME[column](), claimed=SOME[column]())
    verdicts = door.score("s", queries)
    assert verdicts.source.tolist() == ["one", None, "two"]
    assert verdicts.claimed.tolist() == ["one", None, "two"]


def test_names_of_images_are_paths_too_and_empty_ones_are_none(door: Any) -> None:
    names = [Path("folder/a.png"), "", "b"]
    verdicts = door.score("s", Queries(ROWS, ROWS, sources=names))
    assert verdicts.source.tolist() == ["folder/a.png", None, "b"]
    other = Queries(ROWS + 0.125, ROWS + 0.125)
    report = door.evaluate("s", other, NAMES, rules=["msp"], sources=names, draws=0)
    assert report.images == 3


@pytest.mark.parametrize("column", ["sources", "claimed"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"one": 1, "two": 2, "three": 3}, "got a dict, which is no list"),
        ([1, 2, 3], "got an int in row 0"),
        (["one"], "expected 3 names, one for each query"),
    ],
)
def test_names_and_claims_that_cannot_be(door: Any, column: str, values: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^queries.{column}: .*{said}"):
        door.score("s", Queries(ROWS, ROWS, **{column: values}))


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (pd.Series(["one", None, "three"], dtype="str"), "row 1 is missing .nan.; give None"),
        (pd.Series(["one", pd.NA, "three"], dtype="string"), "row 1 is missing .<NA>.; give None"),
        (["one", float("nan"), "three"], "row 1 is missing"),
        (np.ma.MaskedArray(NAMES, mask=[0, 1, 0]), "row 1 has masked values"),
        ({"one", "two", "three"}, "no order"),
        ([1, 2, 3], "got an int in row 0"),
        (torch.tensor([0, 1, 2]), "got an int in row 0"),
        (pd.Series([0, 1, 2]), "got an int in row 0"),
        (NAMES[:2], "expected 3 names"),
        (np.array([NAMES]), "got shape"),
    ],
)
def test_truths_that_cannot_be(door: Any, truth: Any, said: str) -> None:
    for verb in (door.evaluate, door.calibrate, door.feedback):
        with pytest.raises(InvalidInput, match=f"^truth: .*{said}"):
            verb("s", Queries(ROWS, ROWS), truth)


def test_a_wrong_argument_names_the_right_one(door: Any) -> None:
    with pytest.raises(InvalidInput, match=r"got str; .* give a mapping: .'ten': None."):
        door.register("s", ["ten"])
    other = Queries(ROWS + 0.125, ROWS + 0.125)
    report = door.evaluate("s", other, NAMES, rules=["msp"], draws=0)
    with pytest.raises(KeyError, match=r"expected a rule of this evaluation \(msp.*\), got 0"):
        report[0]


def test_a_space_takes_columns_of_templates(service: trustvlm.TrustService) -> None:
    for number, column in enumerate((pd.Series(["a {}"]), pa.array(["a {}"]), np.array(["a {}"]))):
        row = service.create_space(f"s{number}", classifier="precomputed:4", templates=column)
        assert row.templates == ("a {}",)
    with pytest.raises(InvalidInput, match=r"^templates: row 0 is missing"):
        service.create_space("t", classifier="precomputed:4", templates=pa.array([None]))


# Ids and numbers


@pytest.mark.parametrize(
    "holder", [list, tuple, np.array, torch.tensor, pd.Series, pa.array, pl.Series, pd.Index,
               lambda ids: pd.array(ids, dtype="Int64"),
               lambda ids: np.array(ids, dtype=np.uint16), lambda ids: np.array(ids, dtype=object),
               set],
)  # fmt: skip
def test_ids_come_in_any_column(door: Any, holder: Callable[[list[int]], Any]) -> None:
    ids = [row.id for row in door.list_supports("s", "one")]
    door.remove_support("s", holder(ids))
    assert door.list_supports("s", "one") == []
    door.restore_support("s", holder(ids))
    assert [row.id for row in door.list_supports("s", "one")] == ids


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (pd.Series([1, None], dtype="Int64"), "row 1 is missing"),
        (pa.array([1, None]), "row 1 is missing"),
        ([1, None], "row 1 is missing"),
        ([1.5], "expected a list of support image ids"),
        (["1"], "expected a list of support image ids"),
        ([True], "expected a list of support image ids"),
        (torch.tensor([1.0]), "expected a list of support image ids"),
        ((i for i in (1, 2)), "make it a list"),
        ([[1]], "expected a list of support image ids"),
    ],
)
def test_ids_that_cannot_be(door: Any, ids: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^ids: .*{said}"):
        door.remove_support("s", ids)


def test_numbers_of_numpy_are_numbers(door: Any) -> None:
    for kind in (np.int8, np.int64, np.uint16):
        verdicts = door.score(
            "s",
            Queries(ROWS, ROWS),
            top_k=kind(2),
            params={"lambda": np.float32(0.5)},
            rule="trustvlm",
        )
        assert verdicts.top_labels.shape == (3, 2)
        assert len(verdicts.evidence(kind(0), kind(1)).label) == 1
        assert door.search("s", Queries(verifier=ROWS), k=kind(2)).ids.shape == (3, 2)
    for wrong in (True, 2.0, torch.tensor(2), "2", None):
        with pytest.raises(InvalidInput, match=r"^top_k: expected a whole number"):
            door.score("s", Queries(ROWS, ROWS), top_k=wrong)
        with pytest.raises(InvalidInput, match=r"^k: expected a whole number"):
            door.search("s", Queries(verifier=ROWS), k=wrong)


# Metrics


@pytest.mark.parametrize(
    "holder",
    [list, np.array, torch.tensor, pd.Series, pa.array, pl.Series,
    lambda v: torch.tensor(v).to(torch.bfloat16),
     lambda v: torch.tensor(v, dtype=torch.float32).requires_grad_(), lambda v: np.array(v,
     dtype=object),
     lambda v: pd.array(v, dtype="Float64")],
)  # fmt: skip
def test_metrics_take_any_column(holder: Callable[[list[float]], Any]) -> None:
    trust, correct = [0.875, 0.5, 0.25, 0.125], [1.0, 0.0, 1.0, 0.0]
    assert aurc(holder(trust), holder(correct)) == aurc(trust, correct)
    assert auroc(holder(trust), pd.Series([True, False, True, False])) == 0.75
    assert auroc(holder(trust), torch.tensor([True, False, True, False])) == 0.75


@pytest.mark.parametrize(
    ("trust", "correct", "said"),
    [
        (np.ma.MaskedArray([0.5, 0.25], mask=[0, 1]), [1, 0], "trust: row 1 has masked"),
        ([0.5, None], [1, 0], "trust: row 1 is missing"),
        ([0.5, 0.25], pd.Series([True, None], dtype="boolean"), "correct: row 1 is missing"),
        (torch.tensor([0.5, 0.25]).to_sparse(), [1, 0], "trust: .*to_dense"),
        ((t for t in (0.5, 0.25)), [1, 0], "trust: .*make it a list"),
        ([0.5, 0.25], [1, 2], "correct: expected bool or 0/1, got 2 at 1"),
        ([0.5, 0.25], pd.Series([1, None]), "correct: expected bool or 0/1, got nan at 1"),
        ([0.5, float("nan")], [1, 0], "trust: expected no NaN, got one at 1"),
        (["a", "b"], [1, 0], "expected numbers"),
    ],
)
def test_metrics_refuse_what_is_missing(trust: Any, correct: Any, said: str) -> None:
    for metric in (aurc, auroc):
        with pytest.raises(InvalidInput, match=said):
            metric(trust, correct)
    with pytest.raises(InvalidInput, match=said.replace("trust", "probability")):
        ece(trust, correct)
