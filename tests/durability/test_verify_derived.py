"""`verify` compares what is derived and cannot be seen in rows: the fit of the rules that whiten,
and the taxonomy, which must be a tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raw_sql import run_sql
from worlds import World, make_space

import trustvlm
from trustvlm.index.snapshot import read_snapshot, write_snapshot


@pytest.fixture
def filled(service: trustvlm.TrustService, world: World) -> trustvlm.TrustService:
    make_space(service)
    service.register("s", world.inputs(4))
    return service


@pytest.mark.parametrize(
    "name",
    [
        "bias",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("matrix", "labels")),
        "facts",
    ],
)
def test_the_fit_is_compared_with_the_support_images(
    filled: trustvlm.TrustService, world: World, tmp_path: Path, name: str
) -> None:
    queries = world.queries(1)
    before = filled.score("s", queries, rule="lda").trust
    (path,) = (tmp_path / "home").glob("**/*.discriminant.snapshot")
    assert filled.verify().damage == ()
    stored = read_snapshot(path, None)
    arrays = {key: np.array(array) for key, array in stored.arrays.items()}
    if name == "facts":
        text = arrays[name].tobytes().replace(b'"taus": [', b'"taus": [7.5, ', 1)
        arrays[name] = np.frombuffer(text, np.uint8)
    else:
        arrays[name][-1] += 1
    write_snapshot(path, stored.key, arrays)  # under a right checksum
    (damage,) = filled.verify().damage
    assert (damage.kind, damage.what) == ("snapshot", str(path))
    assert "is not what the support images give" in damage.problem
    assert filled.verify(repair=True).damage == ()
    with trustvlm.open(tmp_path / "home") as other:
        np.testing.assert_allclose(other.score("s", queries, rule="lda").trust, before, atol=1e-9)


def test_a_fit_of_earlier_support_images_is_no_damage(
    filled: trustvlm.TrustService, world: World
) -> None:
    """The next query that needs it makes it again."""
    filled.score("s", world.queries(1), rule="lda")
    filled.add_support("s", "beach", image_vectors=world.supports(1, 2))
    assert filled.verify().damage == ()


@pytest.mark.both_back_ends
def test_the_taxonomy_is_a_tree(
    filled: trustvlm.TrustService, world: World, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    filled.set_parents("s", {"beach": "coast", "harbour": "coast", "coast": "place"})
    filled.set_parents("s", {"forest": "place", "desert": "place"})
    assert filled.verify().damage == ()
    run_sql(home, "UPDATE tree_edges SET parent = ? WHERE child = ?", "beach", "coast")
    run_sql(home, "UPDATE tree_edges SET revision = 99 WHERE child = ?", "forest")
    with trustvlm.open(home) as other, pytest.raises(trustvlm.Damaged, match="stands under itself"):
        other.score("s", world.queries(1), back_off=0.5)
    damage = {one.what: one for one in filled.verify().damage}
    assert damage["the place of 'beach' in the taxonomy"].problem == (
        "it stands under itself: 'beach' → 'coast' → 'beach'"
    )
    assert "changed at revision 99" in damage["the place of 'forest' in the taxonomy"].problem
    assert {(one.kind, one.remedy) for one in damage.values()} == {("tree", "tree")}
    assert filled.verify(repair=True).damage == ()
    with trustvlm.open(home) as other:
        parents = {node.name: node.parent for node in other.taxonomy("s").nodes}
        assert parents == {
            "beach": None, "coast": "beach", "desert": "place", "harbour": "coast", "place": None,
        }  # fmt: skip
        other.score("s", world.queries(1), back_off=0.5)
