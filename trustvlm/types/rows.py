"""Rows of label spaces, labels, support images and API keys, as they are listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from trustvlm.types.json_form import Answer, Time

__all__ = ["KeyRow", "LabelRow", "SpaceRow", "SupportRow"]


@dataclass(frozen=True)
class SpaceRow(Answer):
    """One label space as it is listed."""

    id: int
    name: str
    classifier: str
    verifier: str
    classifier_dim: int
    verifier_dim: int
    templates: tuple[str, ...]
    logit_scale: float
    recipe: str
    revision: int
    label_count: int
    support_count: int
    created_at: Time


@dataclass(frozen=True)
class LabelRow(Answer):
    """One label as it is listed.

    Its support count is that of its prototype, images of its aliases included. An alias has the
    count 0; `alias_of` names the label whose further name it is."""

    id: int
    name: str
    prompt: str | None
    support_count: int
    revision: int
    alias_of: str | None = None


@dataclass(frozen=True)
class SupportRow(Answer):
    """One support image as it is listed.

    Attributes:
        registered_as: the alias of `label` that it was registered under; None: `label` itself."""

    id: int
    label: str
    source: str | None
    revision: int
    registered_as: str | None = None


@dataclass(frozen=True)
class KeyRow(Answer):
    """A key of the HTTP service as it is listed: without its secret, of which a hash is stored.

    Attributes:
        id: its public part.
        scope: "read", "write" or "admin".
        space: the only space that it opens; None: all.
        rate: requests a second; None: the service's setting.
        used_at: to the minute."""

    id: str
    scope: str
    space: str | None
    note: str | None
    rate: float | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    used_at: Time | None

    @property
    def state(self) -> str:
        """The state now: "valid", "expired" or "revoked"."""
        return self.state_at(datetime.now(UTC))

    def state_at(self, now: datetime) -> str:
        """The state at the time `now`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"
