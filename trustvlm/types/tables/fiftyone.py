"""Verdicts as a data set of FiftyOne: the folder of JSON that it calls FiftyOneDataset."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.errors import InvalidInput

if TYPE_CHECKING:
    from trustvlm.types.verdicts import Verdicts


def write_fiftyone(
    verdicts: Verdicts, folder: Path, truth: Sequence[str | None] | None, evidence: int
) -> None:
    """See :meth:`trustvlm.Verdicts.to_fiftyone`."""
    if truth is not None and len(truth) != len(verdicts):
        raise InvalidInput(f"truth: expected {len(verdicts)} names, got {len(truth)}")
    if verdicts.source is None:
        raise InvalidInput(
            "FiftyOne shows image files: these verdicts are on embeddings without names"
        )
    samples = [
        _sample(row, source, None if truth is None else truth[place])
        for place, (row, source) in enumerate(
            zip(verdicts.rows(evidence=evidence), verdicts.source.tolist(), strict=True)
        )
    ]
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder}: expected a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"media_type": "image", "info": {"rule": verdicts.rule, "notes": verdicts.notes}}
    (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    (folder / "samples.json").write_text(json.dumps({"samples": samples}), encoding="utf-8")


def _sample(row: dict[str, Any], source: str | None, truth: str | None) -> dict[str, Any]:
    """One image with its verdict, and its true label where there is one."""
    path = Path(os.path.abspath(source or ""))  # noqa: PTH100
    if not path.is_file():
        raise InvalidInput(f"FiftyOne shows image files: there is no file {source}")
    label: dict[str, Any] = {"_cls": "Classification", "confidence": row["probability"]}
    sample = {"filepath": str(path), "tags": [], "trustvlm": label | row}
    if truth is not None:
        sample["ground_truth"] = {"_cls": "Classification", "label": truth}
    return sample
