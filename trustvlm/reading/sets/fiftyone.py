"""Data sets of FiftyOne, exported as the folder of JSON that it calls FiftyOneDataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.rows import (
    ImageRow,
    LabelledImages,
    ListedPath,
    Names,
    label_name,
    require_some,
)
from trustvlm.reading.text import read_json, read_text

_TRUTH = "ground_truth"


def is_fiftyone(path: Path) -> bool:
    """Whether a folder is a data set of FiftyOne."""
    return path.is_dir() and (path / "samples.json").is_file()


def fiftyone_images(folder: Path, label: str | None, names: Names) -> LabelledImages:
    """The images of a data set of FiftyOne, with the labels of its field `label`; None:
    ground_truth, or the only field of Classifications.

    Raises:
        InvalidInput: no such data set, or no field of that name.
    """
    samples = _samples(folder / "samples.json")
    fields = sorted({name for one in samples for name in one if _is_label(one[name])})
    if label is not None and label not in fields:
        raise InvalidInput(f"{folder}: expected a field {label!r}; it has {', '.join(fields)}")
    chosen = label or (_TRUTH if _TRUTH in fields else fields[0] if len(fields) == 1 else None)
    unlabelled = None
    if chosen is None:
        has = f"it has {', '.join(fields)}" if fields else "it has none"
        remedy = "name it: trustvlm.read_images(…, label='…')"
        unlabelled = f"{folder}: expected a field of labels named {_TRUTH}; {has}; {remedy}"

    def rows() -> Iterator[ImageRow]:
        for number, sample in enumerate(samples):
            place = f"{folder}, sample {number}"
            if not isinstance(path := sample.get("filepath"), str) or not path:
                raise InvalidInput(f"{place}: expected a filepath, got {path!r:.80}")
            one = sample.get(chosen) if chosen is not None else None
            value = one.get("label") if isinstance(one, dict) else None
            image = ListedPath.at(str(folder / path), place)
            yield ImageRow(image, label_name(value, names, place), place)

    return LabelledImages(
        str(folder), lambda: require_some(rows(), str(folder), folder), unlabelled
    )


def _samples(path: Path) -> list[dict[str, Any]]:
    content = read_json(read_text(path, "a data set of FiftyOne"), str(path))
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list) or not all(isinstance(one, dict) for one in samples):
        raise InvalidInput(f"{path}: expected an object with the list samples")
    return samples


def _is_label(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_cls") == "Classification"
