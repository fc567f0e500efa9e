"""`trustvlm review`: images that wait for a person's answer."""

from trustvlm.cli.commands.review.commands import review

__all__ = ["review"]
