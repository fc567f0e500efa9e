"""`trustvlm audit`: clean the support images of a space, or a labelled folder."""

from trustvlm.cli.commands.cleaning.audit import audit

__all__ = ["audit"]
