"""Scoring and embedding of inputs of any size, into files."""

from trustvlm.cli.commands.bulk.commands import bulk

__all__ = ["bulk"]
