"""The base of answers that are tables."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from trustvlm.types.tables.columns import Column, arrow_table, pandas_frame
from trustvlm.types.tables.glance import Glance, as_html, as_text

if TYPE_CHECKING:
    import pandas
    import pyarrow


class Tabular:
    """An answer that is a table: short in a console, a picture in a notebook, columns for pandas
    and Arrow."""

    @abstractmethod
    def _table(self) -> tuple[dict[str, Column], int]:
        """(columns by name, number of rows)."""

    @abstractmethod
    def _glance(self) -> Glance:
        """What people are shown."""

    def to_arrow(self) -> pyarrow.Table:
        """The rows as a pyarrow.Table; undefined numbers are null."""
        return arrow_table(*self._table())

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas.DataFrame: the columns of :meth:`to_arrow`; whole numbers and bools
        that may be missing have the types Int64 and boolean.

        Raises:
            Unavailable: pandas is not installed.
        """
        return pandas_frame(self.to_arrow())

    def __repr__(self) -> str:
        return as_text(self._glance())

    def _repr_html_(self) -> str:
        return as_html(self._glance())
