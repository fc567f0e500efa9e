"""Verdicts as a data set of FiftyOne: the folder of JSON that it calls FiftyOneDataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput


def write_fiftyone(
    folder: Path,
    images: Iterable[tuple[str | None, str | None, dict[str, Any]]],
    info: Mapping[str, Any],
) -> None:
    """See :meth:`trustvlm.Verdicts.to_fiftyone`; `images`: file, true label and verdict of each;
    `info`: about all of them."""
    samples = [_sample(row, source, truth) for source, truth, row in images]
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder}: expected a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"media_type": "image", "info": info}
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
