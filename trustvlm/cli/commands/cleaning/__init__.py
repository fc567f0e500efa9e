"""`trustvlm audit` and `trustvlm propose`: clean and extend the support images of a space."""

from trustvlm.cli.commands.cleaning.audit import audit
from trustvlm.cli.commands.cleaning.propose import propose

__all__ = ["audit", "propose"]
