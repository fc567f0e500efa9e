"""Embedding a space anew while it changes, is read, is killed: with vectors, where no model is the
point.

The children are real processes that run functions of this file (`python test_reembed_follow.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import start, tell
from numbered import CLASSIFIER, VERIFIER, create, label, queries, require_equal, text, vectors
from raw_sql import run_sql
from thresholds import set_thresholds

import trustvlm
from trustvlm import LabelInput, Queries, TrustService

NEW_CLASSIFIER, NEW_VERIFIER = 24, 40


def turned(matrix: np.ndarray, dim: int) -> np.ndarray:
    """What the other encoder of that dimension makes of what the old encoder made `matrix` of."""
    return np.asarray(matrix, np.float32) @ vectors(9, n=matrix.shape[-1], dim=dim)


def new_label(number: int, **options: int) -> LabelInput:
    old = label(number, **options)
    images = (
        None if old.image_vectors is None else turned(np.asarray(old.image_vectors), NEW_VERIFIER)
    )
    return LabelInput(
        old.name,
        text_vector=turned(np.asarray(old.text_vector), NEW_CLASSIFIER),
        image_vectors=images,
    )


def new_queries() -> Queries:
    old = queries()
    return Queries(
        turned(np.asarray(old.classifier), NEW_CLASSIFIER),
        turned(np.asarray(old.verifier), NEW_VERIFIER),
    )


def old_vectors(home: Path) -> dict[int, np.ndarray]:
    """Every support image's old embedding, by id."""
    rows = run_sql(home, "SELECT id, embedding FROM supports")
    return {
        number: np.frombuffer(blob, "<f4") for number, blob in rows if len(blob) == 4 * VERIFIER
    }


def given(home: Path, numbers: range = range(60)) -> dict[str, Any]:
    """The vectors of the new encoders for everything there is."""
    return {
        "classifier": f"precomputed:{NEW_CLASSIFIER}:new",
        "verifier": f"precomputed:{NEW_VERIFIER}:new",
        "text_vectors": {new_label(n).name: new_label(n).text_vector for n in numbers},
        "image_vectors": {
            i: turned(v[np.newaxis], NEW_VERIFIER)[0] for i, v in old_vectors(home).items()
        },
    }


@pytest.fixture
def service(home: Path) -> Iterator[TrustService]:
    with trustvlm.open(home) as opened:
        yield opened


def require_fresh(
    service: TrustService, labels: list[LabelInput], aliases: tuple[tuple[str, str], ...] = ()
) -> None:
    """The space answers as one that was filled with these labels from the beginning."""
    row = service.get_space("space")
    service.create_space(
        "fresh", classifier=row.classifier, verifier=row.verifier, logit_scale=row.logit_scale
    )
    service.register("fresh", labels)
    for name, of in aliases:
        service.alias("fresh", name, of)
    for rule in ("posterior", "trustvlm_star", "knn"):
        require_equal(
            service.score("space", new_queries(), rule=rule),
            service.score("fresh", new_queries(), rule=rule),
            ids=False,
        )
    counts = [
        {(x.name, x.support_count, x.alias_of) for x in service.list_labels(space)}
        for space in ("space", "fresh")
    ]
    assert counts[0] == counts[1]


def test_vectors_for_everything(service: TrustService, home: Path) -> None:
    done = service.reembed_space("space", **given(home))
    assert (done.state, done.labels, done.supports) == ("kept", 20, 30)
    assert service.get_space("space").verifier == f"precomputed:{NEW_VERIFIER}:new"
    require_fresh(service, [new_label(n, supports=n % 4) for n in range(20)])
    with pytest.raises(trustvlm.InvalidInput, match=f"expected shape .*{NEW_CLASSIFIER}"):
        service.score("space", queries())


def test_the_tag_is_part_of_the_identity(service: TrustService, home: Path) -> None:
    """The same dimension under another tag is another encoder: nothing is copied."""
    with pytest.raises(trustvlm.Conflict, match="30 of its support images have no original"):
        service.reembed_space("space", verifier=f"precomputed:{VERIFIER}:other")
    service.abort_reembed("space")
    done = service.reembed_space("space", verifier=f"precomputed:{VERIFIER}", templates=["{}"])
    assert done.supports == 30


def test_text_vectors_that_are_missing_are_named(service: TrustService, home: Path) -> None:
    asked = given(home)
    del asked["text_vectors"]["label 0007"], asked["text_vectors"]["label 0011"]
    with pytest.raises(
        trustvlm.Conflict, match=r"nothing gives 2 of its labels .*'label 0007', 'label 0011'"
    ):
        service.reembed_space("space", **asked, drop_missing=True)
    status = service.reembed_status("space")
    assert (status.missing_labels, status.labels) == (("label 0007", "label 0011"), 18)
    rest = {name: new_label(int(name[-4:])).text_vector for name in status.missing_labels}
    ids = {item.id: asked["image_vectors"][item.id] for item in status.missing}
    service.reembed_space("space", text_vectors=rest, image_vectors=ids)
    require_fresh(service, [new_label(n, supports=n % 4) for n in range(20)])


def change_everything(service: TrustService) -> None:
    """Every kind of change that a space knows."""
    service.register("space", [label(n, supports=2) for n in range(40, 43)])
    service.remove_label("space", "label 0003")
    service.remove_support("space", [service.list_supports("space", "label 0002")[0].id])
    service.add_support(
        "space", "label 0001", image_vectors=label(1, supports=2, first=5).image_vectors
    )
    service.update_label("space", "label 0005", new_name="label 0055")
    service.update_label("space", "label 0006", new_name="label 0005")
    service.alias("space", "label 0010", "label 0011")
    service.remove_label("space", "label 0007")
    service.restore_label("space", "label 0007")
    service.remove_label("space", "label 0013")
    service.purge(older_than=timedelta(0))


def after_changes() -> list[LabelInput]:
    """What the space holds then, by the new encoders."""
    found = {f"label {n:04d}": new_label(n, supports=n % 4) for n in range(20) if n not in (3, 13)}
    images = {name: item.image_vectors for name, item in found.items()}
    images["label 0002"] = np.asarray(images["label 0002"])[1:]
    images["label 0001"] = np.concatenate(
        [images["label 0001"], new_label(1, supports=2, first=5).image_vectors]
    )
    texts = {name: item.text_vector for name, item in found.items()}
    moved = {"label 0055": "label 0005", "label 0005": "label 0006"}
    names = [name for name in found if name not in ("label 0005", "label 0006")]
    old = [LabelInput(name, text_vector=texts[name], image_vectors=images[name]) for name in names]
    old += [
        LabelInput(now, text_vector=texts[was], image_vectors=images[was])
        for now, was in moved.items()
    ]
    return old + [new_label(n, supports=2) for n in range(40, 43)]


def test_what_changed_meanwhile_is_followed(service: TrustService, home: Path) -> None:
    asked = given(home)
    some = dict(list(asked["image_vectors"].items())[:-1])
    with pytest.raises(trustvlm.Conflict, match="1 of its support images have no original"):
        service.reembed_space("space", **asked | {"image_vectors": some})
    assert not service.reembed_status("space").behind
    change_everything(service)
    assert service.reembed_status("space").behind
    asked = given(home)
    # What had a vector keeps it when it is renamed: only new labels need one.
    asked["text_vectors"] = {new_label(n).name: new_label(n).text_vector for n in range(40, 43)}
    done = service.reembed_space("space", **asked)
    assert done.labels == 21
    require_fresh(service, after_changes(), (("label 0010", "label 0011"),))
    assert service.reembed_status("space").state == "kept"


def test_a_text_vector_that_changed_meanwhile_is_missing_again(
    service: TrustService, home: Path
) -> None:
    asked = given(home)
    some = dict(list(asked["image_vectors"].items())[:-1])
    with pytest.raises(trustvlm.Conflict, match="1 of its support images have no original"):
        service.reembed_space("space", **asked | {"image_vectors": some})
    service.update_label("space", "label 0003", text_vector=label(50).text_vector)
    rest = {"image_vectors": asked["image_vectors"]}
    with pytest.raises(trustvlm.Conflict, match=r"nothing gives 1 of its labels .*'label 0003'"):
        service.reembed_space("space", **rest)
    text = {"label 0003": new_label(50).text_vector}
    service.reembed_space("space", **rest, text_vectors=text)
    changed = LabelInput(
        "label 0003", text["label 0003"], None, new_label(3, supports=3).image_vectors
    )
    labels = [new_label(n, supports=n % 4) for n in range(20)]
    require_fresh(service, [*labels[:3], changed, *labels[4:]])


def test_back_and_forth(service: TrustService, home: Path) -> None:
    before, revision = service.score("space", queries()), service.get_space("space").revision
    with pytest.raises(trustvlm.Conflict, match="space 'space' exists"):
        service.restore_space("space")
    service.reembed_space("space", **given(home))
    with pytest.raises(
        trustvlm.Conflict, match=r"still keeps the embeddings from before.*--discard-old"
    ):
        service.reembed_space("space", templates=["{}"])
    forward = service.get_space("space").revision
    service.restore_space("space")
    assert revision < forward < service.get_space("space").revision, (
        "a revision never comes twice under a name"
    )
    require_equal(service.score("space", queries()), before)
    assert service.reembed_status("space").state == "none"
    service.reembed_space("space", **given(home))
    service.remove_space("space")
    service.restore_space("space")
    assert service.get_space("space").classifier == f"precomputed:{NEW_CLASSIFIER}:new"
    assert service.reembed_status("space").state == "kept"
    service.discard_old("space")
    service.purge()
    for path in home.rglob("*"):
        if path.is_file():
            assert text(3).tobytes() not in path.read_bytes(), path
            assert vectors(2, 3, n=3, dim=VERIFIER)[0].tobytes() not in path.read_bytes(), path
    require_fresh(service, [new_label(n, supports=n % 4) for n in range(20)])


def test_abort_leaves_nothing(service: TrustService, home: Path) -> None:
    before = service.score("space", queries())
    with pytest.raises(trustvlm.NotFound, match="nothing is being re-embedded"):
        service.abort_reembed("space")
    asked = given(home)
    asked["image_vectors"].popitem()
    with pytest.raises(trustvlm.Conflict, match="no original"):
        service.reembed_space("space", **asked)
    with pytest.raises(
        trustvlm.Conflict, match=r"with the verifier 'precomputed:40:new', not 'precomputed:50'"
    ):
        service.reembed_space("space", verifier="precomputed:50")
    assert [row.name for row in service.list_spaces()] == ["space"]
    service.abort_reembed("space")
    service.purge()
    assert service.reembed_status("space").state == "none"
    new = turned(vectors(2, 3, n=3, dim=VERIFIER), NEW_VERIFIER)[0].tobytes()
    assert all(new not in path.read_bytes() for path in home.rglob("*") if path.is_file())
    require_equal(service.score("space", queries()), before)


def test_bad_arguments(service: TrustService) -> None:
    ones = {"verifier": "precomputed:8", "image_vectors": {1: np.ones(7)}}
    nan = {"classifier": "precomputed:8", "text_vectors": {"a": np.full(8, np.nan)}}
    for arguments, message in (
        ({}, "expected a classifier, a verifier or templates"),
        ({"templates": ["no braces"]}, "templates: each must be"),
        (ones, r"image_vectors\[1\]: expected shape \(n, 8\)"),
        (nan, r"text_vectors\['a'\]: row 0 has NaN"),
    ):
        with pytest.raises(trustvlm.TrustVLMError, match=message):
            service.reembed_space("space", **arguments)
        if service.reembed_status("space").state == "staged":
            service.abort_reembed("space")


def watch(home: str) -> None:
    """Score with old vectors until they are refused, then with new ones; say what was seen."""
    seen: list[list[object]] = []
    with trustvlm.open(home) as service:
        tell("ready")
        deadline = time.monotonic() + 60
        asked, after = queries(4), 0
        while after < 20 and time.monotonic() < deadline:
            row = service.get_space("space")
            try:
                verdicts = service.score("space", asked, rule="trustvlm")
            except trustvlm.InvalidInput:
                old = new_queries()
                asked = Queries(np.asarray(old.classifier)[:4], np.asarray(old.verifier)[:4])
                seen.append(["refused", row.classifier_dim, row.support_count])
                continue
            after += asked.classifier.shape[1] == NEW_CLASSIFIER  # type: ignore[union-attr]
            seen.append([round(float(verdicts.trust[0]), 5), row.classifier_dim, row.support_count])
    tell(json.dumps(seen))


def test_another_process_sees_the_old_or_the_new(service: TrustService, home: Path) -> None:
    with start(watch, home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        old = round(float(service.score("space", queries(4), rule="trustvlm").trust[0]), 5)
        service.reembed_space("space", **given(home))
        seen = json.loads(process.stdout.readline())
    assert process.returncode == 0
    asked = new_queries()
    new = Queries(np.asarray(asked.classifier)[:4], np.asarray(asked.verifier)[:4])
    now = round(float(service.score("space", new, rule="trustvlm").trust[0]), 5)
    answers = [answer for answer, *_ in seen]
    assert answers.count("refused") <= 1
    changed = answers.index(now)
    assert set(answers[:changed]) <= {old, "refused"}
    assert set(answers[changed:]) == {now}
    assert {(dim, supports) for _, dim, supports in seen} <= {
        (CLASSIFIER, 30),
        (NEW_CLASSIFIER, 30),
    }


def remove_all_the_time(home: str) -> None:
    """Remove labels one by one, saying which is removed."""
    with trustvlm.open(home) as service:
        for number in range(100, 150):
            service.remove_label("space", f"label {number:04d}")
            tell(f"label {number:04d}")
            time.sleep(0.01)


@pytest.mark.slow  # by default: test_another_process_sees_the_old_or_the_new
def test_what_another_process_changes_all_the_time_is_not_lost(
    service: TrustService, home: Path
) -> None:
    service.register("space", [label(n, supports=1) for n in range(100, 150)])
    asked = given(home, range(150))
    with start(remove_all_the_time, home) as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        done = service.reembed_space("space", **asked)
        removed = [first, *(line.strip() for line in process.stdout)]
    assert (process.returncode, len(removed), done.state) == (0, 50, "kept")
    require_fresh(service, [new_label(n, supports=n % 4) for n in range(20)])


def begin(home: str, chunk: str) -> None:
    """Embed anew in small chunks, saying when each is durable; it is killed on the way."""
    from trustvlm.service.reembed import stage

    set_thresholds(Path(home), reembed_labels=int(chunk))
    write = stage._write

    def said(*arguments: Any) -> None:
        write(*arguments)
        tell("chunk")

    stage._write = said
    with trustvlm.open(home) as service:
        service.reembed_space("space", **given(Path(home)))
    tell("done")


def test_killed_and_resumed(home: Path) -> None:
    after = 4
    with trustvlm.open(home, read_only=True) as service:
        before = service.score("space", queries()).label.tolist()
    with start(begin, home, 2) as process:
        assert process.stdout is not None
        for _ in range(after):
            assert process.stdout.readline() == "chunk\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with trustvlm.open(home) as service:
        status = service.reembed_status("space")
        assert status.labels >= 2 * (after - 1)
        assert service.score("space", queries()).label.tolist() == before
        service.reembed_space("space", **given(home))
        require_fresh(service, [new_label(n, supports=n % 4) for n in range(20)])


def test_one_at_a_time(service: TrustService, home: Path) -> None:
    import fcntl

    with (home / "reembed.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(trustvlm.Unavailable, match="another process"):
            service.reembed_space("space", **given(home))


@pytest.mark.slow
def test_the_cut_over_of_ten_thousand_support_images_takes_less_than_a_second(
    tmp_path: Path,
) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service)
        service.register("space", [label(number, supports=10) for number in range(1_000)])
        done = service.reembed_space("space", **given(tmp_path / "home", range(1_000)))
        assert (done.labels, done.supports) == (1_000, 10_000)
        assert done.cut_over_s is not None
        assert done.cut_over_s < 1


if __name__ == "__main__":
    {verb.__name__: verb for verb in (watch, begin, remove_all_the_time)}[sys.argv[1]](
        *sys.argv[2:]
    )
