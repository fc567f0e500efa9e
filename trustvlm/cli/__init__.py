"""The command line: one file per command group; each command parses, calls the service and prints.

Importing this package, and every ``--help``, loads click and nothing heavier: what is slow is
imported inside commands.
"""

from trustvlm.cli.root import main

__all__ = ["main"]
