"""Sizes at which the work on a space changes its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

Size = Annotated[int, Field(ge=1, le=2**40)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


@dataclass(frozen=True)
class Thresholds:
    """Sizes at which the work on a space changes its way; results stay as exact as the verdicts
    say. One setting of :class:`trustvlm.settings.Settings`: lower numbers try the ways of large
    spaces on small ones.

    Attributes:
        fit_sample, fit_competitors: support images and competitor labels that a fit looks at,
            smallest hashes first (docs/rules.md).
        fit_on_write_labels, fit_on_write_images: up to this many labels with support images, and
            images, a write refits in its own transaction: some 10 ms.
        fit_in_call_labels: up to this many labels with support images a query waits for the fit of
            its own revision: a tenth of a second or two.
        fit_quiet_s, fit_patience_s: a larger space is refitted in the background when no change
            came for `fit_quiet_s`, or when it has waited for `fit_patience_s`.
        dense_labels: a space in memory with up to this many labels is scored by two products of
            complete matrices, if more than a sixteenth of them takes part; else by a pass over its
            rows.
        snapshot_rows: when this many labels, and a tenth of the space, were read from the catalog
            since the last snapshot, a new one is written.
        memory_bytes: while the first snapshot of a large space is written, queries are answered
            from float32 rows in memory, if these take no more than this; else the first query
            waits for the snapshot.
        transaction_labels: labels that one transaction registers or imports, at most, and after
            which an export reports progress.
        transaction_images: images that are encoded for one transaction of a registration, at most,
            but those of one label at least.
        reembed_labels: labels that one transaction of a re-embedding stages, at most.
        export_group_bytes: bytes of a row group of an export, about; this much is held in memory
            at a time.
        tune_margin: standard errors by which the recall that a parameter is tuned with exceeds the
            target, where it can.
        backup_pages: pages of the catalog that a backup copies between two reports of progress.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    fit_sample: Size = 2_048
    fit_competitors: Size = 4_096
    fit_on_write_labels: Size = 64
    fit_on_write_images: Size = 256
    fit_in_call_labels: Size = 512
    fit_quiet_s: Seconds = 0.25
    fit_patience_s: Seconds = 5.0
    dense_labels: Size = 2**17
    snapshot_rows: Size = 5_000
    memory_bytes: Size = 2**30
    transaction_labels: Size = 1_000
    transaction_images: Size = 1_000
    reembed_labels: Size = 200
    export_group_bytes: Size = 16 * 2**20
    tune_margin: float = 2.33
    backup_pages: Size = 1_024
