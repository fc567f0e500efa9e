"""Verdicts and their evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints, overload

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects, row_numbers
from trustvlm.types.bounds import path_of
from trustvlm.types.json_form import Answer, to_plain
from trustvlm.types.messages.commands import PLACE, at
from trustvlm.types.messages.counts import count
from trustvlm.types.registration import UnreadImage
from trustvlm.types.tables.columns import Column
from trustvlm.types.tables.evidence import Evidence, OfRows
from trustvlm.types.tables.fiftyone import write_fiftyone
from trustvlm.types.tables.glance import HTML_ROWS, Glance, as_html
from trustvlm.types.tables.probability import ProbabilitySource, probability_line
from trustvlm.types.tables.tabular import Tabular
from trustvlm.types.tables.verdict import (
    CALL_COLUMNS,
    CLAIM_CALL_COLUMNS,
    CLAIM_COLUMNS,
    VERDICT_COLUMNS,
    Verdict,
)
from trustvlm.types.tables.verdicts_glance import PICTURES, verdicts_glance

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class Verdicts(Tabular):
    """The answers to n queries; every array has n rows.

    `verdicts[i]` and iteration give one :class:`trustvlm.Verdict` each; a slice, a mask of n bools
    or a list of places gives the Verdicts of these rows, with their evidence.

    Attributes:
        rule: the rule that gave them, with its parameters in `params`.
        label, label_id: the predicted label.
        corrected_from: the classifier's own label where the rule predicts another one, else None.
        text_confidence: softmax probability of the predicted label over all labels that take part.
        image_similarity: cosine of the query and the predicted label's prototype; NaN without one.
        trust: the rule's trust; larger = more likely correct.
        nearest_prototype, nearest_similarity: the label whose prototype is nearest, None/NaN when
            there is none or no verifier embedding was given; `agrees` says whether it is the
            predicted one.
        rival, rival_id, rival_trust: the best other label under the rule (None, −1, NaN when there
            is no other).
        unverified: the predicted label has no support image.
        decision: "accept", "review" or "unknown" (the image is close to no prototype); "review"
            without a calibration.
        accepted: whether the calibration in force accepts it; None where there is none for this
            rule.
        probability: that the label is right: by the calibration that decided, None where that is
            stale; without one the rule's own where its trust is a probability, else None. Of an
            image that equals a support image of another label it is None, too: one of the two
            labels is wrong, and neither number knows which.
        probability_source: what gave `probability`: "calibration", "rule" (the rule's own, not
            calibrated) or None (there is none).
        reason_code: the first of these that holds: "not_a_label" (the claim is none),
            "copy_of_other" (the image equals a support image of another label), "not_calibrated",
            "stale" (the calibration is, and accepts nothing, or never saw this label), "unknown",
            "unverified" (where the calibration refuses these), "accepted", "better_label" (trust
            below the threshold, and another label fits better than the claimed one), "close_call"
            (trust below the threshold, and a rival near in the rule's own quantity),
            "low_evidence" (trust below the threshold).
        reason: the reason code as a short sentence; a rival is named in a close call only.
        top_labels, top_confidence: (n, k) the labels of largest text confidence, best first.
        node: where the call backs off, the label, or the finest node of the taxonomy above it,
            whose `node_probability` reaches the threshold; None where none does, and without a
            back-off. node_probability: that the right label stands under it, or is it.
        path: then the nodes above the label, from the top down, and the label; else empty.
        revision: the space's revision at which everything was computed.
        unknown: the image is close to no prototype, compared with how close support images are to
            theirs.
        claimed, claimed_id: the claimed label, of an alias its label; None and −1 where a query has
            no claim. None in a call without claims, as are the next four. With a claim, `decision`,
            `accepted`, `reason_code` and `reason` are about the claimed label; all other fields are
            about the label that the space itself gives.
        claimed_probability: that the claimed label is right: by the calibration of claims that
            decided; without one the rule's own where its trust is a probability; else None.
        claimed_trust: the trust the query would get if the claimed label were the prediction; NaN
            without a claim, or where that is no label.
        better_label: the label with most of the rule's own quantity, where that is more than the
            claimed one has, or the claim is no label; None: no label fits better.
        claims_calibration_id: the calibration of claims that decided.
        tau, tau_revision: the τ of a posterior or lda rule, and the revision at which it was fitted
            (None: it was not).
        image_evidence: where τ came from: "fitted", "cosine" (of lda: fitted to similarities, as
            the whitened evidence does not tell labels apart), "default" (nothing to fit it on),
            "given", "off" (the support images do not tell labels apart: no image evidence) or
            "none" (no prototypes); None for rules without τ.
        calibration_id: the calibration that decided. stale_since: the first revision that it does
            not know.
        rival_confidence: softmax probability of the rival, as text_confidence is of the label; NaN
            without a rival. No column of the rows: it splits the rival's trust into terms.
        approximate: whether anything came from a search that could have missed some candidates.
            error_bound: largest error of the numbers given; what an index that does not compare
                every row misses, `index_stats` says (recall).
        notes: a sentence for each kind of change that made image queries readable for the encoders.
        failures: (source, reason) of each image that could not be read and has no verdict; only
            with on_error="skip".
        source: name of each image: that of `Queries.sources`, else its path, "<bytes 3>" or
            "<image 3>" by place; None: the queries were embeddings without names. The index of
            :meth:`to_pandas`, the first column of :meth:`to_arrow`.
        place: options of the command line that name the home or the service, for `repr`.
    """

    rule: str
    params: dict[str, float | None]
    label: Objects
    label_id: Int64s
    corrected_from: Objects
    text_confidence: Float64s
    image_similarity: Float64s
    trust: Float64s
    nearest_prototype: Objects
    nearest_similarity: Float64s
    agrees: Bools
    rival: Objects
    rival_id: Int64s
    rival_trust: Float64s
    unverified: Bools
    decision: Objects
    accepted: Objects
    probability: Objects
    reason_code: Objects
    reason: Objects
    top_labels: Objects
    top_confidence: Float64s
    node: Objects
    node_probability: Float64s
    path: Objects
    revision: int
    approximate: bool
    error_bound: float
    read_evidence: Callable[[int, int], Evidence]
    unknown: Bools
    claimed: Objects | None = None
    claimed_probability: Objects | None = None
    claimed_trust: Float64s | None = None
    better_label: Objects | None = None
    claimed_id: Int64s | None = None
    claims_calibration_id: int | None = None
    tau: float | None = None
    tau_revision: int | None = None
    image_evidence: str | None = None
    calibration_id: int | None = None
    stale_since: int | None = None
    probability_source: ProbabilitySource | None = None
    rival_confidence: Float64s | None = None
    notes: tuple[str, ...] = ()
    source: Objects | None = None
    read_thumbnail: Callable[[int], bytes | None] | None = None
    failures: tuple[UnreadImage, ...] = ()
    place: str = field(default_factory=PLACE.get, repr=False)

    @classmethod
    def lazily(cls, later: Mapping[str, Callable[[], Any]], **values: Any) -> Verdicts:
        """Verdicts with these fields; those in `later` are made when they are first read."""
        verdicts = object.__new__(cls)
        verdicts.__dict__.update({"place": PLACE.get()} | values, _later=later)
        return verdicts

    def __getattr__(self, name: str) -> Any:
        make = self.__dict__.get("_later", {}).get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        value = self.__dict__[name] = make()
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __len__(self) -> int:
        return len(self.label_id)

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> Verdict: ...

    @overload
    def __getitem__(self, key: slice | Sequence[Any] | Bools | Int64s | Objects) -> Verdicts: ...

    def __getitem__(self, key: Any) -> Verdict | Verdicts:
        """One verdict, or those of a slice, a mask or places.

        Raises:
            IndexError: there is no such row. InvalidInput: neither of these.
        """
        if isinstance(key, slice):
            return self._of_rows(np.arange(len(self))[key])
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            i = self._place(key)
            return self._verdict(i, self.plain_rows(i, i + 1)[0])
        return self._of_rows(row_numbers(key, len(self), "verdicts"))

    def __iter__(self) -> Iterator[Verdict]:
        for start in range(0, len(self), _BLOCK):
            for i, row in enumerate(self.plain_rows(start, start + _BLOCK), start):
                yield self._verdict(i, row)

    def _verdict(self, i: int, row: dict[str, Any]) -> Verdict:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
        }
        source = None if self.source is None else self.source[i]
        return Verdict(**values, source=source, read_evidence=partial(self.read_evidence, i))

    def _of_rows(self, rows: Int64s) -> Verdicts:
        """The verdicts of these rows; columns that were not read yet stay so."""
        values: dict[str, Any] = {}
        later: dict[str, Callable[[], Objects]] = {}
        for name in (one.name for one in fields(self)):
            if name in _BY_ROW and name in self.__dict__.get("_later", {}):
                later[name] = partial(_rows_of, self, name, rows)
            else:
                value = getattr(self, name)
                values[name] = value[rows] if name in _BY_ROW and value is not None else value
        values["read_evidence"] = OfRows(self.read_evidence, rows)
        if self.read_thumbnail is not None:
            values["read_thumbnail"] = OfRows(self.read_thumbnail, rows)
        return Verdicts.lazily(later, **values)

    def evidence(self, i: int, k: int = 3) -> Evidence:
        """The `k` nearest support images of verdict i's label and rival, as of the verdicts'
        revision.

        Raises:
            IndexError: there is no verdict i. InvalidInput: i or k is no whole number.
            Unavailable: the support images were purged since, the service is closed, or the
            verdicts were pickled: their evidence stays with the service. Copies in the same process
                keep it.
        """
        return self.read_evidence(self._place(i), k)

    def thumbnail(self, i: int) -> bytes | None:
        """A JPEG of at most 128 pixels a side of the image of verdict i; None where it is not at
        hand: the queries were embeddings, an image in memory after the first 200, a file that is
        gone, or the client's.

        Raises:
            IndexError: there is no verdict i. InvalidInput: i is no whole number.
        """
        place = self._place(i)
        return None if self.read_thumbnail is None else self.read_thumbnail(place)

    def _place(self, i: int | np.integer[Any]) -> int:
        """The place of verdict i, counted from 0. Raises IndexError, InvalidInput."""
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise InvalidInput(f"verdicts: expected the place of a verdict, got {i!r:.80}")
        if not -len(self) <= i < len(self):
            raise IndexError(f"verdict {i} of {len(self)}")
        return int(i) % len(self)

    def rows(self, *, evidence: int = 0) -> Iterator[dict[str, Any]]:
        """One plain dict per verdict, ready for JSON (NaN becomes None); with `evidence` nearest
        support images if > 0."""
        for start in range(0, len(self), _BLOCK):
            for i, row in enumerate(self.plain_rows(start, start + _BLOCK), start):
                if evidence:
                    row["evidence"] = to_plain(self.evidence(i, evidence))
                yield row

    def plain_rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The rows start … stop; built by column, at a quarter of the cost of building by row."""
        by_row, by_call = self._names
        columns = [_cells(getattr(self, name)[start:stop]) for name in by_row]
        shared = {name: _plain(getattr(self, name)) for name in by_call}
        return [
            dict(zip(by_row, cells, strict=True)) | shared for cells in zip(*columns, strict=True)
        ]

    @property
    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the columns of rows and tables: those by verdict, and those by call."""
        if self.claimed_id is None:
            return VERDICT_COLUMNS, CALL_COLUMNS
        return VERDICT_COLUMNS + CLAIM_COLUMNS, CALL_COLUMNS + CLAIM_CALL_COLUMNS

    def _table(self) -> tuple[dict[str, Column], int]:
        hints = get_type_hints(Verdict)
        by_row, by_call = self._names
        columns = {name: Column(hints[name], getattr(self, name)) for name in by_row}
        columns |= {n: Column(hints[n], getattr(self, n), repeated=True) for n in by_call}
        if self.source is not None:
            columns = {"source": Column(hints["source"], self.source)} | columns
        return columns, len(self)

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas.DataFrame, see :meth:`to_arrow`; `source`, where there is one, is
        the index. Whole numbers and bools that may be missing have the types Int64 and boolean.

        Raises:
            Unavailable: pandas is not installed.
        """
        frame = super().to_pandas()
        return frame if self.source is None else frame.set_index("source")

    def to_fiftyone(
        self, folder: str | Path, *, truth: Sequence[str | None] | None = None, evidence: int = 0
    ) -> None:
        """Write a data set of FiftyOne into a new folder: a sample for each image, with a
        Classification `trustvlm` that has the columns of the rows as attributes, and the
        probability as its confidence.

        >>> verdicts.to_fiftyone("export")  # doctest: +SKIP
        >>> fiftyone.Dataset.from_dir(
        ...     dataset_dir="export", dataset_type=fiftyone.types.FiftyOneDataset
        ... )  # doctest: +SKIP

        Args:
            truth: label names, for the field `ground_truth`. evidence: number of nearest support
                images of label and rival in the attribute `evidence`.

        Raises:
            InvalidInput: an image without a file, or a folder that is not empty.
        """
        if truth is not None and len(truth) != len(self):
            raise InvalidInput(f"truth: expected {count(len(self), 'name')}, got {len(truth)}")
        if self.source is None:
            raise InvalidInput(
                "FiftyOne shows image files: these verdicts are on embeddings without names"
            )
        names = [None] * len(self) if truth is None else truth
        images = zip(self.source.tolist(), names, self.rows(evidence=evidence), strict=True)
        write_fiftyone(path_of("folder", folder), images, {"rule": self.rule, "notes": self.notes})

    def _repr_html_(self) -> str:
        shown = range(min(PICTURES, len(self)))
        pictures = None if self.read_thumbnail is None else [self.thumbnail(i) for i in shown]
        return as_html(self._glance(pictures))

    def _glance(self, thumbnails: Sequence[bytes | None] | None = None) -> Glance:
        calibration = self.calibration_id, self.stale_since
        with at(self.place):
            line = probability_line(self.probability_source, self.rule, *calibration)
        remarks = [line, f"rule {self.rule} at revision {self.revision} of the space"]
        if (unread := len(self.failures)) > 0:
            remarks.append(f"{unread:,} image{'s' * (unread > 1)} could not be read: see failures")
        counts = Counter(self.decision.tolist())
        return verdicts_glance(list(self[:HTML_ROWS]), counts, remarks, thumbnails)


_BLOCK = 1_000

_BY_ROW = {*VERDICT_COLUMNS, *CLAIM_COLUMNS, "rival_confidence", "source"}


def _rows_of(verdicts: Verdicts, name: str, rows: Int64s) -> Objects:
    values: Objects = getattr(verdicts, name)[rows]
    return values


@dataclass(frozen=True)
class RuleLeftOut(Answer):
    """A rule that a comparison of all rules goes without, and the reason in words."""

    rule: str
    reason: str


def left_out_in_words(rules: Sequence[RuleLeftOut]) -> str:
    """One clause for people: the rules, grouped by reason; "" without any."""
    reasons = dict.fromkeys(one.reason for one in rules)
    return "; ".join(
        f"{', '.join(one.rule for one in rules if one.reason == why)} ({why})" for why in reasons
    )


def _cells(values: Any) -> list[Any]:
    """A column as JSON holds it; only where it may hold NaN or NumPy's numbers, cell by cell."""
    cells: list[Any] = values.tolist()
    mixed = values.dtype.kind == "O" and values.ndim == 1
    if mixed or (values.dtype.kind == "f" and np.isnan(values).any()):
        return [_plain(cell) for cell in cells]
    return cells


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
