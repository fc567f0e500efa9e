"""Scoring and embedding of millions of rows, into files.

>>> import trustvlm.bulk
>>> trustvlm.bulk.score("home", "aerial", "vectors/", "scores/", on="processes:8")  # doctest: +SKIP
"""

from __future__ import annotations

from trustvlm.bulk.api import embed, score, status

__all__ = ["embed", "score", "status"]
