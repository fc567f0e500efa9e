"""Copies of faiss indexes on a GPU, which are searched in place of the indexes on the CPU.

A GPU index can be appended to and searched, and nothing else is asked of it: faiss cannot remove
rows there, ignores selectors, reads rows back from some kinds only, and cannot write it to a file.
Rows, files and compaction come from the index on the CPU.

All copies on one GPU share one resources object, its bounded scratch memory, and therefore one
lock. A search that fails there, such as for lack of memory, is answered from the CPU, and a log
line says so.
"""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.index.locks import SharedLock
from trustvlm.types.arrays import Float32s, Int64s

_SCRATCH_BYTES = 256 << 20
"""Scratch memory that faiss may take on a GPU; its default reserves 1.5 GiB per resources
object."""

MOST_PROBES = MOST_ROWS = 2048
"""Most lists that a GPU index searches, and most rows that it returns, for one query."""

MOST_ROWS_8_BIT, MOST_DIM_8_BIT = 512, 3072
"""Most rows and dimensions of an 8-bit GPU index. To select more than 512 rows takes all 48 KB of
shared memory of a block, to select 512 takes half; this kind has 8 bytes a dimension there as well.
Beyond that the launch fails, which ends the process."""

_log = logging.getLogger("trustvlm")


class _Gpu:
    """One GPU: what all its copies share."""

    def __init__(self, number: int) -> None:
        import faiss

        self.number, self.lock = number, SharedLock(readers=1)
        self.resources = faiss.StandardGpuResources()
        self.resources.setTempMemory(_SCRATCH_BYTES)


class GpuCopy:
    """A copy of a CPU index.

    Attributes:
        most: most rows that a search returns.

    Raises:
        RuntimeError: faiss has no such index on a GPU, or the GPU has not enough memory.
    """

    def __init__(self, gpu: _Gpu, index: Any) -> None:
        import faiss

        self._gpu, self.most = gpu, MOST_ROWS
        if isinstance(index, faiss.IndexIVFScalarQuantizer):
            self.most = MOST_ROWS_8_BIT
            if index.d > MOST_DIM_8_BIT:
                raise RuntimeError(f"a GPU has it up to {MOST_DIM_8_BIT} dimensions, not {index.d}")
        if isinstance(index, faiss.IndexIVF):
            index.nprobe = min(index.nprobe, MOST_PROBES)  # every search says how many it wants
        options = faiss.GpuClonerOptions()
        options.use_cuvs = False  # cuVS has no 16-bit flat index
        with gpu.lock.exclusive():
            self._index = faiss.index_cpu_to_gpu(gpu.resources, gpu.number, index, options)

    def add(self, vectors: Float32s) -> None:
        """Append (n, dim) vectors."""
        with self._gpu.lock.exclusive():
            self._index.add(vectors)

    def search(
        self, queries: Float32s, k: int, options: dict[str, Any]
    ) -> tuple[Float32s, Int64s, int]:
        """Scores and slots of the `k` ≤ `most` best rows, and how many rows there are."""
        with self._gpu.lock.shared():
            total = int(self._index.ntotal)
            scores, slots = self._index.search(queries, min(k, total), **options)
        return scores, slots, total


@cache
def warn_once(message: str) -> None:
    """Log `message` once in a process."""
    _log.warning("%s", message)


_gpus: dict[int, _Gpu] = {}
_opening = threading.Lock()


def find_gpu(device: str) -> _Gpu | None:
    """The GPU that `device` names; None for "cpu", and (with a log line) when there is no such
    GPU.

    Raises:
        InvalidInput: `device` is neither "cpu", "cuda" nor "cuda:<number>".
    """
    kind, _, number = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (device != "cuda" and not number.isdecimal()):
        raise InvalidInput(f"device: expected cpu, cuda or cuda:<number>, got {device!r}")
    import faiss

    ordinal = int(number or 0)
    has_gpus = hasattr(faiss, "StandardGpuResources")  # faiss-cpu has no such class
    count = faiss.get_num_gpus() if has_gpus else 0
    if ordinal >= count:
        warn_once(f"device {device!r}: faiss sees {count} GPUs: indexes run on the CPU")
        return None
    with _opening:
        if ordinal not in _gpus:
            _gpus[ordinal] = _Gpu(ordinal)
        return _gpus[ordinal]
