"""The HTTP service from Python: the verbs, arguments, answers and errors of
:class:`trustvlm.TrustService`.

>>> from trustvlm.client import Client
>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     verdicts = client.score("aerial", trustvlm.Queries(images=["photo.jpg"]))

It imports the dataclasses, the errors, NumPy and httpx: neither torch nor faiss nor the service.
"""

from trustvlm.client.asynchronous import AsyncClient
from trustvlm.client.client import Client
from trustvlm.client.network import RequestSizes
from trustvlm.types.answers import Job

__all__ = ["AsyncClient", "Client", "Job", "RequestSizes"]
