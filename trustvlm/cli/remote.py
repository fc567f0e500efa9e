"""A running service in the place of a home, for the commands that can be sent to one."""

from __future__ import annotations

from pathlib import Path

from trustvlm.client import Client
from trustvlm.types.evaluation import Evaluation

REQUEST_S, RETRIES = 600.0, 4
"""Seconds that a request may take; how often it is sent again. A service that does not listen is
reported after two seconds."""


class Remote(Client):
    """A client with what else the commands ask of a service; the key is that of TRUSTVLM_KEY."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout=REQUEST_S, retries=RETRIES)
        self.place = ""  # what prints adds the options as they were typed

    def write_report(self, evaluation: Evaluation, path: Path, *, page: str | None = None) -> None:
        """See :meth:`trustvlm.TrustService.write_report`."""
        from trustvlm.service.measuring.report import write_page

        write_page(evaluation, path, self.thumbnail, page)
