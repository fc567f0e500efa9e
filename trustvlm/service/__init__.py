"""TrustService: register, score and search, over the catalog, the indexes and the encoders. One
file per verb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trustvlm.service.service import TrustService

__all__ = ["TrustService"]


def __getattr__(name: str) -> Any:
    """Import TrustService when it is first used: checking names needs none of its modules."""
    if name != "TrustService":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trustvlm.service.service import TrustService

    return TrustService
