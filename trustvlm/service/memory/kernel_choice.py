"""Which kernels are fastest on this machine: measured when a large space first needs it, and
stored."""

from __future__ import annotations

import json
import logging
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from trustvlm.softmax.kernel_speed import measure
from trustvlm.softmax.kernels import EXACT, KERNELS, Kernels

__all__ = ["stored_kernels"]

log = logging.getLogger("trustvlm")

FILE = "kernels.json"


def stored_kernels(folder: Path, needed: bool, device: str = "cpu") -> Kernels:
    """The kernels for 16-bit rows: those of a GPU where `device` names one that torch sees, else
    from the file in `folder` or measured now; where not `needed`, the exact ones."""
    if not needed:
        return EXACT
    return _on_gpu(device) or _stored_or_measured(folder)


@cache
def _on_gpu(device: str) -> Kernels | None:
    if device == "cpu":
        return None
    import torch

    number = int(device.partition(":")[2] or 0)
    if number < torch.cuda.device_count():
        return Kernels(device=f"cuda:{number}")
    message = "device %r: torch sees %d GPUs: passes over labels run on the CPU"
    log.warning(message, device, torch.cuda.device_count())
    return None


@cache
def _stored_or_measured(folder: Path) -> Kernels:
    path, machine = folder / FILE, _machine()
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["machine"] == machine:
            steps = tuple((int(most), str(kernel)) for most, kernel in stored["steps"])
            if all(kernel in KERNELS for _, kernel in steps):
                return Kernels(steps)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent, or from another machine: measured now
    kernels = measure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"machine": machine, "steps": kernels.steps})
        path.write_text(f"{content}\n", encoding="utf-8")
    except OSError as error:
        log.info("what was measured of this machine is not stored: %s", error)
    return kernels


def _machine() -> dict[str, str]:
    """What the speed of kernels depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        keys = ("model name", "flags")
        processor = " ".join(next((x for x in lines if x.startswith(key)), "") for key in keys)
    except OSError:
        processor = platform.processor()
    return {
        "processor": processor,
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "versions": " ".join(version(name) for name in ("numpy", "numkong", "torch")),
        "kernels": " ".join(KERNELS),
    }
