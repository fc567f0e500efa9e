"""Where products with all rows of a space are made."""

from __future__ import annotations

import logging
from functools import cache

log = logging.getLogger("trustvlm")


@cache
def pass_device(device: str) -> str | None:
    """Torch's name of the GPU where passes run, if `device` names one that torch sees; None: the
    processor."""
    if device == "cpu":
        return None
    import torch

    number = int(device.partition(":")[2] or 0)
    if number < torch.cuda.device_count():
        return f"cuda:{number}"
    message = "device %r: torch sees %d GPUs: passes over labels run on the CPU"
    log.warning(message, device, torch.cuda.device_count())
    return None
