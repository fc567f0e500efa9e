"""What is given beside images: the labels that they are claimed to have, and the probabilities that
another classifier gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trustvlm.cli.reading.claims import ByFile, Claimed
from trustvlm.cli.reading.options import FILE
from trustvlm.errors import InvalidInput

if TYPE_CHECKING:
    from trustvlm.types import Queries

probabilities_option = click.option(
    "--probabilities",
    metavar="FILE",
    type=FILE,
    help="Of a space with an external classifier: what it gives for the images, as a table (.csv, "
    ".tsv, .parquet) with a column file and one for each label, or with the columns file, label "
    "and probability. Labels that are left out share the rest. With --vectors: its arrays "
    "probabilities and outputs (label names).",
)


@dataclass(frozen=True)
class Beside:
    """Claims and probabilities, as far as there are any."""

    claims: Claimed | None = None
    outputs: ByFile[Mapping[str, float]] | None = None

    def added(self, queries: Queries, sources: Sequence[str], places: Iterable[int]) -> Queries:
        """The queries with what is said of them, by their names and places. Raises InvalidInput:
        nothing is said of one."""
        if self.claims is not None:
            queries = replace(queries, claimed=self.claims.of(sources, list(places)))
        if self.outputs is None or not sources:
            return queries
        rows = [self.outputs.row(source) for source in sources]
        given = [row for row in rows if row is not None]
        if len(given) < len(rows):
            missing = sources[rows.index(None)]
            raise InvalidInput(f"{self.outputs.origin}: no probabilities of {missing}")
        return replace(queries, classifier=None, probabilities=given)

    def end(self, came: int) -> None:
        """Say what is left over when all images have come. Raises InvalidInput."""
        for one in (self.claims, self.outputs):
            if one is not None:
                one.end(came)


def probabilities_given(
    given: Path | None, vectors: Path | None
) -> ByFile[Mapping[str, float]] | None:
    """The table of --probabilities. Raises NotFound, InvalidInput: no such file, or no table of
    probabilities."""
    if given is None:
        return None
    if vectors is not None:
        raise click.UsageError(
            "--probabilities is a table about images; of --vectors, probabilities and outputs are "
            "arrays."
        )
    from trustvlm.reading.outputs.files import outputs_by_file

    return ByFile(str(given), outputs_by_file(given), "row")
