"""`trustvlm start`: from a folder or a file of vectors to a measured space, in one command."""

from trustvlm.cli.commands.start.command import start

__all__ = ["start"]
