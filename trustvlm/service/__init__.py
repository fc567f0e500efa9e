"""TrustService: register, score and search, over the catalog, the indexes and the encoders. One
file per verb."""

from trustvlm.service.service import TrustService

__all__ = ["TrustService"]
