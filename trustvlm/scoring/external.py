"""Classifiers that are no vision-language model: their probabilities as classifier embeddings, so
that everything that looks at text softmaxes looks at theirs (docs/claims.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.types import LabelInput, Queries
from trustvlm.types.arrays import Float64s, real_array, texts
from trustvlm.types.messages.meant import did_you_mean

__all__ = ["ExternalClassifier"]

_HALF_RANGE = 20.0
"""Half of the range of logits that are kept apart: a probability below e^-40 of the largest one
counts as e^-40 of it."""
_TOLERANCE = 1e-3


class ExternalClassifier:
    """A classifier of N fixed outputs, whose probabilities take the place of the text softmax.

    A label's text vector is the axis of its output. A query's vector holds the N logits, and one
    more value that makes all vectors equally long, so that the logits of the space are exactly
    these: s·x·t_j = log p_j + a number that is the same for all labels. The softmax over the labels
    that take part is thus the classifier's own, renormalised over them.

    >>> external = trustvlm.ExternalClassifier(model.classes_)  # doctest: +SKIP
    >>> service.create_space(  # doctest: +SKIP
    ...     "s", classifier=external.spec, logit_scale=external.logit_scale, verifier="…"
    ... )
    >>> service.register("s", [external.label(name) for name in external.label_names])
    ... # doctest: +SKIP
    >>> queries = external.queries(  # doctest: +SKIP
    ...     probabilities=model.predict_proba(x), verifier=z
    ... )

    Args:
        label_names: a name for each output, in their order.

    Raises:
        InvalidInput: fewer than one name, more than 20,000, or a name that comes twice.
    """

    MOST = 20_000

    def __init__(self, label_names: Sequence[str]) -> None:
        names = texts(label_names, "label_names", "a name for each output of the classifier")
        if not 1 <= len(names) <= self.MOST:
            most = f"{self.MOST:,}"
            raise InvalidInput(f"label_names: expected 1 to {most} names, got {len(names):,}")
        if len(set(names)) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise InvalidInput(f"label_names: {twice!r:.80} comes twice; each output has its own")
        self.label_names = tuple(names)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.label_names)}

    @property
    def spec(self) -> str:
        """The classifier of its spaces, for `create_space(classifier=…)`."""
        return f"precomputed:{len(self.label_names) + 1}"

    @property
    def logit_scale(self) -> float:
        """Their logit scale, for `create_space(logit_scale=…)`."""
        return float(_HALF_RANGE * np.sqrt(len(self.label_names)))

    def label(self, name: str, **others: Any) -> LabelInput:
        """The label of an output, to register; `others`: further fields of
        :class:`trustvlm.LabelInput`, such as `images`. Raises NotFound: no output of this name."""
        if name not in self._places:
            meant = did_you_mean(name, self.label_names)
            raise NotFound(f"the classifier has no output {name!r:.80}{meant}")
        vector = np.zeros(len(self.label_names) + 1)
        vector[self._places[name]] = 1.0
        return LabelInput(name, text_vector=vector, **others)

    def queries(
        self,
        *,
        probabilities: npt.ArrayLike | None = None,
        log_probabilities: npt.ArrayLike | None = None,
        verifier: npt.ArrayLike | None = None,
        claimed: Sequence[str | None] | None = None,
    ) -> Queries:
        """Queries from the classifier's outputs, all of them, in the order of `label_names`.

        Args:
            probabilities: (n, N), of at least 0, each row with the sum 1.
            log_probabilities: in place of these: (n, N), log p or any logits, −inf for 0.
            verifier, claimed: as of :class:`trustvlm.Queries`.

        Raises:
            InvalidInput: both or none of them, another shape, NaN, or rows that are no
                probabilities.
        """
        if (probabilities is None) == (log_probabilities is None):
            raise InvalidInput("expected probabilities or log_probabilities, one of the two")
        if probabilities is not None:
            p = self._matrix(probabilities, "probabilities")
            if (p < 0).any() or (np.abs(p.sum(axis=1) - 1) > _TOLERANCE).any():
                raise InvalidInput(
                    "probabilities: expected rows of at least 0 with the sum 1; logits go into "
                    "log_probabilities"
                )
            with np.errstate(divide="ignore"):
                logits = np.log(p)
        else:
            logits = self._matrix(log_probabilities, "log_probabilities")
            if not np.isfinite(logits).any(axis=1).all() or np.isposinf(logits).any():
                raise InvalidInput(
                    "log_probabilities: expected a finite value in each row, and none of +inf"
                )
        return Queries(self._vectors(logits), verifier, claimed=claimed)

    def queries_of_top(
        self,
        label_names: Sequence[Sequence[str]],
        probabilities: npt.ArrayLike,
        *,
        verifier: npt.ArrayLike | None = None,
        claimed: Sequence[str | None] | None = None,
    ) -> Queries:
        """Queries from the k most probable outputs of each; the rest of the probability is spread
        evenly over the other outputs.

        Args:
            label_names: k names of each of n queries. probabilities: (n, k) theirs.

        Raises:
            NotFound: no output of such a name. InvalidInput: other shapes, a name that comes twice
                in a row, or more than 1 in all.
        """
        some = real_array(probabilities, "probabilities").astype(np.float64)
        rows = [texts(row, "label_names", "names of outputs") for row in label_names]
        if some.ndim != 2 or some.shape != (len(rows), *{len(row) for row in rows}):
            raise InvalidInput(
                f"probabilities: expected one for each of the names, got shape {some.shape}"
            )
        total, size = some.sum(axis=1), len(self.label_names)
        if not (some >= 0).all() or (total > 1 + _TOLERANCE).any():
            raise InvalidInput("probabilities: expected values of at least 0, at most 1 in a row")
        others = size - some.shape[1]
        p = np.repeat(np.maximum(1 - total, 0)[:, np.newaxis] / max(others, 1), size, axis=1)
        for row, names in enumerate(rows):
            if len(set(names)) < len(names):
                raise InvalidInput(f"label_names: a name comes twice in row {row}")
            for name, value in zip(names, some[row].tolist(), strict=True):
                if name not in self._places:
                    meant = did_you_mean(name, self.label_names)
                    raise NotFound(f"the classifier has no output {name!r:.80}{meant}")
                p[row, self._places[name]] = value
        p /= p.sum(axis=1, keepdims=True)
        return self.queries(probabilities=p, verifier=verifier, claimed=claimed)

    def _matrix(self, values: Any, what: str) -> Float64s:
        array = real_array(values, what).astype(np.float64)
        if array.ndim != 2 or array.shape[1] != len(self.label_names):
            raise InvalidInput(
                f"{what}: expected shape (n, {len(self.label_names)}), a value for each output; "
                f"got {array.shape}"
            )
        if np.isnan(array).any():
            raise InvalidInput(f"{what}: expected numbers, got NaN")
        return array

    def _vectors(self, logits: Float64s) -> Float64s:
        """(n, N + 1) of length 1: logits between −20 and 20, divided by the logit scale, and what
        is missing to that length."""
        top = logits.max(axis=1, keepdims=True, initial=-np.inf)
        kept = np.maximum(logits - top, -2 * _HALF_RANGE) + _HALF_RANGE
        scaled = kept / self.logit_scale
        missing = np.sqrt(np.maximum(1 - (scaled**2).sum(axis=1, keepdims=True), 0.0))
        return np.concatenate([scaled, missing], axis=1)
