"""Data sets of Hugging Face: the image files as they are stored, and the labels by name."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.arrow_table import of_batches
from trustvlm.reading.sets.rows import LabelledImages, Names
from trustvlm.types.messages.counts import a_or_an

_BATCH_ROWS = 64


def is_dataset(values: Any) -> bool:
    """Whether `values` is a data set of Hugging Face. Raises InvalidInput: several of them."""
    datasets = sys.modules.get("datasets")  # a caller with a data set has imported it
    if datasets is None:
        return False
    if isinstance(values, datasets.DatasetDict | datasets.IterableDatasetDict):
        parts = ", ".join(map(repr, values))
        raise InvalidInput(
            f"expected one data set, got {a_or_an(type(values).__name__)} of {parts}; name one: "
            f"dataset[{next(iter(values), 'train')!r}]"
        )
    return isinstance(values, datasets.Dataset | datasets.IterableDataset)


def dataset_images(
    dataset: Any, image: str | None, label: str | None, names: Names
) -> LabelledImages:
    """The images of a data set: of its only Image column and its only ClassLabel column, else of
    the usual or the named ones.

    Raises:
        InvalidInput: no such columns, or a data set that does not know its columns.
    """
    features = dataset.features
    if features is None:
        raise InvalidInput(
            "data set: its columns are not known; give it features=…, or call .take(n) on a part"
        )

    def batches() -> Iterable[Any]:
        rows: Iterable[Any] = dataset.with_format("arrow").iter(_BATCH_ROWS)
        return rows

    return of_batches("data set", features.arrow_schema, batches, image, label, names)
