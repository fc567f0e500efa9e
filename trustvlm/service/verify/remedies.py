"""What a repair does about each kind of damage to a space's rows, within one transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, supports
from trustvlm.catalog.rows.labels import name_hash
from trustvlm.catalog.store.vectors import checksum, pack
from trustvlm.catalog.upkeep import mend, quarantine, raw
from trustvlm.catalog.upkeep.raw import Raw, Unreadable
from trustvlm.errors import Damaged, InvalidInput
from trustvlm.scoring.prototypes import mean_prototype
from trustvlm.service.verify.facts import Facts, as_text
from trustvlm.service.verify.labels import mended_name
from trustvlm.types.verification import Damage

__all__ = ["Mending"]

_SUPPORTS_AT_A_TIME = 200


@dataclass
class Mending:
    """The repair of some rows of a space in one transaction.

    Attributes:
        connection, facts: of which transaction and space. revision: the one that the repair makes.
        names_agree: SQLite's indexes, which hold a second copy of each name, agreed with the
            tables.
        touched: labels whose prototypes must be computed anew. proven: those whose text prototype
            was found right although the checksum of the row was not. lost: label id → how many of
            the images removed with it went into quarantine.
    """

    connection: Connection
    facts: Facts
    revision: int
    names_agree: bool
    touched: set[int] = field(default_factory=set)
    proven: set[int] = field(default_factory=set)
    lost: Counter[int] = field(default_factory=Counter)

    def apply(self, damage: Damage, row: Raw) -> None:
        """Do what the damage asks for; of a label with very many support images, as much as one
        transaction should."""
        kind, key = damage.kind, int(row[raw.key_of(damage.kind)])
        match damage.remedy:
            case "quarantine" if kind == "label":
                self._quarantine_label(row, damage.problem)
            case "quarantine" if kind == "support":
                self._quarantine_support(row, damage.problem)
            case "quarantine":
                owner = (
                    next(iter(raw.by_ids(self.connection, "support", [key])), None)
                    if kind == "thumbnail"
                    else None
                )
                quarantine.move(
                    self.connection, kind, row, damage.problem, space_id=self.facts.id, owner=owner
                )
            case "prototype":
                self.touched.add(key)
                self.proven.add(key)
            case "name":
                self._mend_name(row, damage.problem)
            case "revision":
                mend.clamp_revisions(self.connection, kind, row, self.revision)
            case "alias":
                labels.set_alias(self.connection, key, None, self.revision)
                self.touched.add(key)
            case "hide":
                supports.remove(self.connection, [key], self.revision)
            case "fit":
                mend.drop_fit(self.connection, key)

    def _quarantine_label(self, row: Raw, problem: str) -> None:
        """The label and its support images, a part of them where they are many; its aliases become
        labels of their own."""
        label_id = int(row["id"])
        images = raw.supports_of(self.connection, label_id, _SUPPORTS_AT_A_TIME + 1)
        for image in raw.by_ids(self.connection, "support", images[:_SUPPORTS_AT_A_TIME]):
            self._quarantine_support(image, f"its label {label_id} is in quarantine ({problem})")
        if len(images) > _SUPPORTS_AT_A_TIME:
            return  # the next look finds it again
        for member in labels.groups(self.connection, [label_id]):
            if member != label_id:
                labels.set_alias(self.connection, member, None, self.revision)
                self.touched.add(member)
        if isinstance(row.get("alias_of"), int):
            self.touched.add(row["alias_of"])
        quarantine.log_gone(self.connection, "label", row, self.facts.id, self.revision)
        quarantine.move(self.connection, "label", row, problem, space_id=self.facts.id)
        self.touched.discard(label_id)

    def _quarantine_support(self, row: Raw, problem: str) -> None:
        support_id = int(row["id"])
        if mend.has_thumbnail(self.connection, support_id):
            picture = raw.by_ids(self.connection, "thumbnail", [support_id])[0]
            reason = f"its support image {support_id} is in quarantine"
            quarantine.move(
                self.connection, "thumbnail", picture, reason, space_id=self.facts.id, owner=row
            )
        mend.unlink_observations(self.connection, support_id)
        quarantine.log_gone(self.connection, "support", row, self.facts.id, self.revision)
        quarantine.move(self.connection, "support", row, problem, space_id=self.facts.id)
        if not isinstance(row, Unreadable) and isinstance(row["label_id"], int):
            self.touched.add(row["label_id"])
            if row["removed_revision"] is not None:
                self.lost[row["label_id"]] += 1

    def _mend_name(self, row: Raw, problem: str) -> None:
        right = mended_name(row)
        text = as_text(row["name"])
        if right is None and self.names_agree and text is not None:
            right = text, name_hash(text)
        if right is None:
            self._quarantine_label(row, f"{problem}; neither proves the other")
            return
        source = as_text(row["text_source"])
        source = source if source in ("name", "prompt", "vector") else "vector"
        mend.set_name(self.connection, int(row["id"]), self.revision, *right, source)

    def renew(self) -> None:
        """Compute the prototypes of all touched labels anew."""
        ids = sorted(
            set(labels.canonical(self.connection, sorted(self.touched)).values()) | self.touched
        )
        for row in raw.by_ids(self.connection, "label", ids):
            if isinstance(row, Unreadable):
                continue
            parts = [
                part
                for part in (row["text_prototype"], row["prototype"])
                if isinstance(part, bytes)
            ]
            if row["id"] not in self.proven and checksum(*parts) != row["checksum"]:
                continue  # it goes into quarantine itself; a new checksum must not hide that
            count, prototype = (
                self._removed(row) if row["removed_revision"] is not None else self._live(row)
            )
            if count is not None and (count, prototype, checksum(*parts)) != (
                row["support_count"], row["prototype"], row["checksum"],
            ):  # fmt: skip
                text = row["text_prototype"]
                mend.set_prototype(
                    self.connection, row["id"], self.revision, text, prototype, count
                )

    def _live(self, row: Raw) -> tuple[int | None, bytes | None]:
        """(count, prototype) of a live label; count None while a support image of it is damaged."""
        if row["alias_of"] is not None:
            return 0, None
        try:
            owners, _, embeddings = supports.embeddings(
                self.connection, [row["id"]], self.facts.verifier_dim
            )
            if not len(owners):
                return 0, None
            return len(embeddings), pack(mean_prototype(embeddings.astype(np.float64)))
        except Damaged:
            return None, None
        except InvalidInput as error:
            for member in labels.groups(self.connection, [row["id"]]):
                alive = supports.list_rows(self.connection, member)
                for image in raw.by_ids(
                    self.connection, "support", [support.id for support in alive]
                ):
                    self._quarantine_support(image, f"without another one that is damaged, {error}")
            return 0, None

    def _removed(self, row: Raw) -> tuple[int | None, bytes | None]:
        """The same of a removed label; its prototype stays away where a purge has taken a part of
        its support images."""
        count = (
            max(0, row["support_count"] - self.lost[row["id"]])
            if isinstance(row["support_count"], int)
            else 0
        )
        try:
            embeddings = supports.hidden_with_label(
                self.connection, row["id"], row["removed_revision"], self.facts.verifier_dim
            )
            whole = len(embeddings) == count and count > 0
            return count, pack(mean_prototype(embeddings.astype(np.float64))) if whole else None
        except (Damaged, InvalidInput):
            return count, None
