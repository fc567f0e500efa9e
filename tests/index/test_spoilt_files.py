"""Every kind of byte of every kind of file beside the catalog, changed: noticed when it is loaded
or used, never answered with.

A space with 16-bit rows and a graph over its support images has all the arrays there are;
test_snapshot.py flips every byte of a small snapshot, test_durability.py spoils that of a space in
memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from crash_state import ASKED, IMAGES, TEXTS, create, queries, raw
from waiting import own_messages

import trustvlm
from trustvlm import LabelInput, TrustService, Verdicts
from trustvlm.index.snapshot_header import Entry, read_head

pytestmark = pytest.mark.slow
LABELS, SUPPORTS = 1_200, 5_200


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a space of 1,200 labels and 5,200 support images, with its snapshots."""
    home = tmp_path_factory.mktemp("spoilt") / "home"
    patch = pytest.MonkeyPatch()
    patch.setenv("TRUSTVLM_HALF_FROM", "1000")
    with trustvlm.open(home, create=True) as service:
        create(service, "space")
        owners = np.arange(SUPPORTS) % LABELS
        service.register(
            "space",
            [
                LabelInput(f"label {i:04d}", TEXTS[i], image_vectors=IMAGES[:SUPPORTS][owners == i])
                for i in range(LABELS)
            ],
        )
        service.rebuild_index("space", recipe="hnsw")
        service.score("space", ASKED)
        service.search("space", ASKED, kind="support")
    patch.undo()
    assert sorted(path.name for path in (home / "snapshots").iterdir()) == [
        "1.snapshot", "1.verifier-supports.snapshot",
    ]  # fmt: skip
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "1000")
    return shutil.copytree(made, tmp_path / "home")


def entries_of(path: Path) -> list[Entry]:
    with path.open("rb") as file:
        return read_head(path, file)[1]


def answers(service: TrustService) -> tuple[Verdicts, np.ndarray, np.ndarray]:
    hits = service.search("space", ASKED, kind="support", k=5)
    return service.score("space", ASKED, rule="trustvlm"), hits.ids, hits.similarity


@pytest.fixture
def right(made: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Whether a home answers as it should: "answered"; or says that a file is damaged: "refused".
    Anything else fails."""
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "1000")
    with trustvlm.open(made, read_only=True) as service:
        verdicts, ids, similarity = answers(service)

    def judged(home: Path) -> str:
        try:
            with trustvlm.open(home) as service:
                got, found_ids, found = answers(service)
        except trustvlm.Damaged as error:
            return (
                "refused"
                if "index rebuild" in str(error)
                else f"refused without saying what to run: {error}"
            )
        for name in ("label", "rival", "nearest_prototype", "top_labels"):
            np.testing.assert_array_equal(getattr(got, name), getattr(verdicts, name))
        for name in ("trust", "text_confidence", "image_similarity", "rival_trust"):
            np.testing.assert_allclose(getattr(got, name), getattr(verdicts, name), atol=2e-3)
        assert (found_ids == ids).mean() > 0.9  # a graph that is built anew may be another one
        np.testing.assert_allclose(found[found_ids == ids], similarity[found_ids == ids], atol=1e-5)
        return "answered"

    return judged


def flip(path: Path, at: int, mask: int = 0x40) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))


@pytest.mark.parametrize("file", ["1.snapshot", "1.verifier-supports.snapshot"])
def test_a_flipped_byte_in_each_array(
    home: Path, right: Callable[[Path], str], file: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = home / "snapshots" / file
    whole = path.read_bytes()
    outcomes: dict[str, str] = {}
    for entry in entries_of(path):
        if not entry.nbytes:
            continue
        path.write_bytes(whole)
        flip(path, entry.offset + entry.nbytes // 2)
        caplog.clear()
        outcomes[entry.name] = right(home)
        warned = any(str(path) in message for message in caplog.messages)
        # Rows of float32 are read one by one: one that is not asked for is not missed.
        assert warned or outcomes[entry.name] == "refused" or entry.name.endswith(".exact"), (
            entry.name
        )
    if file.startswith("1.verifier"):
        assert outcomes.keys() == {"faiss", "ids", "alive", "recall"}
    else:
        assert {
            "text.exact",
            "text.short",
            "prototypes.short",
            "text.ids",
            "text.sums",
            "names.bytes",
        } <= outcomes.keys()


@pytest.mark.parametrize("side", ["text", "prototypes"])
def test_every_row_that_is_used_is_checked(
    home: Path, right: Callable[[Path], str], side: str
) -> None:
    """All float32 rows changed: nothing can be answered with them; a rebuild mends it."""
    path = home / "snapshots" / "1.snapshot"
    (entry,) = (one for one in entries_of(path) if one.name == f"{side}.exact")
    for row in range(entry.shape[0]):
        flip(path, entry.offset + 4 * entry.shape[1] * row + 7)
    assert right(home) == "refused"
    with trustvlm.open(home) as service:
        service.rebuild_index("space")
    assert right(home) == "answered"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def of_another_space(path: Path) -> None:
    home = path.parent.parent
    with trustvlm.open(home) as service:
        create(service, "another")
        service.register(
            "another",
            [
                LabelInput(f"label {i:04d}", TEXTS[i + 1], image_vectors=IMAGES[i * 5 : i * 5 + 5])
                for i in range(LABELS)
            ],
        )
        service.rebuild_index("another", recipe="hnsw")
    other = path.with_name(path.name.replace("1.", "2.", 1))
    other.replace(path)


def of_the_future(path: Path) -> None:
    with raw(path.parent.parent) as catalog, catalog:
        catalog.execute("UPDATE spaces SET revision = revision - 1")


def of_a_future_version(path: Path) -> None:
    flip(path, 8, 0x02)


@pytest.mark.parametrize("file", ["1.snapshot", "1.verifier-supports.snapshot"])
@pytest.mark.parametrize(
    "spoil", [cut_short, emptied, grown, of_another_space, of_the_future, of_a_future_version]
)
def test_a_spoilt_file_is_not_believed(
    home: Path,
    right: Callable[[Path], str],
    file: str,
    spoil: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = home / "snapshots" / file
    spoil(path)
    caplog.clear()
    assert right(home) == "answered"
    assert spoil is of_the_future or any(str(path) in message for message in caplog.messages)


def test_the_files_are_right_as_they_are(
    home: Path, right: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    assert right(home) == "answered"
    assert not own_messages(caplog)
    with trustvlm.open(home) as service:
        assert service.score("space", queries([1, 2])).approximate
