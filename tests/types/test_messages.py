"""Messages of the library: a name that was meant, and numbers of a length that is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from worlds import World, make_space

import trustvlm
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.evidence import Evidence, Neighbour


def test_the_library_names_what_was_meant(tmp_path: Path, world: World) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(3))
        queries = world.queries(1)
        truth = world.names
        refusals = {
            "did you mean 'posterior'": lambda: service.score("s", queries, rule="postrior"),
            "did you mean 'msp'": lambda: service.evaluate("s", queries, truth, rules=["mspp"]),
            "did you mean 'lambda'": lambda: service.score("s", queries, params={"lamda": 1.0}),
            "did you mean 'small'": lambda: service.create_space("t", preset="smal"),
            "did you mean 'flat-fp16'": lambda: make_space(service, "t", recipe="flat_fp16"),
            "did you mean 'skip'": lambda: service.score("s", queries, on_error="skipp"),
            "did you mean 's'": lambda: service.get_space("S"),
            "did you mean 'support'": lambda: service.search("s", queries, kind="suport"),
            "did you mean 'picture'": lambda: trustvlm.read_images(
                pa.table({"picture": ["a.png"]}), image="pictur"
            ),
            "did you mean 'file' by 'fiel'": lambda: trustvlm.read_images(
                pa.table({"fiel": ["a.png"]})
            ),
        }
        for said, refused in refusals.items():
            with pytest.raises(trustvlm.TrustVLMError, match=said):
                refused()


def test_numbers_are_short_where_people_read_them() -> None:
    near = Neighbour(158, "nine.png", 0.943248240601197)
    assert repr(near) == "Neighbour(id=158, source='nine.png', similarity=0.943248)"
    assert repr(Evidence((near,), ())).count("0.943248)") == 1
    assert repr(Neighbour(1, None, 1.0)) == "Neighbour(id=1, source=None, similarity=1.0)"
    assert near.similarity == np.float64(0.943248240601197)
    assert (count(1, "label"), count(2_000, "entry", "entries")) == ("1 label", "2,000 entries")


def test_answers_are_brief_to_look_at_and_can_be_told_apart(tmp_path: Path, world: World) -> None:
    """A registration of many images, or an audit, does not fill the screen; answers hash."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        made = service.register("s", world.inputs(30))
        audit, changes = service.audit("s"), service.changes("s")
        queries = world.queries()
        truth = np.repeat(world.names, 3).tolist()
        calibrated = service.calibrate("s", queries, truth)
        answers = (made, audit, changes, calibrated, service.verify())
    assert f"… {len(made.ids):,} in all)" in repr(made)
    assert len(made.ids) > 100
    assert str(made.ids[-2]) not in repr(made)
    assert all(len(repr(one)) < 6_000 for one in answers)
    assert len({hash(one) for one in answers}) == len(answers)
