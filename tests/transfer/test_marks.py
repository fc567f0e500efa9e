"""What a person or a proposal said of a support image goes along: exports, imports and other
encoders keep the marks "kept" and "proposed"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from raw_sql import run_sql
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm

pytestmark = pytest.mark.both_back_ends(slow=True)


def marks(home: Path, service: trustvlm.TrustService, space: str) -> set[tuple[str, str]]:
    """(label, mark) of the support images that have one."""
    label_of = {
        image.id: row.name
        for row in service.list_labels(space)
        for image in service.list_supports(space, row.name)
    }
    query = "SELECT id FROM supports WHERE removed_revision IS NULL AND {} IS NOT NULL"
    return {
        (label_of[number], mark)
        for mark in ("kept", "proposed")
        for (number,) in run_sql(home, query.format(mark))
        if number in label_of
    }


def test_marks_are_exported_imported_and_kept_by_other_encoders(
    service: trustvlm.TrustService, world: World, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_space(service)
    service.register("s", world.inputs(2))
    plain = service.export_space("s", tmp_path / "plain").folder
    assert not {"kept", "proposed"} & {*pq.read_schema(plain / "supports.parquet").names}

    service.keep_support("s", [service.list_supports("s", "airport")[0].id])
    proposed = service.list_supports("s", "beach")[1].id
    run_sql(home, "UPDATE supports SET proposed = TRUE WHERE id = ?", proposed)
    expected = {("airport", "kept"), ("beach", "proposed")}
    marked = service.export_space("s", tmp_path / "marked").folder
    assert pq.read_schema(marked / "supports.parquet").names[-2:] == ["kept", "proposed"]

    service.import_space(plain, name="plain")
    assert marks(home, service, "plain") == set()
    service.import_space(marked, name="copy")
    assert marks(home, service, "copy") == expected
    service.remove_proposed("copy", label="beach")
    assert marks(home, service, "copy") == {("airport", "kept")}

    images = [image for row in world.names for image in service.list_supports("s", row)]
    rng = np.random.default_rng(3)
    service.reembed_space(
        "s",
        classifier=f"precomputed:{TEXT_DIM}:other",
        verifier=f"precomputed:{IMAGE_DIM}:other",
        text_vectors={name: rng.normal(size=TEXT_DIM) for name in world.names},
        image_vectors={image.id: rng.normal(size=IMAGE_DIM) for image in images},
    )
    assert marks(home, service, "s") == expected
