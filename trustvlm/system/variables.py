"""Variables of the environment that look like settings and are none."""

from __future__ import annotations

import logging
import re
from functools import cache

from trustvlm.types.messages.meant import likest

log = logging.getLogger("trustvlm")

PREFIX = "trustvlm_"
"""The beginning of the name of each variable that is a setting, in lower case."""

_OF_THE_PROGRAM = ("home", "url", "key", "fault", "serve_process")
_OF_TESTS = ("eval_data", "test_workers", "slower", "shots", "scratch")
_OF_KUBERNETES = re.compile(r"service_(host|port(_\w+)?)|port(_\d+_(tcp|udp)(_\w+)?)?")
"""What Kubernetes sets in every container, for a service that is called trustvlm."""


@cache
def warn_unknown(name: str, settings: tuple[str, ...]) -> None:
    """Log, once in a process, that the variable `name` is none of the settings: that it is ignored,
    and which one was probably meant. Variables that something else reads are left out."""
    key, others = name.lower().removeprefix(PREFIX), _OF_THE_PROGRAM + _OF_TESTS
    if key in others or _OF_KUBERNETES.fullmatch(key):
        return
    meant = likest(key, (*settings, *_OF_THE_PROGRAM))
    hint = "" if meant is None else f"; did you mean {(PREFIX + meant).upper()}?"
    log.warning("%.200s is no setting of trustvlm and is ignored%s", name, hint)
