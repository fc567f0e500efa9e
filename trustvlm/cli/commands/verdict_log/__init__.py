"""`trustvlm space log-verdicts` and `trustvlm space verdicts`: the log of a space's answers."""

from trustvlm.cli.commands.verdict_log.commands import log_verdicts, verdicts

__all__ = ["log_verdicts", "verdicts"]
