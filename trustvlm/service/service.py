"""The facade: the verbs of an open home, gathered from the rooms that do them."""

from __future__ import annotations

from trustvlm.service.indexes.verbs import IndexVerbs
from trustvlm.service.measuring.verbs import MeasuringVerbs
from trustvlm.service.query.verbs import QueryVerbs
from trustvlm.service.reembed.verbs import ReembedVerbs
from trustvlm.service.registration.history.verbs import HistoryVerbs
from trustvlm.service.registration.verbs import RegistrationVerbs
from trustvlm.service.support.verbs import SupportVerbs
from trustvlm.service.transfer.verbs import TransferVerbs
from trustvlm.service.verify.verbs import UpkeepVerbs
from trustvlm.types.messages.placed import placed


@placed
class TrustService(
    RegistrationVerbs,
    QueryVerbs,
    MeasuringVerbs,
    HistoryVerbs,
    SupportVerbs,
    IndexVerbs,
    ReembedVerbs,
    TransferVerbs,
    UpkeepVerbs,
):
    """An open home. Made by :func:`trustvlm.open`; a context manager; safe to use from several
    threads.

    A forked child cannot use it (it says so) and opens the home again. Other processes may use the
    home at the same time; each sees at its next call what the others committed.
    """
