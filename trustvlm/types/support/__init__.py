"""Answers about cleaning and extending the support images of a space."""

from trustvlm.types.support.audit import Audit, AuditRow, MovedSupports
from trustvlm.types.support.proposals import Proposal, Proposals, ProposeOptions, RemovedProposals

__all__ = [
    "Audit", "AuditRow", "MovedSupports", "Proposal", "Proposals", "ProposeOptions",
    "RemovedProposals",
]  # fmt: skip
