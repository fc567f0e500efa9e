"""The revision of a label: of its last change that can alter a verdict."""

from __future__ import annotations

from pathlib import Path

import trustvlm


def test_attributes_and_parents_do_not_move_it(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("s", classifier="precomputed:2", verifier="precomputed:2")
        service.register("s", [trustvlm.LabelInput("cat", [1.0, 0.0], image_vectors=[[1.0, 0.0]])])

        def revision() -> int:
            return next(iter(service.list_labels("s"))).revision

        first = revision()
        service.update_label("s", "cat", attributes={"region": "EU"})
        service.set_parents("s", {"cat": "animal"})
        assert (revision(), service.get_space("s").revision) == (first, first + 2)
        service.update_label("s", "cat", new_name="tiger")
        assert revision() == first + 3
        service.add_support("s", "tiger", image_vectors=[[0.0, 1.0]])
        assert revision() == first + 4
