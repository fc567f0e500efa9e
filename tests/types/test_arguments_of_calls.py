"""What no call takes: paths that are none, places that are no numbers, vectors beyond float32."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trustvlm
from trustvlm import LabelInput, Queries, TrustService, bulk
from trustvlm.errors import InvalidInput
from trustvlm.selective.metrics import fpr_at_tpr
from trustvlm.selective.ranks import find_by_ranks

PATHS: dict[str, Callable[[TrustService, Any], object]] = {
    "open": lambda _, path: trustvlm.open(path, create=True),
    "restore": lambda _, path: trustvlm.restore(path, "elsewhere"),
    "restore to": lambda service, path: trustvlm.restore(
        service.backup("b.zip", force=True).path, path
    ),
    "read_labels": lambda _, path: trustvlm.read_labels(path),
    "read_parents": lambda _, path: trustvlm.read_parents(path),
    "backup": lambda service, path: service.backup(path),
    "export_space": lambda service, path: service.export_space("s", path),
    "import_space": lambda service, path: service.import_space(path),
    "review": lambda service, path: service.review("s").export(path),
    "answers": lambda service, path: service.review("s").import_answers(path),
}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("s", classifier="precomputed:2")
        service.register("s", [LabelInput("a", text_vector=[1.0, 0.0])])
        yield service


@pytest.mark.parametrize("call", PATHS)
def test_what_is_no_path_is_refused(service: TrustService, call: str) -> None:
    """An empty one too: that of a variable that is not set would mean the current folder."""
    for path in (None, 3, b"home", "", "a\0b"):
        with pytest.raises(InvalidInput, match=r": expected a path, got "):
            PATHS[call](service, path)
    assert sorted(Path().iterdir()) in ([Path("home")], [Path("b.zip"), Path("home")])


def test_an_empty_path_is_no_folder_of_images(service: TrustService) -> None:
    for call in (service.score, service.register):
        with pytest.raises(InvalidInput, match="path: expected a path, got ''"):
            call("s", "")


IMAGES: dict[str, Callable[[TrustService, Any], object]] = {
    "score": lambda service, path: service.score("s", path),
    "score of a list": lambda service, path: service.score("s", [path]),
    "search": lambda service, path: service.search("s", path),
    "evaluate": lambda service, path: service.evaluate("s", path, ["a"]),
    "calibrate": lambda service, path: service.calibrate("s", path),
    "feedback": lambda service, path: service.feedback("s", path),
    "audit": lambda service, path: service.audit("s", path, ["a"]),
    "propose": lambda service, path: service.propose("s", path),
    "register": lambda service, path: service.register("s", path),
    "register by name": lambda service, path: service.register("s", {"a": path}),
}
ARRAYS: dict[str, Callable[[TrustService, Any], object]] = {
    "classifier": lambda service, path: service.score("s", Queries(classifier=path)),
    "verifier": lambda service, path: service.search("s", Queries(verifier=path)),
    "text_vector": lambda service, path: service.update_label("s", "a", text_vector=path),
    "image_vectors": lambda service, path: service.add_support("s", "a", image_vectors=path),
}


@pytest.mark.parametrize(
    ("suffix", "reader"),
    [
        (".npy", "numpy.load('emb.npy')"),
        (".NPZ", "numpy.load('emb.NPZ')['NAME']"),
        (".safetensors", "safetensors.numpy.load_file('emb.safetensors')['NAME']"),
    ],
)
def test_a_file_of_arrays_is_refused_with_what_reads_it(
    service: TrustService, suffix: str, reader: str
) -> None:
    path = Path(f"emb{suffix}")
    path.write_bytes(b"\x93NUMPY")
    for given in (path, str(path)):
        for name, call in IMAGES.items():
            takes = (
                "trustvlm.LabelInput('LABEL', image_vectors={})"
                if name == "register"
                else "trustvlm.Queries(classifier={})"
            ).format(reader)
            said = re.escape(f"{path}: expected images, got a file of arrays; pass {takes}")
            with pytest.raises(InvalidInput, match=f"^{said}$"):
                call(service, given)
        for name, call in ARRAYS.items():
            said = re.escape(f"{name}: expected an array, got the path of a file; pass {reader}")
            with pytest.raises(InvalidInput, match=f"{said}$"):
                call(service, given)
    with pytest.raises(InvalidInput, match=r"write its vectors into a \.parquet file"):
        bulk.score("home", "s", path, "out")


def test_flags_of_open_are_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="create: expected True or False, got 'no'"):
        trustvlm.open(tmp_path / "new", create="no")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_the_place_of_a_verdict_is_a_whole_number(service: TrustService) -> None:
    verdicts = service.score("s", Queries(classifier=[[1.0, 0.5]]))
    for place in ("a", 0.5, None, True):
        for look in (verdicts.evidence, verdicts.thumbnail):
            with pytest.raises(InvalidInput, match="expected the place of a verdict"):
                look(place)
    assert verdicts.evidence(np.int64(-1)) == verdicts.evidence(0)


def test_vectors_beyond_float32_are_not_called_nan(service: TrustService) -> None:
    for queries, problem in (
        (np.full((1, 2), 1e300), "row 0 has values beyond ±3.4e38, which float32 does not hold"),
        (np.full((1, 2), 1e-300), "row 0 has norm zero as float32"),
        (np.zeros((1, 2)), "row 0 has norm zero, so"),
        (np.full((1, 2), np.inf), "row 0 has NaN or infinite values"),
    ):
        with pytest.raises(InvalidInput, match=problem):
            service.score("s", Queries(classifier=queries))


def test_the_bounds_of_a_promise_are_those_of_its_message() -> None:
    """Several tests share the confidence: that of each is above the largest that can be asked for."""
    rng = np.random.default_rng(0)
    names = [b"%d" % place for place in range(400)]
    found, _ = find_by_ranks(rng.random(400), np.ones(400), names, confidence=1 - 1e-6)
    assert found.threshold is not None
    with pytest.raises(InvalidInput, match=r"got 0\.9999999"):
        find_by_ranks(rng.random(400), np.ones(400), names, confidence=1 - 1e-7)


@pytest.mark.parametrize("tpr", ["a", None, True, 0, 1.5])
def test_a_share_of_right_predictions_is_a_number(tpr: Any) -> None:
    with pytest.raises(InvalidInput, match="tpr: expected a number"):
        fpr_at_tpr([0.5, 0.1], [True, False], tpr)
