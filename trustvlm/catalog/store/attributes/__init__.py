"""The tables of attributes, apart from the rows that they belong to: a home without attributes
has none of them, and a change of attributes moves no vector.

A row stays, with an empty object, where the attributes of a label or a support image were taken
away: those who follow the space by revision read that. A purge deletes it with its row.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from trustvlm.catalog.store.models import Base, partial_index

__all__ = ["IndexedKey", "LabelAttributes", "SupportAttributes"]


class LabelAttributes(Base):
    """The attributes of a label."""

    __tablename__ = "label_attributes"
    __table_args__ = (
        partial_index("ix_label_attributes_space_id_revision", "space_id", "revision"),
    )

    label_id: Mapped[int] = mapped_column(
        ForeignKey("labels.id"), primary_key=True, autoincrement=False
    )
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    revision: Mapped[int] = mapped_column(BigInteger)
    """When they were changed last."""
    content: Mapped[str]
    """JSON, see :mod:`trustvlm.types.attributes.values`."""


class SupportAttributes(Base):
    """The attributes of a support image."""

    __tablename__ = "support_attributes"
    __table_args__ = (
        partial_index("ix_support_attributes_space_id_revision", "space_id", "revision"),
    )

    support_id: Mapped[int] = mapped_column(
        ForeignKey("supports.id"), primary_key=True, autoincrement=False
    )
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    revision: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[str]


class IndexedKey(Base):
    """A key whose values are kept in a file, so that a process need not read every row."""

    __tablename__ = "indexed_keys"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("spaces.id"), primary_key=True, autoincrement=False
    )
    key: Mapped[str] = mapped_column(String, primary_key=True)
